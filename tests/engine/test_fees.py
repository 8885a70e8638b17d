"""Recurring prices by the day, what a cancellation gives back, minimum rent, and how many of a kind can be held."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import ValidationError

from schemas.catalogue import FlatPrice, ProductOffering
from schemas.catalogue_allowances import Allowance
from schemas.usage import RatedUsage
from tests.engine.world import RefusedError, World, catalogue, micros, ms

DAILY: dict[str, Any] = {"id": "fee", "type": "recurring", "amount": "31", "proration": "daily", "refund": "daily"}
PLAN: dict[str, Any] = {"id": "plan", "kind": "base_plan", "prices": [DAILY]}
BETTER: dict[str, Any] = {"id": "better", "kind": "base_plan", "prices": [{**DAILY, "amount": "62"}]}


def rows(world: World, kind: str) -> list[RatedUsage]:
    return [row for row in world.usage if row.kind == kind]


def amounts(world: World) -> list[str]:
    return [row.amount for row in world.usage if row.kind in ("fee", "refund")]


def test_a_price_by_the_day_charges_the_days_that_are_left_of_the_first_cycle() -> None:
    world = World(catalogue(PLAN), at="2026-03-10 12:00")
    world.activate("plan")
    assert amounts(world) == ["22"]
    assert "22 EUR" in str(world.told("receipt")[0].detail)
    world.timer("2026-04-01 00:00")
    assert amounts(world) == ["22", "31"]


def test_a_whole_price_is_charged_whole_however_late_the_cycle() -> None:
    world = World(catalogue({**PLAN, "prices": [{**DAILY, "proration": "none"}]}), at="2026-03-31 23:00")
    world.activate("plan")
    assert amounts(world) == ["31"]


def test_days_are_local_ones() -> None:
    # 23:30 in UTC is 00:30 of the next day in Paris, and March has an hour less there: 31 days all the same.
    world = World(catalogue(PLAN), at=ms("2026-03-09 23:30"), zone="Europe/Paris")
    world.activate("plan")
    assert amounts(world) == ["22"]


def test_a_term_pays_for_its_own_days_only() -> None:
    world = World(catalogue({**PLAN, "kind": "pass", "term_days": 30}), at="2026-03-10 12:00")
    world.activate("plan")
    world.timer("2026-04-20 00:00")
    # 22 days of March, 8 of April at 31 / 30 each; 9 April is the end's own day.
    assert amounts(world) == ["22", "8.266666"]


def test_a_part_of_a_cycle_is_rounded_down_to_a_micro_unit() -> None:
    world = World(catalogue({**PLAN, "prices": [{**DAILY, "amount": "10"}]}), at="2026-03-31 12:00")
    world.activate("plan")
    assert amounts(world) == ["0.32258"]


@pytest.mark.parametrize(
    ("refund", "back"),
    [("daily", ["31", "-11"]), ("none", ["31"])],
)
def test_a_cancellation_gives_back_what_is_declared(refund: str, back: list[str]) -> None:
    world = World(catalogue({**PLAN, "prices": [{**DAILY, "refund": refund}]}), at="2026-03-01 00:00")
    name = world.activate("plan")
    world.cancel(name, at="2026-03-20 18:00")
    assert amounts(world) == back


@pytest.mark.parametrize("refund", ["none", "daily"])
def test_a_cancellation_of_before_the_cycle_that_comes_after_its_beginning_costs_nothing(refund: str) -> None:
    """Who has cancelled in time is not charged for a month since the order took a minute."""
    plan = {**PLAN, "prices": [{**DAILY, "refund": refund}]}
    world = World(catalogue(plan, BETTER), at="2026-03-01", payment="prepaid")
    world.credit("100")
    world.activate("plan", "p")
    world.timer("2026-04-01 00:00")
    assert world.balance() == micros("38")
    world.cancel("p", at="2026-03-31 23:59")
    assert world.balance() == micros("69")
    assert amounts(world) == ["31", "31", "-31"]
    # And the day has not been paid for by it, either.
    world.activate("better", at="2026-04-01 08:00")
    assert amounts(world)[3:] == ["62"]


def test_a_cancellation_of_the_cycles_first_moment_is_of_the_cycle() -> None:
    """An end is exclusive, and so is the time before a beginning."""
    world = World(catalogue({**PLAN, "prices": [{**DAILY, "refund": "none"}]}), at="2026-03-01")
    world.activate("plan", "p")
    world.timer("2026-04-01 00:00")
    world.cancel("p", at="2026-04-01 00:00")
    assert amounts(world) == ["31", "31"]


def test_a_cancellation_of_before_the_cycle_gives_back_no_fee_of_before_it() -> None:
    """Of a product that could not pay for the cycle, what it had paid for the one before stays paid."""
    world = World(catalogue(PLAN), at="2026-03-01", payment="prepaid")
    world.credit("31")
    world.activate("plan", "p")
    world.timer("2026-04-01 00:00")
    world.cancel("p", at="2026-03-31 23:59")
    assert world.balance() == 0


@pytest.mark.parametrize(("trial", "begins"), [(None, "2026-03-08 12:00"), (7, "2026-03-08 12:00")])
def test_a_cancellation_of_before_a_term_that_comes_after_its_beginning_costs_nothing(
    trial: int | None, begins: str
) -> None:
    fees = [{"id": "once", "type": "one_time", "amount": "3"}, {**DAILY, "refund": "none"}]
    week = {"id": "week", "term_days": 7, "renewal": "automatic", "trial_days": trial, "prices": fees}
    world = World(catalogue(week), at="2026-03-01 12:00", payment="prepaid")
    world.credit("100")
    world.activate("week", "p")
    if trial:
        world.confirm("p")
    paid = world.balance()
    world.timer(begins)
    assert world.balance() == paid - micros("10")
    world.cancel("p", at="2026-03-08 11:59")
    assert world.balance() == paid
    assert world.money() == micros("100") - paid


def test_prepaid_money_comes_back_to_the_balance() -> None:
    world = World(catalogue(PLAN), at="2026-03-01 00:00", payment="prepaid")
    world.credit("31")
    name = world.activate("plan")
    assert world.balance() == 0
    world.cancel(name, at="2026-03-01 01:00")
    assert world.balance() == micros("30")
    assert rows(world, "refund")[0].movements[0].amount == "30000000"


def test_a_product_that_was_never_paid_for_gives_nothing_back() -> None:
    world = World(catalogue(PLAN), at="2026-03-10 12:00")
    name = world.activate("plan", start_ms=ms("2026-03-20 00:00"))
    world.cancel(name)
    assert amounts(world) == []


def test_a_suspended_product_gives_nothing_back_and_resumes_by_the_day() -> None:
    world = World(catalogue(PLAN), at="2026-03-01 00:00", payment="prepaid")
    world.credit("31")
    name = world.activate("plan")
    world.timer("2026-04-05 00:00")
    world.credit("20", at="2026-04-21 09:00")
    assert amounts(world) == ["31", "10.333333"]
    world.timer("2026-05-01 00:00")
    world.cancel(name, at="2026-05-05 00:00")
    assert len(amounts(world)) == 2


def test_the_day_of_a_change_is_charged_once() -> None:
    world = World(catalogue(PLAN, BETTER), at="2026-03-01 00:00")
    first = world.activate("plan")
    world.cancel(first, at="2026-03-11 10:00")
    world.activate("better", at="2026-03-11 10:00")
    # 31 for March, 20 days given back, then 20 days at 2 each.
    assert amounts(world) == ["31", "-20", "40"]


def test_one_that_ended_makes_the_day_of_one_other_free() -> None:
    """Else one paid day would be a day of as many packs as one likes."""
    pack = {"id": "pack", "prices": [DAILY]}
    world = World(catalogue(pack), at="2026-03-11 10:00")
    world.cancel(world.activate("pack"))
    held = [world.activate("pack") for _ in range(3)]
    assert amounts(world) == ["21", "-20", "20", "21", "21"]
    for name in held:
        world.cancel(name)
    assert world.money() == micros("3")
    # Two of them have paid for the day, and none is held.
    held = [world.activate("pack") for _ in range(4)]
    assert amounts(world)[8:] == ["20", "20", "20", "21"]


def test_a_plan_that_begins_on_another_day_is_charged_from_its_own() -> None:
    world = World(catalogue(PLAN, BETTER), at="2026-03-01 00:00")
    first = world.activate("plan")
    world.cancel(first, at="2026-03-11 10:00")
    world.activate("better", at="2026-03-12 09:00")
    assert amounts(world) == ["31", "-20", "40"]


CHANGES = st.lists(st.tuples(st.sampled_from(["plan", "better"]), st.integers(0, 9 * 24)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(changes=CHANGES, zone=st.sampled_from(["UTC", "Europe/Paris", "Pacific/Apia"]))
def test_no_series_of_changes_gives_back_more_than_was_paid(changes: list[tuple[str, int]], zone: str) -> None:
    world = World(catalogue(PLAN, BETTER), at="2026-03-10 12:00", zone=zone)
    at, held = world.now_ms, ""
    for offering, hours in changes:
        at += hours * 3_600_000
        if held:
            world.cancel(held, at=at)
        held = world.activate(offering, at=at)
    world.cancel(held, at=at)
    by_product: dict[str | None, int] = {}
    for row in world.usage:
        by_product[row.product_id] = by_product.get(row.product_id, 0) + micros(row.amount)
    assert all(total >= 0 for total in by_product.values())


def test_an_allowance_by_the_day_grants_the_days_that_are_left() -> None:
    plan = {
        "id": "plan",
        "allowances": [{"id": "data", "octets": 3100, "proration": "daily"}, {"id": "all", "octets": 9}],
    }
    world = World(catalogue(plan), at="2026-03-30 12:00")
    world.activate("plan", "p")
    assert (world.left("p/data"), world.left("p/all")) == (200, 9)
    world.timer("2026-04-01 00:00")
    assert world.left("p/data") == 3100


RENTED: dict[str, Any] = {
    "id": "rented", "kind": "base_plan", "minimum_rent": "10",
    "prices": [{"id": "fee", "type": "recurring", "amount": "3"}],
    "usage_prices": [{"id": "data", "amount": "1", "per_octets": 1000}],
}  # fmt: skip


def rents(world: World) -> list[str]:
    return [row.amount for row in world.usage if row.price_id == "minimum_rent"]


def test_what_a_cycle_falls_short_of_its_minimum_is_charged_when_it_is_closed() -> None:
    world = World(catalogue(RENTED), at="2026-03-01 00:00")
    world.activate("rented")
    world.flow(2000)
    world.timer("2026-04-01 23:59")
    assert rents(world) == []
    world.flow(1000, at="2026-03-31 20:00")
    world.timer("2026-04-02 00:00")
    assert rents(world) == ["4"]
    row = next(row for row in world.usage if row.price_id == "minimum_rent")
    assert (row.kind, row.start_ms, row.end_ms) == ("fee", ms("2026-03-01 00:00"), ms("2026-04-01 00:00") - 1)


def test_who_spends_the_minimum_pays_nothing_more() -> None:
    world = World(catalogue(RENTED), at="2026-03-01 00:00")
    world.activate("rented")
    world.flow(7000)
    world.timer("2026-04-02 00:00")
    assert rents(world) == []


def test_a_part_of_a_cycle_owes_the_rent_of_its_days() -> None:
    world = World(catalogue({**RENTED, "minimum_rent": "31", "prices": []}), at="2026-03-22 12:00")
    world.activate("rented")
    world.timer("2026-04-02 00:00")
    assert rents(world) == ["10"]


def test_a_plan_that_was_cancelled_owes_its_days() -> None:
    world = World(catalogue({**RENTED, "minimum_rent": "31"}), at="2026-03-01 00:00")
    name = world.activate("rented")
    world.cancel(name, at="2026-03-11 12:00")
    world.timer("2026-04-02 00:00")
    assert rents(world) == ["7"]


def test_a_prepaid_account_pays_the_minimum_as_far_as_its_balance_goes() -> None:
    world = World(catalogue(RENTED), at="2026-03-01 00:00", payment="prepaid")
    world.credit("8")
    world.activate("rented")
    world.timer("2026-04-02 00:00")
    # 3 for March, 3 for April, and 2 of the 7 that March fell short of.
    assert rents(world) == ["2"]
    assert world.balance() == 0


def test_no_more_are_held_than_the_offering_allows() -> None:
    world = World(catalogue({"id": "pack", "max_held": 2}))
    first = world.activate("pack")
    world.activate("pack")
    with pytest.raises(RefusedError) as refused:
        world.activate("pack")
    assert refused.value.cause == "max_held"
    world.cancel(first)
    world.activate("pack")


@pytest.mark.parametrize(
    ("model", "fields", "words"),
    [
        (FlatPrice, {"id": "a", "type": "one_time", "amount": 1, "proration": "daily"}, "type 'recurring'"),
        (Allowance, {"id": "a", "octets": 1, "validity": "once", "proration": "daily"}, "validity 'cycle'"),
        (ProductOffering, {"id": "a", "name": "A", "kind": "pass", "minimum_rent": 1}, "for a base_plan"),
        (
            ProductOffering,
            {"id": "a", "name": "A", "kind": "pass", "valid_from_ms": 5, "valid_until_ms": 5},
            "in order",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(model: Any, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        model.model_validate(fields)


def rented_under(minimum: str | None, *, at: str, in_force: str = "10") -> World:
    """A month of a plan whose minimum another catalogue changes within it; None takes the plan out."""
    world = World(catalogue({**RENTED, "minimum_rent": in_force}), at="2026-03-01 00:00")
    world.activate("rented")
    after = [] if minimum is None else [{**RENTED, "minimum_rent": minimum}]
    world.now_ms = world.time(at)
    world.publish(catalogue(*after).model_copy(update={"version": "2"}))
    world.timer()
    return world


@pytest.mark.parametrize("minimum", ["20", "4", "0", None])
def test_the_minimum_of_a_cycle_is_the_one_in_force_when_its_part_of_the_cycle_began(minimum: str | None) -> None:
    """As with the price that was charged then; the catalogue of the next cycle is for the next cycle."""
    world = rented_under(minimum, at="2026-03-20 12:00")
    world.timer("2026-04-02 00:00")
    assert rents(world) == ["7"]
    world.timer("2026-05-02 00:00")
    assert rents(world)[1:] == {"20": ["17"], "4": ["1"]}.get(minimum or "", [])


def test_a_minimum_that_is_new_within_a_cycle_is_asked_for_from_the_next_on() -> None:
    world = rented_under("10", at="2026-03-20 12:00", in_force="0")
    world.timer("2026-04-02 00:00")
    assert rents(world) == []
    world.timer("2026-05-02 00:00")
    assert rents(world) == ["7"]


def test_a_catalogue_that_comes_after_the_cycle_changes_nothing_of_what_it_owes() -> None:
    world = rented_under("20", at="2026-04-01 12:00")
    world.timer("2026-04-02 00:00")
    assert rents(world) == ["7"]


def test_an_account_from_before_minimums_were_kept_owes_what_the_catalogue_says_now() -> None:
    world = World(catalogue(RENTED), at="2026-03-01 00:00")
    world.activate("rented")
    assert world.account is not None
    old = tuple(replace(item, minimum_micros=None) for item in world.account.products)
    world.account = replace(world.account, products=old)
    world.timer("2026-04-02 00:00")
    assert rents(world) == ["7"]
