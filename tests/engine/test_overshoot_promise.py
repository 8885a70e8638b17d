"""What `smartpipe simulate` prints: the worst that is seen is within the bound that is promised, whatever the tariff.

The traffic is that of a gateway which obeys quotas and tells once a minute. Each kind of it has a rule of its own, and
no minute brings more of any kind than the one before and its part of the tolerance; see what ADR 0004 promises.
"""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.classification import Classification
from schemas.decision import PolicyDecision
from schemas.flow import FlowRecord
from services.engine.outcome import Outcome
from services.engine.overshoot_seen import OvershootMeter, OvershootReport
from tests.engine.gateway import Gateway
from tests.engine.world import World, catalogue, ms

MINUTE = 60_000
START = ms("2026-03-10 12:00")
APPS = {"netflix": "video", "telegram": "chat", "youtube": "sponsored"}
"""Applications, each with its rule."""

Minutes = list[dict[tuple[str, str], int]]
"""Octets that are wanted in each minute, by member and application."""


class Metered(World):
    """A world whose overshoot is measured as a simulation does; each record arrives at its end."""

    _flow: FlowRecord | None = None

    def __init__(self, *args: Any, **profile: Any) -> None:
        super().__init__(*args, create=False, **profile)
        self.meter = OvershootMeter(self.tariff)

    def decide(self, flow: FlowRecord, seen: Classification) -> PolicyDecision:
        self._flow = flow
        return super().decide(flow, seen)

    def take(self, outcome: Outcome) -> Outcome:
        if outcome.decision is not None and self._flow is not None:
            self.meter.take(self._flow, outcome, now_ms=self._flow.end_ms)
        else:
            self.meter.hear(outcome, now_ms=self.now_ms)
        return super().take(outcome)


@st.composite
def tariffs(draw: st.DrawFn) -> dict[str, Any]:
    """Buckets of two applications, prices of one balance or under caps, and a campaign; some with a tolerance."""
    tolerance = draw(st.integers(20, 300))
    volumes = st.integers(1, 20 * tolerance)
    bounded = st.sampled_from([None, tolerance])
    members = draw(st.sampled_from([("a1",), ("a1", "b2")]))
    allowances, prices = [], []
    for app in ("netflix", "telegram"):
        scope = {"scope": {"applications": [app]}, "overshoot_tolerance_octets": draw(bounded)}
        if draw(st.booleans()):
            share = draw(st.none() | volumes) if len(members) > 1 else None
            octets = draw(volumes)
            allowances.append({"id": app, "octets": octets, "per_member_octets": share, **scope})
        elif draw(st.booleans()):
            cap = draw(st.none() | st.integers(1, 30).map(lambda tenths: f"{tenths / 10:.1f}"))
            amount = draw(st.sampled_from(["1", "2.5"]))
            prices.append({"id": f"{app}-octets", "amount": amount, "per_octets": 1_000, "cap": cap, **scope})
    if allowances and not any(item["per_member_octets"] for item in allowances) and draw(st.booleans()):
        prices.append({"id": "beyond", "amount": "1", "per_octets": 1_000,
                       "overshoot_tolerance_octets": draw(bounded)})  # fmt: skip
    return {
        "tolerance": tolerance, "members": members, "allowances": allowances, "usage_prices": prices,
        "campaign": {"per_subscriber_octets": draw(volumes), "overshoot_tolerance_octets": draw(bounded)},
        "credit": f"{draw(st.integers(1, 40)) / 10:.1f}",
    }  # fmt: skip


def world_of(tariff: dict[str, Any]) -> Metered:
    rules: list[dict[str, Any]] = [{"id": rule, "scope": {"applications": [app]}} for app, rule in APPS.items()]
    rules[-1] |= {"charging": "sponsored", "campaign": "c"}
    plan = {"id": "plan", "kind": "base_plan", "rules": list(APPS.values())}
    plan |= {name: tariff[name] for name in ("allowances", "usage_prices")}
    campaigns = [{"id": "c", "sponsor_id": "s", **tariff["campaign"]}]
    made = Metered(catalogue(plan, rules=rules, campaigns=campaigns), at=START)
    made.profile(subscriber_ids=tariff["members"], payment="prepaid")
    made.activate("plan")
    made.credit(tariff["credit"])
    return made


def seen(tariff: dict[str, Any], minutes: Minutes) -> list[OvershootReport]:
    made = world_of(tariff)
    gateway = Gateway(made)
    kinds = [(member, app) for member in tariff["members"] for app in APPS]
    before = dict.fromkeys(kinds, 0)
    for number, wanted in enumerate(minutes, start=1):
        passed = dict.fromkeys(kinds, 0)
        for member, app in kinds:
            most = before[member, app] + tariff["tolerance"] // len(kinds)
            passed[member, app] = gateway.passes(APPS[app], min(wanted.get((member, app), 0), most), member)
        for (member, app), volume in passed.items():
            gateway.report([(app, volume)], START + number * MINUTE, member=member)
        before = passed
    return list(made.meter.report())


KINDS = [(member, app) for member in ("a1", "b2") for app in APPS]
# Mostly as much as may come: a bound is tried by what grows.
MINUTES = st.lists(
    st.lists(st.sampled_from((10**6, 10**6, 10**6, 10**6, 30, 0)), min_size=len(KINDS), max_size=len(KINDS)).map(
        lambda volumes: dict(zip(KINDS, volumes, strict=True))
    ),
    min_size=5, max_size=25,
)  # fmt: skip


@given(tariffs(), MINUTES)
@settings(max_examples=150)
def test_the_worst_that_a_simulation_sees_is_within_the_bound_it_promises(
    tariff: dict[str, Any], minutes: Minutes
) -> None:
    for item in seen(tariff, minutes):
        assert item.tolerance_octets is None or item.worst_octets <= item.tolerance_octets, item


def test_money_that_ends_with_the_flow_that_it_paid_after_a_bucket_is_no_end_of_the_bucket() -> None:
    tariff: dict[str, Any] = {
        "tolerance": 21, "members": ("a1",), "credit": "0.02", "campaign": {"per_subscriber_octets": 1},
        "allowances": [{"id": "telegram", "octets": 71, "scope": {"applications": ["telegram"]},
                        "overshoot_tolerance_octets": 21}],
        "usage_prices": [{"id": "beyond", "amount": "1", "per_octets": 1_000}],
    }  # fmt: skip
    found = seen(tariff, [{("a1", "telegram"): volume} for volume in (7, 14, 21, 28, 35)])
    ends = {item.price_id or item.allowance_id: (item.ended, item.worst_octets) for item in found}
    assert ends == {"beyond": (1, 14), "telegram": (0, 0)}


def test_a_quota_that_is_taken_back_when_a_bucket_ends_makes_it_no_end_that_matters() -> None:
    """The gateway had heard how much money is behind the bucket, and hears anew what is left of it."""
    tariff: dict[str, Any] = {
        "tolerance": 300, "members": ("a1",), "credit": "0.4", "campaign": {"per_subscriber_octets": 1},
        "allowances": [{"id": "netflix", "octets": 1_000, "scope": {"applications": ["netflix"]},
                        "overshoot_tolerance_octets": 300}],
        "usage_prices": [{"id": "beyond", "amount": "1", "per_octets": 1_000, "overshoot_tolerance_octets": 300}],
    }  # fmt: skip
    found = seen(tariff, [{("a1", "netflix"): volume} for volume in (100, 200, 300, 350, 300, 0)])
    ends = {item.price_id or item.allowance_id: (item.ended, item.worst_octets) for item in found}
    assert ends == {"beyond": (0, 0), "netflix": (0, 0)}


def test_a_gateway_that_is_told_nothing_ahead_passes_more_and_the_simulation_says_so() -> None:
    tariff: dict[str, Any] = {
        "tolerance": 600, "members": ("a1",), "usage_prices": [], "credit": "1",
        "campaign": {"per_subscriber_octets": 9},
        "allowances": [{"id": "netflix", "octets": 2_010, "scope": {"applications": ["netflix"]}}],
    }  # fmt: skip
    flows = [{("a1", "netflix"): volume} for volume in (200, 400, 600, 800, 900)]
    (item,) = seen(tariff, flows)
    assert (item.allowance_id, item.tolerance_octets, item.ended, item.worst_octets) == ("netflix", None, 1, 890)
    tariff["allowances"][0]["overshoot_tolerance_octets"] = 600
    (item,) = seen(tariff, flows)
    assert (item.tolerance_octets, item.ended, item.told_ahead, item.worst_octets) == (600, 1, 1, 0)
