"""Orders that were given before a boundary and come after it: what each of them still does.

A command takes effect no earlier than the account's last change. What it would have kept from being charged comes
back; what it would have brought about is not brought about afterwards.
"""

from typing import Any

import pytest

from schemas.command import ConfirmProduct, SetRenewal
from tests.engine.world import RefusedError, World, catalogue, micros, ms

WEEK: dict[str, Any] = {
    "id": "week", "kind": "pass", "term_days": 7, "renewal": "automatic",
    "prices": [{"id": "fee", "type": "one_time", "amount": "5"}],
    "allowances": [{"id": "data", "octets": 1000, "validity": "once"}],
}  # fmt: skip
END = "2026-03-17 12:00"


def given_at(world: World, issued: str, kind: type, **fields: Any) -> None:
    """A command that was given at a time, and comes now."""
    now_ms, world.now_ms = world.now_ms, ms(issued)
    world.command(kind, **fields)
    world.now_ms = now_ms


def renewed(balance: str = "20") -> World:
    world = World(catalogue(WEEK, {"id": "on-it", "requires": ["week"]}), payment="prepaid")
    world.credit(balance)
    world.activate("week", "p")
    world.activate("on-it", "x")
    world.timer(END)
    return world


def held(world: World) -> list[tuple[str, str]]:
    assert world.account is not None
    return sorted((item.product_id, item.status) for item in world.account.products)


def test_a_renewal_that_was_switched_off_in_time_is_undone() -> None:
    world = renewed()
    world.flow(100, at="2026-03-17 13:00")
    given_at(world, "2026-03-17 11:59", SetRenewal, product_id="p", renews=False)
    assert held(world) == []
    assert world.balance() == micros("15")
    assert [row.amount for row in world.usage if row.kind == "refund"] == ["-5"]
    assert [note.product_id for note in world.told("cancelled")] == ["p", "x"]
    # What was used of the term meanwhile was of its volume, and costs nothing.
    assert world.money() == micros("5")


def test_a_renewal_switched_off_after_it_has_happened_ends_with_the_present_term() -> None:
    world = renewed()
    given_at(world, END, SetRenewal, product_id="p", renews=False)
    assert held(world) == [("p", "active"), ("x", "active")]
    world.timer("2026-03-24 12:00")
    assert held(world) == []
    assert world.balance() == micros("10")


def test_a_renewal_switched_on_after_the_end_renews_nothing() -> None:
    world = World(catalogue(WEEK))
    world.activate("week", "p", renews=False)
    world.timer(END)
    with pytest.raises(RefusedError, match="no_renewal"):
        given_at(world, "2026-03-17 11:59", SetRenewal, product_id="p", renews=True)
    assert held(world) == []


def test_a_trial_that_was_confirmed_in_time_and_is_heard_of_later_has_ended() -> None:
    plan = {"id": "plan", "kind": "base_plan", "trial_days": 7, "prices": [{**WEEK["prices"][0], "type": "recurring"}]}
    world = World(catalogue(plan), payment="prepaid")
    world.credit("20")
    world.activate("plan", "p")
    world.timer(END)
    with pytest.raises(RefusedError, match="not_on_trial"):
        given_at(world, "2026-03-17 11:00", ConfirmProduct, product_id="p")
    assert (held(world), world.balance()) == ([], micros("20"))


def test_a_top_up_that_comes_after_a_failed_renewal_renews_nothing() -> None:
    world = renewed("5")
    assert held(world) == []
    world.now_ms = ms("2026-03-17 11:00")
    world.credit("20")
    assert (held(world), world.balance()) == ([], micros("20"))


def test_a_top_up_that_comes_after_the_cycle_began_resumes_what_waits_from_then_on() -> None:
    rent = {"id": "rent", "type": "recurring", "amount": "30", "proration": "daily"}
    world = World(catalogue({"id": "plan", "kind": "base_plan", "prices": [rent]}), payment="prepaid")
    world.credit("22")
    world.activate("plan", "p")
    assert world.balance() == micros("22") - 30_000_000 * 22 // 31
    world.timer("2026-04-01 12:00")
    assert held(world) == [("p", "suspended")]
    world.now_ms = ms("2026-03-31 23:00")
    world.credit("40")
    assert held(world) == [("p", "active")]
    charged = [(row.amount, row.start_ms) for row in world.usage if row.kind == "fee"][1:]
    # As of the account's last change, the first of April: the days before it came are not given away.
    assert charged == [("30", ms("2026-04-01 00:00"))]


def test_an_order_for_before_the_present_cycle_begins_with_it() -> None:
    rent = {"id": "rent", "type": "recurring", "amount": "30", "proration": "daily"}
    world = World(catalogue({"id": "plan", "kind": "base_plan", "prices": [rent]}))
    world.timer("2026-04-01 12:00")
    world.activate("plan", "p", start_ms=ms("2026-03-20 00:00"), at="2026-03-31 23:00")
    charged = [(row.amount, row.start_ms) for row in world.usage if row.kind == "fee"]
    assert charged == [("30", ms("2026-04-01 00:00"))]
