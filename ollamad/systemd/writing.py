"""What an installer does to files: each says what it has done, and does nothing the second time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

Say = Callable[[str], None]


def write(path: Path, text: str, say: Say) -> bool:
    """Have a file hold this, readable for all; gives whether that changed anything."""
    there = path.read_text(encoding="utf-8") if path.exists() else None
    if there == text:
        say(f"{path} is as it should be")
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(path)
    say(f"{'made' if there is None else 'changed'} {path}")
    return True


def link(path: Path, target: Path, say: Say) -> None:
    """A link to a command; what somebody else has put there is left alone, but for a link that leads nowhere."""
    if path == target or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    say(f"made {path}, which is {target}")


def unlink(path: Path, folder: Path, say: Say) -> None:
    """Take away a link to something in this folder, and no other."""
    if path.is_symlink() and path.readlink().parent == folder:
        remove(path, say)


def remove(path: Path, say: Say) -> bool:
    """Take a file away; gives whether it was there."""
    if not os.path.lexists(path):
        return False
    path.unlink()
    say(f"removed {path}")
    return True


def remove_empty(folder: Path, say: Say) -> None:
    """Take a folder away with nothing in it; what lies in it still is an operator's, and told."""
    if not folder.is_dir():
        return
    if left := sorted(entry.name for entry in folder.iterdir()):
        say(f"kept {folder}: {', '.join(left)} is yours")
    else:
        folder.rmdir()
