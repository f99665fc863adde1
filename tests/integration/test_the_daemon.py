"""How the daemon starts, refuses to start, and stops."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from ollamad.demo.parts import default_cache
from tests.support.daemon import Daemons, alive, send_signal, until
from tests.support.orders import odd
from tests.support.real_ollama import RECITE, free_port


async def ollamad(*arguments: str, env: dict[str, str] | None = None, home: Path) -> tuple[int, str, str]:
    """Run one command to its end; gives exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ollamad", *arguments),
        env={"PATH": os.environ["PATH"], "HOME": str(home), "OLLAMAD_SOCKET": str(home / "s"), **(env or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_an_address_in_use_is_refused_with_its_holder_and_a_way_out(odd_ollama: Path, tmp_path: Path) -> None:
    squatter = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with squatter:
        port = squatter.sockets[0].getsockname()[1]
        status, out, err = await ollamad(
            *("serve", "--set", f"proxy.listen=127.0.0.1:{port}", "--set", "status.listen=127.0.0.1:0"),
            *("--set", f"ollama.binary={odd_ollama}"),
            home=tmp_path,
        )
    assert (status, out) == (1, "")
    assert f"can't listen on 127.0.0.1:{port} ([proxy] listen): address already in use (pid" in err
    assert f"(pid {os.getpid()}, " in err
    assert "--set proxy.listen=" in err


async def test_without_an_ollama_it_says_how_to_come_by_one(tmp_path: Path) -> None:
    status, _, err = await ollamad("serve", env={"PATH": str(tmp_path)}, home=tmp_path)
    assert status == 1
    assert "no program 'ollama' on PATH" in err
    assert "ollamad demo" in err


async def test_a_required_gpu_that_is_not_there_stops_the_start_and_says_why(odd_ollama: Path, tmp_path: Path) -> None:
    status, _, err = await ollamad(
        *("serve", "--set", "gpus.require_gpu=true", "--set", f"ollama.binary={odd_ollama}"), home=tmp_path
    )
    assert status == 1
    assert "no NVIDIA driver" in err


async def test_a_bad_configuration_starts_nothing_and_tells_all_its_problems(odd_ollama: Path, tmp_path: Path) -> None:
    orders = tmp_path / "orders"
    orders.mkdir()
    config = tmp_path / "c.toml"
    config.write_text(
        f'[proxy]\nlisten = "nowhere"\n[ollama]\nbinary = "{odd_ollama}"\nnum_paralel = 2\n'
        f'[ollama.env]\nODD_ORDERS = "{orders}"\n[gpus]\ncpu_children = -1\n'
    )
    status, out, err = await ollamad("serve", "--config", str(config), home=tmp_path)
    assert (status, out) == (2, "")
    assert err.startswith("ollamad: 3 problems in the configuration:")
    assert f'proxy.listen = "nowhere" ({config}:2): expected "HOST:PORT"' in err
    assert f'ollama.num_paralel = 2 ({config}:5): there is no such key, did you mean "num_parallel"?' in err
    assert f"gpus.cpu_children = -1 ({config}:9)" in err


async def test_a_full_disk_under_the_log_costs_the_log_and_nothing_else(odd_ollama: Path, tmp_path: Path) -> None:
    (tmp_path / "orders").mkdir()
    proxy = f"127.0.0.1:{free_port()}"
    full = os.open("/dev/full", os.O_WRONLY)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ollamad", "serve", "--set", f"proxy.listen={proxy}"),
        *("--set", "status.listen=127.0.0.1:0", "--set", f"ollama.binary={odd_ollama}"),
        *("--set", f'ollama.env={{ODD_ORDERS = "{tmp_path}/orders"}}', "--set", "log.level=debug"),
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OLLAMAD_SOCKET": str(tmp_path / "s")},
        stderr=full,
    )
    os.close(full)
    try:
        async with aiohttp.ClientSession() as session:

            async def answers() -> bool:
                assert process.returncode is None
                with suppress(aiohttp.ClientConnectionError):
                    async with session.get(f"http://{proxy}/api/version") as answer:
                        return answer.status == 200
                return False

            await until(answers)
        process.terminate()
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()


async def test_a_second_interrupt_hurries(daemons: Daemons, odd_ollama: Path, orders: Path) -> None:
    (orders / "all.gate").touch()
    config = odd(orders, proxy={"shutdown_grace_s": 600.0})
    async with daemons.run(odd_ollama, config) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        async with session.post("/api/generate", json={"model": "m"}) as answer:
            assert b"one" in await answer.content.readany()
            send_signal(daemon.process.pid, signal.SIGINT)
            await until(lambda: daemon.said("stopping"))
            send_signal(daemon.process.pid, signal.SIGINT)
            assert b"error" in await answer.content.read()
        await daemon.stop()
        (stopping,) = daemon.said("stopping")
        assert (stopping["streams"], stopping["advice"]) == (1, "a second signal cuts them")
        assert daemon.said("streams cut")[0]["reason"] == "a second signal"


async def test_while_load_balancers_are_given_notice_requests_are_still_taken(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "all.gate").touch()
    async with (
        daemons.run(odd_ollama, odd(orders, proxy={"shutdown_notice_s": 600.0})) as daemon,
        aiohttp.ClientSession() as session,
    ):
        await daemon.until_ready(2)
        send_signal(daemon.process.pid, signal.SIGTERM)
        await until(lambda: daemon.said("stopping"))
        assert daemon.said("stopping")[0]["notice_s"] == 600.0
        async with session.get(f"{daemon.status_url}/readyz") as answer:
            assert answer.status == 503
        async with session.post(f"{daemon.base_url}/api/generate", json={"model": "m"}) as answer:
            assert answer.status == 200
            send_signal(daemon.process.pid, signal.SIGTERM)
            assert b"error" in await answer.content.read()
        await daemon.stop()
        assert daemon.said("streams cut")[0]["reason"] == "a second signal"


async def test_where_nothing_is_under_way_a_second_signal_ends_the_notice_and_cuts_nothing(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with daemons.run(odd_ollama, odd(orders, proxy={"shutdown_notice_s": 600.0})) as daemon:
        await daemon.until_ready(2)
        send_signal(daemon.process.pid, signal.SIGTERM)
        await until(lambda: daemon.said("stopping"))
        await daemon.stop()
        assert daemon.said("streams cut") == []


async def test_an_interrupt_more_kills_children_that_take_their_time(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "all.stubborn").touch()
    config: dict[str, dict[str, Any]] = {
        "proxy": {"shutdown_grace_s": 600.0},
        "ollama": {"env": {"ODD_ORDERS": str(orders)}, "stop_timeout_s": 600.0},
    }
    async with daemons.run(odd_ollama, config) as daemon:
        await daemon.until_ready(2)
        processes = daemon.all_processes()
        send_signal(daemon.process.pid, signal.SIGINT)
        await until(lambda: daemon.said("stopping"))
        send_signal(daemon.process.pid, signal.SIGINT)
        send_signal(daemon.process.pid, signal.SIGINT)
        async with asyncio.timeout(30):
            assert await daemon.process.wait() == 0
        assert daemon.said("children abandoned")[0]["reason"] == "a signal"
        assert alive(processes) == []


async def test_nothing_of_the_daemon_s_environment_leaks_into_a_child(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    env = {"SECRET": "1", "OLLAMA_ORIGINS": "*", "HTTP_PROXY": "http://127.0.0.1:9", "LANG": "C.UTF-8"}
    config = {"ollama": {"env": {"OLLAMA_FLASH_ATTENTION": "1"}}}
    async with daemons.run(ollama_binary, config, store=model_store, env=env) as daemon:
        await daemon.until_ready(2)
        children = [psutil.Process(child["pid"]) for child in (await daemon.status())["children"]]
        environments = [child.environ() for child in children]
        assert [os.getsid(child.pid) for child in children] == [child.pid for child in children]
    for seen in environments:
        assert {"SECRET", "OLLAMA_ORIGINS", "HTTP_PROXY"}.isdisjoint(seen)
        assert (seen["LANG"], seen["OLLAMA_FLASH_ATTENTION"], seen["OLLAMA_NOPRUNE"]) == ("C.UTF-8", "1", "1")
    differing = {name for name in environments[0] if environments[0][name] != environments[1][name]}
    assert differing == {"OLLAMAD_CHILD", "OLLAMA_HOST"}


async def test_a_client_that_goes_away_stops_the_runner_at_once(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    config = {"gpus": {"cpu_children": 1}}
    async with (
        daemons.run(ollama_binary, config, store=model_store) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        request = {"model": RECITE, "prompt": "go", "options": {"num_predict": 100_000}}
        answer = await session.post("/api/generate", json=request)
        assert b"w0" in await answer.content.readany()
        answer.close()
        # One slot: the next request is answered only because the first one is no longer being generated.
        short = {**request, "options": {"num_predict": 1}, "stream": False}
        async with asyncio.timeout(20), session.post("/api/generate", json=short) as after:
            assert after.status == 200
        assert (await daemon.status())["in_flight"] == 0


async def test_the_demo_on_an_empty_home_prints_a_line_that_chats_when_it_is_pasted(tmp_path: Path) -> None:
    # The download is the cache's affair and tested with it; the store is the demo's own.
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "ollamad").symlink_to(default_cache(), target_is_directory=True)
    store = tmp_path / "store"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ollamad", "demo", "--real", "--set", f"models.path={store}"),
        *("--set", f"proxy.listen=127.0.0.1:{free_port()}", "--set", "status.listen=127.0.0.1:0"),
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "OLLAMAD_SOCKET": str(tmp_path / "s"),
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    family = [psutil.Process(process.pid)]
    try:
        async with asyncio.timeout(100):
            text = (await process.stdout.readuntil(b"Ctrl-C stops it.")).decode()
            pasted = shlex.split(next(line for line in text.splitlines() if line.strip().startswith("curl ")))
            curl = await asyncio.create_subprocess_exec(*pasted, "-sS", stdout=asyncio.subprocess.PIPE)
            records = [json.loads(line) for line in (await curl.communicate())[0].splitlines()]
        assert records[-1]["done"]
        assert re.search(r"[a-z]{3}", "".join(record["message"]["content"] for record in records))
        family += family[0].children(recursive=True)
        assert len(family) == 5, "ollamad, its warden, two children, one runner"
        send_signal(process.pid, signal.SIGINT)
        async with asyncio.timeout(30):
            assert await process.wait() == 0
        assert alive(family) == []
    finally:
        for left in alive(family):
            left.kill()
        await process.wait()
