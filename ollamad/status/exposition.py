"""Prometheus's text format 0.0.4, written: families of samples, each with its help and its type.

A few lines of our own in place of the library prometheus-client: its counters would be a second owner of every count,
and it took twice as long to draw the same page, before anything was collected for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ollamad.fleet.tallies import Histogram

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]
Samples = Iterable[tuple[Labels, float | None]]
"""Values of None are left out: what is not known has no sample."""

NO_LABELS: Final[Labels] = {}
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Exposition:
    """A page in the making."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def gauge(self, name: str, told: str, samples: Samples) -> None:
        """What may go up and down. `told` is the help text, without line ends."""
        self._family(name, "gauge", told, samples)

    def counter(self, name: str, told: str, samples: Samples) -> None:
        """What only grows; the name ends in `_total`."""
        self._family(name, "counter", told, samples)

    def histogram(self, name: str, told: str, histograms: Iterable[tuple[Labels, Histogram]]) -> None:
        """Observations in buckets, which are cumulated here."""
        self._head(name, "histogram", told)
        for labels, histogram in histograms:
            below = 0
            for bound, count in zip((*map(_number, histogram.bounds), "+Inf"), histogram.counts, strict=True):
                below += count
                self._lines.append(f"{name}_bucket{_braces({**labels, 'le': bound})} {below}")
            self._lines.append(f"{name}_sum{_braces(labels)} {_number(histogram.total)}")
            self._lines.append(f"{name}_count{_braces(labels)} {below}")

    def text(self) -> str:
        """The page."""
        return "\n".join(self._lines) + "\n"

    def _family(self, name: str, kind: str, told: str, samples: Samples) -> None:
        self._head(name, kind, told)
        for labels, value in samples:
            if value is not None:
                self._lines.append(f"{name}{_braces(labels)} {_number(value)}")

    def _head(self, name: str, kind: str, told: str) -> None:
        self._lines.append(f"# HELP {name} {told}")
        self._lines.append(f"# TYPE {name} {kind}")


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items()) + "}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
