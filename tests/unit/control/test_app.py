"""The control face over its real socket, children in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from ollamad.config.schema import Control
from ollamad.control.endpoints import ENDPOINTS
from ollamad.errors import ConfigError, OperationFailed, Problem
from ollamad.status.view import status
from tests.support.control_face import Face, Puppets, face


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Face]:
    async with face(tmp_path / "control.sock") as found:
        yield found


async def records(answer: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    return [json.loads(line) async for line in answer.content]


async def test_status_is_the_status_document_with_the_daemon_in_it(here: Face) -> None:
    code, told = await here.ask("GET", "/v1/status")
    assert code == 200
    daemon = told.pop("daemon")
    assert told == status(here.puppets.snapshot())
    assert daemon["socket"] == str(here.path)


async def test_children_all_or_one(here: Face) -> None:
    _, all_of_them = await here.ask("GET", "/v1/children")
    assert [child["id"] for child in all_of_them["children"]] == ["gpu0", "gpu1"]
    assert await here.ask("GET", "/v1/children/gpu1") == (200, all_of_them["children"][1])


async def test_an_unknown_child_is_404_with_one_that_is_near(here: Face) -> None:
    for method, path in (("GET", ""), ("GET", "/logs"), ("POST", "/drain"), ("POST", "/restart")):
        code, told = await here.ask(method, f"/v1/children/gpu7{path}")
        assert (code, told["error"]) == (404, 'there is no child "gpu7", did you mean "gpu1"?')


async def test_gpus_name_their_child(here: Face) -> None:
    _, told = await here.ask("GET", "/v1/gpus")
    assert [(gpu["child"], gpu["index"]) for gpu in told["gpus"]] == [("gpu0", 0), ("gpu1", 1)]


async def test_requests_are_told_oldest_first_with_their_ages(here: Face) -> None:
    assert await here.ask("GET", "/v1/requests") == (
        200,
        {
            "waiting": 1,
            "requests": [
                {"child": "gpu0", "model": "llama3.2:3b", "age_s": 10.0, "heard_age_s": 0.25, "held": False},
                {"child": "gpu0", "model": None, "age_s": 2.0, "heard_age_s": None, "held": False},
            ],
        },
    )


@pytest.mark.parametrize("what", ["drain", "undrain", "restart", "reset"])
async def test_a_change_is_made_and_logged_with_who_asked(here: Face, what: str) -> None:
    before = (await here.ask("GET", "/v1/children/gpu0"))[1]
    with capture_logs() as logged:
        assert await here.ask("POST", f"/v1/children/gpu0/{what}") == (200, before)
    assert here.puppets.asked == [(what, "gpu0")]
    (entry,) = logged
    assert (entry["event"], entry["path"]) == ("control asked", f"/v1/children/gpu0/{what}")
    assert isinstance(entry["pid"], int)
    assert entry["user"]


async def test_what_can_not_be_done_now_is_409_with_the_reason(here: Face) -> None:
    here.puppets.fault = OperationFailed("it is quarantined")
    assert await here.ask("POST", "/v1/children/gpu0/drain") == (409, {"error": "it is quarantined"})


@pytest.mark.parametrize("ask", [("GET", "/v1/demo"), ("POST", "/v1/demo?act=kill&target=gpu0")])
async def test_a_daemon_that_is_no_demo_breaks_nothing_and_says_so(here: Face, ask: tuple[str, str]) -> None:
    code, told = await here.ask(*ask)
    assert (code, "no demo" in told["error"], here.puppets.asked) == (409, True, [])


async def test_a_fault_of_ours_is_500_and_tells_the_log_alone_what_it_was(here: Face) -> None:
    here.puppets.fault = ZeroDivisionError("a secret")
    code, told = await here.ask("POST", "/v1/children/gpu0/drain")
    assert code == 500
    assert "secret" not in json.dumps(told)


@pytest.mark.parametrize(
    ("method", "path", "code"), [("GET", "/", 404), ("GET", "/v1/x", 404), ("DELETE", "/v1/status", 405)]
)
async def test_what_there_is_not_says_where_to_look(here: Face, method: str, path: str, code: int) -> None:
    found, told = await here.ask(method, path)
    assert found == code
    assert "/v1/openapi.json" in told["error"]


@pytest.mark.parametrize("query", ["follow=2", "follow=yes", "folow=1", "follow=0&x=1"])
async def test_a_query_that_is_none_is_refused(here: Face, query: str) -> None:
    code, told = await here.ask("GET", f"/v1/children/gpu0/logs?{query}")
    assert (code, told["error"]) == (400, "of this query only follow=0 or follow=1 is understood")


async def test_a_rolling_restart_streams_its_progress_and_how_it_ended(here: Face) -> None:
    async with here.session.post("http://ollamad/v1/restart") as answer:
        assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
        name = answer.headers["X-Ollamad-Operation"]
        first = json.loads(await answer.content.readline())
        assert first["progress"] == {"step": "drains", "child": "gpu0"}
        here.puppets.gate.set()
        rest = await records(answer)
    assert rest[0]["progress"] == {"step": "ready", "child": "gpu0", "pid": 4243}
    assert (rest[1]["operation"], rest[1]["state"]) == (name, "done")


async def test_it_goes_on_when_who_asked_leaves_and_can_be_asked_for_again(here: Face) -> None:
    async with here.session.post("http://ollamad/v1/restart") as answer:
        name = answer.headers["X-Ollamad-Operation"]
        await answer.content.readline()
    _, told = await here.ask("GET", f"/v1/operations/{name}")
    assert told["state"] == "running"
    assert (await here.ask("POST", "/v1/restart"))[0] == 409
    async with here.session.get(f"http://ollamad/v1/operations/{name}?follow=1") as again:
        here.puppets.gate.set()
        assert [record.get("state", "-") for record in await records(again)] == ["-", "-", "done"]
    _, all_of_them = await here.ask("GET", "/v1/operations")
    assert [(one["operation"], one["state"]) for one in all_of_them["operations"]] == [(name, "done")]


async def test_detached_it_answers_at_once_with_the_id(here: Face) -> None:
    code, told = await here.ask("POST", "/v1/restart?detach=1")
    assert (code, told["state"]) == (202, "running")
    here.puppets.gate.set()
    async with here.session.get(f"http://ollamad/v1/operations/{told['operation']}?follow=1") as answer:
        assert (await records(answer))[-1]["state"] == "done"


async def test_a_reload_of_a_bad_configuration_is_422_with_every_problem(here: Face) -> None:
    here.puppets.fault = ConfigError((Problem("proxy.listen", "is wrong"), Problem("log.level", "too")))
    code, told = await here.ask("POST", "/v1/reload")
    assert code == 422
    assert told["problems"] == ["proxy.listen: is wrong", "log.level: too"]


async def test_an_operation_that_is_none_is_404(here: Face) -> None:
    code, told = await here.ask("GET", "/v1/operations/restart-000000")
    assert code == 404
    assert "GET /v1/operations lists" in told["error"]


async def test_logs_once_and_followed(here: Face) -> None:
    here.puppets.prints("gpu0", "one", "two")
    assert await here.ask("GET", "/v1/children/gpu0/logs") == (200, {"child": "gpu0", "lines": ["one", "two"]})
    async with here.session.get("http://ollamad/v1/children/gpu0/logs?follow=1") as answer:
        assert [json.loads(await answer.content.readline()) for _ in "12"] == [{"line": "one"}, {"line": "two"}]
        here.puppets.prints("gpu0", "three")
        assert json.loads(await answer.content.readline()) == {"line": "three"}
        here.puppets.prints("gpu0", *"abcde")
        assert [json.loads(await answer.content.readline()) for _ in "12"] == [{"missed": 2}, {"line": "c"}]
        here.puppets.printed["gpu0"].close()  # the child is no child any more
        assert (await records(answer))[-1] == {"line": "e"}


async def test_a_route_is_explained(here: Face) -> None:
    code, told = await here.ask("GET", "/v1/route?model=llama3.2%3A3b")
    assert (code, told["model"], told["child"]) == (200, "llama3.2:3b", "gpu0")
    assert told["children"]["gpu0"] == "ready for llama3.2:3b"


@pytest.mark.parametrize("query", ["", "?model=", "?model=a&x=1"])
async def test_a_route_of_no_model_is_refused(here: Face, query: str) -> None:
    assert (await here.ask("GET", f"/v1/route{query}"))[0] == 400


async def test_stores_are_made_equal_and_pruned(here: Face) -> None:
    for path, step in (("sync", "synchronized"), ("prune", "deleted"), ("prune?dry_run=1", "would delete")):
        async with here.session.post(f"http://ollamad/v1/{path}") as answer:
            first, last = await records(answer)
        assert (first["progress"]["step"], last["state"]) == (step, "done")
    assert (await here.ask("POST", "/v1/prune?dry_run=x"))[0] == 400


async def test_it_describes_itself(here: Face) -> None:
    _, told = await here.ask("GET", "/v1/openapi.json")
    assert {(row.method.lower(), row.path) for row in ENDPOINTS} == {
        (method, path) for path, methods in told["paths"].items() for method in methods
    }


async def test_requests_wait_for_it_from_the_moment_the_socket_is_claimed(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as tasks, face(tmp_path / "s", Control(), Puppets()) as here:
        asked = [tasks.create_task(here.ask("GET", "/v1/status")) for _ in range(20)]
        assert {(await one)[0] for one in asked} == {200}
