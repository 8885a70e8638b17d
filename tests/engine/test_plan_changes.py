"""Changing and leaving a plan: at once or at the end of a cycle, with what stands on it."""

from typing import Any

import pytest

from schemas.command import SetRenewal
from schemas.state import Product
from tests.engine.world import RefusedError, World, catalogue, micros, ms

DAILY = {"proration": "daily", "refund": "daily"}


def plan(name: str, rent: str, **more: Any) -> dict[str, Any]:
    price = {"id": "rent", "type": "recurring", "amount": rent, **more.pop("price", {})}
    return {"id": name, "kind": "base_plan", "prices": [price], "allowances": [{"id": "d", "octets": 1000}], **more}


PLANS = (plan("small", "31"), plan("large", "62"))
PACK = {
    "id": "pack", "requires": ["small", "large"], "allowances": [{"id": "d", "octets": 500}],
    "prices": [{"id": "fee", "type": "recurring", "amount": "3.1", **DAILY}],
}  # fmt: skip


def world(*offerings: dict[str, Any], at: str = "2026-03-11 12:00", **profile: Any) -> World:
    return World(catalogue(*(offerings or PLANS)), at=at, **profile)


def fees(world: World, *kinds: str) -> list[tuple[str | None, str, int]]:
    """What each product was charged, or given back, and when."""
    rows = [row for row in world.usage if row.kind in (kinds or ("fee", "refund"))]
    return [(row.product_id, row.amount, row.start_ms) for row in rows]


def held(world: World) -> list[str]:
    assert world.account is not None
    return [item.offering_id for item in world.account.products if item.status == "active"]


def product(world: World, product_id: str) -> Product:
    assert world.account is not None
    return next(item for item in world.account.products if item.product_id == product_id)


# -- at the end of the cycle


def test_a_product_cancelled_at_the_cycles_end_serves_until_then_and_is_charged_no_more() -> None:
    here = world()
    here.activate("small", "p")
    here.cancel("p", takes_effect="cycle_end", at="2026-03-15 12:00")
    assert here.flow(10, at="2026-03-31 23:59").charged_octets == 10
    assert here.flow(10, at="2026-04-01 00:00").blocked_octets == 10
    assert fees(here) == [("p", "31", ms("2026-03-11 12:00"))]
    here.timer("2026-06-01 00:00")
    assert len(fees(here)) == 1
    assert [note.at_ms for note in here.told("expired")] == [ms("2026-04-01 00:00")]


def test_the_order_to_end_with_the_cycle_is_confirmed_when_it_is_given() -> None:
    here = world()
    here.activate("small", "p")
    told = here.cancel("p", takes_effect="cycle_end").notifications
    assert [(note.kind, note.product_id) for note in told] == [("receipt", "p")]
    assert "ends with the billing cycle" in str(told[0].detail)
    assert here.cancel("p", takes_effect="cycle_end").notifications[0].kind == "receipt"
    assert product(here, "p").end_ms == ms("2026-04-01 00:00")


def test_a_cancellation_now_goes_before_one_at_the_cycles_end() -> None:
    here = world(plan("small", "31", price=DAILY), at="2026-03-01 00:00")
    here.activate("small", "p")
    here.cancel("p", takes_effect="cycle_end", at="2026-03-05 12:00")
    here.cancel("p", at="2026-03-10 12:00")
    assert [amount for _, amount, _ in fees(here)] == ["31", "-21"]
    assert held(here) == []


def test_a_term_that_ends_before_the_cycle_is_not_made_longer_and_not_renewed() -> None:
    week = {"id": "week", "term_days": 7, "renewal": "automatic", "allowances": [{"id": "d", "octets": 9}]}
    here = world(week)
    here.activate("week", "p")
    here.cancel("p", takes_effect="cycle_end", at="2026-03-12 12:00")
    assert product(here, "p").end_ms == ms("2026-03-18 12:00")
    here.timer("2026-03-18 12:00")
    assert held(here) == []
    assert here.told("renewed") == []


@pytest.mark.parametrize("anchor", ["activation", "calendar"])
@pytest.mark.parametrize("at", ["2026-03-30 12:00", "2026-04-06 13:00"])
def test_a_renewal_switched_on_again_takes_back_a_cancellation_for_the_cycles_end(anchor: str, at: str) -> None:
    """In the first term and in a later one; otherwise it would be renewed in the middle of what was paid for."""
    week = {"id": "week", "term_days": 30, "renewal": "automatic", "anchor": anchor}
    here = world(week, at="2026-03-07 12:00")
    here.activate("week", "p")
    here.now_ms = here.time(at)
    here.timer()
    end_ms = product(here, "p").end_ms
    here.cancel("p", takes_effect="cycle_end")
    here.command(SetRenewal, product_id="p", renews=True)
    assert product(here, "p").end_ms == end_ms
    assert product(here, "p").renews
    here.cancel("p", takes_effect="cycle_end")
    assert here.account is not None
    assert product(here, "p").end_ms == min(end_ms or 0, here.account.cycle_end_ms)


def test_what_is_suspended_or_has_not_begun_is_cancelled_at_once() -> None:
    here = world(payment="prepaid")
    here.credit("31")
    here.activate("small", "p")
    here.timer("2026-04-01 00:00")
    here.cancel("p", takes_effect="cycle_end")
    here.activate("small", "q", start_ms=ms("2026-04-20 00:00"))
    here.cancel("q", takes_effect="cycle_end", at="2026-04-10 00:00")
    assert here.account is not None
    assert here.account.products == ()
    assert here.balance() == 0


def test_a_cancellation_for_a_cycles_end_that_is_over_ends_at_once_and_costs_nothing() -> None:
    here = world(payment="prepaid")
    here.credit("62")
    here.activate("small", "p")
    here.timer("2026-04-01 06:00")
    assert here.balance() == 0
    issued = here.now_ms
    here.now_ms = ms("2026-03-31 22:00")
    here.cancel("p", takes_effect="cycle_end")
    here.now_ms = issued
    assert here.balance() == micros("31")
    assert held(here) == []


# -- one plan in the place of another


@pytest.mark.parametrize("rent", [{}, DAILY])
def test_a_plan_changed_at_the_cycles_end_leaves_no_gap_and_charges_no_rent_twice(rent: dict[str, str]) -> None:
    here = world(plan("small", "31", price=rent), plan("large", "60", price=rent), at="2026-03-01 00:00")
    here.activate("small", "p")
    here.activate("large", "q", takes_effect="cycle_end", replaces="p", at="2026-03-15 12:00")
    end = ms("2026-04-01 00:00")
    assert held(here) == ["small"]
    for at_ms, offering in ((end - 1, "small"), (end, "large"), (end + 1, "large")):
        assert here.flow(10, at=at_ms).charged_octets == 10
        assert held(here) == [offering]
    assert fees(here) == [("p", "31", ms("2026-03-01 00:00")), ("q", "60", end)]
    here.timer("2026-05-01 00:00")
    assert fees(here)[2:] == [("q", "60", ms("2026-05-01 00:00"))]


def test_a_plan_changed_now_is_one_order_with_the_refund_of_the_old_and_the_day_charged_once() -> None:
    here = world(plan("small", "31", price=DAILY), plan("large", "62", price=DAILY), at="2026-03-01 00:00")
    here.activate("small", "p")
    here.activate("large", "q", replaces="p", at="2026-03-11 12:00")
    assert [(name, amount) for name, amount, _ in fees(here)] == [("p", "31"), ("p", "-20"), ("q", "40")]
    assert held(here) == ["large"]
    assert here.gates() == {"default": "open"}


def test_a_change_that_the_balance_does_not_cover_changes_nothing() -> None:
    here = world(payment="prepaid")
    here.credit("40")
    here.activate("small", "p")
    with pytest.raises(RefusedError, match="insufficient_balance"):
        here.activate("large", "q", replaces="p")
    assert held(here) == ["small"]
    assert here.balance() == micros("9")


def test_a_planned_change_is_called_off_by_cancelling_the_new_plan() -> None:
    here = world()
    here.activate("small", "p")
    here.activate("large", "q", takes_effect="cycle_end", replaces="p")
    here.cancel("q", at="2026-03-20 12:00")
    here.timer("2026-04-01 00:00")
    assert held(here) == ["small"]
    assert [name for name, _, _ in fees(here)] == ["p", "p"]


def test_only_one_plan_can_be_planned_to_follow() -> None:
    here = world(*PLANS, plan("other", "9"))
    here.activate("small", "p")
    here.activate("large", "q", takes_effect="cycle_end", replaces="p")
    with pytest.raises(RefusedError, match="base_plan_held"):
        here.activate("other", "r", takes_effect="cycle_end", replaces="p")


def test_a_plan_that_ends_with_the_cycle_is_in_nobodys_way_from_then_on() -> None:
    here = world()
    here.activate("small", "p")
    here.cancel("p", takes_effect="cycle_end")
    with pytest.raises(RefusedError, match="base_plan_held"):
        here.activate("large", "q")
    here.activate("large", "q", takes_effect="cycle_end")
    here.timer("2026-04-01 00:00")
    assert held(here) == ["large"]


def test_a_new_plan_that_cannot_be_paid_when_it_begins_waits_for_a_top_up_and_begins_whole() -> None:
    large = plan("large", "60", money_allowances=[{"id": "gift", "amount": "1", "validity": "once"}])
    large["prices"] = [*large["prices"], {"id": "join", "type": "one_time", "amount": "5"}]
    here = world(PLANS[0], large, payment="prepaid")
    here.credit("31")
    here.activate("small", "p")
    here.activate("large", "q", takes_effect="cycle_end", replaces="p")
    assert here.flow(10, at="2026-04-02 00:00").blocked_octets == 10
    assert product(here, "q").status == "suspended"
    here.credit("64.999999", at="2026-04-03 00:00")
    assert product(here, "q").status == "suspended"
    here.credit("0.000001", at="2026-04-04 00:00")
    assert (product(here, "q").status, here.balance()) == ("active", 0)
    assert here.flow(10).charged_octets == 10
    assert here.account is not None
    assert [purse.remaining_micros for purse in here.account.purses] == [micros("1")]
    here.timer("2026-05-01 00:00")
    assert product(here, "q").status == "suspended"


def test_a_change_at_a_day_within_the_cycle_gives_back_what_the_old_plan_declares() -> None:
    here = world(plan("small", "31", price=DAILY), PLANS[1], at="2026-03-01 00:00")
    here.activate("small", "p")
    here.activate("large", "q", start_ms=ms("2026-03-11 00:00"), replaces="p")
    here.timer("2026-03-11 00:00")
    assert [(name, amount) for name, amount, _ in fees(here)] == [("p", "31"), ("p", "-20"), ("q", "62")]


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"replaces": "nobody"}, "replaces"),
        ({"replaces": "later"}, "replaces"),
        ({"takes_effect": "cycle_end", "start_ms": 1}, "start_ms"),
    ],
)
def test_a_change_that_says_two_things_or_names_nothing_held_is_refused(fields: dict[str, Any], cause: str) -> None:
    here = world(*PLANS, {"id": "extra"})
    here.activate("small", "p")
    here.activate("extra", "later", start_ms=ms("2026-03-20 00:00"))
    with pytest.raises(RefusedError, match=f"^{cause}:"):
        here.activate("large", "q", **fields)
    assert held(here) == ["small"]


# -- what stands on a plan


def test_what_requires_a_plan_ends_with_it_at_the_same_instant_with_its_own_refund() -> None:
    here = world(*PLANS, PACK, at="2026-03-01 00:00")
    here.activate("small", "p")
    here.activate("pack", "x")
    here.cancel("p", at="2026-03-11 12:00")
    assert held(here) == []
    assert [(name, amount) for name, amount, _ in fees(here, "refund")] == [("x", "-2")]
    told = [(note.kind, note.product_id) for note in here.told("cancelled")]
    assert told == [("cancelled", "p"), ("cancelled", "x")]
    assert "requires (small, large)" in str(here.told("cancelled")[1].detail)
    here.timer("2026-05-01 00:00")
    assert [name for name, _, _ in fees(here, "fee")] == ["p", "x"]


def test_what_requires_the_old_plan_or_the_new_one_goes_on_through_the_change() -> None:
    here = world(*PLANS, PACK)
    here.activate("small", "p")
    here.activate("pack", "x")
    here.activate("large", "q", replaces="p")
    assert held(here) == ["pack", "large"]
    assert here.left("x/d") == 500


def test_what_requires_the_old_plan_alone_ends_with_the_change() -> None:
    here = world(*PLANS, {**PACK, "requires": ["small"]}, {**PACK, "id": "more", "requires": ["pack"]})
    for name in ("small", "pack", "more"):
        here.activate(name, name)
    here.activate("large", "q", takes_effect="cycle_end", replaces="small")
    here.timer("2026-04-01 00:00")
    assert held(here) == ["large"]
    assert [name for name, _, at_ms in fees(here) if at_ms == here.now_ms] == ["q"]


def test_a_pack_whose_plan_ends_with_the_cycle_is_not_charged_for_another() -> None:
    here = world(*PLANS, PACK)
    here.activate("small", "p")
    here.activate("pack", "x")
    here.cancel("p", takes_effect="cycle_end")
    here.timer("2026-04-01 00:00")
    assert held(here) == []
    assert [name for name, _, _ in fees(here)] == ["p", "x"]


def test_a_pack_goes_on_where_its_plan_is_renewed_and_ends_where_it_cannot_be() -> None:
    monthly = plan("small", "31", term_days=7, renewal="automatic")
    for balance, wanted in (("80", ["pack", "small"]), ("40", [])):
        here = world(monthly, {**PACK, "requires": ["small"]}, payment="prepaid")
        here.credit(balance)
        here.activate("small", "p")
        here.activate("pack", "x")
        here.timer("2026-03-18 12:00")
        assert held(here) == wanted


def test_a_pack_charged_at_the_instant_at_which_its_plan_fails_gets_it_back() -> None:
    """The cycle begins as the plan's term ends, and the plan cannot be renewed."""
    monthly = plan("small", "31", term_days=7, renewal="automatic")
    here = world(monthly, {**PACK, "requires": ["small"]}, payment="prepaid", at="2026-03-25 00:00")
    here.credit("40")
    here.activate("small", "p")
    here.activate("pack", "x")
    before = here.balance()
    here.timer("2026-04-01 00:00")
    assert held(here) == []
    assert here.balance() == before
    assert [(name, amount) for name, amount, _ in fees(here)][-2:] == [("x", "3.1"), ("x", "-3.1")]


def test_a_pack_ordered_at_the_moment_of_its_plans_cancellation_gets_what_it_declares() -> None:
    rent = {"id": "fee", "type": "recurring", "amount": "3.1", "refund": "none"}
    here = world(*PLANS, {**PACK, "prices": [rent]})
    here.activate("small", "p")
    here.activate("pack", "x")
    here.cancel("p")
    assert [(name, amount) for name, amount, _ in fees(here)] == [("p", "31"), ("x", "3.1")]


def test_a_late_cancellation_of_a_plan_gives_its_packs_back_what_the_cycle_charged_since() -> None:
    here = world(*PLANS, PACK)
    here.activate("small", "p")
    here.activate("pack", "x")
    here.flow(10, at="2026-04-01 10:00")
    here.cancel("p", at="2026-03-31 10:00")
    given = [(name, amount) for name, amount, _ in fees(here, "refund")]
    assert given == [("p", "-31"), ("x", "-3.1")]


@pytest.mark.parametrize("proration", ["none", "daily"])
def test_a_pack_that_begins_with_a_plan_that_cannot_gets_all_of_it_back(proration: str) -> None:
    """What was ordered for this instant has never served: its one-time price comes back, too, whatever its refund."""
    entry = {"id": "entry", "type": "one_time", "amount": "0.5"}
    rent = {"id": "fee", "type": "recurring", "amount": "3.1", "proration": proration, "refund": "none"}
    pack = {**PACK, "requires": ["small"], "prices": [entry, rent]}
    here = world(*PLANS, pack, payment="prepaid")
    here.credit("10")
    for name in ("small", "pack"):
        here.activate(name, name, takes_effect="cycle_end")
    here.timer("2026-04-01 00:00")
    assert held(here) == []
    assert here.balance() == micros("10")
    assert sorted(amount for _, amount, _ in fees(here)) == ["-0.5", "-3.1", "0.5", "3.1"]


def test_a_cancellation_of_before_a_product_began_that_comes_after_it_costs_nothing() -> None:
    entry = {"id": "entry", "type": "one_time", "amount": "0.5"}
    here = world(plan("small", "31", prices=[entry, {"id": "rent", "type": "recurring", "amount": "31"}]))
    here.activate("small", "p", start_ms=ms("2026-03-20 00:00"))
    here.flow(10, at="2026-03-21 00:00")
    here.cancel("p", at="2026-03-19 00:00")
    assert sorted(amount for _, amount, _ in fees(here)) == ["-0.5", "-31", "0.5", "31"]


def test_a_suspended_plan_is_still_a_plan_to_stand_on() -> None:
    here = world(*PLANS, PACK, payment="prepaid")
    here.credit("34.1")
    here.activate("small", "p")
    here.activate("pack", "x")
    here.credit("3.1")
    here.timer("2026-04-01 00:00")
    assert product(here, "p").status == "suspended"
    assert product(here, "x").status == "active"


def test_a_catalogue_that_asks_for_more_ends_nothing_that_is_held() -> None:
    here = world(*PLANS, {**PACK, "requires": []}, {"id": "extra"})
    here.activate("pack", "x")
    here.activate("extra", "e")
    here.publish(catalogue(*PLANS, PACK, {"id": "extra"}).model_copy(update={"version": "2"}))
    here.cancel("e")
    here.timer("2026-04-02 00:00")
    assert held(here) == ["pack"]


def test_a_pack_ordered_for_later_goes_with_its_plan_and_is_never_charged() -> None:
    here = world(*PLANS, PACK)
    here.activate("small", "p")
    here.activate("pack", "x", start_ms=ms("2026-03-20 00:00"))
    here.cancel("p")
    here.timer("2026-04-20 00:00")
    assert [name for name, _, _ in fees(here)] == ["p"]
