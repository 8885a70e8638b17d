"""Which applications a tariff treats otherwise than others of their category, by what, and in whose favour.

A statement of facts for those who have to judge them under Regulation (EU) 2015/2120: what names applications treats
them unequally, and what covers a whole category, or all traffic, treats its applications alike.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from schemas.catalogue import Application, Catalogue, PccRule, ProductOffering, QosProfile, Scope, UsagePrice
from schemas.units import format_micros, format_octets

Kind = Literal["zero_rated", "sponsored", "boosted", "throttled", "blocked", "steered", "own_volume", "own_price"]
"""What is done to the traffic. A volume or a price of its own is for it alone."""

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
    """What else the traffic has to be, by the lists of the scope."""
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


class NeutralityReport(msgspec.Struct, frozen=True, kw_only=True):
    """All of a catalogue version: what treats applications unequally, and what treats whole categories alike."""

    catalogue_version: str
    unequal: tuple[Inequality, ...]
    equal: tuple[Evenness, ...]


class _Measure(NamedTuple):
    kind: Kind
    by: str
    effect: str
    scope: Scope
    offerings: tuple[str, ...]


def neutrality(catalogue: Catalogue) -> NeutralityReport:
    """What `catalogue` does to the applications of each category. A rule that no offering brings does nothing."""
    unequal, equal = list[Inequality](), list[Evenness]()
    for measure in _measures(catalogue):
        if measure.scope.applications:
            unequal += _inequalities(measure, catalogue)
        else:
            equal += _evenness(measure)
    return NeutralityReport(
        catalogue_version=catalogue.version,
        unequal=tuple(sorted(unequal, key=lambda item: (item.category, item.kind, item.by))),
        equal=tuple(sorted(equal, key=lambda item: (item.category, item.kind, item.by))),
    )


def _measures(catalogue: Catalogue) -> Iterator[_Measure]:
    brought: dict[str, list[str]] = {}
    for offering in catalogue.offerings:
        for rule_id in offering.rules:
            brought.setdefault(rule_id, []).append(offering.id)
    for rule in catalogue.rules:
        offerings = tuple(dict.fromkeys(brought.get(rule.id, ())))
        for kind, effect in _effects(rule, catalogue) if offerings else ():
            yield _Measure(kind, f"rule {rule.id}", effect, rule.scope, offerings)
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
    raised = {
        "5QI": qos.five_qi, "ARP": qos.arp, "guaranteed bit/s up": qos.gbr_up_bps,
        "guaranteed bit/s down": qos.gbr_down_bps,
    }  # fmt: skip
    limited = {"at most bit/s up": qos.mbr_up_bps, "at most bit/s down": qos.mbr_down_bps}
    if any(value is not None for value in raised.values()):
        yield "boosted", _told({**raised, **limited})
    elif any(value is not None for value in limited.values()):
        yield "throttled", _told(limited)


def _told(values: dict[str, int | None]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _volumes_and_prices(offering: ProductOffering, catalogue: Catalogue) -> Iterator[_Measure]:
    for allowance in offering.allowances:
        if _is_narrow(allowance.scope):
            effect = f"{format_octets(allowance.octets)} of its own"
            yield _Measure(
                "own_volume", f"allowance {offering.id}/{allowance.id}", effect, allowance.scope, (offering.id,)
            )
    for price in offering.usage_prices:
        if _is_narrow(price.scope):
            effect = _priced(price, catalogue.currency)
            yield _Measure("own_price", f"price {offering.id}/{price.id}", effect, price.scope, (offering.id,))


def _is_narrow(scope: Scope) -> bool:
    return bool(scope.applications or scope.categories)


def _priced(price: UsagePrice, currency: str) -> str:
    return f"{format_micros(price.amount)} {currency} for {format_octets(price.per_octets)}"


def _inequalities(measure: _Measure, catalogue: Catalogue) -> Iterator[Inequality]:
    """One for each category that some of the named applications are in, where the category has others."""
    named = set(measure.scope.applications)
    members: dict[str, list[Application]] = {}
    for application in catalogue.applications:
        members.setdefault(application.category, []).append(application)
    for category, applications in members.items():
        mine = [item for item in applications if item.id in named]
        others = [item for item in applications if item.id not in named]
        if mine and others and (not measure.scope.categories or category in measure.scope.categories):
            yield Inequality(
                category=category, kind=measure.kind, by=measure.by, effect=measure.effect,
                conditions=_conditions(measure.scope), offerings=measure.offerings, applications=_treated(mine),
                others=_treated(others)[:MAX_OTHERS], others_count=len(others),
            )  # fmt: skip


def _evenness(measure: _Measure) -> Iterator[Evenness]:
    for category in measure.scope.categories or ("all",):
        yield Evenness(
            category=category, kind=measure.kind, by=measure.by, effect=measure.effect,
            conditions=_conditions(measure.scope), offerings=measure.offerings,
        )  # fmt: skip


def _conditions(scope: Scope) -> tuple[str, ...]:
    """The lists of a scope that narrow it besides applications and categories."""
    lists = scope.model_dump(mode="json", exclude_defaults=True, exclude={"applications", "categories"})
    return tuple(f"{name} {_listed(values)}" for name, values in lists.items())


def _listed(values: Iterable[object]) -> str:
    return ", ".join(_window(value) if isinstance(value, dict) else str(value) for value in values)


def _window(window: dict[str, object]) -> str:
    days = window.get("days") or ["daily"]
    return f"{'/'.join(map(str, days))} {window.get('start', '00:00')}-{window.get('end', '24:00')}"  # type: ignore[call-overload]


def _treated(applications: Iterable[Application]) -> tuple[Treated, ...]:
    found = [Treated(id=item.id, own=item.own) for item in applications]
    return tuple(sorted(found, key=lambda item: (not item.own, item.id)))
