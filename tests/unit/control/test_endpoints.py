"""One table, and all that is drawn from it."""

from __future__ import annotations

from pathlib import Path

from ollamad.control.describe import markdown, openapi
from ollamad.control.endpoints import ENDPOINTS, Answer
from ollamad.control.handlers import Handlers

DOCS = Path(__file__).parents[3] / "docs" / "CONTROL.md"
VERBS = frozenset({"GET", "POST"})


def test_every_row_has_a_handler_and_a_place_of_its_own() -> None:
    assert len({(row.method, row.path) for row in ENDPOINTS}) == len(ENDPOINTS)
    for row in ENDPOINTS:
        assert callable(getattr(Handlers, row.handler))
        assert row.method in VERBS
        assert row.path.startswith("/v1/")


def test_looking_is_get_and_changing_is_post() -> None:
    assert all(row.changes == (row.method == "POST") for row in ENDPOINTS)


def test_the_description_has_every_row_with_its_errors() -> None:
    told = openapi(ENDPOINTS)
    assert told["openapi"].startswith("3.1")
    for row in ENDPOINTS:
        operation = told["paths"][row.path][row.method.lower()]
        assert operation["summary"] == row.meaning
        assert "200" in operation["responses"]
        assert ("403" in operation["responses"]) == row.changes
        assert {str(status) for status, _ in row.errors} <= operation["responses"].keys()
        in_path = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
        assert in_path == ({"id"} if "{id}" in row.path else set())


def test_long_operations_can_be_left_alone() -> None:
    streams = [row for row in ENDPOINTS if row.answer is Answer.STREAM]
    assert streams
    for row in streams:
        assert row.query[0].name == "detach"
        assert "202" in openapi([row])["paths"][row.path]["post"]["responses"]


def test_the_page_in_docs_has_the_table_that_the_code_draws() -> None:
    assert markdown(ENDPOINTS) in DOCS.read_text(encoding="utf-8")
