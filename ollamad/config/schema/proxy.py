"""`[proxy]`: the listener for clients."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ollamad.config.schema.kinds import Count, Seconds, SecondsOrNone


class Proxy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address that clients use: a drop-in Ollama endpoint."""

    listen: Annotated[str, Meta(description="Where clients send requests; Ollama's own address by default.")] = (
        "127.0.0.1:11434"
    )
    allow_unauthenticated: Annotated[
        bool,
        Meta(
            description="Whether whoever reaches an address beyond this machine may use it, and delete models, without a key."
        ),
    ] = False
    tls_certificate: Annotated[
        str,
        Meta(
            description="A certificate with its chain, PEM: clients then use https. Changed files are taken into use."
        ),
    ] = ""
    tls_key: Annotated[str, Meta(description="Its private key, PEM, without a passphrase, not readable for all.")] = ""
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Host names that clients may call us by, beside Ollama's own (IP addresses of this machine,"
                ' localhost, *.local, …). Name the one that your nginx passes on; "*" allows any.'
            )
        ),
    ] = ()
    body_max_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=4 * 1024**3,
            description="A JSON request is kept whole until its answer begins, so that it can be sent again; at most this.",
        ),
    ] = 64 * 1024**2
    attempts_max: Annotated[
        int,
        Meta(
            ge=1,
            le=16,
            description="How often one request is sent, the first included, before its failure is told.",
        ),
    ] = 3
    ready_wait_s: Annotated[
        SecondsOrNone,
        Meta(
            description="How long a request waits for a child when none is ready (all restarting) before it gets 503."
        ),
    ] = 30.0
    waiting_max: Annotated[Count, Meta(description="How many requests may wait so; the next one gets 503 at once.")] = (
        512
    )
    connect_timeout_s: Annotated[
        Seconds,
        Meta(description="A child on this machine that does not accept within this is taken for dead."),
    ] = 5.0
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Addresses or networks of proxies before us: what they say of a client's address"
                " (X-Forwarded-For, Forwarded) is believed, others' is dropped."
            )
        ),
    ] = ("127.0.0.0/8", "::1/128")
    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Origins of web pages that may call us, beside Ollama's own (this machine's, desktop apps'); as"
                ' OLLAMA_ORIGINS: "https://chat.example.com", "chrome-extension://*", "*" for any.'
            )
        ),
    ] = ()
    connections_max: Annotated[
        Count,
        Meta(description="Clients connected at once, within the open files that the system allows; one more gets 503."),
    ] = 16_384
    connections_per_client_max: Annotated[
        Count,
        Meta(
            description="Of these from one address, or one IPv6 network of /64; trusted_proxies, which speak for many, have no bound of their own."
        ),
    ] = 1024
    requests_per_client_per_minute: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Requests from one address, or one IPv6 network of /64; one more is told 429. 0: no bound.",
        ),
    ] = 0
    header_fields_max: Annotated[
        int, Meta(ge=16, le=10_000, description="A request's header fields; one with more is refused.")
    ] = 128
    header_max_bytes: Annotated[
        int,
        Meta(ge=1024, le=1024**2, description="A request's longest line: its first one, or a header field."),
    ] = 16_384
    header_timeout_s: Annotated[
        Seconds,
        Meta(description="A request's head must be here this long after its first byte, or the client is cut."),
    ] = 15.0
    keepalive_timeout_s: Annotated[
        Seconds, Meta(description="How long a client's connection may be without a request.")
    ] = 75.0
    body_timeout_s: Annotated[
        Seconds,
        Meta(
            description="A request's body may be silent for this long; one that is kept must be here by then, and a second later for every body_rate_min_bytes_s of it."
        ),
    ] = 30.0
    body_rate_min_bytes_s: Annotated[
        int, Meta(ge=1, le=1024**3, description="Slower than this, a body that is kept is given up.")
    ] = 4096
    bodies_max_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=1024**4,
            description="All the bodies that are kept at once; a request that would be more gets 503.",
        ),
    ] = 1024**3
    linger_s: Annotated[
        SecondsOrNone,
        Meta(
            description="A request that is answered before its body is here: how long the rest is read, so that the client can read the answer. So long, too, is a client waited with that has closed its half."
        ),
    ] = 10.0
    stream_buffer_max_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            le=1024**3,
            description="What a client has not taken yet; beyond it, reading from its child stops until it has.",
        ),
    ] = 65_536
    stream_idle_timeout_s: Annotated[
        SecondsOrNone,
        Meta(
            description="A response that has begun and then is silent for this long is taken for dead; 0: never. Ollama is silent while it writes a tool call."
        ),
    ] = 900.0
    client_stall_timeout_s: Annotated[
        Seconds, Meta(description="A client that takes nothing of its response for this long is cut.")
    ] = 120.0
    child_idle_connections_max: Annotated[
        Count, Meta(description="Connections to one child that are kept for the next request.")
    ] = 64
    child_idle_timeout_s: Annotated[Seconds, Meta(description="How long one is kept.")] = 60.0
    child_header_max_bytes: Annotated[
        int, Meta(ge=1024, le=1024**2, description="The head of a child's response; one that is larger is refused.")
    ] = 65_536
    shutdown_notice_s: Annotated[
        SecondsOrNone,
        Meta(
            description="At stop, requests are still taken for this long, while /readyz and the agent say otherwise: with a"
            " load balancer before several hosts, longer than it takes to look again."
        ),
    ] = 0.0
    shutdown_grace_s: Annotated[
        SecondsOrNone,
        Meta(description="At stop, streams may go on this long after that; then they end with an error object."),
    ] = 2.0
