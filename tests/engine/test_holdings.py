"""What an account can hold together, and what it has for certain."""

from typing import Any

import pytest

from services.engine.holdings import Holdings
from tests.engine.world import catalogue

PLANS: tuple[dict[str, Any], ...] = (
    {"id": "p", "kind": "base_plan", "rules": ["rp", "both"]}, {"id": "q", "kind": "base_plan", "rules": ["both"]},
)  # fmt: skip
RULES = [{"id": name} for name in ("rp", "both", "own")]


def made(*offerings: dict[str, Any]) -> tuple[Holdings, dict[str, Any]]:
    found = catalogue(*PLANS, *offerings, rules=RULES)
    return Holdings(found), {offering.id: offering for offering in found.offerings}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({}, {}, True),
        ({"excludes": ["b"]}, {}, False),
        ({}, {"excludes": ["a"]}, False),
        ({"kind": "base_plan"}, {"kind": "base_plan"}, False),
        ({"requires": ["p"]}, {"requires": ["q"]}, False),
        ({"requires": ["p", "q"]}, {"requires": ["q"]}, True),
        ({"requires": ["p", "q"], "excludes": ["q"]}, {"requires": ["q"]}, False),
        ({"requires": ["p"]}, {}, True),
        ({"requires": ["p"]}, {"kind": "base_plan"}, False),
        ({"requires": ["p"]}, {"requires": ["a"]}, True),
        ({"requires": ["b"]}, {"requires": ["a"]}, True),
        ({"eligibility": {"segments": ["group"]}}, {"eligibility": {"segments": ["individual"]}}, False),
        ({"eligibility": {"segments": ["group"]}}, {"eligibility": {"payments": ["prepaid"]}}, True),
    ],
)
def test_offerings_can_be_held_together(one: dict[str, Any], other: dict[str, Any], expected: bool) -> None:
    holdings, offerings = made({"id": "a", **one}, {"id": "b", **other})
    assert holdings.together(offerings["a"], offerings["b"]) == expected
    assert holdings.together(offerings["b"], offerings["a"]) == expected


def test_an_offering_is_held_twice_unless_it_says_otherwise() -> None:
    holdings, offerings = made({"id": "a"}, {"id": "b", "max_held": 1})
    assert holdings.together(offerings["a"], offerings["a"])
    assert not holdings.together(offerings["b"], offerings["b"])


@pytest.mark.parametrize(
    ("requires", "expected"),
    [([], {"own"}), (["p"], {"own", "rp", "both"}), (["p", "q"], {"own", "both"}), (["b"], {"own", "both"})],
)
def test_certain_are_the_own_rules_and_those_that_all_it_can_require_bring(
    requires: list[str], expected: set[str]
) -> None:
    holdings, _ = made({"id": "a", "requires": requires, "rules": ["own"]}, {"id": "b", "requires": ["q"]})
    assert holdings.certain_rules("a") == expected
