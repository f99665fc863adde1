"""Which web pages may call us: `OLLAMA_ORIGINS`, as Ollama has it (envconfig/config.go, gin-contrib/cors 1.7).

A child is called by another name than the client used, so it could not tell a page of our own from a foreign one: its
requests carry no `Origin`, and the check is here, with Ollama's defaults and answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_LOCAL: Final = ("localhost", "127.0.0.1", "0.0.0.0")
DEFAULT_ORIGINS: Final = (
    *(f"{scheme}://{host}{port}" for host in _LOCAL for scheme in ("http", "https") for port in ("", ":*")),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
_STAINLESS: Final = ("lang", "package-version", "os", "arch", "retry-count", "runtime", "runtime-version", "async")
"""What OpenAI's clients tell of themselves in `x-stainless-…`, as Ollama lists it."""
_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "User-Agent",
    "Accept",
    "X-Requested-With",
    *(
        f"x-stainless-{name}"
        for name in (*_STAINLESS, "helper-method", "poll-helper", "custom-poll-interval", "timeout")
    ),
    "OpenAI-Beta",
    "X-Api-Key",  # from here on what Anthropic's clients send, which Ollama does not list
    "Anthropic-Version",
    "Anthropic-Beta",
    "Anthropic-Dangerous-Direct-Browser-Access",
)
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    "Access-Control-Allow-Headers": ",".join(_HEADERS),
    "Access-Control-Max-Age": "43200",
}
_EXPOSED: Final = "X-Ollamad-Child,X-Ollamad-Queue-Ms,X-Ollamad-Reason,X-Request-Id,Retry-After"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is to be done with a request that carries an `Origin`."""

    allowed: bool
    preflight: bool = False
    """Whether it is only the browser's question, to be answered with 204 and the fields."""
    fields: tuple[tuple[str, str], ...] = ()
    """For the response."""


NOT_ASKED: Final = Ruling(allowed=True)
REFUSED: Final = Ruling(allowed=False)


class Origins:
    """The origins that are allowed: Ollama's own and the operator's; `*` is any, and may stand once within one."""

    def __init__(self, added: Iterable[str]) -> None:
        patterns = (*added, *DEFAULT_ORIGINS)
        self._any = "*" in patterns
        self._exact = frozenset(pattern for pattern in patterns if "*" not in pattern)
        self._ends = tuple(pattern.partition("*")[::2] for pattern in patterns if "*" in pattern)

    def allow(self, origin: str) -> bool:
        """Whether pages of this origin may call us."""
        return (
            self._any
            or origin in self._exact
            or any(
                len(origin) >= len(begin) + len(end) and origin.startswith(begin) and origin.endswith(end)
                for begin, end in self._ends
            )
        )

    def rule(self, method: str, origin: str, host: str) -> Ruling:
        """What to do with a request of this method, `Origin` and `Host` (empty where there is none)."""
        if not origin or origin in {f"http://{host}", f"https://{host}"}:
            return NOT_ASKED
        if not self.allow(origin):
            return REFUSED
        fields = {"Access-Control-Allow-Origin": "*" if self._any else origin}
        if method == "OPTIONS":
            fields |= _PREFLIGHT
            vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
        else:
            fields["Access-Control-Expose-Headers"] = _EXPOSED
            vary = "Origin"
        if not self._any:
            fields["Vary"] = vary
        return Ruling(allowed=True, preflight=method == "OPTIONS", fields=tuple(fields.items()))
