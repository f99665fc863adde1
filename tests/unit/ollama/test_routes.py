"""Every route of Ollama 0.33, and what a proxy before several of them makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.ollama.routes import Body, Route, is_forwarded, route_of
from ollamad.routing.decide import Need

INFERENCE = (
    "/api/generate",
    "/api/chat",
    "/api/embed",
    "/api/embeddings",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/audio/transcriptions",
)
CHANGES = (
    ("POST", "/api/pull"),
    ("POST", "/api/push"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
)
READS = (
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/api/version"),
    ("HEAD", "/api/version"),
    ("GET", "/api/status"),
    ("GET", "/api/tags"),
    ("HEAD", "/api/tags"),
    ("POST", "/api/show"),
    ("GET", "/api/ps"),
    ("POST", "/api/me"),
    ("POST", "/api/signout"),
    ("DELETE", "/api/user/keys/abc"),
    ("POST", "/api/experimental/web_search"),
    ("POST", "/api/experimental/web_fetch"),
    ("GET", "/api/experimental/model-recommendations"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/llama3.2"),
)
DIGEST = f"sha256:{'ab' * 32}"


@pytest.mark.parametrize("path", INFERENCE)
def test_inference_needs_a_runner_and_is_kept_so_that_it_can_go_elsewhere(path: str) -> None:
    assert route_of("POST", path) == Route(Need.RUNNER, Body.KEPT, elsewhere_on_5xx=True)


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_what_changes_models_goes_to_the_one_child_that_has_the_store_and_its_word_is_final(
    method: str, path: str
) -> None:
    assert route_of(method, path) == Route(Need.STORE, Body.KEPT, elsewhere_on_5xx=False)


@pytest.mark.parametrize("method", ["HEAD", "POST"])
def test_blobs_go_where_the_model_will_be_made_of_them_and_are_never_held(method: str) -> None:
    assert route_of(method, f"/api/blobs/{DIGEST}") == Route(Need.STORE, Body.STREAMED, elsewhere_on_5xx=False)


@pytest.mark.parametrize(("method", "path"), READS)
def test_what_only_reads_can_be_answered_by_any_child(method: str, path: str) -> None:
    route = route_of(method, path)
    assert (route.need, route.elsewhere_on_5xx) == (Need.ANY, False)


@given(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]), st.text(max_size=12).map("/api/new-{}".format))
def test_a_route_of_tomorrow_passes_to_any_child_as_it_comes(method: str, path: str) -> None:
    assert route_of(method, path) == Route(Need.ANY, Body.STREAMED, elsewhere_on_5xx=False)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/generate"),
        ("POST", "/api/delete"),
        ("POST", "/api/generate/"),
        ("POST", "/API/generate"),
        ("POST", "/api/blobs/"),
        ("POST", f"/api/blobs/{DIGEST}/x"),
        ("POST", f"/x/api/blobs/{DIGEST}"),
    ],
)
def test_what_is_not_quite_a_route_is_left_to_a_child_to_refuse(method: str, path: str) -> None:
    assert route_of(method, path) == Route(Need.ANY, Body.STREAMED, elsewhere_on_5xx=False)


@pytest.mark.parametrize("path", ["/debug", "/debug/", "/debug/pprof/heap"])
def test_a_profiler_is_not_for_clients(path: str) -> None:
    assert not is_forwarded(path)


@pytest.mark.parametrize("path", ["/", "/api/debug/", "/debugger", "/api/generate"])
def test_everything_else_is(path: str) -> None:
    assert is_forwarded(path)
