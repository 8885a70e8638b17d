"""Step 3 of 5: select. Which PCC rule a flow meets, why the others lost, and where its octets are taken from first.

The lowest precedence that matches wins (TS 23.503). All that selection depends on, besides the flow itself, is the
account's *standing*: a text that names the offerings held, the buckets in the order they are drawn and which of them
are empty, the campaigns that run and the time windows that are open. It changes seldom, so what was worked out for a
standing is remembered.
"""

import dataclasses
import itertools
from collections.abc import Container, Iterable, Iterator
from typing import Any, Literal

from schemas.catalogue import Campaign
from schemas.classification import Classification
from schemas.decision import DECISION_VERSION, Loser, PolicyDecision
from schemas.fields import Treatment
from schemas.state import AccountState, Bucket
from services.engine.periods import is_open
from services.engine.tariff import (
    BUILT_IN_RULE,
    CompiledAllowance,
    CompiledOffering,
    CompiledPrice,
    CompiledRule,
    Reach,
    Tariff,
)

MAX_LOSERS = 8
"""Losers named in a decision: those whose application and category fit first, then by precedence."""

MAX_PLANS = 4_096
MAX_SELECTIONS = 65_536
"""Bounds of a tariff's memory, about 10 KiB a plan and 1 KiB a selection; a memory that is full is emptied."""

Beyond = Literal["price", "free", "blocked"]
"""What octets meet that no bucket takes: the out-of-bundle price, the low rate free of charge, or a closed gate."""

_TREATMENTS: dict[str, Treatment] = {"charge": "charged", "free": "free", "sponsored": "sponsored"}
_BEYOND: dict[str, Beyond] = {"continue": "price", "throttle": "free", "block": "blocked"}


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A rule as one standing sees it: `unmet` names the account's condition that keeps it out, or is None."""

    rule: CompiledRule
    unmet: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """A bucket's place in the account: what its allowance says, and whether octets are left.

    The allowance is None while the bucket serves nothing: outside its time windows, or gone from the catalogue.
    """

    allowance: CompiledAllowance | None
    available: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """The answer for one kind of traffic under one standing."""

    rule: CompiledRule
    losers: tuple[Loser, ...]
    treatment: Treatment
    """What the rule wants: charged, free, sponsored or blocked."""
    bucket_index: int
    """Place in `AccountState.buckets` of the bucket that is drawn next; -1 when none is left."""
    beyond: Beyond
    """What octets meet when there is no such bucket."""
    beyond_index: int
    """Place of the empty bucket that says so; -1 where it is not a bucket that decides."""
    price: CompiledPrice | None
    template: PolicyDecision
    """A decision with all that does not depend on the single flow filled in."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a standing means: rules in order of precedence, buckets in order of drawing, prices by preference."""

    lines: tuple[Line, ...]
    slots: tuple[Slot, ...]
    prices: tuple[CompiledPrice, ...]


def standing_of(account: AccountState, tariff: Tariff) -> str:
    """The text that `plan_of` reads, as of `settled_ms`. Buckets must be in the order they are drawn."""
    held = list(dict.fromkeys(product.offering_id for product in account.products if product.status == "active"))
    buckets = [
        f"{bucket.offering_id}/{bucket.allowance_id}{'+' if bucket.remaining_octets > 0 else '-'}"
        for bucket in account.buckets
    ]
    offerings = [tariff.offerings[offering_id] for offering_id in held if offering_id in tariff.offerings]
    running, opened = _times(account, offerings)
    return f"{','.join(held)}|{','.join(buckets)}|{','.join(running)}|{','.join(opened)}"


def _times(account: AccountState, offerings: list[CompiledOffering]) -> tuple[list[str], list[str]]:
    """Campaigns that may begin or end, and time windows, each with its state at `settled_ms`."""
    at_ms, zone = account.settled_ms, account.time_zone
    campaigns = {campaign.id: campaign for offering in offerings for campaign in offering.campaigns}
    windows = {key: value for offering in offerings for key, value in offering.windows.items()}
    running = [f"{name}{'+' if _runs(item, at_ms) else '-'}" for name, item in sorted(campaigns.items()) if _ends(item)]
    opened = [f"{key}{'+' if is_open(item, at_ms, time_zone=zone) else '-'}" for key, item in sorted(windows.items())]
    return running, opened


def draw_order(bucket: Bucket, tariff: Tariff) -> tuple[object, ...]:
    """The narrowest first; then by priority, by earliest end, the oldest, the id."""
    compiled = tariff.allowance(bucket.offering_id, bucket.allowance_id)
    narrow, priority = (compiled.reach.order(), compiled.allowance.priority) if compiled else ((0, 0), 0)
    end = float("inf") if bucket.valid_until_ms is None else bucket.valid_until_ms
    return narrow, priority, end, bucket.valid_from_ms, bucket.bucket_id


def plan_of(standing: str, tariff: Tariff) -> Plan:
    """The plan that `standing` spells, remembered in the tariff."""
    plan: Plan | None = tariff.plans.get(standing)
    if plan is None:
        if len(tariff.plans) >= MAX_PLANS:
            tariff.plans.clear()
        plan = tariff.plans[standing] = _read_standing(standing, tariff)
    return plan


def select(standing: str, classification: Classification, rat_type: str | None, tariff: Tariff) -> Selection:
    """The rule and the first source for traffic of this kind; there is always one."""
    key = (
        standing,
        classification.application,
        classification.category,
        classification.service,
        rat_type,
        -1 if classification.suspect else classification.confidence,
    )
    found: Selection | None = tariff.selections.get(key)
    if found is None:
        if len(tariff.selections) >= MAX_SELECTIONS:
            tariff.selections.clear()
        found = tariff.selections[key] = _select(plan_of(standing, tariff), _Traffic(*key[1:]), tariff)
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class _Traffic:
    """The part of a flow that conditions look at; confidence is -1 when the flow is suspect."""

    application: str | None
    category: str
    service: str | None
    rat_type: str | None
    confidence: int


def _read_standing(standing: str, tariff: Tariff) -> Plan:
    held, buckets, campaigns, windows = (tuple(filter(None, part.split(","))) for part in standing.split("|"))
    available = {text[:-1] for text in buckets if text[-1] == "+"}
    idle = frozenset(text[:-1] for text in campaigns if text[-1] == "-")
    opened = frozenset(text[:-1] for text in windows if text[-1] == "+")
    lines: dict[str, Line] = {}
    for line in _lines(held, available, idle, opened, tariff):
        # A rule that two products bring applies when it applies for one of them.
        if line.rule.rule.id not in lines or line.unmet is None:
            lines[line.rule.rule.id] = line
    ordered = sorted(lines.values(), key=lambda line: (line.rule.rule.precedence, line.rule.rule.id))
    slots = tuple(_slot(text, opened, tariff) for text in buckets)
    return Plan((*ordered, Line(tariff.built_in, None)), slots, tuple(_prices(held, opened, tariff)))


def _slot(text: str, opened: Container[str], tariff: Tariff) -> Slot:
    allowance = tariff.allowance(*text[:-1].split("/"))
    return Slot(allowance if allowance and _is_now(allowance.reach, opened) else None, text[-1] == "+")


def _is_now(reach: Reach, opened: Container[str]) -> bool:
    return not reach.windows or reach.windows_key in opened


def _lines(
    held: Iterable[str], available: set[str], idle: Container[str], opened: Container[str], tariff: Tariff
) -> Iterator[Line]:
    for offering_id in held:
        offering = tariff.offerings.get(offering_id)
        for rule in offering.rules if offering else ():
            condition = rule.rule.bucket
            unmet = None
            if condition and (f"{offering_id}/{condition.allowance}" in available) != (condition.state == "available"):
                unmet = f"bucket_not_{condition.state}"
            elif rule.campaign and rule.campaign.id in idle:
                unmet = "campaign_not_running"
            elif not _is_now(rule.reach, opened):
                unmet = "time_window"
            yield Line(rule, unmet)


def _prices(held: Iterable[str], opened: Container[str], tariff: Tariff) -> list[CompiledPrice]:
    found = [
        price
        for offering_id in held
        if offering_id in tariff.offerings
        for price in tariff.offerings[offering_id].prices
        if _is_now(price.reach, opened)
    ]
    # The narrowest price is meant for the traffic; among equals the cheapest, which a subscriber has bought to use.
    return sorted(
        found,
        key=lambda price: (
            price.reach.order(), price.curve.micros(10**12) if price.curve else 0, price.counter_id,
        ),
    )  # fmt: skip


def _ends(campaign: Campaign) -> bool:
    return campaign.valid_from_ms > 0 or campaign.valid_until_ms is not None


def _runs(campaign: Campaign, at_ms: int) -> bool:
    return campaign.valid_from_ms <= at_ms and (campaign.valid_until_ms is None or at_ms < campaign.valid_until_ms)


def _select(plan: Plan, traffic: _Traffic, tariff: Tariff) -> Selection:
    misses = [(line, line.unmet or _miss(line.rule, traffic)) for line in plan.lines]
    winner = next(line.rule for line, miss in misses if miss is None)
    losers = _losers(((line.rule, miss) for line, miss in misses), winner)
    treatment: Treatment = "blocked" if winner.rule.gate_status == "closed" else _TREATMENTS[winner.rule.charging]
    bucket_index, beyond, beyond_index = _first_source(plan.slots, traffic)
    price = next((price for price in plan.prices if _reaches(price.reach, traffic)), None)
    template = _template(winner, losers, treatment, tariff)
    return Selection(winner, losers, treatment, bucket_index, beyond, beyond_index, price, template)


def _miss(rule: CompiledRule, traffic: _Traffic) -> str | None:
    miss = rule.reach.miss(traffic.application, traffic.category, traffic.service, traffic.rat_type)
    if miss is None and max(traffic.confidence, 0) < rule.rule.min_confidence:
        return "suspect" if traffic.confidence < 0 else "confidence"
    return miss


def _losers(misses: Iterable[tuple[CompiledRule, str | None]], winner: CompiledRule) -> tuple[Loser, ...]:
    named = [
        Loser(rule_id=rule.rule.id, reason=miss or "precedence")
        for rule, miss in misses
        if rule is not winner and rule.rule.id != BUILT_IN_RULE.id
    ]
    near = [loser for loser in named if loser.reason not in ("application", "category")]
    far = [loser for loser in named if loser.reason in ("application", "category")]
    return tuple((near + far)[:MAX_LOSERS])


def _first_source(slots: tuple[Slot, ...], traffic: _Traffic) -> tuple[int, Beyond, int]:
    fitting = [
        (index, slot.allowance, slot.available)
        for index, slot in enumerate(slots)
        if slot.allowance is not None and _reaches(slot.allowance.reach, traffic)
    ]
    for _, group in itertools.groupby(fitting, key=lambda item: item[1].reach.specificity):
        members = list(group)
        first = next((index for index, _, available in members if available), None)
        if first is not None:
            return first, "price", -1
        # Equally narrow buckets are one supply: the last of them says what follows when all are empty.
        last_index, last, _ = members[-1]
        if last.allowance.on_exhausted != "continue":
            return -1, _BEYOND[last.allowance.on_exhausted], last_index
    return -1, "price", -1


def _reaches(reach: Reach, traffic: _Traffic) -> bool:
    return reach.miss(traffic.application, traffic.category, traffic.service, traffic.rat_type) is None


def _template(winner: CompiledRule, losers: tuple[Loser, ...], treatment: Treatment, tariff: Tariff) -> PolicyDecision:
    rule = winner.rule
    nothing = Classification(category="other", application=None, service=None, confidence=0, evidence=())
    fields: dict[str, Any] = {
        "version": DECISION_VERSION, "decision_id": "", "record_id": "", "subscriber_id": "", "account_id": "",
        "start_ms": 0, "end_ms": 0, "octets": 0, "classification": nothing, "decided_at_ms": 0,
        "rule_id": rule.id, "precedence": rule.precedence, "rating_group": rule.rating_group,
        "service_identifier": rule.service_identifier, "treatment": treatment, "gate_status": rule.gate_status,
        "catalogue_version": tariff.version, "qos": winner.qos, "losers": losers,
        "sponsor_id": winner.campaign.sponsor_id if winner.campaign else None,
    }  # fmt: skip
    return PolicyDecision(**fields)
