"""What the listener gives out of the package: the page, with headers that let it load nothing and nobody frame it."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

_INLINE: Final = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """One HTML file with its style and its script inside."""

    body: bytes
    headers: dict[str, str]


def load_page() -> Page:
    """The page out of the package. Its policy names its one style and its one script by their hashes."""
    text = _packaged("dashboard.html")
    hashes = {kind: _hash(inside) for kind, inside in _INLINE.findall(text)}
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; style-src {hashes['style']}; script-src {hashes['script']}; "
        "require-trusted-types-for 'script'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return Page(text.encode(), headers)


def load_schema() -> bytes:
    """The JSON Schema of `GET /status`, out of the package."""
    return _packaged("status.schema.json").encode()


def _packaged(name: str) -> str:
    return files("ollamad.status").joinpath("page", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
