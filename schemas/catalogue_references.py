"""What has to agree between the objects of a catalogue: names that are used exist, and none means two things."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.catalogue import Catalogue, SubscriberCondition
    from schemas.catalogue_scopes import Scope, Zone


def problems_of(catalogue: "Catalogue") -> Iterator[str]:
    """What is wrong between the objects of `catalogue`, each as a sentence with the next step."""
    groups: dict[str, list[str]] = {
        "application": [item.id for item in catalogue.applications],
        "offering": [item.id for item in catalogue.offerings],
        "rule": [item.id for item in catalogue.rules],
        "campaign": [item.id for item in catalogue.campaigns],
        "zone": [item.id for item in catalogue.zones],
    }
    for kind, ids in groups.items():
        for duplicate in sorted({item for item in ids if ids.count(item) > 1} if len(ids) != len(set(ids)) else ()):
            yield f"{kind} {duplicate!r} is defined twice; keep one"
    yield from _ambiguous_prices(catalogue)
    known = {kind: set(ids) for kind, ids in groups.items()}
    for holder, kind, reference in _references(catalogue):
        if reference not in known[kind]:
            yield f"{holder} names {kind} {reference!r}, which does not exist; define it or mend the name"
    yield from _zone_problems(catalogue.zones)


def _zone_problems(zones: "tuple[Zone, ...]") -> Iterator[str]:
    owners: dict[str, str] = {}
    for zone in zones:
        if zone.home and zone.rest:
            yield f"zone {zone.id!r} is home and rest; remove one of the two"
        for plmn in zone.plmns:
            if (owner := owners.setdefault(plmn, zone.id)) != zone.id:
                yield f"zone {zone.id!r} lists network {plmn!r}, which zone {owner!r} lists already; keep one"
    for quality in ("home", "rest"):
        having = [zone.id for zone in zones if getattr(zone, quality)]
        for zone_id in having[1:]:
            yield f"zone {zone_id!r} is {quality}, and so is zone {having[0]!r}; keep one"


def _ambiguous_prices(catalogue: "Catalogue") -> Iterator[str]:
    units: dict[str, str] = {}
    for offering in catalogue.offerings:
        for price in offering.usage_prices:
            if units.setdefault(price.id, price.unit) != price.unit:
                yield f"price {price.id!r} prices octets in one place and connections in another; rename one"


def _references(catalogue: "Catalogue") -> Iterator[tuple[str, str, str]]:
    for rule in catalogue.rules:
        yield from _named(f"rule {rule.id!r}", rule.scope)
        yield from _held(f"rule {rule.id!r}", rule.subscribers)
        if rule.campaign:
            yield f"rule {rule.id!r}", "campaign", rule.campaign
    for offering in catalogue.offerings:
        holder = f"offering {offering.id!r}"
        yield from ((holder, "rule", item) for item in offering.rules)
        yield from ((holder, "offering", item) for item in (*offering.requires, *offering.excludes))
        yield from _held(holder, offering.eligibility)
        scopes = [item.scope for item in offering.allowances] + [item.scope for item in offering.usage_prices]
        scopes += [item.scope for item in offering.money_allowances]
        for scope in scopes:
            yield from _named(holder, scope)


def _named(holder: str, scope: "Scope") -> Iterator[tuple[str, str, str]]:
    yield from ((holder, "application", item) for item in scope.applications)
    yield from ((holder, "zone", item) for item in scope.zones)


def _held(holder: str, condition: "SubscriberCondition | None") -> Iterator[tuple[str, str, str]]:
    yield from ((holder, "offering", item) for item in (condition.offerings if condition else ()))
