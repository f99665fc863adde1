"""What the socket lets a real other user do. Needs root, to become one."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollamad.config.schema import Control
from tests.support.control_face import Puppets, face

NOBODY = 65_534
GROUP = 54_321
"""A group that nobody is in, until a test says so."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

AS_NOBODY = """
import os, sys
from ollamad.cli.ctl import change, look, main, models
os.setgroups([int(group) for group in sys.argv[1].split(",") if group])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(main.main(sys.argv[2:]))
"""


@pytest.fixture
def path() -> Iterator[Path]:
    """A place that every user can reach, which pytest's own folders are not."""
    with tempfile.TemporaryDirectory(prefix="ollamad-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "control.sock"


async def as_nobody(groups: str, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", AS_NOBODY, groups, *arguments),
        env={"PYTHONPATH": ":".join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_user_outside_the_group_can_not_even_connect(path: Path) -> None:
    async with face(path, Control(group=str(GROUP))):
        code, out, err = await as_nobody("", "--socket", str(path), "status")
    assert (code, out) == (1, "")
    assert f"no permission to use {path} (uid 0, gid {GROUP}, mode 0660): try sudo" in err


async def test_a_member_of_the_group_may_look_but_not_change(path: Path) -> None:
    async with face(path, Control(group=str(GROUP))) as here:
        code, out, _ = await as_nobody(str(GROUP), "--socket", str(path), "status")
        assert code == 0
        assert "gpu0" in out
        for command in (["drain", "gpu0"], ["restart", "--rolling"], ["reload"], ["reset", "gpu0"]):
            code, _, err = await as_nobody(str(GROUP), "--socket", str(path), *command)
            assert code == 1
            assert "may look, but not change things; root may" in err
        assert here.puppets.asked == []


async def test_an_operator_may_change_and_so_may_the_group_where_that_is_said(path: Path) -> None:
    for settings in (
        Control(group=str(GROUP), operators=(str(NOBODY),)),
        Control(group=str(GROUP), group_may_change=True),
    ):
        puppets = Puppets()
        async with face(path, settings, puppets):
            code, _, err = await as_nobody(str(GROUP), "--socket", str(path), "drain", "gpu0")
        assert (code, err) == (0, "")
        assert puppets.asked == [("drain", "gpu0")]
