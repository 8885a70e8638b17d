"""Small rules that keep the house in order. Each has a case that trips it."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.house.tree import CODE, PRODUCT, ROOT, name_of, python_files, text_files

FUNCTION_LINES = 60
MODULE_LINES = 600

HOMES = {"services/runtime/kafka_log.py": "the one home of aiokafka, which is a file"}
"""Modules that may be longer, and why. This list may only shrink."""

LOUD = ("services/cli/",)
"""Where `print` is how results are given; bench and deploy are not looked at."""

_UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
_MACHINE = re.compile(r"(?<![\w.:/-])/(home|root|Users|mnt|work|workspaces?)/")
_REFERENCE = re.compile(r"(?<![\w.-])(\.\./)?shared/")
_TICKET = re.compile(r"\bissue #?\d+\b", re.IGNORECASE)

_HERE = Path(__file__).resolve()

Rule = Callable[[str], Iterator[str]]


def long_functions(source: str) -> Iterator[str]:
    """Functions that do not fit a screen."""
    for node in _functions(source):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > FUNCTION_LINES:
            yield f"{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES}; split it"


def long_modules(source: str) -> Iterator[str]:
    """Modules that own more than one thing."""
    lines = source.count("\n")
    if lines > MODULE_LINES:
        yield f"1: {lines} lines, at most {MODULE_LINES}; give a part of it its own file"


def unfinished_work(text: str) -> Iterator[str]:
    """Notes to oneself: do it now, or write it into the issue tracker."""
    yield from _lines_with(text, _UNFINISHED, "finish it, or open an issue for it")


def prints(source: str) -> Iterator[str]:
    """Output that nobody can redirect, format or test."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"print", "pprint"}:
            yield f"{node.lineno}: print; return the text, or log an event"


def sleeps(source: str) -> Iterator[str]:
    """Sleeps that wait for a time instead of a condition; `asyncio.sleep(0)` only lets others run."""
    tree = ast.parse(source)
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in _SLEEPERS
        for alias in node.names
        if alias.name == "sleep"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_sleep(node.func, imported) and not _is_zero(node):
            yield f"{node.lineno}: sleep; wait for the condition with tests.waiting.wait_until"


def paths_of_one_machine(text: str) -> Iterator[str]:
    """Paths that exist on one machine only."""
    yield from _lines_with(text, _MACHINE, "no other machine has this path")


def paths_outside_the_repository(text: str) -> Iterator[str]:
    """Material that lies beside the repository: tests may use it where it is, the product never."""
    yield from _lines_with(text, _REFERENCE, "the product stands without the folder beside it")


def ticket_numbers(text: str) -> Iterator[str]:
    """Numbers of tickets: the reason belongs into the sentence."""
    yield from _lines_with(text, _TICKET, "say the reason instead")


def vague_test_names(source: str) -> Iterator[str]:
    """Tests whose names claim nothing, and test files without a test."""
    tests = [node for node in _functions(source) if node.name.startswith("test_")]
    if not tests:
        yield "1: no test in this file; write one or delete it"
    for node in tests:
        if len([word for word in node.name.split("_") if word]) < 4:
            yield f"{node.lineno}: {node.name}: name what holds, in three words or more"


_SLEEPERS = frozenset({"time", "asyncio", "anyio", "trio"})


def _is_sleep(called: ast.expr, imported: set[str]) -> bool:
    if isinstance(called, ast.Name):
        return called.id in imported
    from_module = isinstance(called, ast.Attribute) and called.attr == "sleep" and isinstance(called.value, ast.Name)
    return from_module and called.value.id in _SLEEPERS  # type: ignore[attr-defined]


def _is_zero(call: ast.Call) -> bool:
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0


def _functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _lines_with(text: str, pattern: re.Pattern[str], why: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        found = pattern.search(line)
        if found:
            yield f"{number}: {found[0]}: {why}"


def offences(rule: Rule, files: Iterator[Path]) -> list[str]:
    """What `rule` finds in `files`, each with its place."""
    paths = list(files)
    assert paths, "a rule that looks at no file holds nothing"
    return [f"{name_of(path)}:{offence}" for path in paths for offence in rule(path.read_text(encoding="utf-8"))]


def product_files_without_console() -> Iterator[Path]:
    """Python of the product, less what is there to print."""
    return (path for path in python_files(*PRODUCT) if not name_of(path).startswith(LOUD))


def modules_with_tests() -> Iterator[Path]:
    """Every test module."""
    return (path for path in python_files("tests") if path.name.startswith("test_"))


def everything_written() -> Iterator[Path]:
    """All text that people write; left out are vendored standards and this file, whose cases break its rules."""
    yield from (path for path in text_files(*CODE, "docs") if "asyncapi-3.0.0" not in path.parts and path != _HERE)
    names = ("README.md", "Makefile", "Dockerfile", "compose.yaml", "pyproject.toml", "CHANGELOG.md")
    yield from (ROOT / name for name in names if (ROOT / name).is_file())


def test_no_function_is_longer_than_a_screen() -> None:
    assert offences(long_functions, python_files(*CODE)) == []


def test_no_module_owns_more_than_one_thing() -> None:
    files = [path for path in python_files(*CODE) if name_of(path) not in HOMES]
    assert offences(long_modules, files) == []


def test_no_module_is_excused_that_is_short_enough() -> None:
    assert [name for name in HOMES if not list(long_modules((ROOT / name).read_text()))] == []


def test_no_work_is_left_for_later() -> None:
    assert offences(unfinished_work, everything_written()) == []


def test_only_the_console_prints() -> None:
    assert offences(prints, product_files_without_console()) == []


def test_tests_wait_for_conditions_and_never_sleep() -> None:
    waiting = ROOT / "tests" / "waiting.py"
    assert offences(sleeps, (path for path in python_files("tests") if path != waiting)) == []


def test_nothing_written_depends_on_one_machine() -> None:
    assert offences(paths_of_one_machine, everything_written()) == []


def test_the_product_never_looks_beside_the_repository() -> None:
    assert offences(paths_outside_the_repository, text_files(*PRODUCT, "bench", "deploy")) == []


def test_nothing_written_leans_on_a_ticket_number() -> None:
    assert offences(ticket_numbers, everything_written()) == []


def test_every_test_claims_something_by_its_name() -> None:
    assert offences(vague_test_names, modules_with_tests()) == []


def test_test_folders_are_no_packages() -> None:
    assert [name_of(path) for path in python_files("tests") if path.name == "__init__.py"] == []


_LONG_FUNCTION = "def decide():\n" + "    pass\n" * FUNCTION_LINES

CASES: list[tuple[Rule, str, int]] = [
    (long_functions, _LONG_FUNCTION, 1),
    (long_functions, "def decide():\n" + "    pass\n" * (FUNCTION_LINES - 1), 0),
    (long_modules, "x = 1\n" * (MODULE_LINES + 1), 1),
    (long_modules, "x = 1\n" * MODULE_LINES, 0),
    (unfinished_work, "x = 1  # TODO: price it", 1),
    (unfinished_work, "x = 1  # FIXME", 1),
    (unfinished_work, "currency = 'XXX'", 1),
    (unfinished_work, "the to-do list of the subscriber", 0),
    (prints, "def show():\n    print('flows')", 1),
    (prints, "console.print('flows')", 0),
    (sleeps, "import time\ntime.sleep(0.1)", 1),
    (sleeps, "from time import sleep as rest\nrest(1)", 1),
    (sleeps, "import asyncio\nasync def wait():\n    await asyncio.sleep(pause)", 1),
    (sleeps, "import asyncio\nasync def wait():\n    await asyncio.sleep(0)", 0),
    (sleeps, "fake_clock.sleep(5)", 0),
    (paths_of_one_machine, "ROOT = '/home/me/smartpipe'", 1),
    (paths_of_one_machine, "see `/work/data`", 1),
    (paths_of_one_machine, "GET http://api/home/page", 0),
    (paths_of_one_machine, "a network/workload", 0),
    (paths_outside_the_repository, "FLOWS = '../shared/data/flows.jsonl'", 1),
    (paths_outside_the_repository, "FLOWS = Path('shared/data')", 1),
    (paths_outside_the_repository, "shared buckets/pools", 0),
    (ticket_numbers, "# see issue 12", 1),
    (ticket_numbers, "the issue is that 3 buckets are empty", 0),
    (vague_test_names, "def test_bucket():\n    pass", 1),
    (vague_test_names, "def test_decide_ok():\n    pass", 1),
    (vague_test_names, "def helper():\n    pass", 1),
    (vague_test_names, "async def test_exhausted_bucket_falls_back():\n    pass", 0),
]


@pytest.mark.parametrize(
    ("rule", "text", "count"), [pytest.param(*case, id=f"{case[0].__name__}-{n}") for n, case in enumerate(CASES)]
)
def test_each_rule_is_tripped_by_what_it_refuses_and_by_nothing_else(rule: Rule, text: str, count: int) -> None:
    assert len(list(rule(text))) == count


def test_every_rule_has_a_case_that_trips_it_and_one_that_does_not() -> None:
    rules = {rule for rule, _, _ in CASES}
    assert {rule for rule, _, count in CASES if count} == rules
    assert {rule for rule, _, count in CASES if not count} == rules


def test_a_rule_that_looks_at_no_file_fails() -> None:
    with pytest.raises(AssertionError):
        offences(prints, iter(()))
