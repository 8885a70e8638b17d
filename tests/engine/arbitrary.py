"""Arbitrary tariffs, accounts and flows, for properties that must hold whatever they are."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from services.engine.tariff import Tariff, compile_tariff
from tests.engine.world import World, catalogue

APPS = ("netflix", "youtube", "facebook", "whatsapp", None)
SCOPES: tuple[dict[str, Any], ...] = (
    {}, {"applications": ["netflix"]}, {"categories": ["streaming"]}, {"applications": ["facebook", "whatsapp"]},
    {"rat_types": ["UTRA"]}, {"services": ["call"]},
)  # fmt: skip

scopes = st.sampled_from(SCOPES)
allowances = st.lists(
    st.fixed_dictionaries(
        {
            "octets": st.integers(0, 3000),
            "scope": scopes,
            "priority": st.integers(0, 2),
            "on_exhausted": st.sampled_from(["continue", "throttle", "block"]),
            "notify_percents": st.sampled_from([[], [50], [80, 100], [1, 33, 99]]),
        }
    ),
    max_size=3,
)
prices = st.lists(
    st.fixed_dictionaries(
        {
            "amount": st.sampled_from(["0", "0.000001", "0.003333", "0.5", "7"]),
            "per_octets": st.sampled_from([1, 7, 1000, 10**6]),
            "scope": scopes,
            "cap": st.sampled_from([None, "0", "0.01", "2.5"]),
            "on_cap": st.sampled_from(["block", "free"]),
            "whole_units": st.booleans(),
            "tier_mode": st.sampled_from(["graduated", "volume"]),
            "tiers": st.sampled_from([[], [], [{"above": 900, "amount": "0.002"}]]),
        }
    ),
    max_size=2,
)
rules = st.lists(
    st.fixed_dictionaries(
        {
            "precedence": st.integers(0, 50),
            "scope": scopes,
            "gate_status": st.sampled_from(["open", "open", "open", "closed"]),
            "charging": st.sampled_from(["charge", "charge", "free", "sponsored"]),
            "bucket": st.sampled_from([None, None, "available", "exhausted"]),
            "min_confidence": st.sampled_from([0, 50]),
        }
    ),
    max_size=4,
)
flows = st.lists(
    st.fixed_dictionaries(
        {
            "volume": st.integers(0, 2500),
            "app": st.sampled_from(APPS),
            "rat": st.sampled_from(["UTRA", "NR", None]),
            "service": st.sampled_from([None, "call"]),
            "confidence": st.sampled_from([40, 90]),
        }
    ),
    min_size=1,
    max_size=12,
)
cuts = st.lists(st.integers(0, 2500), max_size=3)


@st.composite
def parts(draw: st.DrawFn) -> dict[str, Any]:
    """Offerings `one` and `two` with random parts, their rules, and a campaign with a small cap."""
    offerings, all_rules = [], []
    for name in ("one", "two"):
        grants = [{"id": f"b{n}", **item} for n, item in enumerate(draw(allowances))]
        made = [_rule(f"{name}-{n}", item, grants) for n, item in enumerate(draw(rules))]
        offerings.append(
            {
                "id": name,
                "allowances": grants,
                "usage_prices": [{"id": f"{name}-{n}", **item} for n, item in enumerate(draw(prices))],
                "rules": [rule["id"] for rule in made],
            }
        )
        all_rules += made
    campaign = {"id": "c", "sponsor_id": "s", "per_subscriber_octets": draw(st.sampled_from([None, 0, 700]))}
    return {"offerings": offerings, "rules": all_rules, "campaigns": [campaign]}


def compiled(found: dict[str, Any]) -> Tariff:
    """The tariff of some parts."""
    return compile_tariff(catalogue(*found["offerings"], rules=found["rules"], campaigns=found["campaigns"]))


def tariffs() -> st.SearchStrategy[Tariff]:
    """Two offerings with random parts, a campaign with a small cap."""
    return parts().map(compiled)


def _rule(name: str, item: dict[str, Any], grants: list[dict[str, Any]]) -> dict[str, Any]:
    state = item["bucket"] if grants else None
    return {
        **item,
        "id": name,
        "campaign": "c" if item["charging"] == "sponsored" else None,
        "bucket": {"allowance": grants[0]["id"], "state": state} if state else None,
    }


def world_of(tariff: Tariff, payment: str) -> World:
    world = World(tariff, payment=payment)
    if payment == "prepaid":
        world.credit("0.75")
    world.activate("one")
    world.activate("two")
    return world


def totals(world: World) -> dict[str, Any]:
    """What a subscriber and a bill could see of a history of flows."""
    parts = ("charged_octets", "free_octets", "sponsored_octets", "blocked_octets", "not_charged_octets")
    assert world.account is not None
    return {
        **{part: sum(getattr(item, part) for item in world.decisions) for part in parts},
        "money": world.money(),
        "balance": world.balance(),
        "buckets": {bucket.bucket_id: bucket.remaining for bucket in world.account.buckets},
        "counters": sorted((c.counter_id, c.octets, c.micros) for c in world.account.counters if c.octets),
    }


slow_data = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
