"""Which stores there are, by the configuration and by what was in force before. Blocks: it looks at one small file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ollamad.config.checks import expand
from ollamad.config.schema import Models
from ollamad.store.layout import OURS
from ollamad.store.plan import Role
from ollamad.store.rounds import Store

SHARED: Final = "shared"
MODE_FILE: Final = "mode"


def store_of(models: Models, child: str, home: str) -> Path:
    """The directory that a child uses (its OLLAMA_MODELS). `home` is what `~` stands for."""
    shared = expand(models.path, home)
    if models.store == "shared":
        return shared
    return expand(models.per_child_path.replace("{path}", str(shared)).replace("{child}", child), home)


def stores(models: Models, children: Sequence[str], home: str) -> tuple[Store, ...]:
    """Every store to look after, those in use first.

    Right after a change between one store and several, what was in use gives what it has to what is in use now. The one
    shared store goes on following deletions when it is out of use: its hard links would keep their bytes on the disk.
    """
    shared = expand(models.path, home)
    switched = (_mode(shared) == "per-child") is (models.store == "shared")
    per_child = Models(path=models.path, store="per-child", per_child_path=models.per_child_path)
    if models.store == "per-child":
        own = [Store(child, store_of(models, child, home)) for child in children]
        before = Store(SHARED, shared, Role.SOURCE if switched else Role.FOLLOWER)
        return (*own, before) if _is_there(shared) and all(store.root != shared for store in own) else tuple(own)
    if not switched:
        return (Store(SHARED, shared),)
    old = [Store(child, store_of(per_child, child, home), Role.SOURCE) for child in children]
    return (Store(SHARED, shared), *(store for store in old if _is_there(store.root) and store.root != shared))


def remember_mode(models: Models, home: str) -> None:
    """Say for the next start what was in force, once all has been brought over. Raises OSError.

    Nothing is written into a store that was always shared.
    """
    file = expand(models.path, home) / OURS / MODE_FILE
    if models.store == "shared":
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{models.store}\n")


def _is_there(path: Path) -> bool:
    """Whether a directory exists, and may be known to."""
    with suppress(OSError):
        return path.is_dir()
    return False


def _mode(shared: Path) -> str:
    with suppress(OSError):
        return (shared / OURS / MODE_FILE).read_text().strip()
    return "shared"
