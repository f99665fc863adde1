"""A real Chromium for tests, Debian's, driven by playwright; installed on a CI machine, skipped where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

import pytest
from playwright.async_api import Browser, Page, async_playwright

_FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE_MS: Final = 20_000


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The program; the test is skipped where there is none and it may not be installed."""
    found = shutil.which("chromium")
    if found is None and os.geteuid() == 0 and os.environ.get("CI") == "true":
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in ("update", "install --yes --no-install-recommends chromium"):
            subprocess.run(["apt-get", "-qq", *command.split()], env=quiet, check=True, stdout=subprocess.DEVNULL)
        found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium here: apt-get install chromium, or run as root with CI=true")
    return Path(found)


@asynccontextmanager
async def browser(program: Path) -> AsyncIterator[Browser]:
    """A browser, until the block ends."""
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=_FLAGS)
        try:
            yield running
        finally:
            await running.close()


@asynccontextmanager
async def page(
    running: Browser, url: str, *, width: int = 1600, height: int = 1000, scheme: Literal["light", "dark"] = "light"
) -> AsyncIterator[Page]:
    """A page open at this address. What it complains of, or asks of anybody else, fails the test."""
    opened = await running.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    opened.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "request",
        lambda request: (
            None if request.url.startswith((url, "data:")) else complaints.append(f"asks for {request.url}")
        ),
    )
    opened.on(
        "console",
        lambda said: complaints.append(said.text) if said.type == "error" and "net::ERR" not in said.text else None,
    )
    await opened.goto(url)
    try:
        yield opened
    finally:
        await opened.close()
        assert complaints == []
