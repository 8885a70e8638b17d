"""Step 3 of 5: select. Which PCC rule a flow meets, why the others lost, and where its octets are taken from first.

The lowest precedence that matches wins (TS 23.503). All that selection depends on, besides the flow itself, is the
account's standing (`services.engine.standing`). It changes seldom, so what was worked out for one is remembered.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from schemas.catalogue import BucketCondition
from schemas.classification import Classification
from schemas.decision import DECISION_VERSION, Loser, PolicyDecision
from schemas.fields import Treatment
from schemas.flow import FlowRecord
from services.engine.circumstances import circumstances_of
from services.engine.marks import holds, is_spent, mark_of
from services.engine.standing import ASLEEP, Facts, facts_of
from services.engine.tariff import (
    BUILT_IN_RULE,
    CompiledAllowance,
    CompiledPrice,
    CompiledPurse,
    CompiledRule,
    Reach,
    Tariff,
    Traffic,
)

MAX_LOSERS = 8
"""Losers named in a decision: those whose application and category fit first, then by precedence."""

MAX_PLANS = 4_096
MAX_ANSWERS = 65_536
MAX_SELECTIONS = 131_072
"""Bounds of a tariff's memory: about 10 KiB a plan, 1 KiB an answer, 200 octets for a selection, which is a key to an
answer. A memory that is full is emptied."""

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

    The allowance is None while the bucket serves nothing: outside its windows, suspended, or gone from the catalogue.
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
    share: int | None
    """Most that one member may draw from that bucket in a cycle, in its unit; None = no limit."""
    price: CompiledPrice | None
    connection: CompiledPrice | None
    """What a connection of this traffic costs; None where connections have no price, or the rule lets nobody pay."""
    purses: tuple[CompiledPurse, ...]
    """Money that pays its prices before the main balance."""
    template: PolicyDecision
    """A decision with all that does not depend on the single flow filled in."""
    whole_index: int
    """The bucket that a flow is drawn from without a second look, as long as it lasts; -1 where one is needed."""
    doubted: bool = False
    """True when the verdict is not believed, and the traffic would be treated otherwise if it were."""
    by_time: bool = False
    """True when a bucket of time could pay for the traffic, now or when it is filled again."""
    circumstances: str = ""
    """How the traffic was met, as far as the tariff tells that apart; see `services.engine.circumstances`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kinds:
    """What a plan tells traffic apart by: the names that any of its scopes has, and the confidences its rules ask for.

    An account has a handful of them and meets thousands of applications, so most traffic is of one kind to it, and
    what was worked out for one application serves all others that nothing names.
    """

    applications: frozenset[str]
    services: frozenset[str]
    rat_types: frozenset[str]
    zones: frozenset[str]
    dnns: frozenset[str]
    confidences: tuple[int, ...]
    """In ascending order, 0 first."""

    @classmethod
    def between(cls, rules: list[CompiledRule], payers: list[Reach], own_services: frozenset[str]) -> "Kinds":
        """The kinds that rules, the scopes of buckets and prices, and the mark of own services tell apart."""
        reaches = payers + [rule.reach for rule in rules]
        return cls(
            own_services.union(*(reach.applications for reach in reaches)),
            frozenset().union(*(reach.services for reach in reaches)),
            frozenset().union(*(reach.rat_types for reach in reaches)),
            frozenset().union(*(reach.zones for reach in reaches)),
            frozenset().union(*(reach.dnns for reach in reaches)),
            tuple(sorted({0, *(rule.rule.min_confidence for rule in rules)})),
        )

    def of(self, traffic: Traffic) -> Traffic:
        """The traffic that stands for all of its kind; every part of the plan treats both alike."""
        at_least = bisect.bisect_right(self.confidences, traffic.confidence) - 1
        return traffic._replace(
            application=traffic.application if traffic.application in self.applications else None,
            service=traffic.service if traffic.service in self.services else None,
            rat_type=traffic.rat_type if traffic.rat_type in self.rat_types else None,
            zone=traffic.zone if traffic.zone in self.zones else None,
            dnn=traffic.dnn if traffic.dnn in self.dnns else None,
            # Suspect traffic, -1, is a kind of its own.
            confidence=self.confidences[at_least] if at_least >= 0 else traffic.confidence,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a standing means: rules in order of precedence, buckets in order of drawing, prices by preference."""

    standing: str
    lines: tuple[Line, ...]
    slots: tuple[Slot, ...]
    prices: tuple[CompiledPrice, ...]
    """Prices of octets."""
    connections: tuple[CompiledPrice, ...]
    """Prices of connections."""
    purses: tuple[CompiledPurse, ...]
    kinds: Kinds


def plan_of(standing: str, tariff: Tariff) -> Plan:
    """The plan that `standing` spells, remembered in the tariff."""
    plan: Plan | None = tariff.plans.get(standing)
    if plan is None:
        if len(tariff.plans) >= MAX_PLANS:
            tariff.plans.clear()
        plan = tariff.plans[standing] = _read_standing(standing, tariff)
    return plan


def select(standing: str, classification: Classification, flow: FlowRecord, tariff: Tariff) -> Selection:
    """The rule and the first source for traffic of this kind; there is always one."""
    key: tuple[Any, ...] = (
        standing,
        classification.application,
        classification.category,
        classification.service,
        flow.rat_type,
        -1 if classification.suspect else classification.confidence,
    )
    if tariff.surroundings is not None:
        key += tariff.surroundings.of(flow)
    found: Selection | None = tariff.selections.get(key)
    return _look_up(key, tariff) if found is None else found


def weigh(standing: str, traffic: Traffic, tariff: Tariff) -> Iterator[tuple[CompiledRule, str | None]]:
    """Each rule that a standing brings, by precedence, with the reason why it does not apply to `traffic`, or None.

    The first one without a reason is the one that `select` finds. The built-in rule comes last and always applies.
    For explanations: nothing is remembered.
    """
    for line in plan_of(standing, tariff).lines:
        yield line.rule, line.unmet or _miss(line.rule, traffic)


def traffic_of(classification: Classification, flow: FlowRecord, tariff: Tariff) -> Traffic:
    """What of a flow the conditions of `tariff` look at."""
    confidence = -1 if classification.suspect else classification.confidence
    seen = Traffic(
        classification.application, classification.category, classification.service, flow.rat_type, confidence,
        *(tariff.surroundings.of(flow) if tariff.surroundings is not None else ()),
    )  # fmt: skip
    return seen._replace(doubted=_is_doubted(classification.application, confidence, tariff))


def is_believed(classification: Classification, tariff: Tariff) -> bool:
    """Whether a verdict may decide what its traffic costs. One that names no application claims nothing."""
    confidence = -1 if classification.suspect else classification.confidence
    return not _is_doubted(classification.application, confidence, tariff)


def select_for(plan: Plan, traffic: Traffic, tariff: Tariff) -> Selection:
    """The answer, worked out as far as the verdict is believed; doubt that makes no difference is not marked."""
    answer = _select(plan, traffic, tariff)
    if not traffic.doubted:
        return answer
    believed = _select(plan, traffic._replace(confidence=100, doubted=False), tariff)
    if _payers(believed) == _payers(answer):
        return answer
    return dataclasses.replace(answer, whole_index=-1, doubted=True)


def _is_doubted(application: str | None, confidence: int, tariff: Tariff) -> bool:
    return confidence < 0 or (application is not None and confidence < tariff.min_confidence)


def _payers(selection: Selection) -> tuple[object, ...]:
    by_money = selection.treatment != "free" and selection.bucket_index < 0 and selection.beyond == "price"
    return (
        selection.treatment, selection.rule.campaign, selection.bucket_index, selection.beyond,
        selection.beyond_index, selection.price, selection.connection,
        selection.purses if by_money or selection.connection is not None else (),
    )  # fmt: skip


def _select(plan: Plan, traffic: Traffic, tariff: Tariff) -> Selection:
    misses = [(line, line.unmet or _miss(line.rule, traffic)) for line in plan.lines]
    winner = next(line.rule for line, miss in misses if miss is None)
    losers = _losers(((line.rule, miss) for line, miss in misses), winner)
    treatment: Treatment = "blocked" if winner.rule.gate_status == "closed" else _TREATMENTS[winner.rule.charging]
    bucket_index, beyond, beyond_index = _first_source(plan.slots, traffic)
    price = _price(plan.prices, traffic)
    connection = _price(plan.connections, traffic) if treatment == "charged" else None
    drawn = plan.slots[bucket_index].allowance if bucket_index >= 0 else None
    share = drawn.allowance.share if drawn else None
    template = _template(winner, losers, treatment, tariff, own_service=traffic.application in tariff.own_services)
    purses = tuple(purse for purse in plan.purses if _reaches(purse.reach, traffic) and traffic.gets(purse.reach))
    by_time = any(_pays_by_time(slot, traffic) for slot in plan.slots)
    is_plain = bucket_index >= 0 and not by_time and share is None and connection is None
    whole_index = bucket_index if treatment == "charged" and is_plain else -1
    return Selection(
        winner, losers, treatment, bucket_index, beyond, beyond_index, share, price, connection, purses, template,
        whole_index, by_time=by_time,
    )  # fmt: skip


def _pays_by_time(slot: Slot, traffic: Traffic) -> bool:
    if slot.allowance is None or slot.allowance.allowance.unit == "octets":
        return False
    return _reaches(slot.allowance.reach, traffic) and traffic.gets(slot.allowance.reach)


def _look_up(key: tuple[Any, ...], tariff: Tariff) -> Selection:
    """The answer for the kind that the traffic of `key` is of, remembered for both."""
    plan = plan_of(key[0], tariff)
    seen = Traffic(*key[1:])
    kind = plan.kinds.of(seen._replace(doubted=_is_doubted(seen.application, seen.confidence, tariff)))
    answer: Selection | None = tariff.answers.get((plan.standing, kind))
    if answer is None:
        if len(tariff.answers) >= MAX_ANSWERS:
            tariff.answers.clear()
        answer = tariff.answers[plan.standing, kind] = select_for(plan, kind, tariff)
    if word := circumstances_of(seen, tariff, doubted=answer.doubted):
        answer = _met_so(word, answer, (plan.standing, kind, word), tariff)
    if len(tariff.selections) >= MAX_SELECTIONS:
        tariff.selections.clear()
    # The plan's own text in each key: an account that was just read brings a copy, and a hundred keys would keep it.
    tariff.selections[(plan.standing, *key[1:])] = answer
    return answer


def _met_so(word: str, answer: Selection, key: tuple[Any, ...], tariff: Tariff) -> Selection:
    """The answer for one of the circumstances in which a kind of traffic is met."""
    found: Selection | None = tariff.met.get(key)
    if found is None:
        if len(tariff.met) >= MAX_ANSWERS:
            tariff.met.clear()
        found = tariff.met[key] = dataclasses.replace(answer, circumstances=word)
    return found


def _read_standing(standing: str, tariff: Tariff) -> Plan:
    facts = facts_of(standing)
    lines: dict[str, Line] = {}
    for line in _lines(facts, tariff):
        # A rule that two products bring applies when it applies for one of them.
        if line.rule.rule.id not in lines or line.unmet is None:
            lines[line.rule.rule.id] = line
    ordered = sorted(lines.values(), key=lambda line: (line.rule.rule.precedence, line.rule.rule.id))
    slots = tuple(_slot(text, facts, tariff) for text in facts.buckets)
    prices = tuple(_prices(facts, tariff))
    held = [tariff.offerings[offering_id] for offering_id in facts.held if offering_id in tariff.offerings]
    purses = tuple(purse for offering in held for purse in offering.purses if _is_now(purse.reach, facts))
    payers = [price.reach for price in prices] + [purse.reach for purse in purses]
    payers += [slot.allowance.reach for slot in slots if slot.allowance is not None]
    kinds = Kinds.between([line.rule for line in ordered], payers, tariff.own_services)
    octets, connections = (
        tuple(price for price in prices if price.price.unit == unit) for unit in ("octets", "connection")
    )
    return Plan(standing, (*ordered, Line(tariff.built_in, None)), slots, octets, connections, purses, kinds)


def _slot(text: str, facts: Facts, tariff: Tariff) -> Slot:
    allowance, sign = tariff.allowance(*text[:-1].split("/")), text[-1]
    serves = allowance is not None and sign != ASLEEP and _is_now(allowance.reach, facts)
    return Slot(allowance if serves else None, sign == "+")


def _is_now(reach: Reach, facts: Facts) -> bool:
    return not reach.windows or reach.windows_key in facts.opened


def _lines(facts: Facts, tariff: Tariff) -> Iterator[Line]:
    for offering_id in facts.held:
        offering = tariff.offerings.get(offering_id)
        for rule in offering.rules if offering else ():
            yield Line(rule, _unmet(rule, offering_id, facts))


def _unmet(rule: CompiledRule, offering_id: str, facts: Facts) -> str | None:
    """The condition on the account that keeps a rule out, by the reason that a decision gives for it."""
    bucket = rule.rule.bucket
    if bucket and not _is_so(bucket, offering_id, facts):
        return f"bucket_not_{bucket.state}"
    if rule.rule.spend and not is_spent(rule.rule.spend, facts.reached):
        return "spend"
    if rule.rule.id in facts.strangers:
        return facts.strangers[rule.rule.id]
    if rule.campaign and rule.campaign.id in facts.idle:
        return "campaign_not_running"
    return None if _is_now(rule.reach, facts) else "time_window"


def _is_so(bucket: BucketCondition, offering_id: str, facts: Facts) -> bool:
    if mark_of(bucket) is not None:
        return holds(bucket, offering_id, facts.reached)
    return (f"{offering_id}/{bucket.allowance}" in facts.available) == (bucket.state == "available")


def _prices(facts: Facts, tariff: Tariff) -> list[CompiledPrice]:
    found = [
        price
        for offering_id in facts.held
        if offering_id in tariff.offerings
        for price in tariff.offerings[offering_id].prices
        if _is_now(price.reach, facts)
    ]
    # The narrowest price is meant for the traffic; among equals the cheapest, which a subscriber has bought to use.
    return sorted(
        found,
        key=lambda price: (
            price.reach.order(), _long_run(price), price.counter_id,
        ),
    )  # fmt: skip


def _miss(rule: CompiledRule, traffic: Traffic) -> str | None:
    miss = rule.reach.miss(traffic)
    if miss is not None:
        return miss
    unsure = "suspect" if traffic.confidence < 0 else "confidence"
    if max(traffic.confidence, 0) < rule.rule.min_confidence or (_gives(rule) and not traffic.gets(rule.reach)):
        return unsure
    if rule.rule.suspect != "any" and (rule.rule.suspect == "only") != (traffic.confidence < 0):
        return "suspect" if traffic.confidence < 0 else "not_suspect"
    return None if rule.rule.min_congestion <= traffic.congestion <= rule.rule.max_congestion else "congestion"


def _gives(rule: CompiledRule) -> bool:
    """Whether the rule gives something away. A charge and a closed gate do not, so doubt is no way around them."""
    return rule.rule.charging != "charge" and rule.rule.gate_status == "open" and rule.rule.suspect != "only"


def _losers(misses: Iterable[tuple[CompiledRule, str | None]], winner: CompiledRule) -> tuple[Loser, ...]:
    named = [
        Loser(rule_id=rule.rule.id, reason=miss or "precedence")
        for rule, miss in misses
        if rule is not winner and rule.rule.id != BUILT_IN_RULE.id
    ]
    near = [loser for loser in named if loser.reason not in ("application", "category")]
    far = [loser for loser in named if loser.reason in ("application", "category")]
    return tuple((near + far)[:MAX_LOSERS])


def _first_source(slots: tuple[Slot, ...], traffic: Traffic) -> tuple[int, Beyond, int]:
    fitting = [
        (index, slot.allowance, slot.available)
        for index, slot in enumerate(slots)
        if slot.allowance is not None and _reaches(slot.allowance.reach, traffic)
    ]
    for _, group in itertools.groupby(fitting, key=lambda item: item[1].reach.specificity):
        members = list(group)
        full = [(index, allowance) for index, allowance, available in members if available]
        first = next((index for index, allowance in full if traffic.gets(allowance.reach)), None)
        if first is not None:
            return first, "price", -1
        # Equally narrow buckets are one supply: the last of them says what follows when all are empty.
        last_index, last, _ = members[-1]
        gives = last.allowance.on_exhausted == "throttle"
        if not full and last.allowance.on_exhausted != "continue" and not (gives and not traffic.gets(last.reach)):
            return -1, _BEYOND[last.allowance.on_exhausted], last_index
    return -1, "price", -1


def _price(prices: Iterable[CompiledPrice], traffic: Traffic) -> CompiledPrice | None:
    """The narrowest price; where the verdict is doubted, the general one unless the narrower one is dearer."""
    fitting = [price for price in prices if _reaches(price.reach, traffic)]
    general = next((price for price in fitting if traffic.gets(price.reach)), None)
    if not fitting or general is None or _long_run(fitting[0]) > _long_run(general):
        return next(iter(fitting), None)
    return general


def _long_run(price: CompiledPrice) -> int:
    """Micros of a terabyte, by which prices are compared; a cap beyond which it is free is the most that it costs."""
    micros = price.curve.micros(10**12) if price.curve else 0
    cap = price.price.cap
    return micros if cap is None or price.price.on_cap == "block" else min(micros, cap)


def _reaches(reach: Reach, traffic: Traffic) -> bool:
    return reach.miss(traffic) is None


def _template(
    winner: CompiledRule, losers: tuple[Loser, ...], treatment: Treatment, tariff: Tariff, *, own_service: bool
) -> PolicyDecision:
    rule = winner.rule
    nothing = Classification(category="other", application=None, service=None, confidence=0, evidence=())
    fields: dict[str, Any] = {
        "version": DECISION_VERSION, "decision_id": "", "record_id": "", "subscriber_id": "", "account_id": "",
        "start_ms": 0, "end_ms": 0, "octets": 0, "classification": nothing, "decided_at_ms": 0,
        "rule_id": rule.id, "precedence": rule.precedence, "rating_group": rule.rating_group,
        "service_identifier": rule.service_identifier, "treatment": treatment, "gate_status": rule.gate_status,
        "catalogue_version": tariff.version, "qos": winner.qos, "losers": losers,
        "sponsor_id": winner.campaign.sponsor_id if winner.campaign else None, "redirect_url": rule.redirect_url,
        "steering": rule.steering, "own_service": own_service,
    }  # fmt: skip
    return PolicyDecision(**fields)
