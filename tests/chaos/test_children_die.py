"""Deaths under load, on real Ollama children with a reciting model: what clients see, and what is left behind."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.support.daemon import Daemon, Daemons, alive, runners_of, send_signal, until
from tests.support.real_ollama import RECITE
from tests.support.reciting import WORDS, recitation

STREAMS = 50
TOKENS = 500
LONG = 100_000
SILENT_S = 0.1
"""What has been under way from a server when it was stopped is here by now."""
BOTH: dict[str, dict[str, Any]] = {"routing": {"models": {RECITE: {"min_replicas": 2}}}}
"""Both children have the model, whatever routing thinks it is worth."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What a client saw of one stream."""

    child: str
    text: str
    done: bool
    error: str | None


def _ignore(_child: str) -> None:
    return


async def _stream(session: aiohttp.ClientSession, tokens: int, begun: Callable[[str], None] = _ignore) -> Stream:
    """`begun` is told the child when its first byte is here."""
    body = {"model": RECITE, "prompt": "go", "options": {"num_predict": tokens}}
    async with session.post("/api/generate", json=body) as answer:
        assert answer.status == 200, await answer.text()
        begun(answer.headers["X-Ollamad-Child"])
        records = [json.loads(line) async for line in answer.content]
    errors = [record["error"] for record in records if "error" in record]
    text = "".join(record.get("response", "") for record in records)
    done = any(record.get("done") for record in records)
    return Stream(answer.headers["X-Ollamad-Child"], text, done, errors[0] if errors else None)


async def _stopped_in_a_stream(daemon: Daemon, pid: int) -> bool:
    """Stop a server; whether it was in the middle of a stream then. It goes on where it was not."""
    send_signal(pid, signal.SIGSTOP)
    for _ in range(20):
        streams = (await daemon.child("cpu0"))["streams"]
        if any((stream["silent_s"] or 0.0) > SILENT_S for stream in streams):
            return True
        await asyncio.sleep(SILENT_S / 4)
    send_signal(pid, signal.SIGCONT)
    return False


async def test_of_fifty_streams_only_those_begun_on_the_killed_child_are_cut_and_they_are_told(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    async with (
        daemons.run(ollama_binary, BOTH, store=model_store) as daemon,
        aiohttp.ClientSession(daemon.base_url, connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        await _until_loaded(daemon)
        victim = await daemon.child("cpu0")
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(_stream(session, TOKENS)) for _ in range(STREAMS)]
            await until(lambda: sum(stream.done() for stream in asked) >= 4, daemon.explain)
            await until(lambda: _stopped_in_a_stream(daemon, victim["pid"]), daemon.explain)
            send_signal(victim["pid"], signal.SIGKILL)
        streams = [stream.result() for stream in asked]

        cut = [stream for stream in streams if stream.error]
        whole = [stream for stream in streams if not stream.error]
        assert all(stream.done and stream.text == recitation(WORDS, TOKENS) for stream in whole)
        assert all("gone" in str(stream.error) and not stream.done for stream in cut)
        assert all(recitation(WORDS, TOKENS).startswith(stream.text) for stream in cut)
        assert {stream.child for stream in cut} <= {"cpu0"}
        assert 1 <= len(cut) <= 2, "one slot a child: one stream was under way, another may have just begun"

        await _until_loaded(daemon, 3)
        back = await daemon.child("cpu0")
        assert (back["life"], back["deaths"], back["pid"] != victim["pid"]) == (2, 1, True)
        again = await asyncio.gather(*(_stream(session, 20) for _ in range(6)))
        assert {stream.child for stream in again} == {"cpu0", "cpu1"}


async def test_a_normal_stop_leaves_no_process(daemons: Daemons, ollama_binary: Path, model_store: Path) -> None:
    async with daemons.run(ollama_binary, BOTH, store=model_store) as daemon:
        processes = await _with_loaded_models(daemon)
        await daemon.stop()
        assert alive(processes) == []
        assert alive(daemon.all_processes()) == []


async def test_an_interrupt_in_the_middle_of_streams_leaves_no_process(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    async with (
        daemons.run(ollama_binary, {**BOTH, "proxy": {"shutdown_grace_s": 0.1}}, store=model_store) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        processes = await _with_loaded_models(daemon)
        async with asyncio.TaskGroup() as tasks:
            begun: list[str] = []
            asked = [tasks.create_task(_stream(session, LONG, begun.append)) for _ in range(2)]
            await until(lambda: len(begun) == len(asked), daemon.explain)
            send_signal(daemon.process.pid, signal.SIGINT)
        assert all(stream.result().error for stream in asked)
        await daemon.stop()
        assert alive(processes) == []


async def test_a_killed_child_takes_its_runner_with_it(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    async with daemons.run(ollama_binary, BOTH, store=model_store) as daemon:
        await _with_loaded_models(daemon)
        before = await daemon.child("cpu0")
        lost = [psutil.Process(before["pid"]), *runners_of(before["pid"])]
        assert len(lost) == 2
        send_signal(before["pid"], signal.SIGKILL)

        async def back() -> bool:
            child = await daemon.child("cpu0")
            return bool(child["routable"]) and child["life"] == 2

        await until(back, daemon.explain)
        assert alive(lost) == []
        ours = psutil.Process(daemon.process.pid).children(recursive=True)
        assert [process for process in ours if process.status() == psutil.STATUS_ZOMBIE] == [], "adopted and not reaped"


async def test_a_killed_runner_costs_its_stream_and_nothing_else(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    config = {"gpus": {"cpu_children": 1}}
    async with (
        daemons.run(ollama_binary, config, store=model_store) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        await daemon.until_ready(1)
        await _stream(session, 1)
        server = (await daemon.child("cpu0"))["pid"]
        begun: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(_stream(session, LONG, begun.append))
            await until(lambda: begun, daemon.explain)
            send_signal(runners_of(server)[0].pid, signal.SIGKILL)
        cut = asked.result()
        assert (bool(cut.error), cut.done) == (True, False)
        assert recitation(WORDS, LONG).startswith(cut.text)
        assert (await _stream(session, 20)).text == recitation(WORDS, 20)
        child = await daemon.child("cpu0")
        assert (child["pid"], child["deaths"]) == (server, 0)


async def test_a_killed_runner_ends_no_stream_in_silence_though_ollama_itself_would(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    """Under /v1/ the packaged Ollama ends such a stream without [DONE], and as if it were whole."""
    asked = {"model": RECITE, "messages": [{"role": "user", "content": "go"}], "max_tokens": LONG, "stream": True}
    async with (
        daemons.run(ollama_binary, {"gpus": {"cpu_children": 1}}, store=model_store) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        await daemon.until_ready(1)
        async with session.post("/v1/chat/completions", json=asked) as answer:
            await answer.content.readline()
            send_signal(runners_of((await daemon.child("cpu0"))["pid"])[0].pid, signal.SIGKILL)
            events = (await answer.read()).decode().strip().split("\n\n")
        assert "can't be continued" in json.loads(events[-1].strip().removeprefix("data: "))["error"]["message"]
        await until(lambda: daemon.said("request"), daemon.explain)
        (told,) = daemon.said("request")
        assert (told["outcome"], told["error"]) == ("broken", "ended without its last record")


async def test_a_frozen_child_is_replaced_and_what_it_had_not_begun_is_answered_by_another(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    config = {**BOTH, "supervision": {"probe_timeout_s": 0.3, "resident_interval_s": 0.1}}
    async with (
        daemons.run(ollama_binary, config, store=model_store) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        await _with_loaded_models(daemon)
        frozen = await daemon.child("cpu0")
        lost = [psutil.Process(frozen["pid"]), *runners_of(frozen["pid"])]
        send_signal(frozen["pid"], signal.SIGSTOP)
        streams = await asyncio.gather(*(_stream(session, 20) for _ in range(4)))
        assert [(stream.text, stream.done) for stream in streams] == [(recitation(WORDS, 20), True)] * 4
        await until(lambda: daemon.said("child died"), daemon.explain)
        assert "did not answer 3 probes" in daemon.said("child died")[0]["reason"]
        await daemon.until_ready(2)
        assert alive(lost) == []


PROBED: dict[str, Any] = {"probe_timeout_s": 0.3, "resident_interval_s": 0.1, "misses_max": 1000}
"""A child that leaves probes unanswered is not ended: what happens before that is seen alone."""


async def test_what_a_frozen_child_has_not_begun_is_answered_by_another_before_it_is_replaced(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    async with (
        daemons.run(ollama_binary, {**BOTH, "supervision": PROBED}, store=model_store) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        await _with_loaded_models(daemon)
        frozen = await daemon.child("cpu0")
        send_signal(frozen["pid"], signal.SIGSTOP)
        streams = await asyncio.gather(*(_stream(session, 20) for _ in range(4)))
        assert [(stream.child, stream.text, stream.done) for stream in streams] == [
            ("cpu1", recitation(WORDS, 20), True)
        ] * 4
        told = daemon.said("child leaves probes unanswered")
        assert sum(event["requests_moved"] for event in told) >= 1
        reasons = {event["reason"] for event in daemon.said("request sent again")}
        assert reasons == {"its child leaves probes unanswered"}

        send_signal(frozen["pid"], signal.SIGCONT)
        await daemon.until_ready(2)
        awake = await daemon.child("cpu0")
        assert (awake["pid"], awake["life"], awake["in_flight"]) == (frozen["pid"], 1, 0)
        again = await asyncio.gather(*(_stream(session, 20) for _ in range(6)))
        assert {stream.child for stream in again} == {"cpu0", "cpu1"}


async def test_with_nobody_else_to_ask_a_frozen_child_is_waited_for(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    config = {**BOTH, "gpus": {"cpu_children": 1}, "supervision": PROBED}
    async with (
        daemons.run(ollama_binary, config, store=model_store) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        await daemon.until_ready(1)
        await _stream(session, 1)
        frozen = await daemon.child("cpu0")
        send_signal(frozen["pid"], signal.SIGSTOP)
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(_stream(session, 20))
            await until(lambda: len(daemon.said("child leaves probes unanswered")) >= 2, daemon.explain)
            assert not asked.done()
            send_signal(frozen["pid"], signal.SIGCONT)
        assert (asked.result().child, asked.result().text) == ("cpu0", recitation(WORDS, 20))
        assert not daemon.said("request sent again")
        assert {event["requests_moved"] for event in daemon.said("child leaves probes unanswered")} == {0}


async def test_a_killed_ollamad_takes_everything_with_it(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    async with daemons.run(ollama_binary, BOTH, store=model_store) as daemon:
        processes = await _with_loaded_models(daemon)
        assert len(processes) == 6, "ollamad, its warden, two children, two runners"
        send_signal(daemon.process.pid, signal.SIGKILL)
        await daemon.process.wait()
        await until(lambda: alive(processes) == [])
        assert alive(daemon.all_processes()) == []


async def test_what_a_killed_ollamad_and_its_killed_warden_left_is_ended_at_the_next_start_and_nothing_else(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    unrelated = await asyncio.create_subprocess_exec(
        "sleep", "600", env={"OLLAMAD_INSTANCE": "1-2-3", "OLLAMAD_CHILD": "cpu0"}
    )
    try:
        async with (
            daemons.run(ollama_binary, BOTH, store=model_store) as neighbour,
            daemons.run(ollama_binary, BOTH, store=model_store) as daemon,
        ):
            left = await _with_loaded_models(daemon)
            await neighbour.until_ready(2)
            warden = _warden_of(daemon)
            send_signal(warden.pid, signal.SIGSTOP)
            send_signal(daemon.process.pid, signal.SIGKILL)
            send_signal(warden.pid, signal.SIGKILL)
            await daemon.process.wait()
            await until(lambda: len(alive(left)) == 2)
            left = alive(left)
            assert all("runner" in process.cmdline() for process in left), "the servers died with their parent"
            async with daemons.run(ollama_binary, BOTH, store=model_store) as successor:
                await successor.until_ready(2)
                assert alive(left) == []
                ended = {event["pid"] for event in successor.said("ended what a killed ollamad left")}
                assert ended == {process.pid for process in left}
            assert [child["deaths"] for child in (await neighbour.status())["children"]] == [0, 0]
        assert unrelated.returncode is None
    finally:
        unrelated.kill()
        await unrelated.wait()


async def test_a_killed_warden_is_replaced_and_does_its_work(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    async with daemons.run(ollama_binary, BOTH, store=model_store) as daemon:
        await daemon.until_ready(2)
        first = _warden_of(daemon)
        first.kill()
        await until(lambda: daemon.said("warden died, starting another"))
        await until(lambda: [child for child in _wardens_of(daemon) if child != first])
        processes = await _with_loaded_models(daemon)
        send_signal(daemon.process.pid, signal.SIGKILL)
        await daemon.process.wait()
        await until(lambda: alive(processes) == [])


async def _until_loaded(daemon: Daemon, loads: int = 2) -> None:
    """Until ollamad has loaded so many; `/api/ps` has a model already while it loads."""
    await until(lambda: len(daemon.said("model loaded")) >= loads, daemon.explain)


async def _with_loaded_models(daemon: Daemon) -> list[psutil.Process]:
    """Wait for the model on both children, and use it; gives every process there is then."""
    await _until_loaded(daemon)
    async with aiohttp.ClientSession(daemon.base_url) as session:
        streams = await asyncio.gather(*(_stream(session, 200) for _ in range(2)))
    assert {stream.child for stream in streams} == {"cpu0", "cpu1"}
    return daemon.all_processes()


def _wardens_of(daemon: Daemon) -> list[psutil.Process]:
    children = psutil.Process(daemon.process.pid).children()
    return [child for child in alive(children) if any("warden" in word for word in child.cmdline())]


def _warden_of(daemon: Daemon) -> psutil.Process:
    return _wardens_of(daemon)[0]
