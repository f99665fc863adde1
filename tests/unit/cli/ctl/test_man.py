"""The manual page."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ollamad.cli.ctl.man import page
from ollamad.cli.ctl.parser import parser
from ollamad.cli.ctl.tree import leaves_of, options_of


def test_it_tells_every_command_and_every_option() -> None:
    told = page().replace("\\-", "-")
    for name, _, command in leaves_of(parser()):
        assert f"\\fB{name}\\fR" in told
        for action in options_of(command):
            assert all(f"\\fB{flag}\\fR" in told for flag in action.option_strings)


def test_groff_has_nothing_to_complain_about() -> None:
    if shutil.which("groff") is None:
        pytest.skip("there is no groff here")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z"], input=page(), capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stderr == ""


def test_each_line_of_text_is_safe_from_troff() -> None:
    macros = (".TH", ".SH", ".TP", ".RS", ".RE", ".B")
    assert all(line.startswith(macros) for line in page().splitlines() if line.startswith((".", "'")))
