"""Rules that turn at a percentage used or an amount spent: with that very octet, however the traffic is cut."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.catalogue import UsagePrice
from services.engine.prices import curve_of
from services.engine.standing import facts_of
from tests.engine.world import World, catalogue

DATA = {"id": "data", "octets": 1000, "notify_percents": []}
PRICE = {"id": "beyond", "amount": "1", "per_octets": 100}


def world_of(plan: dict[str, Any], *rules: dict[str, Any], **profile: Any) -> World:
    made = World(catalogue({"id": "plan", **plan, "rules": [rule["id"] for rule in rules]}, rules=rules), **profile)
    made.activate("plan")
    return made


def bucket(state: str, percent: int | None = None) -> dict[str, Any]:
    return {"allowance": "data", "state": state, **({"percent": percent} if percent else {})}


@pytest.mark.parametrize(
    ("condition", "from_octet", "until_octet"),
    [
        (bucket("available"), 0, 1000), (bucket("exhausted"), 1000, None), (bucket("fresh"), 0, 1),
        (bucket("fresh", 80), 0, 800), (bucket("used", 80), 800, None), (bucket("used", 1), 10, None),
        (bucket("used", 99), 990, None),
    ],
)  # fmt: skip
def test_a_rule_applies_from_octet_to_octet(
    condition: dict[str, Any], from_octet: int, until_octet: int | None
) -> None:
    world = world_of(
        {"allowances": [DATA], "usage_prices": [PRICE]}, {"id": "r", "bucket": condition, "rating_group": 5}
    )
    seen = [world.flow(1).rule_id == "r" for _ in range(1005)]
    assert seen == [from_octet <= octet and (until_octet is None or octet < until_octet) for octet in range(1005)]


@pytest.mark.parametrize("granted", [1, 2, 3, 7, 99, 101])
@pytest.mark.parametrize("percent", [1, 33, 50, 99])
def test_a_mark_is_where_the_percentage_is_reached(granted: int, percent: int) -> None:
    plan = {"allowances": [{**DATA, "octets": granted}], "usage_prices": [PRICE]}
    world = world_of(plan, {"id": "late", "bucket": bucket("used", percent), "charging": "free"})
    world.flow(10 * granted)
    first = next(used for used in range(1, granted + 1) if used * 100 >= percent * granted)
    assert world.left("p1/data") == granted - first
    assert world.decisions[-1].free_octets == 10 * granted - first


def test_the_gateway_is_told_when_the_mark_is_crossed() -> None:
    world = world_of(
        {"allowances": [DATA]},
        {"id": "fast", "bucket": bucket("fresh", 80), "qos": {"arp": 2}},
        {"id": "slow", "bucket": bucket("used", 80), "qos": {"mbr_down_bps": 1000}},
    )
    assert world.flow(799).rule_id == "fast"
    assert world.rules() == ["fast", "default"]
    told = len(world.updates)
    assert world.flow(1).rule_id == "fast"
    assert [(u.action, u.rule_id, u.cause) for u in world.updates[told:]] == [
        ("install", "slow", "threshold"), ("remove", "fast", "threshold"),
    ]  # fmt: skip
    assert world.flow(1).rule_id == "slow"
    world.timer("2026-04-01")
    assert world.rules() == ["fast", "default"]


def test_losers_say_what_was_not_so() -> None:
    world = world_of(
        {"allowances": [DATA], "usage_prices": [PRICE]},
        {"id": "new", "bucket": bucket("fresh")}, {"id": "old", "bucket": bucket("used", 80)},
        {"id": "rich", "spend": {"at_least": "5"}}, {"id": "end"},
    )  # fmt: skip
    world.flow(1)
    assert {loser.rule_id: loser.reason for loser in world.flow(1).losers} == {
        "new": "bucket_not_fresh", "old": "bucket_not_used", "rich": "spend",
    }  # fmt: skip


def test_a_draw_that_a_mark_divides_is_told_as_one() -> None:
    world = world_of({"allowances": [DATA]}, {"id": "late", "bucket": bucket("used", 50), "rating_group": 9})
    decision = world.flow(900)
    assert [(draw.octets, draw.remaining_octets) for draw in decision.draws] == [(900, 100)]
    assert (decision.rule_id, decision.charged_octets) == ("default", 900)


def test_notifications_come_as_ever_beside_marks() -> None:
    plan = {"allowances": [{**DATA, "notify_percents": [50, 80, 100]}]}
    world = world_of(plan, {"id": "late", "bucket": bucket("used", 60), "qos": {"arp": 9}})
    for _ in range(10):
        world.flow(100)
    assert [note.percent for note in world.notifications if note.percent] == [50, 80, 100]


def test_two_buckets_of_one_allowance_are_one_supply() -> None:
    world = world_of({"allowances": [DATA], "usage_prices": [PRICE]}, {"id": "half", "bucket": bucket("used", 50)})
    world.flow(600)
    assert world.rules() == ["half", "default"]
    world.activate("plan")
    assert world.rules() == ["default"]
    assert world.flow(399).rule_id == "default"
    assert world.flow(2).rule_id == "default"
    assert world.flow(1).rule_id == "half"
    world.cancel("p2")
    assert (world.left("p1/data"), world.rules()) == (0, ["half", "default"])


def test_the_buckets_of_what_is_suspended_are_no_part_of_the_supply() -> None:
    once = {**DATA, "validity": "once"}
    pack = {"id": "pack", "prices": [{"id": "fee", "type": "recurring", "amount": "5"}], "allowances": [once]}
    rule = {"id": "r", "bucket": bucket("used", 50), "qos": {"mbr_down_bps": 1}}
    world = World(catalogue({**pack, "rules": ["r"]}, rules=[rule]), payment="prepaid", at="2026-03-10")
    world.credit("15")
    world.activate("pack", "one")
    world.activate("pack", "two")
    world.flow(600)
    assert world.rules() == ["default"]
    # The balance pays for the first of them alone: 600 of its 1000 are used.
    world.timer("2026-04-01")
    assert world.rules() == ["r", "default"]
    world.credit("5", at="2026-04-02")
    assert world.rules() == ["default"]


def test_marks_are_the_accounts_also_to_a_member_without_a_share() -> None:
    plan = {"allowances": [{**DATA, "per_member_octets": 300}], "usage_prices": [PRICE]}
    world = world_of(plan, {"id": "half", "bucket": bucket("used", 50)}, subscriber_ids=("a1", "b2"))
    world.flow(400)
    assert world.flow(1).rule_id == "default"
    assert world.flow(250, subscriber_id="b2").rule_id == "default"
    assert [world.flow(1, subscriber_id=name).rule_id for name in ("a1", "b2")] == ["half", "half"]


@pytest.mark.parametrize(
    ("spend", "from_octet", "until_octet"),
    [
        ({"at_least": "2"}, 200, None), ({"below": "2"}, 0, 200), ({"at_least": "1", "below": "2"}, 100, 200),
        ({"at_least": "0.000001"}, 1, None),
    ],
)  # fmt: skip
def test_a_rule_applies_while_this_much_is_spent(
    spend: dict[str, str], from_octet: int, until_octet: int | None
) -> None:
    world = world_of({"usage_prices": [PRICE]}, {"id": "r", "spend": spend})
    seen = [world.flow(1).rule_id == "r" for _ in range(250)]
    assert seen == [from_octet <= octet and (until_octet is None or octet < until_octet) for octet in range(250)]


def test_spending_turns_rules_inside_a_flow_and_tells_the_gateway() -> None:
    rule = {"id": "enough", "spend": {"at_least": "3"}, "charging": "free", "qos": {"mbr_down_bps": 64000}}
    world = world_of({"usage_prices": [PRICE]}, rule)
    decision = world.flow(1000)
    assert (decision.charged_octets, decision.free_octets) == (300, 700)
    assert decision.price is not None
    assert (decision.price.amount, decision.price.octets_from, decision.price.octets_to) == ("3", 0, 300)
    # All traffic is the rule's now, so that nothing reaches the built-in one and nothing pays for it.
    assert [(u.action, u.rule_id, u.gate_status, u.cause) for u in world.updates[-2:]] == [
        ("install", "enough", "open", "spend"), ("modify", "default", "closed", "spend"),
    ]  # fmt: skip
    world.timer("2026-04-01")
    assert world.rules() == ["default"]
    assert world.flow(100).charged_octets == 100


def test_what_granted_money_pays_comes_before_the_mark_within_one_flow() -> None:
    """2 are given, 1 is the subscriber's own; then the rule turns, with that very octet."""
    plan = {"usage_prices": [PRICE], "money_allowances": [{"id": "gift", "amount": "2"}]}
    world = world_of(plan, {"id": "stop", "spend": {"at_least": "1"}, "gate_status": "closed"})
    decision = world.flow(1000)
    assert (decision.charged_octets, decision.blocked_octets) == (300, 700)
    assert decision.price is not None
    assert (decision.price.amount, [paid.amount for paid in decision.payments]) == ("3", ["2"])
    assert world.gates() == {"stop": "closed", "default": "closed"}


def test_money_of_all_prices_counts_and_fees_do_not() -> None:
    video = {"id": "video", "amount": "1", "per_octets": 10, "scope": {"categories": ["streaming"]}}
    plan = {"usage_prices": [PRICE, video], "prices": [{"id": "fee", "type": "recurring", "amount": "50"}]}
    world = world_of(plan, {"id": "enough", "spend": {"at_least": "3"}, "charging": "free"})
    world.flow(150)
    assert world.flow(100, "netflix").charged_octets == 15
    assert world.flow(100).free_octets == 100


@pytest.mark.parametrize(("on_cap", "rest"), [("block", "blocked_octets"), ("free", "free_octets")])
@pytest.mark.parametrize(("amount", "charged"), [("2", 200), ("3", 300), ("4", 300)])
def test_a_cap_and_a_mark_meet(on_cap: str, rest: str, amount: str, charged: int) -> None:
    """Where both are reached with the same octet, the rest meets the rule: so it would in a flow of its own."""
    rule = {"id": "enough", "spend": {"at_least": amount}, "charging": "free"}
    whole, parts = (world_of({"usage_prices": [{**PRICE, "cap": "3", "on_cap": on_cap}]}, rule) for _ in range(2))
    decision = whole.flow(500)
    assert decision.charged_octets == charged
    assert getattr(decision, "free_octets" if charged == 200 or amount == "3" else rest) == 500 - charged
    pieces = [parts.flow(100) for _ in range(5)]
    assert sum(piece.free_octets for piece in pieces) == decision.free_octets
    assert sum(piece.blocked_octets for piece in pieces) == decision.blocked_octets


def test_an_empty_balance_comes_before_a_mark_that_it_never_reaches() -> None:
    world = world_of({"usage_prices": [PRICE]}, {"id": "enough", "spend": {"at_least": "3"}}, payment="prepaid")
    world.credit("2")
    decision = world.flow(1000)
    assert (decision.charged_octets, decision.blocked_octets, world.balance()) == (200, 800, 0)
    world.credit("2")
    decision = world.flow(1000)
    assert (decision.charged_octets, decision.blocked_octets) == (200, 800)
    assert "enough" in world.rules()


RULES = (
    {"id": "new", "bucket": bucket("fresh"), "charging": "free", "min_confidence": 95},
    {
        "id": "shut",
        "spend": {"at_least": "2", "below": "2.5"},
        "gate_status": "closed",
        "scope": {"services": ["call"]},
    },
    {"id": "late", "bucket": bucket("used", 60), "scope": {"applications": ["netflix"]}, "charging": "free"},
    {"id": "rich", "spend": {"at_least": "2.5"}, "charging": "free", "scope": {"categories": ["social"]}},
)


@given(
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=8),
    kinds=st.lists(st.sampled_from(["netflix", "facebook", None]), min_size=1, max_size=3),
)
@settings(deadline=None, max_examples=150)
def test_cutting_a_flow_changes_no_octet_and_no_money(cuts: list[int], kinds: list[str | None]) -> None:
    plan = {"allowances": [{**DATA, "octets": 300}], "usage_prices": [{**PRICE, "per_octets": 77, "cap": "4"}]}
    whole, parts = world_of(plan, *RULES), world_of(plan, *RULES)
    for kind in kinds:
        at_once = whole.flow(sum(cuts), kind)
        pieces = [parts.flow(cut, kind) for cut in cuts]
        for field in ("charged_octets", "free_octets", "blocked_octets"):
            assert sum(getattr(piece, field) for piece in pieces) == getattr(at_once, field)
    assert whole.money() == parts.money()
    assert whole.left("p1/data") == parts.left("p1/data")
    assert whole.rules() == parts.rules()


@given(
    micros=st.integers(0, 10**7),
    amounts=st.lists(st.integers(0, 10**6), min_size=1, max_size=3),
    unit=st.integers(1, 50),
    whole_units=st.booleans(),
    mode=st.sampled_from(["graduated", "volume"]),
)
@settings(deadline=None)
def test_the_octet_that_reaches_an_amount_is_the_first_one(
    micros: int, amounts: list[int], unit: int, whole_units: bool, mode: str
) -> None:
    tiers = [{"above": 20 * n, "amount": amount} for n, amount in enumerate(amounts[1:], start=1)]
    curve = curve_of(UsagePrice.model_validate(
        {"id": "p", "amount": amounts[0], "per_octets": unit, "tiers": tiers, "tier_mode": mode,
         "whole_units": whole_units}
    ))  # fmt: skip
    octets = curve.octets_to_reach(micros)
    if octets is None:
        assert curve.micros(10**9) < micros
        return
    assert curve.micros(octets) >= micros
    assert octets == 0 or curve.micros(octets - 1) < micros


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"bucket": {"allowance": "data", "state": "used"}}, "needs a percent"),
        ({"bucket": {"allowance": "data", "state": "exhausted", "percent": 80}}, "percent goes with"),
        ({"bucket": {"allowance": "data", "state": "used", "percent": 100}}, "less than or equal to 99"),
        ({"spend": {}}, "spend asks for nothing"),
        ({"spend": {"at_least": "2", "below": "2"}}, "no amount is both"),
        ({"spend": {"at_least": "0"}}, "greater than 0"),
    ],
)
def test_conditions_that_say_nothing_or_too_much_are_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        catalogue(rules=[{"id": "r", **rule}])


def test_a_standing_written_before_there_were_marks_can_be_read() -> None:
    facts = facts_of("plan|plan/data+|youth-|deal-|0123456@0-360+")
    assert (facts.strangers, facts.reached) == ({"youth": "subscriber"}, frozenset())
    assert (facts.idle, facts.opened) == ({"deal"}, {"0123456@0-360"})


def test_nothing_is_foretold_of_a_bucket_that_nothing_draws_from_any_more() -> None:
    plan = {"allowances": [{**DATA, "overshoot_tolerance_octets": 600}], "usage_prices": [PRICE]}
    gold = {"id": "gold", "bucket": bucket("available"), "subscribers": {"tiers": ["gold"]}, "charging": "free"}
    world = world_of(plan, gold, {"id": "end", "bucket": bucket("exhausted"), "qos": {"arp": 9}})
    world.flow(500)
    assert [update.rule_id for update in world.updates if update.quota_octets] == ["end", "default"]
    told = len(world.updates)
    # All traffic is free now, so the end that `gold` waits for does not come.
    world.profile(tier="gold")
    assert world.rules() == ["gold", "default"]
    assert not any(update.quota_octets for update in world.updates[told:])
    assert world.flow(10_000).free_octets == 10_000
    assert world.left("p1/data") == 500
