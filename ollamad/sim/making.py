"""`POST /api/create`, as 0.5.4 takes it (`modelfile`) and as newer servers do (`files`, `from`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from ollamad.sim.bind import ANY, BOOL, OPTIONS, STRING, STRINGS, Shape, bind
from ollamad.sim.gguf import Gguf, NotGguf, read_gguf
from ollamad.sim.golang import to_json
from ollamad.sim.modelfile import BadModelfile, BadParameter, Recipe, parse_modelfile
from ollamad.sim.names import Name, parse
from ollamad.sim.replies import Failure, last_of, lines
from ollamad.sim.site import Site
from ollamad.sim.store import CONFIG_TYPE, LAYER, Layer, Store, manifest_text

CREATE: Final = Shape(
    "CreateRequest",
    "api",
    {
        **dict.fromkeys(("model", "name", "modelfile", "path", "quantize", "from", "template", "system"), STRING),
        "stream": BOOL,
        "files": STRINGS,
        "parameters": OPTIONS,
        "license": ANY,
        "messages": ANY,
    },
)
FILES_FROM: Final = (0, 5, 5)
"""The version that takes `files`."""


@dataclass(frozen=True, slots=True)
class Base:
    """What a new model begins with."""

    layers: tuple[Layer, ...]
    gguf: Gguf


class Making:
    """The handler for one server."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def create(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/create`."""
        asked = bind(await request.read(), CREATE)
        name = parse(asked.get("model") or asked.get("name") or "")
        if not name.valid:
            raise Failure(HTTPStatus.BAD_REQUEST, "invalid model name")
        progress = self._made(self._site.store.existing(name), *self._planned(asked))
        return await (lines(request, progress) if asked.get("stream", True) else last_of(progress))

    def _planned(self, asked: Mapping[str, Any]) -> tuple[Recipe, Failure | None]:
        """What is to be made, and what is told in the stream instead. Raises Failure for what is told before it."""
        try:
            recipe = self._recipe(asked)
        except BadModelfile as bad:
            raise Failure(HTTPStatus.BAD_REQUEST, str(bad)) from None
        except BadParameter as bad:
            return Recipe(""), Failure(HTTPStatus.BAD_REQUEST, str(bad))
        template = recipe.texts.get("template", "")
        if template.count("{{") != template.count("}}"):
            return recipe, Failure(HTTPStatus.BAD_REQUEST, "template error: template: :1: unclosed action", status=400)
        if asked.get("quantize"):
            return recipe, Failure(HTTPStatus.BAD_REQUEST, "quantization is only supported for F16 and F32 models")
        return recipe, None

    def _recipe(self, asked: Mapping[str, Any]) -> Recipe:
        """What is asked for. Raises BadModelfile, BadParameter."""
        if asked.get("modelfile"):
            return parse_modelfile(asked["modelfile"])
        if _numbers(self._site.settings.version) < FILES_FROM:
            raise BadModelfile("path or Modelfile are required")
        files = asked.get("files") or {}
        origin = asked.get("from") or "".join(f"@{digest}" for digest in list(files.values())[:1])
        if not origin:
            raise BadModelfile("neither 'from' or 'files' was specified")
        texts = {kind: asked[kind] for kind in ("template", "system") if asked.get(kind)}
        if asked.get("license"):
            texts["license"] = asked["license"] if isinstance(asked["license"], str) else "\n".join(asked["license"])
        return Recipe(origin, texts, dict(asked.get("parameters") or {}), list(asked.get("messages") or []))

    async def _made(self, name: Name, recipe: Recipe, failure: Failure | None) -> AsyncGenerator[dict[str, Any], None]:
        if failure:
            raise failure
        store = self._site.store
        base = self._base(recipe.origin)
        own, statuses = _own_layers(store, recipe)
        replaced = {layer.kind for layer in own}
        layers = [*(layer for layer in base.layers if layer.kind not in replaced), *own]
        config, known = store.put(configuration(base.gguf, layers), CONFIG_TYPE)
        for layer in base.layers:
            if layer.kind not in replaced:
                yield {"status": f"using existing layer {layer.digest}"}
        for status in [*statuses, _status(config, known=known)]:
            yield {"status": status}
        yield {"status": "writing manifest"}
        store.write_manifest(name, manifest_text(config, layers))
        yield {"status": "success"}

    def _base(self, origin: str) -> Base:
        """The model, blob or file that is begun with. Raises Failure."""
        if origin.startswith("@"):
            return self._from_file(self._site.store.blob(origin[1:]), origin[1:])
        if origin.startswith("/") and Path(origin).is_file():
            return self._from_file(Path(origin), "")
        name = parse(origin)
        try:
            model = self._site.model(origin)
        except (FileNotFoundError, ValueError):
            raise Failure(
                HTTPStatus.INTERNAL_SERVER_ERROR, f"pull model manifest: a simulation does not pull {name.full} here"
            ) from None
        shortest = model.name.shortest
        layers = [Layer(layer.media_type, layer.digest, layer.size, shortest) for layer in model.manifest.layers]
        return Base(tuple(layers), model.gguf)

    def _from_file(self, path: Path, digest: str) -> Base:
        try:
            gguf = read_gguf(path)
        except FileNotFoundError:
            raise Failure(HTTPStatus.BAD_REQUEST, f"open {path}: no such file or directory") from None
        except NotGguf as other:
            raise Failure(HTTPStatus.BAD_REQUEST, f"unsupported content type: {other}") from None
        if not digest:
            made, _ = self._site.store.put(path.read_bytes(), f"{LAYER}model")
            digest = made.digest
        return Base((Layer(f"{LAYER}model", digest, path.stat().st_size, str(path)),), gguf)


def _own_layers(store: Store, recipe: Recipe) -> tuple[list[Layer], list[str]]:
    """The layers that the recipe adds, kept; and what is said of each."""
    contents = {kind: text.encode() for kind, text in recipe.texts.items()}
    if recipe.parameters:
        contents["params"] = to_json(dict(sorted(recipe.parameters.items()))) + b"\n"
    if recipe.messages:
        contents["messages"] = to_json(recipe.messages) + b"\n"
    layers, statuses = [], []
    for kind, content in contents.items():
        layer, known = store.put(content, f"{LAYER}{kind}")
        layers.append(layer)
        statuses.append(_status(layer, known=known))
    return layers, statuses


def _status(layer: Layer, *, known: bool) -> str:
    return f"{'using existing' if known else 'creating new'} layer {layer.digest}"


def configuration(gguf: Gguf, layers: list[Layer]) -> bytes:
    """A model's configuration, as Ollama writes it."""
    return (
        to_json(
            {
                "model_format": "gguf",
                "model_family": gguf.family,
                "model_families": [gguf.family],
                "model_type": gguf.parameter_size,
                "file_type": gguf.quantization,
                "architecture": "amd64",
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            }
        )
        + b"\n"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdigit())
