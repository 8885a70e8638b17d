"""Cycles after a change of anchor or zone: never longer than a month, and a short one is a part of a whole one."""

import itertools
from typing import Any

import pytest

from tests.engine.world import World, catalogue, micros, ms

FEE: dict[str, Any] = {"id": "fee", "type": "recurring", "amount": "30"}


def a_plan(**more: Any) -> dict[str, Any]:
    return {"id": "plan", "kind": "base_plan", "prices": [FEE], **more}


def moved(day: int, **more: Any) -> World:
    """An account whose cycles began on the first, and begin on another day of the month after this one."""
    world = World(catalogue(a_plan(**more)), at="2026-03-01 00:00")
    world.activate("plan", "p")
    world.profile(cycle_day=day, at="2026-03-10 12:00")
    return world


def fees(world: World, kind: str = "fee") -> list[tuple[str, int]]:
    return [(row.amount, row.start_ms) for row in world.usage if row.kind == kind]


@pytest.mark.parametrize("proration", ["none", "daily"])
def test_a_short_cycle_costs_its_share_of_a_whole_one_whatever_the_proration(proration: str) -> None:
    world = moved(16, prices=[{**FEE, "amount": "31", "proration": proration}])
    world.timer("2026-05-16 00:00")
    # From 1 to 16 April: 15 of the 31 days from 16 March to 16 April.
    assert fees(world) == [
        ("31", ms("2026-03-01 00:00")), ("15", ms("2026-04-01 00:00")), ("31", ms("2026-04-16 00:00")),
        ("31", ms("2026-05-16 00:00")),
    ]  # fmt: skip


def test_no_two_anchors_are_further_apart_than_a_month_whatever_is_changed_to() -> None:
    for day in range(1, 32):
        world = moved(day)
        world.timer("2026-08-01 00:00")
        starts = [at_ms for _, at_ms in fees(world)]
        assert all(0 < after - before <= 31 * 86_400_000 for before, after in itertools.pairwise(starts))


def test_a_short_cycle_grants_its_share_of_volume_and_money() -> None:
    world = moved(
        16,
        allowances=[{"id": "d", "octets": 3101}, {"id": "o", "octets": 500, "validity": "once"}],
        money_allowances=[{"id": "m", "amount": "31", "validity": "cycle"}],
    )
    seen = []
    for at in ("2026-03-31 00:00", "2026-04-01 00:00", "2026-04-16 00:00"):
        world.timer(at)
        assert world.account is not None
        seen.append((world.left("p/d"), world.left("p/o"), world.account.purses[0].remaining_micros))
    assert seen == [(3101, 500, micros("31")), (1500, 500, micros("15")), (3101, 500, micros("31"))]


def test_a_short_cycle_owes_its_share_of_the_minimum_rent() -> None:
    world = moved(16, prices=[], minimum_rent="31")
    world.timer("2026-05-20 00:00")
    rents = [row.amount for row in world.usage if row.price_id == "minimum_rent"]
    assert rents == ["31", "15", "31"]


def test_what_is_ordered_within_a_short_cycle_is_for_its_days() -> None:
    daily = {**FEE, "amount": "31", "proration": "daily", "refund": "daily"}
    world = World(catalogue(a_plan(prices=[daily]), {"id": "pack", "prices": [{**FEE, "amount": "62"}]}))
    world.profile(cycle_day=16)
    world.activate("plan", "p", at="2026-04-11 12:00")
    world.activate("pack", "x")
    # Five of 31 days; what is not divided costs what the short cycle does, 15 of them.
    assert [amount for amount, _ in fees(world)] == ["5", "30"]
    world.cancel("p", at="2026-04-12 12:00")
    assert [amount for amount, _ in fees(world, "refund")] == ["-3"]


def test_an_anchor_changed_back_leaves_all_as_it_was() -> None:
    world = moved(16)
    world.profile(cycle_day=1)
    world.timer("2026-05-01 00:00")
    assert [amount for amount, _ in fees(world)] == ["30", "30", "30"]


@pytest.mark.parametrize(
    ("before", "after", "ends"),
    [
        ("Europe/Paris", "America/New_York", "2026-05-01 00:00"),
        ("America/New_York", "Europe/Paris", "2026-05-01 00:00"),
        ("Pacific/Kiritimati", "Pacific/Pago_Pago", "2026-05-01 00:00"),
    ],
)
def test_a_new_zone_makes_no_short_cycle(before: str, after: str, ends: str) -> None:
    world = World(catalogue(a_plan()), at="2026-03-01 00:00", zone=before)
    world.activate("plan", "p")
    world.profile(time_zone=after, at="2026-03-10 12:00")
    end = ms("2026-04-01 00:00", before)
    world.timer(ms("2026-04-20 12:00"))
    assert fees(world) == [("30", ms("2026-03-01 00:00", before)), ("30", end)]
    assert world.account is not None
    assert world.account.cycle_end_ms == ms(ends, after)


def test_a_new_zone_with_a_new_anchor_charges_no_day_that_was_charged() -> None:
    """To the west: the last day of March in Paris is still going on in New York when April begins."""
    world = World(catalogue(a_plan(prices=[{**FEE, "amount": "31"}])), at="2026-03-01 00:00", zone="Europe/Paris")
    world.activate("plan", "p")
    world.profile(time_zone="America/New_York", cycle_day=4, at="2026-03-10 12:00")
    world.timer(ms("2026-04-20 12:00"))
    # Three days: 1, 2 and 3 April.
    assert [amount for amount, _ in fees(world)] == ["31", "3", "31"]


def test_a_share_of_a_kept_allowance_lasts_through_a_short_cycle() -> None:
    world = moved(16, allowances=[{"id": "d", "octets": 3100, "rollover": {"percent": 100, "cycles": 1}}])
    world.timer("2026-04-01 00:00")
    assert world.left("p/d") == 3100 + 1500
    world.timer("2026-04-16 00:00")
    assert world.left("p/d") == 1500 + 3100
