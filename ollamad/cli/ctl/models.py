"""Commands about models: what takes long is an operation of the daemon's, the rest a request of the Ollama API."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from ollamad.cli.ctl.change import ended, left
from ollamad.cli.ctl.context import Context
from ollamad.cli.ctl.errors import DONE, CommandError
from ollamad.cli.ctl.look import holders, unknown
from ollamad.cli.ctl.progress import Ticker, pull_line
from ollamad.cli.ctl.transport import Api
from ollamad.ollama.names import canonical

Document = Mapping[str, Any]


def pull(context: Context) -> int:
    """Get a model: an operation of the daemon's, which goes on without us."""
    path = f"/v1/pull?{urlencode({'model': context.options.model, 'insecure': int(context.options.insecure)})}"
    last: Document = {}
    try:
        with Ticker(context.err, context.width if context.err.isatty() else None) as ticker:
            for last in context.control.stream("POST", path):
                if context.json:
                    context.document(last, compact=True)
                elif "progress" in last:
                    ticker.show(pull_line(last["progress"]), str(last["progress"].get("step")))
    except KeyboardInterrupt:
        return left(context, last)
    return ended(context, last)


def rm(context: Context) -> int:
    """Delete a model, or give up its download."""
    name = context.options.model
    pulled = _is_pulled(context, name)
    if not pulled:
        _known(context, name, otherwise="ollamactl models lists those that there are")
    try:
        context.proxy().ask("DELETE", "/api/delete", {"model": name})
    except CommandError:  # it is not there yet
        if not pulled or _is_pulled(context, name):
            raise
        return _done(
            context, name, f"the pull of {name} is given up; what has come of it goes with ollamactl prune", []
        )
    return _done(context, name, f"{name} is deleted", [])


def _is_pulled(context: Context, name: str) -> bool:
    pulls = context.status().get("store", {}).get("pulls", [])
    return canonical(name) in {canonical(pull["model"]) for pull in pulls}


def load(context: Context) -> int:
    """Load a model where routing wants it, on one child, or on so many."""
    name, child, replicas = context.options.model, context.options.child, context.options.replicas
    _known(context, name)
    if child is None and replicas is None:
        chosen = _load_on(context, name, ())
        return _done(context, name, f"{name} is loaded on {', '.join(chosen)}", chosen)
    status = context.status()
    there = holders(status, name)
    wanted = [_child(status, child)] if child is not None else _more(status, there, replicas)
    missing = [one["id"] for one in wanted if one["id"] not in there]
    if missing:
        _load_on(context, name, missing)
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


def _known(context: Context, name: str, otherwise: str = "") -> None:
    """Raises CommandError where the daemon has no such model."""
    if why := unknown(context, name, otherwise):
        raise CommandError(why)


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
            f" of the others, ready: {', '.join(child['id'] for child in able) or 'none'}"
        )
    return sorted(able, key=lambda child: (len(child["models"]), -_free(child)))[: max(0, missing)]


def _free(child: Document) -> int:
    return sum(gpu["memory_free_bytes"] or 0 for gpu in child["gpus"])


def _load_on(context: Context, name: str, children: Sequence[str]) -> list[str]:
    """Load a model on these children, at once, or where routing wants it; gives where it came to be."""
    if context.err.isatty():
        print(f"loading {name} …", file=context.err, flush=True)
    keep_alive = context.options.keep_alive
    asked = {"model": name, "child": ",".join(children), "keep_alive": "" if keep_alive is None else keep_alive}
    last: Document = {}
    loaded = []
    for last in context.control.stream("POST", f"/v1/load?{urlencode(asked)}"):
        if last.get("progress", {}).get("step") == "loaded":
            loaded.append(last["progress"]["child"])
    if last.get("state") != "done":
        raise CommandError(str(last.get("error", "the daemon broke off before it said how this ended")))
    return loaded


def _api(child: Document) -> Api:
    return Api("127.0.0.1", child["port"])
