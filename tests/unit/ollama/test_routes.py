"""Every route of Ollama 0.33, and what a proxy before several of them makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.ollama.routes import CLOUD, UNKNOWN, Body, Effect, Kind, Named, is_forwarded, route_of
from ollamad.routing.decide import Need, Work

DIGEST = f"sha256:{'ab' * 32}"

NATIVE = ("/api/generate", "/api/chat")
COMPATIBLE = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
WHOLE = ("/api/embed", "/api/embeddings", "/v1/embeddings", "/v1/audio/transcriptions")
CHANGES = (
    ("POST", "/api/pull", Kind.PULL),
    ("POST", "/api/create", Kind.CREATE),
    ("POST", "/api/copy", Kind.COPY),
    ("DELETE", "/api/delete", Kind.DELETE),
    ("POST", f"/api/blobs/{DIGEST}", Kind.BLOB),
)
READS = (
    ("GET", "/", Kind.ANY),
    ("HEAD", "/", Kind.ANY),
    ("GET", "/api/version", Kind.VERSION),
    ("HEAD", "/api/version", Kind.ANY),
    ("GET", "/api/status", Kind.ANY),
    ("GET", "/api/tags", Kind.TAGS),
    ("HEAD", "/api/tags", Kind.TAGS),
    ("POST", "/api/show", Kind.SHOW),
    ("GET", "/api/ps", Kind.PS),
    ("POST", "/api/me", Kind.ANY),
    ("POST", "/api/signout", Kind.ANY),
    ("DELETE", "/api/user/keys/abc", Kind.ANY),
    ("POST", "/api/experimental/web_search", Kind.ANY),
    ("POST", "/api/experimental/web_fetch", Kind.ANY),
    ("GET", "/api/experimental/model-recommendations", Kind.ANY),
    ("GET", "/v1/models", Kind.MODELS),
    ("GET", "/v1/models/llama3.2", Kind.MODEL),
    ("GET", "/v1/models/me/mine:q4", Kind.MODEL),
)


@pytest.mark.parametrize("path", NATIVE + COMPATIBLE + WHOLE)
def test_inference_needs_a_runner_and_is_kept_so_that_it_can_go_elsewhere(path: str) -> None:
    route = route_of("POST", path)
    assert (route.kind, route.need, route.body) == (Kind.RUN, Need.RUNNER, Body.KEPT)
    assert route.elsewhere_on_5xx


def test_embeddings_take_milliseconds_in_a_slot_and_all_other_inference_takes_longer() -> None:
    embeds = {path for path in NATIVE + COMPATIBLE + WHOLE if route_of("POST", path).work is Work.EMBED}
    assert embeds == {"/api/embed", "/api/embeddings", "/v1/embeddings"}


@pytest.mark.parametrize(("method", "path", "kind"), CHANGES)
def test_what_changes_models_goes_to_the_one_child_that_does_and_its_word_is_final(
    method: str, path: str, kind: Kind
) -> None:
    route = route_of(method, path)
    assert (route.kind, route.need, route.effect) == (kind, Need.STORE, Effect.STORE)
    assert not route.elsewhere_on_5xx


def test_a_push_changes_nothing_here_but_reads_where_changes_are_made() -> None:
    route = route_of("POST", "/api/push")
    assert (route.kind, route.need, route.effect) == (Kind.PUSH, Need.STORE, Effect.NOTHING)


@pytest.mark.parametrize("method", ["HEAD", "POST"])
def test_blobs_are_never_held_and_asked_for_where_models_are_made(method: str) -> None:
    route = route_of(method, f"/api/blobs/{DIGEST}")
    assert (route.need, route.body) == (Need.STORE, Body.STREAMED)


@pytest.mark.parametrize(("method", "path", "kind"), READS)
def test_what_only_reads_changes_nothing_and_can_be_asked_again(method: str, path: str, kind: Kind) -> None:
    route = route_of(method, path)
    assert (route.kind, route.need, route.effect, route.body) == (kind, Need.ANY, Effect.NOTHING, Body.KEPT)
    assert not route.elsewhere_on_5xx


def test_where_the_model_s_name_is() -> None:
    assert route_of("POST", "/api/copy").named is Named.PAIR
    assert route_of("POST", "/v1/audio/transcriptions").named is Named.FORM
    assert route_of("GET", "/v1/models/m").named is Named.PATH
    assert route_of("DELETE", "/api/delete").named is Named.MODEL
    assert route_of("GET", "/api/tags").named is Named.NOWHERE


def test_a_model_in_the_cloud_asks_for_no_gpu() -> None:
    assert (CLOUD.need, CLOUD.body, CLOUD.effect) == (Need.ANY, Body.KEPT, Effect.NOTHING)


@given(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]), st.text(max_size=12).map("/api/new-{}".format))
def test_a_route_of_tomorrow_passes_to_any_child_as_it_comes(method: str, path: str) -> None:
    assert route_of(method, path) is UNKNOWN
    assert (UNKNOWN.need, UNKNOWN.body) == (Need.ANY, Body.STREAMED)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/generate"),
        ("POST", "/api/delete"),
        ("POST", "/api/generate/"),
        ("POST", "/API/generate"),
        ("OPTIONS", "/api/chat"),
        ("POST", "/api/blobs/"),
        ("POST", f"/api/blobs/{DIGEST}/x"),
        ("POST", f"/x/api/blobs/{DIGEST}"),
        ("GET", "/v1/models/"),
    ],
)
def test_what_is_not_quite_a_route_is_left_to_a_child_to_judge(method: str, path: str) -> None:
    assert route_of(method, path) is UNKNOWN


@pytest.mark.parametrize("path", ["/debug", "/debug/", "/debug/pprof/heap"])
def test_a_profiler_is_not_for_clients(path: str) -> None:
    assert not is_forwarded(path)


@pytest.mark.parametrize("path", ["/", "/api/debug/", "/debugger", "/api/generate"])
def test_everything_else_is(path: str) -> None:
    assert is_forwarded(path)
