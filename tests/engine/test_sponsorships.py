"""Who paid for sponsored octets: campaigns with and without a budget, caps, and what is told of them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.catalogue import Campaign
from schemas.catalogue_amounts import MAX_AMOUNT_OCTETS
from schemas.decision import Sponsorship
from schemas.state import PendingSponsorship
from tests.engine.world import World, catalogue

DAY_MS = 86_400_000
DATA = {"id": "data", "octets": 1_000}


def world_of(budget: dict[str, Any] | None, leased: int | None = None, **campaign: Any) -> World:
    rule = {"id": "sponsored", "charging": "sponsored", "campaign": "c", "scope": {"applications": ["youtube"]}}
    plan = {"id": "plan", "allowances": [DATA], "rules": ["sponsored"]}
    campaigns = [{"id": "c", "sponsor_id": "tube", "budget": budget, **campaign}]
    world = World(catalogue(plan, rules=[rule], campaigns=campaigns))
    world.activate("plan")
    if leased is not None:
        world.lease("c", leased)
    return world


def paid(octets: int, *, budget: int | None = None, connections: int | None = None) -> tuple[Sponsorship, ...]:
    """By one flow that ended, unless `connections` says otherwise."""
    drawn = octets if budget is None else budget
    ended = (1 if octets else 0) if connections is None else connections
    return (Sponsorship(campaign_id="c", octets=octets, budget_octets=drawn, connections=ended),)


def test_a_decision_names_the_campaign_and_what_it_paid_for() -> None:
    world = world_of(None)
    assert world.flow(70, "youtube").sponsorships == paid(70, budget=0)
    assert world.flow(70, "netflix").sponsorships == ()


def test_rated_usage_adds_up_what_each_campaign_paid_for() -> None:
    world = world_of({"octets": 100}, 100)
    for _ in range(3):
        world.flow(30, "youtube")
    for _ in range(2):
        world.flow(40, "youtube")
    world.emit()
    rows = {row.treatment: row for row in world.usage if row.kind == "usage"}
    assert rows["sponsored"].sponsorships == paid(90, connections=3)
    assert rows["charged"].sponsorships == paid(10)


def test_a_budget_without_leases_has_no_end() -> None:
    assert world_of({"octets": 1}).flow(5_000, "youtube").sponsorships == paid(5_000, budget=0)


def test_a_campaign_that_comes_twice_within_a_flow_pays_from_one_lease() -> None:
    """Its budget ends, the subscriber's volume reaches a mark, and another rule of the same campaign takes over."""
    half = {"allowance": "data", "state": "used", "percent": 50}
    rules = [
        {"id": "later", "charging": "sponsored", "campaign": "c", "bucket": half},
        {"id": "first", "charging": "sponsored", "campaign": "c"},
    ]
    plan = {"id": "plan", "allowances": [DATA], "rules": ["later", "first"]}
    campaign = {"id": "c", "sponsor_id": "tube", "budget": {"octets": 10_000}}
    world = World(catalogue(plan, rules=rules, campaigns=[campaign]))
    world.activate("plan")
    world.lease("c", 300)
    decision = world.flow(1_100, "youtube")
    assert (decision.sponsored_octets, decision.charged_octets) == (300, 800)
    assert [(one.octets, one.budget_octets) for one in decision.sponsorships] == [(300, 300), (0, 0)]
    assert sum(one.connections for one in decision.sponsorships) == 1
    assert world.leases == {"c": 0}


def test_a_campaign_of_which_nothing_is_leased_pays_nothing_and_says_so() -> None:
    world = world_of({"octets": 100}, 0)
    decision = world.flow(30, "youtube")
    assert (decision.treatment, decision.charged_octets, decision.sponsorships) == ("charged", 30, paid(0))
    assert decision.note == "the budget of campaign c is used up here; the next source pays for 30 octets"


def test_a_campaign_without_a_budget_takes_nothing_from_leases() -> None:
    world = world_of(None, 100)
    assert world.flow(70, "youtube").sponsorships == paid(70, budget=0)
    assert world.leases == {"c": 100}


def test_a_cap_that_is_reached_asks_no_budget() -> None:
    world = world_of({"octets": 100}, 100, per_subscriber_octets=20)
    assert world.flow(30, "youtube").sponsorships == paid(20)
    decision = world.flow(30, "youtube")
    assert decision.sponsorships == ()
    assert world.leases == {"c": 80}


def test_a_late_flow_draws_from_the_budget_of_now() -> None:
    world = world_of({"octets": 100}, 100)
    world.timer("2026-04-01 00:00")
    assert world.flow(60, "youtube", at="2026-03-31 23:00").sponsorships == paid(60)
    assert world.leases == {"c": 40}


def connections(world: World) -> int:
    """What the campaign has to pay for by the rows of the ledger."""
    world.emit()
    signs = {"usage": 1, "refund": -1}
    return sum(signs.get(row.kind, 0) * one.connections for row in world.usage for one in row.sponsorships)


def test_a_connection_is_counted_by_the_record_with_which_it_ends() -> None:
    world = world_of(None)
    assert world.flow(50, "youtube", end_reason="active").sponsorships == paid(50, budget=0, connections=0)
    assert world.flow(50, "youtube", end_reason="active").sponsorships == paid(50, budget=0, connections=0)
    assert world.flow(50, "youtube", end_reason="idle").sponsorships == paid(50, budget=0, connections=1)
    assert connections(world) == 1


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_record_without_octets_can_be_the_end_of_a_connection(earlier: int) -> None:
    world = world_of({"octets": 100}, 100)
    for _ in range(earlier):
        world.flow(50, "youtube", end_reason="active")
    assert world.flow(0, "youtube", end_reason="idle").sponsorships == paid(0, connections=1)
    assert world.flow(0, "youtube", end_reason="active").sponsorships == ()
    assert connections(world) == 1


@pytest.mark.parametrize(("budget", "leased", "cap"), [({"octets": 100}, 0, None), (None, None, 0)])
def test_a_campaign_that_pays_no_more_counts_no_connection_either(
    budget: dict[str, Any] | None, leased: int | None, cap: int | None
) -> None:
    world = world_of(budget, leased, per_subscriber_octets=cap)
    world.flow(0, "youtube")
    world.flow(30, "youtube")
    assert connections(world) == 0


def test_a_connection_of_which_a_campaign_pays_a_part_is_counted_whole() -> None:
    world = world_of({"octets": 100}, 20)
    assert world.flow(30, "youtube").sponsorships == paid(20)
    assert connections(world) == 1


@pytest.mark.parametrize("volume", [0, 70])
def test_a_flow_that_failed_is_no_connection_of_a_campaign(volume: int) -> None:
    world = world_of(None)
    decision = world.flow(0, "youtube", octets_up=volume, end_reason="reset")
    assert (decision.treatment, decision.sponsorships) == ("not_charged", ())
    assert connections(world) == 0


@pytest.mark.parametrize("volume", [0, 60])
def test_a_late_connection_is_counted(volume: int) -> None:
    world = world_of(None)
    world.timer("2026-04-01 00:00")
    world.flow(volume, "youtube", at="2026-03-31 23:00")
    assert connections(world) == 1


@settings(max_examples=60)
@given(flows=st.lists(st.lists(st.integers(0, 100), min_size=1, max_size=4), max_size=6))
def test_connections_do_not_depend_on_the_records_of_a_flow(flows: list[list[int]]) -> None:
    whole, split = world_of(None), world_of(None)
    for parts in flows:
        whole.flow(sum(parts), "youtube")
        for part in parts[:-1]:
            split.flow(part, "youtube", end_reason="active")
        split.flow(parts[-1], "youtube")
    assert connections(whole) == connections(split) == len(flows)


def test_gathered_usage_of_before_connections_were_counted_is_still_read() -> None:
    old = msgspec.msgpack.encode(["c", 70, 7])
    assert msgspec.msgpack.decode(old, type=PendingSponsorship) == PendingSponsorship("c", 70, 7, 0)


@settings(max_examples=100)
@given(
    volumes=st.lists(st.integers(0, 200), max_size=12),
    leased=st.integers(0, 900),
    cap=st.sampled_from([None, 0, 150, 500]),
    on_empty=st.sampled_from(["charge", "block"]),
)
def test_a_budget_is_drawn_to_its_last_octet_and_never_beyond(
    volumes: list[int], leased: int, cap: int | None, on_empty: str
) -> None:
    world = world_of({"octets": 10_000, "on_empty": on_empty}, leased, per_subscriber_octets=cap)
    sponsored = sum(world.flow(volume, "youtube").sponsored_octets for volume in volumes)
    assert sponsored == min(sum(volumes), leased, 10_000 if cap is None else cap)
    assert world.leases == {"c": leased - sponsored}


@settings(max_examples=60)
@given(parts=st.lists(st.integers(1, 100), min_size=1, max_size=6), leased=st.integers(0, 300))
def test_splitting_a_sponsored_flow_changes_no_part(parts: list[int], leased: int) -> None:
    whole, split = world_of({"octets": 300}, leased), world_of({"octets": 300}, leased)
    one = whole.flow(sum(parts), "youtube")
    many = [split.flow(part, "youtube") for part in parts]
    assert one.sponsored_octets == sum(item.sponsored_octets for item in many)
    assert one.charged_octets == sum(item.charged_octets for item in many)


# -- what a catalogue may say


@pytest.mark.parametrize(
    ("budget", "octets"),
    [
        ({"octets": "5 GB"}, 5 * 10**9),
        ({"amount": "100", "amount_per_gb": "0.50"}, 200 * 10**9),
        ({"amount": "1", "amount_per_gb": "3"}, 333_333_333),
        ({"amount": "1000000000", "amount_per_gb": "0.000001"}, MAX_AMOUNT_OCTETS),
    ],
)
def test_a_budget_is_a_volume_or_what_money_buys_rounded_down(budget: dict[str, Any], octets: int) -> None:
    campaign = Campaign.model_validate({"id": "c", "sponsor_id": "s", "budget": budget})
    assert campaign.budget is not None
    assert campaign.budget.limit_octets() == octets


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": {}}, "either octets, or amount together with amount_per_gb"),
        ({"budget": {"octets": 1, "amount": "1", "amount_per_gb": "1"}}, "either octets, or amount"),
        ({"budget": {"amount": "1"}}, "either octets, or amount"),
        ({"budget": {"octets": 0}}, "greater than 0"),
        ({"budget": {"octets": 1, "pacing": "even"}}, "give valid_from_ms and a later valid_until_ms"),
        ({"budget": {"octets": 1, "pacing": "even"}, "valid_from_ms": DAY_MS, "valid_until_ms": DAY_MS}, "a later"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Campaign.model_validate({"id": "c", "sponsor_id": "s", **changes})
