"""How `ollamactl` reaches the daemon and the Ollama API, and what it says when it can't."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ollamad.cli.ctl import transport
from ollamad.cli.ctl.errors import CommandError, NoDaemon
from ollamad.cli.ctl.transport import Api, Control


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """A socket on which one request is answered so, and the connection then closed."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connected, _ = listener.accept()
            with connected:
                connected.recv(65_536)
                connected.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def refusal(path: Path, answer: bytes) -> str:
    with answering(path, answer), pytest.raises(CommandError) as caught:
        list(Control(path).stream("GET", "/v1/x"))
    return str(caught.value)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "ollamad went away before it had answered"),
        (b"nonsense\r\n\r\n", "broke off"),
        (CHUNKED + b'9\r\n{"a": 1}\n\r\n8\r\n{"half', "broke off"),
        (CHUNKED + b'4\r\n{"a\n\r\n0\r\n\r\n', "broke off in the middle"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno", "refused with 500 Oh"),
        (b'HTTP/1.1 409 X\r\nContent-Length: 19\r\n\r\n{"error": "not it"}', "not it"),
    ],
)
def test_an_answer_that_is_none_is_told_in_words(tmp_path: Path, answer: bytes, said: str) -> None:
    assert said in refusal(tmp_path / "s", answer)


def test_a_daemon_that_goes_away_is_none(tmp_path: Path) -> None:
    with answering(tmp_path / "s", b""), pytest.raises(NoDaemon, match="systemctl status ollamad"):
        Control(tmp_path / "s").get("/v1/status")


def test_a_document_that_is_no_json_is_told(tmp_path: Path) -> None:
    with (
        answering(tmp_path / "s", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<htm"),
        pytest.raises(CommandError, match="no JSON"),
    ):
        Control(tmp_path / "s").get("/v1/x")


def test_a_daemon_that_is_there_but_hangs_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(CommandError, match="is there, but does not answer in time"):
            Control(tmp_path / "s", timeout_s=0.05).get("/v1/status")


def test_every_place_that_was_looked_at_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "places", lambda *_: (tmp_path / "a", tmp_path / "b"))
    with pytest.raises(NoDaemon, match=f"no ollamad answers at {tmp_path}/a or {tmp_path}/b; start one"):
        Control(None, {}).get("/v1/status")


def test_what_a_stranger_has_put_into_tmp_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "ollamad-0"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    monkeypatch.setattr(transport, "shared_folder", lambda _uid: folder)
    monkeypatch.setattr(transport, "places", lambda *_: (folder / "control.sock",))
    with pytest.raises(CommandError, match=r"is open to others .* so what answers there is not trusted"):
        Control(None, {}).get("/v1/status")
    folder.chmod(0o700)
    with pytest.raises(NoDaemon):
        Control(None, {}).get("/v1/status")


@pytest.mark.parametrize(
    ("address", "host"),
    [("127.0.0.1:1", "127.0.0.1"), ("0.0.0.0:1", "127.0.0.1"), ("[::]:1", "::1"), ("[::1]:1", "::1"), ("gpu:1", "gpu")],
)
def test_an_address_that_means_all_of_mine_is_reached_on_loopback(address: str, host: str) -> None:
    assert Api.at(address) == Api(host, 1)


def test_before_the_proxy_listens_it_is_said() -> None:
    class Starting(Control):
        def get(self, path: str) -> dict[str, Any]:
            return {"daemon": {"proxy": None}} if path == "/v1/status" else {}

    with pytest.raises(CommandError, match="just starting"):
        Api.of(Starting(None))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every socket")
def test_no_permission_is_told_apart_from_no_daemon(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        (tmp_path / "s").chmod(0)
        with pytest.raises(CommandError, match="no permission to use"):
            Control(tmp_path / "s").get("/v1/status")
