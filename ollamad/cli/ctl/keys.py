"""Commands about API keys. The daemon makes and keeps them; what it tells once is printed once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from ollamad.cli.ctl.context import Context
from ollamad.cli.ctl.errors import DONE
from ollamad.cli.ctl.text import NOTHING, Column, span, table

Document = Mapping[str, Any]

COLUMNS = (
    Column("NAME"),
    Column("ID"),
    Column("SCOPES"),
    Column("MODELS", shrinks=True),
    Column("PRIORITY", drops=True),
    Column("RATE", right=True, drops=True),
    Column("AT ONCE", right=True, drops=True),
    Column("EXPIRES"),
    Column("REQUESTS", right=True, drops=True),
    Column("LAST USED", right=True, drops=True),
)


def create(context: Context) -> int:
    """A new key: the key alone on standard output, what to do with it on standard error."""
    options = context.options
    grant: dict[str, Any] = {
        "name": options.name,
        "scopes": options.scopes or ["infer", "read"],
        "models": options.models or ["*"],
        "requests_per_minute": options.rate,
        "concurrent_max": options.concurrent,
        "priority": options.priority,
        "expires": options.expires,
    }
    made = context.control.post("/v1/keys", grant)
    if context.json:
        context.document(made)
        return DONE
    context.lines([made["key"]])
    print(
        f"This is the key of {made['name']}, told this once: send it as `Authorization: Bearer KEY`.", file=context.err
    )
    return DONE


def listed(context: Context) -> int:
    """All keys."""
    document = context.control.get("/v1/keys")
    if context.json:
        context.document(document)
        return DONE
    if not document["closed"]:
        context.say('No key is asked for here: [access] keys_file = "…" says where keys are kept, and asks for them.')
        return DONE
    now = datetime.now(UTC)
    rows = [_row(key, now) for key in document["keys"]]
    context.lines(table(COLUMNS, rows, context.width) if rows else ["There is no key yet: ollamactl key create NAME"])
    return DONE


def revoke(context: Context) -> int:
    """A key out of force, and what it has in flight ended."""
    flag = "?let_finish=1" if context.options.let_finish else ""
    gone = context.control.post(f"/v1/keys/{quote(context.options.key, safe='')}/revoke{flag}")
    if context.json:
        context.document(gone)
    ended = gone["requests_ended"]
    told = f"; {ended} {'request' if ended == 1 else 'requests'} of it ended" if ended else ""
    context.say(f"{gone['name']} ({gone['id']}) is revoked{told}")
    return DONE


def _row(key: Document, now: datetime) -> list[str]:
    last = key["last_used"]
    return [
        key["name"],
        key["id"],
        ", ".join(key["scopes"]),
        ", ".join(key["models"]),
        key["priority"],
        f"{key['requests_per_minute']}/min" if key["requests_per_minute"] else NOTHING,
        str(key["concurrent_max"] or NOTHING),
        _until(key["expires"], now),
        str(key["requests"]),
        f"{span((now - datetime.fromisoformat(last)).total_seconds())} ago" if last else NOTHING,
    ]


def _until(expires: str | None, now: datetime) -> str:
    if expires is None:
        return NOTHING
    left_s = (datetime.fromisoformat(expires) - now).total_seconds()
    return f"in {span(left_s)}" if left_s > 0 else "expired"
