"""`ollamactl top` on a real terminal of the kernel's."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import psutil
import pytest

from ollamad.cli.ctl.text import cells
from ollamad.cli.ctl.top import ENTER, HOME, LEAVE
from tests.support.control_face import Face, face
from tests.support.daemon import until

SEQUENCE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


class Terminal:
    """A pseudo-terminal with `ollamactl top` on it."""

    def __init__(self, keys: int, screen: int) -> None:
        self.keys = keys
        self.screen = screen
        self.before = termios.tcgetattr(screen)
        self.written = ""
        asyncio.get_running_loop().add_reader(keys, self._read)

    def _read(self) -> None:
        with suppress(OSError):  # the last who had it open has gone
            self.written += os.read(self.keys, 65_536).decode(errors="replace")

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.screen, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self.keys, keys)

    def pictures(self) -> list[list[str]]:
        """All that was painted, each as the lines that one sees; the last may still be on its way."""
        return [SEQUENCE.sub("", painted).split("\r\n") for painted in self.written.split(HOME)[1:]]

    async def until_seen(self, text: str) -> None:
        await until(lambda: text in SEQUENCE.sub("", self.written), lambda: repr(self.written[-2000:]))

    def is_as_it_was(self) -> bool:
        return self.written.endswith(LEAVE) and termios.tcgetattr(self.screen) == self.before


@asynccontextmanager
async def top(path: Path) -> AsyncIterator[tuple[Terminal, asyncio.subprocess.Process]]:
    keys, screen = pty.openpty()
    terminal = Terminal(keys, screen)
    terminal.resize(100, 24)
    # Opened by a session's leader, a terminal becomes its own: then the kernel tells it of a new size.
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'exec "$@" <"$TERMINAL" >"$TERMINAL"', "sh"),
        *(sys.executable, "-m", "ollamad.cli.ctl.main", "--socket", str(path), "top"),
        env={"PYTHONPATH": ":".join(sys.path), "TERMINAL": os.ttyname(screen), "PYTHONUTF8": "1"},
        start_new_session=True,
    )
    try:
        yield terminal, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        asyncio.get_running_loop().remove_reader(keys)
        os.close(keys)
        os.close(screen)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Face]:
    async with face(tmp_path / "control.sock") as found:
        yield found


async def left(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(10):
        return await process.wait()


@pytest.mark.parametrize("key", [b"q", b"Q", b"\x03"])
async def test_it_shows_the_fleet_and_a_key_leaves_the_terminal_as_it_was(here: Face, key: bytes) -> None:
    async with top(here.path) as (terminal, process):
        await terminal.until_seen("llama3.2:3b")
        assert terminal.written.startswith(ENTER)
        assert "q quits" in terminal.pictures()[0][0]
        terminal.press(b"x")  # means nothing
        terminal.press(key)
        assert await left(process) == 0
        await until(terminal.is_as_it_was)


async def test_it_lives(here: Face) -> None:
    async with top(here.path) as (terminal, _):
        await terminal.until_seen("gpu0")
        here.puppets.children["gpu0"] = msgspec.structs.replace(here.puppets.children["gpu0"], deaths=777)
        await terminal.until_seen("777")


async def test_it_fits_a_terminal_that_is_made_smaller_at_once(here: Face) -> None:
    async with top(here.path) as (terminal, _):
        await terminal.until_seen("q quits")
        terminal.resize(40, 7)
        await until(lambda: any(len(picture) == 7 for picture in terminal.pictures()[:-1] or [[]]))
        picture = next(picture for picture in terminal.pictures() if len(picture) == 7)
        assert all(cells(line) <= 40 for line in picture)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_leaves_the_terminal_as_it_was(here: Face, number: signal.Signals) -> None:
    async with top(here.path) as (terminal, process):
        await terminal.until_seen("q quits")
        process.send_signal(number)
        assert await left(process) == 0
        await until(terminal.is_as_it_was)


async def test_a_daemon_that_goes_away_leaves_old_facts_that_are_shown_as_old(here: Face) -> None:
    async with top(here.path) as (terminal, _):
        await terminal.until_seen("q quits")
        here.path.rename(here.path.with_name("away"))
        await terminal.until_seen("NO ANSWER for")
        here.path.with_name("away").rename(here.path)
        count = len(terminal.pictures())
        await until(lambda: any("NO ANSWER" not in picture[0] for picture in terminal.pictures()[count:]))


async def test_a_daemon_that_is_not_there_yet_is_waited_for(here: Face) -> None:
    here.path.rename(here.path.with_name("away"))
    async with top(here.path) as (terminal, _):
        await terminal.until_seen("no ollamad answers at")
        here.path.with_name("away").rename(here.path)
        await terminal.until_seen("gpu0")


async def test_stopped_it_gives_the_terminal_back_and_takes_it_again(here: Face) -> None:
    async with top(here.path) as (terminal, process):
        await terminal.until_seen("q quits")
        process.send_signal(signal.SIGTSTP)
        await until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        await until(terminal.is_as_it_was)
        process.send_signal(signal.SIGCONT)
        await until(lambda: terminal.written.count(ENTER) == 2)
        terminal.press(b"q")
        assert await left(process) == 0
