"""What is measured on a real daemon, and what a real Prometheus makes of it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.support.daemon import Daemon, Daemons, send_signal, until
from tests.support.fake_nvml import GIB, FakeGpu, MakeDriver, fake_nvml_library, make_driver
from tests.support.orders import odd
from tests.support.prometheus import ALERTS, DOCS, complaint, prometheus, prometheus_program, promtool
from tests.support.real_ollama import RECITE
from tests.support.schema import complaints

__all__ = ["fake_nvml_library", "make_driver", "prometheus_program", "promtool"]

WORDS: Final = 100
"""Ollama 0.5.4 tells in whole milliseconds how long it generated: a few tokens of a tiny model may take it none."""


async def page(daemon: Daemon) -> str:
    async with aiohttp.ClientSession(daemon.status_url) as session, session.get("/metrics") as answer:
        return await answer.text()


async def sample(daemon: Daemon, name: str) -> float | None:
    """The value of the sample that is written so, labels included."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", await page(daemon), re.MULTILINE)
    return None if found is None else float(found[1])


async def ask(session: aiohttp.ClientSession, model: str = RECITE, count: int = 5) -> int:
    request = {"model": model, "prompt": "go", "options": {"num_predict": count}}
    async with session.post("/api/generate", json=request) as answer:
        await answer.read()
        return answer.status


async def test_a_real_daemon_s_metrics_please_promtool_and_count_what_happened(
    daemons: Daemons, ollama_binary: Path, model_store: Path, make_driver: MakeDriver, promtool: Path
) -> None:
    driver = make_driver(FakeGpu(used_bytes=3 * GIB, utilization_percent=40))
    gpus = {"cpu_children": "auto", "sample_interval_s": 0.05}
    async with daemons.run(ollama_binary, {"gpus": gpus}, store=model_store, env=driver.env()) as daemon:
        await daemon.until_ready(1)
        async with aiohttp.ClientSession(daemon.base_url) as session:
            assert await ask(session, count=WORDS) == 200
            for number in range(30):
                assert await ask(session, f"invented-{number}") == 404
        served = f'ollamad_requests_total{{model="{RECITE}",child="gpu0",outcome="served"}}'
        await until(lambda: sample(daemon, served), daemon.explain)
        invented = 'ollamad_requests_total{model="other",child="gpu0",outcome="served"}'
        await until(lambda: sample(daemon, invented), daemon.explain)
        text = await page(daemon)
        assert complaint(promtool, "check", "metrics", text=text) == ""
        assert "invented" not in text
        assert await sample(daemon, invented) == 30
        assert await sample(daemon, f'ollamad_request_first_byte_seconds_count{{model="{RECITE}"}}') == 1
        assert await sample(daemon, f'ollamad_output_tokens_total{{model="{RECITE}"}}') == WORDS
        assert await sample(daemon, f'ollamad_output_tokens_per_second_count{{model="{RECITE}"}}') == 1
        assert await sample(daemon, f'ollamad_model_load_seconds_count{{model="{RECITE}"}}') == 1
        gpu = (await daemon.child("gpu0"))["gpus"][0]
        labels = f'gpu="0",uuid="{gpu["uuid"]}"'
        assert await sample(daemon, f"ollamad_gpu_utilization_ratio{{{labels}}}") == 0.4
        assert await sample(daemon, f"ollamad_gpu_memory_total_bytes{{{labels}}}") == 80 * GIB
        assert complaints(await daemon.page()) == [], "the schema describes a real daemon's answer"


async def test_a_killed_child_is_a_death_by_its_cause_and_what_it_streamed_is_a_broken_request(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "all.gate").touch()
    async with (
        daemons.run(odd_ollama, odd(orders, gpus={"cpu_children": 1})) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        await daemon.until_ready(1)
        async with session.post("/api/generate", json={"model": "m"}) as answer:
            assert b"one" in await answer.content.readany()
            send_signal((await daemon.child("cpu0"))["pid"], signal.SIGKILL)
            assert b"error" in await answer.content.read()
        died = 'ollamad_child_deaths_total{child="cpu0",cause="exited"}'
        await until(lambda: sample(daemon, died), daemon.explain)
        assert await sample(daemon, died) == 1
        broken = 'ollamad_requests_total{model="m:latest",child="cpu0",outcome="broken"}'
        await until(lambda: sample(daemon, broken), daemon.explain)
        await daemon.until_ready(1)
        await until(lambda: sample(daemon, 'ollamad_child_starts_total{child="cpu0"}'), daemon.explain)


async def test_retries_refusals_and_clients_that_leave_are_told_apart(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        await daemon.until_ready(2)
        (orders / "cpu0.refuse").touch()
        (orders / "cpu1.refuse").touch()
        assert await ask(session, "m") == 500
        (orders / "cpu0.refuse").unlink()
        (orders / "cpu1.refuse").unlink()
        await until(lambda: sample(daemon, "ollamad_request_retries_total"), daemon.explain)
        async with session.get("/debug/x") as answer:
            assert answer.status == 404
        await until(lambda: sample(daemon, 'ollamad_requests_refused_total{reason="bad_request"}'), daemon.explain)
        (orders / "all.gate").touch()
        left = await session.post("/api/generate", json={"model": "m"})
        child = left.headers["X-Ollamad-Child"]
        left.close()
        gone = f'ollamad_requests_total{{model="m:latest",child="{child}",outcome="client_left"}}'
        await until(lambda: sample(daemon, gone), daemon.explain)
        text = await page(daemon)
        assert re.search(r'^ollamad_requests_total\{.*outcome="child_error"\} 1$', text, re.MULTILINE)


async def test_a_real_prometheus_scrapes_it_and_judges_the_alert_rules(
    daemons: Daemons, odd_ollama: Path, orders: Path, tmp_path: Path, prometheus_program: Path
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon:
        await daemon.until_ready(2)
        target = daemon.status_url.removeprefix("http://")
        async with prometheus(prometheus_program, tmp_path, target) as server:

            async def sees(query: str, value: float) -> bool:
                return await server.value(query) == value

            await until(lambda: sees("sum(ollamad_child_routable)", 2), daemon.explain)
            (scraped,) = (await server.asked("targets"))["activeTargets"]
            assert (scraped["health"], scraped["lastError"]) == ("up", "")

            async def judged() -> bool:
                rules = (await server.asked("rules"))["groups"][0]["rules"]
                return all(rule["health"] == "ok" for rule in rules)

            await until(judged, daemon.explain)


def test_the_alert_rules_are_ones(promtool: Path) -> None:
    assert complaint(promtool, "check", "rules", ALERTS) == ""


SERIES: dict[str, list[tuple[str, str]]] = {
    "OllamadDown": [('up{job="ollamad",instance="h"}', "0x60")],
    "OllamadNotReady": [('ollamad_ready{instance="h"}', "0x60"), ('ollamad_stopping{instance="h"}', "0x60")],
    "OllamadRefusesRequests": [('ollamad_requests_refused_total{instance="h",reason="queue_full"}', "0+60x60")],
    "OllamadRequestsFail": [
        ('ollamad_requests_total{instance="h",model="m",child="gpu0",outcome="broken"}', "0+10x60"),
        ('ollamad_requests_total{instance="h",model="m",child="gpu0",outcome="served"}', "0+90x60"),
    ],
    "OllamadSlowQueue": [
        ('ollamad_request_queue_seconds_bucket{instance="h",model="m",le="30"}', "0+1x60"),
        ('ollamad_request_queue_seconds_bucket{instance="h",model="m",le="60"}', "0+9x60"),
        ('ollamad_request_queue_seconds_bucket{instance="h",model="m",le="+Inf"}', "0+9x60"),
    ],
    "OllamadChildFailed": [('ollamad_child_phase{instance="h",child="gpu0",phase="failed"}', "1x60")],
    "OllamadChildDiesOften": [('ollamad_child_deaths_total{instance="h",child="gpu0",cause="stuck"}', "0+1x60")],
    "OllamadChildNotServing": [
        ('ollamad_child_wanted{instance="h",child="gpu0"}', "1x60"),
        ('ollamad_child_routable{instance="h",child="gpu0"}', "0x60"),
    ],
    "OllamadPinningFault": [('ollamad_child_pinning_fault{instance="h",child="gpu0"}', "1x60")],
    "OllamadGpuQuarantined": [('ollamad_gpu_quarantined{instance="h",gpu="0",uuid="GPU-1"}', "1x60")],
    "OllamadGpuGivesNoReadings": [('ollamad_gpu_up{instance="h",gpu="0",uuid="GPU-1"}', "0x60")],
    "OllamadForeignMemory": [
        ('ollamad_gpu_memory_bytes{instance="h",gpu="0",uuid="GPU-1",use="foreign"}', "30x60"),
        ('ollamad_gpu_memory_total_bytes{instance="h",gpu="0",uuid="GPU-1"}', "80x60"),
    ],
    "OllamadChildOutdated": [('ollamad_child_outdated{instance="h",child="gpu0"}', "1x1500")],
}
QUIET: list[tuple[str, str]] = [
    ('up{job="ollamad",instance="h"}', "1x1500"),
    ('ollamad_ready{instance="h"}', "1x1500"),
    ('ollamad_requests_refused_total{instance="h",reason="bad_request"}', "0+60x60"),
    ('ollamad_requests_total{instance="h",model="m",child="gpu0",outcome="served"}', "0+90x60"),
    ('ollamad_child_wanted{instance="h",child="gpu0"}', "0x60"),
    ('ollamad_child_routable{instance="h",child="gpu0"}', "0x60"),
    ('ollamad_child_outdated{instance="h",child="gpu0"}', "0x1500"),
]


def _fires(alert: str, series: list[tuple[str, str]], minute: int, labels: list[dict[str, str]]) -> dict[str, object]:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": len(labels)}] if labels else [],
            }
        ],
    }


def test_each_alert_fires_on_what_it_is_for_and_none_on_a_quiet_day(promtool: Path, tmp_path: Path) -> None:
    cases = [
        _fires(name, series, 1490 if name == "OllamadChildOutdated" else 50, [{}]) for name, series in SERIES.items()
    ]
    cases += [_fires(name, QUIET, 50, []) for name in SERIES]
    (tmp_path / "tests.yml").write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": cases}))
    assert complaint(promtool, "test", "rules", tmp_path / "tests.yml") == ""
    assert set(re.findall(r"alert: (\w+)", ALERTS.read_text())) == set(SERIES), "each has its case here"


@pytest.mark.parametrize("file", ["alerts.yml", "grafana-dashboard.json", "STATUS.md"])
async def test_what_the_docs_ask_prometheus_for_is_there_to_be_had(
    daemons: Daemons, odd_ollama: Path, orders: Path, file: str
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon:
        families = set(re.findall(r"^# TYPE (\S+)", await page(daemon), re.MULTILINE))
    text = (DOCS / file).read_text()
    asked = set(re.findall(r"\b(?:ollamad|process)_[a-z_]+\b(?=[{\[ =`])", text))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} - families == set()
    assert len(asked) > 10
