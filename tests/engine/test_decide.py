"""Properties of deciding: what must hold for every tariff, account and flow."""

import dataclasses
import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.state import AccountState
from services.engine.decide import decide
from services.engine.outcome import Position
from services.engine.select import plan_of, select, select_for
from services.engine.tariff import Tariff, Traffic, compile_tariff
from services.engine.usage import MAX_PENDING
from tests.engine.arbitrary import cuts, flows, slow_data, tariffs, totals, world_of
from tests.engine.world import PARTITION, World, catalogue, classification, flow_record, ms


@given(tariffs(), st.sampled_from(["prepaid", "postpaid"]), flows)
@slow_data
def test_whatever_the_tariff_octets_add_up_and_movements_are_the_state(
    tariff: Tariff, payment: str, sent: list[dict[str, Any]]
) -> None:
    """The World checks it after each step: parts = octets, nothing below zero or rising, movements, ids, gateway."""
    world = world_of(tariff, payment)
    for flow in sent:
        world.flow(**flow)
    world.emit()
    world.timer("2026-04-01 00:00")
    world.flow(**sent[0])


@given(tariffs(), st.sampled_from(["prepaid", "postpaid"]), flows, cuts)
@slow_data
def test_splitting_or_merging_flows_never_changes_the_total(
    tariff: Tariff, payment: str, sent: list[dict[str, Any]], at: list[int]
) -> None:
    whole, split = world_of(tariff, payment), world_of(tariff, payment)
    for flow in sent:
        whole.flow(**flow)
        edges = sorted({0, flow["volume"], *(cut for cut in at if cut < flow["volume"])})
        for start, end in itertools.pairwise(edges):
            split.flow(**{**flow, "volume": end - start})
    assert totals(whole) == totals(split)


@given(
    amount=st.integers(1, 10**7), per_octets=st.integers(1, 10**6), cap=st.none() | st.integers(0, 10**6),
    on_cap=st.sampled_from(["block", "free"]), payment=st.sampled_from(["prepaid", "postpaid"]),
    balance=st.integers(1, 10**6), volumes=st.lists(st.integers(1, 10**6), min_size=2, max_size=8),
)  # fmt: skip
@slow_data
def test_slices_cost_what_the_whole_costs_to_the_micro(
    *, amount: int, per_octets: int, cap: int | None, on_cap: str, payment: str, balance: int, volumes: list[int]
) -> None:
    """Case 2, for every price, cap and balance; the whole is the price of the whole, rounded once."""
    price = {"id": "p", "amount": amount, "per_octets": per_octets, "cap": cap, "on_cap": on_cap}
    tariff = compile_tariff(catalogue({"id": "o", "usage_prices": [price]}))
    whole, sliced = World(tariff, payment=payment), World(tariff, payment=payment)
    for world in (whole, sliced):
        world.credit(f"{balance // 10**6}.{balance % 10**6:06d}")
        world.activate("o")
    whole.flow(sum(volumes))
    for volume in volumes:
        sliced.flow(volume)
    assert totals(whole) == totals(sliced)
    sold = sum(item.charged_octets for item in whole.decisions)
    exact = sold * amount // per_octets
    assert whole.money() == (exact if cap is None else min(exact, cap))


@given(tariffs(), st.sampled_from(["prepaid", "postpaid"]), flows)
@slow_data
def test_a_replay_is_bit_identical_with_or_without_memory(
    tariff: Tariff, payment: str, sent: list[dict[str, Any]]
) -> None:
    histories = []
    for forget in (False, True):
        world = world_of(tariff, payment)
        outputs = []
        for flow in sent:
            if forget:
                tariff.forget()
                # What a successor reads from the changelog is as good as what was in memory.
                world.account = msgspec.msgpack.decode(msgspec.msgpack.encode(world.account), type=AccountState)
            outputs.append(world.flow(**flow))
        outputs += [world.account, world.usage, world.updates, world.notifications]
        histories.append(msgspec.json.encode(outputs))
    assert histories[0] == histories[1]


@given(tariffs(), flows)
@slow_data
def test_traffic_that_a_plan_does_not_tell_apart_gets_the_answer_worked_out_for_it_alone(
    tariff: Tariff, sent: list[dict[str, Any]]
) -> None:
    world = world_of(tariff, "postpaid")
    assert world.account is not None
    standing = world.account.standing
    for flow in sent:
        seen = classification(flow["app"], service=flow["service"], confidence=flow["confidence"])
        alone = Traffic(flow["app"], seen.category, flow["service"], flow["rat"], flow["confidence"])
        record = flow_record(flow["volume"], at_ms=world.now_ms, rat_type=flow["rat"])
        found = dataclasses.replace(select(standing, seen, record, tariff), circumstances="")
        assert found == select_for(plan_of(standing, tariff), alone, tariff)


@given(tariffs(), flows)
@slow_data
def test_a_decision_leaves_the_state_before_as_it_was(tariff: Tariff, sent: list[dict[str, Any]]) -> None:
    """A transaction that fails goes on from the old state."""
    world = world_of(tariff, "postpaid")
    for flow in sent:
        before = world.account
        image = msgspec.msgpack.encode(before)
        world.flow(**flow)
        assert msgspec.msgpack.encode(before) == image


def test_the_two_ways_of_deciding_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short way is the waterfall with nothing left to look at; with the waterfall alone all is the same."""
    plan = {"id": "plan", "allowances": [{"id": "d", "octets": 5000}], "rules": ["free"]}
    free = {"id": "free", "charging": "free", "scope": {"applications": ["facebook"]}}
    tariff = compile_tariff(catalogue(plan, rules=[free]))
    histories = []
    for short in (True, False):
        if not short:
            import services.engine.decide as module

            monkeypatch.setattr(module, "_decide", module._decide_slowly)
        world = World(tariff)
        world.activate("plan")
        for n in range(60):
            world.flow(n * 3, ("facebook", "netflix", None)[n % 3])
        histories.append((world.account, world.decisions, world.usage, world.notifications))
    assert histories[0] == histories[1]


def test_more_rating_keys_than_the_account_gathers_are_told_at_once() -> None:
    plan = {"id": "plan", "allowances": [{"id": "d", "octets": "1 GB"}]}
    world = World(catalogue(plan))
    world.activate("plan")
    told = len(world.usage)
    for n in range(MAX_PENDING):
        world.flow(10, service=f"s{n}")
    assert len(world.usage) == told
    world.flow(10, service="one-too-many")
    assert len(world.usage) == told + MAX_PENDING + 1
    assert world.account is not None
    assert (world.account.pending, world.account.pending_since_ms) == ((), 0)


@pytest.mark.parametrize("volume", [2**40 + 1, 2**63 - 1])
def test_an_absurd_record_leaves_a_state_that_can_be_written(volume: int) -> None:
    for payment, cap in (("postpaid", None), ("prepaid", None), ("postpaid", "5")):
        price = {"id": "p", "amount": "1000000000", "per_octets": 1, "cap": cap}
        free = {"id": "free", "charging": "free", "scope": {"applications": ["facebook"]}}
        world = World(catalogue({"id": "o", "usage_prices": [price], "rules": ["free"]}, rules=[free]), payment=payment)
        world.activate("o")
        for app in ("facebook", None):
            for _ in range(3):
                world.flow(volume, app, octets_up=volume, sampling_rate=1_000_000)


def test_event_time_far_ahead_of_the_clock_renews_nothing() -> None:
    """A probe whose clock is a year off must not bring about twelve renewals."""
    plan = {"id": "plan", "allowances": [{"id": "d", "octets": 1000}], "prices": [
        {"id": "fee", "type": "recurring", "amount": "9"}]}  # fmt: skip
    world = World(catalogue(plan))
    world.activate("plan")
    assert world.account is not None
    end = world.account.cycle_end_ms
    decision = world.flow(10, start_ms=ms("2027-03-10"), end_ms=ms("2027-03-10") + 1)
    assert (decision.treatment, world.account.cycle_end_ms, world.money()) == ("charged", end, 9_000_000)


def test_a_flow_that_begins_at_the_cycles_end_belongs_to_the_next_one() -> None:
    """Case 29: ends are exclusive, and the new grant counts once."""
    world = World(catalogue({"id": "plan", "allowances": [{"id": "d", "octets": 1000}]}))
    world.activate("plan")
    end = ms("2026-04-01")
    world.flow(100, at=end - 1)
    assert world.left("p1/d") == 900
    world.flow(100, at=end)
    assert world.left("p1/d") == 900
    world.flow(100, at=end + 1)
    assert world.left("p1/d") == 800
    grants = [row for row in world.usage if row.kind == "grant"]
    assert [row.start_ms for row in grants] == [ms("2026-03-10 12:00"), end]


def test_the_same_record_decided_twice_from_the_same_state_is_the_same() -> None:
    world = World(catalogue({"id": "plan", "allowances": [{"id": "d", "octets": 1000}]}))
    world.activate("plan")
    account = world.account
    assert account is not None
    flow, seen = flow_record(70, at_ms=world.now_ms), classification("netflix")
    at = Position("ott.flows.v1", PARTITION, 9)
    one = decide(flow, seen, account, world.tariff, at=at, now_ms=world.now_ms)
    two = decide(flow, seen, account, world.tariff, at=at, now_ms=world.now_ms)
    assert one == two


HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("begins", "lasts", "start", "end"),
    [
        (23 * HOUR_MS, 60_000, 23 * HOUR_MS, 23 * HOUR_MS + 60_000),
        (10**12, 60_000, 0, 60_000),
        (-HOUR_MS, 10**12, -HOUR_MS, -HOUR_MS),
    ],
)
def test_what_a_clock_far_ahead_tells_is_of_now_in_the_ledger_too(
    begins: int, lasts: int, start: int, end: int
) -> None:
    """A row in the year 2057 is on no bill; and an end in that year would take all time that was granted."""
    world = World(catalogue({"id": "plan", "allowances": [{"id": "time", "seconds": 300}], "usage_prices": [PRICE]}))
    world.activate("plan", "x")
    now_ms = world.now_ms
    decision = world.flow(9, start_ms=now_ms + begins, end_ms=now_ms + begins + lasts)
    world.emit()
    (row,) = (row for row in world.usage if row.kind == "usage")
    assert [(item.start_ms - now_ms, item.end_ms - now_ms) for item in (decision, row)] == [(start, end)] * 2
    assert world.left("x/time") == 300_000 - (end - start)


PRICE = {"id": "p", "amount": "1", "per_octets": 1}
