"""`/v1/…`: OpenAI's shapes around the native answers."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from ollamad.sim.answering import End, Question, Token, answer, options_of, running
from ollamad.sim.bind import ANY, BOOL, FLOAT, INT, STRING, BadRequest, Shape, bind
from ollamad.sim.golang import NS, go_kind, to_json
from ollamad.sim.model import Model
from ollamad.sim.native import Native
from ollamad.sim.prompts import render, tokens_of
from ollamad.sim.replies import PLAIN_JSON, Failure
from ollamad.sim.site import Site

_COMMON: Final = {
    "model": STRING,
    "stream": BOOL,
    "stream_options": ANY,
    "max_tokens": INT,
    "stop": ANY,
    "seed": INT,
    **dict.fromkeys(("temperature", "top_p", "frequency_penalty", "presence_penalty"), FLOAT),
}
CHAT: Final = Shape("ChatCompletionRequest", "openai", {**_COMMON, "messages": "[]openai.Message", "tools": ANY})
COMPLETION: Final = Shape("CompletionRequest", "openai", {**_COMMON, "prompt": STRING, "suffix": STRING})
EMBED: Final = Shape("EmbedRequest", "openai", {"model": STRING, "input": ANY})
_FINGERPRINT: Final = {"system_fingerprint": "fp_ollama"}
_NO_USAGE: Final = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

_Answer = AsyncGenerator[Token | End, None]


def error_body(message: str, kind: str) -> dict[str, Any]:
    """An error as OpenAI shapes it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _written(value: Any, status: int = HTTPStatus.OK) -> web.Response:
    """An answer of a handler that writes by itself: it ends its line."""
    return web.Response(body=to_json(value) + b"\n", status=status, headers={"Content-Type": PLAIN_JSON})


def failed(failure: Failure) -> web.Response:
    """A native failure, in OpenAI's shape."""
    return _written(error_body(str(failure), "api_error"), failure.status)


class OpenAi:
    """Handlers for one server."""

    def __init__(self, site: Site, native: Native) -> None:
        self._site = site
        self._native = native

    async def models(self, _request: web.Request) -> web.Response:
        """`GET /v1/models`."""
        models = [self._site.model(name.full) for name in self._site.store.names()]
        models.sort(key=lambda model: -model.manifest.modified_ns)
        return _written({"object": "list", "data": [_entry(model, model.name.shortest) for model in models]})

    async def model(self, request: web.Request) -> web.Response:
        """`GET /v1/models/{model}`."""
        text = request.match_info["model"]
        try:
            return _written(_entry(self._site.model(text), text))
        except FileNotFoundError:
            raise Failure(HTTPStatus.NOT_FOUND, f"model '{text}' not found") from None
        except ValueError:
            raise Failure(HTTPStatus.INTERNAL_SERVER_ERROR, "invalid model path") from None

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/chat/completions`."""
        asked = bind(await request.read(), CHAT, empty="EOF")
        if not asked.get("messages"):
            raise BadRequest("[] is too short - 'messages'")
        messages = [_message(message) for message in asked["messages"]]
        question = self._native.chat_question({**asked, "messages": messages, "options": _options(asked)})
        return await self._told(request, asked, question, _Chat(asked))

    async def completion(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/completions`."""
        asked = bind(await request.read(), COMPLETION, empty="EOF")
        text = asked.get("model", "")
        try:
            model = self._site.model(text)
        except (FileNotFoundError, ValueError):
            raise Failure(HTTPStatus.NOT_FOUND, f"model '{text}' not found") from None
        form, options = _Completion(asked), options_of(model, _options(asked))
        if not asked.get("prompt"):
            async with running(self._site, model, options, None):
                return _written(form.whole("", End("load", 0, 0, 0, 0, 0, 0)))
        said = [{"role": "system", "content": model.system}] if model.system else []
        prompt = render(model.template, [*said, {"role": "user", "content": asked["prompt"]}])
        return await self._told(request, asked, Question(model, options, None, tokens_of(prompt)), form)

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/embeddings`."""
        asked = bind(await request.read(), EMBED, empty="EOF")
        given = [""] if asked.get("input") == "" else asked.get("input")
        if given is None:
            raise BadRequest("invalid input")
        told = await self._native.embedded({"model": "", **asked, "input": given})
        used = told.get("prompt_eval_count", 0)
        return _written(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "embedding": vector, "index": index}
                    for index, vector in enumerate(told["embeddings"])
                ],
                "model": told["model"],
                "usage": {"prompt_tokens": used, "total_tokens": used},
            }
        )

    async def _told(
        self, request: web.Request, asked: Mapping[str, Any], question: Question, form: _Chat | _Completion
    ) -> web.StreamResponse:
        told = answer(self._site, question)
        if asked.get("stream"):
            return await _streamed(request, form, told)
        said, end = "", None
        async with aclosing(told):
            async for piece in told:
                if isinstance(piece, Token):
                    said += piece.text
                else:
                    end = piece
        assert end is not None  # noqa: S101 - an answer that does not fail has an end
        return _written(form.whole(said, end))


class _Chat:
    """The records of a chat completion."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self._asked = asked
        self._id = f"chatcmpl-{random.randrange(999)}"  # noqa: S311 - so does Ollama

    def whole(self, text: str, end: End) -> dict[str, Any]:
        """The one record of an answer that is not streamed."""
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": end.reason}]
        return {**self._head("chat.completion"), "choices": choices, "usage": _usage(end)}

    def part(self, text: str, reason: str | None) -> dict[str, Any]:
        """One record of a stream."""
        delta = {"role": "assistant", "content": text}
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        return {**self._head("chat.completion.chunk"), "choices": choices}

    def usage(self, end: End) -> dict[str, Any] | None:
        """The record after the last, where it was asked for."""
        if not _wants_usage(self._asked):
            return None
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": _usage(end)}

    def _head(self, kind: str) -> dict[str, Any]:
        made = time.time_ns() // NS
        return {"id": self._id, "object": kind, "created": made, "model": self._asked["model"], **_FINGERPRINT}


class _Completion:
    """The records of a completion."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self._asked = asked
        self._id = f"cmpl-{random.randrange(999)}"  # noqa: S311 - so does Ollama

    def whole(self, text: str, end: End) -> dict[str, Any]:
        """The one record of an answer that is not streamed."""
        choices = [{"text": text, "index": 0, "finish_reason": end.reason}]
        model = {"model": self._asked["model"], **_FINGERPRINT}
        return {**self._head(), **model, "choices": choices, "usage": _usage(end)}

    def part(self, text: str, reason: str | None) -> dict[str, Any]:
        """One record of a stream; 0.5.4 tells a usage of nothing in each, once it is to tell one."""
        record = self._record([{"text": text, "index": 0, "finish_reason": reason}])
        return {**record, "usage": _NO_USAGE} if _wants_usage(self._asked) else record

    def usage(self, end: End) -> dict[str, Any] | None:
        """The record after the last, where it was asked for."""
        return {**self._record([]), "usage": _usage(end)} if _wants_usage(self._asked) else None

    def _record(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head(), "choices": choices, "model": self._asked["model"], **_FINGERPRINT}

    def _head(self) -> dict[str, Any]:
        return {"id": self._id, "object": "text_completion", "created": time.time_ns() // NS}


async def _streamed(request: web.Request, form: _Chat | _Completion, told: _Answer) -> web.StreamResponse:
    """Server-sent events. A failure on the way ends them without a word, as in Ollama."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    async with aclosing(told):
        piece: Token | End = await anext(told)
        await response.prepare(request)
        try:
            while isinstance(piece, Token):
                await response.write(_event(to_json(form.part(piece.text, None))))
                piece = await anext(told)
        except Failure:
            await response.write_eof()
            return response
        await response.write(_event(to_json(form.part("", piece.reason))))
        if (usage := form.usage(piece)) is not None:
            await response.write(_event(to_json(usage)))
        await response.write(_event(b"[DONE]"))
    await response.write_eof()
    return response


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def _wants_usage(asked: Mapping[str, Any]) -> bool:
    return bool((asked.get("stream_options") or {}).get("include_usage"))


def _usage(end: End) -> dict[str, int]:
    total = end.prompt_tokens + end.answer_tokens
    return {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.answer_tokens, "total_tokens": total}


def _entry(model: Model, name: str) -> dict[str, Any]:
    made = model.manifest.modified_ns // NS
    return {"id": name, "object": "model", "created": made, "owned_by": model.name.namespace}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as the native API has it. Raises BadRequest."""
    content = message.get("content")
    if isinstance(content, list):
        content = "\n\n".join(part["text"] for part in content if part.get("type") == "text")
    elif not isinstance(content, str):
        raise BadRequest(f"invalid message content type: {go_kind(content)}")
    return {"role": message.get("role", ""), "content": content}


def _options(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The native options that OpenAI's fields stand for."""
    options = {name: asked[name] for name in ("seed", "temperature", "top_p") if name in asked}
    if "max_tokens" in asked:
        options["num_predict"] = asked["max_tokens"]
    if stop := asked.get("stop"):
        options["stop"] = [stop] if isinstance(stop, str) else stop
    return options
