"""What every command is given: what was typed, whom to ask, where to print."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from ollamad.cli.ctl.transport import Api, Control


@dataclass(slots=True)
class Context:
    """One run of `ollamactl`."""

    options: argparse.Namespace
    control: Control
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)

    @property
    def json(self) -> bool:
        """Whether documents are printed as they are."""
        return bool(self.options.json)

    @property
    def width(self) -> int | None:
        """The terminal's columns; None where the output is no terminal, and nothing need fit."""
        if not self.out.isatty():
            return None
        return shutil.get_terminal_size().columns

    def status(self) -> dict[str, Any]:
        """The status document."""
        return self.control.get("/v1/status")

    def proxy(self) -> Api:
        """The Ollama API of all children together."""
        return Api.of(self.control)

    def say(self, text: str) -> None:
        """A line for people; nothing with `--json`, where only documents are printed."""
        if not self.json:
            self.lines([text])

    def lines(self, lines: Sequence[str]) -> None:
        """Print lines, now."""
        self._write("\n".join(lines) + "\n")

    def document(self, document: Mapping[str, Any], *, compact: bool = False) -> None:
        """Print a document as JSON."""
        self._write(json.dumps(document, indent=None if compact else 2) + "\n")

    def _write(self, text: str) -> None:
        """In one piece: several threads may print."""
        self.out.write(text)
        self.out.flush()


def context_of(options: argparse.Namespace) -> Context:
    """The context of this process."""
    return Context(options, Control(options.socket, os.environ))
