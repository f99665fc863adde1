"""The keys in force: who is known, what each may have, and how they change."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ollamad.access import keyring as module
from ollamad.access.file import read_keys, write_keys
from ollamad.access.key import Grant, Scope, id_of
from ollamad.access.keyring import Keyring, admit
from ollamad.errors import ClientError, ConfigError, OperationFailed, TurnedAway


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys.toml", keys_max=2)


def refused(call: object, *arguments: object) -> ClientError:
    assert callable(call)
    with pytest.raises(ClientError) as caught:
        call(*arguments)
    return caught.value


async def test_a_key_that_was_made_is_known_at_once_and_after_a_restart(ring: Keyring) -> None:
    key_id, secret = await ring.create(Grant(name="chat"))
    assert (ring.holder(secret).id, ring.holder(secret).label) == (key_id, "chat")
    assert ring.path is not None
    again = Keyring(ring.path, keys_max=2)
    again.read()()
    assert again.holder(secret).key == ring.keys[key_id]


async def test_what_is_told_of_a_key_is_no_secret(ring: Keyring) -> None:
    with capture_logs() as logged:
        _, secret = await ring.create(Grant(name="chat"))
        await ring.revoke("chat")
    assert [entry["event"] for entry in logged] == ["keys in force", "key created", "keys in force", "key revoked"]
    assert secret.rpartition("_")[2] not in str(logged)


@pytest.mark.parametrize("by", ["name", "id"])
async def test_a_revoked_key_is_not_known_any_more(ring: Keyring, by: str) -> None:
    key_id, secret = await ring.create(Grant(name="chat"))
    await ring.revoke({"name": "chat", "id": key_id}[by])
    assert refused(ring.holder, secret).status == 401
    with pytest.raises(ClientError, match="no key 'chat'"):
        await ring.revoke("chat")


async def test_a_key_that_is_revoked_while_a_reload_goes_on_stays_revoked(ring: Keyring) -> None:
    _, secret = await ring.create(Grant(name="chat"))
    take = ring.read()  # as a reload does, which takes it into force when it has read all else
    await ring.revoke("chat")
    take()
    assert refused(ring.holder, secret).status == 401


async def test_a_revocation_ends_what_is_in_flight_once_and_what_is_another_s_not_at_all(ring: Keyring) -> None:
    (_, leaked), (_, kept) = await ring.create(Grant(name="leaked")), await ring.create(Grant(name="kept"))
    ended: list[str] = []
    over, going_on, other = (ring.holder(secret) for secret in (leaked, leaked, kept))
    for name, holder in (("over", over), ("going on", going_on), ("other", other)):
        admit(holder, Scope.INFER)
        holder.end = partial(ended.append, name)
    over.leaves()
    assert (await ring.revoke("leaked"))[2] == 1
    assert (ended, going_on.revoke(), other.usage.in_flight) == (["going on"], False, 1)


async def test_who_is_let_finish_is_not_ended(ring: Keyring) -> None:
    _, secret = await ring.create(Grant(name="chat"))
    holder = ring.holder(secret)
    admit(holder, Scope.INFER)
    holder.end = partial(pytest.fail, "it was ended")
    assert (await ring.revoke("chat", let_finish=True))[2] == 0


async def test_names_are_their_holder_s_alone_and_keys_have_a_number(ring: Keyring) -> None:
    await ring.create(Grant(name="chat"))
    with pytest.raises(OperationFailed, match="there is a key chat already"):
        await ring.create(Grant(name="chat"))
    await ring.create(Grant(name="other"))
    with pytest.raises(OperationFailed, match="keys_max"):
        await ring.create(Grant(name="third"))


async def test_what_is_no_key_and_what_is_another_s_secret_are_401(ring: Keyring) -> None:
    key_id, secret = await ring.create(Grant(name="chat"))
    for wrong in ("", "sk-1", secret[:-1], secret.upper(), f"olk_{key_id}_{'a' * 52}", f"olk_aaaaaaaa_{'a' * 52}"):
        error = refused(ring.holder, wrong)
        assert (error.status, error.why) == (401, TurnedAway.NO_KEY)
        assert wrong == "" or wrong not in str(error)


async def test_an_expired_key_says_so(ring: Keyring) -> None:
    _, secret = await ring.create(Grant(name="chat", expires=datetime.now(UTC) - timedelta(seconds=1)))
    assert "has expired" in str(refused(ring.holder, secret))


async def test_without_a_file_nobody_is_asked_and_no_key_is_made() -> None:
    ring = Keyring(None, keys_max=2)
    assert not ring.closed
    ring.read()()
    await ring.look()
    with pytest.raises(OperationFailed, match=r"\[access\] keys_file"):
        await ring.create(Grant(name="chat"))


async def test_a_changed_file_is_taken_into_use_and_what_came_before_is_kept_by_its_holder(ring: Keyring) -> None:
    _, secret = await ring.create(Grant(name="chat"))
    holder = ring.holder(secret)
    admit(holder, Scope.READ)
    assert ring.path is not None
    write_keys(ring.path, {})
    await ring.look()
    assert refused(ring.holder, secret).status == 401
    write_keys(ring.path, {holder.id: holder.key})
    await ring.look()
    assert ring.holder(secret).usage.in_flight == 1, "what it had in flight is counted on"


async def test_a_file_that_can_not_be_used_changes_nothing(ring: Keyring) -> None:
    _, secret = await ring.create(Grant(name="chat"))
    assert ring.path is not None
    ring.path.chmod(0o644)
    with pytest.raises(ConfigError):
        await ring.look()
    assert ring.holder(secret).label == "chat"
    with pytest.raises(OperationFailed, match="chmod 600"):
        await ring.create(Grant(name="other"))
    ring.path.chmod(0o600)
    await ring.look()


async def test_what_somebody_else_wrote_meanwhile_is_not_lost(ring: Keyring) -> None:
    assert ring.path is not None
    other = Keyring(ring.path, keys_max=9)
    await other.create(Grant(name="theirs"))
    await ring.create(Grant(name="ours"))
    assert {key.name for key in read_keys(ring.path).values()} == {"theirs", "ours"}


async def test_changes_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys.toml", keys_max=99)
    async with asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(ring.create(Grant(name=f"k{number}")))
    assert len(read_keys(tmp_path / "keys.toml")) == 10


async def test_a_key_is_lent_for_a_minute_and_kept_nowhere(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = ring.lend(Scope.READ)
    holder = ring.holder(secret)
    assert (holder.label, holder.key.scopes) == ("ollamactl", (Scope.READ,))
    assert not ring.keys
    assert ring.path is not None
    assert not ring.path.exists()
    monkeypatch.setattr(module, "SESSION_S", -1)
    over = ring.lend(Scope.READ)
    assert refused(ring.holder, over).status == 401


def test_so_many_are_lent_at_once(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SESSIONS_MAX", 2)
    ring.lend(Scope.READ)
    ring.lend(Scope.READ)
    with pytest.raises(OperationFailed, match="too many"):
        ring.lend(Scope.READ)


async def test_a_scope_that_a_key_has_not_is_403(ring: Keyring) -> None:
    _, secret = await ring.create(Grant(name="chat"))
    error = refused(admit, ring.holder(secret), Scope.MANAGE)
    assert (error.status, error.why) == (403, TurnedAway.NOT_ALLOWED)
    assert "manage" in str(error)
    assert ring.holder(secret).usage.in_flight == 0


async def test_requests_at_once_are_counted_and_given_back_once(ring: Keyring) -> None:
    _, secret = await ring.create(Grant(name="chat", concurrent_max=1))
    first = ring.holder(secret)
    admit(first, Scope.INFER)
    error = refused(admit, ring.holder(secret), Scope.INFER)
    assert (error.status, error.retry_after_s, error.why) == (429, 1, TurnedAway.TOO_MANY)
    first.leaves()
    first.leaves()
    admit(ring.holder(secret), Scope.INFER)
    assert first.usage.in_flight == 1


async def test_requests_a_minute_are_counted_and_it_is_told_when_to_come_back(ring: Keyring) -> None:
    _, secret = await ring.create(Grant(name="chat", requests_per_minute=2))
    for _ in range(2):
        admit(ring.holder(secret), Scope.INFER)
    error = refused(admit, ring.holder(secret), Scope.READ)
    assert error.status == 429
    assert 1 <= (error.retry_after_s or 0) <= 31


async def test_the_compare_is_by_a_hash_of_what_was_sent(ring: Keyring) -> None:
    _, secret = await ring.create(Grant(name="chat"))
    key = ring.keys[id_of(secret) or ""]
    assert len(key.sha256) == 64
    assert key.is_that_of(secret)
    assert not key.is_that_of(key.sha256)
