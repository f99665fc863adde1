"""`ollamactl` as a process of its own, on the real control face with children in memory."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpServer

from ollamad.errors import ConfigError, OperationFailed, Problem
from ollamad.supervision.state import Phase
from tests.support.control_face import Face, child, face, ollamactl


@dataclass
class Ollama:
    """What of the Ollama API `ollamactl` uses."""

    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/api/tags", self.tags)
        for path in ("/api/generate", "/api/delete"):
            application.router.add_route("*", path, self.take)
        return application

    async def tags(self, _request: web.Request) -> web.Response:
        models = [
            {"name": name, "size": 2 * 1024**3, "modified_at": "2026-11-24T03:16:44Z", "digest": "d"}
            for name in ("llama3.2:3b", "nomic:latest")
        ]
        return web.json_response({"models": models})

    async def take(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append((f"{request.method} {request.path}", body))
        return web.json_response({}, headers={"X-Ollamad-Child": "gpu0"})


@pytest.fixture
def ollama() -> Ollama:
    return Ollama()


@pytest.fixture
async def here(tmp_path: Path, ollama: Ollama, aiohttp_server: AiohttpServer) -> AsyncIterator[Face]:
    server = await aiohttp_server(ollama.application())
    async with face(tmp_path / "control.sock", proxy=f"127.0.0.1:{server.port}") as found:
        found.puppets.children["gpu1"] = child("gpu1", port=server.port)
        yield found


async def test_status_is_read_by_people_and_by_programs(here: Face) -> None:
    code, out, err = await here.ctl("status")
    assert (code, err) == (0, "")
    assert "ready: 2 of 2 children" in out
    assert "gpu0   ready" in out
    for order in (["--json", "status"], ["status", "--json"]):
        told = json.loads((await here.ctl(*order))[1])
        assert told["daemon"]["socket"] == str(here.path)
        assert told["children"][0]["id"] == "gpu0"


@pytest.mark.parametrize(
    ("command", "said"),
    [("gpus", "NVIDIA A100"), ("requests", "none yet"), ("models", "nomic:latest"), ("operations", "no long")],
)
async def test_other_looks(here: Face, command: str, said: str) -> None:
    code, out, _ = await here.ctl(command)
    assert code == 0
    assert said in out
    assert isinstance(json.loads((await here.ctl("--json", command))[1]), dict)


async def test_models_tell_where_they_are_loaded(here: Face) -> None:
    told = json.loads((await here.ctl("--json", "models"))[1])["models"]
    assert [(model["name"], model["loaded_on"]) for model in told] == [("llama3.2:3b", ["gpu0"]), ("nomic:latest", [])]


async def test_no_daemon_is_3_with_what_to_do(tmp_path: Path) -> None:
    code, out, err = await ollamactl("--socket", str(tmp_path / "none"), "status")
    assert (code, out) == (3, "")
    assert f"no ollamad answers at {tmp_path}/none; start one (ollamad serve" in err
    code, _, err = await ollamactl("status", env={"OLLAMAD_SOCKET": str(tmp_path / "other")})
    assert code == 3
    assert f"at {tmp_path}/other;" in err


async def test_the_socket_is_found_by_the_variable(here: Face) -> None:
    code, _, _ = await ollamactl("status", env={"OLLAMAD_SOCKET": str(here.path)})
    assert code == 0


@pytest.mark.parametrize("typed", [[], ["stauts"], ["drain"], ["restart"], ["restart", "gpu0", "--rolling"]])
async def test_wrong_usage_is_2(typed: list[str]) -> None:
    code, out, err = await ollamactl(*typed)
    assert (code, out) == (2, "")
    assert err.startswith("usage: ollamactl")


@pytest.mark.parametrize(
    "typed",
    [["load", "m", "--replicas", "0"], ["load", "m", "--child", "a", "--replicas", "2"], ["status", "--watch", "0"]],
)
async def test_values_that_can_not_be_meant_are_2(typed: list[str]) -> None:
    assert (await ollamactl(*typed))[0] == 2


async def test_an_unknown_child_is_1_with_one_that_is_near(here: Face) -> None:
    for typed in (["drain", "gup1"], ["logs", "gup1"], ["load", "llama3.2:3b", "--child", "gup1"]):
        code, out, err = await here.ctl(*typed)
        assert (code, out) == (1, "")
        assert err == 'ollamactl: there is no child "gup1", did you mean "gpu1"?\n'


async def test_drain_waits_if_told_to_and_undrain_takes_it_back(here: Face) -> None:
    assert await here.ctl("drain", "gpu1") == (0, "gpu1 gets nothing new, and stops once it is idle\n", "")
    code, out, _ = await here.ctl("drain", "gpu0", "--wait")
    assert code == 0
    assert out.startswith("gpu0 has stopped (")
    assert await here.ctl("undrain", "gpu0") == (0, "gpu0 is taken into use again\n", "")
    assert here.puppets.asked == [("drain", "gpu1"), ("drain", "gpu0"), ("undrain", "gpu0")]


async def test_restart_waits_until_the_child_is_ready_as_a_new_process(here: Face) -> None:
    code, out, _ = await here.ctl("restart", "gpu0")
    assert code == 0
    assert out.startswith("gpu0 is ready again (")
    code, out, _ = await here.ctl("--json", "restart", "gpu0", "--no-wait")
    assert json.loads(out)["life"] == 3


async def test_a_child_that_fails_meanwhile_is_1_with_the_reason(here: Face) -> None:
    here.puppets.children["gpu1"] = child("gpu1", phase=Phase.FAILED, reason="it died 5 times")
    code, _, err = await here.ctl("drain", "gpu0")
    assert code == 0
    here.puppets.children["gpu0"] = child("gpu0", phase=Phase.FAILED, reason="it died 5 times")
    here.puppets.drain = lambda _child: None  # type: ignore[method-assign,assignment]
    code, _, err = await here.ctl("drain", "gpu0", "--wait")
    assert code == 1
    assert "gpu0 has failed: it died 5 times; see ollamactl logs gpu0, then ollamactl reset gpu0" in err


async def test_a_rolling_restart_shows_its_progress(here: Face) -> None:
    here.puppets.gate.set()
    code, out, _ = await here.ctl("restart", "--rolling")
    assert code == 0
    assert [line.split("s  ")[-1] for line in out.splitlines()[:2]] == ["gpu0: drains", "gpu0: ready (pid 4243)"]
    assert " is done (" in out
    name = out.splitlines()[-1].split()[0]
    code, again, _ = await here.ctl("operations", name)
    assert code == 0
    assert "gpu0: drains" in again
    assert [
        json.loads(line)["operation"] for line in (await here.ctl("--json", "operations", name, "-f"))[1].splitlines()
    ]


async def _interrupted(here: Face, *words: str, after: Literal["stdout", "stderr"]) -> tuple[int | None, str]:
    """The exit code and errors of a command that gets SIGINT once it has said a line there."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ollamad.cli.ctl.main", "--socket", str(here.path), *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said = process.stdout if after == "stdout" else process.stderr
    assert said is not None
    await said.readline()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    return process.returncode, err.decode()


async def test_interrupted_it_says_how_to_look_again(here: Face) -> None:
    code, err = await _interrupted(here, "restart", "--rolling", after="stdout")
    (operation,) = here.running.all()
    assert code == 130
    assert f"{operation.id} goes on; look again with: ollamactl operations {operation.id} --follow" in err
    assert operation.state.value == "running"


async def test_an_interrupted_pull_says_how_to_stop_it(here: Face) -> None:
    code, err = await _interrupted(here, "pull", "m", after="stderr")
    assert code == 130
    assert "--follow, stop it with: ollamactl rm m\n" in err


async def test_a_reload_of_a_bad_configuration_tells_every_problem(here: Face) -> None:
    here.puppets.fault = ConfigError((Problem("proxy.listen", "is wrong"), Problem("log.level", "too")))
    code, out, err = await here.ctl("reload")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "ollamactl: the configuration has problems",
        "  proxy.listen: is wrong",
        "  log.level: too",
    ]


async def test_logs_of_one_or_of_all_without_what_a_terminal_would_obey(here: Face) -> None:
    here.puppets.prints("gpu0", "one", "\x1b[2Jtwo")
    here.puppets.prints("gpu1", "three")
    assert (await here.ctl("logs", "gpu0"))[1] == "one\n?[2Jtwo\n"
    assert (await here.ctl("logs"))[1] == "gpu0: one\ngpu0: ?[2Jtwo\ngpu1: three\n"
    told = [json.loads(line) for line in (await here.ctl("--json", "logs"))[1].splitlines()]
    assert [one["child"] for one in told] == ["gpu0", "gpu1"]


async def test_logs_are_followed_until_an_interrupt_which_is_no_failure(here: Face) -> None:
    here.puppets.prints("gpu0", "one")
    here.puppets.prints("gpu1", "two")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ollamad.cli.ctl.main", "--socket", str(here.path), "logs", "-f"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert {await process.stdout.readline(), await process.stdout.readline()} == {b"gpu0: one\n", b"gpu1: two\n"}
    here.puppets.prints("gpu1", "three")
    assert await process.stdout.readline() == b"gpu1: three\n"
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0


async def test_watch_shows_it_again_and_survives_a_daemon_that_is_away(here: Face) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ollamad.cli.ctl.main", "--json", "--socket", str(here.path)),
        *("status", "--watch", "0.1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(await process.stdout.readline())["ready"]
    here.path.rename(here.path.with_name("away"))
    assert b"no ollamad answers" in await process.stderr.readline()
    here.path.with_name("away").rename(here.path)
    assert json.loads(await process.stdout.readline())["ready"]
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0


async def test_output_that_nobody_reads_any_more_is_no_traceback(here: Face) -> None:
    command = f"'{sys.executable}' -m ollamad.cli.ctl.main --json --socket '{here.path}' status --watch 0.1 | head -1"
    process = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    assert out.startswith(b"{")
    assert err == b""


async def test_a_model_is_loaded_where_routing_wants_it(here: Face) -> None:
    assert (await here.ctl("load", "llama3.2:3b", "--keep-alive", "-1"))[:2] == (0, "llama3.2:3b is loaded on gpu0\n")
    assert here.puppets.loads == [("llama3.2:3b", (), -1)]


async def test_a_load_is_an_operation_that_can_be_asked_for_again(here: Face) -> None:
    await here.ctl("load", "llama3.2:3b")
    (found,) = (await here.ask("GET", "/v1/operations"))[1]["operations"]
    assert (found["kind"], found["about"], found["state"]) == ("load", "llama3.2:3b", "done")
    assert "llama3.2:3b" in (await here.ctl("operations"))[1]


async def test_a_load_that_fails_is_1_with_the_reason(here: Face) -> None:
    here.puppets.fault = OperationFailed("gpu0: no room")
    assert await here.ctl("load", "llama3.2:3b") == (1, "", "ollamactl: gpu0: no room\n")


async def test_a_model_is_loaded_on_the_child_that_is_meant(here: Face) -> None:
    code, out, _ = await here.ctl("--json", "load", "llama3.2:3b", "--child", "gpu1", "--keep-alive", "5m")
    assert (code, json.loads(out)) == (0, {"model": "llama3.2:3b", "children": ["gpu0", "gpu1"]})
    assert here.puppets.loads == [("llama3.2:3b", ("gpu1",), "5m")]


async def test_replicas_count_the_children_that_have_it(here: Face) -> None:
    assert (await here.ctl("load", "llama3.2:3b", "--replicas", "1"))[1] == "llama3.2:3b is loaded on gpu0\n"
    assert here.puppets.loads == []
    assert (await here.ctl("load", "llama3.2:3b", "--replicas", "2"))[1] == "llama3.2:3b is loaded on gpu0, gpu1\n"
    assert here.puppets.loads == [("llama3.2:3b", ("gpu1",), None)]
    code, _, err = await here.ctl("load", "llama3.2:3b", "--replicas", "3")
    assert code == 1
    assert "3 replicas need 2 more children than the 1 that have it; of the others, ready: gpu1" in err


async def test_a_child_that_is_not_ready_loads_nothing(here: Face) -> None:
    here.puppets.children["gpu1"] = child("gpu1", phase=Phase.BACKOFF, reason="exit status 1")
    code, _, err = await here.ctl("load", "llama3.2:3b", "--child", "gpu1")
    assert (code, err) == (1, "ollamactl: gpu1 is not ready: exit status 1\n")


async def test_a_model_is_unloaded_wherever_it_is_loaded(here: Face, ollama: Ollama) -> None:
    resident = here.puppets.children["gpu0"].residents
    here.puppets.children["gpu1"] = child("gpu1", port=here.puppets.children["gpu1"].port, residents=resident)
    code, out, _ = await here.ctl("unload", "llama3.2:3b", "--child", "gpu1")
    assert (code, out) == (0, "llama3.2:3b is unloaded from gpu1\n")
    assert ollama.asked == [("POST /api/generate", {"model": "llama3.2:3b", "keep_alive": 0})]
    assert (await here.ctl("unload", "nomic"))[:2] == (0, "nomic is loaded nowhere\n")
    assert (await here.ctl("unload", "nomic", "--child", "gpu1"))[1] == "nomic is not loaded on gpu1\n"


async def test_an_unknown_model_is_1_with_one_that_is_near(here: Face) -> None:
    for command in ("load", "unload", "rm"):
        code, _, err = await here.ctl(command, "lama3.2:3b")
        assert (code, err) == (1, 'ollamactl: there is no model "lama3.2:3b", did you mean "llama3.2:3b"?\n')


async def test_rm_deletes_a_model(here: Face, ollama: Ollama) -> None:
    assert (await here.ctl("rm", "nomic"))[:2] == (0, "nomic is deleted\n")
    assert ollama.asked == [("DELETE /api/delete", {"model": "nomic"})]


async def test_a_pull_shows_its_steps(here: Face) -> None:
    here.puppets.gate.set()
    code, out, err = await here.ctl("pull", "m")
    assert (code, err) == (0, "pulling m\nsuccess\n")
    assert "is done" in out
    assert (await here.ctl("pull", "m", "--insecure"))[2].startswith("pulling m insecurely\n")
    told = [json.loads(line) for line in (await here.ctl("--json", "pull", "m"))[1].splitlines()]
    assert [one["progress"]["step"] for one in told[:-1]] == ["pulling m", "success"]
    assert (told[-1]["state"], told[-1]["about"]) == ("done", "m")


async def test_pulls_of_several_models_run_side_by_side_and_of_one_only_one(here: Face) -> None:
    for model, status in (("a", 202), ("b", 202), ("a", 409)):
        assert (await here.ask("POST", f"/v1/pull?model={model}&detach=1"))[0] == status


async def test_a_pull_that_fails_is_1(here: Face) -> None:
    here.puppets.fault = OperationFailed("pull model manifest: file does not exist")
    code, _, err = await here.ctl("pull", "m")
    assert (code, err) == (1, "ollamactl: pull model manifest: file does not exist\n")


async def test_a_full_disk_under_its_output_is_told_without_a_traceback(here: Face) -> None:
    command = f"'{sys.executable}' -m ollamad.cli.ctl.main --socket '{here.path}' status > /dev/full"
    process = await asyncio.create_subprocess_shell(command, stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()
    assert (process.returncode, err) == (1, b"ollamactl: the output can't be written: No space left on device\n")


async def test_what_is_so_already_is_not_told_as_if_it_had_been_done(here: Face) -> None:
    await here.ctl("drain", "gpu0")
    assert (await here.ctl("drain", "gpu0"))[1] == "gpu0 is drained already\n"
    await here.ctl("undrain", "gpu0")
    assert (await here.ctl("undrain", "gpu0"))[1] == "gpu0 is in use already\n"
    assert (await here.ctl("reset", "gpu0"))[1] == "gpu0 is ready as before, its deaths forgotten\n"
    here.puppets.children["gpu1"] = child("gpu1", phase=Phase.FAILED)
    assert (await here.ctl("reset", "gpu1"))[1] == "gpu1 is started anew, its deaths forgotten\n"


async def test_one_argument_too_many_is_answered_with_the_usage_of_the_command(here: Face) -> None:
    code, _, err = await here.ctl("rm", "a", "b")
    assert code == 2
    assert err.startswith("usage: ollamactl rm ")
    assert "unrecognized arguments: b" in err


async def test_a_route_is_told_and_explained(here: Face) -> None:
    said = "nomic: send gpu0: has it (0.4s expected)\n"
    assert (await here.ctl("route", "nomic"))[1] == said
    explained = "\nCHILD  STANDS\ngpu0   ready for nomic\ngpu1   exit status 1\n"
    assert (await here.ctl("route", "--explain", "nomic"))[1] == said + explained
    unknown = (await here.ctl("route", "m"))[1].splitlines()[-1]
    assert unknown == 'but there is no model "m"; get it with: ollamactl pull m'
    assert json.loads((await here.ctl("--json", "route", "a/b:c"))[1])["model"] == "a/b:c"


async def test_stores_are_made_equal_and_pruned(here: Face) -> None:
    assert "synchronized (models 3)" in (await here.ctl("sync"))[1]
    assert "would delete (files 2)" in (await here.ctl("prune", "--dry-run"))[1]
    assert " deleted (files 2)" in (await here.ctl("prune"))[1]
    assert " deleted (files 3)" in (await here.ctl("prune", "--now"))[1]
    here.puppets.fault = OperationFailed("a store is read-only")
    assert (await here.ctl("sync"))[::2] == (1, "ollamactl: a store is read-only\n")


async def test_completion_and_man_need_no_daemon() -> None:
    assert (await ollamactl("completion", "fish"))[1].startswith("complete -c ollamactl")
    assert (await ollamactl("man"))[1].startswith(".TH OLLAMACTL 1")


async def test_top_needs_a_terminal(here: Face) -> None:
    code, _, err = await here.ctl("top")
    assert (code, err) == (1, "ollamactl: top needs a terminal; where there is none: ollamactl status --watch\n")
    assert (await here.ctl("--json", "top"))[0] == 2


def test_it_imports_nothing_that_is_slow_to_import() -> None:
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ollamad.cli.ctl.main", "--socket", "/none", "status"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 3
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.stderr.splitlines()}
    assert not imported & {"aiohttp", "asyncio", "msgspec", "structlog", "psutil", "pynvml"}
