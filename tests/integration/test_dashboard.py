"""The dashboard in a real Chromium: on a real daemon, and on a made-up fleet whose names mean harm."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Page, expect

from ollamad.config.schema import Status
from ollamad.fleet.models_view import ModelsView
from ollamad.status.app import status_runner
from ollamad.status.board import Board
from tests.support.chromium import PATIENCE_MS, browser, chromium, page
from tests.support.daemon import Daemons, send_signal, until
from tests.support.fake_nvml import GIB, FakeGpu, MakeDriver, fake_nvml_library, make_driver
from tests.support.orders import odd
from tests.support.showcase import HOSTILE, Showcase
from tests.support.sse import events

__all__ = ["chromium", "fake_nvml_library", "make_driver"]

expect.set_options(timeout=PATIENCE_MS)

NO_MODELS = ModelsView("shared", pulls=(), copies=(), ensure=(), preload=(), sync=None)
Scheme = Literal["light", "dark"]


class Served:
    """A made-up fleet behind the real status listener; time passes there while `ticking` is set."""

    def __init__(self, show: Showcase, board: Board) -> None:
        self.show = show
        self.ticking = asyncio.Event()
        self.ticking.set()
        self.url = ""
        self._board = board

    async def run(self) -> None:
        while True:
            await self.ticking.wait()
            self.show.now_s += 1
            self._board.tick()
            await asyncio.sleep(0.1)


@asynccontextmanager
async def served(gpus: int = 16) -> AsyncIterator[Served]:
    show = Showcase(gpus=gpus)
    show.fill()
    board = Board(show.look, show.tallies, Status(refresh_interval_s=0.1, history_s=18.0))
    made = Served(show, board)
    runner = status_runner(show.look, lambda: NO_MODELS, str, board)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            await runner.cleanup()


@asynccontextmanager
async def seen(program: Path, url: str, *, width: int = 1600, scheme: Scheme = "light") -> AsyncIterator[Page]:
    async with browser(program) as running, page(running, url, width=width, scheme=scheme) as opened:
        await expect(opened.locator("#live")).to_have_text("live")
        yield opened


async def test_a_real_daemon_is_shown_live_and_its_end_as_stale(
    daemons: Daemons, odd_ollama: Path, orders: Path, make_driver: MakeDriver, chromium: Path
) -> None:
    driver = make_driver(FakeGpu(used_bytes=8 * GIB), FakeGpu(), FakeGpu())
    config = odd(orders, gpus={"sample_interval_s": 0.1, "cpu_children": 0}, status={"refresh_interval_s": 0.2})
    async with (
        daemons.run(odd_ollama, config, env=driver.env()) as daemon,
        seen(chromium, f"{daemon.status_url}/") as shown,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        await expect(shown.locator("#gpus > li")).to_have_count(3)
        await expect(shown.locator("#children td.phase.good")).to_have_count(3)
        await expect(shown).to_have_title(re.compile("3 of 3 ready"))
        driver.set_utilization(1, 63)
        await expect(shown.locator("#gpus > li").nth(1).locator(".percent")).to_have_text("63 %")

        (orders / "all.gate").touch()
        async with session.post("/api/generate", json={"model": "slow"}) as answer:
            assert b"one" in await answer.content.readany()
            await expect(shown.locator("#streams tr")).to_contain_text(["slow:latest"])
            child = answer.headers["X-Ollamad-Child"]
            (orders / "all.gate").unlink()
            await answer.read()
        served_row = shown.locator("#requests tr").first
        await expect(served_row).to_contain_text("slow:latest")
        await expect(served_row).to_contain_text("served")
        await expect(served_row).to_contain_text(child)

        send_signal((await daemon.child("gpu2"))["pid"], signal.SIGKILL)
        await expect(shown.locator("#events")).to_contain_text("died: killed by SIGKILL")

        async with daemon.operator() as operator:
            (await operator.post("/v1/children/gpu0/drain")).raise_for_status()
        await expect(shown.locator("#children")).to_contain_text("was drained: ollamactl undrain gpu0")
        await daemon.stop()
        await expect(shown.locator("#live")).to_have_text("stale: no news from ollamad")
        await expect(shown.locator("body.stale")).to_have_count(1)
        await expect(shown.locator("#figures")).to_have_css("opacity", "0.45")
        await expect(shown).to_have_title("⚠ ollamad: no news")


async def test_what_concerns_no_single_child_stands_above_all(chromium: Path) -> None:
    async with served(1) as fleet, seen(chromium, fleet.url, width=360) as shown:
        await expect(shown.locator("#notes")).to_be_hidden()
        fleet.show.notes = (f"the disk is nearly full {HOSTILE}",)
        await expect(shown.locator("#notes li")).to_have_text(fleet.show.notes[0])
        fleet.show.notes = ()
        await expect(shown.locator("#notes")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_sixteen_gpus_fit_a_phone_a_tablet_and_a_screen(chromium: Path, scheme: Scheme) -> None:
    async with served() as fleet, browser(chromium) as running:
        for width in (360, 900, 1600):
            async with page(running, fleet.url, width=width, scheme=scheme) as shown:
                await expect(shown.locator("#gpus > li")).to_have_count(16)
                await expect(shown.locator("#children tr")).to_have_count(16)
                over = await shown.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert over <= 0, f"{width} px: it must be scrolled sideways"
                cut = (
                    "[...document.querySelectorAll('.gpu')].filter(card => card.scrollWidth > card.clientWidth).length"
                )
                assert await shown.evaluate(cut) == 0


TEXTS = "h1, h2, dt, dd, th, td, .name, .tag, .readings, .legend span, .trouble, .small, .muted, .good, .warn, .bad"
CONTRASTS = """texts => {
  const rgb = color => color.match(/[\\d.]+/g).slice(0, 3).map(value => value / 255);
  const linear = value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const weighed = (sum, value, i) => sum + value * [.2126, .7152, .0722][i];
  const luminance = color => rgb(color).map(linear).reduce(weighed, 0);
  const clear = node => getComputedStyle(node).backgroundColor === "rgba(0, 0, 0, 0)";
  const ground = node => clear(node) ? ground(node.parentElement) : getComputedStyle(node).backgroundColor;
  const faint = {};
  for (const node of document.querySelectorAll(texts)) {
    if (!node.textContent.trim() || node.closest(".gpu.old .use")) continue;
    const pair = [luminance(getComputedStyle(node).color), luminance(ground(node))].sort((a, b) => b - a);
    const ratio = (pair[0] + .05) / (pair[1] + .05);
    if (ratio < 4.5) faint[node.className || node.tagName] = ratio.toFixed(2);
  }
  return faint;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_stands_out_from_its_ground_as_wcag_aa_asks(chromium: Path, scheme: Scheme) -> None:
    async with served() as fleet, seen(chromium, fleet.url, scheme=scheme) as shown:
        await expect(shown.locator("#requests tr")).to_have_count(24)
        assert await shown.evaluate(CONTRASTS, TEXTS) == {}


async def test_a_name_that_means_harm_is_text_and_nothing_else(chromium: Path) -> None:
    async with served() as fleet, seen(chromium, fleet.url) as shown:
        (line, *_) = HOSTILE.splitlines()
        await expect(shown.locator("#requests")).to_contain_text(line)
        await expect(shown.locator("#streams")).to_contain_text(line)
        await expect(shown.locator("#events")).to_contain_text(line)
        await expect(shown.locator("#gpus")).to_contain_text(line)
        assert await shown.locator("img").count() == 0
        assert await shown.locator("script").count() == 1
        await expect(shown).to_have_title(re.compile("^ollamad: "))


async def test_who_does_not_see_is_told_by_role_and_name_what_there_is(chromium: Path) -> None:
    async with served() as fleet, seen(chromium, fleet.url, width=360) as shown:
        for name in ("Children", "Last requests", "Last events"):
            await expect(shown.get_by_role("region", name=name)).not_to_have_count(0)
        memory = shown.get_by_role(
            "img", name=re.compile("^memory: .* GiB ours, .* GiB foreign, .* free, of 80.0 GiB$")
        )
        await expect(memory.first).to_be_attached()
        await expect(
            shown.get_by_role("img", name="memory: 7.0 GiB used, by whom is not known, 73.0 GiB free, of 80.0 GiB")
        ).to_be_attached()
        past = shown.get_by_role("img", name=re.compile(r"^utilization over the last 18 s: now \d+ %, highest \d+ %$"))
        await expect(past.first).to_be_attached()
        await expect(shown.get_by_role("status")).to_have_text("live")
        await expect(shown.get_by_role("columnheader", name="Models loaded")).to_be_attached()
        assert await shown.get_by_role("row").count() >= 16 + 24


async def test_the_keyboard_reaches_what_scrolls_and_an_update_does_not_take_the_focus_away(chromium: Path) -> None:
    async with served() as fleet, seen(chromium, fleet.url) as shown:
        await expect(shown.locator("#requests tr")).to_have_count(24)
        reached = []
        for _ in range(4):
            await shown.keyboard.press("Tab")
            reached.append(await shown.evaluate("document.activeElement.getAttribute('aria-labelledby')"))
        assert reached == ["children-title", "queue-title", "requests-title", "events-title"]
        await shown.locator("#requests").evaluate(
            "rows => { rows.marked = rows.firstChild; rows.firstChild.marked = true; }"
        )
        ended = await shown.locator("#requests td").first.text_content()
        fleet.show.now_s += 600
        await expect(shown.locator("#requests td").first).not_to_have_text(ended or "")
        assert await shown.evaluate("document.activeElement.getAttribute('aria-labelledby')") == "events-title"
        assert await shown.locator("#requests").evaluate("rows => rows.firstChild.marked"), (
            "the row was mended, not made anew"
        )


async def test_silence_is_shown_as_stale_and_news_as_live_again(chromium: Path) -> None:
    async with served(gpus=1) as fleet, seen(chromium, fleet.url) as shown:
        fleet.ticking.clear()
        await expect(shown.locator("#live")).to_have_text("stale: no news from ollamad")
        fleet.ticking.set()
        await expect(shown.locator("#live")).to_have_text("live")


async def test_a_fleet_without_gpus_says_so(chromium: Path) -> None:
    async with served(gpus=0) as fleet, seen(chromium, fleet.url) as shown:
        await expect(shown.locator("#no-gpus")).to_be_visible()
        await expect(shown.locator("#children tr")).to_have_count(1)


async def test_fifty_viewers_of_a_real_daemon_are_all_told_and_all_let_go_at_its_end(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    config = odd(orders, status={"refresh_interval_s": 0.1, "viewers_max": 50})
    async with daemons.run(odd_ollama, config) as daemon, aiohttp.ClientSession(daemon.status_url) as session:
        answers = [await session.get("/events") for _ in range(50)]
        async with session.get("/events") as refused:
            assert refused.status == 503
        told = [events(answer) for answer in answers]
        for viewer in told:
            assert [(await anext(viewer))[0] for _ in range(4)] == ["past", "look", "look", "look"]
        answers.pop().close()

        async def has_room() -> bool:
            async with session.get("/events") as answer:
                return answer.status == 200

        await until(has_room, daemon.explain)
        await daemon.stop()
        for viewer in told[:-1]:
            async for name, _ in viewer:
                assert name == "look"
