"""Orders for children that are `odd_ollama.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """The folder in which a test leaves its orders."""
    folder = tmp_path / "orders"
    folder.mkdir()
    return folder


def odd(orders: Path, **tables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A configuration whose children look for orders there."""
    return {**tables, "ollama": {"env": {"ODD_ORDERS": str(orders)}, **tables.get("ollama", {})}}
