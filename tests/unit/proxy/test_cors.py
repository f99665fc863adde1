"""Which pages may call us, as Ollama has it."""

from __future__ import annotations

import pytest

from ollamad.proxy.cors import NOT_ASKED, REFUSED, Origins

OURS = Origins(["https://chat.example.com", "chrome-extension://*", "https://*.example.org"])


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://localhost:8443",
        "http://127.0.0.1:3000",
        "http://0.0.0.0",
        "app://obsidian.md",
        "file://",
        "tauri://localhost",
        "vscode-webview://abc",
        "vscode-file://vscode-app",
        "https://chat.example.com",
        "chrome-extension://abcdef",
        "https://a.b.example.org",
    ],
)
def test_ollama_s_own_origins_and_the_operator_s_may(origin: str) -> None:
    assert OURS.allow(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://localhost.evil.example",
        "http://evil.example",
        "https://chat.example.com:8443",
        "http://chat.example.com",
        "https://.example.org.evil",
        "https://example.org",
        "moz-extension://abc",
        "http://192.168.1.5",
        "",
    ],
)
def test_others_may_not(origin: str) -> None:
    assert not OURS.allow(origin)


def test_browser_extensions_must_be_named() -> None:
    assert not Origins([]).allow("chrome-extension://abcdef")


def test_a_request_without_an_origin_or_of_a_page_of_our_own_is_no_matter_of_cors() -> None:
    assert OURS.rule("GET", "", "h") is NOT_ASKED
    assert OURS.rule("POST", "http://h:8080", "h:8080") is NOT_ASKED
    assert OURS.rule("OPTIONS", "https://h", "h") is NOT_ASKED
    assert OURS.rule("GET", "http://h:8080", "h") is REFUSED


def test_a_preflight_is_told_what_may_be_sent() -> None:
    ruling = OURS.rule("OPTIONS", "https://chat.example.com", "h")
    fields = dict(ruling.fields)
    assert (ruling.allowed, ruling.preflight) == (True, True)
    assert fields["Access-Control-Allow-Origin"] == "https://chat.example.com"
    assert "x-stainless-os" in fields["Access-Control-Allow-Headers"].split(",")
    assert "DELETE" in fields["Access-Control-Allow-Methods"].split(",")
    assert "Access-Control-Request-Headers" in fields["Vary"]


def test_a_response_says_for_whom_it_is() -> None:
    fields = dict(OURS.rule("POST", "http://localhost", "h").fields)
    assert (fields["Access-Control-Allow-Origin"], fields["Vary"]) == ("http://localhost", "Origin")
    assert "X-Ollamad-Child" in fields["Access-Control-Expose-Headers"]


def test_where_any_may_the_answer_is_the_same_for_all() -> None:
    fields = dict(Origins(["*"]).rule("POST", "https://anything.example", "h").fields)
    assert (fields["Access-Control-Allow-Origin"], "Vary" in fields) == ("*", False)
