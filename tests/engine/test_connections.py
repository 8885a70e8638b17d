"""Prices per connection: counted once per flow, when it ends, whoever pays for its octets."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.catalogue import UsagePrice
from schemas.command import CorrectedUsage, RefundUsage, RerateUsage, VoidUsage
from schemas.usage import RatedUsage
from services.engine.usage import CONNECTIONS_ORDINAL
from tests.engine.world import RefusedError, World, catalogue, micros, ms

CHAT: dict[str, Any] = {
    "id": "chat", "unit": "connection", "amount": "0.01", "scope": {"categories": ["voip_im"]},
}  # fmt: skip
PLAN: dict[str, Any] = {
    "id": "plan", "kind": "base_plan", "allowances": [{"id": "data", "octets": 100_000}], "usage_prices": [CHAT],
}  # fmt: skip


def chatting(chat: dict[str, Any] = CHAT, *, plan: dict[str, Any] = PLAN, rules: Any = (), **profile: Any) -> World:
    made = {**plan, "usage_prices": [chat, *plan["usage_prices"][1:]], "rules": [rule["id"] for rule in rules]}
    world = World(catalogue(made, rules=rules), **profile)
    world.activate("plan")
    return world


def rows(world: World) -> list[RatedUsage]:
    world.emit()
    return [row for row in world.usage if row.connections]


def test_a_connection_costs_though_a_bucket_pays_for_its_octets() -> None:
    world = chatting()
    decision = world.flow(600, "whatsapp")
    assert (decision.charged_octets, [draw.octets for draw in decision.draws], decision.price) == (600, [600], None)
    assert decision.connection is not None
    assert (decision.connection.price_id, decision.connection.amount) == ("chat", "0.01")
    assert (decision.connection.connections_from, decision.connection.connections_to) == (0, 1)
    assert world.money() == micros("0.01")


def test_other_traffic_has_no_connections() -> None:
    world = chatting()
    assert world.flow(600, "netflix").connection is None
    assert not rows(world)


def test_a_flow_is_counted_when_it_ends() -> None:
    world = chatting()
    for _ in range(3):
        assert world.flow(100, "whatsapp", end_reason="active").connection is None
    assert world.flow(0, "whatsapp", end_reason="idle").connection is not None
    assert world.money() == micros("0.01")


@pytest.mark.parametrize("end_reason", ["idle", "end", "forced", "lack_of_resources", None])
def test_whatever_ends_it_or_says_nothing_counts(end_reason: str | None) -> None:
    assert chatting().flow(100, "whatsapp", end_reason=end_reason).connection is not None


@pytest.mark.parametrize("end_reason", ["reset", "no_answer"])
def test_a_flow_that_failed_is_no_connection(end_reason: str) -> None:
    world = chatting()
    assert world.flow(0, "whatsapp", octets_up=60, end_reason=end_reason).connection is None
    assert world.money() == 0


@pytest.mark.parametrize(("charging", "gate"), [("free", "open"), ("charge", "closed")])
def test_what_is_free_or_blocked_is_no_connection(charging: str, gate: str) -> None:
    rule = {"id": "im", "scope": {"categories": ["voip_im"]}, "charging": charging, "gate_status": gate}
    world = chatting(rules=[rule])
    assert world.flow(100, "whatsapp").connection is None


def test_what_nothing_pays_for_is_no_connection() -> None:
    world = chatting(plan={**PLAN, "allowances": []})
    decision = world.flow(100, "whatsapp")
    assert (decision.blocked_octets, decision.connection) == (100, None)


def test_tiers_and_packages_count_connections() -> None:
    world = chatting({**CHAT, "amount": "0", "tiers": [{"above": 2, "amount": "0.01"}, {"above": 3, "amount": "1"}]})
    amounts = [world.flow(1, "whatsapp").connection for _ in range(4)]
    assert [item.amount for item in amounts if item] == ["0", "0", "0.01", "1"]
    packed = chatting({**CHAT, "per_connections": 3, "whole_units": True})
    amounts = [packed.flow(1, "whatsapp").connection for _ in range(4)]
    assert [item.amount for item in amounts if item] == ["0.01", "0", "0", "0.01"]


def test_a_third_of_a_price_is_rounded_over_the_cycle() -> None:
    world = chatting({**CHAT, "per_connections": 3})
    for _ in range(300):
        world.flow(1, "whatsapp")
    assert world.money() == micros("1")


def test_the_ledger_gets_a_row_of_connections_beside_that_of_octets() -> None:
    world = chatting()
    for _ in range(3):
        world.flow(10, "whatsapp", service="chat")
    (row,) = rows(world)
    assert (row.connections, row.amount, row.price_id, row.octets, row.record_count) == (3, "0.03", "chat", 0, 0)
    assert (row.price_octets_from, row.price_octets_to, row.treatment, row.service) == (0, 3, "charged", "chat")
    (octets,) = [item for item in world.usage if item.kind == "usage" and not item.connections]
    assert (octets.octets, octets.record_count, octets.amount) == (30, 3, "0")
    assert (row.usage_id.rpartition("-")[0], row.ordinal) == (octets.usage_id.rpartition("-")[0], CONNECTIONS_ORDINAL)


def test_a_cap_blocks_and_asks_and_can_be_raised() -> None:
    world = chatting({**CHAT, "cap": "0.02"})
    for _ in range(2):
        assert world.flow(10, "whatsapp").charged_octets == 10
    assert [note.kind for note in world.notifications if note.percent] == ["cap_reached"]
    decision = world.flow(10, "whatsapp")
    assert (decision.blocked_octets, decision.connection) == (10, None)
    assert world.flow(10, "netflix").charged_octets == 10
    world.raise_cap("chat", "0.03")
    assert world.flow(10, "whatsapp").charged_octets == 10


def test_the_gate_of_a_rule_for_such_traffic_closes_at_the_cap() -> None:
    rule = {"id": "im", "scope": {"categories": ["voip_im"]}}
    world = chatting({**CHAT, "cap": "0.01"}, rules=[rule])
    world.flow(10, "whatsapp")
    assert world.gates() == {"im": "closed", "default": "open"}
    world.timer("2026-04-01 00:00")
    assert world.gates() == {"im": "open", "default": "open"}


def test_a_cap_beyond_which_connections_are_free() -> None:
    world = chatting({**CHAT, "cap": "0.01", "on_cap": "free"})
    world.flow(10, "whatsapp")
    decision = world.flow(10, "whatsapp")
    assert decision.charged_octets == 10
    assert decision.connection is not None
    assert (decision.connection.amount, decision.connection.connections_to) == ("0", 1)
    assert [row.connections for row in rows(world)] == [1]


def test_a_prepaid_balance_pays_for_connections_to_its_end() -> None:
    world = chatting(payment="prepaid")
    assert world.flow(10, "whatsapp").blocked_octets == 10
    world.credit("0.025")
    for _ in range(2):
        assert world.flow(10, "whatsapp").charged_octets == 10
    assert world.flow(10, "whatsapp").blocked_octets == 10
    assert world.balance() == micros("0.005")


def test_octets_leave_what_the_connection_will_cost() -> None:
    data = {"id": "data", "amount": "0.001", "per_octets": 1}
    world = chatting(plan={**PLAN, "allowances": [], "usage_prices": [CHAT, data]}, payment="prepaid")
    world.credit("0.1")
    decision = world.flow(200, "whatsapp")
    # 90 octets for 0.09, and 0.01 stays for the connection, which was refused: the rest of its octets were blocked.
    assert (decision.charged_octets, decision.blocked_octets, decision.connection) == (90, 110, None)
    assert world.flow(10, "netflix").charged_octets == 10


def test_octets_leave_the_exact_price_of_the_connection_not_the_rounded_one() -> None:
    data = {"id": "data", "amount": "0.000001", "per_octets": 1}
    third = {**CHAT, "amount": "1", "per_connections": 3}
    world = chatting(third, plan={**PLAN, "allowances": [], "usage_prices": [third, data]}, payment="prepaid")
    world.credit("0.333336")
    decision = world.flow(9, "whatsapp")
    # A third of a unit is a bit more than 0.333333, so 0.333334 have to stay for it, and 0.000001 is left in the end.
    assert (decision.charged_octets, decision.blocked_octets) == (2, 7)
    world.credit("0.000001")
    assert world.flow(0, "whatsapp").connection is not None
    assert world.balance() == 2


@pytest.mark.parametrize(("means", "kind"), [("balance", "blocked"), ("limit", "limit_reached")])
def test_a_connection_that_takes_what_the_next_octet_would_cost_tells_the_end_at_once(means: str, kind: str) -> None:
    data = {"id": "data", "amount": "0.001", "per_octets": 1}
    plan = {**PLAN, "allowances": [], "usage_prices": [CHAT, data]}
    world = chatting(plan=plan, payment="prepaid" if means == "balance" else "postpaid")
    world.credit("0.03") if means == "balance" else world.limit("0.03")
    # 10 octets and a connection leave 0.01: enough for the next connection or for its first octet, not for both.
    assert world.flow(10, "whatsapp").charged_octets == 10
    assert [len(world.told(name)) for name in ("blocked", "limit_reached")] == [kind == "blocked", kind != "blocked"]
    assert world.flow(1, "whatsapp").blocked_octets == 1
    assert len(world.told(kind)) == 1


def test_the_spending_limit_counts_connections() -> None:
    world = chatting()
    world.limit("0.02")
    for _ in range(3):
        world.flow(10, "whatsapp")
    assert world.decisions[-1].blocked_octets == 10
    assert len(world.told("limit_reached")) == 1


def test_a_late_connection_is_charged_in_its_own_cycle() -> None:
    world = chatting({**CHAT, "cap": "0.01"}, at="2026-03-31 12:00")
    world.timer("2026-04-01 06:00")
    assert world.flow(10, "whatsapp", at=ms("2026-03-31 20:00")).connection is not None
    assert world.flow(10, "whatsapp", at=ms("2026-03-31 21:00")).blocked_octets == 10
    assert world.flow(10, "whatsapp", at=ms("2026-04-01 07:00")).connection is not None
    assert sum(row.connections for row in rows(world)) == 2


def test_units_are_not_mixed() -> None:
    with pytest.raises(ValidationError, match="per_octets says nothing"):
        UsagePrice.model_validate({**CHAT, "per_octets": 5})
    with pytest.raises(ValidationError, match="per_connections says nothing"):
        UsagePrice.model_validate({"id": "p", "amount": 1, "per_connections": 5})
    with pytest.raises(ValidationError, match="rename one"):
        catalogue({"id": "a", "usage_prices": [CHAT]}, {"id": "b", "usage_prices": [{"id": "chat", "amount": 1}]})


SPLIT = st.lists(st.integers(0, 90), min_size=1, max_size=5)


@settings(max_examples=120, deadline=None)
@given(
    flows=st.lists(SPLIT, min_size=1, max_size=4),
    balance=st.integers(0, 400_000),
    cap=st.sampled_from([None, "0.02", "0.03"]),
    on_cap=st.sampled_from(["block", "free"]),
    left=st.integers(0, 120),
    beyond=st.sampled_from(["continue", "throttle", "block"]),
    prepaid=st.booleans(),
)
def test_splitting_a_flow_changes_no_total(
    *, flows: list[list[int]], balance: int, cap: str | None, on_cap: str, left: int, beyond: str, prepaid: bool
) -> None:
    ends = []
    for split in (True, False):
        chat = {**CHAT, "amount": "0.013333", "per_connections": 2, "cap": cap, "on_cap": on_cap}
        data = {"id": "data", "amount": "0.001", "per_octets": 3}
        bucket = {"id": "data", "octets": left, "on_exhausted": beyond}
        plan = {**PLAN, "allowances": [bucket], "usage_prices": [chat, data]}
        world = chatting(chat, plan=plan, payment="prepaid" if prepaid else "postpaid")
        if balance:
            world.credit(f"{balance // 1_000_000}.{balance % 1_000_000:06d}")
        for parts in flows:
            volumes = parts if split else [sum(parts)]
            for volume in volumes[:-1]:
                world.flow(volume, "whatsapp", end_reason="active")
            world.flow(volumes[-1], "whatsapp", end_reason="end")
        seen = world.decisions
        totals = [
            sum(getattr(item, f"{part}_octets") for item in seen) for part in ("charged", "free", "blocked")
        ]  # fmt: skip
        ends.append((totals, world.money(), world.balance(), sum(row.connections for row in rows(world))))
    assert ends[0] == ends[1]


def test_a_flow_that_is_booked_anew_is_one_connection() -> None:
    pack = {"id": "pack", "octets": 1000, "scope": {"applications": ["whatsapp"]}}
    world = chatting(plan={**PLAN, "allowances": [*PLAN["allowances"], pack]}, payment="prepaid")
    world.credit("1")
    world.flow(100, "whatsapp", suspect=True, end_reason="active")
    world.flow(100, "whatsapp", end_reason="idle")
    assert world.account is not None
    assert world.account.reclassified == 1
    assert sum(row.connections for row in rows(world)) == 1
    assert world.balance() == micros("0.99")


def lines_of(world: World) -> tuple[CorrectedUsage, ...]:
    """The rows of connections, as corrections name them."""
    names = CorrectedUsage.__struct_fields__
    return tuple(
        CorrectedUsage(**{name: getattr(row, name) for name in names if hasattr(row, name)}) for row in rows(world)
    )


def test_a_row_of_connections_is_refunded() -> None:
    world = chatting(payment="prepaid")
    world.credit("1")
    world.flow(100, "whatsapp")
    world.command(RefundUsage, line=lines_of(world)[0], amount="0.01")
    assert world.balance() == micros("1")


def test_connections_that_are_voided_have_not_been() -> None:
    world = chatting(payment="prepaid")
    world.credit("1")
    for _ in range(3):
        world.flow(100, "whatsapp")
    assert world.account is not None
    (line,) = lines_of(world)
    assert line.connections == 3
    world.command(VoidUsage, line=line, reclassified=0)
    refund = world.usage[-1]
    assert (refund.connections, refund.octets, refund.amount) == (3, 0, f"-{line.amount}")
    assert world.balance() == micros("1")
    assert not [item for item in world.account.counters if item.octets]


def test_connections_are_rated_again_under_a_new_tariff_and_stay_as_many() -> None:
    world = chatting()
    for _ in range(3):
        world.flow(100, "whatsapp")
    dear = {**CHAT, "amount": "0.05"}
    for number, (price, amount, treatment) in enumerate(
        [([dear], "0.15", "charged"), ([], "0", "free"), ([dear], "0.15", "charged")]
    ):
        plan = {**PLAN, "usage_prices": [item for item in PLAN["usage_prices"] if item["id"] != "chat"] + price}
        world.publish(catalogue(plan, version=f"v{number}"))
        line = [item for item in lines_of(world) if item.connections][-1]
        world.command(RerateUsage, lines=(line,), reclassified=0)
        refund, again = world.usage[-2:]
        assert (refund.kind, refund.connections, again.connections) == ("refund", 3, 3)
        assert (again.amount, again.treatment, again.corrects) == (amount, treatment, line.usage_id)
    assert world.money() == micros("0.15")


def test_rules_turn_by_what_connections_cost() -> None:
    rule = {"id": "dear", "scope": {"categories": ["voip_im"]}, "spend": {"at_least": "0.02"}, "charging": "free"}
    world = chatting(rules=[rule])
    seen = [world.flow(10, "whatsapp") for _ in range(4)]
    assert [item.connection is not None for item in seen] == [True, True, False, False]
    assert [item.treatment for item in seen] == ["charged", "charged", "free", "free"]
    assert world.rules() == ["dear", "default"]


def test_a_price_without_a_product_is_none() -> None:
    world = World(catalogue(PLAN))
    with pytest.raises(RefusedError, match="no_cap"):
        world.raise_cap("chat")


def test_a_connection_that_turns_out_free_keeps_how_it_came() -> None:
    home = {"id": "home", "home": True, "plmns": ["00101"]}
    zones = [home, {"id": "eu", "plmns": ["262"]}]
    plan = {"id": "plan", "kind": "base_plan", "usage_prices": [{**CHAT, "scope": {"zones": ["eu"]}}]}
    world = World(catalogue({**plan, "allowances": [{"id": "data", "octets": 1000}]}, zones=zones))
    world.activate("plan", "p")
    world.flow(100, serving_plmn="26201")
    free = {**plan, "allowances": [{"id": "data", "octets": 1000}], "usage_prices": [], "rules": ["eu"]}
    rule = {"id": "eu", "charging": "free", "scope": {"zones": ["eu"]}}
    for made, amount in (
        (catalogue(free, rules=[rule], zones=zones, version="free"), "0"),
        (catalogue({**free, "rules": [], "usage_prices": plan["usage_prices"]}, zones=zones, version="back"), "0.01"),
    ):
        lines = lines_of(world)[-1:]
        world.publish(made)
        world.command(RerateUsage, lines=lines, reclassified=0)
        paid = rows(world)[-1]
        assert (paid.kind, paid.circumstances, paid.amount) == ("usage", "|eu|||", amount)
