"""Connections to the children that wait for their next request: few, not for long, and none to a child that failed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import msgspec

from ollamad.config.schema import Proxy
from ollamad.errors import NoAnswer
from ollamad.upstream.link import Link
from ollamad.upstream.reply import Reply


def _nobody_gives_up(_give_up: Callable[[str], None]) -> None:
    pass


class Question(msgspec.Struct, frozen=True):
    """A request in the bytes that a child gets."""

    address: str
    """`127.0.0.1:11500`"""
    method: str
    head: bytes
    body: bytes | None
    """None where it follows, piece by piece."""
    heard: Callable[[], None]
    """Called for every piece of the response that comes."""
    waits: Callable[[Callable[[str], None]], None] = _nobody_gives_up
    """Told, whenever it is sent, how the wait for its response is given up."""


class Pool:
    """Owns every connection to every child: as many busy ones as there are requests, and few that wait.

    `settings` gives `[proxy]` as it is now: a reload may change it.
    """

    def __init__(self, settings: Callable[[], Proxy]) -> None:
        self._settings = settings
        self._waiting: defaultdict[str, list[Link]] = defaultdict(list)
        """By address, the one that was used last at the end."""
        self._busy: set[Link] = set()

    @property
    def waiting(self) -> int:
        """Connections that carry no request."""
        return sum(map(len, self._waiting.values()))

    @property
    def busy(self) -> int:
        """Connections that carry one."""
        return len(self._busy)

    def ask(self, question: Question) -> AbstractAsyncContextManager[tuple[Link, Reply]]:
        """Send a request, and wait for its response to begin where all of the request is sent. Raises NoAnswer.

        The connection is free for the next request when the block is left, if this response has been read to its end;
        else it is closed, which makes Ollama stop generating. A connection that was used before may have been closed
        by the child meanwhile. Where it dies before one byte of a response, the request is sent again on a fresh one:
        only then, since only then it can't have been answered.
        """
        return _Asking(self, question)

    def forget(self, address: str) -> None:
        """Close the connections that wait there: the child has failed, and they are not worth trying."""
        for link in self._waiting.pop(address, ()):
            link.abort()

    def close(self) -> None:
        """Close all that wait, and all that are busy."""
        for address in list(self._waiting):
            self.forget(address)
        for link in list(self._busy):
            link.abort()

    async def begin(self, question: Question) -> tuple[Link, Reply]:
        """See `ask`; who calls this must see to it that `end` is called."""
        link = self._take(question.address) if question.body is not None else None
        if link is None:
            link = await self._connect(question.address)
        try:
            reply = self._send(link, question)
            if question.body is None:
                return link, reply
            try:
                await reply.begin()
            except NoAnswer:
                if reply.given_up or not (link.used and reply.silent):
                    raise
                self.end(question.address, link)
                link = await self._connect(question.address)
                reply = self._send(link, question)
                await reply.begin()
        except BaseException as error:
            self.end(question.address, link, error)
            raise
        return link, reply

    def end(self, address: str, link: Link, error: BaseException | None = None) -> None:
        """The end of a request, and the error that it ended with: its connection waits for the next, or is closed."""
        if isinstance(error, NoAnswer):
            self.forget(address)
        if link not in self._busy:
            return
        self._busy.discard(link)
        waiting, settings = self._waiting[address], self._settings()
        if link.release() and len(waiting) < settings.child_idle_connections_max:
            link.parked = asyncio.get_running_loop().call_later(settings.child_idle_timeout_s, link.abort)
            waiting.append(link)
        else:
            link.abort()

    def _take(self, address: str) -> Link | None:
        waiting = self._waiting.get(address)
        while waiting:
            link = waiting.pop()
            if link.parked is not None:
                link.parked.cancel()
                link.parked = None
            if link.open:
                self._busy.add(link)
                return link
        return None

    async def _connect(self, address: str) -> Link:
        host, _, port = address.rpartition(":")
        link = Link(lambda link: self._lost(address, link))
        loop = asyncio.get_running_loop()
        timeout_s = self._settings().connect_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await loop.create_connection(lambda: link, host, int(port))
        except (OSError, TimeoutError) as error:
            self.forget(address)
            raise NoAnswer(str(error) or f"did not accept within {timeout_s:g} s") from error
        self._busy.add(link)
        return link

    def _send(self, link: Link, question: Question) -> Reply:
        reply = Reply(link, question.method, question.heard, self._settings().child_header_max_bytes)
        link.ask(reply, question.head, question.body)
        question.waits(reply.give_up)
        return reply

    def _lost(self, address: str, link: Link) -> None:
        self._busy.discard(link)
        if link.parked is not None:
            link.parked.cancel()
            link.parked = None
            if link in self._waiting.get(address, ()):
                self._waiting[address].remove(link)


class _Asking(AbstractAsyncContextManager[tuple[Link, Reply]]):
    """A class, not a generator: every request has one, and a generator's would cost 2 µs more."""

    __slots__ = ("_link", "_pool", "_question")

    def __init__(self, pool: Pool, question: Question) -> None:
        self._pool = pool
        self._question = question
        self._link: Link | None = None

    async def __aenter__(self) -> tuple[Link, Reply]:
        self._link, reply = await self._pool.begin(self._question)
        return self._link, reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._link is not None:
            self._pool.end(self._question.address, self._link, error)
