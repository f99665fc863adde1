from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.access.key import Scope
from ollamad.access.scopes import scope_of
from ollamad.ollama.routes import _ROUTES, Effect, Kind, route_of

INFER = [
    *("/api/generate", "/api/chat", "/api/embed", "/api/embeddings", "/v1/chat/completions", "/v1/completions"),
    *("/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/audio/transcriptions"),
    *("/api/experimental/web_search", "/api/experimental/web_fetch"),
]
READ = ["/", "/api/version", "/api/status", "/api/tags", "/api/ps", "/v1/models", "/v1/models/m:1"]
MANAGE = ["/api/pull", "/api/push", "/api/create", "/api/copy", "/api/blobs/sha256:0", "/api/me", "/api/signout"]


def scope(method: str, path: str) -> Scope:
    return scope_of(path, route_of(method, path))


@pytest.mark.parametrize("path", INFER)
def test_to_generate_and_embed_takes_infer(path: str) -> None:
    assert scope("POST", path) is Scope.INFER


@pytest.mark.parametrize("path", READ)
def test_to_look_takes_read(path: str) -> None:
    assert scope("GET", path) is Scope.READ
    assert scope("POST", "/api/show") is Scope.READ


@pytest.mark.parametrize("path", MANAGE)
def test_to_change_models_or_the_account_takes_manage(path: str) -> None:
    assert scope("POST", path) is Scope.MANAGE
    assert scope("DELETE", "/api/delete") is scope("DELETE", "/api/user/keys/x") is Scope.MANAGE


@pytest.mark.parametrize(("method", "path"), sorted(_ROUTES))
def test_no_route_that_changes_the_store_is_had_for_less_than_manage(method: str, path: str) -> None:
    route = route_of(method, path)
    if route.effect is Effect.STORE or route.kind in {Kind.PUSH, Kind.BLOB}:
        assert scope(method, path) is Scope.MANAGE


@given(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "X"]), st.text(max_size=12))
def test_what_is_not_known_takes_manage(method: str, text: str) -> None:
    path = f"/new/{text}"
    assert scope(method, path) is Scope.MANAGE


@pytest.mark.parametrize("path", ["/api/pull/", "//api/pull", "/api/./pull", "/API/PULL", "/api/tags/", "/api/chat/"])
def test_another_way_to_write_a_path_is_another_path(path: str) -> None:
    assert scope("POST", path) is Scope.MANAGE
