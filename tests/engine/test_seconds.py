"""Allowances of seconds: a bucket of time pays for the octets that pass while it lasts."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.catalogue_allowances import Allowance
from schemas.command import CorrectedUsage, RefundUsage, RerateUsage, VoidUsage
from schemas.decision import PolicyDecision
from schemas.usage import RatedUsage
from services.engine.tariff import compile_tariff
from tests.engine.world import RefusedError, World, catalogue, micros

CALLS: dict[str, Any] = {"id": "calls", "seconds": "10 min", "scope": {"categories": ["voip_im"], "services": ["call"]}}
DATA: dict[str, Any] = {"id": "data", "octets": 10_000}
PRICE: dict[str, Any] = {"id": "unit", "amount": "0.001", "per_octets": 1}
MINUTE = 60_000


def world_of(*allowances: dict[str, Any], plan: dict[str, Any] | None = None, **profile: Any) -> World:
    offering = {"id": "plan", "kind": "base_plan", "allowances": list(allowances), **(plan or {})}
    world = World(catalogue(offering), **profile)
    world.activate("plan", "p1")
    return world


def call(world: World, lasts: int | str, volume: int = 1_000, **more: Any) -> PolicyDecision:
    return world.flow(volume, "whatsapp", service="call", lasts=lasts, **more)


def drawn(decision: PolicyDecision) -> list[tuple[str, int, int | None, int | None]]:
    return [(draw.bucket_id, draw.octets, draw.drawn_ms, draw.remaining_ms) for draw in decision.draws]


def rows(world: World) -> list[RatedUsage]:
    world.emit()
    return [row for row in world.usage if row.kind == "usage"]


def test_a_call_uses_the_time_of_its_interval_and_no_octets() -> None:
    world = world_of(CALLS, DATA)
    decision = call(world, "2 min")
    assert (decision.treatment, decision.charged_octets) == ("charged", 1_000)
    assert drawn(decision) == [("p1/calls", 1_000, 2 * MINUTE, 8 * MINUTE)]
    assert (world.left("p1/calls"), world.left("p1/data")) == (8 * MINUTE, 10_000)


def test_nothing_is_rounded() -> None:
    world = world_of(CALLS)
    assert [call(world, ms).draws[0].drawn_ms for ms in (1, 999, 1_001)] == [1, 999, 1_001]
    assert world.left("p1/calls") == 10 * MINUTE - 2_001


def test_the_call_that_ends_the_bucket_is_split_by_the_octets_that_have_passed() -> None:
    world = world_of({**CALLS, "seconds": 10}, DATA)
    decision = call(world, 30_000, 1_000)
    assert drawn(decision) == [("p1/calls", 333, 10_000, 0), ("p1/data", 667, None, None)]
    assert decision.charged_octets == 1_000


def test_what_follows_an_empty_bucket_of_time_is_what_it_says() -> None:
    for said, part in (("block", "blocked_octets"), ("throttle", "free_octets")):
        world = world_of({**CALLS, "seconds": 10, "on_exhausted": said}, DATA)
        decision = call(world, 20_000, 1_000)
        assert (decision.charged_octets, getattr(decision, part)) == (500, 500)
        assert getattr(call(world, 20_000, 10), part) == 10


def test_out_of_bundle_begins_where_time_has_ended() -> None:
    world = world_of({**CALLS, "seconds": 10}, plan={"usage_prices": [PRICE]})
    decision = call(world, 40_000, 1_000)
    assert decision.price is not None
    assert (drawn(decision), decision.price.amount) == ([("p1/calls", 250, 10_000, 0)], "0.75")


def test_time_goes_on_where_volume_has_ended() -> None:
    world = world_of({**DATA, "octets": 400, "priority": 1}, {"id": "time", "seconds": 3})
    assert drawn(world.flow(1_000, lasts=10_000)) == [("p1/data", 400, None, None), ("p1/time", 300, 3_000, 0)]


def test_concurrent_calls_use_their_seconds_each() -> None:
    world = world_of(CALLS)
    call(world, "1 min", at="2026-03-10 12:00")
    call(world, "1 min", at="2026-03-10 12:00")
    assert world.left("p1/calls") == 8 * MINUTE


@pytest.mark.parametrize(("lasts", "volume"), [(0, 500), (60_000, 0)])
def test_a_moment_and_a_silence_use_no_time(lasts: int, volume: int) -> None:
    world = world_of(CALLS)
    decision = call(world, lasts, volume)
    assert (decision.charged_octets, world.left("p1/calls")) == (volume, 10 * MINUTE)


def test_a_failed_call_uses_no_time() -> None:
    world = world_of(CALLS)
    decision = call(world, "1 min", 0, octets_up=40, end_reason="no_answer")
    assert (decision.treatment, world.left("p1/calls")) == ("not_charged", 10 * MINUTE)


def test_other_traffic_does_not_use_it() -> None:
    world = world_of(CALLS, DATA)
    world.flow(100, "whatsapp", service="chat", lasts="5 min")
    world.flow(100, "netflix", lasts="5 min")
    assert (world.left("p1/calls"), world.left("p1/data")) == (10 * MINUTE, 9_800)


def test_thresholds_are_told_in_seconds_once() -> None:
    world = world_of({**CALLS, "seconds": 100})
    for _ in range(4):
        call(world, 30_000, 100)
    assert [note.detail for note in world.told("threshold")] == ["80 % of 100 s are used; 10 s are left"]
    assert [note.detail for note in world.told("exhausted")] == ["all 100 s of p1/calls are used; the next source pays"]


def test_rules_turn_with_the_millisecond_that_reaches_a_percentage() -> None:
    rule = {"id": "slow", "bucket": {"allowance": "time", "state": "used", "percent": 80}, "charging": "free"}
    plan = {"id": "plan", "allowances": [{"id": "time", "seconds": 10}], "rules": ["slow"]}
    world = World(catalogue(plan, rules=[rule]))
    world.activate("plan", "p1")
    assert "slow" not in world.rules()
    decision = world.flow(1_000, lasts=10_000)
    assert (decision.charged_octets, decision.free_octets) == (800, 200)
    assert (world.left("p1/time"), world.rules()[0]) == (2_000, "slow")


def test_a_gate_closes_when_time_is_up_and_opens_with_the_cycle() -> None:
    world = world_of({"id": "time", "seconds": 10})
    assert world.gates() == {"default": "open"}
    world.flow(1_000, lasts=10_000)
    assert world.gates() == {"default": "closed"}
    world.timer("2026-04-01")
    assert (world.gates(), world.left("p1/time")) == ({"default": "open"}, 10_000)


def test_members_have_shares_of_time() -> None:
    shared = {"id": "time", "seconds": 100, "per_member_seconds": 30}
    world = world_of(shared, subscriber_ids=["ma", "kid"])
    decision = world.flow(1_000, lasts=60_000, subscriber_id="kid")
    assert (decision.charged_octets, decision.blocked_octets) == (500, 500)
    assert world.told("exhausted")[0].detail == "your share of 30 s of p1/time is used; the next source pays"
    assert world.flow(1_000, lasts=30_000, subscriber_id="ma").charged_octets == 1_000


def test_time_rolls_over_within_its_bounds() -> None:
    world = world_of({"id": "time", "seconds": 100, "rollover": {"percent": 50, "seconds": 20}})
    world.flow(10, lasts=30_000)
    world.timer("2026-04-01")
    assert world.account is not None
    assert [(bucket.remaining, bucket.rolled) for bucket in world.account.buckets] == [(20_000, True), (100_000, False)]


def test_a_part_of_a_cycle_grants_its_share() -> None:
    world = World(catalogue({"id": "plan", "allowances": [{"id": "time", "seconds": 31, "proration": "daily"}]}),
                  at="2026-03-22 12:00")  # fmt: skip
    world.activate("plan", "p1")
    assert world.left("p1/time") == 10_000


def test_the_ledger_hears_milliseconds_and_what_they_carried_call_by_call() -> None:
    world = world_of({**CALLS, "seconds": 10}, DATA)
    call(world, 4_000, 100)
    call(world, 12_000, 600)
    first, row = rows(world)
    assert [(moved.bucket_id, moved.unit, moved.amount, moved.remaining) for moved in row.movements] == [
        ("p1/calls", "ms", "-6000", "0"), ("p1/data", "octets", "-300", "9700"),
    ]  # fmt: skip
    assert (row.charged_octets, row.timed_octets, row.record_count) == (600, 300, 1)
    assert (first.charged_octets, first.timed_octets, first.record_count) == (100, 100, 1)


def test_what_time_cannot_pay_for_is_gathered() -> None:
    world = world_of(CALLS, DATA)
    for _ in range(3):
        world.flow(100, "whatsapp", service="chat", lasts=1_000)
        call(world, 1_000, 100)
    assert [(row.service, row.record_count) for row in rows(world)] == [("chat", 3), *[("call", 1)] * 3]


def test_calls_are_told_one_by_one_when_time_is_used_up_too() -> None:
    world = world_of({**CALLS, "seconds": 1}, DATA)
    for _ in range(3):
        call(world, 1_000, 100)
    assert [row.record_count for row in rows(world)] == [1, 1, 1]


def test_a_late_call_draws_the_bucket_of_its_time() -> None:
    world = world_of(CALLS)
    world.timer("2026-04-01 02:00")
    decision = call(world, "3 min", at="2026-03-31 23:00")
    assert drawn(decision) == [("p1/calls", 1_000, 3 * MINUTE, 7 * MINUTE)]
    assert world.left("p1/calls") == 10 * MINUTE
    world.check()
    back = next(row for row in world.usage if row.kind == "expiry" and row.cause == "late")
    assert [(moved.unit, moved.amount) for moved in back.movements] == [("ms", str(3 * MINUTE))]


# -- corrections


def corrected(row: RatedUsage) -> CorrectedUsage:
    shared = set(CorrectedUsage.__struct_fields__) & set(RatedUsage.__struct_fields__)
    return CorrectedUsage(**{name: getattr(row, name) for name in shared})


def test_a_refund_gives_seconds_back() -> None:
    world = world_of(CALLS)
    call(world, "4 min")
    world.command(RefundUsage, line=corrected(rows(world)[-1]), ms=90_000)
    assert world.left("p1/calls") == 6 * MINUTE + 90_000
    refund = next(row for row in world.usage if row.kind == "refund")
    assert (refund.octets, refund.timed_octets) == (375, 375)


def test_no_more_seconds_are_refunded_than_were_drawn() -> None:
    world = world_of(CALLS)
    call(world, "4 min")
    with pytest.raises(RefusedError, match="ms: 240001 is more than the 240000"):
        world.command(RefundUsage, line=corrected(rows(world)[-1]), ms=240_001)


def test_a_void_brings_all_back() -> None:
    world = world_of({**CALLS, "seconds": 10}, DATA, plan={"usage_prices": [PRICE]})
    call(world, 4_000, 100)
    call(world, 12_000, 20_000)
    for row in rows(world):
        world.command(VoidUsage, line=corrected(row), reclassified=0)
    assert (world.left("p1/calls"), world.left("p1/data")) == (10_000, 10_000)
    assert world.account is not None
    assert not world.account.counters


def test_rating_again_under_the_same_catalogue_changes_nothing() -> None:
    world = world_of({**CALLS, "seconds": 10}, DATA)
    for lasts, volume in ((1_000, 100), (3_000, 50), (9_000, 900)):
        call(world, lasts, volume)
    before = (world.left("p1/calls"), world.left("p1/data"), world.money())
    world.command(RerateUsage, lines=tuple(map(corrected, rows(world))), reclassified=0)
    assert (world.left("p1/calls"), world.left("p1/data"), world.money()) == before


def test_what_was_blocked_lends_no_time_to_what_passed() -> None:
    stops = {**CALLS, "seconds": 10, "on_exhausted": "block"}
    world = world_of(stops, {**DATA, "octets": 400, "priority": 1, "scope": CALLS["scope"]})
    # Four tenths by volume, half by time, and the last tenth does not pass.
    call(world, 20_000, 1_000)
    assert (world.left("p1/calls"), world.left("p1/data")) == (0, 0)
    row = rows(world)[-1]
    assert (row.charged_octets, row.timed_octets, row.blocked_octets) == (900, 500, 100)
    world.tariff = compile_tariff(catalogue({"id": "plan", "kind": "base_plan",
                                             "allowances": [{**stops, "seconds": 60}, {**DATA, "priority": 200}]},
                                            version="next"))  # fmt: skip
    world.timer("2026-03-10 13:00")
    world.command(RerateUsage, lines=(corrected(row),), reclassified=0)
    again = [moved for moved in world.usage[-1].movements if moved.unit == "ms"]
    assert [moved.amount for moved in again] == ["-10000"]


def test_a_call_that_is_rated_again_twice_keeps_its_pace() -> None:
    """What passed of it ended before its interval did, and its new row says so."""
    prepaid = {"plan": {"usage_prices": [PRICE]}, "payment": "prepaid"}
    world = world_of({**CALLS, "seconds": 10}, **prepaid)
    world.credit("0.2")
    call(world, 20_000, 1_000)
    row = rows(world)[-1]
    assert (row.charged_octets, row.blocked_octets, row.end_ms - row.start_ms) == (700, 300, 20_000)
    for _ in range(2):
        world.command(RerateUsage, lines=(corrected(rows(world)[-1]),), reclassified=0)
        row = rows(world)[-1]
        assert (row.charged_octets, row.timed_octets, row.end_ms - row.start_ms) == (700, 500, 14_000)


def test_flows_in_one_row_are_not_paid_by_time_together() -> None:
    plan = {"id": "plan", "allowances": [DATA]}
    world = World(catalogue(plan, {"id": "pack", "allowances": [{**CALLS, "seconds": 60, "validity": "once"}]}))
    world.activate("plan", "p1")
    call(world, 30_000, 600)
    call(world, 30_000, 600)
    line = corrected(rows(world)[-1])
    world.activate("pack", "p2")
    with pytest.raises(RefusedError, match=f"several_flows: usage_id: '{line.usage_id}' holds 2 flows"):
        world.command(RerateUsage, lines=(line,), reclassified=0)
    assert (world.left("p1/data"), world.left("p2/calls")) == (8_800, 60_000)
    world.command(VoidUsage, line=line, reclassified=0)
    assert world.left("p1/data") == 10_000


def test_octets_are_rated_again_as_seconds_under_a_catalogue_that_has_them() -> None:
    plan = {"id": "plan", "allowances": [DATA]}
    world = World(catalogue(plan, {"id": "pack", "allowances": [{**CALLS, "seconds": 60, "validity": "once"}]}))
    world.activate("plan", "p1")
    call(world, 30_000, 600)
    line = corrected(rows(world)[-1])
    world.activate("pack", "p2")
    world.command(RerateUsage, lines=(line,), reclassified=0)
    assert (world.left("p1/data"), world.left("p2/calls")) == (10_000, 30_000)


def test_what_is_reclassified_uses_the_seconds_of_its_flow() -> None:
    world = world_of(CALLS, DATA)
    call(world, "1 min", 700, confidence=10, remote_ip="192.0.2.9")
    assert (world.left("p1/calls"), world.left("p1/data")) == (10 * MINUTE, 9_300)
    call(world, "1 min", 100, confidence=90, remote_ip="192.0.2.9")
    assert (world.left("p1/calls"), world.left("p1/data")) == (8 * MINUTE, 10_000)


def test_a_doubted_call_gives_its_seconds_back_when_it_turns_out_free() -> None:
    rule = {"id": "free", "charging": "free", "scope": {"applications": ["whatsapp"]}}
    plan = {"id": "plan", "allowances": [{"id": "time", "seconds": 100}, {**DATA, "priority": 200}], "rules": ["free"]}
    world = World(catalogue(plan, rules=[rule]))
    world.activate("plan", "p1")
    call(world, 150_000, 600, confidence=10, remote_ip="192.0.2.9")
    assert (world.left("p1/time"), world.left("p1/data")) == (0, 9_800)
    call(world, "1 min", 100, confidence=90, remote_ip="192.0.2.9")
    assert (world.left("p1/time"), world.left("p1/data")) == (100_000, 10_000)
    refund = next(row for row in world.usage if row.kind == "refund")
    assert (refund.charged_octets, refund.timed_octets) == (600, 400)


# -- a catalogue that changes its mind


def test_a_bucket_rests_when_its_allowance_grants_another_unit() -> None:
    world = world_of({"id": "data", "octets": 500})
    plan = {"id": "plan", "kind": "base_plan", "allowances": [{"id": "data", "seconds": 60}]}
    world.tariff = compile_tariff(catalogue(plan, version="next"))
    assert world.flow(100, lasts=1_000).treatment == "blocked"
    world.timer("2026-04-01")
    assert drawn(world.flow(100, lasts=1_000)) == [("p1/data", 100, 1_000, 59_000)]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "give either octets or seconds"),
        ({"octets": 1, "seconds": 1}, "give either octets or seconds"),
        ({"seconds": 1, "per_member_octets": 1}, "per_member_octets is of another unit"),
        ({"octets": 1, "per_member_seconds": 1}, "per_member_seconds is of another unit"),
        ({"seconds": 1, "overshoot_tolerance_octets": 1}, "overshoot_tolerance_octets is of another unit"),
        ({"seconds": 1, "rollover": {"octets": 1}}, "rollover is of another unit"),
        ({"octets": 1, "rollover": {"seconds": 1}}, "rollover is of another unit"),
        ({"seconds": "5 GB"}, "not a length of time"),
        ({"seconds": "0.1 s"}, "not a whole number of seconds"),
    ],
)
def test_an_allowance_is_of_one_unit(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Allowance.model_validate({"id": "a", **fields})


@pytest.mark.parametrize("fields", [{"octets": 0}, {"seconds": "1.5 h"}, {"seconds": 5, "per_member_seconds": 2}])
def test_an_allowance_survives_the_wire(fields: dict[str, Any]) -> None:
    made = Allowance.model_validate({"id": "a", **fields})
    for body in (made.model_dump(mode="json"), made.model_dump(mode="json", exclude_defaults=True)):
        assert Allowance.model_validate(msgspec.json.decode(msgspec.json.encode(body))) == made


# -- what holds whatever the traffic


FLOWS = st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 40_000), st.booleans()), max_size=6)
TIMES = st.lists(st.integers(0, 60), min_size=1, max_size=3)


@given(flows=FLOWS, times=TIMES, volume=st.integers(0, 6_000))
@settings(max_examples=60, deadline=None)
def test_octets_add_up_and_time_is_drawn_exactly(
    flows: list[tuple[int, int, bool]], times: list[int], volume: int
) -> None:
    buckets = [{"id": f"t{n}", "seconds": seconds} for n, seconds in enumerate(times)]
    world = world_of(*buckets, {**DATA, "octets": volume}, plan={"usage_prices": [PRICE]}, payment="prepaid")
    world.credit("3")
    for octets, lasts, is_call in flows:
        # The world checks after each step that parts and movements add up, and that nothing is below zero.
        decision = world.flow(octets, "whatsapp", service="call" if is_call else None, lasts=lasts)
        left = sum(world.left(f"p1/t{n}") for n in range(len(times)))
        used = sum(draw.drawn_ms or 0 for draw in decision.draws)
        if left and octets and not any(draw.drawn_ms is None for draw in decision.draws) and used:
            assert used == lasts
    assert world.balance() == micros("3") - world.money()


@given(pieces=st.lists(st.tuples(st.integers(1, 500), st.integers(1, 50)), min_size=1, max_size=5),
       seconds=st.integers(0, 3))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_call_in_several_records_uses_the_seconds_of_one(pieces: list[tuple[int, int]], seconds: int) -> None:
    pace, whole = 7, sum(ms for ms, _ in pieces)
    once, often = (world_of({**CALLS, "seconds": seconds}, {**DATA, "octets": 10**9}) for _ in range(2))
    call(once, whole, whole * pace)
    for ms, _ in pieces:
        call(often, ms, ms * pace)
    assert once.left("p1/calls") == often.left("p1/calls")
    assert once.left("p1/data") == often.left("p1/data")
    assert once.money() == often.money()


@given(flows=FLOWS, volume=st.integers(0, 3_000))
@settings(max_examples=40, deadline=None)
def test_an_allowance_of_seconds_that_is_for_other_traffic_changes_no_charge(
    flows: list[tuple[int, int, bool]], volume: int
) -> None:
    other = {"id": "other", "seconds": 60, "scope": {"applications": ["netflix"]}}
    worlds = [world_of({**DATA, "octets": volume}, *more, plan={"usage_prices": [PRICE]}) for more in ((), (other,))]
    for octets, lasts, _ in flows:
        assert len({str(world.flow(octets, "whatsapp", lasts=lasts).draws) for world in worlds}) == 1
    assert worlds[0].money() == worlds[1].money()
