"""What `GET /status` says, held against its published schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from ollamad.status.dashboard import load_schema


def strict_schema() -> dict[str, Any]:
    """The published schema; but here a field that it does not describe is an error."""
    schema: dict[str, Any] = json.loads(load_schema())
    _close(schema)
    return schema


def complaints(document: object) -> list[str]:
    """What is wrong with a document; empty where nothing is."""
    errors = jsonschema.Draft202012Validator(strict_schema()).iter_errors(json.loads(json.dumps(document)))
    return [f"{error.json_path}: {error.message}" for error in errors]


def _close(part: Any) -> None:
    if isinstance(part, dict):
        if "properties" in part:
            part["additionalProperties"] = False
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            _close(inner)
