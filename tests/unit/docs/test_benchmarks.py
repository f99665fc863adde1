"""The page of benchmarks is what the figures say, and other pages have no figure that is not there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.findings import PARTS, RESULTS, Part
from bench.page import draw

DOCS = Path(__file__).parents[3] / "docs"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
RAN = json.loads((RESULTS / "ran.json").read_text())


def test_the_page_is_drawn_of_the_figures_that_lie_here() -> None:
    assert (DOCS / "BENCHMARKS.md").read_text() == draw(), "type: make bench ARGS=--draw"


@pytest.mark.parametrize("part", PARTS, ids=[part.name for part in PARTS])
def test_every_benchmark_was_run_in_full(part: Part) -> None:
    assert not RAN[part.name]["quick"]


def test_the_figures_that_compare_it_are_those_of_the_benchmarks() -> None:
    compared = (DOCS / "COMPARED.md").read_text()
    table = re.findall(r"^\|[^|]+\|(.+)\|$", compared.partition("## In figures")[2].partition("\n## ")[0], re.MULTILINE)
    named = {number for row in table for number in NUMBER.findall(row)}
    assert len(named) > 10
    assert named <= set(NUMBER.findall((DOCS / "BENCHMARKS.md").read_text()))
