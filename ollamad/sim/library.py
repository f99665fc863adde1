"""`tags`, `show`, `ps`, `copy`, `delete` and blobs: what there is, and what is done to it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from ollamad.sim.bind import ANY, BOOL, STRING, Shape, bind
from ollamad.sim.faults import Fault
from ollamad.sim.gguf import ARRAY_MAX
from ollamad.sim.golang import NS, quoted, stamp
from ollamad.sim.model import Model
from ollamad.sim.names import parse
from ollamad.sim.replies import Failure, empty, reply
from ollamad.sim.runner import Runner
from ollamad.sim.site import Site
from ollamad.sim.store import WrongDigest, is_digest

_NAMED: Final = {"model": STRING, "name": STRING}
SHOW: Final = Shape("ShowRequest", "api", {**_NAMED, "system": STRING, "verbose": BOOL, "options": ANY})
COPY: Final = Shape("CopyRequest", "api", {"source": STRING, "destination": STRING})
DELETE: Final = Shape("DeleteRequest", "api", _NAMED)


class Library:
    """Handlers for one server."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def tags(self, _request: web.Request) -> web.Response:
        """`GET /api/tags`: the newest first."""
        models = [self._site.model(name.full) for name in self._site.store.names()]
        models.sort(key=lambda model: -(model.manifest.modified_ns // NS))
        return reply({"models": [_entry(model, stamp(model.manifest.modified_ns)) for model in models]})

    async def show(self, request: web.Request) -> web.Response:
        """`POST /api/show`."""
        asked = bind(await request.read(), SHOW)
        text = asked.get("model") or asked.get("name") or ""
        if not text:
            raise Failure(HTTPStatus.BAD_REQUEST, "model is required")
        try:
            model = self._site.model(text)
        except FileNotFoundError:
            raise Failure(HTTPStatus.NOT_FOUND, f"model '{text}' not found") from None
        except ValueError:
            raise Failure(HTTPStatus.INTERNAL_SERVER_ERROR, "invalid model path") from None
        return reply(_shown(model, asked))

    async def ps(self, _request: web.Request) -> web.Response:
        """`GET /api/ps`: the one that stays longest first."""
        while self._site.faults.on(Fault.FREEZE_PS):
            await self._site.clock.sleep(0.05)
        loaded = [(self._expires_ns(runner), runner) for runner in self._site.scheduler.runners]
        loaded.sort(key=lambda entry: -entry[0])
        return reply({"models": [self._loaded(runner, expires_ns) for expires_ns, runner in loaded]})

    async def copy(self, request: web.Request) -> web.Response:
        """`POST /api/copy`."""
        asked = bind(await request.read(), COPY)
        source, target = (parse(asked.get(end, "")) for end in ("source", "destination"))
        for end, name in (("source", source), ("destination", target)):
            if not name.valid:
                raise Failure(HTTPStatus.BAD_REQUEST, f"{end} {quoted(asked.get(end, ''))} is invalid")
        store = self._site.store
        try:
            text = store.manifest_bytes(store.existing(source))
        except FileNotFoundError:
            raise Failure(HTTPStatus.NOT_FOUND, f"model {quoted(asked['source'])} not found") from None
        store.write_manifest(store.existing(target), text)
        return empty()

    async def delete(self, request: web.Request) -> web.Response:
        """`DELETE /api/delete`, with a body."""
        asked = bind(await request.read(), DELETE)
        text = asked.get("model") or asked.get("name") or ""
        name = parse(text)
        if not name.valid:
            raise Failure(HTTPStatus.BAD_REQUEST, f"name {quoted(text)} is invalid")
        try:
            self._site.store.delete(self._site.store.existing(name))
        except FileNotFoundError:
            raise Failure(HTTPStatus.NOT_FOUND, f"model '{text}' not found") from None
        return empty()

    async def has_blob(self, request: web.Request) -> web.Response:
        """`HEAD /api/blobs/{digest}`."""
        digest = _digest(request)
        path = self._site.store.blob(digest)
        if not path.exists():
            raise Failure(HTTPStatus.NOT_FOUND, f'blob "{digest}" not found')
        return empty()

    async def upload(self, request: web.Request) -> web.Response:
        """`POST /api/blobs/{digest}`."""
        digest = _digest(request)
        if self._site.store.blob(digest).exists():
            return empty()
        try:
            await self._site.store.receive(digest, request.content.iter_any())
        except WrongDigest as wrong:
            raise Failure(HTTPStatus.BAD_REQUEST, str(wrong)) from None
        return empty(HTTPStatus.CREATED)

    def _expires_ns(self, runner: Runner) -> int:
        """On the wall's clock; for one that works, as if it ended now."""
        left_s = None if runner.expires_s is None else runner.expires_s - self._site.clock.now_s()
        return time.time_ns() + (runner.keep_alive_ns if left_s is None else round(left_s * NS))

    def _loaded(self, runner: Runner, expires_ns: int) -> dict[str, Any]:
        model = runner.model
        return {
            "name": model.name.shortest,
            "model": model.name.shortest,
            "size": runner.size_bytes,
            "digest": model.manifest.digest,
            "details": model.details(),
            "expires_at": stamp(expires_ns),
            "size_vram": runner.vram_bytes,
        }


def _digest(request: web.Request) -> str:
    digest = request.match_info["digest"]
    if not is_digest(digest):
        raise Failure(HTTPStatus.BAD_REQUEST, "invalid digest format")
    return digest


def _entry(model: Model, modified_at: str) -> dict[str, Any]:
    return {
        "name": model.name.shortest,
        "model": model.name.shortest,
        "modified_at": modified_at,
        "size": model.manifest.size,
        "digest": model.manifest.digest,
        "details": model.details(),
    }


def _shown(model: Model, asked: Mapping[str, Any]) -> dict[str, Any]:
    weights = model.manifest.layer("model")
    system = asked.get("system") or model.system
    said = {
        "license": model.license,
        "modelfile": _modelfile(model, system),
        "parameters": "\n".join(
            f"{name:<30} {quoted(value) if isinstance(value, str) else value}" for name, value in _parameters(model)
        ),
        "template": model.template,
        "system": system,
    }
    more = {"messages": model.messages} if model.messages else {}
    return {
        **{name: text for name, text in said.items() if text},
        "details": model.details(weights.origin if weights else ""),
        **more,
        "model_info": _information(model, whole=asked.get("verbose", False)),
        "modified_at": stamp(model.manifest.modified_ns),
    }


def _parameters(model: Model) -> list[tuple[str, Any]]:
    """Names and values, a list one by one, in the order of names."""
    pairs = sorted(model.parameters.items())
    return [(name, one) for name, value in pairs for one in (value if isinstance(value, list) else [value])]


def _modelfile(model: Model, system: str) -> str:
    lines = [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        f"# FROM {model.name.shortest}\n",
        f"FROM {model.blob}",
        f"TEMPLATE {_quoted_if_needed(model.template)}",
    ]
    lines += [f"SYSTEM {_quoted_if_needed(system)}"] if system else []
    lines += [f"PARAMETER {name} {_quoted_if_needed(str(value))}" for name, value in _parameters(model)]
    lines += [f"LICENSE {_quoted_if_needed(model.license)}"] if model.license else []
    lines += [f"MESSAGE {each['role']} {_quoted_if_needed(each['content'])}" for each in model.messages]
    return "\n".join(lines) + "\n"


def _quoted_if_needed(text: str) -> str:
    if "\n" not in text and not text.startswith(" ") and not text.endswith(" "):
        return text
    return f'"""{text}"""' if '"' in text else f'"{text}"'


def _information(model: Model, *, whole: bool) -> dict[str, Any]:
    """What the file says; long lists only if they are asked for."""
    values = {**model.gguf.values, "general.parameter_count": model.gguf.parameters}
    for name, value in values.items():
        if isinstance(value, list) and len(value) >= ARRAY_MAX and not whole:
            values[name] = None
    values.pop("general.name", None)
    values.pop("tokenizer.chat_template", None)
    return dict(sorted(values.items()))
