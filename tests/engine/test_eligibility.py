"""Whom an offering and a rule are for."""

from typing import Any

import pytest
from pydantic import ValidationError

from tests.engine.world import RefusedError, World, catalogue, ms

PROFILE = {"segment": "individual", "age_band": "18-25", "consumption_level": "high", "payment": "postpaid",
           "tier": "gold"}  # fmt: skip

BESIDE = ({"id": "base"}, {"id": "other"})
REASONS = {"tiers": "tier", "offerings": "plan"}

CONDITIONS = [
    ({}, None),
    ({"segments": ["individual"]}, None),
    ({"segments": ["group"]}, "segments"),
    ({"segments": ["group", "individual"], "age_bands": ["26-40"]}, "age_bands"),
    ({"age_bands": ["18-25"], "consumption_levels": ["low", "middle"]}, "consumption_levels"),
    ({"payments": ["prepaid"]}, "payments"),
    ({"payments": ["postpaid"], "consumption_levels": ["high"]}, None),
    ({"min_tenure_days": 1}, "min_tenure_days"),
    ({"tiers": ["gold", "silver"]}, None),
    ({"tiers": ["silver"]}, "tiers"),
    ({"offerings": ["base", "other"]}, None),
    ({"offerings": ["other"]}, "offerings"),
]


@pytest.mark.parametrize(("condition", "missed"), CONDITIONS)
def test_an_offering_is_sold_to_those_it_is_for(condition: dict[str, Any], missed: str | None) -> None:
    world = World(catalogue({"id": "o", "eligibility": condition}, *BESIDE), **PROFILE)
    world.activate("base")
    if missed is None:
        world.activate("o")
        return
    with pytest.raises(RefusedError, match=f"is for {missed}") as refused:
        world.activate("o")
    assert refused.value.cause == "not_eligible"


@pytest.mark.parametrize(("condition", "missed"), CONDITIONS)
def test_a_rule_applies_to_those_it_is_for(condition: dict[str, Any], missed: str | None) -> None:
    rule = {"id": "r", "charging": "free", "subscribers": condition}
    world = World(catalogue({"id": "o", "rules": ["r"]}, *BESIDE, rules=[rule]), **PROFILE)
    world.activate("base")
    world.activate("o")
    decision = world.flow(1)
    assert decision.rule_id == ("r" if missed is None else "default")
    assert [loser.reason for loser in decision.losers] == (
        [] if missed is None else [REASONS.get(missed, "subscriber")]
    )
    assert world.rules() == (["r", "default"] if missed is None else ["default"])


def test_a_changed_profile_changes_the_rules_in_force() -> None:
    rule = {"id": "youth", "subscribers": {"age_bands": ["18-25"]}, "qos": {"arp": 3}}
    world = World(catalogue({"id": "o", "rules": ["youth"]}, rules=[rule]), **PROFILE)
    world.activate("o")
    outcome = world.profile(age_band="26-40")
    assert [(u.action, u.rule_id, u.cause) for u in outcome.updates] == [("remove", "youth", "profile")]


def test_tenure_counts_local_days_and_comes_by_itself() -> None:
    rule = {"id": "loyal", "subscribers": {"min_tenure_days": 30}, "charging": "free"}
    world = World(catalogue({"id": "o", "rules": ["loyal"]}, rules=[rule]), zone="Europe/Paris", at="2026-03-10 12:00")
    world.activate("o")
    loyal = ms("2026-04-09 12:00", "Europe/Paris")
    assert world.flow(1, at=loyal - 1).rule_id == "default"
    outcome = world.timer(loyal)
    assert [(u.action, u.rule_id, u.at_ms) for u in outcome.updates] == [("install", "loyal", loyal)]
    assert world.flow(1).rule_id == "loyal"


def test_one_rule_for_two_kinds_of_account_gives_each_its_own_decision() -> None:
    """What is remembered for one must not be served to the other."""
    rule = {"id": "vip", "subscribers": {"consumption_levels": ["high"]}, "charging": "free"}
    first = World(catalogue({"id": "o", "rules": ["vip"]}, rules=[rule]), **PROFILE)
    second = World(first.tariff, **{**PROFILE, "consumption_level": "low"})
    for world in (first, second):
        world.activate("o")
    assert [world.flow(1).rule_id for world in (first, second, first)] == ["vip", "default", "vip"]


def test_a_tier_that_rises_brings_better_quality_at_once() -> None:
    rule = {"id": "first-class", "subscribers": {"tiers": ["gold"]}, "qos": {"arp": 2}}
    world = World(catalogue({"id": "o", "rules": ["first-class"]}, rules=[rule]), tier="bronze")
    world.activate("o")
    assert world.rules() == ["default"]
    outcome = world.profile(tier="gold")
    assert [(u.action, u.rule_id, u.cause) for u in outcome.updates] == [("install", "first-class", "profile")]
    world.profile(tier="")
    assert world.rules() == ["default"]


def test_a_rule_for_holders_of_a_plan_comes_and_goes_with_the_plan() -> None:
    rule = {"id": "extra", "subscribers": {"offerings": ["large", "huge"]}, "charging": "free"}
    world = World(catalogue({"id": "pack", "rules": ["extra"]}, {"id": "large"}, {"id": "huge"}, rules=[rule]))
    world.activate("pack")
    large = world.activate("large", start_ms=ms("2026-03-12"))
    assert world.rules() == ["default"]
    world.timer("2026-03-12")
    assert world.rules() == ["extra", "default"]
    world.activate("huge")
    world.cancel(large)
    assert world.rules() == ["extra", "default"]
    world.cancel("p3")
    assert world.rules() == ["default"]


def test_a_condition_on_an_offering_that_does_not_exist_is_refused() -> None:
    for part in ({"rules": [{"id": "r", "subscribers": {"offerings": ["gone"]}}]}, {}):
        offering = {"id": "o"} if part else {"id": "o", "eligibility": {"offerings": ["gone"]}}
        with pytest.raises(ValidationError, match="names offering 'gone', which does not exist"):
            catalogue(offering, **part)
