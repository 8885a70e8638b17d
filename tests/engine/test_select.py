"""Which rule a flow meets, and why the others lost."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.decision import PolicyDecision
from services.engine import select as select_module
from services.engine.tariff import compile_tariff
from tests.engine.world import World, catalogue

DATA = {"id": "data", "octets": "10 GB"}


def world_with(*rules: dict[str, Any], **offering: Any) -> World:
    names = [rule["id"] for rule in rules]
    made = World(catalogue({"id": "plan", "allowances": [DATA], "rules": names, **offering}, rules=rules))
    made.activate("plan")
    return made


def losers(decision: PolicyDecision) -> dict[str, str]:
    return {loser.rule_id: loser.reason for loser in decision.losers}


def test_the_lowest_precedence_wins_whatever_the_order_in_the_file() -> None:
    world = world_with(
        {"id": "third", "precedence": 30}, {"id": "first", "precedence": 10}, {"id": "second", "precedence": 20}
    )
    decision = world.flow(app="facebook")
    assert (decision.rule_id, decision.precedence) == ("first", 10)
    assert losers(decision) == {"second": "precedence", "third": "precedence"}


@pytest.mark.parametrize(
    ("scope", "flow", "reason"),
    [
        ({"applications": ["facebook"]}, {"app": "facebook"}, None),
        ({"applications": ["facebook"]}, {"app": "instagram"}, "application"),
        ({"applications": ["facebook"]}, {"app": None}, "application"),
        ({"categories": ["social"]}, {"app": "instagram"}, None),
        ({"categories": ["social"]}, {"app": "netflix"}, "category"),
        ({"categories": ["voip_im"]}, {"app": "facebook", "category": "voip_im", "service": "call"}, None),
        ({"services": ["call"]}, {"app": "whatsapp", "service": "call"}, None),
        ({"services": ["call"]}, {"app": "whatsapp", "service": "chat"}, "service"),
        ({"services": ["call"]}, {"app": "whatsapp"}, "service"),
        ({"rat_types": ["UTRA", "GERA"]}, {"rat": "GERA"}, None),
        ({"rat_types": ["UTRA"]}, {"rat": "NR"}, "rat_type"),
        ({"rat_types": ["UTRA"]}, {"rat": None}, "rat_type"),
        ({"applications": ["facebook"], "categories": ["social"]}, {"app": "facebook"}, None),
        ({"applications": ["facebook"], "categories": ["social"]}, {"app": "facebook", "category": "other"},
         "category"),
        ({}, {"app": None, "rat": None}, None),
    ],
)  # fmt: skip
def test_all_lists_of_a_scope_must_agree(scope: dict[str, Any], flow: dict[str, Any], reason: str | None) -> None:
    decision = world_with({"id": "special", "scope": scope}).flow(**flow)
    assert decision.rule_id == ("special" if reason is None else "default")
    assert losers(decision) == ({} if reason is None else {"special": reason})


@pytest.mark.parametrize(
    ("wanted", "flow", "reason"),
    [
        (0, {"confidence": 0}, None),
        (60, {"confidence": 60}, None),
        (60, {"confidence": 59}, "confidence"),
        (60, {"confidence": 90, "suspect": True}, "suspect"),
        (0, {"confidence": 90, "suspect": True}, None),
    ],
)
def test_a_rule_that_wants_confidence_is_closed_to_doubt(wanted: int, flow: dict[str, Any], reason: str | None) -> None:
    decision = world_with({"id": "free", "charging": "free", "min_confidence": wanted}).flow(app="facebook", **flow)
    assert decision.treatment == ("free" if reason is None else "charged")
    assert losers(decision) == ({} if reason is None else {"free": reason})


def test_rules_come_and_go_with_the_state_of_a_bucket() -> None:
    world = world_with(
        {"id": "while", "bucket": {"allowance": "data", "state": "available"}},
        {"id": "after", "bucket": {"allowance": "data", "state": "exhausted"}, "charging": "free"},
    )
    first, second = world.flow("10 GB"), world.flow(5)
    assert (first.rule_id, losers(first)) == ("while", {"after": "bucket_not_exhausted"})
    assert (second.rule_id, losers(second)) == ("after", {"while": "bucket_not_available"})


def test_a_rule_that_two_products_bring_applies_when_it_does_for_one() -> None:
    rule = {"id": "own", "bucket": {"allowance": "data", "state": "available"}}
    small = {"id": "small", "allowances": [{"id": "data", "octets": 10}], "rules": ["own"]}
    large = {"id": "large", "allowances": [{"id": "data", "octets": 1000, "priority": 200}], "rules": ["own"]}
    world = World(catalogue(small, large, rules=[rule]))
    world.activate("small")
    world.activate("large")
    assert [world.flow(10).rule_id, world.flow(10).rule_id, world.flow(980).rule_id] == ["own"] * 3
    assert world.flow(1).rule_id == "own"
    assert world.flow(1000).rule_id == "own"
    assert world.flow(1).rule_id == "default"


def test_there_is_always_a_rule_and_without_any_price_it_blocks_and_says_why() -> None:
    """Case 7: a price that is not there never becomes some price."""
    decision = World(catalogue()).flow(1000, app="facebook")
    assert (decision.rule_id, decision.treatment, decision.gate_status) == ("default", "blocked", "closed")
    assert decision.blocked_octets == 1000
    assert decision.note == "no bucket has octets left and no product has a price for this traffic"


def test_losers_are_few_and_the_near_ones_come_first() -> None:
    far = [{"id": f"far-{n}", "scope": {"applications": ["netflix"]}} for n in range(10)]
    near = [{"id": f"near-{n}", "scope": {"rat_types": ["NR"]}} for n in range(3)]
    decision = world_with(*far, *near).flow(app="facebook")
    assert len(decision.losers) == select_module.MAX_LOSERS
    assert [loser.rule_id for loser in decision.losers[:3]] == ["near-0", "near-1", "near-2"]


def test_a_decision_carries_what_the_rule_authorises() -> None:
    qos = {"five_qi": 6, "arp": 8, "mbr_down_bps": 25_000_000}
    rule = {"id": "boost", "qos": qos, "rating_group": 33, "service_identifier": 7}
    decision = world_with(rule).flow()
    assert decision.qos is not None
    assert (decision.qos.five_qi, decision.qos.mbr_down_bps, decision.qos.mbr_up_bps) == (6, 25_000_000, None)
    assert (decision.rating_group, decision.service_identifier) == (33, 7)


@pytest.mark.parametrize("url", ["ftp://x", "https://", "https:///path", "javascript:alert(1)", "https://a b"])
def test_a_redirection_needs_a_web_address(url: str) -> None:
    with pytest.raises(ValidationError, match="redirect_url"):
        catalogue(rules=[{"id": "r", "redirect_url": url}])


def test_a_redirection_and_a_steering_are_told_and_change_no_charge() -> None:
    actions = {"redirect_url": "https://pay.example/top-up?from=gate", "steering": "wlan_preferred"}
    world = world_with({"id": "r", **actions, "scope": {"applications": ["netflix"]}})
    decision = world.flow(1000, "netflix")
    assert (decision.redirect_url, decision.steering) == tuple(actions.values())
    assert (decision.treatment, decision.charged_octets) == ("charged", 1000)
    told = next(update for update in world.updates if update.rule_id == "r")
    assert (told.redirect_url, told.steering) == tuple(actions.values())
    other = world.flow(1000, "facebook")
    assert (other.redirect_url, other.steering) == (None, None)


def test_every_decision_says_when_the_application_is_the_operators_own() -> None:
    mine = {"id": "ours", "name": "Our TV", "category": "streaming", "own": True}
    theirs = {"id": "theirs", "name": "Their TV", "category": "streaming"}
    rule = {"id": "boost", "scope": {"applications": ["ours"]}, "qos": {"five_qi": 6}}
    plan = {"id": "plan", "allowances": [DATA], "rules": ["boost"]}
    world = World(catalogue(plan, rules=[rule], applications=[mine, theirs]))
    world.activate("plan")
    assert world.flow("11 GB", "ours", category="streaming").own_service
    assert not world.flow(1, "theirs", category="streaming").own_service


def test_an_unrelated_package_changes_nothing() -> None:
    plan = {"id": "plan", "allowances": [DATA], "rules": ["free"]}
    free = {"id": "free", "charging": "free", "scope": {"applications": ["facebook"]}}
    other = {"id": "other", "allowances": [{"id": "x", "octets": 5, "scope": {"applications": ["netflix"]}}]}
    alone, beside = World(catalogue(plan, rules=[free])), World(catalogue(plan, other, rules=[free]))
    for world in (alone, beside):
        world.activate("plan")
    beside.activate("other")
    for app in ("facebook", "whatsapp", None):
        assert [w.flow(7, app).treatment for w in (alone, beside)] in (["free"] * 2, ["charged"] * 2)
    assert alone.left("p1/data") == beside.left("p1/data")


def test_a_full_memory_is_emptied_and_decides_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select_module, "MAX_SELECTIONS", 2)
    monkeypatch.setattr(select_module, "MAX_ANSWERS", 1)
    monkeypatch.setattr(select_module, "MAX_PLANS", 1)
    rule = {"id": "free", "charging": "free", "scope": {"applications": ["facebook"]}}
    world = world_with(rule)
    seen = [world.flow(1, app).rule_id for app in ("facebook", "netflix", "tiktok", "facebook", None, "facebook")]
    assert seen == ["free", "default", "default", "free", "default", "free"]
    assert len(world.tariff.selections) <= 2
    assert len(world.tariff.answers) <= 1
    assert len(world.tariff.plans) <= 1


def test_applications_that_nothing_names_share_one_answer() -> None:
    rule = {"id": "free", "charging": "free", "scope": {"applications": ["facebook"]}, "min_confidence": 60}
    world = world_with(rule)
    world.tariff.forget()
    for app in ("facebook", "instagram", "tiktok", "netflix", None):
        for rat in ("NR", "UTRA", None):
            for confidence in (10, 59, 60, 95):
                world.flow(1, app, rat=rat, confidence=confidence)
    assert len(world.tariff.selections) == 5 * 3 * 4
    # Facebook, other social and streaming, each doubted, believed or trusted; the rest claims nothing to be doubted.
    assert len(world.tariff.answers) == 3 * 3 + 2


def test_the_built_in_rule_comes_after_a_rule_of_the_highest_precedence() -> None:
    assert world_with({"id": "zz-last", "precedence": 100_000}).flow().rule_id == "zz-last"


def test_the_narrowest_price_is_used_and_among_equals_the_cheapest() -> None:
    prices = [
        {"id": "dear", "amount": "3", "per_octets": "1 GB"},
        {"id": "cheap", "amount": "2", "per_octets": "1 GB"},
        {"id": "video", "amount": "9", "per_octets": "1 GB", "scope": {"categories": ["streaming"]}},
    ]
    world = World(catalogue({"id": "plan", "usage_prices": prices}))
    world.activate("plan")
    used = {app: world.flow(1000, app).price for app in ("facebook", "netflix")}
    assert {app: price.price_id for app, price in used.items() if price} == {"facebook": "cheap", "netflix": "video"}


@pytest.mark.parametrize(("on_cap", "used"), [("free", "pack"), ("block", "plan")])
def test_a_price_that_ends_in_nothing_is_cheaper_than_one_that_goes_on(on_cap: str, used: str) -> None:
    """A ceiling that was bought on the traffic is kept, though a unit below it costs more than it does elsewhere."""
    capped = {"id": "pack", "amount": "2", "per_octets": 10, "cap": "5", "on_cap": on_cap}
    plan = {"id": "plan", "usage_prices": [{"id": "plan", "amount": "1", "per_octets": 10}]}
    world = World(catalogue(plan, {"id": "pack", "usage_prices": [capped]}))
    for name in ("plan", "pack"):
        world.activate(name)
    price = world.flow(1000).price
    assert price is not None
    assert (price.price_id, price.amount) == (used, {"pack": "5", "plan": "100"}[used])


def test_cost_does_not_grow_with_the_number_of_offerings() -> None:
    """What is looked at is what the account holds: the plan of a standing has these rules and no others."""
    many = [{"id": f"o{n}", "allowances": [{"id": "x", "octets": 1}], "rules": [f"r{n}"]} for n in range(300)]
    tariff = compile_tariff(catalogue(*many, rules=[{"id": f"r{n}"} for n in range(300)]))
    world = World(tariff)
    world.activate("o7")
    assert world.account is not None
    plan = select_module.plan_of(world.account.standing, world.tariff)
    assert [line.rule.rule.id for line in plan.lines] == ["r7", "default"]
