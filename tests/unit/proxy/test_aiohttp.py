"""Our listener builds on parts of aiohttp that are promised to nobody: what breaks with a newer one is said here."""

from __future__ import annotations

import ast
import inspect
from importlib.metadata import requires, version
from itertools import chain

import pytest
from aiohttp import web

from ollamad.proxy import connection
from ollamad.proxy.connection import Connection

CALLED_BY_IT = {"handle_error", "log_exception", "eof_received"}
"""What we put in place of aiohttp's own, without a word to that."""
OWN = set(Connection.__slots__) | set(vars(Connection))


def relied_on() -> list[str]:
    """The attributes that `Connection` uses of itself, or of its base, and has not got from us."""
    source = ast.parse(inspect.getsource(connection))
    ours = next(node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "Connection")
    used = {node.attr for node in _attributes(ours) if _is_self(node.value)}
    return sorted((used - OWN) | {node.attr for node in _attributes(ours) if _is_super(node.value)} | CALLED_BY_IT)


def _attributes(tree: ast.AST) -> list[ast.Attribute]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


@pytest.mark.parametrize("name", relied_on())
def test_what_our_connection_relies_on_is_there(name: str) -> None:
    slots = set(chain.from_iterable(getattr(kind, "__slots__", ()) for kind in web.RequestHandler.__mro__))
    assert name in slots or hasattr(web.RequestHandler, name), (
        f"aiohttp {version('aiohttp')} has no RequestHandler.{name}, on which ollamad/proxy/connection.py relies:"
        " look what took its place, and raise the pin in pyproject.toml when its tests pass"
    )


def test_it_looks_at_the_attributes_that_matter() -> None:
    assert {"_messages", "_manager", "finish_response", "handle_error", "force_close"} <= set(relied_on())


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("handle_error", ["self", "request", "status", "exc", "message"]),
        ("finish_response", ["self", "request", "resp", "start_time"]),
        ("data_received", ["self", "data"]),
    ],
)
def test_what_we_override_is_called_as_we_expect(method: str, parameters: list[str]) -> None:
    found = list(inspect.signature(getattr(web.RequestHandler, method)).parameters)
    assert found == parameters, f"aiohttp {version('aiohttp')} calls RequestHandler.{method} with {found}"


def test_aiohttp_is_pinned_to_the_minor_version_that_these_tests_ran_with() -> None:
    pin = next(line for line in requires("ollamad") or () if line.startswith("aiohttp"))
    major, minor = map(int, version("aiohttp").split(".")[:2])
    assert f">={major}.{minor}" in pin
    assert f"<{major}.{minor + 1}" in pin
