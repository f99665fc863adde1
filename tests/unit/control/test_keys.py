"""API keys over the control socket, by curl and by ollamactl."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ollamad.access.key import Scope
from ollamad.config.schema import Control
from ollamad.control.access import Access
from ollamad.control.keys import LOOKING, KeyHandlers
from tests.support.control_face import Face, face


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Face]:
    async with face(tmp_path / "control.sock", keys_file=tmp_path / "keys.toml") as found:
        yield found


async def post(here: Face, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    async with here.session.post(f"http://ollamad{path}", data=json.dumps(body)) as answer:
        return answer.status, await answer.json()


async def test_a_key_is_told_once_and_listed_without_what_opens_a_door(here: Face) -> None:
    with capture_logs() as logged:
        code, made = await post(here, "/v1/keys", {"name": "chat", "models": ["llama3*"]})
        _, told = await here.ask("GET", "/v1/keys")
    assert (code, made["name"], made["key"][:12]) == (200, "chat", f"olk_{made['id']}")
    (key,) = told["keys"]
    assert told["closed"]
    assert (key["id"], key["models"], key["scopes"], key["requests"]) == (made["id"], ["llama3*"], ["infer", "read"], 0)
    assert not {"sha256", "key"} & {*key}
    assert made["key"] not in json.dumps(told) + str(logged)


@pytest.mark.parametrize("by", ["id", "name"])
async def test_a_key_is_revoked_by_its_id_or_its_name(here: Face, by: str) -> None:
    _, made = await post(here, "/v1/keys", {"name": "chat"})
    gone = await post(here, f"/v1/keys/{made[by]}/revoke")
    assert gone == (200, {"id": made["id"], "name": "chat", "requests_ended": 0})
    assert (await here.ask("GET", "/v1/keys"))[1]["keys"] == []
    assert (await post(here, f"/v1/keys/{made[by]}/revoke"))[0] == 404


@pytest.mark.parametrize("body", [None, [], {}, {"name": "a b"}, {"name": "a", "scope": "infer"}, {"name": "a\n"}])
async def test_what_grants_nothing_is_400_and_says_where_to_look(here: Face, body: object) -> None:
    code, told = await post(here, "/v1/keys", body)
    assert code == 400
    assert "/v1/openapi.json" in told["error"]


async def test_what_can_not_be_done_now_is_409(here: Face) -> None:
    await post(here, "/v1/keys", {"name": "chat"})
    code, told = await post(here, "/v1/keys", {"name": "chat"})
    assert (code, "already" in told["error"]) == (409, True)


async def test_without_a_file_of_keys_none_are_lent_and_none_are_made(tmp_path: Path) -> None:
    async with face(tmp_path / "control.sock") as here:
        assert await here.ask("GET", "/v1/key") == (200, {"key": None})
        code, told = await post(here, "/v1/keys", {"name": "chat"})
        assert (code, "keys_file" in told["error"]) == (409, True)
        assert (await here.ctl("key", "list"))[:2] == (
            0,
            'No key is asked for here: [access] keys_file = "…" says where keys are kept, and asks for them.\n',
        )


async def test_who_may_only_look_is_lent_a_key_to_look(here: Face) -> None:
    async with face(here.path.with_name("other.sock"), Control(), keys_file=here.path.with_name("keys.toml")) as other:
        _, told = await other.ask("GET", "/v1/key")
        assert told["key"].startswith("olk_")
    handlers = KeyHandlers(here.keyring)
    for may_change, scopes in ((True, (*Scope,)), (False, LOOKING)):
        assert Access(frozenset({1}), everybody=may_change).everybody is may_change
        lent = json.loads(handlers.lent(may_change=may_change).text or "")["key"]
        assert here.keyring.holder(lent).key.scopes == scopes


async def test_ollamactl_prints_the_key_alone_so_that_it_can_be_piped(here: Face) -> None:
    code, out, err = await here.ctl(
        *("key", "create", "chat", "--scope", "infer", "--model", "llama3*", "--rate", "60", "--concurrent", "4"),
        *("--priority", "low", "--expires", "90d"),
    )
    assert code == 0, err
    assert here.keyring.holder(out.strip()).label == "chat"
    assert "told this once" in err
    key = here.keyring.holder(out.strip()).key
    assert (key.scopes, key.models, key.requests_per_minute, key.concurrent_max, key.priority) == (
        (Scope.INFER,),
        ("llama3*",),
        60,
        4,
        "low",
    )
    assert key.expires is not None
    assert timedelta(days=89) < key.expires - datetime.now(UTC) <= timedelta(days=90)


async def test_ollamactl_lists_and_revokes(here: Face) -> None:
    assert (await here.ctl("key", "list"))[1] == "There is no key yet: ollamactl key create NAME\n"
    await here.ctl("key", "create", "chat", "--expires", "2020-01-01")
    _, out, _ = await here.ctl("key", "list")
    header, row = out.splitlines()
    assert header.split()[:4] == ["NAME", "ID", "SCOPES", "MODELS"]
    assert row.split()[0] == "chat"
    assert "expired" in row
    _, out, _ = await here.ctl("key", "list", "--json")
    assert json.loads(out)["keys"][0]["name"] == "chat"
    assert (await post(here, "/v1/keys/chat/revoke?let_finish=perhaps"))[0] == 400
    code, out, _ = await here.ctl("key", "revoke", "chat", "--let-finish")
    assert (code, out.endswith("is revoked\n")) == (0, True)
    code, _, err = await here.ctl("key", "revoke", "chat")
    assert (code, "no key 'chat'" in err) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("key",),
        ("key", "create"),
        ("key", "create", "a", "--expires", "soon"),
        ("key", "create", "a", "--scope", "all"),
        ("key", "create", "a", "--rate", "0"),
    ],
)
async def test_what_can_not_be_meant_is_wrong_usage(here: Face, arguments: tuple[str, ...]) -> None:
    assert (await here.ctl(*arguments))[0] == 2
