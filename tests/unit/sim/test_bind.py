from __future__ import annotations

import pytest

from ollamad.sim.bind import BOOL, INT, KEEP_ALIVE, STRING, BadRequest, Shape, bind

SHAPE = Shape("Asked", "api", {"model": STRING, "stream": BOOL, "n": INT, "keep_alive": KEEP_ALIVE})


def test_keys_are_taken_in_any_case_the_last_one_wins_and_null_is_nothing() -> None:
    assert bind(b'{"MODEL": "a", "model": "b", "stream": null, "other": 1}', SHAPE) == {"model": "b"}


def test_what_follows_the_first_value_is_not_looked_at() -> None:
    assert bind(b'{"model": "a"} {', SHAPE) == {"model": "a"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "missing request body"),
        (b"{", "unexpected EOF"),
        (b'{"model": "a', "unexpected EOF"),
        (b"nul", "unexpected EOF"),
        (b"nonsense", "invalid character 'o' in literal null (expecting 'u')"),
        (b"what", "invalid character 'w' looking for beginning of value"),
        (b"[]", "json: cannot unmarshal array into Go value of type api.Asked"),
        (b'{"model": 3}', "json: cannot unmarshal number into Go struct field Asked.model of type string"),
        (b'{"n": true}', "json: cannot unmarshal bool into Go struct field Asked.n of type int"),
        (b'{"stream": {}}', "json: cannot unmarshal object into Go struct field Asked.stream of type bool"),
        (b'{"keep_alive": "x"}', 'time: invalid duration "x"'),
    ],
)
def test_what_can_t_be_bound_is_told_in_go_s_words(body: bytes, why: str) -> None:
    with pytest.raises(BadRequest) as told:
        bind(body, SHAPE)
    assert str(told.value) == why
