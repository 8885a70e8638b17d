"""A catalogue made ready for deciding: everything by id, sets built, and what was worked out once kept for later.

A Tariff belongs to one catalogue version and never changes in meaning. Its memory of selections is bounded and only
saves work: with or without it every decision is the same.
"""

import bisect
import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from schemas.catalogue import (
    Campaign,
    Catalogue,
    PccRule,
    ProductOffering,
    SpendCondition,
    SubscriberCondition,
    UsagePrice,
)
from schemas.catalogue_allowances import Allowance, MoneyAllowance
from schemas.catalogue_scopes import Scope, TimeWindow
from schemas.decision import Qos
from schemas.state import Bucket
from schemas.units import format_micros
from services.engine.concerns import Concerns
from services.engine.periods import Window
from services.engine.prices import Curve, curve_of
from services.engine.surroundings import (
    ALL_NETWORKS,
    Map,
    Networks,
    Surroundings,
    network_identifier,
    scopes_of,
    surroundings_of,
)

BUILT_IN_RULE = PccRule(id="default", name="General data", precedence=100_000, rating_group=1)
"""The rule after all others, so that no flow is without one: general data, charged; blocked where nothing can pay."""

_FURTHER = {"min_congestion", "max_congestion", "suspect", "redirect_url", "steering"}
_FURTHER_OF_SCOPE = {"services", "rat_types", "dnns"}

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

MAX_TOTAL_MICROS = 10**18
MAX_TOTAL_OCTETS = 2**62
"""The largest balance or total of a cycle: what MessagePack and a database's bigint can hold, with room to spare."""


class Traffic(NamedTuple):
    """The part of a flow that conditions look at."""

    application: str | None
    category: str
    service: str | None
    rat_type: str | None
    confidence: int = 0
    """-1 when the flow is suspect."""
    zone: str | None = None
    dnn: str | None = None
    congestion: int = 0
    doubted: bool = False
    """The verdict is not believed: nothing that rests on it may give anything away."""

    def gets(self, reach: "Reach") -> bool:
        """Whether what is meant for `reach` may make this traffic free or cheaper."""
        return not (self.doubted and reach.by_kind)


@dataclasses.dataclass(frozen=True, slots=True)
class Reach:
    """A Scope with its lists as sets; an empty set means any."""

    applications: frozenset[str]
    categories: frozenset[str]
    services: frozenset[str]
    rat_types: frozenset[str]
    specificity: int
    windows: tuple[Window, ...] = ()
    windows_key: str = ""
    """The windows as a word, the same for the same windows; it stands in an account's standing while they are open."""
    zones: frozenset[str] = frozenset()
    dnns: frozenset[str] = frozenset()
    """Network identifiers in lower case."""

    @classmethod
    def of(cls, scope: Scope) -> "Reach":
        """The sets of `scope`."""
        windows = tuple(sorted(map(_window, scope.windows), key=_window_key))
        return cls(
            frozenset(scope.applications),
            frozenset(scope.categories),
            frozenset(scope.services),
            frozenset(scope.rat_types),
            scope.specificity(),
            windows,
            "_".join(map(_window_key, windows)),
            frozenset(scope.zones),
            frozenset(map(network_identifier, scope.dnns)),
        )

    @property
    def by_kind(self) -> bool:
        """Whether it depends on what the traffic was taken for."""
        return bool(self.applications or self.categories or self.services)

    def order(self) -> tuple[int, int]:
        """Sorts the narrowest first: by specificity, then by how many other lists it has."""
        others = (self.services, self.rat_types, self.windows, self.zones, self.dnns)
        return -self.specificity, -sum(map(bool, others))

    def miss(self, traffic: Traffic) -> str | None:
        """The first condition that traffic fails, by its name in the catalogue, or None when it is in scope."""
        conditions = (
            ("application", self.applications, traffic.application),
            ("category", self.categories, traffic.category),
            ("service", self.services, traffic.service),
            ("rat_type", self.rat_types, traffic.rat_type),
            ("zone", self.zones, traffic.zone),
            ("dnn", self.dnns, traffic.dnn),
        )
        return next((name for name, wanted, seen in conditions if wanted and seen not in wanted), None)


@dataclasses.dataclass(frozen=True, slots=True)
class CompiledRule:
    """A PccRule with its sets, its QoS as it travels, and the digests that tell one installation from another."""

    rule: PccRule
    reach: Reach
    qos: Qos | None
    campaign: Campaign | None
    open_mark: str
    """What an account remembers of the installed rule; it differs as soon as a gateway would see a difference."""
    closed_mark: str
    """The same for the rule with its gate closed because nothing can pay for its traffic."""
    networks: Networks = ALL_NETWORKS
    """Its zones, as a gateway can look at them."""
    unsponsored: "CompiledRule | None" = None
    """The rule as it is once its campaign pays no more: the subscriber does. None where the campaign has no end."""


@dataclasses.dataclass(frozen=True, slots=True)
class CompiledAllowance:
    """An Allowance with its sets and thresholds in ascending order."""

    offering_id: str
    allowance: Allowance
    reach: Reach
    percents: tuple[int, ...]

    def notice_at(self, granted: int, notified_percent: int) -> int:
        """The remainder at or below which the next threshold is passed; 0, the bucket's end, when none is left."""
        nth = bisect.bisect_right(self.percents, notified_percent)
        if nth == len(self.percents):
            return 0
        return granted - _ceil_div(self.percents[nth] * granted, 100)


@dataclasses.dataclass(frozen=True, slots=True)
class CompiledPrice:
    """A UsagePrice with its sets and the name of its running total."""

    price: UsagePrice
    reach: Reach
    counter_id: str
    most_octets: int = MAX_TOTAL_OCTETS
    """What can be sold in one cycle, so that neither octets nor micros outgrow the state: 2^62 and MAX_TOTAL_MICROS."""
    curve: Curve | None = None
    """The price's curve, when it is made ready."""

    @property
    def offering_id(self) -> str:
        """The offering that has it."""
        return self.counter_id.removeprefix("price:").partition("/")[0]

    def amount_up_to(self, octets: int) -> int:
        """Micros for the first `octets` of a cycle; the cap is not looked at, see `services.engine.caps`.

        The one place where money is rounded: down, to whole micros, over the cycle's total and never per flow, so a
        flow in two pieces costs the same, and a cycle is under-charged by less than one micro.
        """
        return (self.curve or curve_of(self.price)).micros(octets)

    def octets_within(self, micros: int) -> int | None:
        """The most octets of a cycle whose exact price is within `micros`; None when any number is."""
        return (self.curve or curve_of(self.price)).octets_within(micros)

    def octets_to_reach(self, micros: int) -> int | None:
        """The fewest octets of a cycle that cost `micros` or more, whatever caps it; None when no number does."""
        return (self.curve or curve_of(self.price)).octets_to_reach(micros)


@dataclasses.dataclass(frozen=True, slots=True)
class CompiledPurse:
    """A MoneyAllowance with its sets."""

    offering_id: str
    allowance: MoneyAllowance
    reach: Reach


@dataclasses.dataclass(frozen=True, slots=True)
class CompiledOffering:
    """A ProductOffering with its parts compiled."""

    offering: ProductOffering
    rules: tuple[CompiledRule, ...]
    allowances: Mapping[str, CompiledAllowance]
    prices: tuple[CompiledPrice, ...]
    recurring_micros: int
    one_time_micros: int
    campaigns: tuple[Campaign, ...]
    """The campaigns of its rules, each once."""
    windows: Mapping[str, tuple[Window, ...]]
    """The time windows of its rules, allowances and prices, by their key."""
    conditions: Mapping[str, SubscriberCondition]
    """The conditions that its rules have on the account, by the rule's id."""
    marks: Mapping[str, tuple[int, ...]]
    """Percentages used of its allowances, by their id, at which a rule turns; 0 = with the first octet."""
    spends: tuple[int, ...]
    """Micros spent in a cycle at which one of its rules turns, in ascending order."""
    purses: tuple[CompiledPurse, ...] = ()

    def price_text(self, currency: str) -> str:
        """Its flat prices for people: `4.99 EUR a cycle and 1 EUR once`."""
        parts = ((self.recurring_micros, "a cycle"), (self.one_time_micros, "once"))
        named = [f"{format_micros(micros)} {currency} {when}" for micros, when in parts if micros]
        return " and ".join(named) or f"0 {currency}"


@dataclasses.dataclass(frozen=True, slots=True)
class Tariff:
    """One catalogue version, compiled. Look up by id; nothing here is ever walked from end to end."""

    version: str
    currency: str
    offerings: Mapping[str, CompiledOffering]
    rules: Mapping[str, CompiledRule]
    campaigns: Mapping[str, Campaign]
    category_of: Mapping[str, str]
    """Application id -> category."""
    own_services: frozenset[str]
    """Applications that are the operator's own."""
    built_in: CompiledRule
    concerns: Concerns
    """What the catalogue tells apart of how traffic comes, by its kind."""
    surroundings: Surroundings | None = None
    """What the catalogue looks at around a flow; None when it looks at nothing there."""
    min_confidence: int = 0
    """Below it a verdict is not believed."""
    plans: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    """What `services.engine.select` has worked out for a standing; it only saves work."""
    answers: dict[Any, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    """The same for one kind of traffic under a standing."""
    met: dict[Any, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    """The same for one kind of traffic met in one way."""
    selections: dict[Any, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    """The answer for traffic as it comes."""

    def forget(self) -> None:
        """Empty the memory."""
        for memory in (self.plans, self.answers, self.met, self.selections):
            memory.clear()

    def allowance(self, offering_id: str, allowance_id: str) -> CompiledAllowance | None:
        """An allowance by its ids; None when this version no longer has it."""
        offering = self.offerings.get(offering_id)
        return offering.allowances.get(allowance_id) if offering else None

    def has_changed_unit(self, bucket: Bucket) -> bool:
        """Whether the allowance that filled a bucket grants another unit in this version: time instead of volume."""
        compiled = self.allowance(bucket.offering_id, bucket.allowance_id)
        return compiled is not None and compiled.allowance.unit != bucket.unit


def compile_tariff(catalogue: Catalogue) -> Tariff:
    """Make `catalogue` ready for deciding. References are trusted: the Catalogue model has checked them."""
    campaigns = {campaign.id: campaign for campaign in catalogue.campaigns}
    places = Map(catalogue.zones)
    rules = {rule.id: _rule(rule, campaigns, places) for rule in catalogue.rules}
    return Tariff(
        version=catalogue.version,
        currency=catalogue.currency,
        offerings={offering.id: _offering(offering, rules) for offering in catalogue.offerings},
        rules=rules,
        campaigns=campaigns,
        category_of={application.id: application.category for application in catalogue.applications},
        own_services=frozenset(application.id for application in catalogue.applications if application.own),
        built_in=_rule(BUILT_IN_RULE, campaigns, places),
        surroundings=surroundings_of(catalogue, places),
        min_confidence=catalogue.min_confidence,
        concerns=Concerns(catalogue.rules, scopes_of(catalogue), min_confidence=catalogue.min_confidence),
    )


def _rule(rule: PccRule, campaigns: Mapping[str, Campaign], places: Map) -> CompiledRule:
    compiled = _compiled(rule, campaigns, places)
    campaign = compiled.campaign
    if campaign is None or (campaign.budget is None and campaign.per_subscriber_octets is None):
        return compiled
    own = rule.model_copy(update={"charging": "charge", "campaign": None})
    return dataclasses.replace(compiled, unsponsored=_compiled(own, campaigns, places))


def _compiled(rule: PccRule, campaigns: Mapping[str, Campaign], places: Map) -> CompiledRule:
    qos = None if rule.qos is None else Qos(**rule.qos.model_dump())
    campaign = campaigns[rule.campaign] if rule.campaign else None
    networks = places.networks_of(rule.scope.zones)
    closed = rule.model_copy(update={"gate_status": "closed"})
    marks = _mark(rule, campaign, networks), _mark(closed, campaign, networks)
    return CompiledRule(rule, Reach.of(rule.scope), qos, campaign, *marks, networks)


def _mark(rule: PccRule, campaign: Campaign | None, networks: Networks) -> str:
    seen = [
        rule.precedence, rule.scope.applications, rule.scope.categories, rule.gate_status, rule.rating_group,
        rule.qos.model_dump() if rule.qos else None, campaign.sponsor_id if campaign else None,
    ]  # fmt: skip
    # Words that came later count only where they are used: a rule without them keeps the mark that it had.
    further = rule.model_dump(include=_FURTHER, exclude_defaults=True)
    scope = rule.scope.model_dump(include=_FURTHER_OF_SCOPE, exclude_defaults=True)
    if further or scope or networks != ALL_NETWORKS:
        seen += [sorted(further.items()), sorted(scope.items()), networks]
    return f"{rule.id}#{hashlib.blake2b(msgspec.json.encode(seen), digest_size=4).hexdigest()}"


def _offering(offering: ProductOffering, rules: Mapping[str, CompiledRule]) -> CompiledOffering:
    brought = tuple(rules[rule_id] for rule_id in dict.fromkeys(offering.rules))
    allowances = {item.id: _allowance(offering.id, item) for item in offering.allowances}
    prices = tuple(_price(offering.id, item) for item in offering.usage_prices)
    purses = tuple(CompiledPurse(offering.id, item, Reach.of(item.scope)) for item in offering.money_allowances)
    reaches = [part.reach for parts in (brought, allowances.values(), prices, purses) for part in parts]
    return CompiledOffering(
        offering=offering,
        rules=brought,
        allowances=allowances,
        prices=prices,
        recurring_micros=_total(offering, "recurring"),
        one_time_micros=_total(offering, "one_time"),
        campaigns=tuple({rule.campaign.id: rule.campaign for rule in brought if rule.campaign}.values()),
        windows={reach.windows_key: reach.windows for reach in reaches if reach.windows},
        conditions={rule.rule.id: rule.rule.subscribers for rule in brought if rule.rule.subscribers},
        marks=_marks(brought),
        spends=tuple(sorted({micros for rule in brought for micros in _edges(rule.rule.spend)})),
        purses=purses,
    )


def _marks(rules: tuple[CompiledRule, ...]) -> dict[str, tuple[int, ...]]:
    found: dict[str, set[int]] = {}
    for rule in rules:
        condition = rule.rule.bucket
        if condition is not None and condition.state in ("fresh", "used"):
            found.setdefault(condition.allowance, set()).add(condition.percent or 0)
    return {allowance_id: tuple(sorted(percents)) for allowance_id, percents in found.items()}


def _edges(spend: SpendCondition | None) -> list[int]:
    amounts = (spend.at_least, spend.below) if spend else ()
    return [amount for amount in amounts if amount is not None]


def _allowance(offering_id: str, allowance: Allowance) -> CompiledAllowance:
    percents = tuple(sorted({percent for percent in allowance.notify_percents if percent < 100}))
    return CompiledAllowance(offering_id, allowance, Reach.of(allowance.scope), percents)


def _price(offering_id: str, price: UsagePrice) -> CompiledPrice:
    curve = curve_of(price)
    most = curve.octets_within(MAX_TOTAL_MICROS)
    limit = MAX_TOTAL_OCTETS if most is None else min(most, MAX_TOTAL_OCTETS)
    return CompiledPrice(price, Reach.of(price.scope), f"price:{offering_id}/{price.id}", limit, curve)


def _window(window: TimeWindow) -> Window:
    weekdays = frozenset(map(_WEEKDAYS.index, window.days or _WEEKDAYS))
    return Window(weekdays, _minute(window.start), _minute(window.end))


def _minute(time: str) -> int:
    return int(time[:2]) * 60 + int(time[3:])


def _window_key(window: Window) -> str:
    return f"{''.join(map(str, sorted(window.weekdays)))}@{window.start_minute}-{window.end_minute}"


def _total(offering: ProductOffering, price_type: str) -> int:
    return sum(price.amount for price in offering.prices if price.type == price_type)


def _ceil_div(number: int, divisor: int) -> int:
    return -(-number // divisor)
