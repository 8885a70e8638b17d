"""Tariffs as stories: each file in scenarios/ is read, played and checked, step by step.

A step does one thing (`buy`, `cancel`, `confirm`, `credit`, `limit`, `raise`, `flow`, `profile`, `timer`, or `lease`: a
slice of a campaign's budget arrives) and says what must be seen after it: `is` looks at the decision, `left` at
buckets, `told` at notifications so far, `rules` at the gates in force, `money` at all charges, `balance` at the main
balance, `ahead` at the quotas that gateways were told for the ends to come, `refused` at the cause of a refusal. `as`
names the product that is bought.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.catalogue import Catalogue
from schemas.decision import PolicyDecision
from schemas.units import format_micros
from services.rating.catalogue_files import load_catalogue
from tests.engine.world import RefusedError, World, catalogue, duration_ms, octets

FOLDER = Path(__file__).parent / "scenarios"
SCENARIOS = sorted(FOLDER.glob("*.yaml"))
ACTIONS = ("buy", "cancel", "confirm", "credit", "limit", "raise", "flow", "profile", "timer", "lease")
VOLUMES = ("charged", "free", "sponsored", "blocked")
CHECKS = ("is", "left", "told", "rules", "money", "balance", "ahead")


@pytest.fixture(scope="module")
def demo() -> Catalogue:
    return load_catalogue()


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_story_comes_true(path: Path, demo: Catalogue) -> None:
    story = yaml.safe_load(path.read_text())
    assert set(story) == {"story", "tariff", "subscriber", "steps"}
    tariff = demo if story["tariff"] == "demo" else _inline(story["tariff"])
    subscriber = {key: str(value) if key == "at" else value for key, value in story["subscriber"].items()}
    world = World(tariff, **subscriber)
    for number, step in enumerate(story["steps"], start=1):
        play(world, step, f"step {number} of {path.name}: {step}")


def play(world: World, step: dict[str, Any], where: str) -> None:
    assert set(step) <= {*ACTIONS, *CHECKS, "as", "at", "refused"}, where
    decision = None
    if "refused" in step:
        with pytest.raises(RefusedError) as refused:
            _act(world, step)
        assert refused.value.cause == step["refused"], where
    else:
        decision = _act(world, step)
    for check in CHECKS:
        if check in step:
            assert seen(world, check, step[check], decision) == wanted(check, step[check]), where


def _act(world: World, step: dict[str, Any]) -> PolicyDecision | None:
    at = str(step["at"]) if "at" in step else None
    acts: dict[str, Callable[[Any], object]] = {
        "lease": lambda given: [world.lease(campaign_id, volume) for campaign_id, volume in given.items()],
        "buy": lambda given: world.activate(given, step.get("as"), at=at),
        "cancel": lambda given: world.cancel(given, at=at),
        "credit": lambda given: world.credit(given, at=at),
        "confirm": lambda given: world.confirm(given, at=at),
        "limit": lambda given: world.limit(given, at=at),
        "raise": lambda given: world.raise_cap(**given, at=at),
        "profile": lambda given: world.profile(**given),
        "timer": lambda given: world.timer(str(given)),
    }
    for name, act in acts.items():
        if name in step:
            act(step[name])
    if "flow" in step:
        flow = {**step["flow"]}
        return world.flow(**{**flow, "at": str(flow["at"])} if "at" in flow else flow)
    return None


def seen(world: World, check: str, asked: Any, decision: PolicyDecision | None) -> Any:
    if check == "is":
        assert decision is not None
        return {name: _of(decision, name) for name in asked}
    if check == "left":
        return {bucket_id: world.left(bucket_id) for bucket_id in asked}
    if check == "told":
        return {kind: len(world.told(kind)) for kind in asked}
    if check == "rules":
        return world.gates()
    if check == "ahead":
        return quotas(world)
    return format_micros(world.money() if check == "money" else world.balance())


def quotas(world: World) -> dict[str, int]:
    """By rule, the quota told last, where nothing was told without one since."""
    told = {update.rule_id: update.quota_octets for update in world.updates}
    return {rule_id: quota for rule_id, quota in told.items() if quota is not None}


def wanted(check: str, asked: Any) -> Any:
    if check == "is":
        return {name: octets(value) if name in VOLUMES else value for name, value in asked.items()}
    return {name: amount(value) for name, value in asked.items()} if check in ("left", "ahead") else asked


def amount(text: int | str) -> int:
    """Octets, or the milliseconds of a length of time."""
    try:
        return octets(text)
    except ValueError:
        return duration_ms(text)


def _of(decision: PolicyDecision, name: str) -> Any:
    if name == "amount":
        return decision.price.amount if decision.price else "0"
    if name == "connections":
        return decision.connection.amount if decision.connection else None
    if name == "sponsored_connections":
        return sum(paid.connections for paid in decision.sponsorships)
    if name == "five_qi":
        return decision.qos.five_qi if decision.qos else None
    names = {"rule": "rule_id", "sponsor": "sponsor_id"}
    return getattr(decision, f"{name}_octets" if name in VOLUMES else names.get(name, name))


def _inline(tariff: dict[str, Any]) -> Catalogue:
    more = {key: value for key, value in tariff.items() if key not in ("offerings", "rules")}
    return catalogue(*tariff["offerings"], rules=tariff.get("rules", ()), **more)


# -- the demonstration tariff itself


def test_the_demonstration_has_a_package_for_every_cell(demo: Catalogue) -> None:
    offered = {offering.id: offering for offering in demo.offerings}
    rules = {rule.id: rule for rule in demo.rules}
    gates = [rule for rule in demo.rules if rule.gate_status == "closed"]
    assert any("voip_im" in rule.scope.categories and "UTRA" in rule.scope.rat_types for rule in gates)
    assert any(rules[name].charging == "free" for name in offered["social-free-facebook"].rules)
    assert any(item.on_exhausted == "throttle" for item in offered["video-netflix"].allowances)
    assert any(rules[name].qos for name in offered["stream-boost"].rules)
    assert all(campaign.per_subscriber_octets for campaign in demo.campaigns)
    assert any(price.cap for price in offered["smart-general"].usage_prices)


def test_the_demonstration_holds_nothing_that_nobody_brings(demo: Catalogue) -> None:
    brought = {rule for offering in demo.offerings for rule in offering.rules}
    assert {rule.id for rule in demo.rules} == brought
    assert {campaign.id for campaign in demo.campaigns} == {rule.campaign for rule in demo.rules if rule.campaign}


def test_precedences_of_the_demonstration_are_unique(demo: Catalogue) -> None:
    precedences = [rule.precedence for rule in demo.rules]
    assert len(precedences) == len(set(precedences))


def test_what_throttles_has_a_rule_that_does_it(demo: Catalogue) -> None:
    rules = {rule.id: rule for rule in demo.rules}
    for offering in demo.offerings:
        for allowance in offering.allowances:
            slow = [
                rule
                for rule in map(rules.__getitem__, offering.rules)
                if rule.bucket and (rule.bucket.allowance, rule.bucket.state) == (allowance.id, "exhausted")
            ]
            assert bool(slow) == (allowance.on_exhausted == "throttle")
            assert all(rule.charging == "free" and rule.qos and rule.qos.mbr_down_bps for rule in slow)


def test_every_offering_of_the_demonstration_can_be_bought(demo: Catalogue) -> None:
    for offering in demo.offerings:
        payments = offering.eligibility.payments if offering.eligibility else ()
        world = World(demo, payment=next(iter(payments), "postpaid"))
        if offering.kind != "base_plan":
            world.activate(offering.requires[0])
        world.activate(offering.id)
