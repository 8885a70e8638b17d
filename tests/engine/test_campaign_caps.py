"""What a gateway is told when a subscriber has had all that a campaign pays for each in a cycle."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.engine.gateway import Gateway
from tests.engine.world import World, catalogue, ms

RULE = {"id": "sponsored", "precedence": 10, "charging": "sponsored", "campaign": "c",
        "scope": {"applications": ["youtube"]}}  # fmt: skip
CAMPAIGN = {"id": "c", "sponsor_id": "tube", "per_subscriber_octets": 300}


def world_of(*, octets: int = 1_000, campaign: dict[str, Any] | None = None, **profile: Any) -> World:
    plan = {"id": "plan", "allowances": [{"id": "data", "octets": octets}], "rules": ["sponsored"]}
    world = World(catalogue(plan, rules=[RULE], campaigns=[{**CAMPAIGN, **(campaign or {})}]), **profile)
    world.activate("plan")
    return world


def told(world: World) -> list[tuple[str, str, str | None, str | None]]:
    """What the gateway heard of the rule, after it was installed."""
    return [
        (update.action, update.cause, update.gate_status, update.sponsor_id)
        for update in world.updates
        if update.rule_id == "sponsored"
    ][1:]


def test_the_rule_loses_its_sponsor_with_the_flow_that_reaches_the_cap() -> None:
    world = world_of()
    world.flow(299, "youtube")
    assert told(world) == []
    world.flow(1, "youtube")
    assert told(world) == [("modify", "campaign_cap", "open", None)]


def test_where_nothing_else_pays_the_gate_closes_and_opens_with_the_next_cycle() -> None:
    world = world_of(octets=0)
    assert world.gates() == {"sponsored": "open", "default": "closed"}
    world.flow(350, "youtube")
    assert world.decisions[-1].blocked_octets == 50
    assert world.gates() == {"sponsored": "closed", "default": "closed"}
    world.timer("2026-04-01")
    assert told(world) == [("modify", "campaign_cap", "closed", None), ("modify", "reset", "open", "tube")]


def test_of_several_members_each_loses_the_sponsor_with_the_flow_that_reaches_the_cap() -> None:
    world = world_of(octets=0, subscriber_ids=("a1", "a2"))
    world.flow(400, "youtube")
    assert told(world) == [("modify", "campaign_cap", "closed", None)]
    assert world.updates[-1].subscriber_ids == ("a1",)
    assert (world.gates("a1")["sponsored"], world.gates("a2")["sponsored"]) == ("closed", "open")
    world.flow(300, "youtube", subscriber_id="a2")
    assert world.updates[-1].subscriber_ids == ("a2",)
    world.profile(subscriber_ids=("a1", "a2", "a3"))
    assert (world.gates("a2")["sponsored"], world.gates("a3")["sponsored"]) == ("closed", "open")
    world.timer("2026-04-01")
    assert [world.gates(member)["sponsored"] for member in ("a1", "a2", "a3")] == ["open"] * 3


def test_who_has_had_the_cap_and_leaves_takes_its_own_rules_away() -> None:
    world = world_of(octets=0, subscriber_ids=("a1", "a2"))
    world.flow(300, "youtube")
    world.profile(subscriber_ids=("a2",))
    assert world.account is not None
    assert world.account.member_rules == ()
    assert {update.rule_id for update in world.updates if update.action == "remove"} == {"sponsored", "default"}
    world.profile(subscriber_ids=("a1", "a2"))
    assert (world.gates("a1")["sponsored"], world.gates("a2")["sponsored"]) == ("closed", "open")


def test_a_cap_of_nothing_is_reached_from_the_beginning() -> None:
    world = world_of(campaign={"per_subscriber_octets": 0})
    assert next(update.sponsor_id for update in world.updates if update.rule_id == "sponsored") is None


@pytest.mark.parametrize("on_empty", ["charge", "block"])
def test_beyond_the_cap_the_budget_does_not_matter(on_empty: str) -> None:
    """What is beyond a cap meets the subscriber's own sources, whatever an empty budget says."""
    world = world_of(campaign={"budget": {"octets": 10_000, "on_empty": on_empty}})
    world.lease("c", 10_000)
    world.flow(300, "youtube")
    assert told(world) == [("modify", "campaign_cap", "open", None)]
    assert world.budgets_end("c") == []
    assert world.flow(10, "youtube").charged_octets == 10


def test_what_is_reached_already_is_not_told_again() -> None:
    world = world_of()
    for _ in range(4):
        world.flow(200, "youtube")
    assert len(told(world)) == 1


def test_who_joins_while_the_profile_changes_is_told_each_rule_once() -> None:
    gold = {"id": "gold", "precedence": 5, "subscribers": {"tiers": ["gold"]}, "charging": "free"}
    world = World(catalogue({"id": "plan", "rules": ["gold"]}, rules=[gold]))
    world.activate("plan")
    world.profile(tier="gold", subscriber_ids=("a1", "b2"))
    installed = [update.subscriber_ids for update in world.updates if update.rule_id == "gold"]
    assert installed == [("a1",), ("b2",)]


# -- ahead

START = ms("2026-03-10 12:00")
MINUTE = 60_000
BOUNDED = {"overshoot_tolerance_octets": 50}


def ahead(world: World) -> list[tuple[str, int | None, str | None, str | None]]:
    return [
        (update.rule_id, update.quota_octets, update.sponsor_id, update.quota_limit_id)
        for update in world.updates
        if update.quota_octets is not None
    ]


def test_with_a_tolerance_the_end_of_what_a_campaign_pays_is_told_ahead() -> None:
    world = world_of(campaign=BOUNDED)
    world.flow(140, "youtube", at=START + MINUTE)
    assert ahead(world) == []
    world.flow(120, "youtube", at=START + 10 * MINUTE)
    assert ahead(world) == [("sponsored", 40, None, "campaign:c:a1")]
    told_of = world.updates[-1]
    assert (told_of.gate_status, told_of.cause, told_of.quota_rule_ids) == ("open", "campaign_cap", ("sponsored",))
    world.flow(40, "youtube", at=START + 11 * MINUTE)
    assert (world.updates[-1].sponsor_id, world.updates[-1].quota_octets) == (None, None)
    assert world.account is not None
    assert (world.account.foretold, world.account.watches) == ((), ())


def test_where_nothing_else_pays_a_gateway_closes_the_gate_at_the_octet() -> None:
    world = world_of(octets=0, campaign=BOUNDED)
    gateway = Gateway(world)
    for minute in range(1, 20):
        gateway.report([("youtube", gateway.passes("sponsored", 35))], START + minute * MINUTE)
    assert gateway.passed == 300
    assert world.gates()["sponsored"] == "closed"


def test_a_new_cycle_takes_back_what_a_campaign_foretold() -> None:
    world = world_of(campaign=BOUNDED)
    world.flow(290, "youtube", at=START + MINUTE)
    assert len(ahead(world)) == 1
    world.timer("2026-04-01")
    assert (world.updates[-1].sponsor_id, world.updates[-1].quota_octets) == ("tube", None)
    assert world.account is not None
    assert world.account.foretold == ()


def test_of_several_members_each_hears_of_its_own_end_ahead() -> None:
    world = world_of(campaign=BOUNDED, subscriber_ids=("a1", "a2"))
    world.flow(260, "youtube", at=START + MINUTE)
    assert ahead(world) == [("sponsored", 40, None, "campaign:c:a1")]
    told_of = world.updates[-1]
    assert (told_of.subscriber_ids, told_of.quota_subscriber_ids) == (("a1",), ("a1",))
    world.flow(290, "youtube", at=START + MINUTE, subscriber_id="a2")
    assert ahead(world)[1:] == [("sponsored", 10, None, "campaign:c:a2")]


@given(
    minutes=st.lists(
        st.lists(st.tuples(st.sampled_from(("a1", "a2", "a3")), st.integers(1, 900)), max_size=5), max_size=15
    ),
    tolerance=st.integers(1, 400),
)
def test_the_promised_bound_holds_for_each_member(minutes: list[list[tuple[str, int]]], tolerance: int) -> None:
    """No minute brings more of a member than the one before and the tolerance."""
    campaign = {"per_subscriber_octets": 1_500, "overshoot_tolerance_octets": tolerance}
    world = world_of(octets=0, campaign=campaign, subscriber_ids=("a1", "a2", "a3"))
    gateway, passed = Gateway(world), dict.fromkeys(("a1", "a2", "a3"), 0)
    before = dict(passed)
    for number, wanted in enumerate(minutes, start=1):
        flows = []
        now = dict.fromkeys(before, 0)
        for member, volume in wanted:
            part = gateway.passes("sponsored", min(volume, before[member] + tolerance - now[member]), member)
            now[member] += part
            flows.append((member, part))
        for member, part in flows:
            gateway.report([("youtube", part)], START + number * MINUTE, member=member)
            passed[member] += part
        before = now
    assert all(octets <= 1_500 + tolerance for octets in passed.values())


def test_a_tolerance_needs_something_that_ends() -> None:
    with pytest.raises(ValidationError, match="about per_subscriber_octets, which is not given"):
        world_of(campaign={**BOUNDED, "per_subscriber_octets": None})
