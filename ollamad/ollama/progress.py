"""Ollama's progress: one JSON object a line, the last of which says `success` or carries an error."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
import msgspec

from ollamad.errors import NoAnswer, Refusal

SUCCESS: Final = "success"


class _Line(msgspec.Struct):
    status: str | int = ""
    """A number beside an error: the HTTP status that it would have been."""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One line."""

    raw: bytes
    """With its newline."""
    status: str = ""
    digest: str = ""
    total_bytes: int = 0
    completed_bytes: int = 0
    error: str = ""

    @property
    def topic(self) -> str:
        """What it is about: a later record of the same topic makes it old news."""
        return self.digest or self.status


def record_of(line: bytes) -> Record:
    """Read a line. Raises msgspec.DecodeError."""
    found = msgspec.json.decode(line, type=_Line)
    status = found.status if isinstance(found.status, str) else ""
    return Record(line.rstrip() + b"\n", status, found.digest, found.total, found.completed, found.error)


def made(status: str, digest: str = "", total_bytes: int = 0, completed_bytes: int = 0) -> Record:
    """A record of ollamad's own, in Ollama's shape."""
    sizes = {"digest": digest, "total": total_bytes, "completed": completed_bytes} if digest else {}
    raw = msgspec.json.encode({"status": status, **sizes}) + b"\n"
    return Record(raw, status, digest, total_bytes, completed_bytes)


def failed(message: str) -> Record:
    """The record that ends a stream in failure."""
    return Record(msgspec.json.encode({"error": message}) + b"\n", error=message)


async def progress(
    session: aiohttp.ClientSession, url: str, body: bytes, heard: Callable[[], None]
) -> AsyncGenerator[Record]:
    """Ask for something that reports its progress, and give its records; the last is a success or an error.

    Raises Refusal where the child refuses at once, NoAnswer where it is gone before the last record.
    """
    try:
        async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise Refusal(answer.status, await answer.read(), answer.headers.get("Content-Type", ""))
            async for line in answer.content:
                heard()
                if line.strip():
                    record = record_of(line)
                    yield record
                    if record.error or record.status == SUCCESS:
                        return
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError) as error:  # endless, or no JSON
        raise NoAnswer(f"its progress broke off: {str(error) or type(error).__name__}") from error
    raise NoAnswer("its progress ended without a result")
