"""The first start of all children: at once, but where Ollama would trip over itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ollamad.fleet.bell import Bell
from ollamad.fleet.child import Child
from ollamad.supervision.state import WantUp

KEY_LOOK_S: Final = 0.02


async def start_all(children: Sequence[Child], home: Path, changed: Bell) -> None:
    """Start all at once; but where the home holds no key yet, the first alone until it has made one, or is ready.

    Ollama writes `~/.ollama/id_ed25519` when it first starts, not atomically (0.33, cmd.go:2033): several at once
    would each make another.
    """
    key = home / ".ollama" / "id_ed25519.pub"
    first, *others = children
    first.tell(WantUp())
    if others and not key.exists():
        while not key.exists() and first.is_first_starting:
            await changed.heard(KEY_LOOK_S)
    for child in others:
        child.tell(WantUp())
