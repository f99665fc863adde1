"""`ollamactl top`: the live screen. Plain ANSI sequences and the standard library, so that it works over any ssh.

Signals and keys arrive as bytes on two descriptors and are waited for together with the next refresh: one loop, and
nothing happens inside a signal handler. However it ends, the terminal is left as it was found.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TextIO

from ollamad.cli.ctl import screen
from ollamad.cli.ctl.context import Context
from ollamad.cli.ctl.errors import DONE, CommandError, Usage
from ollamad.cli.ctl.text import printable, span
from ollamad.cli.ctl.transport import Control

REFRESH_S: Final = 1.0
ANSWER_S: Final = 2.0
"""How long one answer may take: the screen answers to keys again after that."""

ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[2J"
LEAVE: Final = "\x1b[?25h\x1b[?1049l"
HOME: Final = "\x1b[H"
TITLE: Final = "\x1b[7m"
PLAIN: Final = "\x1b[0m"
REST_OF_LINE: Final = "\x1b[K"
REST_OF_SCREEN: Final = "\x1b[J"

COLUMNS: Final = 80
LINES: Final = 24
"""For a terminal that does not know how large it is."""

QUIT_KEYS: Final = frozenset(b"qQ\x03\x04")
QUIT_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
MINDED: Final = (*sorted(QUIT_SIGNALS), signal.SIGWINCH, signal.SIGTSTP)


def top(context: Context) -> int:
    """Show it until a key or a signal ends it."""
    if context.json:
        raise Usage("top is for people; for programs there is: ollamactl --json status --watch")
    if not (sys.stdin.isatty() and context.out.isatty()):
        raise CommandError("top needs a terminal; where there is none: ollamactl status --watch")
    scene = _Scene(replace(context.control, timeout_s=ANSWER_S))
    with _signals() as heard, _terminal(sys.stdin, context.out) as terminal:
        while True:
            scene.look()
            terminal.paint(scene)
            if _told_to_quit(terminal, heard, scene):
                return DONE


class _Scene:
    """What the daemon said last, and since when it says nothing."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._status: dict[str, Any] | None = None
        self._requests: dict[str, Any] = {}
        self._silent_since_s: float | None = None
        self._why = ""

    def look(self) -> None:
        """Ask again."""
        try:
            self._status, self._requests = self._control.get("/v1/status"), self._control.get("/v1/requests")
            self._silent_since_s = None
        except CommandError as error:
            self._silent_since_s = self._silent_since_s or time.monotonic()
            self._why = str(error)

    def picture(self, width: int, height: int) -> list[str]:
        """The lines to show. Old facts are shown as old."""
        if self._status is None:
            return screen.waiting(printable(self._why), width, height)
        silent = self._silent_since_s
        alert = "" if silent is None else f"NO ANSWER for {span(time.monotonic() - silent)}, what is below is old:"
        return screen.picture(self._status, self._requests, width, height, alert)


@dataclass(slots=True)
class _Terminal:
    keys: int
    out: TextIO
    before: list[Any]
    """How the terminal was set when we came."""

    def enter(self) -> None:
        """A screen of our own, and each key at once."""
        tty.setcbreak(self.keys)
        self._write(ENTER)

    def leave(self) -> None:
        """As it was."""
        termios.tcsetattr(self.keys, termios.TCSADRAIN, self.before)
        self._write(LEAVE)

    def paint(self, scene: _Scene) -> None:
        """Draw over what is there, without clearing first: it does not flicker."""
        size = os.get_terminal_size(self.out.fileno())
        title, *lines = scene.picture(size.columns or COLUMNS, size.lines or LINES)
        rows = [f"{TITLE}{title}{PLAIN}", *lines]
        self._write(HOME + "\n".join(f"{row}{REST_OF_LINE}" for row in rows) + REST_OF_SCREEN)

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()


@contextmanager
def _terminal(keys: TextIO, out: TextIO) -> Iterator[_Terminal]:
    terminal = _Terminal(keys.fileno(), out, termios.tcgetattr(keys.fileno()))
    terminal.enter()
    try:
        yield terminal
    finally:
        terminal.leave()


@contextmanager
def _signals() -> Iterator[int]:
    """A descriptor on which the signals that we mind arrive as bytes."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    former = {number: signal.signal(number, lambda *_: None) for number in MINDED}
    signal.set_wakeup_fd(writer)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in former.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _told_to_quit(terminal: _Terminal, heard: int, scene: _Scene) -> bool:
    """Mind keys and signals until it is time to look again; True where one of them says that it is enough."""
    until_s = time.monotonic() + REFRESH_S
    while (left_s := until_s - time.monotonic()) > 0:
        ready, _, _ = select.select([terminal.keys, heard], [], [], left_s)
        if terminal.keys in ready and _is_enough(os.read(terminal.keys, 64)):
            return True
        if heard in ready:
            numbers = {*os.read(heard, 64)}
            if numbers & QUIT_SIGNALS:
                return True
            if signal.SIGTSTP in numbers:
                _pause(terminal)
            terminal.paint(scene)
    return False


def _is_enough(keys: bytes) -> bool:
    """Whether one of these keys quits, or there is nobody left to press any."""
    return not keys or bool(QUIT_KEYS & {*keys})


def _pause(terminal: _Terminal) -> None:
    """Ctrl-Z: give the terminal back while we are stopped."""
    terminal.leave()
    os.kill(os.getpid(), signal.SIGSTOP)
    terminal.enter()
