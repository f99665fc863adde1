"""An API key: what it is for, how it is made, and how what a client sends is held against it. Pure.

A key is `olk_ID_SECRET`. The id finds it, and is no secret; the secret is 256 random bits, of which only a SHA-256 is
kept. That hash is fast, and may be: slow ones (bcrypt, Argon2) are for passwords, which people choose and others guess.
Nobody guesses 256 bits at any speed, and a slow hash at each request would be a gift to whoever floods us.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import datetime
from enum import Enum
from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, structs

from ollamad.ollama.names import canonical
from ollamad.routing.request import Priority

PREFIX: Final = "olk"
"""For those who look for secrets that were committed by mistake."""
ID_BYTES: Final = 5
SECRET_BYTES: Final = 32
ENTROPY_BYTES: Final = ID_BYTES + SECRET_BYTES
_PRESENTED: Final = re.compile(rf"{PREFIX}_([a-z2-7]{{8}})_[a-z2-7]{{52}}")


class Scope(Enum):
    """What a key may be for."""

    INFER = "infer"
    """To generate and embed, whatever is loaded or unloaded for it."""
    READ = "read"
    """To see which models there are, and which are loaded."""
    MANAGE = "manage"
    """To pull, push, create, copy, delete and upload; the account at ollama.com; and whatever ollamad does not know."""
    STATUS = "status"
    """To see the status listener: what the machine does, for whom."""


KeyName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$(?!\n)",
        extra={"expected": "a name of at most 64 letters, digits and ._@-, such as chat-ui"},
    ),
]
Glob = Annotated[str, Meta(min_length=1, max_length=200)]


class Grant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody is allowed."""

    name: KeyName
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=4)] = (Scope.INFER, Scope.READ)
    models: Annotated[tuple[Glob, ...], Meta(min_length=1, max_length=200)] = ("*",)
    """Patterns of models' names; a model without a tag is `:latest`."""
    priority: Literal["high", "normal", "low"] = "normal"
    """Its share of the slots; a request may ask for less by itself."""
    requests_per_minute: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """0: as often as it likes."""
    concurrent_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Requests at once; 0: as many as it likes."""
    expires: Annotated[datetime, Meta(tz=True)] | None = None

    @property
    def share(self) -> Priority:
        """The priority, as routing knows it."""
        return Priority[self.priority.upper()]

    @property
    def any_model(self) -> bool:
        """Whether it may use whichever model there is."""
        return "*" in self.models

    def allows_model(self, name: str) -> bool:
        """Whether it may use the model of this name, however the name is written."""
        if self.any_model:
            return True
        found = canonical(name)
        return any(fnmatchcase(found, _pattern(pattern)) for pattern in self.models)


class Key(Grant, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key as it is kept: what it grants, and nothing that opens a door."""

    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    created: Annotated[datetime, Meta(tz=True)]

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and now >= self.expires

    def is_that_of(self, presented: str) -> bool:
        """Whether a client has sent this very key. Takes as long for any other."""
        return hmac.compare_digest(self.sha256, digest(presented))


def mint(grant: Grant, entropy: bytes, now: datetime) -> tuple[str, str, Key]:
    """A new key: its id, the text that its holder gets, and what is kept. `entropy` is `ENTROPY_BYTES` of luck."""
    name = _text(entropy[:ID_BYTES])
    secret = f"{PREFIX}_{name}_{_text(entropy[ID_BYTES:])}"
    return name, secret, Key(**structs.asdict(grant), sha256=digest(secret), created=now)


def id_of(presented: str) -> str | None:
    """The id in what a client sent; None where it has not the form of a key of ours."""
    found = _PRESENTED.fullmatch(presented)
    return found[1] if found else None


def digest(presented: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(presented.encode(errors="replace")).hexdigest()


def _text(luck: bytes) -> str:
    """Letters and digits only: a double click takes all of it."""
    return base64.b32encode(luck).decode().lower().rstrip("=")


def _pattern(pattern: str) -> str:
    """As `canonical` writes names; a pattern without a tag is for `:latest`, unless it ends in a star."""
    lower = pattern.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return lower if ":" in lower.rpartition("/")[2] or lower.endswith("*") else f"{lower}:latest"
