"""What an operator should know, and no single child shows: a text for each thing that it is about, while it is so."""

from __future__ import annotations

from typing import Final

CONFIGURATION: Final = "configuration"
DISK: Final = "disk"


class Notices:
    """What is told to whoever looks. Only the fleet's own services tell."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        """All that there is to know now, the oldest first."""
        return tuple(self._texts.values())

    def tell(self, about: str, text: str | None) -> None:
        """So it stands with this; None where all is well."""
        if text is None:
            self._texts.pop(about, None)
        else:
            self._texts[about] = text
