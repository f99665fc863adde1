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


def make_pair(folder: Path, name: str, *, protected: bool = False, over: bool = False, usage: str = "") -> Pair:
    """A new one; its subject is `name`. A `protected` one has a key with a passphrase; that is `over` has expired.

    `usage` is what it is for, by OpenSSL's words (`clientAuth`); anything, where nothing is said.
    """
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    extended = ["-addext", f"extendedKeyUsage={usage}"] if usage else []
    closed = ["-passout", "pass:geheim"] if protected else ["-nodes"]
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2", *closed),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *extended,
            *("-out", pair.certificate, "-keyout", pair.key),
        ],
        check=True,
        capture_output=True,
    )
    pair.key.chmod(0o600)
    if over:
        _sign_for_another_time(pair, folder / f"{name}.ca")
    return pair


def _sign_for_another_time(pair: Pair, folder: Path) -> None:
    """Put one that was good for a day, long ago, in its place; only `openssl ca` takes dates in all its versions."""
    folder.mkdir()
    (folder / "index").touch()
    settings = (
        "[ca]\ndefault_ca=a\n[a]\ndatabase=index\nrand_serial=yes\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n"
    )
    (folder / "settings").write_text(f"{settings}[p]\ncommonName=supplied\n")
    asked = folder / "asked"
    subprocess.run(
        ["openssl", "req", "-new", "-subj", f"/CN={pair.certificate.stem}", "-key", pair.key, "-out", asked],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        [
            *("openssl", "ca", "-batch", "-notext", "-config", "settings", "-selfsign", "-keyfile", pair.key),
            *("-startdate", "20200101000000Z", "-enddate", "20200102000000Z", "-in", asked, "-out", pair.certificate),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )


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
