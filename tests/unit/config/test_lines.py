from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from ollamad.config.lines import key_lines
from tests.unit.config.loading import KEYS

TEXT = """\
# a comment = 1
top = 1
[proxy]  # the address
listen = "a:1"
  attempts_max=3
dotted.key = 1
"quoted" = 1
[ollama.env]
A = "[not.a.table]"
[ "gpus" ]
include = [
  0,
]
groups = [
  [0, 1],
  [2, 3]
]
exclude = []
"""


def test_keys_and_tables_are_found_on_their_lines() -> None:
    lines = key_lines(TEXT)
    assert lines == {
        "top": 2,
        "proxy": 3,
        "proxy.listen": 4,
        "proxy.attempts_max": 5,
        "proxy.dotted.key": 6,
        "proxy.quoted": 7,
        "ollama.env": 8,
        "ollama.env.A": 9,
        "gpus": 10,
        "gpus.include": 11,
        "gpus.groups": 14,
        "gpus.exclude": 18,
    }
    assert tomllib.loads(TEXT)


def test_a_key_that_is_written_twice_is_where_it_first_stands() -> None:
    assert key_lines("[log]\nlevel = 1\nlevel = 2\n")["log.level"] == 2


@given(st.permutations(KEYS[::3]), st.lists(st.sampled_from(["", "# listen = 1", "   ", "# [gpus]"]), max_size=9))
def test_every_key_is_found_whatever_the_order_and_what_stands_between(keys: list[str], between: list[str]) -> None:
    lines: list[str] = []
    where: dict[str, int] = {}
    for number, key in enumerate(keys):
        table, name = key.split(".")
        lines += [*between[: number % 3], f"{table}.{name} = 0"]
        where[key] = len(lines)
    assert key_lines("\n".join(lines)) == where


@given(st.text())
def test_no_text_is_too_odd_to_be_looked_at(text: str) -> None:
    assert all(1 <= number <= len(text.splitlines()) for number in key_lines(text).values())
