"""Lint of plans beside each other: where the step from one to the next larger one makes no sense."""

import itertools
from collections.abc import Iterator

from schemas.catalogue import ProductOffering
from schemas.units import format_micros, format_octets
from services.engine.prices import curve_of
from services.engine.scopes import covers
from services.engine.tariff import Reach
from services.rating.findings import Finding
from services.rating.tariff_lint_view import View


def steps_between_plans(view: View) -> Iterator[Finding]:
    """Of two plans that differ in volume and price alone, the next larger one.

    A cliff where one octet beyond the smaller plan costs more than the larger plan does; no step at all where the whole
    volume of the larger plan costs no more in the smaller one.
    """
    ladders: dict[object, list[ProductOffering]] = {}
    for plan in view.plans:
        if view.on_sale(plan) and _is_simple(plan):
            ladders.setdefault(_alike(view, plan), []).append(plan)
    for plans in ladders.values():
        steps = sorted(plans, key=lambda plan: (plan.allowances[0].amount, plan.id))
        for small, large in itertools.pairwise(steps):
            if small.allowances[0].amount < large.allowances[0].amount:
                yield from _step(view, small, large)


def _step(view: View, small: ProductOffering, large: ProductOffering) -> Iterator[Finding]:
    volume, more = small.allowances[0].amount, large.allowances[0].amount
    above, whole = _cost(small, volume + 1), _cost(small, more)
    dear = _cost(large, more)
    if dear is None:
        return
    others = (f"offering {large.id}",)
    if above is not None and above > dear and _cost(small, volume) != above:
        yield view.finding(
            "price-cliff", ("offerings", small.id),
            f"plan {small.id!r} costs {format_micros(above)} with the octet after {format_octets(volume)}, and plan "
            f"{large.id!r} costs {format_micros(dear)} with {format_octets(more)}",
            "sell what is beyond the volume in smaller units, or raise the price of the larger plan",
            severity="warning", path=("usage_prices",), others=others,
        )  # fmt: skip
    elif whole is not None and whole <= dear:
        yield view.finding(
            "price-cliff", ("offerings", large.id),
            f"plan {large.id!r} costs {format_micros(dear)} for {format_octets(more)}, which cost "
            f"{format_micros(whole)} in plan {small.id!r}: nobody should buy the larger one",
            "lower its price, or raise what the smaller one asks beyond its volume",
            severity="warning", path=("prices",), others=(f"offering {small.id}",),
        )  # fmt: skip


def _is_simple(plan: ProductOffering) -> bool:
    """Whether volume and price are all that the plan is about: then two such plans can be held against each other."""
    volumes = [item for item in plan.allowances if item.unit == "octets"]
    return len(plan.allowances) == len(volumes) == 1 and not plan.money_allowances and plan.trial_days is None


def _alike(view: View, plan: ProductOffering) -> object:
    """What two plans have in common when they differ in volume and price alone."""
    allowance = plan.allowances[0].model_copy(update={"id": "-", "name": "", "octets": 0})
    rules = sorted(_treatment(view, rule_id) for rule_id in plan.rules)
    return (
        allowance.model_dump_json(),
        repr(plan.eligibility),
        repr(rules),
        plan.term_days,
        plan.renewal,
        tuple(sorted(plan.requires)),
    )


def _treatment(view: View, rule_id: str) -> str:
    rule = view.rules[rule_id]
    return rule.model_dump_json(exclude={"id", "name", "precedence", "rating_group"})


def _cost(plan: ProductOffering, octets: int) -> int | None:
    """What a cycle with so many octets in the allowance's scope costs; None where not all of them are sold."""
    fees = sum(price.amount for price in plan.prices if price.type == "recurring")
    beyond = octets - plan.allowances[0].amount
    used = _beyond(plan, beyond) if beyond > 0 else 0
    return None if used is None else max(fees + used, plan.minimum_rent)


def _beyond(plan: ProductOffering, octets: int) -> int | None:
    reach = Reach.of(plan.allowances[0].scope)
    if plan.allowances[0].on_exhausted != "continue":
        return None
    for price in plan.usage_prices:
        own = Reach.of(price.scope)
        if price.unit == "octets" and covers(own, reach) and not own.windows:
            micros = curve_of(price).micros(octets)
            if price.cap is None or micros <= price.cap:
                return micros
            return price.cap if price.on_cap == "free" else None
    return None
