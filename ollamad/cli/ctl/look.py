"""Commands that look: each asks for one document and shows it, once or again and again."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from ollamad.cli.ctl import show
from ollamad.cli.ctl.context import Context
from ollamad.cli.ctl.errors import DONE, CommandError
from ollamad.cli.ctl.show import Document
from ollamad.ollama.names import canonical

CLEAR = "\x1b[H\x1b[2J"
"""To the top left, and nothing on the screen."""

Ask = Callable[[], dict[str, Any]]
Show = Callable[[Document, int | None], list[str]]


def status(context: Context) -> int:
    """All of it at a glance."""
    return _look(context, context.status, show.overview)


def gpus(context: Context) -> int:
    """The GPUs."""
    return _look(context, lambda: context.control.get("/v1/gpus"), show.gpus)


def requests(context: Context) -> int:
    """The requests in flight."""
    return _look(context, lambda: context.control.get("/v1/requests"), show.requests)


def models(context: Context) -> int:
    """The models, and where they are loaded."""
    return _look(context, lambda: known_models(context), show.models)


def route(context: Context) -> int:
    """Where a request for a model would go."""
    document = context.control.get(f"/v1/route?model={quote(context.options.model, safe='')}")
    if context.json:
        context.document(document)
    else:
        context.lines(show.route(document, context.width, explain=context.options.explain))
        if document["child"] and (why := unknown(context, context.options.model)):  # a child that has it would say so
            context.lines([f"but {why}"])
    return DONE


def known_models(context: Context) -> dict[str, Any]:
    """Every model that the daemon has, with the children that have it loaded, and what is on its way.

    Its keys are ours, and stable.
    """
    status_now = context.status()
    tags, _ = context.proxy().ask("GET", "/api/tags")
    store = status_now.get("store", {})
    return {
        "pulls": store.get("pulls", []),
        "wanted": [{"key": f"models.{key}", **one} for key in ("ensure", "preload") for one in store.get(key, [])],
        "models": [
            {
                "name": model["name"],
                "size_bytes": model.get("size"),
                "modified_at": model.get("modified_at"),
                "digest": model.get("digest"),
                "loaded_on": holders(status_now, model["name"]),
            }
            for model in tags.get("models") or ()
        ],
    }


def unknown(context: Context, name: str, otherwise: str = "") -> str:
    """That the daemon has no such model, with one that is near, or else what to do; empty where it has it."""
    names = [model["name"] for model in known_models(context)["models"]]
    if canonical(name) in {canonical(known) for known in names}:
        return ""
    near = difflib.get_close_matches(name, names, n=1)
    hint = f', did you mean "{near[0]}"?' if near else f"; {otherwise or f'get it with: ollamactl pull {name}'}"
    return f'there is no model "{name}"{hint}'


def holders(status_now: Document, model: str) -> list[str]:
    """The children that have this model loaded."""
    wanted = canonical(model)
    return [
        child["id"]
        for child in status_now["children"]
        if any(canonical(resident["name"]) == wanted for resident in child["models"])
    ]


def _look(context: Context, ask: Ask, shown: Show) -> int:
    every_s: float | None = context.options.watch
    if every_s is None:
        _print(context, ask(), shown)
        return DONE
    while True:
        _show_again(context, ask, shown)
        time.sleep(every_s)


def _show_again(context: Context, ask: Ask, shown: Show) -> None:
    """One picture of many. A daemon that is away for a while is told in the picture, and asked again."""
    if context.out.isatty() and not context.json:
        print(CLEAR, end="", file=context.out)
    try:
        _print(context, ask(), shown)
    except CommandError as error:
        print(error, file=context.err if context.json else context.out, flush=True)
    if not context.json and not context.out.isatty():
        context.lines([""])


def _print(context: Context, document: dict[str, Any], shown: Show) -> None:
    if context.json:
        context.document(document, compact=context.options.watch is not None)
    else:
        context.lines(shown(document, context.width))
