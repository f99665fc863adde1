"""One response of a child as it comes, passed on in the same step: no task, no queue and no copy between two sockets.

Before it is attached to a client it keeps what comes (little: its connection is paused when it is much). Attached, each
piece is written to the client before the call that brought it returns. What goes out always ends where a chunk ends, so
that a stream that breaks can be closed with one more record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from ollamad.errors import NoAnswer
from ollamad.upstream.early import EARLY_MAX_BYTES, Early
from ollamad.upstream.framing import Body, Chunked, body_of, chunk
from ollamad.upstream.head import Field, Head, HeadReader
from ollamad.upstream.tail import Tail

LOOKS: Final = 4
"""How often one silence that is too long is looked at."""
SILENT: Final = -1

SHORT: Final = "ended without its last record"

Write = Callable[[bytes], None]
Whole = Callable[[bytes], bool]
"""Whether a body that ends with these bytes is a whole one."""
Trailers = Callable[[list[Field]], bytes]


class Source(Protocol):
    """The connection that a reply comes from, as far as the reply must know it."""

    @property
    def paused(self) -> bool:
        """Whether it is not read for now."""

    def pause(self) -> None:
        """Read no more for now."""

    def resume(self) -> None:
        """Read on."""

    def abort(self) -> None:
        """Close it at once."""


class Reply:
    """A response from its first byte to its last. Fed by its connection; awaited by the one task that asked."""

    __slots__ = (
        "_begun",
        "_body",
        "_early",
        "_failure",
        "_head_reader",
        "_heard",
        "_looks",
        "_loop",
        "_method",
        "_out_chunked",
        "_out_trailers",
        "_same_framing",
        "_source",
        "_straight",
        "_waiter",
        "_watch",
        "_whole",
        "_write",
        "given_up",
        "head",
        "tail",
    )

    def __init__(self, source: Source, method: str, heard: Callable[[], None], head_max_bytes: int) -> None:
        self._source = source
        self._method = method
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._looks = SILENT
        """How often `_look` has found that nothing has come since."""
        self._head_reader: HeadReader | None = HeadReader(head_max_bytes)
        self._body: Body | None = None
        self._early: Early | None = None
        self._write: Write | None = None
        self._whole: Whole | None = None
        self._out_chunked = False
        self._out_trailers: Trailers | None = None
        self._same_framing = False
        self._straight: Chunked | None = None
        """The body, once it goes to a client that is sent the same chunks."""
        self._begun = False
        self._failure: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self.head: Head | None = None
        self.tail = Tail()
        self.given_up = False
        """Whether nobody waits for it any more: it is not to be asked for again."""

    @property
    def done(self) -> bool:
        """Whether all of it has come."""
        return self._body is not None and self._body.done

    @property
    def body_bytes(self) -> int:
        """How much of the body has come, framing not counted."""
        return self.tail.passed_bytes

    @property
    def surplus(self) -> bool:
        """Whether the child sent more than its response."""
        return self._body is not None and self._body.surplus

    @property
    def silent(self) -> bool:
        """Whether not one byte of it has come."""
        return self._looks == SILENT

    def feed(self, data: bytes) -> None:
        """Bytes have come. Raises Malformed."""
        self._heard()
        self._looks = 0
        if self._straight is not None and (piece := self._straight.one(data)) is not None:
            self.tail.add(piece)
            self._write(data)  # type: ignore[misc]  # it is attached, or it would not go straight
            return
        body = self._body
        if body is None:
            self._feed_head(data)
            return
        pieces = body.feed(data)
        for piece in pieces:
            self.tail.add(piece)
        if not body.done:
            self._pass_on(data, pieces, as_is=body.as_is)
            return
        self._judge()
        self._pass_on(data, pieces, as_is=body.as_is and self._failure is None)
        self._wake()

    def ended(self, why: str) -> None:
        """The connection is gone: the end of a body that has no other, a failure of every other."""
        if self.done or self._failure is not None:
            return
        if self._body is not None and self._body.end():
            self._begun = True
            self._judge()
            if self._write is not None and (out := self._framed([])):
                self._write(out)
        else:
            self._failure = why
        self._wake()

    def fail(self, why: str) -> None:
        """Give it up, and close its connection."""
        if not self.done and self._failure is None:
            self._failure = why
            self._source.abort()
            self._wake()

    def give_up(self, why: str) -> None:
        """Wait no more for its beginning: somebody else is asked."""
        self.given_up = True
        self.fail(why)

    async def begin(self) -> Head:
        """Wait for its head and the first byte of its body, however long that takes. Raises NoAnswer."""
        while not self._begun and self._failure is None:
            await self._wait()
        if self.head is None or not self._begun:
            raise NoAnswer(self._failure or "no response")
        return self.head

    def attach(
        self,
        head: bytes,
        write: Write,
        *,
        chunked: bool,
        trailers: Trailers | None = None,
        whole: Whole | None = None,
    ) -> None:
        """Write `head`, what has come, and from now on whatever comes.

        `chunked` says how the client gets the body; `trailers` gives what it is to get of them, as bytes. A body that
        ends as it should, and is none by `whole`, is a failure: its end is not written.
        """
        self._whole = whole
        if self.done:
            self._judge()
        self._out_chunked = chunked
        self._out_trailers = trailers
        self._same_framing = chunked == isinstance(self._body, Chunked)
        if self._same_framing and isinstance(self._body, Chunked):
            self._straight = self._body
        early, self._early = self._early, None
        if early is None:
            first = self._framed([]) if self.done else b""
        else:
            as_is = self._same_framing and early.as_is and self._failure is None
            first = early.raw if as_is else self._framed(early.pieces)
        self._write = write
        self._source.resume()  # before the write, which may well pause it again
        write(head + first)

    async def finish(self, idle_s: float = 0.0) -> str | None:
        """Wait for its last byte; gives None, or why there is none. Silence of `idle_s` is a failure; 0 is no limit."""
        if idle_s and not self.done and self._failure is None:
            self._watch = self._loop.call_later(idle_s / LOOKS, self._look, idle_s)
        try:
            while not self.done and self._failure is None:
                await self._wait()
        finally:
            if self._watch is not None:
                self._watch.cancel()
                self._watch = None
        return self._failure

    def _feed_head(self, data: bytes) -> None:
        found = self._head_reader.feed(data) if self._head_reader is not None else None
        if found is None:
            return
        self._head_reader = None
        self.head, rest = found
        self._body = body_of(self.head, self._method)
        if rest:
            self.feed(rest)
        elif self._body.done:
            self._begun = True
            self._wake()

    def _pass_on(self, data: bytes, pieces: list[bytes], *, as_is: bool) -> None:
        if self._write is None:
            self._keep(data, pieces, as_is=as_is)
        elif self._same_framing and as_is:
            self._write(data)
        elif out := self._framed(pieces):
            self._write(out)

    def _keep(self, data: bytes, pieces: list[bytes], *, as_is: bool) -> None:
        """Keep what can't be written yet."""
        if self._early is None:
            self._early = Early()
        if self._early.add(data, pieces, as_is=as_is) > EARLY_MAX_BYTES:
            self._source.pause()
        if (pieces or self.done) and not self._begun:
            self._begun = True
            self._wake()

    def _framed(self, pieces: list[bytes]) -> bytes:
        """The body's bytes in the framing that the client is sent, its end included unless it is none."""
        if not self._out_chunked:
            return b"".join(pieces)
        out = b"".join(map(chunk, pieces))
        if not self.done or self._failure is not None:
            return out
        trailers = getattr(self._body, "trailers", [])
        return b"%b0\r\n%b\r\n" % (out, self._out_trailers(trailers) if trailers and self._out_trailers else b"")

    def _judge(self) -> None:
        """See whether what is done is whole."""
        if self._whole is not None and self._failure is None and not self._whole(self.tail.bytes()):
            self._failure = SHORT

    def _look(self, idle_s: float) -> None:
        """Has it been silent for too long? A connection that is not read is not silent.

        Looking now and then is cheaper than noting the time of each piece, and errs by a quarter at most.
        """
        if self._source.paused:
            self._looks = 0
        if self._looks >= LOOKS:
            self.fail(f"silent for {idle_s:g} s in the middle of its response")
        else:
            self._looks += 1
            self._watch = self._loop.call_later(idle_s / LOOKS, self._look, idle_s)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
