"""Which rules are in force, what closes a gate, and what a gateway is told."""

from typing import Any

import pytest

from tests.engine.world import World, catalogue, ms

DATA = {"id": "data", "octets": 1000}
PRICE = {"id": "beyond", "amount": "1", "per_octets": 100, "cap": "2"}
VIDEO = {"id": "video", "octets": 500, "scope": {"categories": ["streaming"]}}


def world_of(plan: dict[str, Any], *rules: dict[str, Any], **profile: Any) -> World:
    made = World(catalogue({"id": "plan", **plan, "rules": [rule["id"] for rule in rules]}, rules=rules), **profile)
    made.activate("plan")
    return made


def test_rules_are_in_order_of_precedence_and_the_built_in_one_is_last() -> None:
    world = world_of({"allowances": [DATA]}, {"id": "b", "precedence": 2}, {"id": "a", "precedence": 1})
    assert world.rules() == ["a", "b", "default"]


def test_rules_can_be_asked_for_at_another_time() -> None:
    day = {"id": "day", "rules": ["r"], "term_days": 1}
    world = World(catalogue(day, rules=[{"id": "r", "charging": "free"}]))
    world.activate("day", start_ms=ms("2026-03-12"))
    asked = ("2026-03-11 23:59", "2026-03-12 00:00", "2026-03-12 23:59", "2026-03-13 00:00")
    assert [world.rules(at) for at in asked] == [["default"], ["r", "default"], ["r", "default"], ["default"]]


def test_the_gate_closes_when_nothing_can_pay_and_opens_with_the_next_cycle() -> None:
    world = world_of({"allowances": [DATA]})
    assert world.gates() == {"default": "open"}
    world.flow(1000)
    assert world.gates() == {"default": "closed"}
    world.timer("2026-04-01")
    told = [(u.action, u.gate_status, u.cause) for u in world.updates]
    assert told == [
        ("install", "closed", "created"), ("modify", "open", "activated"), ("modify", "closed", "exhausted"),
        ("modify", "open", "reset"),
    ]  # fmt: skip


def test_the_gate_closes_at_a_cap_that_blocks_and_not_at_one_that_lets_pass() -> None:
    for on_cap, gate in (("block", "closed"), ("free", "open")):
        world = world_of({"usage_prices": [{**PRICE, "on_cap": on_cap}]})
        world.flow(199)
        assert world.gates() == {"default": "open"}
        world.flow(1)
        assert world.gates() == {"default": gate}
        told = [note.kind for note in world.notifications if note.kind != "activated"]
        assert told == (["cap_nearing", "cap_reached"] if on_cap == "block" else ["cap_reached"])


def test_the_gate_closes_with_an_empty_prepaid_balance_and_opens_with_a_top_up() -> None:
    world = world_of({"usage_prices": [{**PRICE, "cap": None}]}, payment="prepaid")
    assert world.gates() == {"default": "closed"}
    world.credit("1")
    assert world.gates() == {"default": "open"}
    world.flow(100)
    assert (world.gates(), world.updates[-1].cause) == ({"default": "closed"}, "balance")
    world.credit("1")
    assert (world.gates(), world.updates[-1].cause) == ({"default": "open"}, "credited")


def test_a_price_that_is_never_asked_keeps_no_gate_open() -> None:
    dearer = {"id": "dearer", "amount": "5", "per_octets": 100}
    world = world_of({"usage_prices": [PRICE, dearer]})
    world.flow(200)
    assert world.flow(1).blocked_octets == 1
    assert world.gates() == {"default": "closed"}


STEPS = {"amount": "1", "per_octets": 100, "whole_units": True}
MUSIC_BY_THE_OCTET = {"id": "music", "amount": "0.01", "per_octets": 1, "scope": {"applications": ["spotify"]}}
VIDEO_RULE = {"id": "video", "scope": {"applications": ["netflix"]}}


@pytest.mark.parametrize(
    ("scope", "gate"), [({"categories": ["streaming"]}, "open"), ({"applications": ["youtube", "netflix"]}, "open"),
                        ({"rat_types": ["EUTRA"]}, "closed")],
)  # fmt: skip
def test_a_price_for_a_kind_of_traffic_hides_no_other_from_what_is_taken_for_that_kind_in_doubt(
    scope: dict[str, Any], gate: str
) -> None:
    # A unit of the first price is more than there is; traffic that only seems to be of its kind goes by the second.
    dear = {"id": "dear", "amount": "9", "per_octets": 100, "whole_units": True, "scope": scope}
    cheap = {"id": "cheap", "amount": "1", "per_octets": 100}
    watched = {"id": "watched", "scope": scope}
    world = world_of({"usage_prices": [dear, cheap]}, watched, payment="prepaid")
    world.credit("2")
    assert world.gates()["watched"] == gate


@pytest.mark.parametrize("means", [{"payment": "prepaid"}, {"limit": "1.5"}, {"payment": "prepaid", "purse": True}])
def test_a_sale_that_leaves_too_little_for_another_price_closes_the_gates_that_it_paid_for(
    means: dict[str, Any],
) -> None:
    stepwise = {"id": "video", "scope": {"applications": ["netflix"]}, **STEPS}
    plan: dict[str, Any] = {"usage_prices": [stepwise, MUSIC_BY_THE_OCTET]}
    if means.get("purse"):
        plan["money_allowances"] = [{"id": "gift", "amount": "1.5"}]
    world = world_of(plan, VIDEO_RULE, payment=means.get("payment", "postpaid"))
    if means == {"payment": "prepaid"}:
        world.credit("1.5")
    if "limit" in means:
        world.limit(means["limit"])
    world.flow(50, "spotify")
    assert world.gates() == {"video": "open", "default": "open"}
    world.flow(1, "spotify")
    assert world.gates() == {"video": "closed", "default": "open"}
    assert (world.updates[-1].rule_id, world.updates[-1].cause) == ("video", "spend")
    assert world.flow(1, "netflix").blocked_octets == 1


def test_a_whole_unit_that_granted_money_paid_opens_the_gates_for_what_is_left_of_it() -> None:
    gift = {"id": "gift", "amount": "2", "scope": {"applications": ["spotify"]}}
    world = world_of(
        {"usage_prices": [{"id": "any", **STEPS}], "money_allowances": [gift]}, VIDEO_RULE, payment="prepaid"
    )
    assert world.gates() == {"video": "closed", "default": "open"}
    world.flow(60, "spotify")
    assert world.gates() == {"video": "open", "default": "open"}
    assert world.flow(50, "netflix").charged_octets == 40
    assert world.gates() == {"video": "closed", "default": "open"}


def test_a_gate_stays_open_while_some_traffic_of_its_rule_is_paid_for() -> None:
    world = world_of({"allowances": [DATA, VIDEO]})
    world.flow(1000)
    assert world.gates() == {"default": "open"}
    world.flow(500, "netflix")
    assert world.gates() == {"default": "closed"}


def test_traffic_that_an_earlier_rule_takes_does_not_keep_a_later_gate_open() -> None:
    """The bucket for video serves no traffic that could reach the built-in rule."""
    video = {"id": "video-first", "scope": {"categories": ["streaming"]}}
    world = world_of({"allowances": [DATA, VIDEO]}, video)
    world.flow(1000)
    assert world.gates() == {"video-first": "open", "default": "closed"}
    world.flow(500, "netflix")
    assert world.gates() == {"video-first": "closed", "default": "closed"}


@pytest.mark.parametrize(("on_exhausted", "gate"), [("continue", "open"), ("throttle", "open"), ("block", "closed")])
def test_an_empty_bucket_closes_its_own_rule_only_when_it_blocks(on_exhausted: str, gate: str) -> None:
    rule = {"id": "video-rule", "scope": {"categories": ["streaming"]}}
    world = world_of({"allowances": [DATA, {**VIDEO, "on_exhausted": on_exhausted}]}, rule)
    world.flow(500, "netflix")
    assert world.gates() == {"video-rule": gate, "default": "open"}
    assert world.flow(1, "netflix").gate_status == gate


def test_an_empty_bucket_that_blocks_a_part_of_a_rules_traffic_leaves_its_gate_open() -> None:
    world = world_of({"allowances": [DATA, {**VIDEO, "on_exhausted": "block"}]})
    world.flow(500, "netflix")
    assert world.gates() == {"default": "open"}
    assert (world.flow(1, "netflix").blocked_octets, world.flow(1, "facebook").charged_octets) == (1, 1)


def test_a_sponsored_rule_asks_for_no_connection_though_its_sponsor_has_paid_all_it_pays() -> None:
    chat = {"id": "chat", "unit": "connection", "amount": "1"}
    plan = {"id": "plan", "allowances": [DATA], "usage_prices": [chat], "rules": ["tube"]}
    tube = {"id": "tube", "charging": "sponsored", "campaign": "c", "scope": {"applications": ["youtube"]}}
    campaign = {"id": "c", "sponsor_id": "s", "per_subscriber_octets": 100}
    world = World(catalogue(plan, rules=[tube], campaigns=[campaign]), payment="prepaid")
    world.activate("plan")
    assert world.flow(150, "youtube").sponsored_octets == 100
    assert world.gates() == {"tube": "open", "default": "closed"}
    assert [world.flow(10, app).treatment for app in ("youtube", "netflix")] == ["charged", "blocked"]


PLAN_AND_MORE: dict[str, tuple[dict[str, str], ...]] = {
    "block, then the next source": ({"on_exhausted": "block"}, {"on_exhausted": "continue"}),
    "block, then throttle": ({"on_exhausted": "block"}, {"on_exhausted": "throttle"}),
    "throttle, then block": ({"on_exhausted": "throttle"}, {"on_exhausted": "block"}),
}


@pytest.mark.parametrize(
    ("words", "gate", "last"),
    [
        ("block, then the next source", "closed", "blocked"), ("block, then throttle", "open", "free"),
        ("throttle, then block", "closed", "blocked"),
    ],
)  # fmt: skip
def test_equally_narrow_buckets_are_one_supply_for_the_gateway_too(words: str, gate: str, last: str) -> None:
    """A gate stays open while one of them has octets; then the last one says what follows."""
    plan, more = PLAN_AND_MORE[words]
    offerings = [
        {"id": "plan", "allowances": [{**DATA, **plan, "priority": 1}]},
        {"id": "more", "allowances": [{**DATA, **more}]},
    ]
    world = World(catalogue(*offerings))
    world.activate("plan")
    world.activate("more")
    assert world.flow(1000).charged_octets == 1000
    assert world.gates() == {"default": "open"}
    assert world.flow(1000).charged_octets == 1000
    assert world.gates() == {"default": gate}
    assert world.flow(10).treatment == last


def test_a_gate_stays_open_where_a_part_of_the_traffic_is_sold_after_its_bucket() -> None:
    """What blocks is for all traffic, but on 5G another empty bucket comes after it, and lets it go on to the price."""
    fast = {"id": "fast", "octets": 500, "scope": {"rat_types": ["NR"]}, "priority": 2}
    data = {**DATA, "on_exhausted": "block", "scope": {"dnns": ["internet"]}, "priority": 1}
    world = world_of(
        {"allowances": [data, fast], "usage_prices": [PRICE]}, {"id": "r", "scope": {"dnns": ["internet"]}}
    )
    world.flow(1500, rat="NR", dnn="internet")
    assert world.gates()["r"] == "open"
    assert [world.flow(1, rat=rat, dnn="internet").treatment for rat in ("NR", "UTRA")] == ["charged", "blocked"]


@pytest.mark.parametrize(
    "condition",
    [{"min_confidence": 40}, {"suspect": "never"}, {"min_congestion": 1}, {"max_congestion": 30}],
    ids=lambda condition: next(iter(condition)),
)
def test_a_rule_that_leaves_some_traffic_to_the_next_closes_no_gate_behind_it(condition: dict[str, Any]) -> None:
    rule = {"id": "first", "charging": "free", **condition}
    world = world_of({"allowances": [DATA]}, rule)
    assert world.gates() == {"first": "open", "default": "open"}
    rest = {"confidence": 35, "congestion_level": 31 if "max_congestion" in condition else 0, "suspect": True}
    seen = world.flow(1, "netflix", **rest)
    assert (seen.rule_id, seen.charged_octets) == ("default", 1)


@pytest.mark.parametrize(
    ("rule_scope", "bucket_scope", "gate"),
    [
        ({"applications": ["netflix"]}, {"applications": ["netflix"]}, "open"),
        ({"applications": ["netflix"]}, {"applications": ["youtube"]}, "closed"),
        ({"applications": ["netflix"]}, {"categories": ["streaming"]}, "open"),
        ({"applications": ["netflix"]}, {"categories": ["social"]}, "closed"),
        ({"categories": ["streaming"]}, {"applications": ["netflix"]}, "open"),
        ({"categories": ["social"]}, {"applications": ["netflix"]}, "closed"),
        ({"rat_types": ["NR"]}, {"rat_types": ["UTRA"]}, "closed"),
        ({"rat_types": ["NR"]}, {"categories": ["social"]}, "open"),
        ({"services": ["call"]}, {"services": ["chat"]}, "closed"),
    ],
)
def test_a_bucket_holds_a_gate_open_where_the_scopes_meet(
    rule_scope: dict[str, Any], bucket_scope: dict[str, Any], gate: str
) -> None:
    world = world_of({"allowances": [{**DATA, "scope": bucket_scope}]}, {"id": "r", "scope": rule_scope})
    assert world.gates()["r"] == gate


def test_an_update_says_all_that_a_gateway_needs() -> None:
    rule = {
        "id": "boost", "precedence": 7, "rating_group": 33, "scope": {"applications": ["netflix"]},
        "qos": {"five_qi": 6, "mbr_down_bps": 5},
    }  # fmt: skip
    world = world_of({"allowances": [DATA]}, rule)
    update = next(update for update in world.updates if update.rule_id == "boost")
    assert (update.action, update.precedence, update.rating_group, update.gate_status) == ("install", 7, 33, "open")
    assert (update.applications, update.categories, update.subscriber_ids) == (("netflix",), (), ("a1",))
    assert update.qos is not None
    assert (update.qos.five_qi, update.qos.mbr_down_bps) == (6, 5)
    assert [u.update_id for u in world.updates] == [f"a1:{n}" for n in range(len(world.updates))]


def test_deciding_without_a_change_tells_the_gateway_nothing() -> None:
    world = world_of({"allowances": [DATA]})
    told = len(world.updates)
    for _ in range(20):
        world.flow(7)
    assert len(world.updates) == told
