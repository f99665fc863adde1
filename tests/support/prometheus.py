"""A real Prometheus, Debian's: its linter, its judge of alert rules, and the server itself, scraping."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from ollamad.demo.parts import default_cache
from tests.support.daemon import until
from tests.support.debian import debian_program
from tests.support.real_ollama import free_port

DOCS: Final = Path(__file__).parents[2] / "docs"
ALERTS: Final = DOCS / "alerts.yml"


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The linter."""
    return debian_program("prometheus", "usr/bin/promtool", default_cache() / "debian")


@pytest.fixture(scope="session")
def prometheus_program() -> Path:
    """The server."""
    return debian_program("prometheus", "usr/bin/prometheus", default_cache() / "debian")


def complaint(promtool: Path, *arguments: str | Path, text: str = "") -> str:
    """What promtool has to say against something; empty where nothing."""
    done = subprocess.run([promtool, *arguments], input=text, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 and not done.stderr else f"{done.returncode}: {done.stdout}{done.stderr}"


class Prometheus:
    """One running server."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def asked(self, path: str, **parameters: str) -> Any:
        """The data of its answer; None while it has none."""
        with suppress(aiohttp.ClientConnectionError):
            async with self._session.get(f"{self._url}/api/v1/{path}", params=parameters) as answer:
                if answer.status == 200:
                    return (await answer.json())["data"]
        return None

    async def value(self, query: str) -> float | None:
        """The one value that a query has now; None while it has none."""
        data = await self.asked("query", query=query)
        found = data["result"] if data else []
        return float(found[0]["value"][1]) if found else None


@asynccontextmanager
async def prometheus(program: Path, folder: Path, target: str) -> AsyncIterator[Prometheus]:
    """A server that scrapes `target` once a second and judges our alert rules, until the block ends."""
    port = free_port()
    scrape = {"job_name": "ollamad", "static_configs": [{"targets": [target]}]}
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [scrape],
    }
    (folder / "prometheus.yml").write_text(json.dumps(settings))  # JSON is YAML
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"),
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as session:
            server = Prometheus(f"http://127.0.0.1:{port}", session)
            await until(lambda: server.asked("status/buildinfo"), (folder / "prometheus.log").read_text)
            yield server
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
