"""Lint of scopes: what names traffic that is never seen, waits for another's, or pays for what never passes."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from schemas.catalogue import PccRule
from schemas.catalogue_scopes import Scope
from services.engine.scopes import WHOLE_WEEK, meet, traffic_of, week_of
from services.engine.tariff import Reach
from services.rating.catalogue_yaml import KeyPath
from services.rating.findings import Finding
from services.rating.tariff_lint_view import NEVER, Payer, RuleIndex, View, asked, is_sure


def traffic_of_nobody(view: View) -> Iterator[Finding]:
    """A scope whose applications are never of its categories, or whose services none of them has."""
    kinds = {item.id: frozenset(traffic_of(item)) for item in view.catalogue.applications}
    for place in _scopes(view) if kinds else ():
        yield from _unseen(view, place, kinds)


def buckets_elsewhere(view: View) -> Iterator[Finding]:
    """A rule that waits for an allowance from which none of its own traffic is paid."""
    told: set[str] = set()
    for offering in view.catalogue.offerings:
        reaches = {payer.part.id: payer.reach for payer in view.payers(offering) if payer.path[0] == "allowances"}
        for rule in map(view.rules.__getitem__, dict.fromkeys(offering.rules)):
            drawn = reaches.get(rule.bucket.allowance) if rule.bucket else None
            if drawn is None or rule.bucket is None or rule.id in told:
                continue
            mine = view.reach[rule.id]
            together = week_of(mine.windows) & week_of(drawn.windows)
            if not together or not meet(mine, drawn, view.category_of):
                told.add(rule.id)
                why = "of its scope" if together else "at its times"
                yield view.finding(
                    "bucket-elsewhere", ("rules", rule.id),
                    f"rule {rule.id!r} waits for the allowance {rule.bucket.allowance!r} of offering {offering.id!r}, "
                    f"from which no traffic {why} is ever paid",
                    "mend the rule's `scope` or its `bucket`", path=("bucket",), severity="warning",
                    others=(f"allowance {offering.id}/{rule.bucket.allowance}",),
                )  # fmt: skip


def paid_under_gate(view: View) -> Iterator[Finding]:
    """An allowance or a usage price whose traffic a closed gate takes before anything opens it."""
    openers = view.index(rule for rule in view.catalogue.rules if rule.gate_status == "open")
    for offering in view.catalogue.offerings:
        rules = [rule for rule in view.certain_rules(offering) if is_sure(_believed(rule))]
        gates = [rule for rule in rules if rule.gate_status == "closed"]
        for payer in view.payers(offering) if gates else ():
            yield from _gated(view, payer, gates, openers)


def windows_of_always(view: View) -> Iterator[Finding]:
    """Windows of a scope that are open all the week together: a time that was meant for something else."""
    for place in _scopes(view):
        windows = Reach.of(place.scope).windows
        if windows and week_of(windows) == WHOLE_WEEK:
            yield view.finding(
                "no-effect", (place.part, place.item_id), f"the windows of {place.name} are open at all times",
                "mend their days and times (a window that ends when it starts lasts a day), or remove them",
                path=(*place.path, "windows"), severity="warning",
            )  # fmt: skip


def networks_of_no_zone(view: View) -> Iterator[Finding]:
    """Zones for some countries, and none for the rest: who roams there is taken to be at home."""
    zones = view.catalogue.zones
    home = next((zone for zone in zones if zone.home), None)
    if home is not None and len(zones) > 1 and not any(zone.rest for zone in zones):
        yield view.finding(
            "gap", ("zones", home.id),
            f"networks that no zone lists count as zone {home.id!r}: whoever roams there is served as if at home",
            "give one zone `rest: true`", severity="warning",
        )  # fmt: skip


class _Place(NamedTuple):
    """A scope, and where it stands."""

    part: str
    item_id: str
    path: KeyPath
    name: str
    scope: Scope


def _scopes(view: View) -> Iterator[_Place]:
    for rule in view.catalogue.rules:
        yield _Place("rules", rule.id, ("scope",), f"rule {rule.id!r}", rule.scope)
    for offering in view.catalogue.offerings:
        for field in ("allowances", "usage_prices", "money_allowances"):
            for number, part in enumerate(getattr(offering, field)):
                name = f"{field.removesuffix('s').replace('_', ' ')} {offering.id}/{part.id}"
                yield _Place("offerings", offering.id, (field, number, "scope"), name, part.scope)


def _unseen(view: View, place: _Place, kinds: Mapping[str, frozenset[tuple[str, str | None]]]) -> Iterator[Finding]:
    scope = place.scope
    if not scope.services and not (scope.applications and scope.categories):
        return
    asked_of = scope.applications or tuple(kinds)
    silent = [name for name in scope.applications if not any(_fits(kind, scope) for kind in kinds[name])]
    heard = {service for name in asked_of for category, service in kinds[name] if _fits((category, None), scope, False)}
    unheard = [service for service in scope.services if service not in heard]
    if silent:
        of = " of category " + " or ".join(scope.categories) if scope.categories else ""
        what = f" with service {' or '.join(scope.services)}" if scope.services else ""
        field, told = "applications", f"no traffic of {_listed(silent)} is{of}{what}"
        nothing = len(silent) == len(scope.applications)
    elif unheard:
        whose = _listed(scope.applications) if scope.applications else _whose(scope)
        field, told = "services", f"{whose} has no service {_listed(unheard)}"
        nothing = len(unheard) == len(scope.services)
    else:
        return
    effect = "it never meets any traffic" if nothing else "that part of it never meets any traffic"
    yield view.finding(
        "no-traffic", (place.part, place.item_id), f"the scope of {place.name}: {told}, as far as the applications of "
        f"the catalogue say: {effect}",
        "mend the scope, or give the application a PFD with that service or category", path=(*place.path, field),
        severity="error" if nothing else "warning",
    )  # fmt: skip


def _fits(kind: tuple[str, str | None], scope: Scope, with_service: bool = True) -> bool:
    category, service = kind
    fits = not scope.categories or category in scope.categories
    return fits and (not with_service or not scope.services or service in scope.services)


def _whose(scope: Scope) -> str:
    return f"category {' or '.join(scope.categories)}" if scope.categories else "the catalogue"


def _listed(names: object) -> str:
    return ", ".join(map(repr, names))  # type: ignore[call-overload]


def _gated(view: View, payer: Payer, gates: list[PccRule], openers: RuleIndex) -> Iterator[Finding]:
    offering = payer.offering
    over = [gate for gate in gates if not _opened_before(view, gate, payer, openers)]
    how = view.taken(payer, over)
    if how is None:
        return
    names = ", ".join(repr(gate.id) for gate in over)
    yield view.finding(
        "paid-under-gate", ("offerings", offering.id),
        f"{payer.name} is {how}: for whoever holds offering "
        f"{offering.id!r}, the gate of {names} is closed for its traffic",
        "remove it, or bring a rule of a lower precedence that opens the gate", path=payer.path,
        severity="error" if how == NEVER else "warning", others=(payer.name, *(f"rule {gate.id}" for gate in over)),
    )  # fmt: skip


def _opened_before(view: View, gate: PccRule, payer: Payer, openers: RuleIndex) -> bool:
    """Whether a rule that is asked before the gate, and can be held with the payer, lets some of its traffic pass."""
    for rule in openers.that_may_meet(payer.part.scope.applications, view.plans_beside(payer.offering)):
        if asked(rule) > asked(gate):
            continue
        holders = view.holders[rule.id]
        if meet(view.reach[rule.id], payer.reach, view.category_of) and any(
            holder.id == payer.offering.id or view.holdings.together(holder, payer.offering) for holder in holders
        ):
            return True
    return False


def _believed(rule: PccRule) -> PccRule:
    """The rule as it is for traffic that nothing speaks against."""
    return rule.model_copy(update={"min_confidence": 0, "suspect": "any"})
