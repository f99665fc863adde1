from __future__ import annotations

import json

import pytest
from aiohttp.test_utils import make_mocked_request

from ollamad.ollama.routes import route_of
from ollamad.proxy.wishes import client_of, request_of
from ollamad.routing.decide import Need, Priority, Request, Work

USUAL = {"num_ctx": 4096}


def asked(path: str, headers: dict[str, str] | None = None, **fields: object) -> Request:
    body = json.dumps({"model": "m", **fields}).encode()
    incoming = make_mocked_request("POST", path, {"Content-Type": "application/json", **(headers or {})})
    return request_of(incoming, route_of("POST", path), body, USUAL, "X-Client")


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings", "/v1/embeddings"])
def test_embeddings_are_told_from_generations(path: str) -> None:
    assert asked(path, input="x").work is Work.EMBED
    assert asked("/api/chat", messages=[]).work is Work.GENERATE


@pytest.mark.parametrize("model", ["big:cloud", "big:120b-cloud"])
def test_a_model_that_runs_elsewhere_needs_no_slot(model: str) -> None:
    assert asked("/api/chat", model=model).need is Need.ANY


def test_an_unload_needs_no_slot_and_loads_nothing() -> None:
    request = asked("/api/generate", keep_alive=0)
    assert (request.need, request.work, request.model) == (Need.ANY, Work.UNLOAD, "m:latest")


def test_options_count_only_where_the_api_has_them() -> None:
    assert asked("/api/chat", messages=["x"], options={"num_ctx": 8192}).shape == '{"num_ctx":8192}'
    assert asked("/v1/chat/completions", messages=["x"], options={"num_ctx": 8192}).shape == ""


def test_what_needs_no_runner_is_not_looked_into() -> None:
    assert asked("/api/show") == Request(Need.ANY)
    assert asked("/api/pull") == Request(Need.STORE)


@pytest.mark.parametrize(
    ("said", "priority"),
    [("high", Priority.HIGH), (" Low ", Priority.LOW), ("x", Priority.NORMAL)],
)
def test_the_priority_is_the_client_s_word(said: str, priority: Priority) -> None:
    assert asked("/api/chat", {"X-Ollamad-Priority": said}).priority is priority


@pytest.mark.parametrize(("said", "seconds"), [("2.5", 2.5), ("0", 0.0), ("-1", None), ("nan", None), ("soon", None)])
def test_so_is_its_patience(said: str, seconds: float | None) -> None:
    assert asked("/api/chat", {"X-Ollamad-Wait-Max": said}).patience_s == seconds


def test_a_client_is_its_key_else_the_header_for_it_else_its_address() -> None:
    key = client_of({"Authorization": "Bearer secret", "X-Client": "b"}, "X-Client", "10.0.0.1")
    assert "secret" not in key
    assert key == client_of({"Authorization": "Bearer secret"}, "X-Client", "10.0.0.2")
    assert key != client_of({"X-Api-Key": "other"}, "X-Client", "10.0.0.1")
    assert client_of({"X-Client": "b"}, "X-Client", "10.0.0.1") == "b"
    assert client_of({"X-Client": "b"}, "", "10.0.0.1") == "10.0.0.1"
