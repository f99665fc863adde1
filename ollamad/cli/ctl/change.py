"""Commands that change the children, or the daemon; and the operations that take long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from ollamad.cli.ctl import show
from ollamad.cli.ctl.context import Context
from ollamad.cli.ctl.errors import DONE, INTERRUPTED, CommandError
from ollamad.cli.ctl.progress import Ticker
from ollamad.cli.ctl.text import printable, span

LOOK_S: Final = 0.2
_STARTED_BY_RESET: Final = frozenset({"backoff", "failed", "stopped"})
"""Phases that a reset ends; it leaves what runs alone."""

Document = Mapping[str, Any]


def drain(context: Context) -> int:
    """Nothing new for a child, then no child."""
    child = context.options.child
    before = _ask(context, child, "drain")
    if context.options.wait:
        return _watch(context, child, lambda now: now["phase"] == "stopped", f"{child} has stopped")
    if before["want"] == "down" and before["phase"] == "stopped":
        return _tell(context, child, "is drained already")
    return _tell(context, child, "gets nothing new, and stops once it is idle")


def undrain(context: Context) -> int:
    """A drained child into use again."""
    before = _ask(context, context.options.child, "undrain")
    return _tell(
        context, context.options.child, f"is {'taken into use again' if before['want'] == 'down' else 'in use already'}"
    )


def reset(context: Context) -> int:
    """Out of `failed`."""
    before = _ask(context, context.options.child, "reset")
    if before["want"] == "up" and before["phase"] in _STARTED_BY_RESET:
        return _tell(context, context.options.child, "is started anew, its deaths forgotten")
    return _tell(context, context.options.child, f"is {before['phase']} as before, its deaths forgotten")


def restart(context: Context) -> int:
    """A new process for one child, or for each in turn."""
    if context.options.rolling:
        return _follow(context, context.control.stream("POST", "/v1/restart"))
    child = context.options.child
    life = _ask(context, child, "restart")["life"]
    if context.options.no_wait:
        return _tell(context, child, "restarts as soon as it has nothing in flight")
    return _watch(context, child, lambda now: now["life"] > life and now["routable"], f"{child} is ready again")


def reload(context: Context) -> int:
    """The configuration again."""
    progress = context.control.stream("POST", "/v1/reload")
    if not context.options.no_wait:
        return _follow(context, progress)
    first = next(progress, {})
    if "progress" not in first:
        return ended(context, first)
    if context.json:
        context.document(first, compact=True)
    else:
        context.say(f"{show.progress(first['progress'])}; what else there is to do goes on as {first['operation']}")
    return DONE


def sync(context: Context) -> int:
    """The stores made equal."""
    return _follow(context, context.control.stream("POST", "/v1/sync"))


def prune(context: Context) -> int:
    """What no model needs taken away."""
    asked = f"dry_run={int(context.options.dry_run)}"
    if context.options.now:  # an older daemon does not know it, and need not
        asked += "&now=1"
    return _follow(context, context.control.stream("POST", f"/v1/prune?{asked}"))


def operations(context: Context) -> int:
    """The long operations; or one, and its progress."""
    name = context.options.operation
    if name is None:
        document = context.control.get("/v1/operations")
        return _print(context, document, show.operations)
    path = f"/v1/operations/{quote(name, safe='')}"
    if context.options.follow:
        return _follow(context, context.control.stream("GET", f"{path}?follow=1"))
    return _print(context, context.control.get(path), _one_operation)


def logs(context: Context) -> int:
    """What children print."""
    if context.options.child is not None:
        names = [context.options.child]
    else:
        names = [child["id"] for child in context.control.get("/v1/children")["children"]]
    if context.options.follow:
        return _follow_logs(context, names)
    for name in names:
        told = context.control.get(f"{_path(name)}/logs")
        if context.json:
            context.document(told, compact=True)
        else:
            _print_lines(context, names, name, told["lines"])
    return DONE


def _follow_logs(context: Context, names: list[str]) -> int:
    """One child's lines as they come, or all children's, a thread for each: nobody waits for another."""
    import threading  # noqa: PLC0415 - only this command needs it

    failed: list[CommandError] = []

    def tell(name: str) -> None:
        try:
            for record in context.control.stream("GET", f"{_path(name)}/logs?follow=1"):
                if context.json:
                    context.document({"child": name, **record}, compact=True)
                else:
                    _print_lines(context, names, name, [_line(record)])
        except CommandError as error:
            failed.append(error)

    threads = [threading.Thread(target=tell, args=[name], daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return DONE


def _line(record: Document) -> str:
    return str(record["line"]) if "line" in record else f"… {record['missed']} lines passed too fast to be shown …"


def _print_lines(context: Context, names: list[str], name: str, lines: list[str]) -> None:
    before = f"{name}: " if len(names) > 1 else ""
    if lines:
        context.lines([before + printable(line) for line in lines])


def _path(child: str) -> str:
    return f"/v1/children/{quote(child, safe='')}"


def _ask(context: Context, child: str, what: str) -> Document:
    """Ask for a change; gives the child as it was before."""
    return context.control.post(f"{_path(child)}/{what}")


def _tell(context: Context, child: str, what: str) -> int:
    if context.json:
        context.document(context.control.get(_path(child)))
    else:
        context.say(f"{child} {what}")
    return DONE


def _watch(context: Context, child: str, done: Callable[[Document], bool], end: str) -> int:
    """Show how a child stands until it is where it should be. Raises CommandError where it never will be."""
    began_s = time.monotonic()
    with Ticker(context.err, context.width if context.err.isatty() else None) as ticker:
        while not done(now := context.control.get(_path(child))):
            if now["phase"] == "failed":
                raise CommandError(
                    f"{child} has failed: {now['reason']}; see ollamactl logs {child}, then ollamactl reset {child}"
                )
            if not context.json:
                step = f"{child}: {show.phase(now)}"
                ticker.show(f"{step}, {now['in_flight']} in flight, {span(time.monotonic() - began_s)}", step)
            time.sleep(LOOK_S)
    if context.json:
        context.document(now)
    context.say(f"{end} ({span(time.monotonic() - began_s)})")
    return DONE


def _follow(context: Context, records: Iterator[dict[str, Any]]) -> int:
    """Show an operation to its end. It goes on without us: that is said when we are interrupted."""
    last: Document = {}
    try:
        for record in records:
            last = record
            if context.json:
                context.document(record, compact=True)
            elif "progress" in record:
                context.say(f"{record['seconds']:7.1f} s  {show.progress(record['progress'])}")
    except KeyboardInterrupt:
        return left(context, last)
    return ended(context, last)


def left(context: Context, last: Document) -> int:
    """We were interrupted; the operation was not."""
    if name := last.get("operation"):
        stop = f", stop it with: ollamactl rm {context.options.model}" if context.options.command == "pull" else ""
        print(f"\n{name} goes on; look again with: ollamactl operations {name} --follow{stop}", file=context.err)
    return INTERRUPTED


def ended(context: Context, last: Document) -> int:
    """How an operation ended, by the last that was said of it."""
    match last.get("state"):
        case "done":
            context.say(f"{last['operation']} is done ({span(last['seconds'])})")
            return DONE
        case "failed" | "cancelled":
            raise CommandError("\n".join([str(last.get("error")), *(f"  {one}" for one in last.get("problems", ()))]))
        case _:
            raise CommandError("the daemon broke off before it said how this ended; see ollamactl operations")


def _one_operation(document: Document, width: int | None) -> list[str]:
    steps = [f"{step['seconds']:7.1f} s  {show.progress(step['progress'])}" for step in document["progress"]]
    return [*show.operations({"operations": [document]}, width), *([""] if steps else []), *steps]


def _print(context: Context, document: Document, shown: Callable[[Document, int | None], list[str]]) -> int:
    if context.json:
        context.document(document)
    else:
        context.lines(shown(document, context.width))
    return DONE
