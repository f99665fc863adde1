from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ollamad.proxy.merge import running, union


def tags(*names: str, at: str = "2026-11-24T07:00:00.5Z") -> bytes:
    return json.dumps({"models": [{"name": name, "modified_at": at} for name in names]}).encode()


def names(body: bytes, field: str = "models", name: str = "name") -> list[Any]:
    return [entry[name] for entry in json.loads(body)[field]]


def test_lists_that_are_the_same_stay_as_they_are_to_the_byte() -> None:
    body = b'{"models": [ {"name":"a"}]}'
    assert union([body, body], "models", "name") is body


def test_each_model_is_listed_once_whatever_child_has_it_and_the_newest_comes_first() -> None:
    old, new = tags("a:latest", "b:latest"), tags("B:latest", "c:latest", at="2026-11-24T09:00:00.123456789+01:00")
    assert names(union([old, new], "models", "name", "modified_at")) == ["c:latest", "a:latest", "b:latest"]


def test_the_openai_list_keeps_what_is_around_it() -> None:
    bodies = [json.dumps({"object": "list", "data": [{"id": name}]}).encode() for name in ("a", "b")]
    merged = union(bodies, "data", "id")
    assert (json.loads(merged)["object"], names(merged, "data", "id")) == ("list", ["a", "b"])


@given(
    st.lists(st.binary(max_size=30) | st.sampled_from([tags("a"), b'{"models":null}', b'{"models":[1]}']), min_size=1)
)
def test_what_a_child_gets_wrong_costs_its_entries_and_no_more(bodies: list[bytes]) -> None:
    merged = union([*bodies, tags("kept"), tags("too")], "models", "name", "modified_at")
    assert {"kept", "too"} <= set(names(merged))
    assert names(running([("c", [], body) for body in [*bodies, tags("kept")]]))[-1:] != []


def test_what_is_loaded_says_where_and_what_stays_longest_comes_first() -> None:
    bodies = [
        ("gpu0", ["GPU-a"], b'{"models":[{"name":"m","expires_at":"2026-11-24T07:05:00Z"}]}'),
        ("gpu1", ["GPU-b", "GPU-c"], b'{"models":[{"name":"m","expires_at":"2318-01-01T00:00:00.123456789Z"}]}'),
        ("gpu2", ["GPU-d"], b'{"models":null}'),
    ]
    found = json.loads(running(bodies))["models"]
    assert [(entry["child"], entry["gpus"]) for entry in found] == [("gpu1", ["GPU-b", "GPU-c"]), ("gpu0", ["GPU-a"])]
