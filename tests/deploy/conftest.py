"""Programs that some of these tests need, and the rendered manifests."""

import copy
from collections.abc import Callable
from typing import NoReturn

import pytest

from deploy.checks.manifests import Manifests, render
from deploy.checks.tools import VARIABLE, ToolMissing, path_of, required


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """The path of a program; skips the test without it, or fails it where programs are required."""

    def find(name: str) -> str:
        try:
            return path_of(name)
        except ToolMissing as missing:
            _do_without(missing)

    return find


@pytest.fixture(scope="session")
def rendered() -> Callable[[str], Manifests]:
    """A rendering to look at or to break: a copy each time. Needs kubectl."""
    kept: dict[str, Manifests] = {}

    def get(name: str) -> Manifests:
        try:
            kept[name] = kept.get(name) or render(name)
        except ToolMissing as missing:
            _do_without(missing)
        return Manifests(copy.deepcopy(kept[name].objects))

    return get


def _do_without(missing: ToolMissing) -> NoReturn:
    if required(missing.tool):
        pytest.fail(f"{missing}; {VARIABLE} does not let it be skipped")
    pytest.skip(str(missing))
