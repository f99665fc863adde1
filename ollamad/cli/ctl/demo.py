"""`ollamactl demo`: break something in a demo by hand, and mend it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from ollamad.cli.ctl.context import Context
from ollamad.cli.ctl.errors import DONE
from ollamad.cli.ctl.text import Column, printable, table

_FAULTS = (Column("ON"), Column("ACT"), Column("WHAT", shrinks=True))


def demo(context: Context) -> int:
    """Do one act; without one, say what is broken."""
    options = context.options
    if options.act is None:
        document = context.control.get("/v1/demo")
        said = _state(document, context.width)
    else:
        asked = {"act": options.act, "target": options.target, "value": options.value}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        document = context.control.post(f"/v1/demo?{query}")
        said = [printable(document["done"]), *(_failed(context) if options.act == "heal" else ())]
    if context.json:
        context.document(document)
    else:
        context.lines(said)
    return DONE


def _state(document: Mapping[str, Any], width: int | None) -> list[str]:
    rows = [[fault["target"], fault["act"], fault["text"]] for fault in document["faults"]]
    ended = ", ".join(f"{count} {how}" for how, count in document["last_requests"].items()) or "none has ended yet"
    traffic = f"{document['requests_per_s']:g} requests a second; of the last ones: {ended}"
    return [traffic, "", *(table(_FAULTS, rows, width) if rows else ["nothing is broken; ollamactl demo --help"])]


def _failed(context: Context) -> list[str]:
    """What does not come back by itself at once."""
    children = context.control.get("/v1/children")["children"]
    return [
        f"{child['id']} has failed, and waits before it is tried again; at once with: ollamactl reset {child['id']}"
        for child in children
        if child["phase"] == "failed"
    ]
