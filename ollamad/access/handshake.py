"""Whether clients believe a certificate: OpenSSL is asked, by a handshake between two ends in memory.

Who signed it is not asked, as only clients know whom they trust: the certificate itself is what this one trusts.
"""

from __future__ import annotations

import ssl
from pathlib import Path


def why_not_believed(server: ssl.SSLContext, certificate: Path) -> str | None:
    """What a client would say of the certificate that this context shows; None where it would go on.

    `certificate` is the file it is from.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # what clients call us is not known here
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certificate)
    asks, answers = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs, ours = client.wrap_bio(answers, asks), server.wrap_bio(asks, answers, server_side=True)
    try:
        while _wants_more(theirs):
            _wants_more(ours)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", None) or str(error.reason).lower().replace("_", " ")
        return f"clients will refuse it ({reason}): put a better one in its place, which is taken into use at once"
    return None


def _wants_more(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return True
    return False
