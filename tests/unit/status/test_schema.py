from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from ollamad.fleet.models_view import CopyView, ModelsView, PullView, SyncReport, WantedView
from ollamad.status.dashboard import load_schema
from ollamad.status.models import whole_status
from ollamad.supervision.pinning import Proof
from ollamad.supervision.state import Phase, Want
from tests.support.schema import complaints, strict_schema
from tests.support.showcase import Showcase

MODELS = ModelsView(
    "per-child",
    pulls=(PullView("m:latest", "pulling", 1, 2, 3),),
    copies=(CopyView("sha256:1", 1, 2),),
    ensure=(WantedView("m:latest", "retrying", "no network", 30.0),),
    preload=(WantedView("m:latest", "loaded"),),
    sync=SyncReport(5.0, models=3, blobs={"linked": 1}, notes=("a",), problems=("b",)),
)


def document(show: Showcase) -> dict[str, Any]:
    return whole_status(show.look(), MODELS)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(load_schema()))


@pytest.mark.parametrize("gpus", [0, 1, 16])
def test_what_status_says_is_what_the_schema_describes_and_nothing_else(gpus: int) -> None:
    show = Showcase(gpus=gpus)
    assert complaints(document(show)) == []


@pytest.mark.parametrize(
    "path", [("children", 0, "phase"), ("children", 0, "gpus", 0, "uuid"), ("ready",), ("children", 0, "streams")]
)
def test_a_field_that_is_missing_is_noticed(path: tuple[Any, ...]) -> None:
    told = document(Showcase())
    place = told
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    assert complaints(told)


def test_a_field_that_nobody_has_described_is_noticed() -> None:
    assert complaints({**document(Showcase()), "new": 1})


def test_the_schema_names_the_very_phases_wants_and_proofs_that_there_are() -> None:
    child = strict_schema()["$defs"]["child"]["properties"]
    assert set(child["phase"]["enum"]) == {phase.value for phase in Phase}
    assert set(child["want"]["enum"]) == {want.value for want in Want}
    assert set(child["pinning"]["properties"]["proof"]["enum"]) == {proof.value for proof in Proof}


def test_every_field_says_what_it_is() -> None:
    def bare(schema: dict[str, Any], where: str) -> list[str]:
        found = []
        for name, inner in schema.get("properties", {}).items():
            if "description" not in inner and "$ref" not in inner:
                found.append(f"{where}.{name}")
            found += bare(inner, f"{where}.{name}")
        return found

    schema = strict_schema()
    assert [gap for name, part in {"": schema, **schema["$defs"]}.items() for gap in bare(part, name)] == []
