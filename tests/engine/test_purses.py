"""Money allowances: granted credit pays usage prices before the subscriber does."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.catalogue import ProductOffering
from schemas.command import CorrectedUsage, RefundUsage, RerateUsage, VoidUsage
from schemas.decision import PolicyDecision
from tests.engine.world import RefusedError, World, catalogue, micros, ms

DATA: dict[str, Any] = {"id": "data", "amount": "0.001", "per_octets": 1}
PLAN: dict[str, Any] = {"id": "plan", "kind": "base_plan", "usage_prices": [DATA]}
PROMO: dict[str, Any] = {"id": "promo", "money_allowances": [{"id": "gift", "amount": "2"}]}


def given_credit(promo: dict[str, Any] = PROMO, *, plan: dict[str, Any] = PLAN, **profile: Any) -> World:
    world = World(catalogue(plan, promo), **profile)
    world.activate("plan", "plan")
    world.activate("promo", "promo")
    return world


def paid(decision: PolicyDecision) -> list[tuple[str, str, str]]:
    return [(payment.bucket_id, payment.amount, payment.remaining) for payment in decision.payments]


def left(world: World) -> list[tuple[str, int]]:
    assert world.account is not None
    return [(purse.bucket_id, purse.remaining_micros) for purse in world.account.purses]


def test_credit_pays_a_price_before_a_prepaid_balance() -> None:
    world = given_credit(payment="prepaid")
    world.credit("1")
    decision = world.flow(500)
    assert decision.price is not None
    assert (decision.price.amount, paid(decision)) == ("0.5", [("promo/gift", "0.5", "1.5")])
    assert world.balance() == micros("1")
    decision = world.flow(2000)
    assert paid(decision) == [("promo/gift", "1.5", "0")]
    assert (world.balance(), left(world)) == (micros("0.5"), [("promo/gift", 0)])
    assert [note.bucket_id for note in world.told("exhausted")] == ["promo/gift"]


def test_credit_and_balance_end_together_and_the_rest_is_blocked() -> None:
    world = given_credit(payment="prepaid")
    world.credit("1")
    decision = world.flow(5000)
    assert (decision.charged_octets, decision.blocked_octets, world.balance()) == (3000, 2000, 0)
    assert world.gates() == {"default": "closed"}


def test_a_prepaid_gate_is_open_while_there_is_credit() -> None:
    world = given_credit(payment="prepaid")
    assert world.gates() == {"default": "open"}
    world.timer("2026-04-01 00:00")
    assert world.gates() == {"default": "open"}
    world.cancel("promo")
    assert world.gates() == {"default": "closed"}


def test_the_ledger_is_told_the_price_and_what_credit_paid_of_it() -> None:
    world = given_credit()
    world.flow(1500)
    world.flow(1500)
    world.emit()
    rows = [row for row in world.usage if row.kind == "usage"]
    assert [(row.amount, row.credit_amount) for row in rows] == [("3", "2")]
    assert [(item.bucket_id, item.unit, item.amount) for item in rows[0].movements] == [
        ("promo/gift", "micros", "-2000000")
    ]


def test_credit_pays_connections_too() -> None:
    chat = {"id": "chat", "unit": "connection", "amount": "0.5"}
    world = given_credit(
        plan={**PLAN, "usage_prices": [chat], "allowances": [{"id": "b", "octets": 100}]}, payment="prepaid"
    )
    for _ in range(4):
        assert world.flow(1).charged_octets == 1
    assert world.flow(1).blocked_octets == 1
    world.emit()
    assert [(row.connections, row.amount, row.credit_amount) for row in world.usage if row.connections] == [
        (4, "2", "2")
    ]


def test_credit_with_a_scope_pays_for_its_traffic_only() -> None:
    gift = {"id": "gift", "amount": "2", "scope": {"categories": ["streaming"]}}
    world = given_credit({"id": "promo", "money_allowances": [gift]}, payment="prepaid")
    assert world.flow(10, "whatsapp").blocked_octets == 10
    assert world.flow(10, "netflix").charged_octets == 10


def test_the_narrowest_then_the_first_to_end_is_spent_first() -> None:
    wide = {"id": "wide", "amount": "1"}
    narrow = {"id": "narrow", "amount": "1", "scope": {"applications": ["netflix"]}}
    soon = {"id": "soon", "amount": "1", "validity": "once", "valid_days": 1}
    world = given_credit({"id": "promo", "money_allowances": [wide, narrow, soon]})
    decision = world.flow(2500, "netflix")
    assert [name for name, _, _ in paid(decision)] == ["promo/narrow", "promo/soon", "promo/wide"]


def test_a_priority_counts_among_equally_narrow_money_only() -> None:
    first = {"id": "first", "amount": "1", "priority": 0}
    second = {"id": "second", "amount": "1", "priority": 1}
    narrow = {"id": "narrow", "amount": "1", "priority": 9, "scope": {"applications": ["netflix"]}}
    world = given_credit({"id": "promo", "money_allowances": [second, narrow, first]})
    decision = world.flow(2500, "netflix")
    assert [name for name, _, _ in paid(decision)] == ["promo/narrow", "promo/first", "promo/second"]


def test_what_credit_pays_is_not_spent_by_the_subscriber_but_counts_for_the_cap() -> None:
    world = given_credit(plan={**PLAN, "usage_prices": [{**DATA, "cap": "4"}]})
    world.limit("1")
    decision = world.flow(5000)
    assert (decision.charged_octets, decision.blocked_octets) == (3000, 2000)
    world.raise_cap()
    assert world.flow(5000).charged_octets == 1000


def test_credit_pays_all_that_it_has_though_the_limit_is_passed_already() -> None:
    world = World(catalogue(PLAN, PROMO))
    world.activate("plan")
    world.flow(3000)
    world.limit("1")
    assert world.gates() == {"default": "closed"}
    world.activate("promo", "promo")
    assert world.gates() == {"default": "open"}
    decision = world.flow(5000)
    assert (decision.charged_octets, paid(decision)) == (2000, [("promo/gift", "2", "0")])


def test_what_credit_paid_before_takes_nothing_of_the_limit_later() -> None:
    world = given_credit()
    world.limit("1")
    assert world.flow(1500).charged_octets == 1500
    decision = world.flow(2500)
    assert (decision.charged_octets, decision.blocked_octets) == (1500, 1000)
    assert not world.told("limit_nearing")
    assert world.told("limit_reached")


def test_money_of_a_cycle_is_renewed_and_what_is_left_expires() -> None:
    world = given_credit()
    world.flow(500)
    world.timer("2026-04-01 00:00")
    assert left(world) == [("promo/gift", micros("2"))]
    moved = [(row.kind, row.movements[0].amount) for row in world.usage if row.movements]
    assert moved == [("grant", "2000000"), ("usage", "-500000"), ("expiry", "-1500000"), ("grant", "2000000")]


def test_money_granted_once_ends_with_its_days() -> None:
    gift = {"id": "gift", "amount": "2", "validity": "once", "valid_days": 3}
    world = given_credit({"id": "promo", "money_allowances": [gift]}, payment="prepaid")
    assert world.flow(1, at="2026-03-13 11:59").charged_octets == 1
    assert world.flow(1, at="2026-03-13 12:00").blocked_octets == 1
    assert left(world) == []


def test_the_credit_of_a_suspended_product_rests() -> None:
    promo = {**PROMO, "prices": [{"id": "f", "type": "recurring", "amount": "3"}]}
    promo["money_allowances"] = [{"id": "gift", "amount": "2", "validity": "once"}]
    world = World(catalogue(PLAN, promo), payment="prepaid")
    world.credit("3")
    world.activate("plan")
    world.activate("promo", "promo")
    world.timer("2026-04-01 00:00")
    assert world.flow(1).blocked_octets == 1
    world.credit("3")
    assert world.flow(1).charged_octets == 1


def test_a_late_flow_is_paid_by_credit_that_was_there() -> None:
    gift = {"id": "gift", "amount": "2", "validity": "once"}
    world = World(
        catalogue(PLAN, {"id": "promo", "money_allowances": [gift]}), at="2026-03-30 12:00", payment="prepaid"
    )
    world.activate("plan")
    world.activate("promo", "promo", at="2026-03-31 12:00")
    world.timer("2026-04-01 06:00")
    assert paid(world.flow(500, at=ms("2026-03-31 20:00"))) == [("promo/gift", "0.5", "1.5")]
    assert world.flow(1, at=ms("2026-03-31 11:00")).blocked_octets == 1


def line_of(world: World) -> CorrectedUsage:
    """The last row, as a correction of it names it."""
    row = world.usage[-1]
    names = [name for name in CorrectedUsage.__struct_fields__ if hasattr(row, name)]
    return CorrectedUsage(**{name: getattr(row, name) for name in names})


def test_what_granted_money_paid_does_not_come_back_as_the_subscribers_own() -> None:
    world = given_credit(payment="prepaid")
    world.flow(500)
    world.emit()
    line = line_of(world)
    world.command(RefundUsage, line=line, amount="0.2")
    assert (left(world), world.balance()) == ([("promo/gift", micros("1.7"))], 0)
    world.command(RefundUsage, line=line, amount="0.3")
    with pytest.raises(RefusedError, match="granted_money"):
        world.command(RefundUsage, line=line, amount="0.1")
    refunds = [(row.amount, row.credit_amount) for row in world.usage if row.kind == "refund"]
    assert refunds == [("-0.2", "-0.2"), ("-0.3", "-0.3")]
    assert (left(world), world.balance()) == ([("promo/gift", micros("2"))], 0)


def test_a_rerate_of_what_granted_money_paid_is_paid_by_it_again() -> None:
    world = given_credit(payment="prepaid")
    world.credit("1")
    for volume in (1500, 1000):
        world.flow(volume)
        world.emit()
    before = left(world), world.balance(), world.money()
    assert before == ([("promo/gift", 0)], micros("0.5"), micros("2.5"))
    world.command(RerateUsage, lines=(line_of(world),), reclassified=0)
    assert (left(world), world.balance(), world.money()) == before
    refund, again = world.usage[-2:]
    assert (refund.amount, refund.credit_amount) == ("-1", "-0.5")
    assert (again.amount, again.credit_amount) == ("1", "0.5")


def test_money_that_is_gone_is_neither_given_back_nor_charged_again() -> None:
    gift = {"id": "gift", "amount": "2", "validity": "once", "valid_days": 3}
    world = given_credit({"id": "promo", "money_allowances": [gift]}, payment="prepaid")
    world.flow(500)
    world.emit()
    line = line_of(world)
    world.timer("2026-03-13 12:00")
    for kind, fields in ((VoidUsage, {"line": line}), (RerateUsage, {"lines": (line,)})):
        with pytest.raises(RefusedError, match=f"granted_money: usage_id: '{line.usage_id}' was paid by money of"):
            world.command(kind, **fields, reclassified=0)


def test_doubt_that_decides_whose_money_pays_is_doubt() -> None:
    gift = {"id": "gift", "amount": "2", "scope": {"applications": ["whatsapp"]}}
    world = given_credit({"id": "promo", "money_allowances": [gift]})
    for suspect, application, pays in ((True, None, "0"), (False, "whatsapp", "0.1")):
        world.flow(100, "whatsapp", suspect=suspect)
        world.emit()
        assert (world.usage[-1].application, world.usage[-1].credit_amount) == (application, pays)


def test_the_end_of_doubt_gives_granted_money_back() -> None:
    pack = {"id": "pack", "octets": 1000, "scope": {"applications": ["whatsapp"]}}
    world = given_credit(plan={**PLAN, "allowances": [pack]}, payment="prepaid")
    world.flow(100, "whatsapp", suspect=True)
    assert left(world) == [("promo/gift", micros("1.9"))]
    world.flow(100, "whatsapp")
    assert (left(world), world.balance()) == ([("promo/gift", micros("2"))], 0)
    refund = next(row for row in world.usage if row.kind == "refund")
    assert (refund.amount, refund.credit_amount) == ("-0.1", "-0.1")


def test_the_end_of_doubt_leaves_what_was_paid_by_granted_money_that_is_gone() -> None:
    pack = {"id": "pack", "octets": 1000, "scope": {"applications": ["whatsapp"]}}
    world = given_credit(plan={**PLAN, "allowances": [pack]}, payment="prepaid")
    world.flow(100, "whatsapp", suspect=True)
    world.cancel("promo")
    world.flow(100, "whatsapp")
    assert [row for row in world.usage if row.kind == "refund"] == []
    assert (world.balance(), world.left("plan/pack")) == (0, 900)


def test_names_are_not_shared_with_allowances_of_octets() -> None:
    with pytest.raises(ValidationError, match="rename one"):
        ProductOffering.model_validate(
            {**PROMO, "name": "P", "kind": "pass", "allowances": [{"id": "gift", "octets": 1}]}
        )


@settings(max_examples=100, deadline=None)
@given(
    parts=st.lists(st.integers(0, 900), min_size=1, max_size=5),
    gifts=st.lists(st.integers(1, 900_000), max_size=3),
    prepaid=st.booleans(),
    limit=st.sampled_from([None, "0.3"]),
)
def test_splitting_changes_no_total_and_no_purse_goes_below_nothing(
    parts: list[int], gifts: list[int], limit: str | None, *, prepaid: bool
) -> None:
    ends = []
    for volumes in (parts, [sum(parts)]):
        money = [{"id": f"g{n}", "amount": f"0.{gift:06d}"} for n, gift in enumerate(gifts)]
        chat = {"id": "chat", "unit": "connection", "amount": "0.1"}
        plan = {**PLAN, "usage_prices": [{**DATA, "per_octets": 7, "amount": "0.01"}, chat]}
        world = given_credit(
            {"id": "promo", "money_allowances": money}, plan=plan, payment="prepaid" if prepaid else "postpaid"
        )
        world.credit("0.4")
        world.limit(limit)
        for number, volume in enumerate(volumes, start=1):
            world.flow(volume, end_reason="end" if number == len(volumes) else "active")
        octets = [sum(getattr(item, f"{part}_octets") for item in world.decisions) for part in ("charged", "blocked")]
        ends.append((octets, world.money(), world.balance(), left(world), world.gates()))
    assert ends[0] == ends[1]


def test_a_unit_that_granted_money_begins_opens_the_gate_of_what_it_does_not_pay_for() -> None:
    pack = {"id": "pack", "amount": "0.333333", "per_octets": 10, "whole_units": True}
    film = {"id": "film", "scope": {"applications": ["netflix"]}}
    gift = {"id": "gift", "amount": "0.7", "scope": {"categories": ["social"]}}
    plan = {"id": "plan", "kind": "base_plan", "usage_prices": [pack], "money_allowances": [gift], "rules": ["film"]}
    world = World(catalogue(plan, rules=[film]), payment="prepaid")
    world.credit("0.4")
    world.activate("plan", "plan")
    assert world.flow(33, "netflix").charged_octets == 10
    assert world.gates() == {"film": "closed", "default": "open"}
    assert world.flow(9, "facebook").charged_octets == 9
    # The unit is paid for, and one octet of it is left for anybody.
    assert world.gates() == {"film": "open", "default": "open"}
    assert world.flow(5, "netflix").charged_octets == 1
    assert world.gates() == {"film": "closed", "default": "open"}
