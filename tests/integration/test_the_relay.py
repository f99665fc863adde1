"""What the proxy promises of every response, on children that misbehave on command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.support.daemon import Daemon, Daemons, until
from tests.support.stores import put_model

HALF = b'{"response":"hal'
"""What an odd child writes of a record before it dies; see `cut`."""
ASK = {"model": "m", "prompt": "x"}


class Orders:
    """The orders of the odd children; see `tests/support/odd_ollama.py`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def give(self, *orders: str) -> None:
        for order in orders:
            (self.folder / order).touch()

    def take_back(self, order: str) -> None:
        (self.folder / order).unlink()

    def seen(self) -> list[str]:
        """The children that got an inference request, each as often as it did."""
        return [path.stem for path in sorted(self.folder.glob("*.seen")) for _ in path.read_text().splitlines()]


@pytest.fixture
def orders(tmp_path: Path) -> Orders:
    return Orders(tmp_path / "orders")


def odd(orders: Orders, **tables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The configuration of a daemon over odd children."""
    return {**tables, "ollama": {"env": {"ODD_ORDERS": str(orders.folder)}, **tables.get("ollama", {})}}


@pytest.mark.parametrize("path", ["/api/generate", "/v1/chat/completions"])
async def test_a_record_reaches_the_client_before_the_next_one_is_made(
    daemons: Daemons, odd_ollama: Path, orders: Orders, path: str
) -> None:
    orders.give("all.gate")
    async with (
        daemons.run(odd_ollama, odd(orders)) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
        asyncio.timeout(20),
        session.post(path, json=ASK) as answer,
    ):
        assert b"one" in await answer.content.readany()
        orders.take_back("all.gate")
        assert b"two" in await answer.content.read()


async def test_a_request_without_a_byte_of_answer_goes_to_another_child_when_its_own_dies(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    orders.give("all.wait")
    async with daemons.run(odd_ollama, odd(orders)) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        await daemon.until_ready(2)
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(_post(session, ASK))
            await until(orders.seen)
            first = orders.seen()[0]
            _kill_child(await daemon.child(first))
            orders.take_back("all.wait")
        status, headers, body = asked.result()
        assert (status, headers["X-Ollamad-Child"] != first) == (200, True)
        assert [json.loads(line)["response"] for line in body.splitlines()] == ["one", "two"]


async def test_the_only_child_s_successor_answers_what_its_predecessor_did_not(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    orders.give("all.wait")
    async with (
        daemons.run(odd_ollama, odd(orders, gpus={"cpu_children": 1})) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(_post(session, ASK))
            await until(orders.seen)
            _kill_child(await daemon.child("cpu0"))
            orders.take_back("all.wait")
        assert asked.result()[0] == 200
        assert (await daemon.child("cpu0"))["life"] == 2


async def test_after_the_first_byte_nothing_is_sent_again_and_the_client_is_told_in_band(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    orders.give("all.cut", "all.hold")
    async with (
        daemons.run(odd_ollama, odd(orders)) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
        session.post("/api/generate", json=ASK) as answer,
    ):
        assert json.loads(await answer.content.readline())["response"] == "one"
        assert await answer.content.readexactly(len(HALF)) == HALF
        orders.take_back("all.hold")
        rest = await answer.content.read()
        assert rest.startswith(b"\n"), "the broken record is closed, so that the error is one of its own"
        assert "send the request again" in json.loads(rest)["error"]
        assert len(orders.seen()) == 1


async def test_a_broken_event_stream_ends_with_an_error_event(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    orders.give("all.cut")
    async with daemons.run(odd_ollama, odd(orders)) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        _, _, body = await _post(session, ASK, "/v1/chat/completions")
        last = body.rstrip(b"\n").split(b"\n\n")[-1]
        assert last.startswith(b"data: ")
        assert "send the request again" in json.loads(last.removeprefix(b"data: "))["error"]["message"]


async def test_a_child_that_hangs_up_is_passed_over(daemons: Daemons, odd_ollama: Path, orders: Orders) -> None:
    orders.give("all.wait")
    async with daemons.run(odd_ollama, odd(orders)) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        answers = await _one_to_each(daemon, session, orders, "cpu0.hang-up")
    assert [(status, headers["X-Ollamad-Child"]) for status, headers, _ in answers] == [(200, "cpu1")] * 2


async def test_a_child_that_hangs_up_is_not_asked_the_same_again_though_it_answers_its_probes(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    orders.give("all.wait")
    config = odd(orders, supervision={"resident_interval_s": 0.02})
    async with daemons.run(odd_ollama, config) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        await daemon.until_ready(2)
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(_post(session, ASK)) for _ in range(2)]
            await until(lambda: set(orders.seen()) == {"cpu0", "cpu1"}, daemon.explain)
            orders.give("cpu0.hang-up")
            orders.give("cpu1.wait")
            orders.take_back("all.wait")
            await until(lambda: daemon.said("request sent again"), daemon.explain)
            for _ in range(3):
                await daemon.until_ready(2)  # it answers its probe, and so could be asked
                await asyncio.sleep(0.1)
            orders.take_back("cpu1.wait")
    assert [(answer.result()[0], answer.result()[1]["X-Ollamad-Child"]) for answer in asked] == [(200, "cpu1")] * 2
    assert len(daemon.said("request sent again")) == 1


async def test_a_child_s_500_is_told_only_when_no_other_child_does_better(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    orders.give("all.wait")
    async with daemons.run(odd_ollama, odd(orders)) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        answers = await _one_to_each(daemon, session, orders, "cpu0.refuse")
        assert [(status, headers["X-Ollamad-Child"]) for status, headers, _ in answers] == [(200, "cpu1")] * 2
        orders.give("cpu1.refuse")
        status, headers, body = await _post(session, ASK)
        assert status == 500
        assert json.loads(body) == {"error": f"{headers['X-Ollamad-Child']} can't"}


FORGOTTEN = [("/api/generate", 404, "model 'm' not found"), ("/api/chat", 400, "model is required")]


@pytest.mark.parametrize(("path", "status", "text"), FORGOTTEN)
async def test_a_child_that_for_a_moment_does_not_find_a_model_that_is_there_is_asked_again(
    daemons: Daemons, odd_ollama: Path, orders: Orders, path: str, status: int, text: str
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        put_model(daemon.folder / "models", "m", b"config", b"weights")
        await _post(session, ASK, path)
        (orders.folder / "all.forget").write_text(f"{status} {text}")
        assert (await _post(session, ASK, path))[0] == 200
        assert len(orders.seen()) == 3


@pytest.mark.parametrize(
    ("status", "text", "there"),
    [(404, "model 'm' not found", False), (400, "model is required", False), (400, "invalid options", True)],
)
async def test_an_error_that_is_meant_is_told_at_once(
    daemons: Daemons,
    odd_ollama: Path,
    orders: Orders,
    status: int,
    text: str,
    there: bool,  # noqa: FBT001
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        if there:
            put_model(daemon.folder / "models", "m", b"config", b"weights")
        await _post(session, ASK)
        (orders.folder / "all.forget").write_text(f"{status} {text}")
        told, headers, body = await _post(session, ASK)
        assert (told, json.loads(body), "X-Ollamad-Child" in headers) == (status, {"error": text}, True)
        assert len(orders.seen()) == 2


async def test_a_child_that_goes_on_not_finding_it_is_asked_no_third_time(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        put_model(daemon.folder / "models", "m", b"config", b"weights")
        await _post(session, ASK)
        for name in ("one", "two", "three"):
            (orders.folder / f"{name}.forget").write_text("404 not found")
        assert (await _post(session, ASK))[0] == 404
        assert len(orders.seen()) == 3


async def test_when_every_attempt_fails_the_error_has_the_shape_of_the_api(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    orders.give("all.hang-up")
    async with daemons.run(odd_ollama, odd(orders)) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        status, _, body = await _post(session, ASK)
        assert (status, "no child could answer" in json.loads(body)["error"]) == (502, True)
        assert len(orders.seen()) == 3
        status, _, body = await _post(session, ASK, "/v1/chat/completions")
        assert (status, json.loads(body)["error"]["type"]) == (502, "api_error")
        status, _, body = await _post(session, ASK, "/v1/messages")
        assert (status, json.loads(body)["type"]) == (502, "error")


async def test_while_no_child_is_ready_requests_wait_and_then_are_refused_with_the_reason(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    orders.give("all.exit")
    config = odd(orders, proxy={"ready_wait_s": 0.2}, supervision={"backoff_initial_s": 30.0})
    async with daemons.run(odd_ollama, config) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        await until(lambda: len(daemon.said("child died")) >= 4, daemon.explain)
        status, headers, body = await _post(session, ASK)
        assert (status, "Retry-After" in headers) == (503, True)
        assert "told to fail" in json.loads(body)["error"]


@pytest.mark.parametrize("order", ["all.wait", "all.gate"])
async def test_a_client_that_leaves_before_or_after_the_first_byte_frees_its_slot(
    daemons: Daemons, odd_ollama: Path, orders: Orders, order: str
) -> None:
    orders.give(order)
    async with daemons.run(odd_ollama, odd(orders)) as daemon, aiohttp.ClientSession(daemon.base_url) as session:

        async def held(number: int) -> bool:
            return int((await daemon.status())["in_flight"]) == number

        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(session.post("/api/generate", json=ASK))
            await until(lambda: held(1), daemon.explain)
            await until(orders.seen)
            if order == "all.gate":
                (await asked).close()
            asked.cancel()
        await until(lambda: held(0), daemon.explain)
        await until(lambda: [event for event in daemon.said("request") if event["outcome"] == "client_left"])
        assert not daemon.said("request crashed")


async def test_headers_of_one_connection_stay_on_it_and_all_others_pass(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    path = "/api/new-route?a=%2F"
    sent = {"Connection": "X-Mine", "X-Mine": "1", "Keep-Alive": "5", "TE": "trailers", "X-Other": "2", "Cookie": "a=b"}
    async with daemons.run(odd_ollama, odd(orders)) as daemon, aiohttp.ClientSession() as session:
        url = URL(daemon.base_url + path, encoded=True)
        seen = json.loads((await _ask(session, url, data=b"\x00\xff", headers=sent))[2])
    names = {name.lower(): value for name, value in seen["headers"]}
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/api/new-route?a=%2F", "\x00\xff")
    assert {"x-mine", "keep-alive", "te"}.isdisjoint(names)
    assert (names["x-other"], names["cookie"]) == ("2", "a=b")
    assert names["host"].startswith("127.0.0.1:")


def _logged_as(daemon: Daemon, request_id: str, outcome: str) -> bool:
    """Whether there is one line about this request, and it ended so."""
    about = [event["outcome"] for event in daemon.said("request") if event["request_id"] == request_id]
    return about == [outcome]


async def test_a_request_has_one_id_for_client_child_and_log(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon, aiohttp.ClientSession() as session:
        for given in ({"X-Request-Id": "mine-7"}, {}):
            url = URL(f"{daemon.base_url}/api/new-route")
            async with session.post(url, data=b"x", headers=given) as answer:
                seen, told = await answer.json(), answer.headers.getall("X-Request-Id")
            child = [value for name, value in seen["headers"] if name.lower() == "x-request-id"]
            assert child == told
            assert told == [given["X-Request-Id"]] if given else len(told[0]) == 16
            await until(partial(_logged_as, daemon, told[0], "served"), daemon.explain)
        async with session.post(
            f"{daemon.base_url}/api/chat", data=b"{", headers={"X-Request-Id": "x" * 999}
        ) as answer:
            assert answer.headers["X-Request-Id"] == "x" * 128, "no line of the log is as long as a client likes"


async def test_a_body_that_is_too_large_to_keep_is_refused_with_the_key_to_raise(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    config = odd(orders, proxy={"body_max_bytes": 2000})
    async with daemons.run(odd_ollama, config) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        for body in (b"x" * 2001, _pieces(b"x" * 500, 5)):
            async with session.post("/api/generate", data=body) as answer:
                assert answer.status == 413
                assert "body_max_bytes" in (await answer.json())["error"]
        assert orders.seen() == []


async def test_a_foreign_host_name_is_refused_unless_it_is_allowed(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    config = odd(orders, proxy={"allowed_hosts": ["chat.example.com"]})
    async with daemons.run(odd_ollama, config) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        async with session.get("/api/version", headers={"Host": "evil.example.com"}) as answer:
            assert answer.status == 403
            assert "allowed_hosts" in (await answer.json())["error"]
        async with session.get("/api/version", headers={"Host": "chat.example.com"}) as answer:
            assert answer.status == 200


async def test_at_stop_streams_may_finish_and_new_requests_are_refused(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    orders.give("all.gate")
    config = odd(orders, proxy={"shutdown_grace_s": 20.0})
    async with daemons.run(odd_ollama, config) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        async with session.post("/api/generate", json=ASK) as answer:
            assert b"one" in await answer.content.readany()
            daemon.process.terminate()
            await until(lambda: daemon.said("stopping"))
            assert (await _post(session, ASK))[0] == 503
            orders.take_back("all.gate")
            assert b"two" in await answer.content.read()
        await daemon.stop()


async def test_streams_that_outlast_the_grace_end_with_an_error(
    daemons: Daemons, odd_ollama: Path, orders: Orders
) -> None:
    orders.give("all.gate")
    config = odd(orders, proxy={"shutdown_grace_s": 0.05})
    async with daemons.run(odd_ollama, config) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        async with session.post("/api/generate", json=ASK) as answer:
            assert b"one" in await answer.content.readany()
            daemon.process.terminate()
            rest = await answer.content.read()
            assert "error" in json.loads(rest.splitlines()[-1])
        await daemon.stop()
        assert daemon.said("streams cut")


async def _one_to_each(
    daemon: Daemon, session: aiohttp.ClientSession, orders: Orders, order: str
) -> list[tuple[int, dict[str, str], bytes]]:
    """Send two requests, one of which each child gets; then give the order, and let them answer."""
    await daemon.until_ready(2)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_post(session, ASK)) for _ in range(2)]
        await until(lambda: set(orders.seen()) == {"cpu0", "cpu1"}, daemon.explain)
        orders.give(order)
        orders.take_back("all.wait")
    return [answer.result() for answer in asked]


def _kill_child(child: dict[str, Any]) -> None:
    os.kill(child["pid"], signal.SIGKILL)


async def _post(
    session: aiohttp.ClientSession, body: object, path: str = "/api/generate"
) -> tuple[int, dict[str, str], bytes]:
    return await _ask(session, path, json=body)


async def _ask(session: aiohttp.ClientSession, url: str | URL, **request: Any) -> tuple[int, dict[str, str], bytes]:
    async with session.post(url, **request) as answer:
        return answer.status, dict(answer.headers), await answer.read()


async def _pieces(piece: bytes, count: int) -> Any:
    for _ in range(count):
        yield piece
