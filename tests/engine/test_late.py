"""Flows that are told late: charged where they happened, for as long as that is possible."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.engine.late import GRACE_MS
from tests.engine.world import World, catalogue, ms

DATA = {"id": "data", "octets": 1000}
PRICE = {"id": "beyond", "amount": "1", "per_octets": 100, "cap": "3"}
END = ms("2026-04-01")


def world_of(**plan: Any) -> World:
    world = World(catalogue({"id": "plan", "allowances": [DATA], **plan}))
    world.activate("plan")
    return world


def told(world: World, since: int) -> list[tuple[str, list[str]]]:
    return [(row.kind, [m.amount for m in row.movements]) for row in world.usage[since:]]


def test_a_late_flow_draws_the_bucket_that_was_valid_when_it_happened() -> None:
    """And the ledger hears that these octets did not expire after all."""
    world = world_of()
    world.flow(400, at=END - 5000)
    world.flow(50, at=END + 1000)
    since = len(world.usage)
    decision = world.flow(100, at=END - 1000)
    assert [(draw.bucket_id, draw.octets, draw.remaining_octets) for draw in decision.draws] == [("p1/data", 100, 500)]
    assert decision.note == "charged in the cycle before, when it happened"
    assert world.left("p1/data") == 950
    assert told(world, since) == [("usage", ["-50"]), ("expiry", ["100"]), ("usage", ["-100"])]
    assert [row.usage_id for row in world.usage[since + 1 :]] == ["f-3-4-4-1", "f-3-4-4-0"]


def test_a_late_flow_fills_the_cap_of_its_own_cycle() -> None:
    world = world_of(allowances=[], usage_prices=[PRICE])
    world.flow(250, at=END - 5000)
    world.flow(100, at=END + 1000)
    late = world.flow(100, at=END - 1000)
    assert (late.charged_octets, late.blocked_octets) == (50, 50)
    assert late.price is not None
    assert (late.price.octets_from, late.price.octets_to) == (250, 300)
    now = world.flow(100, at=END + 2000)
    assert now.price is not None
    assert (now.price.octets_from, now.price.octets_to) == (100, 200)
    assert world.told("cap_reached") == []


def test_what_comes_after_the_grace_is_listed_and_not_charged() -> None:
    world = world_of()
    world.timer(END + GRACE_MS - 1)
    assert world.flow(10, at=END - 1).treatment == "charged"
    world.timer(END + GRACE_MS)
    since = len(world.usage)
    decision = world.flow(10, at=END - 1)
    assert (decision.treatment, decision.not_charged_octets) == ("not_charged", 10)
    assert decision.note is not None
    assert decision.note.endswith("the grace for it is over; it is listed for correction")
    assert [(row.cause, row.not_charged_octets) for row in world.usage[since:]] == [("late", 10)]
    assert world.account is not None
    assert (world.account.lapsed, world.account.past_counters, world.account.past_start_ms) == ((), (), 0)


def test_the_first_moment_of_the_cycle_before_is_of_it_and_the_one_before_is_of_none() -> None:
    world = World(catalogue({"id": "plan", "allowances": [DATA]}), at="2026-01-10")
    world.activate("plan")
    world.timer(END + 1000)
    start = ms("2026-03-01")
    assert [world.flow(10, at=at).treatment for at in (start, start - 1)] == ["charged", "not_charged"]


def test_what_was_before_the_account_is_charged_in_the_present_cycle_whichever_cycle_that_was() -> None:
    world = world_of()
    world.timer(END + 1000)
    for at in (ms("2026-02-20"), ms("2026-03-01"), ms("2026-03-10 11:59")):
        assert world.flow(10, at=at).draws[0].bucket_id == "p1/data"
    assert world.left("p1/data") == 970
    # From then on the cycle before is the account's.
    world.flow(10, at=ms("2026-03-10 12:00"))
    assert world.left("p1/data") == 970


def test_a_late_flow_of_the_moment_in_which_a_bucket_ended_finds_it_gone() -> None:
    """An end is exclusive, for what is late, too."""
    pack = {"id": "pack", "allowances": [{"id": "film", "octets": 500, "validity": "once", "valid_days": 1}]}
    world = World(catalogue({"id": "plan", "allowances": [DATA]}, pack), at="2026-03-10 12:00")
    world.activate("plan", "plan")
    world.activate("pack", "pack")
    world.credit("1", at="2026-03-11 12:30")
    drawn = [world.flow(10, at=ms("2026-03-11 12:00") - ago).draws[0].bucket_id for ago in (1, 0)]
    assert drawn == ["pack/film", "plan/data"]


def test_usage_before_a_pass_ended_draws_the_pass() -> None:
    """flexprice#2818: usage before expiry that arrives after it."""
    day = {"id": "day", "allowances": [{**DATA, "validity": "once"}], "term_days": 1}
    world = World(catalogue({"id": "plan", "allowances": [{"id": "base", "octets": 500}]}, day))
    world.activate("plan")
    world.activate("day", at="2026-03-10 18:00")
    end = ms("2026-03-11 18:00")
    world.timer(end)
    # Both are general; the pass ends first, so it is drawn first.
    assert [draw.bucket_id for draw in world.flow(10, at=end - 1).draws] == ["p2/data"]
    assert [draw.bucket_id for draw in world.flow(10, at=end).draws] == ["p1/base"]
    world.timer(end + GRACE_MS)
    assert [draw.bucket_id for draw in world.flow(10, at=end - 1).draws] == ["p1/base"]


@pytest.mark.parametrize("told_late", [False, True])
def test_usage_before_a_renewal_takes_nothing_of_the_term_after_it(told_late: bool) -> None:
    """A minute of delay is no reason to pay for last week with what this week has just been bought for."""
    granted = {"id": "week", "octets": 100, "validity": "once", "on_exhausted": "throttle"}
    world = World(
        catalogue({"id": "pass", "term_days": 7, "renewal": "automatic", "allowances": [granted]}),
        at="2026-03-01 12:00",
    )
    world.activate("pass", "x")
    world.flow(100)
    if told_late:
        world.timer("2026-03-08 12:00")
    decision = world.flow(30, start_ms=ms("2026-03-08 11:59"), end_ms=ms("2026-03-08 12:00"))
    world.timer("2026-03-08 12:01")
    assert (decision.free_octets, decision.draws, world.left("x/week")) == (30, (), 100)


def test_usage_before_a_cancellation_meets_the_rules_of_then() -> None:
    free = {"id": "free", "charging": "free"}
    world = World(catalogue({"id": "add", "rules": ["free"]}, {"id": "plan", "allowances": [DATA]}, rules=[free]))
    world.activate("plan")
    world.activate("add", "a")
    cancelled = ms("2026-03-11 09:00")
    world.cancel("a", at=cancelled)
    assert [world.flow(1, at=cancelled + n).rule_id for n in (-1, 0)] == ["free", "default"]


def test_a_product_that_came_and_went_since_serves_nothing_from_before_it() -> None:
    free = {"id": "free", "charging": "free"}
    world = World(catalogue({"id": "add", "rules": ["free"]}, {"id": "plan", "allowances": [DATA]}, rules=[free]))
    world.activate("plan")
    began, ended = ms("2026-03-11 09:00"), ms("2026-03-11 10:00")
    world.activate("add", "a", at=began)
    world.cancel("a", at=ended)
    assert [world.flow(1, at=at).rule_id for at in (began - 1, began, ended - 1, ended)] == [
        "default", "free", "free", "default",
    ]  # fmt: skip


def test_a_late_flow_that_empties_a_bucket_of_now_tells_the_gateway() -> None:
    day = {"id": "day", "allowances": [{**DATA, "id": "x", "validity": "once"}], "term_days": 1}
    world = World(catalogue({"id": "plan", "allowances": [DATA]}, day))
    world.activate("plan")
    world.activate("day", at="2026-03-10 18:00")
    end = ms("2026-03-11 18:00")
    world.timer(end)
    decision = world.flow(2500, at=end - 1)
    assert (decision.charged_octets, decision.blocked_octets) == (2000, 500)
    assert world.gates() == {"default": "closed"}


def test_a_failed_late_flow_costs_nothing() -> None:
    world = world_of()
    world.timer(END)
    decision = world.flow(0, at=END - 1, octets_up=50, end_reason="reset")
    assert (decision.treatment, decision.not_charged_octets) == ("not_charged", 50)


def test_a_flow_from_before_the_account_is_charged_in_the_present_cycle() -> None:
    world = world_of()
    assert world.account is not None
    for at in (world.account.created_ms - 1, ms("2026-02-01"), ms("2019-01-01")):
        assert world.flow(10, at=at).treatment == "charged"
    assert world.left("p1/data") == 970


def test_a_prepaid_balance_pays_for_late_usage_too() -> None:
    world = World(catalogue({"id": "plan", "usage_prices": [{**PRICE, "cap": None}]}), payment="prepaid")
    world.credit("1")
    world.activate("plan")
    world.timer(END)
    decision = world.flow(500, at=END - 1)
    assert (decision.charged_octets, decision.blocked_octets, world.balance()) == (100, 400, 0)


def test_a_product_suspended_at_the_renewal_still_serves_the_cycle_before() -> None:
    plan = {"id": "plan", "allowances": [DATA], "prices": [{"id": "fee", "type": "recurring", "amount": "5"}]}
    world = World(catalogue(plan), payment="prepaid")
    world.credit("5")
    world.activate("plan")
    world.timer(END)
    assert world.flow(10, at=END).treatment == "blocked"
    assert world.flow(10, at=END - 1).treatment == "charged"


def test_a_late_flow_finds_nothing_in_what_is_suspended() -> None:
    """In the present cycle, in which the product was suspended all along; what it holds comes back with it."""
    kept = {"id": "kept", "octets": 1000, "validity": "once"}
    fee = {"id": "fee", "type": "recurring", "amount": "5"}
    world = World(catalogue({"id": "plan", "allowances": [kept, DATA], "prices": [fee]}), payment="prepaid")
    world.credit("5")
    world.activate("plan")
    world.timer(END)
    world.now_ms = END + 5000
    world.profile(segment="group")
    late = world.flow(10, at=END + 1000)
    assert (late.blocked_octets, late.draws, world.left("p1/kept")) == (10, (), 1000)


def test_order_within_the_grace_does_not_matter_for_what_is_charged_where() -> None:
    early, after = world_of(), world_of()
    early.flow(300, at=END - 10)
    early.flow(200, at=END + 10)
    after.flow(200, at=END + 10)
    after.flow(300, at=END - 10)
    for world in (early, after):
        world.timer(END + GRACE_MS)
        assert world.left("p1/data") == 800
        sums = [sum(int(m.amount) for row in world.usage for m in row.movements if row.kind == kind)
                for kind in ("grant", "usage", "expiry")]  # fmt: skip
        assert sums == [2000, -500, -700]


@pytest.mark.parametrize("payment", ["prepaid", "postpaid"])
@given(
    st.lists(
        st.tuples(st.integers(-90, 90) | st.integers(-3000, 3000), st.integers(0, 900), st.booleans()),
        min_size=1,
        max_size=14,
    ),
)
@settings(deadline=None)
def test_whatever_order_flows_come_in_the_books_stay_true(payment: str, steps: list[tuple[int, int, bool]]) -> None:
    """The World checks parts, movements, gateway and nothing below zero after each step."""
    day = {
        "id": "day",
        "allowances": [{**DATA, "id": "x", "validity": "once", "on_exhausted": "throttle"}],
        "term_days": 1,
    }
    plan = {"id": "plan", "allowances": [DATA], "usage_prices": [PRICE], "rules": ["night"]}
    night = {"id": "night", "charging": "free", "scope": {"windows": [{"start": "23:30", "end": "00:30"}]}}
    world = World(catalogue(plan, day, rules=[night]), payment=payment)
    world.credit("2")
    world.activate("plan")
    world.activate("day", at=END - 86_400_000 + 20 * 60_000)
    for minutes, volume, tick in steps:
        at_ms = END + minutes * 60_000
        if tick:
            world.timer(at_ms)
        world.flow(volume, at=at_ms)
    world.timer(END + 10 * GRACE_MS)
    assert world.account is not None
    assert (world.account.lapsed, world.account.ended) == ((), ())


def test_a_flow_a_little_late_in_the_present_cycle_is_gathered_as_any_other() -> None:
    world = World(catalogue({"id": "add"}, {"id": "plan", "allowances": [DATA]}))
    world.activate("plan")
    world.activate("add", "a")
    world.cancel("a", at="2026-03-11 09:00")
    since = len(world.usage)
    for second in (3, 1, 2):
        world.flow(10, at=f"2026-03-11 08:59:0{second}")
    assert len(world.usage) == since
    assert world.account is not None
    assert [entry.record_count for entry in world.account.pending] == [3]


def asleep_for_a_cycle() -> World:
    """A plan that could not be paid for April, nor for May, and holds volume that was granted once."""
    kept = {"id": "kept", "octets": 1000, "validity": "once"}
    fee = {"id": "fee", "type": "recurring", "amount": "5"}
    world = World(catalogue({"id": "plan", "allowances": [kept], "prices": [fee]}), payment="prepaid")
    world.credit("5")
    world.activate("plan")
    world.timer("2026-04-20")
    return world


def test_a_late_flow_finds_nothing_in_what_was_suspended_all_of_its_cycle() -> None:
    world = asleep_for_a_cycle()
    world.timer("2026-05-01 01:00")
    late = world.flow(10, at="2026-04-25")
    assert (late.blocked_octets, late.draws, world.left("p1/kept")) == (10, (), 1000)


def test_a_late_flow_finds_nothing_in_what_was_suspended_until_it_was_cancelled() -> None:
    world = asleep_for_a_cycle()
    world.cancel("p1", at="2026-04-30 20:00")
    world.timer("2026-05-01 01:00")
    late = world.flow(10, at="2026-04-30 19:00")
    assert (late.blocked_octets, late.draws) == (10, ())


def test_a_plan_that_could_not_take_the_place_of_another_serves_nothing_that_is_late() -> None:
    new = {"id": "new", "rules": ["free"], "prices": [{"id": "fee", "type": "recurring", "amount": "50"}]}
    world = World(catalogue({"id": "plan"}, new, rules=[{"id": "free", "charging": "free"}]), payment="prepaid")
    world.activate("plan")
    world.activate("new", "n", replaces="p1", takes_effect="cycle_end")
    world.timer("2026-05-01 01:00")
    assert world.flow(10, at="2026-04-25").treatment == "blocked"


def test_what_is_renewed_was_held_in_the_cycle_before_though_that_term_is_forgotten() -> None:
    """Its rules and prices are of no term; what the term had granted is gone with it."""
    day = {
        "id": "day", "term_days": 1, "renewal": "automatic", "rules": ["chat"],
        "allowances": [{"id": "octets", "octets": 500, "validity": "once"}],
    }  # fmt: skip
    chat = {"id": "chat", "charging": "free", "scope": {"applications": ["whatsapp"]}}
    world = World(catalogue({"id": "plan", "allowances": [DATA]}, day, rules=[chat]))
    world.activate("plan", "plan")
    world.activate("day", "day")
    world.timer(END + 16 * 3_600_000)
    at = ms("2026-03-31 11:59")
    assert [world.flow(10, app, at=at).treatment for app in ("whatsapp", None)] == ["free", "charged"]
    assert [draw.bucket_id for draw in world.decisions[-1].draws] == ["plan/data"]


def test_a_late_flow_that_turns_a_rule_of_now_tells_the_gateway_though_it_had_turned_then() -> None:
    """Together with the pack that has been cancelled since, half of it all was used already."""
    half = {"id": "half", "bucket": {"allowance": "x", "state": "used", "percent": 50}}
    pack = {"id": "pack", "allowances": [{**DATA, "id": "x", "validity": "once"}], "rules": ["half"]}
    world = World(catalogue(pack, rules=[half]))
    world.activate("pack", "old")
    world.flow(1000)
    world.cancel("old", at="2026-03-11 09:00")
    world.activate("pack", "new", at="2026-03-11 10:00")
    assert world.rules() == ["default"]
    late = world.flow(900, at="2026-03-11 08:00")
    assert [draw.bucket_id for draw in late.draws] == ["new/x"]
    assert world.rules("2026-03-11 10:00") == ["half", "default"]
