"""The picture of `ollamactl top`. Pure: documents and a size in, lines out, never more or wider than the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ollamad.cli.ctl import show
from ollamad.cli.ctl.progress import bar
from ollamad.cli.ctl.text import Column, cut, number, part, printable, table

Document = Mapping[str, Any]

BAR_CELLS: Final = 16
REQUESTS_MIN: Final = 5
"""Lines that the requests keep before the GPUs get a table of their own: children's lines tell of GPUs too."""

KEYS: Final = "q quits"
_GPUS: Final = (
    Column("GPU", right=True),
    Column("MEMORY"),
    Column("", right=True),
    Column("UTIL"),
    Column("", right=True),
    Column("TEMP", right=True),
    Column("CHILD"),
    Column("NAME", shrinks=True),
)


def picture(status: Document, requests: Document, width: int, height: int, alert: str = "") -> list[str]:
    """The whole screen. `alert` stands on the first line, before all else."""
    children = show.children(status, width)
    left = height - 2 - len(children) - 1
    graphs = gpu_graphs(status, width)
    shown_graphs = [*graphs, ""] if graphs and left - len(graphs) - 1 >= REQUESTS_MIN else []
    streams = show.requests(requests, width)
    lines = [_title(status, width, alert), "", *shown_graphs, *children, "", *streams]
    return [cut(line, width) for line in _fitted(lines, height)]


def waiting(alert: str, width: int, height: int) -> list[str]:
    """The screen before the daemon has answered for the first time."""
    return [cut(line, width) for line in _fitted([alert, "", f"asked again every second; {KEYS}"], height)]


def gpu_graphs(status: Document, width: int) -> list[str]:
    """Memory and utilization of each GPU as bars; nothing where there is no GPU."""
    rows = [_graph(child, gpu) for child in status["children"] for gpu in child["gpus"]]
    return table(_GPUS, rows, width) if rows else []


def _graph(child: Document, gpu: Document) -> list[str]:
    silent = bool(gpu["error"])  # what it read before that is no news
    total = gpu["memory_total_bytes"]
    used = None if silent else gpu["memory_used_bytes"]
    busy = None if silent else gpu["utilization_percent"]
    return [
        str(gpu["index"]),
        bar(used / total, BAR_CELLS) if used is not None and total else "",
        part(used, total),
        bar(busy / 100, BAR_CELLS) if busy is not None else "",
        number(busy, "%"),
        number(None if silent else gpu["temperature_c"], "°C"),
        child["id"],
        gpu["quarantined"] or gpu["error"] or gpu["name"],
    ]


def _title(status: Document, width: int, alert: str) -> str:
    said = printable(f"{alert}  " if alert else "") + show.headline(status)
    room = width - len(KEYS) - 2
    return f"{cut(said, room):<{room}}  {KEYS}" if room > 0 else cut(said, width)


def _fitted(lines: Sequence[str], height: int) -> list[str]:
    if len(lines) <= height:
        return list(lines)
    hidden = len(lines) - height + 1
    return [*lines[: max(0, height - 1)], f"… {hidden} more lines"][:height]
