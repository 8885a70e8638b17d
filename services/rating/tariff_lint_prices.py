"""Lint of prices: ids that are no names, prices that fall as usage grows, and money asked for what is free."""

import itertools
from collections.abc import Iterator, Sequence

from schemas.catalogue import PccRule, ProductOffering, UsagePrice
from schemas.catalogue_allowances import Allowance
from schemas.units import format_amount, format_micros
from services.engine.prices import curve_of
from services.engine.scopes import covers, meet, uncovered
from services.rating.findings import Finding
from services.rating.tariff_lint_view import Payer, View, asked, is_sure

_UNSURE = {"min_confidence": 0, "suspect": "any"}


def ids_of_parts(view: View) -> Iterator[Finding]:
    """Two allowances or prices of one offering with one id: they share a bucket's name, a total and a cap."""
    for offering in view.catalogue.offerings:
        for field in ("allowances", "usage_prices", "prices"):
            seen: set[str] = set()
            for place, part in enumerate(getattr(offering, field)):
                if part.id in seen:
                    yield view.finding(
                        "duplicate-id", ("offerings", offering.id),
                        f"offering {offering.id!r} has two {field} {part.id!r}; nothing can tell their volumes, totals "
                        "and caps apart",
                        "rename one", path=(field, place),
                    )  # fmt: skip
                seen.add(part.id)


def usage_price_ids(view: View) -> Iterator[Finding]:
    """One usage price id in two offerings: decisions, usage and caps name the id alone."""
    owners: dict[str, ProductOffering] = {}
    for offering in view.catalogue.offerings:
        for place, price in enumerate(offering.usage_prices):
            owner = owners.setdefault(price.id, offering)
            if owner is offering:
                continue
            both = view.holdings.together(owner, offering)
            reason = (
                "an account that holds both is told of one cap for two" if both else "reports cannot tell them apart"
            )
            yield view.finding(
                "price-id", ("offerings", offering.id),
                f"usage price {price.id!r} of offering {offering.id!r} has the id of one of offering {owner.id!r}; "
                f"decisions and usage name a price by its id alone: {reason}",
                f"rename one, e.g. {offering.id}-{price.id}", path=("usage_prices", place),
                severity="error" if both else "warning", others=(f"offering {owner.id}",),
            )  # fmt: skip


def falling_tiers(view: View) -> Iterator[Finding]:
    """A volume price with a cliff: one octet more makes all the others cheaper."""
    for offering in view.catalogue.offerings:
        for place, price in enumerate(offering.usage_prices):
            if price.tier_mode != "volume":
                continue
            amounts = [price.amount, *(tier.amount for tier in price.tiers)]
            for number, (dear, cheap) in enumerate(itertools.pairwise(amounts)):
                if cheap < dear:
                    above = price.tiers[number].above
                    yield view.finding(
                        "price-cliff", ("offerings", offering.id),
                        f"usage price {price.id!r}: with the octet after {above} all octets cost "
                        f"{format_micros(cheap)} instead of {format_micros(dear)} a unit; the charge stays level "
                        f"{_until(above, dear, cheap)}",
                        "use `tier_mode: graduated`, where each octet costs what its own tier says",
                        path=("usage_prices", place, "tiers", number), severity="warning",
                    )  # fmt: skip


def caps_below_a_unit(view: View) -> Iterator[Finding]:
    """A cap that is reached before the first unit is paid for, so that nothing is ever sold."""
    for offering in view.catalogue.offerings:
        for place, price in enumerate(offering.usage_prices):
            if price.cap and curve_of(price).octets_within(price.cap) == 0:
                yield view.finding(
                    "price-cliff", ("offerings", offering.id),
                    f"usage price {price.id!r}: the cap of {format_micros(price.cap)} is below the price of the first "
                    f"unit, {format_micros(price.amount)}; it is reached before anything is sold",
                    "raise the cap, or write `cap: 0` if nothing is for sale", path=("usage_prices", place),
                )  # fmt: skip


def packs_dearer_than_usage(view: View) -> Iterator[Finding]:
    """A pack that costs no less than its whole volume costs without it."""
    for offering in view.catalogue.offerings:
        fee = _fee(offering)
        if offering.kind == "base_plan" or not fee or not view.on_sale(offering) or len(offering.allowances) != 1:
            continue
        payer = view.payers(offering)[0]
        allowance = offering.allowances[0]
        costs = [(plan, _usage_cost(view, plan, payer, allowance)) for plan in _plans_under(view, offering)]
        known = [(plan, cost) for plan, cost in costs if cost is not None]
        if (
            known
            and len(known) == len(costs)
            and all(cost <= fee for _, cost in known)
            and not _brings_quality(view, offering)
        ):
            plan, cost = max(known, key=lambda item: item[1])
            yield view.finding(
                "price-cliff", ("offerings", offering.id),
                f"offering {offering.id!r} costs {format_micros(fee)}, and its {allowance.amount} octets cost "
                f"{format_micros(cost)} at most without it, in plan {plan.id!r}",
                "lower its price, or raise its volume", severity="warning", path=("prices",),
                others=(f"offering {plan.id}",),
            )  # fmt: skip


def bigger_packs_cheaper(view: View) -> Iterator[Finding]:
    """Of two packs that differ in volume alone, the bigger costs no more: nobody should buy the smaller."""
    ladders: dict[object, list[ProductOffering]] = {}
    for offering in view.catalogue.offerings:
        if _fee(offering) and view.on_sale(offering) and len(offering.allowances) == 1:
            ladders.setdefault(_ladder(view, offering), []).append(offering)
    for offerings in ladders.values():
        steps = sorted(offerings, key=lambda item: (item.allowances[0].amount, _fee(item)))
        for small, big in itertools.pairwise(steps):
            most, less = big.allowances[0], small.allowances[0]
            if _fee(big) <= _fee(small) and most.amount > less.amount:
                more, fewer = (format_amount(item.amount, item.unit) for item in (most, less))
                yield view.finding(
                    "price-cliff", ("offerings", big.id),
                    f"offering {big.id!r} has {more} for {format_micros(_fee(big))}, and "
                    f"{small.id!r} has {fewer} of the same for {format_micros(_fee(small))}",
                    "raise the one price, or lower the other", severity="warning", path=("prices",),
                    others=(f"offering {small.id}",),
                )  # fmt: skip


def paid_under_free(view: View) -> Iterator[Finding]:
    """An allowance or a usage price for traffic that a free rule takes before it: it can never be drawn."""
    for offering in view.catalogue.offerings:
        rules = [rule for rule in view.certain_rules(offering) if is_sure(rule.model_copy(update=_UNSURE))]
        free = [rule for rule in rules if rule.charging == "free" and rule.gate_status == "open"]
        for payer in view.payers(offering) if free else ():
            over = [rule for rule in free if not _charged_before(view, rule, rules, payer)]
            if not over or uncovered(payer.reach, [view.reach[rule.id] for rule in over], zones=view.zones) is not None:
                continue
            sure = all(is_sure(rule) for rule in over)
            names = ", ".join(repr(rule.id) for rule in over)
            when = "never" if sure else "by doubtful traffic only"
            yield view.finding(
                "paid-under-free", ("offerings", offering.id),
                f"{payer.name} is {when} drawn: whoever holds offering {offering.id!r} has its traffic free by {names}",
                "remove it, or the free rule", path=payer.path, severity="error" if sure else "warning",
                others=(payer.name, *(f"rule {rule.id}" for rule in over)),
            )  # fmt: skip


def paid_beside_free(view: View) -> Iterator[Finding]:
    """A pack that is paid for, and an offering that makes its traffic free: who holds both pays for nothing."""
    free: dict[str, list[PccRule]] = {}
    for rule in view.catalogue.rules:
        if rule.charging == "free" and rule.gate_status == "open" and is_sure(rule.model_copy(update=_UNSURE)):
            for application in rule.scope.applications:
                free.setdefault(application, []).append(rule)
    for offering in view.catalogue.offerings:
        if not _fee(offering) or not view.on_sale(offering):
            continue
        for payer in view.payers(offering):
            for rule in free.get(next(iter(payer.part.scope.applications), ""), ()):
                yield from _beside(view, payer, rule)


def _beside(view: View, payer: Payer, rule: PccRule) -> Iterator[Finding]:
    offering = payer.offering
    if (
        rule.id in view.holdings.certain_rules(offering.id)
        or uncovered(payer.reach, [view.reach[rule.id]], zones=view.zones) is not None
    ):
        return
    other = next((item for item in view.holders[rule.id] if view.holdings.together(item, offering)), None)
    if other is not None:
        yield view.finding(
            "paid-under-free", ("offerings", offering.id),
            f"{payer.name} is sold for traffic that rule {rule.id!r} of offering {other.id!r} makes free, and an "
            "account can hold both",
            f"write `excludes: [{other.id}]`", path=payer.path, severity="warning",
            others=(payer.name, f"offering {other.id}", f"rule {rule.id}"),
        )  # fmt: skip


def _charged_before(view: View, free: PccRule, rules: Sequence[PccRule], payer: Payer) -> bool:
    """Whether a rule that is asked before the free one charges for some traffic of `payer`."""
    before = [rule for rule in rules if rule.charging == "charge" and asked(rule) < asked(free)]
    return any(meet(view.reach[rule.id], payer.reach, view.category_of) for rule in before)


def _until(above: int, dear: int, cheap: int) -> str:
    return f"until {-(-above * dear // cheap)} octets" if cheap else "from there on"


def _fee(offering: ProductOffering) -> int:
    return sum(price.amount for price in offering.prices)


def _plans_under(view: View, offering: ProductOffering) -> list[ProductOffering]:
    return [plan for plan in view.plans if view.on_sale(plan) and view.holdings.together(plan, offering)]


def _usage_cost(view: View, plan: ProductOffering, payer: Payer, allowance: Allowance) -> int | None:
    """What the pack's volume costs out of bundle in a plan; None where the plan does not sell all of it.

    Time has no price of its own, so what a pack of it would cost without it is not known.
    """
    if allowance.unit != "octets":
        return None
    for other in view.payers(plan):
        if isinstance(other.part, UsagePrice) and covers(other.reach, payer.reach) and not other.reach.windows:
            price = other.part
            cost = curve_of(price).micros(allowance.amount)
            if price.cap is not None and cost > price.cap:
                return price.cap if price.on_cap == "free" else None
            return cost
    return None


def _brings_quality(view: View, offering: ProductOffering) -> bool:
    """Whether the pack has more to sell than its volume: speed, or what follows it for free."""
    rules = [view.rules[rule_id] for rule_id in offering.rules]
    return any(rule.qos is not None or rule.charging != "charge" for rule in rules)


def _ladder(view: View, offering: ProductOffering) -> object:
    """What two packs have in common when they differ in volume and price alone."""
    allowance = offering.allowances[0]
    alike = allowance.model_copy(update={"id": "-", "name": "", "octets": None, "seconds": None})
    rules = [view.rules[rule_id] for rule_id in offering.rules]
    treatment = sorted((rule.charging, rule.gate_status, repr(rule.qos)) for rule in rules)
    kinds = sorted(price.type for price in offering.prices)
    return (
        offering.kind, offering.term_days, allowance.unit, alike.model_dump_json(), repr(offering.eligibility),
        repr(treatment), tuple(kinds), tuple(sorted(offering.requires)),
        tuple(repr(price.scope) for price in offering.usage_prices),
    )  # fmt: skip
