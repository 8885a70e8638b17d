"""Time passing: renewals, ends, and what a gateway has to hear, with and without flows."""

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.state import STATE_VERSION, AccountState
from services.engine.timers import next_due_ms
from tests.engine.world import RefusedError, World, catalogue, ms

DATA = {"id": "data", "octets": 1000}
FEE = {"id": "fee", "type": "recurring", "amount": "5"}
PLAN = {"id": "plan", "kind": "base_plan", "allowances": [DATA], "prices": [FEE]}
SLOW = [
    {"id": "fast", "bucket": {"allowance": "data", "state": "available"}},
    {"id": "slow", "bucket": {"allowance": "data", "state": "exhausted"}, "charging": "free"},
]  # fmt: skip


def kinds(world: World, since: int = 0) -> list[str]:
    return [row.kind for row in world.usage[since:]]


def test_an_account_without_history_has_nothing_due() -> None:
    assert next_due_ms(AccountState(STATE_VERSION, "a", ("a",))) is None
    world = World(catalogue(PLAN))
    assert world.account is not None
    assert next_due_ms(world.account) == world.account.cycle_end_ms == ms("2026-04-01")


def test_a_cycle_renews_by_timer_alone() -> None:
    world = World(catalogue(PLAN))
    world.activate("plan")
    world.flow(400)
    outcome = world.timer("2026-04-01 00:00:05")
    assert [(row.kind, row.amount, [m.amount for m in row.movements]) for row in outcome.usage] == [
        ("usage", "0", ["-400"]), ("expiry", "0", ["-600"]), ("fee", "5", []), ("grant", "0", ["1000"]),
    ]  # fmt: skip
    assert outcome.usage[1].usage_id == f"t-3-a1-{ms('2026-04-01')}-0"
    assert {row.start_ms for row in outcome.usage[1:]} == {ms("2026-04-01")}
    assert world.left("p1/data") == 1000
    assert world.account is not None
    assert (world.account.counters, world.account.told_blocked) == ((), ())


def test_a_renewal_run_twice_pays_once() -> None:
    """Case 32: a scheduler that calls again finds nothing to do."""
    world = World(catalogue(PLAN))
    world.activate("plan")
    world.timer("2026-04-01")
    before = world.account
    assert world.timer("2026-04-01").usage == ()
    assert world.flow(0, at="2026-04-01 00:01").decision_id
    assert world.money() == 10_000_000
    assert before is not None
    assert before.buckets == world.account.buckets  # type: ignore[union-attr]


def test_a_flow_brings_a_renewal_about_as_a_timer_does() -> None:
    by_timer, by_flow = World(catalogue(PLAN)), World(catalogue(PLAN))
    for world in (by_timer, by_flow):
        world.activate("plan")
    by_timer.timer("2026-04-01 08:00")
    by_flow.flow(0, at="2026-04-01 08:00")
    by_timer.flow(0, at="2026-04-01 08:00")
    assert by_timer.account == by_flow.account
    rows = [[(row.usage_id, row.kind, row.amount, row.start_ms) for row in w.usage] for w in (by_timer, by_flow)]
    assert rows[0] == rows[1]


def test_a_long_silence_renews_each_cycle_at_its_own_time() -> None:
    world = World(catalogue(PLAN), zone="Europe/Paris", cycle_day=31)
    world.activate("plan")
    world.timer("2026-08-01 12:00")
    times = [row.start_ms for row in world.usage if row.kind == "fee"]
    days = ["2026-03-31", "2026-04-30", "2026-05-31", "2026-06-30", "2026-07-31"]
    assert times[1:] == [ms(day, "Europe/Paris") for day in days]
    assert world.left("p1/data") == 1000


@pytest.mark.parametrize(("offset_ms", "treatment"), [(-1, "charged"), (0, "blocked"), (1, "blocked")])
def test_a_pass_ends_exclusively(offset_ms: int, treatment: str) -> None:
    """Cases 29 and 31: at its end a bucket is not spendable, whether a sweep has come by or not."""
    day = {"id": "day", "allowances": [{**DATA, "validity": "once"}], "term_days": 1}
    world = World(catalogue(day))
    world.activate("day", at="2026-03-10 18:00")
    assert world.flow(10, at=ms("2026-03-11 18:00") + offset_ms).treatment == treatment


@pytest.mark.parametrize(
    ("bought", "ends", "hours"),
    [
        ("2026-03-28 18:00", "2026-03-29 18:00", 23),
        ("2026-10-24 18:00", "2026-10-25 18:00", 25),
        ("2026-06-10 18:00", "2026-06-11 18:00", 24),
    ],
)
def test_a_day_pass_lasts_a_local_day(bought: str, ends: str, hours: int) -> None:
    """Case 28: 23 or 25 hours where the clocks change."""
    day = {"id": "day", "allowances": [{**DATA, "validity": "once"}], "term_days": 1}
    world = World(catalogue(day), zone="Europe/Paris", at=bought)
    world.activate("day")
    assert world.account is not None
    product = world.account.products[0]
    assert product.end_ms == ms(ends, "Europe/Paris")
    assert product.end_ms - product.start_ms == hours * 3_600_000


def test_a_sweep_cannot_take_what_is_still_paid_for() -> None:
    """Case 31: of two passes only the one that is over goes."""
    day = {"id": "day", "allowances": [{**DATA, "validity": "once"}], "term_days": 1}
    world = World(catalogue(day))
    world.activate("day", "d1", at="2026-03-10 12:00")
    world.activate("day", "d2", at="2026-03-10 18:00")
    world.flow(100)
    world.timer("2026-03-11 12:00")
    assert (world.left("d1/data"), world.left("d2/data")) == (0, 1000)
    assert [note.product_id for note in world.told("expired")] == ["d1"]


def test_a_grant_may_live_shorter_than_its_product() -> None:
    plan = {"id": "plan", "allowances": [{**DATA, "validity": "once", "valid_days": 3}]}
    world = World(catalogue(plan))
    world.activate("plan", at="2026-03-10 12:00")
    assert world.flow(1, at="2026-03-13 11:59").treatment == "charged"
    assert world.flow(1, at="2026-03-13 12:00").treatment == "blocked"
    assert kinds(world)[-2:] == ["usage", "expiry"]
    world.timer("2026-04-01")
    assert world.left("p1/data") == 0


def test_a_product_that_ends_with_the_cycle_is_not_renewed() -> None:
    world = World(catalogue({**PLAN, "term_days": 22}), at="2026-03-10 00:00")
    world.activate("plan")
    world.timer("2026-04-01")
    assert kinds(world) == ["fee", "grant", "expiry"]


def test_a_new_cycle_installs_what_exhaustion_had_removed() -> None:
    world = World(catalogue({**PLAN, "rules": ["fast", "slow"]}, rules=SLOW))
    world.activate("plan")
    world.flow(1500)
    world.timer("2026-04-01")
    told = [(u.action, u.rule_id, u.cause, u.at_ms) for u in world.updates if u.rule_id in ("fast", "slow")]
    flowed, renewed = ms("2026-03-10 12:00"), ms("2026-04-01")
    assert told == [
        ("install", "fast", "activated", flowed), ("install", "slow", "exhausted", flowed),
        ("remove", "fast", "exhausted", flowed), ("install", "fast", "reset", renewed),
        ("remove", "slow", "reset", renewed),
    ]  # fmt: skip


def test_a_rule_installed_again_does_not_reset_its_counters() -> None:
    """Case 25: what was sponsored and sold in the cycle stays counted while rules come and go."""
    campaign = {"id": "c", "sponsor_id": "s", "per_subscriber_octets": 100}
    rule = {"id": "sponsored", "charging": "sponsored", "campaign": "c"}
    world = World(catalogue({"id": "free-tube", "rules": ["sponsored"]}, rules=[rule], campaigns=[campaign]))
    world.activate("free-tube", "one")
    assert world.flow(80).sponsored_octets == 80
    world.cancel("one")
    world.activate("free-tube", "two")
    assert world.flow(80).sponsored_octets == 20


def test_campaigns_begin_and_end_without_a_flow() -> None:
    start, end = ms("2026-03-12"), ms("2026-03-14")
    campaign = {"id": "c", "sponsor_id": "s", "valid_from_ms": start, "valid_until_ms": end}
    rule = {"id": "sponsored", "charging": "sponsored", "campaign": "c"}
    plan = {"id": "plan", "allowances": [DATA], "rules": ["sponsored"]}
    world = World(catalogue(plan, rules=[rule], campaigns=[campaign]))
    world.activate("plan")
    assert world.account is not None
    assert next_due_ms(world.account) == start
    seen = {}
    for at in (start - 1, start, end - 1, end):
        decision = world.flow(1, at=at)
        seen[at] = (decision.treatment, [loser.reason for loser in decision.losers])
    assert seen == {
        start - 1: ("charged", ["campaign_not_running"]), start: ("sponsored", []), end - 1: ("sponsored", []),
        end: ("charged", ["campaign_not_running"]),
    }  # fmt: skip
    told = [(u.action, u.at_ms, u.cause) for u in world.updates if u.rule_id == "sponsored"]
    assert told == [("install", start, "calendar"), ("remove", end, "calendar")]


def test_a_prepaid_product_waits_for_money_and_comes_back_with_it() -> None:
    world = World(catalogue({**PLAN, "rules": ["gate"]}, rules=[{"id": "gate", "gate_status": "closed",
                            "scope": {"categories": ["voip_im"]}}]), payment="prepaid")  # fmt: skip
    world.credit("7")
    world.activate("plan")
    world.timer("2026-04-01")
    assert world.account is not None
    assert (world.account.products[0].status, world.balance(), world.left("p1/data")) == ("suspended", 2_000_000, 0)
    refused = world.told("refused")[-1].detail
    assert refused == "plan costs 5 EUR a cycle and the balance is 2 EUR; it waits for a top-up"
    assert world.gates() == {"default": "closed"}
    world.credit("1", at="2026-04-05")
    assert world.account.products[0].status == "suspended"
    world.credit("2", at="2026-04-06")
    assert (world.account.products[0].status, world.balance(), world.left("p1/data")) == ("active", 0, 1000)
    assert world.gates() == {"gate": "closed", "default": "open"}
    assert world.account.buckets[0].valid_until_ms == ms("2026-05-01")


def test_a_new_catalogue_changes_the_rules_in_force() -> None:
    world = World(catalogue({**PLAN, "rules": ["r", "gone"]}, rules=[{"id": "r"}, {"id": "gone"}]))
    world.activate("plan")
    world.publish(
        catalogue({**PLAN, "rules": ["r", "new"]}, rules=[{"id": "r", "rating_group": 9}, {"id": "new"}], version="v2")
    )
    outcome = world.timer()
    assert [(u.action, u.rule_id, u.cause, u.catalogue_version) for u in outcome.updates] == [
        ("modify", "r", "catalogue", "v2"), ("install", "new", "catalogue", "v2"),
        ("remove", "gone", "catalogue", "v2"),
    ]  # fmt: skip
    assert world.timer().updates == ()
    assert world.flow(10).catalogue_version == "v2"


def test_a_new_catalogue_that_changes_nothing_for_an_account_tells_its_gateway_nothing() -> None:
    world = World(catalogue(PLAN))
    world.activate("plan")
    world.publish(catalogue(PLAN, {"id": "other"}, version="v2"))
    assert world.timer().updates == ()


def test_usage_gathered_under_one_catalogue_is_told_under_it() -> None:
    world = World(catalogue(PLAN))
    world.activate("plan")
    world.flow(10)
    world.publish(catalogue(PLAN, version="v2"))
    world.flow(20)
    world.emit()
    told = [(row.octets, row.catalogue_version) for row in world.usage if row.kind == "usage"]
    assert told == [(10, "test"), (20, "v2")]


def test_an_offering_that_a_new_catalogue_no_longer_has_brings_nothing_and_breaks_nothing() -> None:
    world = World(catalogue(PLAN))
    world.activate("plan")
    world.flow(10)
    world.publish(catalogue(version="v2"))
    assert world.flow(10).treatment == "blocked"
    world.timer("2026-04-01")
    assert world.left("p1/data") == 0
    assert world.money() == 5_000_000
    world.publish(catalogue(PLAN, version="v3"))
    world.timer("2026-05-01")
    assert world.left("p1/data") == 1000


def test_an_account_as_a_stranger_left_it_gets_its_first_cycle_by_its_first_flow() -> None:
    world = World(catalogue(PLAN), create=False)
    world.account = AccountState(STATE_VERSION, "a1", ("a1",))
    assert world.flow(10).treatment == "blocked"
    assert (world.account.cycle_start_ms, world.account.cycle_end_ms) == (ms("2026-03-01"), ms("2026-04-01"))


steps = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(["flow", "timer", "buy", "cancel", "credit"])), max_size=15
)


@given(
    steps,
    st.sampled_from(["prepaid", "postpaid"]),
    st.sampled_from(["UTC", "Europe/Paris", "Pacific/Apia"]),
    st.integers(1, 31),
)
@settings(deadline=None)
def test_whenever_timers_run_the_books_come_out_the_same(
    taken: list[tuple[int, str]], payment: str, zone: str, cycle_day: int
) -> None:
    """A worker that wakes up late does what one that is always awake has done, each thing at its own time."""
    offers: list[dict[str, Any]] = [
        {**PLAN, "rules": ["fast", "slow"]},
        {"id": "pass", "allowances": [{**DATA, "validity": "once"}], "term_days": 7},
    ]
    lazy, eager = (World(catalogue(*offers, rules=SLOW), payment=payment, zone=zone, cycle_day=cycle_day) for _ in "ab")
    for world in (lazy, eager):
        world.credit("12")
        world.activate("plan")
    at_ms = lazy.now_ms
    for number, (days, action) in enumerate(taken):
        at_ms += days * 86_400_000 + 1
        if action != "timer":
            while (due := eager.account.due_ms) <= at_ms:  # type: ignore[union-attr]
                eager.timer(due)
        for world in (lazy, eager):
            world.now_ms = at_ms
            _act(world, action, number)
    for world in (eager, lazy):
        world.timer(at_ms)
    assert lazy.account == eager.account
    assert [(r.kind, r.amount, r.start_ms) for r in lazy.usage] == [(r.kind, r.amount, r.start_ms) for r in eager.usage]


def _act(world: World, action: str, number: int) -> None:
    if action == "flow":
        world.flow(137)
    elif action == "timer":
        world.timer()
    elif action == "buy":
        world.activate("pass", f"pass-{number}")
    elif action == "credit":
        world.credit("3")
    else:
        with contextlib.suppress(RefusedError):
            world.cancel(f"pass-{number - 1}" if number % 2 else "p1")


def test_a_top_up_brings_back_all_that_it_covers() -> None:
    fee = {"id": "fee", "type": "recurring", "amount": "4"}
    offerings = [{"id": name, "prices": [fee], "allowances": [{"id": "data", "octets": 10}]} for name in "abc"]
    world = World(catalogue(*offerings), payment="prepaid", at="2026-03-10")
    world.credit("12")
    for name in "abc":
        world.activate(name, name)
    world.timer("2026-04-01")
    world.credit("9", at="2026-04-02")
    assert world.account is not None
    assert [item.status for item in world.account.products] == ["active", "active", "suspended"]
    assert (world.balance(), [world.left(f"{name}/data") for name in "abc"]) == (1_000_000, [10, 10, 0])


def test_what_a_suspended_product_was_granted_once_rests_until_it_is_paid() -> None:
    once = {"id": "bonus", "octets": 50, "validity": "once"}
    world = World(catalogue({**PLAN, "allowances": [once]}), payment="prepaid")
    world.credit("5")
    world.activate("plan")
    world.timer("2026-04-01")
    assert (world.flow(10).treatment, world.left("p1/bonus")) == ("blocked", 50)
    world.credit("5")
    assert (world.flow(10).treatment, world.left("p1/bonus")) == ("charged", 40)
