"""The status listener as OpenAPI 3.1: what can be asked, and what is answered."""

from __future__ import annotations

import json
from typing import Any, Final

from ollamad import __version__
from ollamad.status.dashboard import load_schema

_ERROR: Final = {"$ref": "#/components/schemas/Error"}
_FLAG: Final = {"type": "boolean"}
REFUSALS: Final = {
    401: "an API key with the scope `status` is needed here, and it has come without one",
    403: "its key has not that scope, or it was called by a name that is not allowed here",
    429: "its key has asked as often as it may",
}
"""Of every path but the probes'."""

ROWS: Final[tuple[tuple[str, str, str, str, dict[str, Any], dict[int, str]], ...]] = (
    ("/", "dashboard", "The dashboard", "text/html", {"type": "string"}, {}),
    (
        "/events",
        "events",
        "What the dashboard shows, as server-sent events, until the reader leaves",
        "text/event-stream",
        {"type": "string"},
        {503: "as many as `status.viewers_max` have it open"},
    ),
    ("/status", "status", "The status document", "application/json", {"$ref": "#/components/schemas/Status"}, {}),
    (
        "/status.schema.json",
        "schema",
        "The JSON Schema of the status document",
        "application/schema+json",
        {"type": "object"},
        {},
    ),
    ("/openapi.json", "description", "This description", "application/json", {"type": "object"}, {}),
    ("/metrics", "metrics", "Metrics, as Prometheus reads them", "text/plain", {"type": "string"}, {}),
    ("/healthz", "healthz", "Whether the process lives", "application/json", {"properties": {"ok": _FLAG}}, {}),
    (
        "/readyz",
        "readyz",
        "Whether at least one child takes requests",
        "application/json",
        {"properties": {"ready": _FLAG}},
        {503: "no child takes requests"},
    ),
)
"""Path, name, meaning, kind and shape of the answer, and the refusals of its own."""


def openapi() -> dict[str, Any]:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "ollamad status", "version": __version__},
        "security": [{}, {"bearer": []}, {"basic": []}],
        "paths": {row[0]: {"get": _operation(*row)} for row in ROWS},
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
            "schemas": {
                "Status": _status(),
                "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
            },
        },
    }


def _status() -> dict[str, Any]:
    """The schema as it is published, its references from where it stands here: not every tool minds an `$id` within."""
    text = load_schema().decode().replace('"#/$defs/', '"#/components/schemas/Status/$defs/')
    return {name: part for name, part in json.loads(text).items() if name not in {"$id", "$schema"}}


def _operation(
    path: str, name: str, meaning: str, kind: str, schema: dict[str, Any], refusals: dict[int, str]
) -> dict[str, Any]:
    probe = path in {"/healthz", "/readyz"}
    told = {**({} if probe else REFUSALS), **refusals}
    answer = {"application/json": {"schema": schema if probe else _ERROR}}
    errors = {str(status): {"description": why, "content": answer} for status, why in sorted(told.items())}
    good = {"200": {"description": meaning, "content": {kind: {"schema": schema}}}}
    return {"operationId": name, "summary": meaning, "responses": {**good, **errors}}
