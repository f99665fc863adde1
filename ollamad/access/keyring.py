"""The keys in force: who a request is from, how much each key has had, and the one that changes their file.

Keys are few and lie in memory; the file is read when it has changed. One that can't be used changes nothing: the keys
of before stay in force, and the log says why.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Final

import structlog

from ollamad.access.bucket import draw, full
from ollamad.access.file import Signature, read_keys, signature, write_keys
from ollamad.access.holder import Holder, Usage
from ollamad.access.key import ENTROPY_BYTES, Grant, Key, Scope, id_of, mint
from ollamad.access.refusals import forbidden, too_many, unauthorized
from ollamad.errors import ClientError, ConfigError, OperationFailed

log = structlog.get_logger()

SESSION_S: Final = 60
"""How long a key that ollamactl was lent begins requests; a download that it has begun goes on."""
SESSIONS_MAX: Final = 1000
OPERATOR: Final = "ollamactl"
"""The label of keys that are lent."""


class Keyring:
    """All keys. Without a file nobody is asked for one."""

    def __init__(self, path: Path | None, keys_max: int) -> None:
        self.path = path
        self._keys_max = keys_max
        self._keys: dict[str, Key] = {}
        self._lent: dict[str, Key] = {}
        self._usage: dict[str, Usage] = {}
        self._seen: Signature = ()
        self._turns = count()
        self._turn = 0
        """Of the keys in force: they were read, or written, after those of every lower number."""
        self._changing = asyncio.Lock()

    @property
    def closed(self) -> bool:
        """Whether keys are asked for."""
        return self.path is not None

    @property
    def keys(self) -> Mapping[str, Key]:
        """Those of the file, by id."""
        return self._keys

    def usage(self, key_id: str) -> Usage:
        """What a key has had."""
        return self._usage.setdefault(key_id, Usage())

    def read(self) -> Callable[[], None]:
        """Read the file, which may block; gives what takes its keys into force. Raises ConfigError.

        Nothing is taken where keys that were read or written later have come into force meanwhile.
        """
        if self.path is None:
            return lambda: None
        turn = next(self._turns)
        seen = signature(self.path)  # before it is read: what comes later is read again
        keys = read_keys(self.path)
        return lambda: self._take(keys, seen, turn)

    async def look(self) -> None:
        """Read the file again if it has changed. Raises ConfigError."""
        if self.path is not None and await asyncio.to_thread(signature, self.path) != self._seen:
            async with self._changing:
                (await asyncio.to_thread(self.read))()

    def holder(self, presented: str) -> Holder:
        """Whose key this is. Raises ClientError with 401."""
        key_id = id_of(presented) or ""
        key = self._keys.get(key_id) or self._lent.get(key_id)
        if key is None or not key.is_that_of(presented):
            raise unauthorized("this API key is not known here; ollamactl key list tells which are")
        if key.is_expired(datetime.now(UTC)):
            raise unauthorized("this API key has expired; ollamactl key create makes another")
        return Holder(key_id, key, self._usage.setdefault(key_id, Usage()))

    async def create(self, grant: Grant) -> tuple[str, str]:
        """A new key; gives its id, and the text that is told once. Raises OperationFailed."""
        async with self._changing:
            path = await self._read_again()
            if any(key.name == grant.name for key in self._keys.values()):
                raise OperationFailed(f"there is a key {grant.name} already; revoke it first, or choose another name")
            if len(self._keys) >= self._keys_max:
                raise OperationFailed(f"there are {len(self._keys)} keys, as many as [access] keys_max allows")
            key_id, secret, key = mint(grant, secrets.token_bytes(ENTROPY_BYTES), _now())
            await self._write(path, {**self._keys, key_id: key})
            log.info("key created", key=grant.name, id=key_id, scopes=[scope.value for scope in grant.scopes])
            return key_id, secret

    async def revoke(self, wanted: str, *, let_finish: bool = False) -> tuple[str, Key, int]:
        """Take a key, named by its id or its name, out of force; gives how many requests of it were ended.

        With `let_finish` what it has begun goes on. Raises OperationFailed.
        """
        async with self._changing:
            path = await self._read_again()
            found = next((one for one in self._keys.items() if wanted in {one[0], one[1].name}), None)
            if found is None:
                raise ClientError(404, f"there is no key {wanted!r}; ollamactl key list tells which there are")
            key_id, key = found
            begun = self.usage(key_id).begun
            await self._write(path, {name: key for name, key in self._keys.items() if name != key_id})
            ended = 0 if let_finish else sum(holder.revoke() for holder in (*begun,))
            log.info("key revoked", key=key.name, id=key_id, requests_ended=ended)
            return key_id, key, ended

    def lend(self, *scopes: Scope) -> str:
        """A key for ollamactl, for a minute, that is kept nowhere."""
        now = _now()
        self._lent = {name: key for name, key in self._lent.items() if not key.is_expired(now)}
        if len(self._lent) >= SESSIONS_MAX:
            raise OperationFailed("too many commands ask for a key at once; try again in a minute")
        grant = Grant(name=OPERATOR, scopes=scopes, expires=now + timedelta(seconds=SESSION_S))
        key_id, secret, key = mint(grant, secrets.token_bytes(ENTROPY_BYTES), now)
        self._lent[key_id] = key
        self._forget()
        return secret

    async def _read_again(self) -> Path:
        if self.path is None:
            raise OperationFailed('no keys are asked for here; set [access] keys_file = "…" and start ollamad anew')
        try:
            (await asyncio.to_thread(self.read))()
        except ConfigError as error:
            raise OperationFailed(str(error)) from error
        return self.path

    async def _write(self, path: Path, keys: dict[str, Key]) -> None:
        await asyncio.to_thread(write_keys, path, keys)
        turn = next(self._turns)
        self._take(keys, await asyncio.to_thread(signature, path), turn)

    def _take(self, keys: dict[str, Key], seen: Signature, turn: int) -> None:
        if turn < self._turn:
            return
        self._turn = turn
        if len(keys) != len(self._keys) or keys != self._keys:
            log.info("keys in force", keys=len(keys), file=str(self.path))
        self._keys, self._seen = keys, seen
        self._forget()

    def _forget(self) -> None:
        """What nobody holds a key of any more, unless something that it began goes on."""
        known = {*self._keys, *self._lent}
        self._usage = {name: one for name, one in self._usage.items() if name in known or one.in_flight}


def admit(holder: Holder, scope: Scope) -> None:
    """Let a request in, and count it until it `leaves`. Raises ClientError: 403 or 429."""
    key, usage = holder.key, holder.usage
    if scope not in key.scopes:
        scopes = ", ".join(one.value for one in key.scopes)
        raise forbidden(f'this API key may not do this: it takes the scope "{scope.value}", and it has {scopes}')
    if key.concurrent_max and usage.in_flight >= key.concurrent_max:
        raise too_many(f"this API key has {usage.in_flight} requests in flight, as many as it may", 1)
    if key.requests_per_minute:
        now_s = time.monotonic()
        bucket = usage.bucket or full(key.requests_per_minute, now_s)
        usage.bucket, wait_s = draw(bucket, key.requests_per_minute, now_s)
        if wait_s:
            raise too_many(f"this API key may ask {key.requests_per_minute} times a minute", int(wait_s) + 1)
    usage.begun[holder] = None
    usage.requests += 1
    usage.last_used = _now()


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
