"""Lint of sales: offerings that nobody can order, that are not sold any more, or that charge what was not meant."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from schemas.catalogue import PccRule, ProductOffering
from services.rating.catalogue_yaml import KeyPath
from services.rating.findings import Finding
from services.rating.tariff_lint_view import View

SHORTEST_CYCLE_DAYS = 28
"""A term of as many days can meet a cycle's price only once in nearly all cycles."""

UNSOLD = "which nobody can order"


def unorderable(view: View) -> Iterator[Finding]:
    """An offering on sale that wants something beside it which nobody can hold beside it, or which is off sale."""
    held = _that_can_be_held(view)
    for offering in view.catalogue.offerings:
        if view.on_sale(offering):
            for wanted in _wanted(offering):
                yield from _unmet(view, offering, wanted, held)


def sales_that_are_over(view: View) -> Iterator[Finding]:
    """An offering that is called active after its sale has ended."""
    for offering in view.catalogue.offerings:
        if offering.lifecycle_status == "active" and not view.on_sale(offering):
            yield view.finding(
                "sale-over", ("offerings", offering.id),
                f"offering {offering.id!r} is active, and its sale ended at {offering.valid_until_ms}: every order of "
                "it is refused",
                "write `lifecycle_status: retired`, or prolong it", path=("valid_until_ms",), severity="warning",
            )  # fmt: skip


def recurring_passes(view: View) -> Iterator[Finding]:
    """A pass with a price for each cycle: without a term it never ends, and within a short one it comes twice."""
    for offering in view.catalogue.offerings:
        if offering.kind != "pass" or offering.renewal != "none":
            continue
        for place, price in enumerate(offering.prices):
            if price.type != "recurring" or not price.amount:
                continue
            if offering.term_days is None:
                told = "is charged each cycle, and the pass has no term: it never ends by itself"
                step = "give it `term_days`, or make the price `one_time`"
            elif price.proration == "none" and offering.term_days < SHORTEST_CYCLE_DAYS:
                told = f"is charged whole once more when a cycle begins within the {offering.term_days} days"
                step = "make it a `one_time` price, or give it `proration: daily`"
            else:
                continue
            yield view.finding(
                "pass-price", ("offerings", offering.id),
                f"recurring price {price.id!r} of pass {offering.id!r} {told}", step, path=("prices", place),
                severity="warning",
            )  # fmt: skip


def endless_passes(view: View) -> Iterator[Finding]:
    """A pass that is paid for once, has no term, and brings what never ends by itself."""
    for offering in view.catalogue.offerings:
        if offering.kind != "pass" or offering.term_days is not None:
            continue
        if any(price.type == "recurring" and price.amount for price in offering.prices):
            continue
        own = {allowance.id for allowance in offering.allowances if allowance.validity == "once"}
        rules = [view.rules[name] for name in offering.rules]
        lasting = [f"rule {rule.id!r}" for rule in rules if not _waits_for(rule, own)]
        lasting += [f"allowance {item.id!r}" for item in offering.allowances if item.validity == "cycle"]
        lasting += [f"usage price {price.id!r}" for price in offering.usage_prices]
        if lasting:
            yield view.finding(
                "pass-price", ("offerings", offering.id),
                f"pass {offering.id!r} has no term, and {' and '.join(lasting)} of it last until somebody cancels it",
                "give it `term_days`, or make it an add_on", path=("kind",), severity="warning",
            )  # fmt: skip


def _waits_for(rule: PccRule, allowances: set[str]) -> bool:
    """Whether a rule is in force only as long as one of these allowances lasts."""
    return rule.bucket is not None and rule.bucket.allowance in allowances and rule.bucket.state != "exhausted"


class _Wanted(NamedTuple):
    """Offerings one of which has to be held, where they stand, and in what word."""

    names: Sequence[str]
    path: KeyPath
    word: str


def _wanted(offering: ProductOffering) -> Iterator[_Wanted]:
    if offering.requires:
        yield _Wanted(offering.requires, ("requires",), "requires")
    if offering.eligibility is not None and offering.eligibility.offerings:
        yield _Wanted(offering.eligibility.offerings, ("eligibility", "offerings"), "is only for holders of")


def _that_can_be_held(view: View) -> frozenset[str]:
    """What somebody holds, or can come to hold by one order after the other; what is off sale is held already."""
    held = {item.id for item in view.catalogue.offerings if not view.on_sale(item)}
    waiting = [item for item in view.catalogue.offerings if view.on_sale(item)]
    while True:
        found = [item for item in waiting if all(_some(view, item, wanted.names, held) for wanted in _wanted(item))]
        if not found:
            return frozenset(held)
        held.update(item.id for item in found)
        waiting = [item for item in waiting if item.id not in held]


def _some(view: View, offering: ProductOffering, names: Sequence[str], held: set[str]) -> bool:
    return any(name in held and view.holdings.together(offering, view.offerings[name]) for name in names)


def _unmet(view: View, offering: ProductOffering, wanted: _Wanted, held: frozenset[str]) -> Iterator[Finding]:
    names, path, word = wanted
    possible = [name for name in names if _why_not(view, offering, name, held) is None]
    reasons = {name: why for name in names if (why := _why_not(view, offering, name, held))}
    # Where another one will do, what is wrong with an offering is told of itself, not of all that name it.
    never = {name: why for name, why in reasons.items() if not possible or why != UNSOLD}
    sold = [name for name in possible if _sold_in_time(view, offering, view.offerings[name])]
    if never:
        told = "; ".join(f"{name!r}, {why}" for name, why in never.items())
        effect = "" if possible else ", so nobody can order it"
        step = f"take it out of `{'.'.join(map(str, path))}`, or mend what stands against it"
    elif not sold:
        told, effect = (
            ", ".join(map(repr, names)),
            ", off sale when it is sold: only who holds one already can order it",
        )
        step = "put one on sale, or leave it if that is meant"
    else:
        return
    yield view.finding(
        "unorderable", ("offerings", offering.id), f"offering {offering.id!r} {word} {told}{effect}", step, path=path,
        severity="warning" if possible else "error", others=tuple(f"offering {name}" for name in never or names),
    )  # fmt: skip


def _why_not(view: View, offering: ProductOffering, name: str, held: frozenset[str]) -> str | None:
    """Why nobody holds `name` beside the offering; None when somebody can."""
    other = view.offerings[name]
    if name == offering.id:
        return None if name in held else "which is itself"
    if name in offering.excludes or offering.id in other.excludes:
        return "and the two exclude each other"
    if other.kind == offering.kind == "base_plan":
        return "and an account has one base plan at a time"
    if not view.holdings.together(offering, other):
        return "which stands on other plans, or is for other people"
    return None if name in held else UNSOLD


def _sold_in_time(view: View, offering: ProductOffering, other: ProductOffering) -> bool:
    """Whether the other is on sale, and still is when the offering's own sale begins."""
    ended = other.valid_until_ms is not None and other.valid_until_ms <= offering.valid_from_ms
    return view.on_sale(other) and not ended
