"""What a gateway is told when a campaign's budget is used up, and when it is back: also without any flow."""

from typing import Any

import pytest

from tests.engine.world import World, catalogue

DATA = {"id": "data", "octets": 1_000}
RULE = {"id": "sponsored", "precedence": 10, "charging": "sponsored", "campaign": "c",
        "scope": {"applications": ["youtube"]}}  # fmt: skip
BUDGET = {"octets": 1_000_000}


def world_of(
    on_empty: str = "charge", *, allowances: list[Any] | None = None, rules: list[Any] | None = None, **profile: Any
) -> World:
    held = [RULE] if rules is None else rules
    plan = {"id": "plan", "allowances": [DATA] if allowances is None else allowances, "rules": [r["id"] for r in held]}
    campaigns = [
        {"id": "c", "sponsor_id": "tube", "budget": {**BUDGET, "on_empty": on_empty}},
        {"id": "open", "sponsor_id": "tube"},
    ]
    world = World(catalogue(plan, {"id": "other"}, rules=held, campaigns=campaigns), **profile)
    world.activate("plan")
    return world


def test_a_budget_that_blocks_closes_the_gate_at_its_end_and_opens_it_when_it_is_back() -> None:
    world = world_of("block")
    assert world.budgets_end("c") == [("modify", "sponsored", "closed", None)]
    assert world.gates() == {"sponsored": "closed", "default": "open"}
    assert world.budgets_end() == [("modify", "sponsored", "open", "tube")]
    assert world.gates() == {"sponsored": "open", "default": "open"}


def test_a_budget_that_charges_takes_its_sponsor_out_of_the_rule_and_leaves_the_gate_open() -> None:
    world = world_of("charge")
    assert world.budgets_end("c") == [("modify", "sponsored", "open", None)]
    assert world.budgets_end() == [("modify", "sponsored", "open", "tube")]


def test_where_nothing_else_can_pay_the_end_of_a_budget_that_charges_closes_the_gate() -> None:
    world = world_of("charge", allowances=[])
    assert world.gates() == {"sponsored": "open", "default": "closed"}
    assert world.budgets_end("c") == [("modify", "sponsored", "closed", None)]


def test_an_allowance_that_throttles_keeps_the_gate_open_without_a_sponsor() -> None:
    world = world_of("charge", allowances=[{**DATA, "on_exhausted": "throttle"}])
    world.budgets_end("c")
    world.flow(1_000, "netflix")
    assert world.gates() == {"sponsored": "open", "default": "open"}


def test_a_bucket_that_ends_after_the_budget_closes_the_gate_then() -> None:
    world = world_of("charge")
    world.budgets_end("c")
    world.flow(1_000, "netflix")
    assert world.gates() == {"sponsored": "closed", "default": "closed"}
    assert world.budgets_end() == [("modify", "sponsored", "open", "tube")]


@pytest.mark.parametrize("on_empty", ["charge", "block"])
def test_what_is_told_already_is_not_told_again(on_empty: str) -> None:
    world = world_of(on_empty)
    world.budgets_end("c")
    assert world.budgets_end("c") == []
    world.budgets_end()
    assert world.budgets_end() == []


def test_an_account_without_such_a_product_hears_nothing() -> None:
    world = world_of("block", rules=[])
    before = world.account
    assert world.budgets_end("c") == []
    assert world.account is before


def test_a_campaign_without_a_budget_never_ends() -> None:
    world = world_of("block", rules=[{**RULE, "campaign": "open"}])
    world.budgets_end("open")
    assert world.gates() == {"sponsored": "open", "default": "open"}


def test_a_gate_that_the_rule_itself_closes_stays_so() -> None:
    world = world_of("block", rules=[{**RULE, "gate_status": "closed"}])
    world.budgets_end("c")
    assert world.gates()["sponsored"] == "closed"


def test_an_account_that_nobody_has_heard_of_yet_has_nothing_to_tell() -> None:
    world = world_of("block")
    assert world.account is not None
    world.cancel("p1")
    assert world.budgets_end("c") == []


def test_the_end_of_a_budget_changes_no_charge() -> None:
    """Who pays is found out flow by flow, from what the lane holds: gateways only hear of it."""
    told, untold = world_of("block"), world_of("block")
    for world in (told, untold):
        world.lease("c", 30)
    told.budgets_end("c")
    for world in (told, untold):
        world.flow(50, "youtube")
    assert told.decisions[-1] == untold.decisions[-1]
    assert (told.decisions[-1].sponsored_octets, told.decisions[-1].blocked_octets) == (30, 20)


def test_a_sponsored_rule_that_ends_lets_the_rule_behind_it_have_its_traffic_no_sooner() -> None:
    """The rule stays in force, closed: the traffic must not slip to the next one, which may let it pass."""
    behind = {"id": "behind", "precedence": 20, "charging": "free", "scope": {"applications": ["youtube"]}}
    world = world_of("block", rules=[RULE, behind])
    world.budgets_end("c")
    assert world.gates() == {"sponsored": "closed", "behind": "open", "default": "open"}
