"""Commands about models: ordinary requests of the Ollama API, to the proxy, or to a child that is meant by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ollamad.cli.ctl.context import Context
from ollamad.cli.ctl.errors import DONE, CommandError
from ollamad.cli.ctl.look import holders, known_models
from ollamad.cli.ctl.progress import Ticker, pull_line
from ollamad.cli.ctl.transport import Api
from ollamad.ollama.names import canonical

Document = Mapping[str, Any]

NO_GENERATE = "does not support generate"
"""What Ollama says of a model that only embeds."""


def pull(context: Context) -> int:
    """Get a model."""
    name = context.options.model
    last: Document = {}
    with Ticker(context.err, context.width if context.err.isatty() else None) as ticker:
        for record in context.proxy().stream("POST", "/api/pull", {"model": name, "stream": True}):
            last = record
            if context.json:
                context.document(record, compact=True)
            elif "error" not in record:
                ticker.show(pull_line(record), str(record.get("status")))
    if last.get("status") != "success":
        raise CommandError(str(last.get("error", f"the pull of {name} broke off; the next one resumes it")))
    return DONE


def rm(context: Context) -> int:
    """Delete a model."""
    name = context.options.model
    _known(context, name)
    context.proxy().ask("DELETE", "/api/delete", {"model": name})
    return _done(context, name, f"{name} is deleted", [])


def load(context: Context) -> int:
    """Load a model where routing wants it, on one child, or on so many."""
    name, child, replicas = context.options.model, context.options.child, context.options.replicas
    _known(context, name)
    if child is None and replicas is None:
        chosen = _load_at(context, context.proxy(), name)
        return _done(context, name, f"{name} is loaded on {chosen or 'a child'}", [chosen] if chosen else [])
    status = context.status()
    there = holders(status, name)
    wanted = [_child(status, child)] if child is not None else _more(status, there, replicas)
    _load_all(context, name, [one for one in wanted if one["id"] not in there])
    on = sorted({*there, *(one["id"] for one in wanted)})
    return _done(context, name, f"{name} is loaded on {', '.join(on)}", on)


def unload(context: Context) -> int:
    """Take a model out of VRAM."""
    name, child = context.options.model, context.options.child
    status = context.status()
    there = holders(status, name)
    if child is not None:
        there = [one for one in there if one == _child(status, child)["id"]]
    if not there:
        _known(context, name)
    for one in there:
        _api(_child(status, one)).ask("POST", "/api/generate", {"model": name, "keep_alive": 0})
    nowhere = f"{name} is not loaded on {child}" if child else f"{name} is loaded nowhere"
    return _done(context, name, f"{name} is unloaded from {', '.join(there)}" if there else nowhere, there)


def _done(context: Context, model: str, said: str, children: Sequence[str]) -> int:
    if context.json:
        context.document({"model": model, "children": list(children)})
    context.say(said)
    return DONE


def _known(context: Context, name: str) -> None:
    """Raises CommandError where the daemon has no such model, with one that is near."""
    names = [model["name"] for model in known_models(context)["models"]]
    if canonical(name) in {canonical(known) for known in names}:
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f', did you mean "{near[0]}"?' if near else f"; get it with: ollamactl pull {name}"
    raise CommandError(f'there is no model "{name}"{hint}')


def _child(status: Document, name: str) -> Document:
    for child in status["children"]:
        if child["id"] == name:
            if not child["routable"]:
                raise CommandError(f"{name} is not ready: {child['reason'] or child['phase']}")
            return dict(child)
    names = [child["id"] for child in status["children"]]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f', did you mean "{near[0]}"?' if near else f"; there are {', '.join(names)}"
    raise CommandError(f'there is no child "{name}"{hint}')


def _more(status: Document, there: Sequence[str], replicas: int) -> list[Document]:
    """The children to load on so that `replicas` have it: those with the fewest models, then the most free VRAM."""
    able = [child for child in status["children"] if child["routable"] and child["id"] not in there]
    missing = replicas - len(there)
    if missing > len(able):
        raise CommandError(
            f"{replicas} replicas need {missing} more children than the {len(there)} that have it;"
            f" {len(able)} others are ready"
        )
    return sorted(able, key=lambda child: (len(child["models"]), -_free(child)))[: max(0, missing)]


def _free(child: Document) -> int:
    return sum(gpu["memory_free_bytes"] or 0 for gpu in child["gpus"])


def _load_all(context: Context, name: str, children: Sequence[Document]) -> None:
    """Load on all of them at once: each has its own GPU, and a load takes as long as it takes."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only this command needs it

    if children:
        with ThreadPoolExecutor(len(children)) as pool:
            list(pool.map(lambda child: _load_at(context, _api(child), name), children))


def _load_at(context: Context, api: Api, name: str) -> str | None:
    """Load a model at one address; gives the child that did, where the proxy says so."""
    if context.err.isatty():
        print(f"loading {name} …", file=context.err, flush=True)
    body: dict[str, Any] = {"model": name}
    if context.options.keep_alive is not None:
        body["keep_alive"] = context.options.keep_alive
    try:
        _, headers = api.ask("POST", "/api/generate", {**body, "stream": False})
    except CommandError as error:
        if NO_GENERATE not in str(error):
            raise
        _, headers = api.ask("POST", "/api/embed", {**body, "input": []})
    return headers.get("X-Ollamad-Child")


def _api(child: Document) -> Api:
    return Api("127.0.0.1", child["port"])
