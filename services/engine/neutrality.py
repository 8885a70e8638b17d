"""Which applications a tariff treats otherwise than others of their category, by what, and in whose favour.

A statement of facts for those who have to judge them under Regulation (EU) 2015/2120: what names applications treats
them unequally, and what covers a whole category, or all traffic, treats its applications alike. Nothing that is done to
an application is left out, and the operator's own services are listed whether anything is done to them or not.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from schemas.catalogue import Application, Catalogue, PccRule, ProductOffering, QosProfile, SpendCondition, UsagePrice
from schemas.catalogue_allowances import Allowance, MoneyAllowance
from schemas.catalogue_scopes import Scope
from schemas.fields import MAX_CONGESTION
from schemas.units import format_amount, format_micros, format_octets

REPORT_VERSION = "1.1"
"""Of the report as JSON: within 1.x keys and kinds are added, never renamed or removed."""

Kind = Literal[
    "zero_rated", "sponsored", "boosted", "throttled", "blocked", "steered", "own_volume", "own_price", "own_credit"
]
"""What is done to the traffic. A volume, a price or a credit of its own is for it alone."""

MAX_OTHERS = 20
"""Applications of the category that are named as treated otherwise; the rest is counted."""


class Treated(msgspec.Struct, frozen=True, kw_only=True):
    """An application, and whether it is the operator's own."""

    id: str
    own: bool


class Inequality(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in the catalogue that is for some applications of a category and not for the others."""

    category: str
    kind: Kind
    by: str
    """`rule <id>`, `allowance <offering>/<id>` or `price <offering>/<id>`."""
    effect: str
    """What it does, for people."""
    conditions: tuple[str, ...]
    """What else has to be true: the lists of the scope, and what a rule asks of buckets, money, network, account."""
    offerings: tuple[str, ...]
    """Offerings that bring it."""
    applications: tuple[Treated, ...]
    others: tuple[Treated, ...]
    """At most MAX_OTHERS of the category's other applications, the operator's own first."""
    others_count: int


class Evenness(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is for all applications of a category alike."""

    category: str
    kind: Kind
    by: str
    effect: str
    conditions: tuple[str, ...]
    offerings: tuple[str, ...]


class OwnService(msgspec.Struct, frozen=True, kw_only=True):
    """A service of the operator's own, and what is done to it by name."""

    id: str
    name: str
    category: str
    treated: tuple[str, ...]
    """Each as `<kind> by <rule, allowance or price>`; empty when nothing names it."""


class NeutralityReport(msgspec.Struct, frozen=True, kw_only=True):
    """All of a catalogue version: what treats applications unequally, and what treats whole categories alike."""

    version: str = REPORT_VERSION
    catalogue_version: str
    unequal: tuple[Inequality, ...]
    equal: tuple[Evenness, ...]
    own: tuple[OwnService, ...] = ()
    """All of the operator's own services."""


class _Measure(NamedTuple):
    kind: Kind
    by: str
    effect: str
    scope: Scope
    offerings: tuple[str, ...]
    conditions: tuple[str, ...]


def neutrality(catalogue: Catalogue) -> NeutralityReport:
    """What `catalogue` does to the applications of each category. A rule that no offering brings does nothing."""
    unequal, equal = list[Inequality](), list[Evenness]()
    measures = list(_measures(catalogue))
    for measure in measures:
        if not measure.scope.applications:
            equal += _evenness(measure)
            continue
        for found in _by_name(measure, catalogue):
            if isinstance(found, Inequality):
                unequal.append(found)
            else:
                equal.append(found)
    return NeutralityReport(
        catalogue_version=catalogue.version,
        unequal=tuple(sorted(unequal, key=lambda item: (item.category, item.kind, item.by))),
        equal=tuple(sorted(equal, key=lambda item: (item.category, item.kind, item.by))),
        own=tuple(_own(item, measures) for item in catalogue.applications if item.own),
    )


def _measures(catalogue: Catalogue) -> Iterator[_Measure]:
    brought: dict[str, list[str]] = {}
    for offering in catalogue.offerings:
        for rule_id in offering.rules:
            brought.setdefault(rule_id, []).append(offering.id)
    for rule in catalogue.rules:
        offerings = tuple(dict.fromkeys(brought.get(rule.id, ())))
        for kind, effect in _effects(rule, catalogue) if offerings else ():
            yield _Measure(kind, f"rule {rule.id}", effect, rule.scope, offerings, tuple(_asked(rule)))
    for offering in catalogue.offerings:
        yield from _volumes_and_prices(offering, catalogue)


def _effects(rule: PccRule, catalogue: Catalogue) -> Iterator[tuple[Kind, str]]:
    """What a rule does to its traffic; nothing for one that only names a rating group."""
    if rule.gate_status == "closed":
        yield "blocked", "does not pass"
        return
    if rule.charging == "free":
        yield "zero_rated", "free of charge"
    if rule.charging == "sponsored":
        sponsor = next((item.sponsor_id for item in catalogue.campaigns if item.id == rule.campaign), "?")
        yield "sponsored", f"paid for by {sponsor}"
    if rule.qos is not None:
        yield from _qualities(rule.qos)
    if rule.steering is not None:
        yield "steered", f"access {rule.steering}"
    if rule.redirect_url is not None:
        yield "steered", f"web requests go to {rule.redirect_url}"


def _qualities(qos: QosProfile) -> Iterator[tuple[Kind, str]]:
    classes = [f"{name} {value}" for name, value in (("5QI", qos.five_qi), ("ARP", qos.arp)) if value is not None]
    raised = [*classes, *_rates("at least", qos.gbr_up_bps, qos.gbr_down_bps)]
    limited = list(_rates("at most", qos.mbr_up_bps, qos.mbr_down_bps))
    if raised:
        yield "boosted", ", ".join(raised + limited)
    elif limited:
        yield "throttled", ", ".join(limited)


def _rates(word: str, up_bps: int | None, down_bps: int | None) -> Iterator[str]:
    for way, bps in (("up", up_bps), ("down", down_bps)):
        if bps is not None:
            yield f"{word} {_shown_rate(bps)} {way}"


def _shown_rate(bps: int) -> str:
    """The rate in the largest unit that leaves it whole."""
    for unit, size in (("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 10**3)):
        if bps and bps % size == 0:
            return f"{bps // size} {unit}"
    return f"{bps} bit/s"


def _asked(rule: PccRule) -> Iterator[str]:
    """What a rule asks for besides its scope: whether it is for times of congestion only matters to who judges it."""
    if rule.bucket is not None:
        percent = f" at {rule.bucket.percent} %" if rule.bucket.percent is not None else ""
        yield f"allowance {rule.bucket.allowance} {rule.bucket.state}{percent}"
    if rule.spend is not None:
        yield _spent(rule.spend)
    if rule.min_congestion or rule.max_congestion < MAX_CONGESTION:
        yield f"congestion {rule.min_congestion}-{rule.max_congestion}"
    if rule.suspect != "any":
        yield f"suspect {rule.suspect}"
    if rule.subscribers is not None:
        asked = rule.subscribers.model_dump(mode="json", exclude_defaults=True)
        yield from (f"{name} {_listed(value if isinstance(value, list) else [value])}" for name, value in asked.items())


def _spent(spend: SpendCondition) -> str:
    bounds = (("from", spend.at_least), ("below", spend.below))
    return "spent " + " ".join(f"{word} {format_micros(micros)}" for word, micros in bounds if micros is not None)


def _volumes_and_prices(offering: ProductOffering, catalogue: Catalogue) -> Iterator[_Measure]:
    parts: list[tuple[Kind, str, Allowance | UsagePrice | MoneyAllowance, str]] = [
        *(("own_volume", "allowance", item, _granted(item)) for item in offering.allowances),
        *(("own_price", "price", item, _priced(item, catalogue.currency)) for item in offering.usage_prices),
        *(
            (
                "own_credit",
                "money allowance",
                item,
                f"{format_micros(item.amount)} {catalogue.currency} that pays for it",
            )
            for item in offering.money_allowances
        ),
    ]
    for kind, word, part, effect in parts:
        if part.scope.applications or part.scope.categories:
            yield _Measure(kind, f"{word} {offering.id}/{part.id}", effect, part.scope, (offering.id,), ())


def _granted(allowance: Allowance) -> str:
    ends = {"continue": "", "throttle": ", then free at a low rate", "block": ", then nothing passes"}
    amount = allowance.amount
    granted = format_octets(amount) if allowance.unit == "octets" else format_amount(amount, allowance.unit)
    return f"{granted} of its own{ends[allowance.on_exhausted]}"


def _priced(price: UsagePrice, currency: str) -> str:
    unit = format_octets(price.per_octets)
    if price.unit == "connection":
        unit = f"{price.per_connections} connections" if price.per_connections > 1 else "a connection"
    told = f"{format_micros(price.amount)} {currency} for {unit}"
    if price.tiers:
        told += ", down to " if price.tiers[-1].amount < price.amount else ", up to "
        told += format_micros(price.tiers[-1].amount)
    if price.cap is not None:
        told += f"; at most {format_micros(price.cap)} a cycle, then {'free' if price.on_cap == 'free' else 'blocked'}"
    return told


def _by_name(measure: _Measure, catalogue: Catalogue) -> Iterator[Inequality | Evenness]:
    """One for each category that some of the named applications can be in: their own, or that of a service of theirs.

    Where a category has no others in the catalogue, the row stands with what treats categories alike, and names them.
    """
    named = set(measure.scope.applications)
    members: dict[str, list[Application]] = {}
    for application in catalogue.applications:
        for category in _categories(application):
            members.setdefault(category, []).append(application)
    for category, applications in members.items():
        mine = [item for item in applications if item.id in named]
        others = [item for item in applications if item.id not in named]
        if not mine or (measure.scope.categories and category not in measure.scope.categories):
            continue
        if all(item.category != category for item in mine) and category not in measure.scope.categories:
            continue  # Only a service of theirs is in it, and the measure does not single that out.
        if others:
            yield Inequality(
                category=category, kind=measure.kind, by=measure.by, effect=measure.effect,
                conditions=_conditions(measure), offerings=measure.offerings, applications=_treated(mine),
                others=_treated(others)[:MAX_OTHERS], others_count=len(others),
            )  # fmt: skip
        else:
            names = ", ".join(f"{item.id}*" if item.own else item.id for item in _treated(mine))
            everyone = f"by name: {names}, all of the category that the catalogue knows"
            yield Evenness(
                category=category, kind=measure.kind, by=measure.by, effect=measure.effect,
                conditions=(everyone, *_conditions(measure)), offerings=measure.offerings,
            )  # fmt: skip


def _categories(application: Application) -> list[str]:
    """The category of an application, and those of its services that are rated elsewhere."""
    of_services = (pfd.category for pfd in application.pfds)
    found = (application.category, application.media_category, *of_services)
    return list(dict.fromkeys(category for category in found if category is not None))


def _own(application: Application, measures: Iterable[_Measure]) -> OwnService:
    treated = (f"{item.kind} by {item.by}" for item in measures if application.id in item.scope.applications)
    return OwnService(
        id=application.id, name=application.name, category=application.category, treated=tuple(dict.fromkeys(treated))
    )


def _evenness(measure: _Measure) -> Iterator[Evenness]:
    for category in measure.scope.categories or ("all",):
        yield Evenness(
            category=category, kind=measure.kind, by=measure.by, effect=measure.effect,
            conditions=_conditions(measure), offerings=measure.offerings,
        )  # fmt: skip


def _conditions(measure: _Measure) -> tuple[str, ...]:
    """What narrows a measure besides applications and categories."""
    lists = measure.scope.model_dump(mode="json", exclude_defaults=True, exclude={"applications", "categories"})
    return (*(f"{name} {_listed(values)}" for name, values in lists.items()), *measure.conditions)


def _listed(values: Iterable[object]) -> str:
    return ", ".join(_window(value) if isinstance(value, dict) else str(value) for value in values)


def _window(window: dict[str, object]) -> str:
    days = window.get("days") or ["daily"]
    return f"{'/'.join(map(str, days))} {window.get('start', '00:00')}-{window.get('end', '24:00')}"  # type: ignore[call-overload]


def _treated(applications: Iterable[Application]) -> tuple[Treated, ...]:
    found = [Treated(id=item.id, own=item.own) for item in applications]
    return tuple(sorted(found, key=lambda item: (not item.own, item.id)))
