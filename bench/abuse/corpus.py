"""Requests to start from, good ones and hostile ones, and what is done to them: as bytes, repeatable by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

KEY: Final = b"@KEY@"
"""Stands for an API key that is in force."""

_HEAD: Final = b"Host: 127.0.0.1\r\nAuthorization: Bearer @KEY@\r\n"


def post(path: bytes, body: bytes, fields: bytes = b"Content-Type: application/json\r\n") -> bytes:
    """A request with a body of its length."""
    return b"POST %b HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n%b" % (path, _HEAD, fields, len(body), body)


def get(path: bytes, fields: bytes = b"", method: bytes = b"GET") -> bytes:
    """A request without one."""
    return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (method, path, _HEAD, fields)


def chunked(path: bytes, *pieces: bytes) -> bytes:
    """A request with a body in chunks."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return b"POST %b HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n%b" % (path, _HEAD, body)


_CHAT: Final = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"options":{"num_ctx":8192}}'
_FORM: Final = (
    b"--b\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n"
    b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nxx\r\n--b--\r\n"
)
BASES: Final = (
    *(
        get(path)
        for path in (
            *(b"/", b"/api/version", b"/api/tags", b"/api/ps", b"/v1/models", b"/v1/models/m", b"/api/status"),
            *(b"/status", b"/metrics", b"/healthz", b"/readyz", b"/status.schema.json"),
            *(b"/debug/pprof/", b"/api/../api/tags", b"//api/tags", b"/api/tags/", b"/%2e%2e/%00", b"/\xff\xfe", b"*"),
            *(b"http://127.0.0.1/api/tags", b"http://evil.example/x?y#z", b"/api/tags?" + b"a=b&" * 200),
        )
    ),
    get(b"/api/blobs/sha256:" + b"a" * 64, method=b"HEAD"),
    get(b"/api/tags", method=b"OPTIONS", fields=b"Origin: http://localhost\r\nAccess-Control-Request-Method: POST\r\n"),
    get(b"/api/tags", fields=b"Origin: https://evil.example\r\n"),
    get(b"/api/tags", fields=b'X-Forwarded-For: 1.2.3.4, ::1, x\r\nForwarded: for="[::1]:4";proto=https\r\n'),
    get(b"/", fields=b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"),
    get(b"/", fields=b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(100))),
    get(b"/", fields=b"Cookie: " + b"a" * 8000 + b"\r\n"),
    *(post(path, _CHAT) for path in (b"/api/chat", b"/v1/chat/completions", b"/v1/messages", b"/v1/responses")),
    post(b"/api/generate", b'{"model":"m","prompt":"hi","stream":false,"keep_alive":"5m"}'),
    post(b"/api/generate", b'{"model":"m","keep_alive":0}'),
    post(b"/api/embed", b'{"model":"m","input":["a","b"]}'),
    post(b"/api/show", b'{"model":"m","MODEL":"n","name":null}'),
    post(b"/api/copy", b'{"source":"m","destination":"n"}'),
    post(b"/api/create", b'{"model":"n","from":"m","stream":false}'),
    post(b"/api/chat", b"[" * 5000 + b"]" * 5000),
    post(b"/api/chat", b'{"model":' + b'{"a":' * 500 + b"1" + b"}" * 501),
    post(b"/api/chat", b'{"model":"\\ud800\\u0000\\n","messages":1e999}'),
    post(b"/api/chat", b"\x28\xb5\x2f\xfd" + bytes(range(256)), b"Content-Encoding: zstd\r\n"),
    post(b"/api/chat", b"\x1f\x8b\x08\x00" + b"\x00" * 100, b"Content-Encoding: gzip\r\n"),
    post(b"/v1/audio/transcriptions", _FORM, b"Content-Type: multipart/form-data; boundary=b\r\n"),
    post(b"/api/chat", _CHAT, b"Expect: 100-continue\r\n"),
    post(b"/api/chat", _CHAT, b"X-Ollamad-Priority: high\r\nX-Ollamad-Wait-Max: nan\r\nX-Request-Id: a b\r\n"),
    chunked(b"/api/generate", b'{"model":"m",', b'"prompt":"x"}'),
    chunked(b"/api/blobs/sha256:" + b"b" * 64, b"x" * 1000),
    chunked(b"/unknown", b"abc"),
    post(b"/api/chat", _CHAT).replace(b"Bearer @KEY@", b"Bearer olk_aaaaaaaa_" + b"a" * 52),
    post(b"/api/chat", _CHAT).replace(b"Authorization: Bearer", b"X-Api-Key:"),
    get(b"/api/tags").replace(b"Bearer @KEY@", b"Basic eDp5"),
    get(b"/api/tags").replace(b"127.0.0.1", b"evil.example"),
)

TOKENS: Final = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"%00",
        b"%0d%0a",
        b"\x80\xff",
        b"\xe2\x80\xae",
        b"{{",
        b"'",
    ),
    *(b"Content-Length: 5\r\n", b"Content-Length: 99999999999999999999\r\n", b"Content-Length: -1\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity, chunked\r\n", b"Connection: close\r\n"),
    *(b"Connection: content-length, authorization\r\n", b"Expect: 100-continue\r\n", b"Expect: x\r\n"),
    *(b"Host: evil.example\r\n", b"Origin: null\r\n", b"Trailer: Host\r\n", b"TE: trailers\r\n", b"Upgrade: h2c\r\n"),
    *(
        b"0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"HTTP/1.0",
        b"HTTP/9.9",
        b"GET / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ),
    *(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"A" * 3000, b'"model":"', b"\x1b[2J"),
)

Change = Callable[[bytearray, random.Random], None]


def _flip(raw: bytearray, luck: random.Random) -> None:
    raw[luck.randrange(len(raw))] ^= 1 << luck.randrange(8)


def _cut(raw: bytearray, luck: random.Random) -> None:
    begin = luck.randrange(len(raw))
    del raw[begin : begin + luck.randint(1, 20)]


def _twice(raw: bytearray, luck: random.Random) -> None:
    begin = luck.randrange(len(raw))
    raw[begin:begin] = raw[begin : begin + luck.randint(1, 60)]


def _insert(raw: bytearray, luck: random.Random) -> None:
    begin = luck.randint(0, len(raw))
    raw[begin:begin] = luck.choice(TOKENS)


def _insert_line(raw: bytearray, luck: random.Random) -> None:
    begin = raw.find(b"\r\n", luck.randrange(len(raw)))
    if begin >= 0:
        raw[begin + 2 : begin + 2] = luck.choice(TOKENS)


def _end_early(raw: bytearray, luck: random.Random) -> None:
    del raw[luck.randint(1, len(raw)) :]


CHANGES: Final[tuple[Change, ...]] = (_flip, _flip, _cut, _twice, _insert, _insert_line, _insert_line, _end_early)


def fuzzed(luck: random.Random, key: bytes) -> bytes:
    """One request, changed in nought to four places."""
    raw = bytearray(luck.choice(BASES))
    for _ in range(luck.choice((0, 0, 1, 1, 2, 4))):
        if raw:
            luck.choice(CHANGES)(raw, luck)
    return bytes(raw).replace(KEY, key)
