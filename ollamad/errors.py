"""What can go wrong, by whose fault it is: whoever catches an error knows from its type what to do next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum


class OllamadError(Exception):
    """Anything that ollamad itself raises. Its text is meant for the person who reads it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration, with all that is needed to mend it."""

    key: str
    """Where it is: `proxy.listen`, or `gpus.groups[1][0]`."""
    message: str
    """What is wrong, what is allowed, and a "did you mean" where one is near."""
    value: str | None = None
    """The value as the file has it; None where the problem is not a value's."""
    origin: str | None = None
    """Who said so: `ollamad.toml:12`, an environment variable, a flag."""

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {self.value}"
        where = "" if self.origin is None else f" ({self.origin})"
        return f"{self.key}{shown}{where}: {self.message}"


class ConfigError(OllamadError):
    """The configuration can't be used; carries all its problems, not just the first."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@contextmanager
def gathering(found: list[Problem]) -> Iterator[None]:
    """Go on after what this block finds wrong with a configuration, so that all of it is told at once."""
    try:
        yield
    except ConfigError as error:
        found.extend(error.problems)


class StartError(OllamadError):
    """The daemon can't start here: an address in use, no Ollama, no GPU where one is required."""


class GpuError(OllamadError):
    """The driver of the GPUs, or the library over it, refused, failed, or never answered."""


class GpuSilent(GpuError):
    """The driver did not return from a call in time. `uuid` is the GPU that the call was about, if it was about one."""

    def __init__(self, message: str, uuid: str | None) -> None:
        super().__init__(message)
        self.uuid = uuid


class TurnedAway(Enum):
    """Why ollamad itself refuses a request, without a child's having seen it."""

    BAD_REQUEST = "bad_request"
    """The request's own fault: too large, a host name that is not allowed, a path that is not for clients."""
    NO_CHILD = "no_child"
    """No child could take it in time."""
    NO_SLOT = "no_slot"
    """Its patience, or ours, is shorter than the wait for its model."""
    QUEUE_FULL = "queue_full"
    STOPPING = "stopping"
    NO_KEY = "no_key"
    """It has no API key, or one that is not known."""
    NOT_ALLOWED = "not_allowed"
    """Its key is not for this."""
    TOO_MANY = "too_many"
    """Its key, or its address, has had more than it may."""


class ClientError(OllamadError):
    """The request is at fault. Answered with `status`, never sent to a child."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        why: TurnedAway = TurnedAway.BAD_REQUEST,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.why = why
        self.retry_after_s = retry_after_s


class UnknownChild(OllamadError):
    """An operator named a child that is not there."""


class OperationFailed(OllamadError):
    """What an operator asked for could not be done, or not to its end; the text says what was left as it is."""


class CapacityError(OllamadError):
    """No child can take the request now; the client may come back after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: int, why: TurnedAway = TurnedAway.NO_CHILD) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.why = why


class NoAnswer(OllamadError):
    """A child failed before the first byte of its response: the request may be sent elsewhere."""


class Malformed(OllamadError):
    """A child's response is not HTTP as RFC 9112 has it: nobody can say for sure where it ends, so it is refused."""


class StoreError(OllamadError):
    """A store can't be read, written or trusted: a full disk, another owner, a manifest that is none."""


class Refusal(OllamadError):
    """A child's own no, in its words: an answer of 4xx or 5xx to something that ollamad asked on somebody's behalf."""

    def __init__(self, status: int, body: bytes, content_type: str = "application/json; charset=utf-8") -> None:
        super().__init__(reason_in(body))
        self.status = status
        self.body = body
        self.content_type = content_type


def reason_in(body: bytes) -> str:
    """The reason in a child's refusal; its beginning as it is, where it is none of Ollama's."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body[:500].decode(errors="replace").strip() or "it was refused without a word"
