"""The daemon's documents as lines for people. Pure: a document and a width in, lines out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ollamad import __version__
from ollamad.cli.ctl.text import NOTHING, Column, number, part, printable, size, span, table

Document = Mapping[str, Any]

_WAITING: Final = frozenset({"backoff", "failed", "stopped"})
"""Phases that time may end."""
_MISPLACED: Final = frozenset({"wrong gpu", "on cpu", "partly on cpu"})
"""Verdicts on a child's pinning that somebody should look at."""

_CHILDREN: Final = (
    Column("CHILD"),
    Column("PHASE"),
    Column("FOR", right=True, drops=True),
    Column("STREAMS", right=True),
    Column("DEATHS", right=True, drops=True),
    Column("GPU"),
    Column("MEMORY", right=True),
    Column("UTIL", right=True),
    Column("MODELS", shrinks=True),
)
_GPUS: Final = (
    Column("GPU", right=True),
    Column("CHILD"),
    Column("NAME", shrinks=True),
    Column("USED", right=True),
    Column("FREE", right=True),
    Column("FOREIGN", right=True, drops=True),
    Column("UTIL", right=True),
    Column("TEMP", right=True, drops=True),
    Column("AGE", right=True, drops=True),
    Column("PROBLEM", shrinks=True),
)
_REQUESTS: Final = (
    Column("CHILD"),
    Column("MODEL", shrinks=True),
    Column("AGE", right=True),
    Column("LAST BYTE"),
)
_MODELS: Final = (
    Column("MODEL", shrinks=True),
    Column("SIZE", right=True),
    Column("MODIFIED", drops=True),
    Column("LOADED ON", shrinks=True),
)
_ROUTE: Final = (Column("CHILD"), Column("STANDS", shrinks=True))
_OPERATIONS: Final = (
    Column("OPERATION"),
    Column("ABOUT", shrinks=True, drops=True),
    Column("STATE"),
    Column("TOOK", right=True),
    Column("BY", right=True),
    Column("ERROR", shrinks=True),
)


def headline(status: Document) -> str:
    """The daemon in one line."""
    daemon = status.get("daemon", {})
    state = "stopping" if status.get("stopping") else "ready" if status.get("ready") else "not ready"
    children = status["children"]
    ready = sum(bool(child["routable"]) for child in children)
    return (
        f"ollamad {status['version']}, {state}: {ready} of {len(children)} children, {status['in_flight']} in flight,"
        f" {status['waiting']} waiting; up {span(daemon.get('uptime_s'))}, on {daemon.get('proxy') or NOTHING}"
    )


def children(status: Document, width: int | None) -> list[str]:
    """All children, and below them what does not fit into their lines."""
    return [*table(_CHILDREN, [_child(child) for child in status["children"]], width), *_notes(status)]


def overview(status: Document, width: int | None) -> list[str]:
    """What `ollamactl status` prints."""
    return [headline(status), "", *children(status, width)]


def gpus(document: Document, width: int | None) -> list[str]:
    """All GPUs."""
    rows = [
        [
            str(gpu["index"]),
            gpu["child"] or NOTHING,
            gpu["name"],
            part(gpu["memory_used_bytes"], gpu["memory_total_bytes"]),
            size(gpu["memory_free_bytes"]),
            size(gpu["memory_foreign_bytes"]),
            number(gpu["utilization_percent"], "%"),
            number(gpu["temperature_c"], "°C"),
            span(gpu["sample_age_s"]),
            gpu["quarantined"] or gpu["error"] or "",
        ]
        for gpu in document["gpus"]
    ]
    return table(_GPUS, rows, width) if rows else ["there is no GPU: the children run on the CPU"]


def requests(document: Document, width: int | None) -> list[str]:
    """Requests in flight."""
    rows = [
        [
            request["child"],
            request["model"] or NOTHING,
            span(request["age_s"]),
            _silence(request),
        ]
        for request in document["requests"]
    ]
    waiting = [f"{document['waiting']} more wait for a child"] if document["waiting"] else []
    return (table(_REQUESTS, rows, width) if rows else ["nothing is in flight"]) + waiting


def _silence(request: Document) -> str:
    if request["heard_age_s"] is None:
        return "none yet"
    ago = f"{span(request['heard_age_s'])} ago"
    return f"{ago}, its client is slow" if request["held"] else ago


def models(document: Document, width: int | None) -> list[str]:
    """All models, where they are loaded, and below them what is on its way."""
    rows = [
        [model["name"], size(model["size_bytes"]), str(model["modified_at"])[:10], ", ".join(model["loaded_on"])]
        for model in document["models"]
    ]
    there = table(_MODELS, rows, width) if rows else ["there are no models: get one with ollamactl pull MODEL"]
    coming = [printable(line) for line in _coming(document)]
    return [*there, *([""] if coming else []), *coming]


def _coming(document: Document) -> Iterator[str]:
    """Downloads under way, and what the configuration asks for in vain."""
    for pull in document["pulls"]:
        how_far = f", {size(pull['completed_bytes'])} of {size(pull['total_bytes'])}" if pull["total_bytes"] else ""
        yield f"{pull['model']}: {pull['status'] or 'the pull begins'}{how_far}"
    for one in document["wanted"]:
        if one["state"] not in {"there", "loaded"}:
            why = f": {one['reason']}" if one["reason"] else ""
            again = f" (again in {span(one['retry_in_s'])})" if one["retry_in_s"] is not None else ""
            yield f"{one['model']}, asked for by {one['key']}, is {one['state']}{why}{again}"


def operations(document: Document, width: int | None) -> list[str]:
    """Long operations."""
    rows = [
        [
            one["operation"],
            one["about"] or NOTHING,
            one["state"],
            span(one["seconds"]),
            f"uid {one['uid']}",
            one.get("error", ""),
        ]
        for one in document["operations"]
    ]
    return table(_OPERATIONS, rows, width) if rows else ["no long operation has run"]


def route(document: Document, width: int | None, *, explain: bool) -> list[str]:
    """What routing would decide, and why."""
    where = f" {document['child']}" if document["child"] else ""
    why = f": {document['reason']}" if document["reason"] else ""
    expected_s = document["expected_s"]  # None where nothing that is under way would make room
    expected = "" if expected_s is None else f" ({span(expected_s)} expected)"
    said = printable(f"{document['model']}: {document['verdict']}{where}{why}{expected}")
    rows = [[child, standing] for child, standing in document["children"].items()]
    return [said, "", *table(_ROUTE, rows, width)] if explain else [said]


def progress(facts: Document) -> str:
    """One step of an operation: `gpu0: drains (streams 3)`."""
    step = facts.get("step")
    if step == "configuration":
        return printable(_configuration(facts))
    if step == "pruned":
        done = "would be" if facts["dry_run"] else "are"
        return f"{facts['files']} files {done} deleted, {size(facts['disk_bytes'])}"
    known = {key: value for key, value in facts.items() if key not in {"child", "step"} and value is not None}
    told = {key: value for key, value in known.items() if value != []} or dict([*known.items()][:1])
    rest = ", ".join(f"{key.replace('_', ' ')} {_listed(value)}" for key, value in told.items())
    child, step = facts.get("child"), str(step or "")
    said = f"{child}: {step}" if child else step
    return printable(f"{said} ({rest})" if rest and said else said or rest)


def _configuration(facts: Document) -> str:
    """What a reload changes: what is in force now, what waits, and which children come and go."""
    waiting = facts.get("after_restart_of_ollamad", [])
    told = {
        "in force now: ": [key for key in facts["changed"] if key not in waiting],
        "only after a restart of ollamad: ": waiting,
        "added: ": facts.get("added", []),
        "removed: ": facts.get("removed", []),
    }
    return "; ".join(name + ", ".join(keys) for name, keys in told.items() if keys) or "nothing differs"


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) or "nothing" if isinstance(value, list) else str(value)


def phase(child: Document) -> str:
    """A child's phase in a word or two, and whether it is ready on paper only."""
    if child["quarantine"] and child["phase"] == "stopped":
        return "quarantined"
    silent = child["phase"] == "ready" and child["want"] == "up" and not child["routable"]
    return "ready, no answer" if silent else str(child["phase"])


def _child(child: Document) -> list[str]:
    gpus_of_it: Sequence[Document] = child["gpus"]
    slots = child["slots"] * max(1, len(child["models"]))
    silent = any(gpu["error"] for gpu in gpus_of_it)  # what was read before that is no news
    return [
        child["id"],
        phase(child),
        span(child["ready_for_s"]),
        f"{child['in_flight']} of {slots}" if child["in_flight"] else "0",
        str(child["deaths"]),
        "+".join(str(gpu["index"]) for gpu in gpus_of_it) or "cpu",
        part(None if silent else _sum(gpus_of_it, "memory_used_bytes"), _sum(gpus_of_it, "memory_total_bytes")),
        _utilization(gpus_of_it),
        ", ".join(_models_of(child)) or NOTHING,
    ]


def _models_of(child: Document) -> Iterator[str]:
    """What it has loaded, and what it loads."""
    yield from (model["name"] for model in child["models"])
    if child["load"]:
        yield f"{child['load']['model']} loads"


def _notes(status: Document) -> list[str]:
    """What an operator should know of all, and of each child that does not fit into its line."""
    found = [*status.get("notes", ()), *([other] if (other := other_version(status)) else [])]
    found += [f"{child['id']}: {note}" for child in status["children"] for note in _notes_on(child)]
    return ["", *map(printable, found)] if found else []


def other_version(status: Document) -> str | None:
    """What to know where the daemon is another version than this command."""
    if status["version"] == __version__:
        return None
    return (
        f"the daemon is ollamad {status['version']}, this command {__version__}: what is installed is taken into use by"
        " a restart of the daemon"
    )


def _notes_on(child: Document) -> Iterator[str]:
    why = child["quarantine"] or child["reason"]
    if child["want"] == "down" and not child["quarantine"]:
        yield f"it was drained; ollamactl undrain {child['id']} takes it into use again"
    elif why and not child["routable"]:
        yield f"{why} ({then})" if (then := _what_then(child)) else why
    if child["pinning"] and child["pinning"]["proof"] in _MISPLACED:
        on_cpu = child["pinning"]["proof"] == "on cpu"
        yield child["pinning"]["text"] + on_cpu * f"; ollamactl logs {child['id']} has what Ollama found of its GPU"
    if child["outdated"]:
        yield "runs an older ollama than is installed; ollamactl restart --rolling takes the new one into use"


def _what_then(child: Document) -> str:
    """What ends this, for a child that time or an operator brings back; empty where something is under way."""
    if phase(child) == "quarantined" and child["changes_in_s"] is None:
        return "back by itself once that is over and its GPU has been well for a while"
    if child["phase"] not in _WAITING or child["changes_in_s"] is None:
        return ""
    again = f"again in {span(child['changes_in_s'])}"
    return f"{again}, or now with: ollamactl reset {child['id']}" if child["phase"] != "backoff" else again


def _sum(gpus_of_it: Sequence[Document], key: str) -> int | None:
    readings = [gpu[key] for gpu in gpus_of_it]
    return sum(readings) if readings and None not in readings else None


def _utilization(gpus_of_it: Sequence[Document]) -> str:
    readings = [
        gpu["utilization_percent"] for gpu in gpus_of_it if gpu["utilization_percent"] is not None and not gpu["error"]
    ]
    return f"{max(readings)}%" if readings else NOTHING
