"""The engine and the contracts are pure: what they import is on a short list, and no clock or file is ever asked."""

import ast
from collections.abc import Iterator

import pytest

from tests.house.tree import ROOT, name_of, python_files

ALLOWED = frozenset(
    {
        "__future__", "abc", "array", "base64", "binascii", "bisect", "calendar", "collections", "copy", "dataclasses",
        "datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "idna", "inspect", "ipaddress",
        "itertools", "json", "math", "msgspec", "operator", "pydantic", "re", "schemas", "services", "string", "struct",
        "types", "typing", "unicodedata", "zoneinfo",
    }
)  # fmt: skip
"""Libraries that compute; zoneinfo reads the time zone tables, which are data like any catalogue."""

ADDRESS_CONVERSION = frozenset({"AF_INET", "AF_INET6", "inet_ntop", "inet_pton"})
"""The names of `socket` that open no socket; several times faster than ipaddress."""

CLOCKS = frozenset({"now", "utcnow", "today", "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter"})
"""Methods and functions that ask what time it is."""

WORLD = frozenset({"open", "input", "print", "breakpoint", "exec", "eval", "hash"})
"""Built-ins that touch the world, or differ from process to process, as hash() of a text does."""

NAMES_BY_HASH = "services/engine/hostnames.py"
"""The one table that places texts by hash(): every process gives the same answers by it, as ADR 0005 argues."""

TOOLS = ("schemas/generate.py", "schemas/compat.py")
"""The commands that write files; an import contract keeps the product away from them."""


def impurities(source: str) -> Iterator[str]:
    """What a pure module must not do and `source` does: `line: what`."""
    for node in ast.walk(ast.parse(source)):
        for what in (*_imports(node), *_calls(node)):
            yield f"{getattr(node, 'lineno', 0)}: {what}"


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name.partition(".")[0] for alias in node.names]
        yield from (f"imports {name}" for name in names if name not in ALLOWED)
    elif isinstance(node, ast.ImportFrom):
        library = (node.module or "").partition(".")[0]
        converts = library == "socket" and all(alias.name in ADDRESS_CONVERSION for alias in node.names)
        if library not in ALLOWED and not converts:
            yield f"imports from {library}"


def _calls(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.Call):
        return
    called = node.func
    if isinstance(called, ast.Attribute) and called.attr in CLOCKS:
        yield f"asks a clock: .{called.attr}()"
    elif (
        isinstance(called, ast.Attribute) and called.attr == "fromtimestamp" and len(node.args) + len(node.keywords) < 2
    ):
        yield "asks the machine's time zone: .fromtimestamp() without one"
    elif isinstance(called, ast.Name) and called.id in WORLD | CLOCKS:
        yield f"calls {called.id}()"


def test_engine_and_contracts_are_pure() -> None:
    pure = [path for path in python_files("services/engine", "schemas") if name_of(path) not in TOOLS]
    found = [
        f"{name_of(path)}:{impurity}" for path in pure for impurity in impurities(path.read_text(encoding="utf-8"))
    ]
    found = [what for what in found if not (what.startswith(NAMES_BY_HASH) and what.endswith("calls hash()"))]
    assert found == [], "time, ids and randomness arrive as arguments"
    assert len(pure) > 30


def test_the_tools_are_the_only_contracts_that_touch_files() -> None:
    assert all(list(impurities((ROOT / tool).read_text(encoding="utf-8"))) for tool in TOOLS)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import random", "1: imports random"),
        ("import os.path", "1: imports os"),
        ("from logging import getLogger", "1: imports from logging"),
        ("import requests", "1: imports requests"),
        ("from socket import inet_pton, create_connection", "1: imports from socket"),
        ("import socket", "1: imports socket"),
        ("import datetime\nat = datetime.datetime.now(datetime.UTC)", "2: asks a clock: .now()"),
        ("from datetime import date\nat = date.today()", "2: asks a clock: .today()"),
        ("at = clock.time()", "1: asks a clock: .time()"),
        ("from datetime import datetime\nat = datetime.fromtimestamp(0)",
         "2: asks the machine's time zone: .fromtimestamp() without one"),
        ("text = open('catalogue.yaml').read()", "1: calls open()"),
        ("print('decided')", "1: calls print()"),
        ("slot = hash('acc-1') % 8", "1: calls hash()"),
    ],
)  # fmt: skip
def test_an_impure_line_is_noticed(source: str, found: str) -> None:
    assert list(impurities(source)) == [found]


@pytest.mark.parametrize(
    "source",
    [
        "from socket import AF_INET, inet_pton",
        "from datetime import datetime\nat = datetime.fromtimestamp(0, zone)",
        "from schemas.flow import FlowRecord",
        "digest = hashlib.blake2b(data)",
    ],
)
def test_a_pure_line_passes(source: str) -> None:
    assert list(impurities(source)) == []
