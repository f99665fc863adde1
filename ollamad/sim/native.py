"""`/api/generate`, `/api/chat`, `/api/embed` and `/api/embeddings`."""

from __future__ import annotations

import math
import struct
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from ollamad.sim.answering import End, Question, Token, answer, embeddings, options_of, running
from ollamad.sim.bind import (
    ANY,
    BOOL,
    INTS,
    KEEP_ALIVE,
    MESSAGES,
    OPTIONS,
    STRING,
    Shape,
    bind,
)
from ollamad.sim.golang import stamp, to_json
from ollamad.sim.model import Model
from ollamad.sim.prompts import render, tokens_of
from ollamad.sim.replies import Failure, lines, reply
from ollamad.sim.site import Site

_COMMON: Final = {
    "model": STRING,
    "stream": BOOL,
    "options": OPTIONS,
    "keep_alive": KEEP_ALIVE,
    "format": ANY,
}
GENERATE: Final = Shape(
    "GenerateRequest",
    "api",
    {
        **_COMMON,
        **dict.fromkeys(("prompt", "suffix", "system", "template"), STRING),
        "context": INTS,
        "raw": BOOL,
        "images": ANY,
    },
)
CHAT: Final = Shape("ChatRequest", "api", {**_COMMON, "messages": MESSAGES, "tools": ANY})
EMBED: Final = Shape("EmbedRequest", "api", {**_COMMON, "input": ANY, "truncate": BOOL})
EMBEDDINGS: Final = Shape("EmbeddingRequest", "api", {**_COMMON, "prompt": STRING})

_Answer = AsyncGenerator[Token | End, None]
_Records = AsyncGenerator[dict[str, Any], None]
_Form = Callable[[Mapping[str, Any], Question, _Answer], _Records]

NORM_EPSILON: Final = 1e-5
EMBEDDING_WIDTH: Final = 320
"""Of a model whose file says none."""


class Native:
    """Handlers for one server."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/generate`."""
        asked = bind(await request.read(), GENERATE)
        model = self._model(asked, "model '{}' not found")
        if asked.get("keep_alive") == 0 and not asked.get("prompt"):
            return self._unloaded(asked, model, {"response": "", "done": True, "done_reason": "unload"})
        if asked.get("raw") and (asked.get("template") or asked.get("system") or asked.get("context")):
            raise Failure(HTTPStatus.BAD_REQUEST, "raw mode does not support template, system, or context")
        if asked.get("suffix"):
            raise Failure(HTTPStatus.BAD_REQUEST, f"{model.name.full} does not support insert")
        options = options_of(model, asked.get("options"))
        if not asked.get("prompt"):
            async with running(self._site, model, options, asked.get("keep_alive")):
                return reply({**_head(asked), "response": "", "done": True, "done_reason": "load"})
        _check_format(asked.get("format"))
        prompt = self._prompt(asked, model)
        return await self._told(request, asked, Question(model, options, asked.get("keep_alive"), prompt), _generated)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/chat`."""
        return await self.chat_about(request, bind(await request.read(), CHAT))

    async def chat_about(self, request: web.Request, asked: Mapping[str, Any]) -> web.StreamResponse:
        """The same, of a request that is read."""
        nothing = {"message": {"role": "assistant", "content": ""}}
        if asked.get("keep_alive") == 0 and not asked.get("messages"):
            model = self._model(asked, "model '{}' not found")
            return self._unloaded(asked, model, {**nothing, "done_reason": "unload", "done": True})
        question = self.chat_question(asked)
        if not asked.get("messages"):
            async with running(self._site, question.model, question.options, question.keep_alive_ns):
                return reply({**_head(asked), **nothing, "done_reason": "load", "done": True})
        return await self._told(request, asked, question, _chatted)

    def chat_question(self, asked: Mapping[str, Any]) -> Question:
        """What a chat asks. Raises Failure."""
        model = self._model(asked, 'model "{}" not found, try pulling it first', required=True)
        if asked.get("tools"):
            raise Failure(HTTPStatus.BAD_REQUEST, f"{model.name.full} does not support tools")
        messages = asked.get("messages") or []
        if model.system and not any(message.get("role") == "system" for message in messages):
            messages = [{"role": "system", "content": model.system}, *messages]
        prompt = tokens_of(render(model.template, [*model.messages, *messages]))
        return Question(model, options_of(model, asked.get("options")), asked.get("keep_alive"), prompt)

    async def embed(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/embed`."""
        return reply(await self.embedded(bind(await request.read(), EMBED)))

    async def embedded(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to it. Raises Failure."""
        began_s = self._site.clock.now_s()
        texts = _texts(asked.get("input"))
        model = self._model(asked, 'model "{}" not found, try pulling it first')
        options = options_of(model, asked.get("options"))
        places, count = await embeddings(self._site, model, options, asked.get("keep_alive"), texts)
        if not texts:
            return {"model": asked["model"], "embeddings": []}
        width = model.gguf.number("embedding_length", EMBEDDING_WIDTH)
        return {
            "model": asked["model"],
            "embeddings": [_vector(place, width, 1.0) for place in places],
            "total_duration": max(1, round((self._site.clock.now_s() - began_s) * 1e9)),
            "load_duration": 1,
            "prompt_eval_count": count,
        }

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/embeddings`: one text, and a vector of the model's own length."""
        asked = bind(await request.read(), EMBEDDINGS)
        model = self._model(asked, 'model "{}" not found, try pulling it first', required=True)
        texts = [asked["prompt"]] if asked.get("prompt") else []
        options = options_of(model, asked.get("options"))
        places, _ = await embeddings(self._site, model, options, asked.get("keep_alive"), texts)
        width = model.gguf.number("embedding_length", EMBEDDING_WIDTH)
        length: float = struct.unpack("f", struct.pack("f", 1 / math.sqrt(1 / width + NORM_EPSILON)))[0]
        return reply({"embedding": _vector(places[0], width, length) if places else []})

    def _model(self, asked: Mapping[str, Any], missing: str, *, required: bool = False) -> Model:
        text = asked.get("model", "")
        try:
            return self._site.model(text)
        except FileNotFoundError:
            raise Failure(HTTPStatus.NOT_FOUND, missing.format(text)) from None
        except ValueError:
            if required:
                raise Failure(HTTPStatus.BAD_REQUEST, "model is required") from None
            raise Failure(HTTPStatus.NOT_FOUND, missing.format(text)) from None

    def _unloaded(self, asked: Mapping[str, Any], model: Model, said: Mapping[str, Any]) -> web.Response:
        self._site.scheduler.unload(model)
        return reply({**_head(asked), **said})

    def _prompt(self, asked: Mapping[str, Any], model: Model) -> list[int]:
        text = asked["prompt"]
        if not asked.get("raw"):
            image = "".join(f"[img-{number}]" for number, _ in enumerate(asked.get("images") or ()))
            system = asked.get("system") or model.system
            said = [{"role": "system", "content": system}] if system else []
            said.append({"role": "user", "content": f"{image}\n\n{text}" if image else text})
            text = render(asked.get("template") or model.template, said)
        context = asked.get("context") or []
        return [*context, *tokens_of(text)]

    async def _told(
        self, request: web.Request, asked: Mapping[str, Any], question: Question, form: _Form
    ) -> web.StreamResponse:
        records = form(asked, question, answer(self._site, question))
        if asked.get("stream", True):
            first = await anext(records)  # what fails before the first token is answered with a status
            return await lines(request, _from(first, records))
        said, last = "", {}
        async for record in records:
            said += _text_of(record)
            last = record
        return reply(_with_text(last, said))


async def _generated(asked: Mapping[str, Any], question: Question, told: _Answer) -> _Records:
    """The records of `/api/generate`."""
    said = ""
    async with aclosing(told):
        async for piece in told:
            if isinstance(piece, Token):
                said += piece.text
                yield {**_head(asked), "response": piece.text, "done": False}
            else:
                end = {"response": "", "done": True, "done_reason": piece.reason}
                context = {} if asked.get("raw") else {"context": [*question.prompt, *tokens_of(said)[1:]]}
                yield {**_head(asked), **end, **context, **piece.told()}


async def _chatted(asked: Mapping[str, Any], _question: Question, told: _Answer) -> _Records:
    """The records of `/api/chat`."""
    async with aclosing(told):
        async for piece in told:
            message = {"role": "assistant", "content": piece.text if isinstance(piece, Token) else ""}
            if isinstance(piece, Token):
                yield {**_head(asked), "message": message, "done": False}
            else:
                end = {"message": message, "done_reason": piece.reason, "done": True}
                yield {**_head(asked), **end, **piece.told()}


async def _from(first: dict[str, Any], rest: _Records) -> _Records:
    async with aclosing(rest):
        yield first
        async for record in rest:
            yield record


def _check_format(given: Any) -> None:
    if given not in (None, "", "json") and not isinstance(given, dict):
        said = to_json(to_json(given).decode()).decode()
        raise Failure(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            f'invalid format: {said}; expected "json" or a valid JSON Schema object',
        )


def _head(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": asked.get("model", ""), "created_at": stamp()}


def _text_of(record: Mapping[str, Any]) -> str:
    text: str = record["message"]["content"] if "message" in record else record["response"]
    return text


def _with_text(record: Mapping[str, Any], text: str) -> dict[str, Any]:
    if "message" in record:
        return {**record, "message": {"role": "assistant", "content": text}}
    return {**record, "response": text}


def _texts(given: Any) -> list[str]:
    """What is to be embedded: a text, or a list of texts. Raises Failure."""
    if given is None or given == "":
        return []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Failure(HTTPStatus.BAD_REQUEST, "invalid input type")
    return texts


def _vector(place: int, width: int, length: float) -> list[float]:
    """A vector that points one way: as a reciting model's do, by the last token."""
    vector = [0.0] * width
    vector[place % width] = length
    return vector
