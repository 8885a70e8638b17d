"""Bounded overshoot: a gateway hears of a bucket's end before it, and charging knows nothing of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.decision import PolicyUpdate
from services.engine.decide import decide
from services.engine.installed import settle
from services.engine.outcome import Position
from services.engine.overshoot import octets_in_interval
from services.engine.tariff import Tariff, compile_tariff
from tests.engine.gateway import Gateway, within
from tests.engine.world import World, catalogue, classification, flow_record, ms

MINUTE = 60_000
START = ms("2026-03-10 12:00")


def plan(octets: int = 1_000, tolerance: int | None = 100, **allowance: Any) -> Tariff:
    granted = {"id": "data", "octets": octets, "overshoot_tolerance_octets": tolerance, "notify_percents": []}
    return compile_tariff(catalogue({"id": "plan", "kind": "base_plan", "allowances": [{**granted, **allowance}]}))


def pack(tolerance: int | None = 100) -> Tariff:
    """A pack that slows down at its end."""
    allowance = {
        "id": "video", "octets": 1_000, "scope": {"applications": ["netflix"]}, "on_exhausted": "throttle",
        "overshoot_tolerance_octets": tolerance,
    }  # fmt: skip
    rules = [
        {"id": "fast", "scope": {"applications": ["netflix"]}, "bucket": {"allowance": "video", "state": "available"}},
        {"id": "slow", "scope": {"applications": ["netflix"]}, "bucket": {"allowance": "video", "state": "exhausted"},
         "charging": "free", "qos": {"mbr_down_bps": 1_000_000}},
    ]  # fmt: skip
    offering = {"id": "pack", "allowances": [allowance], "rules": ["fast", "slow"]}
    return compile_tariff(catalogue(offering, {"id": "again", "allowances": [allowance]}, rules=rules))


def world(tariff: Tariff, *offerings: str) -> World:
    made = World(tariff, at=START)
    for offering in offerings:
        made.activate(offering)
    return made


def ahead(made: World) -> list[PolicyUpdate]:
    return [update for update in made.updates if update.quota_octets is not None]


def told(updates: list[PolicyUpdate]) -> list[tuple[str, str, int | None]]:
    return [(update.action, update.rule_id, update.quota_octets) for update in updates]


def test_the_end_is_told_ahead_with_what_is_left_as_its_quota() -> None:
    made = world(pack(), "pack")
    made.flow(950, "netflix", at=START + MINUTE)
    assert told(ahead(made)) == [("install", "slow", 50), ("remove", "fast", 50)]
    slow, fast = ahead(made)
    assert (slow.qos.mbr_down_bps if slow.qos else 0, slow.cause) == (1_000_000, "exhausted")
    assert {update.quota_bucket_id for update in (slow, fast)} == {"p1/video"}
    assert "fast" in slow.quota_rule_ids
    assert made.rules() == ["fast", "default"]


def test_the_end_itself_is_told_without_a_quota_and_settles_what_was_foretold() -> None:
    made = world(pack(), "pack")
    made.flow(950, "netflix", at=START + MINUTE)
    before = len(made.updates)
    made.flow(80, "netflix", at=START + 2 * MINUTE)
    assert told(made.updates[before:]) == [("install", "slow", None), ("remove", "fast", None)]
    assert made.account is not None
    assert made.account.foretold == ()


def test_without_a_declared_tolerance_nothing_is_told_ahead() -> None:
    made = world(pack(None), "pack")
    for minute in range(1, 12):
        made.flow(95, "netflix", at=START + minute * MINUTE)
    assert ahead(made) == []
    assert made.account is not None
    assert made.account.buckets[0].looked_ms == 0


def test_an_end_that_changes_nothing_for_a_gateway_is_not_told() -> None:
    tariff = compile_tariff(
        catalogue(
            {"id": "plan", "kind": "base_plan",
             "allowances": [{"id": "data", "octets": 1_000, "overshoot_tolerance_octets": 100}],
             "usage_prices": [{"id": "beyond", "amount": "1"}]},
        )
    )  # fmt: skip
    made = world(tariff, "plan")
    made.flow(950, at=START + MINUTE)
    assert ahead(made) == []


def test_a_gate_that_will_close_is_told_ahead() -> None:
    made = world(plan(), "plan")
    made.flow(900, at=START + MINUTE)
    assert [(update.rule_id, update.gate_status, update.quota_octets) for update in ahead(made)] == [
        ("default", "closed", 100)
    ]
    assert made.gates() == {"default": "open"}


def test_the_faster_the_traffic_the_earlier_the_end_is_told() -> None:
    told_at = {}
    for volume in (60, 400):
        made = world(plan(octets=10_000), "plan")
        minute = 0
        while not ahead(made):
            minute += 1
            made.flow(volume, at=START + minute * MINUTE, end_ms=START + (minute + 1) * MINUTE)
        told_at[volume] = ahead(made)[0].quota_octets
    # Of the interval that it tells in, a bucket knows the beginning only by a look some time before.
    assert 100 <= (told_at[60] or 0) < 240
    assert 400 <= (told_at[400] or 0) <= 1_200


def test_a_long_rest_does_not_hide_the_pace_of_the_flow_at_hand() -> None:
    made = world(plan(octets=10_000), "plan")
    made.flow(4_000, at=START + MINUTE)
    made.flow(3_600, at="2026-03-20 12:00")
    # In ten days little has flowed on average, but the last minute brought more than is left.
    assert told(ahead(made)) == [("modify", "default", 2_400)]


@pytest.mark.parametrize(
    ("volume", "lasted_ms", "since_ms", "octets"),
    [(600, MINUTE, 10 * MINUTE, 600), (1_200, 2 * MINUTE, 10 * MINUTE, 600), (1, 1, 10 * MINUTE, 500),
     (1, 1, MINUTE, 700)],
    ids=["this flow's", "a flow of two intervals", "all since the last look", "and since the look before it"],
)  # fmt: skip
def test_the_pace_is_the_most_that_can_have_flowed_in_one_interval(
    volume: int, lasted_ms: int, since_ms: int, octets: int
) -> None:
    made = world(plan(), "plan")
    assert made.account is not None
    bucket = replace(made.account.buckets[0], remaining=300, looked_ms=START, looked_octets=800, before_octets=1_000)
    flow = flow_record(volume, at_ms=START + since_ms, end_ms=START + since_ms + lasted_ms)
    assert octets_in_interval(bucket, flow, at_ms=START + since_ms, interval_ms=MINUTE) == octets


def test_case_26_the_quota_is_that_of_its_grant_and_does_not_shrink_with_the_remainder() -> None:
    made = world(plan(octets=100_000, tolerance=1_000), "plan")
    for minute in range(1, 3_020):
        made.flow(33, at=START + minute * MINUTE)
    assert told(ahead(made)) == [("modify", "default", ahead(made)[0].quota_octets)]
    assert made.account is not None
    bucket = made.account.buckets[0]
    assert bucket.quota_octets == ahead(made)[0].quota_octets
    assert bucket.remaining < bucket.quota_octets


def test_a_bucket_is_looked_at_when_a_quarter_is_gone_and_not_for_each_flow() -> None:
    made = world(plan(octets=2**20, tolerance=1_000), "plan")
    looks = set()
    for minute in range(1, 1_049):
        made.flow(1_000, at=START + minute * MINUTE)
        assert made.account is not None
        looks.add(made.account.buckets[0].looked_ms)
    assert len(looks) < 40
    assert len(ahead(made)) == 1


def test_a_new_cycle_takes_back_what_was_foretold() -> None:
    made = world(pack(), "pack")
    made.flow(950, "netflix", at=START + MINUTE)
    before = len(made.updates)
    made.timer("2026-04-01 00:00")
    assert told(made.updates[before:]) == [("modify", "fast", None), ("remove", "slow", None)]
    made.flow(950, "netflix", at="2026-04-01 10:00")
    assert len(ahead(made)) == 4


def test_a_purchase_that_puts_the_end_off_takes_back_what_was_foretold() -> None:
    data = {"id": "data", "octets": 1_000, "overshoot_tolerance_octets": 100}
    tariff = compile_tariff(
        catalogue(
            {"id": "plan", "kind": "base_plan", "allowances": [data]},
            {"id": "top", "allowances": [{"id": "more", "octets": 5_000}]},
        )
    )
    made = world(tariff, "plan")
    made.flow(950, at=START + MINUTE)
    before = len(made.updates)
    made.activate("top", at=START + 2 * MINUTE)
    assert told(made.updates[before:]) == [("modify", "default", None)]
    assert made.account is not None
    assert made.account.foretold == ()


def test_members_who_join_hear_what_was_foretold_and_those_who_leave_forget_it() -> None:
    made = world(pack(), "pack")
    made.flow(950, "netflix", at=START + MINUTE)
    made.profile(subscriber_ids=("a1", "b2"))
    assert [update.subscriber_ids for update in ahead(made)][-2:] == [("a1", "b2"), ("a1", "b2")]
    made.profile(subscriber_ids=("b2",))
    gone = [update.rule_id for update in made.updates if update.subscriber_ids == ("a1",) and update.action == "remove"]
    assert set(gone) >= {"fast", "slow", "default"}


def test_a_catalogue_that_declares_no_tolerance_any_more_takes_back_what_was_foretold() -> None:
    made = world(pack(), "pack")
    made.flow(950, "netflix", at=START + MINUTE)
    made.publish(catalogue({"id": "pack", "allowances": [
        {"id": "video", "octets": 1_000, "scope": {"applications": ["netflix"]}, "on_exhausted": "throttle"}]},
        version="v2"))  # fmt: skip
    made.timer(START + 2 * MINUTE)
    assert made.account is not None
    assert made.account.foretold == ()


def test_the_end_of_octets_that_were_put_back_is_told_ahead_again() -> None:
    made = world(plan(), "plan")
    made.flow(1_200, at=START + MINUTE)
    assert made.account is not None
    assert (ahead(made), made.gates()) == ([], {"default": "closed"})
    filled = tuple(replace(bucket, remaining=500) for bucket in made.account.buckets)
    given_back = replace(made.account, buckets=filled)
    account, updates = settle(given_back, made.tariff, at_ms=START + 2 * MINUTE, cause="refund")
    assert told(list(updates)) == [("modify", "default", None)]
    flow = flow_record(430, at_ms=START + 3 * MINUTE, end_ms=START + 4 * MINUTE)
    seen, at = classification(None), Position("flows", 0, 99)
    outcome = decide(flow, seen, account, made.tariff, at=at, now_ms=flow.end_ms)
    assert told(list(outcome.updates)) == [("modify", "default", 70)]


def test_a_quota_that_no_longer_covers_the_bucket_is_told_anew() -> None:
    made = world(plan(), "plan")
    made.flow(950, at=START + MINUTE)
    assert made.account is not None
    filled = tuple(replace(bucket, remaining=400) for bucket in made.account.buckets)
    given_back = replace(made.account, buckets=filled)
    account, updates = settle(given_back, made.tariff, at_ms=START + 2 * MINUTE, cause="refund")
    assert told(list(updates)) == [("modify", "default", 400)]
    assert account.buckets[0].quota_octets == 400


FILMS = {"id": "films", "octets": 10_000, "scope": {"applications": ["netflix"]}}


def two_buckets(tolerance: int = 100, **films: Any) -> World:
    """A general bucket, and one for films, which have a rule of their own."""
    data = {"id": "data", "octets": 1_000, "overshoot_tolerance_octets": tolerance, "notify_percents": []}
    plan = {"id": "plan", "kind": "base_plan", "allowances": [data, {**FILMS, **films}], "rules": ["video"]}
    return world(compile_tariff(catalogue(plan, rules=[{"id": "video", "scope": FILMS["scope"]}])), "plan")


def test_traffic_that_draws_from_another_bucket_does_not_use_the_quota_up() -> None:
    made = two_buckets()
    made.flow(950, at=START + MINUTE)
    assert [update.quota_rule_ids for update in ahead(made)] == [("default",)]
    gateway = Gateway(made)
    assert gateway.passes("video", 5_000) == 5_000
    assert gateway.passes("default", 5_000) == 50


def test_traffic_whose_own_bucket_has_ended_uses_the_quota_up_from_then_on() -> None:
    made = two_buckets(octets=60)
    made.flow(950, at=START + MINUTE)
    made.flow(60, "netflix", at=START + 2 * MINUTE)
    assert [update.quota_rule_ids for update in ahead(made)] == [
        ("default",),
        ("video", "default"),
        ("video", "default"),
    ]
    gateway = Gateway(made)
    assert (gateway.passes("video", 30), gateway.passes("default", 5_000), gateway.passes("video", 9)) == (30, 20, 0)


@given(
    films=st.integers(1, 3_000),
    tolerance=st.integers(1, 900),
    own=st.none() | st.integers(1, 900),
    minutes=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 400)), min_size=1, max_size=30),
)
def test_no_gateway_stops_for_good_while_a_bucket_has_octets(
    films: int, tolerance: int, own: int | None, minutes: list[tuple[int, int]]
) -> None:
    made = two_buckets(tolerance, octets=films, overshoot_tolerance_octets=own)
    gateway = Gateway(made)
    for number, (watched, other) in enumerate(minutes, start=1):
        flows = [("netflix", gateway.passes("video", watched)), (None, gateway.passes("default", other))]
        gateway.report(flows, START + number * MINUTE)
        if not flows[1][1]:
            assert made.gates()["default"] == "closed"
            assert made.left("p1/data") == 0


def test_traffic_that_a_sponsor_pays_for_does_not_use_the_quota_up() -> None:
    data = {"id": "data", "octets": 1_000, "overshoot_tolerance_octets": 100}
    rule = {"id": "paid", "charging": "sponsored", "campaign": "c", "scope": {"applications": ["youtube"]}}
    plan = {"id": "plan", "kind": "base_plan", "allowances": [data], "rules": ["paid"]}
    campaign = {"id": "c", "sponsor_id": "tube", "per_subscriber_octets": 10_000}
    made = world(compile_tariff(catalogue(plan, rules=[rule], campaigns=[campaign])), "plan")
    made.flow(950, at=START + MINUTE)
    assert [update.quota_rule_ids for update in ahead(made)] == [("default",)]


def test_what_a_correction_puts_back_was_counted_by_the_gateway_and_is_told_anew() -> None:
    made = world(plan(), "plan")
    made.flow(950, at=START + MINUTE)
    made.flow(30, at=START + 2 * MINUTE)
    assert made.account is not None
    filled = tuple(replace(bucket, remaining=40) for bucket in made.account.buckets)
    given_back = replace(made.account, buckets=filled)
    _, updates = settle(given_back, made.tariff, at_ms=START + 3 * MINUTE, cause="corrected")
    assert told(list(updates)) == [("modify", "default", 40)]


def test_what_was_kept_from_a_cycle_before_is_looked_at_anew() -> None:
    made = world(plan(rollover={"percent": 100}), "plan")
    made.flow(400, at=START + MINUTE)
    made.timer("2026-04-01 00:00")
    assert made.account is not None
    kept = next(bucket for bucket in made.account.buckets if bucket.rolled)
    assert (kept.remaining, kept.looked_octets, kept.quota_octets) == (600, 600, 0)
    assert kept.notice_at == 450


def test_case_18_what_passes_beyond_a_hard_limit_is_bounded_and_no_bucket_is_negative() -> None:
    """A gateway that obeys quotas, and reports once a minute; the plan declares 100 octets."""
    for volume in (7, 99, 150, 333, 499):
        made = world(plan(), "plan")
        passed, quota, minute = 0, None, 0
        while quota is None or quota > 0:
            minute += 1
            within = volume if quota is None else min(volume, quota)
            quota = None if quota is None else quota - within
            passed += within
            made.flow(within, at=START + minute * MINUTE, end_ms=START + (minute + 1) * MINUTE)
            if quota is None and ahead(made):
                quota = ahead(made)[0].quota_octets
            if made.gates()["default"] == "closed":
                break
        assert passed <= 1_000 + 100, volume
        assert made.left("p1/data") == 0


@given(
    granted=st.integers(1_000, 20_000),
    tolerance=st.integers(1, 2_000),
    minutes=st.lists(st.lists(st.integers(1, 100), min_size=1, max_size=6), min_size=1, max_size=25),
    scale=st.integers(1, 20),
)
def test_the_bound_holds_for_flows_reported_within_the_interval_however_many_they_are(
    granted: int, tolerance: int, minutes: list[list[int]], scale: int
) -> None:
    """The gateway reports at the end of each minute; no minute brings more than the one before and the tolerance."""
    made = world(plan(octets=granted, tolerance=tolerance), "plan")
    gateway, before = Gateway(made), 0
    for number, wanted in enumerate(minutes, start=1):
        flows = within([volume * scale for volume in wanted], before + tolerance)
        passed = [(None, gateway.passes("default", volume)) for volume in flows]
        before = sum(volume for _, volume in passed)
        gateway.report(passed, START + number * MINUTE)
    assert gateway.passed <= granted + tolerance


@given(
    volumes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 90)), max_size=40),
    tolerance=st.integers(1, 1_500),
    percents=st.lists(st.integers(1, 100), max_size=3, unique=True),
)
def test_a_tolerance_changes_no_charge_and_no_notification(
    volumes: list[tuple[int, int]], tolerance: int, percents: list[int]
) -> None:
    worlds = [world(plan(tolerance=value, notify_percents=percents), "plan") for value in (None, tolerance)]
    for made in worlds:
        for number, (volume, minute) in enumerate(volumes):
            made.flow(volume, at=START + minute * MINUTE, record_id=f"r{number}")
    bare, bounded = worlds
    assert bounded.decisions == bare.decisions
    assert [(note.kind, note.percent) for note in bounded.notifications] == [
        (note.kind, note.percent) for note in bare.notifications
    ]
    assert len({update.quota_octets for update in ahead(bounded)}) <= 1
