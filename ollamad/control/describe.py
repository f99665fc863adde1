"""The table of endpoints as OpenAPI 3.1, and as the table in `docs/CONTROL.md`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from ollamad import __version__
from ollamad.control.endpoints import Answer, Endpoint

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"


def openapi(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The description of the whole face."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ollamad control", "version": __version__},
        "servers": [{"url": "http://ollamad", "description": "over the unix socket, whatever the host's name"}],
        "paths": paths,
        "components": {
            "schemas": {
                **_schemas(endpoints),
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": {"type": "string"},
                        "problems": {"type": "array", "items": {"type": "string"}},
                    },
                },
            }
        },
    }


def markdown(endpoints: Iterable[Endpoint]) -> str:
    """The table for people."""
    rows = ["| ask | who | what |", "|---|---|---|"]
    for endpoint in endpoints:
        who = "operators" if endpoint.changes else "all"
        query = "".join(f" `?{parameter.name}={'1' if parameter.is_flag else '…'}`" for parameter in endpoint.query)
        rows.append(f"| `{endpoint.method} {endpoint.path}`{query} | {who} | {endpoint.meaning} |")
    return "\n".join(rows) + "\n"


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    told: dict[str, Any] = {"operationId": endpoint.handler, "summary": endpoint.meaning}
    parameters = [_in_path(name) for name in re.findall(r"{(\w+)}", endpoint.path)]
    parameters += [
        {
            "name": parameter.name,
            "in": "query",
            "description": parameter.meaning,
            "required": parameter.is_required,
            "schema": {"enum": ["0", "1"], "default": "0"} if parameter.is_flag else {"type": "string", "minLength": 1},
        }
        for parameter in endpoint.query
    ]
    if endpoint.body is not None:
        schema = {"$ref": f"#/components/schemas/{endpoint.body.__name__}"}
        told["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return told | {"parameters": parameters, "responses": _responses(endpoint)}


def _schemas(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Those of what requests carry."""
    bodies = [endpoint.body for endpoint in endpoints if endpoint.body is not None]
    return msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")[1]


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    kind = NDJSON if endpoint.answer is Answer.STREAM else JSON
    content: dict[str, Any] = {kind: {"schema": {"type": "object"}}}
    streams = any(parameter.name == "follow" for parameter in endpoint.query)
    if streams:
        content[NDJSON] = {"schema": {"type": "object"}}
    found: dict[str, Any] = {"200": {"description": endpoint.answers or endpoint.meaning, "content": content}}
    if any(parameter.name == "detach" for parameter in endpoint.query):
        found["202"] = {
            "description": "started, and not waited for",
            "content": {JSON: {"schema": {"type": "object"}}},
        }
    errors = [*endpoint.errors]
    if endpoint.query:
        errors.append((400, "a query that is none"))
    if endpoint.changes:
        errors.append((403, "this user may look, but not change things"))
    found |= {
        str(status): {
            "description": meaning,
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status, meaning in sorted(errors)
    }
    return found
