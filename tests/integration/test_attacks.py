"""What strangers try, each held to what it should get; `make attacks` prints the same as a table."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bench.abuse.attacks import ATTACKS, CLOSED, OPEN, Attack
from bench.relay import parties
from bench.relay.parties import Party

GROWTH_MAX_BYTES = 48 * 1024**2
"""More than what a body of the largest size that is kept takes on its way, and less than any attack asks for."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def listeners(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[bool, Party]]:
    """Two daemons, by whether they ask for keys."""
    one, other = (tmp_path_factory.mktemp(name) for name in ("open", "closed"))
    keys = {"access": {"keys_file": str(other / "keys.toml")}, **CLOSED}
    async with (
        parties.ollamad(one, tables={**OPEN, "control": {"socket": str(one / "control.sock")}}) as opened,
        parties.ollamad(other, tables={**keys, "control": {"socket": str(other / "control.sock")}}) as closed,
    ):
        yield {False: opened, True: closed}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
async def test_an_attack_gets_what_the_table_says(attack: Attack, listeners: dict[bool, Party]) -> None:
    party = listeners[attack.closed]
    before = party.rss_bytes()
    got = await attack.run(party)
    assert re.fullmatch(attack.gets, got), got
    assert party.rss_bytes() - before < GROWTH_MAX_BYTES
    answer = await parties.get(party.port, "/api/version")
    assert (b"version" in answer) is not attack.closed, "it still answers, whoever may ask"


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_the_page_in_docs_has_it(attack: Attack) -> None:
    page = Path(__file__).parents[2] / "docs" / "SECURITY.md"
    assert f"| {attack.name} |" in page.read_text(encoding="utf-8")
