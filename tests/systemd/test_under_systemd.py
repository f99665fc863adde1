"""ollamad as a service of a real systemd, installed as the README says, with a real Ollama behind it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from ollamad import __version__
from tests.support import knocker
from tests.support.nspawn import PYTHON, Machine, machine, newer_systemd, why_not
from tests.support.real_ollama import RECITE
from tests.support.reciting import WORDS, recitation

CHECKOUT: Final = Path(__file__).parents[2]
KNOCKER: Final = Path(knocker.__file__)
SERVICE: Final = "ollamad.service"
SOCKET: Final = "ollamad.socket"
URL: Final = "http://127.0.0.1:11434"
CONFIG: Final = "/etc/ollamad/config.toml"
STORE: Final = "/var/lib/ollamad/.ollama/models"
HASTY: Final = "/etc/systemd/system/ollamad.service.d/50-hasty.conf"
BLOCKER: Final = "/opt/ollamad/lib/python3.11/site-packages/blocker.pth"
BLOCK: Final = "import signal; signal.signal(signal.SIGUSR1, lambda *_: __import__('time').sleep(3600))\n"
"""Run by each Python of the environment when it starts: from that signal on its main thread does nothing any more."""
GOOD: Final = '[gpus]\ncpu_children = 2\n[log]\nlevel = "debug"\n'

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=["own", *(["newer"] if os.environ.get("NEWER_SYSTEMD") else [])])
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ollama_binary: Path, model_store: Path
) -> Iterator[Machine]:
    """A booted machine with Ollama, and ollamad in a virtual environment of its own, out of its wheel.

    With `NEWER_SYSTEMD=1` (`make test-systemd`) also one with a systemd that knows Type=notify-reload, from backports.
    """
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("systemd")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder / "wheels"), str(CHECKOUT)]
    subprocess.run(build, check=True, capture_output=True)
    binds = {folder / "wheels": "/srv/wheels", ollama_binary.parent: "/srv/ollama", model_store: "/srv/models"}
    with machine(folder, binds, newer_systemd() if request.param == "newer" else None) as booted:
        booted.run("ln", "-s", f"/srv/ollama/{ollama_binary.name}", "/usr/local/bin/ollama")
        booted.run(str(PYTHON), "-m", "venv", "/opt/ollamad")
        booted.run("/opt/ollamad/bin/pip", "install", "--quiet", "--no-index", "--find-links=/srv/wheels", "ollamad")
        yield booted


@pytest.fixture
def service(host: Machine) -> Machine:
    """It is installed and runs, by a good configuration, with models."""
    host.run("systemctl", "stop", SOCKET, SERVICE, check=False)
    host.run("systemctl", "reset-failed", check=False)
    host.run("rm", "-f", HASTY, BLOCKER)
    host.write(CONFIG, GOOD)
    host.run("/opt/ollamad/bin/ollamad", "install-service")
    host.run("sh", "-c", f"cp -r /srv/models/. {STORE} && chown -R ollamad: /var/lib/ollamad")
    host.until(SERVICE, ActiveState="active", StatusText="2 of 2 children ready, 0 streams")
    return host


def chat(host: Machine, tokens: int) -> str:
    body = {"model": RECITE, "prompt": "go", "stream": False, "options": {"num_predict": tokens}}
    return str(json.loads(host.run("curl", "-sS", f"{URL}/api/generate", "-d", json.dumps(body)))["response"])


def processes(host: Machine) -> set[int]:
    """Everything in the service's cgroup, as the machine numbers it."""
    told = host.run("cat", "/sys/fs/cgroup/system.slice/ollamad.service/cgroup.procs", check=False)
    return {int(pid) for pid in told.split()}


def listening(host: Machine, pid: int) -> set[str]:
    """The sockets that a process has open, by inode, of those that listen."""
    tables = host.run("sh", "-c", "cat /proc/net/tcp | grep ' 0A ' | awk '{print $10}'")
    tables += host.run("sh", "-c", "grep control.sock /proc/net/unix | awk '{print $7}'")
    held = host.run("sh", "-c", f"readlink /proc/{pid}/fd/*", check=False)
    return {inode for inode in tables.split() if f"socket:[{inode}]" in held}


def main_pid(host: Machine) -> int:
    return int(host.show(SERVICE, "MainPID")["MainPID"])


def hurry(host: Machine, *settings: str) -> None:
    """The service with other settings."""
    host.write(HASTY, "\n".join(("[Service]", *settings, "")))
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", SERVICE)


def test_it_starts_chats_and_says_how_it_stands(service: Machine) -> None:
    assert chat(service, 5) == recitation(WORDS, 5)
    shown = service.show(SERVICE, "Type", "NotifyAccess", "ActiveState", "SubState", "Result")
    assert (shown["ActiveState"], shown["SubState"], shown["Result"]) == ("active", "running", "success")
    version = int(service.run("systemctl", "--version").split()[1])
    assert shown["Type"] == ("notify-reload" if version >= 253 else "notify")
    service.until(SERVICE, StatusText="2 of 2 children ready, 0 streams")
    status = service.run("systemctl", "status", "--no-pager", SERVICE)
    assert 'Status: "2 of 2 children ready, 0 streams"' in status
    assert service.run("stat", "-c", "%U %a", "/run/ollamad/control.sock").split() == ["ollamad", "660"]
    owners = service.run("ps", "-o", "user=", "-p", ",".join(map(str, processes(service)))).split()
    assert set(owners) == {"ollamad"}
    assert len(owners) == 5, "ollamad, its warden, two servers, and a runner"


def test_the_children_know_nothing_of_systemd(service: Machine) -> None:
    children = processes(service) - {main_pid(service)}
    ours = listening(service, main_pid(service))
    assert len(ours) >= 3
    for pid in children:
        assert listening(service, pid).isdisjoint(ours)
        environment = service.run("sh", "-c", f"tr '\\0' '\\n' < /proc/{pid}/environ").splitlines()
        names = {entry.partition("=")[0] for entry in environment}
        assert names.isdisjoint({"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "JOURNAL_STREAM"})


def test_events_are_found_by_child_model_and_request(service: Machine) -> None:
    service.run("curl", "-sS", f"{URL}/api/version", "-H", "X-Request-Id: find-me\\nPRIORITY=0")
    chat(service, 3)

    def found(*match: str) -> list[dict[str, str]]:
        lines = service.run("journalctl", "--output=json", "--unit", SERVICE, *match).splitlines()
        return [json.loads(line) for line in lines]

    served = found("OLLAMAD_EVENT=request", f"OLLAMAD_MODEL={RECITE}")
    assert served
    assert {entry["SYSLOG_IDENTIFIER"] for entry in served} == {"ollamad"}
    assert {entry["PRIORITY"] for entry in served} == {"6"}
    child = served[-1]["OLLAMAD_CHILD"]
    said = found(f"OLLAMAD_CHILD={child}", "OLLAMAD_EVENT=child output")
    assert any("Listening on" in entry["OLLAMAD_LINE"] for entry in said)
    assert found(f"OLLAMAD_REQUEST_ID={served[-1]['OLLAMAD_REQUEST_ID']}")
    assert "request" in {entry["OLLAMAD_EVENT"] for entry in found("OLLAMAD_REQUEST_ID=find-me\\nPRIORITY=0")}


def test_a_reload_takes_a_good_configuration_and_refuses_a_bad_one_aloud(service: Machine) -> None:
    before = main_pid(service)
    service.write(CONFIG, GOOD.replace("= 2", "= 1"))
    service.run("systemctl", "reload", SERVICE)
    service.until(SERVICE, StatusText="1 of 1 children ready, 0 streams", ActiveState="active")
    service.write(CONFIG, GOOD + "[proxy]\nlisten = 'nowhere'\n")
    assert service.result("systemctl", "reload", SERVICE).returncode != 0
    assert "proxy.listen" in service.journal(SERVICE)
    refused = "1 of 1 children ready, 0 streams; the new configuration was refused, the log says why"
    service.until(SERVICE, StatusText=refused, ActiveState="active")
    service.write(CONFIG, GOOD)
    service.run("systemctl", "kill", "--signal=HUP", "--kill-who=main", SERVICE)
    service.until(SERVICE, StatusText="2 of 2 children ready, 0 streams", ActiveState="active")
    assert main_pid(service) == before
    assert chat(service, 3) == recitation(WORDS, 3)


@pytest.mark.parametrize("how", ["the process is stopped", "its event loop is stopped"])
def test_what_stands_still_is_ended_by_the_watchdog_and_started_again(service: Machine, how: str) -> None:
    service.write(BLOCKER, BLOCK)
    hurry(service, "WatchdogSec=2", "TimeoutAbortSec=2")
    before = processes(service)
    service.run("kill", "-STOP" if "process" in how else "-USR1", str(main_pid(service)))
    service.until(SERVICE, NRestarts="1", ActiveState="active")
    assert processes(service).isdisjoint(before)
    assert "Watchdog timeout" in service.journal(SERVICE)
    assert "most recent call first" in service.journal(SERVICE), "it says where it stood"
    assert chat(service, 3) == recitation(WORDS, 3)


def test_killed_it_leaves_no_orphan_and_who_connects_waits_for_its_successor(service: Machine) -> None:
    assert chat(service, 3) == recitation(WORDS, 3)  # there is a runner now
    before = processes(service)
    service.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", SERVICE)
    with service.client(KNOCKER, f"{URL}/api/version", "20") as knocking:
        assert knocking.stdout is not None
        assert knocking.stdout.read().split("\n")[:-1] == ["200"] * 20
    service.until(SERVICE, NRestarts="1", ActiveState="active")
    assert processes(service).isdisjoint(before)
    listed = set(map(int, service.run("ps", "-e", "-o", "pid=").split()))
    assert listed.isdisjoint(before)


def test_no_connection_is_lost_or_refused_while_it_is_restarted(service: Machine) -> None:
    answers: list[str] = []
    with ExitStack() as stack:
        knockers = [stack.enter_context(service.client(KNOCKER, f"{URL}/api/version", "0")) for _ in range(3)]
        for knocking in knockers:
            assert knocking.stdout is not None
            answers.append(knocking.stdout.readline())
        for _ in range(3):
            service.run("systemctl", "restart", SERVICE)
        for knocking in knockers:
            answers += knocking.communicate()[0].splitlines(keepends=True)
    assert len(answers) > len(knockers)
    assert set(answers) == {"200\n"}
    assert "2 of 2 children" in service.run("ollamactl", "status"), "its socket has outlived them all"


def test_it_stops_within_its_limit_and_nothing_of_it_is_left(service: Machine) -> None:
    before = processes(service)
    service.run("systemctl", "stop", SOCKET, SERVICE)
    shown = service.show(SERVICE, "ActiveState", "Result", "ExecMainStatus")
    assert shown == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    assert processes(service) == set()
    assert set(map(int, service.run("ps", "-e", "-o", "pid=").split())).isdisjoint(before)
    assert "State 'stop-sigterm' timed out" not in service.journal(SERVICE)


def test_a_stop_takes_as_long_as_the_streams_that_may_finish(service: Machine) -> None:
    service.write(CONFIG, GOOD + "[proxy]\nshutdown_grace_s = 600.0\n")
    hurry(service, "TimeoutStopSec=2")
    body = {"model": RECITE, "prompt": "go", "options": {"num_predict": 6000}}
    with service.started("curl", "-sSN", f"{URL}/api/generate", "-d", json.dumps(body)) as stream:
        assert stream.stdout is not None
        assert "w0" in stream.stdout.readline()
        service.run("systemctl", "stop", SOCKET, SERVICE)
        *_, last = stream.stdout.read().splitlines()
    assert json.loads(last)["eval_count"] == 6000
    assert service.show(SERVICE, "Result") == {"Result": "success"}


def test_a_bad_configuration_at_start_is_told_and_not_tried_for_ever(service: Machine) -> None:
    service.write(CONFIG, "[proxy]\nlisten = 1\n")
    assert service.result("systemctl", "restart", SERVICE).returncode != 0
    service.until(SERVICE, ActiveState="failed", ExecMainStatus="2", NRestarts="0")
    assert "proxy.listen = 1" in service.journal(SERVICE)


def test_installed_again_it_does_nothing_and_goes_on(service: Machine) -> None:
    before = main_pid(service)
    told = service.run("/opt/ollamad/bin/ollamad", "install-service").splitlines()
    assert [line for line in told if line.startswith(("made", "changed"))] == []
    assert told[-1] == f"ollamad {__version__} runs: 2 of 2 children ready, 0 streams"
    assert main_pid(service) == before


def test_a_new_version_is_taken_into_use_by_installing_again_unless_it_cannot_use_the_configuration(
    service: Machine,
) -> None:
    before = main_pid(service)
    pip = ("/opt/ollamad/bin/pip", "install", "--quiet", "--no-index", "--find-links=/srv/wheels")
    service.run(*pip, "--force-reinstall", "--no-deps", "ollamad")
    service.write(CONFIG, GOOD + "[proxy]\nlissten = '127.0.0.1:11434'\n")
    refused = service.result("/opt/ollamad/bin/ollamad", "install-service")
    assert refused.returncode == 1
    assert 'did you mean "listen"?' in refused.stderr
    assert main_pid(service) == before
    assert chat(service, 3) == recitation(WORDS, 3), "what runs goes on"
    service.write(CONFIG, GOOD)
    service.run("/opt/ollamad/bin/ollamad", "install-service")
    assert main_pid(service) != before
    service.until(SERVICE, ActiveState="active", StatusText="2 of 2 children ready, 0 streams")


def test_uninstalled_it_leaves_the_store_and_nothing_else(service: Machine) -> None:
    told = service.run("/opt/ollamad/bin/ollamad", "uninstall-service")
    assert "kept /var/lib/ollamad" in told
    left = service.run("sh", "-c", "find /etc /run /usr/local /var -xdev -name '*ollamad*' 2>/dev/null; true").split()
    assert sorted(path for path in left if "/cgroup/" not in path) == ["/etc/ollamad", "/var/lib/ollamad"]
    assert service.run("ls", "-A", "/etc/ollamad").split() == ["config.toml"], "what somebody wrote"
    assert ".ollama" in service.run("ls", "-A", "/var/lib/ollamad").split()
    assert service.run("ls", STORE).split() == ["blobs", "manifests"]
    assert service.run("pgrep", "-f", "[o]llama", check=False) == ""
    assert service.show(SERVICE, "LoadState")["LoadState"] == "not-found"


STOCK: Final = """\
[Unit]
Description=Ollama Service
[Service]
ExecStart=/usr/local/bin/ollama serve
User=ollama
Group=ollama
Restart=always
Environment="OLLAMA_MODELS=/srv/of-its-own" "OLLAMA_NUM_PARALLEL=2"
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def stock(host: Machine) -> Iterator[Machine]:
    """The service that Ollama's own installer makes, with models on a disk of their own."""
    host.run("/opt/ollamad/bin/ollamad", "uninstall-service")
    host.run("rm", "-rf", "/etc/ollamad")  # the configuration stays, as the test before left it
    host.run("sh", "-c", "useradd -r -s /bin/false -U -m -d /usr/share/ollama ollama")
    host.write("/etc/systemd/system/ollama.service", STOCK)
    host.run("cp", "-r", "/srv/models", "/srv/of-its-own")
    host.run("chown", "-R", "ollama:", "/srv/of-its-own")
    host.run("systemctl", "enable", "--now", "ollama.service")
    yield host
    host.run("/opt/ollamad/bin/ollamad", "uninstall-service")
    host.run("systemctl", "disable", "--now", "ollama.service")
    host.run("rm", "/etc/systemd/system/ollama.service")
    host.run("rm", "-r", "/srv/of-its-own")
    host.run("userdel", "-r", "ollama", check=False)


def test_it_takes_the_place_of_a_stock_ollama_only_when_told_to_and_gives_it_back(stock: Machine) -> None:
    refused = stock.result("/opt/ollamad/bin/ollamad", "install-service")
    assert refused.returncode == 1
    assert "--replace-ollama" in refused.stderr
    assert stock.show("ollama.service", "ActiveState")["ActiveState"] == "active"
    told = stock.run("/opt/ollamad/bin/ollamad", "install-service", "--replace-ollama")
    assert "stopped and disabled ollama.service" in told
    assert "OLLAMA_NUM_PARALLEL (ollama.num_parallel)" in told, "which is not taken over"
    assert chat(stock, 3) == recitation(WORDS, 3), "its models are ours"
    assert stock.run("stat", "-c", "%U", "/run/ollamad/control.sock").strip() == "ollama"
    stock.run("/opt/ollamad/bin/ollamad", "install-service")
    assert chat(stock, 3) == recitation(WORDS, 3)
    told = stock.run("/opt/ollamad/bin/ollamad", "uninstall-service")
    assert "ollama.service is what it was: active and enabled" in told
    assert stock.show("ollama.service", "ActiveState", "UnitFileState") == {
        "ActiveState": "active",
        "UnitFileState": "enabled",
    }
