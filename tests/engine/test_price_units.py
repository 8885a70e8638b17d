"""A price that counts something else in a new catalogue: it has counted none of that, and the money stays spent."""

from typing import Any

import pytest

from schemas.command import CorrectedUsage, VoidUsage
from tests.engine.world import World, catalogue, micros

OCTETS: dict[str, Any] = {"id": "data", "amount": "0.001", "per_octets": 1}
CALLS: dict[str, Any] = {"id": "data", "unit": "connection", "amount": "1"}
REST: dict[str, Any] = {"id": "rest", "amount": "0"}
"""What octets cost where connections are priced."""


def offering(price: dict[str, Any]) -> dict[str, Any]:
    prices = [price, REST] if price.get("unit") else [price]
    return {"id": "plan", "kind": "base_plan", "usage_prices": prices}


def sold(price: dict[str, Any], **profile: Any) -> World:
    world = World(catalogue(offering(price), version="1"), **profile)
    world.activate("plan", "p")
    return world


def becomes(world: World, price: dict[str, Any], version: str = "2") -> None:
    world.publish(catalogue(offering(price), version=version))
    world.timer()


def count(world: World) -> tuple[int, int, str]:
    assert world.account is not None
    (total,) = [item for item in world.account.counters if item.counter_id == "price:plan/data"]
    return total.octets, total.micros, total.unit


def test_octets_that_were_sold_are_no_connections() -> None:
    world = sold(OCTETS)
    world.flow(900)
    tiered = {**CALLS, "tiers": [{"above": 2, "amount": "0.5"}]}
    becomes(world, tiered)
    assert count(world) == (0, micros("0.9"), "connection")
    amounts = [world.flow(1).connection for _ in range(3)]
    assert [item.amount for item in amounts if item] == ["1", "1", "0.5"]
    assert count(world) == (3, micros("3.4"), "connection")


def test_connections_that_were_sold_are_no_octets() -> None:
    world = sold(CALLS)
    world.flow(1)
    becomes(world, {**OCTETS, "tiers": [{"above": 1, "amount": "0.5"}]})
    decision = world.flow(2)
    assert decision.price is not None
    assert (decision.price.octets_from, decision.price.octets_to, decision.price.amount) == (0, 2, "0.501")


@pytest.mark.parametrize(("cap", "passed"), [("3", 3), ("1.5", 0), ("1", 0)])
def test_what_was_spent_at_it_counts_for_the_cap_that_it_has_then(cap: str, passed: int) -> None:
    world = sold(OCTETS)
    world.flow(1000)
    becomes(world, {**CALLS, "amount": "0.6", "cap": cap})
    seen = [world.flow(1).connection for _ in range(5)]
    assert sum(item is not None for item in seen) == passed


def test_a_price_that_changes_back_begins_anew_again() -> None:
    world = sold(OCTETS)
    world.flow(10)
    becomes(world, CALLS)
    becomes(world, OCTETS, version="3")
    assert count(world) == (0, micros("0.01"), "octets")


def test_a_price_that_keeps_its_unit_keeps_its_count() -> None:
    world = sold(OCTETS)
    world.flow(10)
    becomes(world, {**OCTETS, "amount": "0.002", "per_octets": 10})
    assert count(world) == (10, micros("0.01"), "octets")


def test_a_row_of_the_unit_before_is_voided_for_what_was_paid_and_takes_no_count_of_the_new() -> None:
    world = sold(OCTETS, payment="prepaid")
    world.credit("10")
    world.flow(900)
    world.emit()
    row = next(row for row in world.usage if row.kind == "usage")
    becomes(world, CALLS)
    world.flow(1)
    names = [name for name in CorrectedUsage.__struct_fields__ if hasattr(row, name)]
    world.command(VoidUsage, line=CorrectedUsage(**{name: getattr(row, name) for name in names}), reclassified=0)
    assert world.balance() == micros("9")
    assert count(world) == (1, micros("1"), "connection")


def test_a_late_flow_of_the_cycle_before_finds_no_count_of_another_unit() -> None:
    world = sold(OCTETS, at="2026-03-31 12:00")
    world.flow(900)
    world.timer("2026-04-01 06:00")
    becomes(world, CALLS)
    ended = world.flow(1, at="2026-03-31 13:00").connection
    assert ended is not None
    assert (ended.connections_from, ended.amount) == (0, "1")


def test_the_pace_towards_a_cap_is_looked_at_anew() -> None:
    bounded = {**OCTETS, "cap": "1", "overshoot_tolerance_octets": 100}
    world = sold(bounded)
    for _ in range(8):
        world.flow(100)
    becomes(world, {**CALLS, "amount": "0.1", "cap": "1"})
    for _ in range(4):
        world.flow(1)
    assert world.gates() == {"default": "closed"}
