"""Pages, example files and code name the same keys, commands, files and events."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ollamad.cli.ctl.parser import parser as ctl_parser
from ollamad.config import Config
from ollamad.config.load import ENVIRONMENT_PREFIX, NOT_KEYS, key_types

ROOT: Final = Path(__file__).parents[3]
PAGES: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
IDS: Final = [str(page.relative_to(ROOT)) for page in PAGES]
KEYS: Final = frozenset(key_types())
TABLES: Final = frozenset(Config.__struct_fields__)
SUFFIXES: Final = (".py", ".md", ".toml", ".service")
SYNONYMS: Final = frozenset({"why", "cause", "exc", "err", "msg", "message", "worker", "backend"})
"""Fields of log events that would be a second name for one that there is."""

each_page = pytest.mark.parametrize("page", PAGES, ids=IDS)


def fences(text: str) -> Iterator[str]:
    """What stands in a page as code: indented by four, or fenced."""
    yield from re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    yield from (re.sub(r"(?m)^ {4}", "", block) for block in re.findall(r"(?:^ {4}.*\n|^\n)+", text, re.MULTILINE))


@each_page
def test_every_key_that_a_page_names_is_one(page: Path) -> None:
    named = set(re.findall(r"`([a-z_]+\.[a-z_]+)(?: ?=[^`]*)?`", page.read_text()))
    ours = {name for name in named if name.partition(".")[0] in TABLES and not name.endswith(SUFFIXES)}
    assert ours <= KEYS
    spelt = re.findall(r"`\[(\w+)\] (\w+)`", page.read_text())
    assert {f"{table}.{key}" for table, key in spelt if table in TABLES} <= KEYS


@each_page
def test_every_piece_of_configuration_on_a_page_has_only_keys_that_there_are(page: Path) -> None:
    for block in fences(page.read_text()):
        table = ""
        for line in block.splitlines():
            if header := re.match(r"\[([\w.]+)\]", line):
                table = header[1]
            elif table in TABLES and (setting := re.match(r"(\w+) = ", line)):
                assert f"{table}.{setting[1]}" in KEYS, f"[{table}] {line}"


@each_page
def test_every_variable_that_a_page_names_sets_a_key(page: Path) -> None:
    for name in set(re.findall(rf"\b{ENVIRONMENT_PREFIX}[A-Z_]+[A-Z]\b", page.read_text())) - NOT_KEYS:
        table, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        assert f"{table}.{key}" in KEYS or is_field_of_a_journal(name) or name in OF_KUBERNETES, name


OF_KUBERNETES: Final = frozenset({"OLLAMAD_PORT"})


def is_field_of_a_journal(name: str) -> bool:
    """Journal fields are our facts in capitals; the table that they could be taken for does not exist."""
    return name.removeprefix(ENVIRONMENT_PREFIX).partition("_")[0].lower() not in TABLES and name not in OF_KUBERNETES


def commands(tree: argparse.ArgumentParser) -> frozenset[str]:
    """The words that may follow a program's name."""
    (sub,) = (action for action in tree._actions if isinstance(action, argparse._SubParsersAction))
    return frozenset(sub.choices)


@each_page
def test_every_command_that_a_page_tells_to_type_exists(page: Path) -> None:
    text = "\n".join([*fences(page.read_text()), *re.findall(r"`([^`\n]+)`", page.read_text())])
    told = set(re.findall(r"(?m)(?:^|[/$ ])ollamactl (?:--\w+ )*([a-z][a-z-]+)\b", text))
    assert told <= commands(ctl_parser())


@each_page
def test_every_link_of_a_page_leads_to_a_file_that_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), target


def test_decisions_are_numbered_from_one_without_a_gap_and_each_title_has_its_number() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [page.name[:5] for page in pages] == [f"{number:04}-" for number in range(1, len(pages) + 1)]
    for number, page in enumerate(pages, start=1):
        assert page.read_text().startswith(f"# {number}. "), page.name


def test_every_room_has_a_row_on_the_page_of_floors() -> None:
    text = (ROOT / "docs/ARCHITECTURE.md").read_text()
    rooms = [path for path in (ROOT / "ollamad").iterdir() if path.is_dir() and not path.name.startswith("_")]
    modules = [path for path in (ROOT / "ollamad").glob("*.py") if not path.name.startswith("_")]
    missing = [path.name for path in rooms if f"`{path.name}/`" not in text]
    assert missing + [path.name for path in modules if f"`{path.name}`" not in text] == []


def modules_named(text: str) -> Iterator[str]:
    """What a page calls `room/module.py`, and so must be there."""
    rooms = "|".join(path.name for path in (ROOT / "ollamad").iterdir() if path.is_dir())
    yield from re.findall(rf"`(?:ollamad/)?((?:{rooms})/[\w/]+\.py)`", text)


@each_page
def test_every_module_that_a_page_names_is_there(page: Path) -> None:
    for name in modules_named(page.read_text()):
        assert (ROOT / "ollamad" / name).exists(), name


def events() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Every log event that the code has as a text: where, the event, its fields."""
    for path in sorted((ROOT / "ollamad").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            log, event = node.func.value, node.args[0]
            name = log.id if isinstance(log, ast.Name) else log.attr if isinstance(log, ast.Attribute) else ""
            levels = {"debug", "info", "warning", "error", "exception"}
            if name in {"log", "_log"} and node.func.attr in levels and isinstance(event, ast.Constant):
                fields = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
                yield f"{path.relative_to(ROOT)}:{node.lineno}", str(event.value), fields


def test_log_events_are_short_phrases_in_lower_case_and_their_facts_are_fields() -> None:
    found = list(events())
    assert len(found) > 50
    for where, event, fields in found:
        assert re.fullmatch(r"[a-z][a-z' ,]{2,48}[a-z]", event), f"{where}: {event!r}"
        assert not fields & SYNONYMS, f"{where}: {sorted(fields & SYNONYMS)}; the word is reason, or error"
        assert not [field for field in fields if re.search(r"_(sec|secs|seconds|millis|mb|kb|size)$", field)], where


def test_the_words_of_the_design_are_all_explained() -> None:
    table = (ROOT / "docs/WORDS.md").read_text()
    for word in (
        "child",
        "runner",
        "want / phase",
        "probe",
        "resident",
        "slot",
        "sample",
        "snapshot",
        "lease",
        "store",
    ):
        assert f"| {word} |" in table
