"""Which applications a tariff treats otherwise than others of their category, by what, and in whose favour.

A statement of facts for those who have to judge them under Regulation (EU) 2015/2120: what names applications treats
them unequally, and what covers a whole category, or all traffic, treats its applications alike. Nothing that is done to
an application is left out, and the operator's own services are listed whether anything is done to them or not.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from schemas.catalogue import (
    Application,
    Catalogue,
    PccRule,
    ProductOffering,
    QosProfile,
    SpendCondition,
    SubscriberCondition,
    UsagePrice,
)
from schemas.catalogue_allowances import Allowance, MoneyAllowance
from schemas.catalogue_scopes import Scope
from schemas.fields import MAX_CONGESTION
from schemas.units import format_amount, format_micros, format_octets
from services.engine.holdings import Holdings
from services.engine.scopes import OF_ANYBODY, meet, traffic_of, week_of
from services.engine.tariff import Reach

REPORT_VERSION = "1.2"
"""Of the report as JSON: within 1.x keys and kinds are added, never renamed or removed."""

Kind = Literal[
    "zero_rated", "sponsored", "boosted", "throttled", "blocked", "steered", "own_volume", "own_price", "own_credit",
    "left_out",
]  # fmt: skip
"""What is done to the traffic. A volume, a price or a credit of its own is for it alone; what is left out is under a
rule that is asked before one for its whole category, and does not do what that does."""

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
    named: tuple[str, ...] = ()
    """Applications that the scope singles out: by name, or by services that nobody else has."""


class _Brought(NamedTuple):
    """A rule that some offering brings."""

    rule: PccRule
    reach: Reach
    holders: tuple[ProductOffering, ...]
    named: tuple[str, ...]


def neutrality(catalogue: Catalogue) -> NeutralityReport:
    """What `catalogue` does to the applications of each category. A rule that no offering brings does nothing."""
    unequal, equal = list[Inequality](), list[Evenness]()
    measures = list(_measures(catalogue))
    for measure in measures:
        if not measure.named:
            equal += _evenness(measure, catalogue)
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
    brought = list(_brought(catalogue))
    for item in brought:
        for kind, effect in _effects(item.rule, catalogue):
            yield _measure_of(item, kind, effect, item.rule.scope)
    yield from _left_out(brought, catalogue)
    for offering in catalogue.offerings:
        yield from _volumes_and_prices(offering, catalogue)


def _brought(catalogue: Catalogue) -> Iterator[_Brought]:
    holders: dict[str, dict[str, ProductOffering]] = {}
    for offering in catalogue.offerings:
        for rule_id in offering.rules:
            holders.setdefault(rule_id, {})[offering.id] = offering
    for rule in catalogue.rules:
        if rule.id in holders:
            named = _singled_out(rule.scope, catalogue)
            yield _Brought(rule, Reach.of(rule.scope), tuple(holders[rule.id].values()), named)


def _measure_of(item: _Brought, kind: Kind, effect: str, scope: Scope) -> _Measure:
    conditions = (*_asked(item.rule), *(words for holder in item.holders for words in _eligible(holder)))
    offerings = tuple(holder.id for holder in item.holders)
    return _Measure(kind, f"rule {item.rule.id}", effect, scope, offerings, conditions, item.named)


def _singled_out(scope: Scope, catalogue: Catalogue) -> tuple[str, ...]:
    """The applications that a scope names, or that alone have the services that it names.

    Services that several providers have, such as calls, are a kind of traffic; those of one alone are that one's.
    """
    if scope.applications or not scope.services:
        return scope.applications
    having = [item for item in catalogue.applications if _has_service(item, scope)]
    providers = {item.provider or item.id for item in having}
    alone = len(providers) == 1 or (having and all(item.own for item in having))
    return tuple(item.id for item in having) if alone else ()


def _has_service(application: Application, scope: Scope) -> bool:
    return any(
        service in scope.services and (not scope.categories or category in scope.categories)
        for category, service in traffic_of(application)
        if service not in OF_ANYBODY
    )


def _left_out(brought: Sequence[_Brought], catalogue: Catalogue) -> Iterator[_Measure]:
    """What is taken out of a rule for a whole category by another that is asked before it, and names applications."""
    holdings, category_of = Holdings(catalogue), {item.id: item.category for item in catalogue.applications}
    wide: dict[str | None, list[tuple[_Brought, list[tuple[Kind, str]]]]] = {}
    for item in brought:
        effects = [] if item.named else list(_effects(item.rule, catalogue))
        for plan in _plans(item, holdings) if effects else ():
            wide.setdefault(plan, []).append((item, effects))
    for item in brought:
        mine, plans = set(_effects(item.rule, catalogue)), _plans(item, holdings) if item.named else []
        near = (pair for plan in (tuple(wide) if None in plans else (*plans, None)) for pair in wide.get(plan, ()))
        for other, effects in {pair[0].rule.id: pair for pair in near if plans}.values():
            missed = [pair for pair in effects if pair not in mine]
            if missed and _comes_before(item, other, holdings, category_of):
                lists = {"categories": item.rule.scope.categories or other.rule.scope.categories}
                told = ", ".join(effect for _, effect in missed)
                effect = f"asked before rule {other.rule.id}, and does not do what that does: {told}"
                yield _measure_of(item, "left_out", effect, item.rule.scope.model_copy(update=lists))


def _plans(item: _Brought, holdings: Holdings) -> list[str | None]:
    """The base plans on which a rule can be held; None stands for any."""
    found = [holdings.plans_of(holder.id) for holder in item.holders]
    return list(dict.fromkeys(plan for plans in found for plan in ((None,) if plans is None else sorted(plans))))


def _comes_before(one: _Brought, other: _Brought, holdings: Holdings, category_of: Mapping[str, str]) -> bool:
    """Whether an account can hold both for the same traffic, and `one` is asked first."""
    if (one.rule.precedence, one.rule.id) > (other.rule.precedence, other.rule.id):
        return False
    pairs = itertools.product(one.holders, other.holders)
    together = any(mine.id == theirs.id or holdings.together(mine, theirs) for mine, theirs in pairs)
    times = week_of(one.reach.windows) & week_of(other.reach.windows)
    return together and bool(times) and meet(one.reach, other.reach, category_of)


def _effects(rule: PccRule, catalogue: Catalogue) -> Iterator[tuple[Kind, str]]:
    """What a rule does to its traffic; nothing for one that only names a rating group."""
    if rule.gate_status == "closed":
        yield "blocked", "does not pass"
        if rule.redirect_url is not None:
            yield "steered", f"web requests go to {rule.redirect_url}"
        return
    if rule.charging == "free":
        yield "zero_rated", "free of charge"
    if rule.charging == "sponsored":
        campaign = next(item for item in catalogue.campaigns if item.id == rule.campaign)
        ends = campaign.budget is not None and campaign.budget.on_empty == "block"
        yield "sponsored", f"paid for by {campaign.sponsor_id}{'; when its budget is used up, does not pass' * ends}"
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
    if rule.min_confidence:
        yield f"confidence from {rule.min_confidence}"
    if rule.suspect != "any":
        yield f"suspect {rule.suspect}"
    if rule.subscribers is not None:
        yield from _people(rule.subscribers)


def _eligible(offering: ProductOffering) -> Iterator[str]:
    """Whom an offering is for."""
    if offering.eligibility is not None:
        yield from (f"{offering.id} for {words}" for words in _people(offering.eligibility))


def _people(condition: SubscriberCondition) -> Iterator[str]:
    asked = condition.model_dump(mode="json", exclude_defaults=True)
    yield from (f"{name} {_listed(value if isinstance(value, list) else [value])}" for name, value in asked.items())


def _spent(spend: SpendCondition) -> str:
    bounds = (("from", spend.at_least), ("below", spend.below))
    return "spent " + " ".join(f"{word} {format_micros(micros)}" for word, micros in bounds if micros is not None)


def _volumes_and_prices(offering: ProductOffering, catalogue: Catalogue) -> Iterator[_Measure]:
    parts: list[tuple[Kind, str, Allowance | UsagePrice | MoneyAllowance, str]] = [
        *(("own_volume", "allowance", item, _granted(item)) for item in offering.allowances),
        *((_kind_of(item), "price", item, _priced(item, catalogue.currency)) for item in offering.usage_prices),
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
        if part.scope.applications or part.scope.categories or part.scope.services:
            named, by = _singled_out(part.scope, catalogue), f"{word} {offering.id}/{part.id}"
            yield _Measure(kind, by, effect, part.scope, (offering.id,), tuple(_eligible(offering)), named)


def _kind_of(price: UsagePrice) -> Kind:
    """A price of nothing makes free, as a rule does."""
    nothing = not price.amount and not any(tier.amount for tier in price.tiers)
    return "zero_rated" if nothing or (price.cap == 0 and price.on_cap == "free") else "own_price"


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
    named = set(measure.named)
    members: dict[str, list[Application]] = {}
    for application in catalogue.applications:
        for category in _categories(application):
            members.setdefault(category, []).append(application)
    for category, applications in members.items():
        mine = [item for item in applications if item.id in named and _is_met_in(category, item, measure.scope)]
        others = [item for item in applications if item.id not in named]
        if not mine or (measure.scope.categories and category not in measure.scope.categories):
            continue
        if others:
            yield Inequality(
                category=category, kind=measure.kind, by=measure.by, effect=measure.effect,
                conditions=(*_through(mine, category, measure.scope), *_conditions(measure)),
                offerings=measure.offerings, applications=_treated(mine), others=_treated(others)[:MAX_OTHERS],
                others_count=len(others),
            )  # fmt: skip
        else:
            names = ", ".join(f"{item.id}*" if item.own else item.id for item in _treated(mine))
            everyone = f"by name: {names}, all of the category that the catalogue knows"
            yield Evenness(
                category=category, kind=measure.kind, by=measure.by, effect=measure.effect,
                conditions=(everyone, *_conditions(measure)), offerings=measure.offerings,
            )  # fmt: skip


def _is_met_in(category: str, application: Application, scope: Scope) -> bool:
    """Whether a scope meets an application in a category; in its own, where the catalogue knows no such service."""
    if _services_in(application, category, scope):
        return True
    elsewhere = any(_services_in(application, other, scope) for other in _categories(application))
    return application.category == category and not elsewhere


def _services_in(application: Application, category: str, scope: Scope) -> list[str | None]:
    """The services of an application that a scope meets in a category; None is all that is no service of it."""
    return [
        service
        for its_category, service in traffic_of(application)
        if its_category == category and (service in scope.services if scope.services else service not in OF_ANYBODY)
    ]


def _through(applications: Sequence[Application], category: str, scope: Scope) -> tuple[str, ...]:
    """Where only a service of theirs is in the category, such as calls inside a network: which."""
    if scope.services or any(item.category == category for item in applications):
        return ()
    found = {service or "its media" for item in applications for service in _services_in(item, category, scope)}
    return (f"through {', '.join(sorted(found))}",)


def _categories(application: Application) -> list[str]:
    """The category of an application, and those of its services that are rated elsewhere."""
    of_services = (pfd.category for pfd in application.pfds)
    found = (application.category, application.media_category, *of_services)
    return list(dict.fromkeys(category for category in found if category is not None))


def _own(application: Application, measures: Iterable[_Measure]) -> OwnService:
    treated = (f"{item.kind} by {item.by}" for item in measures if application.id in item.named)
    return OwnService(
        id=application.id, name=application.name, category=application.category, treated=tuple(dict.fromkeys(treated))
    )


def _evenness(measure: _Measure, catalogue: Catalogue) -> Iterator[Evenness]:
    having: tuple[str, ...] = ()
    if any(service not in OF_ANYBODY for service in measure.scope.services):
        count = sum(_has_service(item, measure.scope) for item in catalogue.applications)
        having = (f"{count} of {len(catalogue.applications)} applications have such a service",)
    for category in measure.scope.categories or ("all",):
        yield Evenness(
            category=category, kind=measure.kind, by=measure.by, effect=measure.effect,
            conditions=(*_conditions(measure), *having), offerings=measure.offerings,
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
