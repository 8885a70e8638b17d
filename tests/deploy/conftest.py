"""Programs that some of these tests need, and the rendered manifests."""

import copy
from collections.abc import Callable

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
            if required():
                pytest.fail(f"{missing}; {VARIABLE}=1 does not let it be skipped")
            pytest.skip(str(missing))

    return find


@pytest.fixture(scope="session")
def rendered(tool) -> Callable[[str], Manifests]:
    """A rendering to look at or to break: a copy each time."""
    tool("kubectl")
    kept: dict[str, Manifests] = {}

    def get(name: str) -> Manifests:
        if name not in kept:
            kept[name] = render(name)
        return Manifests(copy.deepcopy(kept[name].objects))

    return get
