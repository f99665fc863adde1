"""From a question to a stream of tokens, whatever API it was asked in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from ollamad.sim.clock import Clock
from ollamad.sim.faults import Fault
from ollamad.sim.golang import NS, quoted
from ollamad.sim.model import Model
from ollamad.sim.prompts import BEGIN, tokens_of
from ollamad.sim.recital import Done, recital
from ollamad.sim.replies import Failure
from ollamad.sim.runner import Runner, RunnerDied
from ollamad.sim.scheduler import LoadFailed, QueueFull
from ollamad.sim.site import Site

BUSY: Final = "server busy, please try again.  maximum pending requests exceeded"
DIED: Final = "an error was encountered while running the model: unexpected EOF"
CONTEXTS_MAX: Final = 10
"""How many times its context an answer without a limit may be long (0.5.4)."""

_OPTION_TYPES: Final[Mapping[str, tuple[type, str]]] = {
    **dict.fromkeys(("num_predict", "num_ctx", "num_batch", "num_gpu", "seed", "top_k"), (int, "integer")),
    **dict.fromkeys(("temperature", "top_p", "min_p", "repeat_penalty"), (float, "float32")),
    "stop": (list, "array"),
}


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of an answer."""

    text: str


@dataclass(frozen=True, slots=True)
class End:
    """The end of an answer, and what it took."""

    reason: str
    prompt_tokens: int
    answer_tokens: int
    total_ns: int
    load_ns: int
    prefill_ns: int
    decode_ns: int

    def told(self) -> dict[str, int]:
        """As Ollama tells it: what is zero is left out."""
        figures = {
            "total_duration": self.total_ns,
            "load_duration": self.load_ns,
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": self.prefill_ns,
            "eval_count": self.answer_tokens,
            "eval_duration": self.decode_ns,
        }
        return {name: value for name, value in figures.items() if value}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a model."""

    model: Model
    options: Mapping[str, Any]
    keep_alive_ns: int | None
    prompt: Sequence[int]
    """Its tokens, without the one that begins every prompt."""


def options_of(model: Model, asked: Mapping[str, Any] | None) -> dict[str, Any]:
    """The model's own options under those of the request. Raises Failure for a value of the wrong type."""
    options = {**model.parameters, **(asked or {})}
    for name, value in options.items():
        kind, said = _OPTION_TYPES.get(name, (object, ""))
        fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if not fits or (kind in {int, float} and isinstance(value, bool)):
            raise Failure(HTTPStatus.INTERNAL_SERVER_ERROR, f"option {quoted(name)} must be of type {said}")
    return options


@asynccontextmanager
async def running(
    site: Site, model: Model, options: Mapping[str, Any], keep_alive_ns: int | None
) -> AsyncIterator[Runner]:
    """The model's runner. Raises Failure, with the status that Ollama gives."""
    if site.faults.on(Fault.REFUSE):
        raise Failure(HTTPStatus.INTERNAL_SERVER_ERROR, "told to refuse")
    try:
        async with site.scheduler.runner(model, options, keep_alive_ns) as runner:
            yield runner
    except QueueFull:
        raise Failure(HTTPStatus.SERVICE_UNAVAILABLE, BUSY) from None
    except LoadFailed as failed:
        raise Failure(HTTPStatus.INTERNAL_SERVER_ERROR, str(failed)) from None
    except RunnerDied:
        raise Failure(HTTPStatus.INTERNAL_SERVER_ERROR, DIED) from None


async def answer(site: Site, question: Question) -> AsyncGenerator[Token | End, None]:
    """The tokens of an answer, and its end. Raises Failure."""
    began_s = site.clock.now_s()
    prompt = [BEGIN, *question.prompt]
    async with running(site, question.model, question.options, question.keep_alive_ns) as runner:
        loaded_s = site.clock.now_s()
        async with runner.prefilled(prompt):
            prefilled_s = site.clock.now_s()
            reason, count = Done.LENGTH, 0
            pieces = runner.recite(recital(question.model.gguf.words, *_limits(site, question, runner)))
            async with aclosing(pieces):
                async for piece in pieces:
                    count += 1
                    reason = piece.done or reason
                    if piece.text:
                        yield Token(piece.text)
            ended_s = site.clock.now_s()
            yield End(
                reason.value,
                len(prompt),
                count,
                _ns(site.clock, began_s),
                round((loaded_s - began_s) * NS),
                round((prefilled_s - loaded_s) * NS),
                round((ended_s - prefilled_s) * NS),
            )


def _limits(site: Site, question: Question, runner: Runner) -> tuple[int, Sequence[str], Done]:
    """How long the answer gets, what ends it before, and what is said at the end."""
    stop = question.options.get("stop") or ()
    asked = int(question.options.get("num_predict") or 0)
    if asked > 0:
        return asked, stop, Done.LENGTH
    if site.settings.answer_tokens:
        return site.settings.answer_tokens, stop, Done.STOP
    return CONTEXTS_MAX * runner.load.context, stop, Done.LENGTH


def _ns(clock: Clock, since_s: float) -> int:
    return round((clock.now_s() - since_s) * NS)


async def embeddings(
    site: Site, model: Model, options: Mapping[str, Any], keep_alive_ns: int | None, texts: Sequence[str]
) -> tuple[list[int], int]:
    """For each text the place where its vector isn't zero, and how many tokens all had. Raises Failure."""
    async with running(site, model, options, keep_alive_ns) as runner:
        prompts = [[BEGIN, *tokens_of(text)] if text else [BEGIN] for text in texts]
        for prompt in prompts:
            await runner.embed(len(prompt))
    return [prompt[-1] for prompt in prompts], sum(len(prompt) - 1 for prompt in prompts)
