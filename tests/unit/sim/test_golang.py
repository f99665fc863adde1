from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.sim.golang import FOREVER_NS, NS, duration_ns, keep_alive_ns, keep_alive_setting_ns, stamp, to_json


@pytest.mark.parametrize(
    ("text", "length_ns"),
    [("5m", 300 * NS), ("1h30m", 5400 * NS), ("-1s", -NS), ("1.5s", 1_500_000_000), ("0", 0), ("100ms", 100_000_000)],
)
def test_durations_are_read_as_go_reads_them(text: str, length_ns: int) -> None:
    assert duration_ns(text) == length_ns


@pytest.mark.parametrize(("text", "why"), [("x", 'invalid duration "x"'), ("5", 'missing unit in duration "5"')])
def test_what_is_no_duration_is_refused_in_go_s_words(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        duration_ns(text)


@pytest.mark.parametrize(
    ("value", "length_ns"), [(5, 5 * NS), (0, 0), (0.9, 0), (-1, FOREVER_NS), ("-1m", FOREVER_NS), ("10m", 600 * NS)]
)
def test_a_keep_alive_is_seconds_or_a_duration_and_below_zero_forever(value: object, length_ns: int) -> None:
    assert keep_alive_ns(value) == length_ns


def test_the_keep_alive_of_the_environment_may_be_a_bare_number() -> None:
    assert keep_alive_setting_ns("60") == 60 * NS
    assert keep_alive_setting_ns("-1") == FOREVER_NS
    assert keep_alive_setting_ns("24h") == 86_400 * NS


@pytest.mark.parametrize(
    ("at_ns", "text"),
    [
        (1_790_000_000 * NS, "2026-09-21T14:13:20Z"),
        (1_790_000_000 * NS + 120_000_000, "2026-09-21T14:13:20.12Z"),
        (1_790_000_000 * NS + 1, "2026-09-21T14:13:20.000000001Z"),
    ],
)
def test_times_have_no_zeros_at_their_end(at_ns: int, text: str) -> None:
    assert stamp(at_ns) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a<b>&c", '"a\\u003cb\\u003e\\u0026c"'),
        ("ü", '"ü"'),
        (1e-05, "0.00001"),
        (2.5e-07, "2.5e-07"),
        (1.0, "1"),
        (-0.0, "-0"),
        (1e20, "100000000000000000000"),
        ({"b": 1, "a": [True, None]}, '{"b":1,"a":[true,null]}'),
    ],
)
def test_json_is_written_as_go_writes_it(value: object, text: str) -> None:
    assert to_json(value).decode() == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_what_is_written_reads_as_what_it_was(value: object) -> None:
    assert json.loads(to_json(value)) == value
