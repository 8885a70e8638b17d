"""Automatic renewal: a term's end begins the next term, once, if the subscriber wants it and can pay."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.catalogue import ProductOffering
from schemas.command import CorrectedUsage, RerateUsage, SetRenewal, VoidUsage
from schemas.usage import RatedUsage
from services.engine.tariff import compile_tariff
from tests.engine.world import RefusedError, World, catalogue, micros, ms

WEEK: dict[str, Any] = {
    "id": "week", "kind": "pass", "term_days": 7, "renewal": "automatic", "renewal_reminder_days": 2,
    "prices": [{"id": "fee", "type": "one_time", "amount": "3"}],
    "allowances": [{"id": "data", "octets": 1000, "validity": "once"}],
}  # fmt: skip
PLAN: dict[str, Any] = {"id": "plan", "kind": "base_plan"}


def world_of(offering: dict[str, Any] = WEEK, *, credit: str | None = None, **profile: Any) -> World:
    world = World(catalogue(PLAN, offering), at="2026-03-10 12:00", **profile)
    if credit is not None:
        world.credit(credit)
    world.activate("plan", "plan")
    world.activate(offering["id"], "p1")
    return world


def fees(world: World) -> list[RatedUsage]:
    return [row for row in world.usage if row.kind == "fee"]


def held(world: World) -> list[str]:
    assert world.account is not None
    return [product.product_id for product in world.account.products]


def ends(world: World) -> int | None:
    assert world.account is not None
    return next(product.end_ms for product in world.account.products if product.product_id == "p1")


def test_a_term_is_followed_by_another_without_any_flow() -> None:
    world = world_of()
    world.flow(700)
    world.timer("2026-03-17 12:00")
    assert (held(world), world.left("p1/data"), ends(world)) == (["plan", "p1"], 1000, ms("2026-03-24 12:00"))
    assert [(row.price_id, row.amount, row.product_id) for row in fees(world)] == [("fee", "3", "p1")] * 2
    assert fees(world)[1].cause == f"timer:{ms('2026-03-17 12:00')}"
    (told,) = world.told("renewed")
    assert told.detail == "week is renewed for 7 days, for 3 EUR"
    assert not world.told("expired")


@pytest.mark.parametrize(("days", "told"), [(1, 2), (2, 0), (3, 0)])
def test_a_reminder_that_would_come_before_its_term_does_not_come(days: int, told: int) -> None:
    world = world_of({**WEEK, "term_days": 2, "renewal_reminder_days": days})
    world.timer("2026-03-14 11:59")
    assert (len(world.told("renewed")), len(world.told("renewal_nearing"))) == (1, told)


def test_a_flow_at_the_very_end_is_of_the_next_term() -> None:
    world = world_of()
    world.flow(1000, at="2026-03-17 11:59")
    assert world.flow(300, at="2026-03-17 12:00").draws[0].remaining_octets == 700
    assert len(fees(world)) == 2


def test_what_is_due_is_done_once_whoever_brings_it_about() -> None:
    worlds = [world_of() for _ in range(3)]
    worlds[0].timer("2026-03-31 12:00")
    worlds[0].timer("2026-03-31 12:00")
    worlds[1].flow(1, at="2026-03-31 12:00")
    for at in ("2026-03-17 12:00", "2026-03-24 12:00", "2026-03-31 12:00"):
        worlds[2].timer(at)
    assert [len(fees(world)) for world in worlds] == [4, 4, 4]
    assert [row.usage_id for row in fees(worlds[0])] == [row.usage_id for row in fees(worlds[2])]


def test_the_subscriber_is_told_before_and_can_switch_it_off() -> None:
    world = world_of()
    world.timer("2026-03-15 11:59")
    assert not world.told("renewal_nearing")
    world.timer("2026-03-15 12:00")
    (told,) = world.told("renewal_nearing")
    assert (told.asks_for, told.product_id) == ("set_renewal", "p1")
    world.command(SetRenewal, product_id="p1", renews=False)
    world.timer("2026-03-17 12:00")
    assert (held(world), len(fees(world)), len(world.told("expired"))) == (["plan"], 1, 1)


def test_it_can_be_switched_on_again_and_off_at_the_order() -> None:
    world = world_of()
    for renews in (False, False, True):
        world.command(SetRenewal, product_id="p1", renews=renews)
    world.activate("week", "p2", renews=False)
    world.timer("2026-03-17 12:00")
    assert held(world) == ["plan", "p1"]


def test_only_what_is_renewed_can_be_switched() -> None:
    world = world_of()
    for fields in ({"product_id": "nothing", "renews": False}, {"product_id": "plan", "renews": True}):
        with pytest.raises(RefusedError, match="no_renewal"):
            world.command(SetRenewal, **fields)


def test_without_money_it_ends_and_the_gate_closes() -> None:
    rule = {"id": "on", "bucket": {"allowance": "data", "state": "available"}}
    world = World(catalogue(PLAN, {**WEEK, "rules": ["on"]}, rules=[rule]), payment="prepaid")
    world.credit("5")
    world.activate("plan", "plan")
    world.activate("week", "p1")
    assert world.gates() == {"on": "open", "default": "closed"}
    world.timer("2026-03-17 12:00")
    assert (held(world), world.balance(), len(fees(world))) == (["plan"], micros("2"), 1)
    (told,) = world.told("refused")
    assert told.detail == "week ends and is not renewed: the balance of 2 EUR does not cover it"
    assert world.gates() == {"default": "closed"}
    world.credit("10")
    world.timer("2026-04-30 12:00")
    assert len(fees(world)) == 1


def test_a_gate_that_was_closed_by_use_opens_with_the_next_term() -> None:
    world = world_of()
    world.flow(1000)
    assert world.gates() == {"default": "closed"}
    world.timer("2026-03-17 12:00")
    assert world.gates() == {"default": "open"}
    assert world.updates[-1].cause == "renewed"


@pytest.mark.parametrize(("limit", "renewed"), [("2.99", False), ("3", True), (None, True)])
def test_the_spending_limit_holds_for_what_nobody_orders(limit: str | None, renewed: bool) -> None:
    world = world_of()
    world.limit(limit)
    world.timer("2026-03-17 12:00")
    assert ("p1" in held(world)) == renewed
    details = [note.detail for note in world.told("refused")]
    wanted = "it costs 3 EUR, and 2.99 EUR of your limit of 2.99 EUR are left in this cycle"
    assert details == ([] if renewed else [f"week ends and is not renewed: {wanted}"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lifecycle_status": "retired"}, "'week' is retired"),
        ({"valid_until_ms": ms("2026-03-17 12:00")}, "not now"),
        ({"eligibility": {"segments": ["group"]}}, "is for segments group"),
        ({"requires": ["other"]}, "requires one of other"),
    ],
)
def test_what_could_not_be_ordered_is_not_renewed(change: dict[str, Any], reason: str) -> None:
    world = world_of()
    world.tariff = compile_tariff(catalogue(PLAN, {"id": "other"}, {**WEEK, **change}, version="next"))
    world.timer("2026-03-17 12:00")
    assert held(world) == ["plan"]
    assert reason in str(world.told("refused")[0].detail)


@pytest.mark.parametrize("offerings", [[PLAN], [PLAN, {**WEEK, "renewal": "none"}]])
def test_a_catalogue_that_renews_it_no_more_lets_it_end(offerings: list[dict[str, Any]]) -> None:
    world = world_of()
    world.tariff = compile_tariff(catalogue(*offerings, version="next"))
    world.timer("2026-03-17 12:00")
    assert (held(world), len(world.told("expired")), world.told("refused")) == (["plan"], 1, [])


def test_a_plan_is_renewed_before_what_stands_on_it() -> None:
    plan = {**PLAN, "term_days": 7, "renewal": "automatic"}
    world = World(catalogue({**WEEK, "requires": ["plan"]}, plan))
    world.activate("plan", "z-plan")
    world.activate("week", "p1")
    world.timer("2026-03-24 12:00")
    assert held(world) == ["z-plan", "p1"]
    world.command(SetRenewal, product_id="z-plan", renews=False)
    world.timer("2026-03-31 12:00")
    assert not held(world)
    assert "requires one of plan" in str(world.told("refused")[0].detail)


def test_a_plan_whose_terms_are_shorter_is_renewed_before_what_stands_on_it() -> None:
    """The account has it behind the pass by then, since it was renewed once already."""
    plan = {**PLAN, "term_days": 7, "renewal": "automatic"}
    world = World(catalogue(plan, {**WEEK, "term_days": 14, "requires": ["plan"]}), at="2026-03-10 12:00")
    world.activate("plan", "plan")
    world.activate("week", "p1")
    world.timer("2026-03-24 12:00")
    assert (sorted(held(world)), len(fees(world)), world.left("p1/data")) == (["p1", "plan"], 2, 1000)


def test_what_is_suspended_at_its_end_is_not_renewed() -> None:
    monthly = {"id": "rent", "type": "recurring", "amount": "4"}
    world = world_of({**WEEK, "term_days": 30, "prices": [monthly]}, payment="prepaid", credit="5")
    world.timer("2026-04-09 12:00")
    assert held(world) == ["plan"]
    assert "it was suspended at the end of its term" in str(world.told("refused")[-1].detail)


def test_prices_by_the_day_are_charged_for_each_day_once() -> None:
    rent = {"id": "rent", "type": "recurring", "amount": "31", "proration": "daily"}
    world = world_of({**WEEK, "prices": [rent]})
    world.timer("2026-04-01 00:00")
    # Seven days from the 10th, seven from the 17th, seven from the 24th up to the 31st, and that day.
    assert [row.amount for row in fees(world)][:4] == ["7", "7", "7", "1"]
    assert sum(micros(row.amount) for row in fees(world) if row.start_ms < ms("2026-04-01")) == micros("22")


def test_a_term_that_ends_with_the_cycle_is_charged_once() -> None:
    rent = {"id": "rent", "type": "recurring", "amount": "5"}
    cycle = {"id": "data", "octets": 500, "rollover": {"percent": 50}}
    world = World(catalogue(PLAN, {**WEEK, "prices": [rent], "allowances": [cycle]}), at="2026-03-25 00:00")
    world.activate("week", "p1")
    world.timer("2026-04-01 00:00")
    assert [(row.amount, row.start_ms) for row in fees(world)] == [
        ("5", ms("2026-03-25 00:00")), ("5", ms("2026-04-01 00:00")),
    ]  # fmt: skip
    assert world.left("p1/data") == 750


def test_what_is_left_stays_for_the_next_term_within_its_bounds() -> None:
    data = {"id": "data", "octets": 1000, "validity": "once", "rollover": {"percent": 50, "octets": 300}}
    world = world_of({**WEEK, "allowances": [data]})
    world.flow(500)
    world.timer("2026-03-17 12:00")
    assert world.account is not None
    assert [(bucket.remaining, bucket.rolled) for bucket in world.account.buckets] == [(250, True), (1000, False)]
    world.timer("2026-03-24 12:00")
    # What was kept once is over; of the thousand no more than three hundred stay.
    assert [(bucket.remaining, bucket.rolled) for bucket in world.account.buckets] == [(300, True), (1000, False)]


def test_what_is_not_renewed_keeps_nothing() -> None:
    data = {"id": "data", "octets": 1000, "validity": "once", "rollover": {}}
    world = world_of({**WEEK, "allowances": [data]}, payment="prepaid", credit="3")
    world.timer("2026-03-17 12:00")
    assert world.account is not None
    assert (held(world), world.account.buckets) == (["plan"], ())


def test_a_late_flow_draws_the_term_of_its_time() -> None:
    world = world_of()
    world.flow(100)
    world.timer("2026-03-17 12:00")
    decision = world.flow(200, at="2026-03-17 11:00")
    assert [(draw.bucket_id, draw.remaining_octets) for draw in decision.draws] == [("p1/data", 700)]
    assert world.left("p1/data") == 1000


def test_terms_keep_their_time_of_day_over_a_change_of_the_clocks() -> None:
    world = World(catalogue(PLAN, WEEK), at="2026-03-22 02:30", zone="Europe/Berlin")
    world.activate("week", "p1")
    world.timer("2026-04-06 00:00")
    assert [row.start_ms for row in fees(world)] == [
        # On the 29th there is no 02:30: the clocks go from 02:00 to 03:00.
        ms(at, "Europe/Berlin") for at in ("2026-03-22 02:30", "2026-03-29 03:30", "2026-04-05 02:30")
    ]  # fmt: skip


@pytest.mark.parametrize(("bought", "hours"), [("2026-03-20 23:30", 23), ("2026-10-20 22:30", 25)])
def test_no_term_loses_a_day_to_another_zone_and_a_change_of_the_clocks(bought: str, hours: int) -> None:
    """The hours of a term can lie on two sides of midnight in the zone of before and of now."""
    world = World(catalogue(WEEK), at=bought)
    world.activate("week", "p1")
    world.profile(time_zone="Europe/Paris")
    lasted = []
    for _ in range(6):
        began = ends(world) or 0
        world.timer(began)
        lasted.append(((ends(world) or 0) - began) / 3_600_000)
    assert sorted(lasted) == sorted([6 * 24 + hours] + [7 * 24] * 5)


@pytest.mark.parametrize(
    ("zone", "other"), [("UTC", "UTC"), ("Europe/Paris", "Pacific/Auckland"), ("UTC", "Asia/Tokyo")]
)
def test_terms_by_the_calendar_follow_each_other_at_midnight(zone: str, other: str) -> None:
    """The first term in another zone goes on to a midnight there, and is half a day long at least."""
    day = {**WEEK, "term_days": 1, "anchor": "calendar", "renewal_reminder_days": 0}
    world = World(catalogue(day), at="2026-03-27 20:00", zone=zone)
    world.activate("week", "p1")
    assert ends(world) == ms("2026-03-28 00:00", zone)
    world.profile(time_zone=other)
    before = ends(world) or 0
    world.timer(before)
    after = ends(world) or 0
    assert 12 <= (after - before) / 3_600_000 <= 36
    midnights = [ms(f"2026-{day}", other) for day in ("03-29", "03-30", "03-31", "04-01", "04-02", "04-03")]
    lived = midnights[midnights.index(after) :]
    for end_ms in lived[1:]:
        world.timer(after)
        after = ends(world) or 0
        assert after == end_ms


def test_what_is_kept_for_terms_by_the_calendar_ends_at_midnight() -> None:
    kept = {"id": "data", "octets": 1000, "validity": "once", "rollover": {"cycles": 2}}
    day = {**WEEK, "term_days": 2, "anchor": "calendar", "allowances": [kept]}
    world = World(catalogue(day), at="2026-03-10 20:00")
    world.activate("week", "p1")
    world.timer("2026-03-12 00:00")
    assert world.account is not None
    assert sorted(bucket.valid_until_ms or 0 for bucket in world.account.buckets) == [
        ms("2026-03-14"),
        ms("2026-03-16"),
    ]


def test_the_days_of_what_is_granted_end_by_the_anchor_of_the_offering() -> None:
    gift = {"id": "gift", "amount": "1", "validity": "once", "valid_days": 2}
    data = {"id": "data", "octets": 10, "validity": "once", "valid_days": 3}
    for anchor, ends_at in (("activation", "20:00"), ("calendar", "00:00")):
        offering = {"id": "pack", "anchor": anchor, "allowances": [data], "money_allowances": [gift]}
        world = World(catalogue(offering), at="2026-03-10 20:00")
        world.activate("pack")
        assert world.account is not None
        assert world.account.buckets[0].valid_until_ms == ms(f"2026-03-13 {ends_at}")
        assert world.account.purses[0].valid_until_ms == ms(f"2026-03-12 {ends_at}")


def test_a_trial_of_days_is_of_whole_days_and_the_term_after_it_ends_at_midnight() -> None:
    world = world_of({**WEEK, "trial_days": 2, "anchor": "calendar"})
    assert ends(world) == ms("2026-03-19 00:00")
    world.confirm("p1")
    world.timer("2026-03-12 12:00")
    assert ends(world) == ms("2026-03-19 00:00")
    world.timer("2026-03-19 00:00")
    assert ends(world) == ms("2026-03-26 00:00")


def test_an_anchor_without_days_is_refused() -> None:
    with pytest.raises(ValidationError, match="give one of them"):
        ProductOffering.model_validate({"name": "Plan", **PLAN, "anchor": "calendar"})


def test_the_shares_of_members_are_new_with_the_term() -> None:
    """As they would be in a pass that is ordered again; those in what else is held stay used."""
    share = {"id": "data", "octets": 100, "validity": "once", "per_member_octets": 30}
    family = {"id": "family", "allowances": [{**share, "priority": 200}]}
    world = World(
        catalogue({**WEEK, "allowances": [share]}, family), subscriber_ids=("m1", "m2"), at="2026-03-10 12:00"
    )
    world.activate("week", "p1")
    world.activate("family", "p2")
    assert world.flow(90, subscriber_id="m1").charged_octets == 60
    world.timer("2026-03-17 12:00")
    drawn = world.flow(90, subscriber_id="m1").draws
    assert [(draw.bucket_id, draw.octets) for draw in drawn] == [("p1/data", 30)]


def test_a_trial_comes_before_the_first_term_only() -> None:
    world = world_of({**WEEK, "trial_days": 3})
    world.confirm("p1")
    world.timer("2026-03-30 00:00")
    assert [row.start_ms for row in fees(world)] == [ms(f"2026-03-{day} 12:00") for day in (13, 20, 27)]
    assert len(world.told("trial_started")) == 1


def test_an_unconfirmed_trial_is_not_renewed() -> None:
    world = world_of({**WEEK, "trial_days": 3})
    world.timer("2026-04-30 00:00")
    assert (held(world), fees(world)) == (["plan"], [])


def test_money_of_a_term_ends_with_it() -> None:
    gift = {"id": "gift", "amount": "2", "validity": "once"}
    price = {"id": "unit", "amount": "0.001", "per_octets": 1}
    world = world_of({**WEEK, "allowances": [], "money_allowances": [gift], "usage_prices": [price]})
    world.flow(500)
    world.timer("2026-03-17 12:00")
    assert world.account is not None
    assert [purse.remaining_micros for purse in world.account.purses] == [micros("2")]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"term_days": None}, "give term_days"),
        (
            {"renewal": "none", "allowances": [{**WEEK["allowances"][0], "rollover": {}}]},
            "rollover is for",
        ),
    ],
)
def test_only_terms_are_renewed(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ProductOffering.model_validate({"name": "Week", **WEEK, **fields})


@given(credit=st.integers(3, 20), hours=st.lists(st.integers(1, 400), max_size=8), volumes=st.data())
@settings(max_examples=40, deadline=None)
def test_each_term_is_paid_once_and_grants_once(credit: int, hours: list[int], volumes: st.DataObject) -> None:
    world = world_of(payment="prepaid", credit=str(credit))
    at_ms = world.now_ms
    for step in hours:
        at_ms += step * 3_600_000
        if volumes.draw(st.booleans()):
            world.flow(volumes.draw(st.integers(0, 1500)), at=at_ms)
        else:
            world.timer(at_ms)
    terms = 1 + (at_ms - ms("2026-03-10 12:00")) // (7 * 86_400_000)
    paid = min(terms, credit // 3)
    assert len(fees(world)) == paid
    assert world.balance() == micros(str(credit - 3 * paid))
    assert sum(row.kind == "grant" for row in world.usage) == paid
    assert ("p1" in held(world)) == (terms == paid)


# -- corrections of what an earlier term paid for


def corrected(row: RatedUsage) -> CorrectedUsage:
    shared = set(CorrectedUsage.__struct_fields__) & set(RatedUsage.__struct_fields__)
    return CorrectedUsage(**{name: getattr(row, name) for name in shared})


def usage(world: World) -> RatedUsage:
    world.emit()
    return [row for row in world.usage if row.kind == "usage"][-1]


def test_what_one_term_paid_for_does_not_come_back_in_the_next() -> None:
    world = world_of()
    world.flow(700)
    row = usage(world)
    world.timer("2026-03-17 12:00")
    world.flow(900)
    world.command(VoidUsage, line=corrected(row), reclassified=0)
    assert world.left("p1/data") == 100


def test_what_one_term_paid_for_is_charged_again_to_that_term() -> None:
    world = world_of()
    world.flow(700)
    row = usage(world)
    world.timer("2026-03-17 12:00")
    world.command(RerateUsage, lines=(corrected(row),), reclassified=0)
    assert [(moved.bucket_id, moved.amount) for moved in usage(world).movements] == [("p1/data", "-700")]
    assert world.left("p1/data") == 1000


def test_granted_money_of_one_term_is_gone_in_the_next() -> None:
    gift = {"id": "gift", "amount": "2"}
    price = {"id": "beyond", "amount": "1", "per_octets": 100}
    world = world_of({**WEEK, "allowances": [], "money_allowances": [gift], "usage_prices": [price]})
    world.flow(100)
    row = usage(world)
    world.timer("2026-03-17 12:00")
    world.flow(100)
    for kind, lines in ((VoidUsage, {"line": corrected(row)}), (RerateUsage, {"lines": (corrected(row),)})):
        with pytest.raises(RefusedError, match="granted_money"):
            world.command(kind, **lines, reclassified=0)
    assert world.account is not None
    assert [purse.remaining_micros for purse in world.account.purses] == [micros("1")]
