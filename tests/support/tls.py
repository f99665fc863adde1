"""Certificates for tests, made by openssl, and what a client sees of one."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate for localhost that signs itself, and its key."""

    certificate: Path
    key: Path


def make_pair(folder: Path, name: str, *, protected: bool = False) -> Pair:
    """A new one; its subject is `name`. A `protected` one has a key with a passphrase."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    closed = ["-passout", "pass:geheim"] if protected else ["-nodes"]
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2", *closed),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-out", pair.certificate, "-keyout", pair.key),
        ],
        check=True,
        capture_output=True,
    )
    pair.key.chmod(0o600)
    return pair


def trusting(*pairs: Pair) -> ssl.SSLContext:
    """What a client needs to believe these and no others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for pair in pairs:
        context.load_verify_locations(pair.certificate)
    return context


async def subject_at(port: int, context: ssl.SSLContext) -> str:
    """Whose certificate is shown at a port of this machine."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    found = writer.get_extra_info("peercert")["subject"][0][0][1]
    writer.close()
    return str(found)
