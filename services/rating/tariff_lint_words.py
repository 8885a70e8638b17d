"""Lint of words that change nothing: what a reader takes for a rule of the tariff, and no engine ever obeys."""

from collections import Counter
from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from schemas.catalogue import ProductOffering, QosProfile, UsagePrice
from schemas.catalogue_allowances import Allowance
from schemas.units import format_micros
from services.engine.prices import curve_of
from services.engine.scopes import meet, uncovered
from services.engine.tariff import Reach
from services.rating.catalogue_yaml import KeyPath
from services.rating.findings import Finding
from services.rating.tariff_lint_view import Payer, View

Words = tuple[KeyPath, str, str]
"""Where the words stand, what they are, and what to do about them."""


def without_effect(view: View) -> Iterator[Finding]:
    """Values that change nothing: grants of nothing, bounds beyond what they bound, the same name twice."""
    for offering in view.catalogue.offerings:
        place = ("offerings", offering.id)
        for path, told, step in (*_of_offering(offering), *_of_prices(offering), *_doubles(offering, ())):
            yield _finding(view, place, (path, f"offering {offering.id!r}: {told}", step))
        for path, told, step in _of_credits(view, offering):
            yield _finding(view, place, (path, told, step))
        for payer in view.payers(offering):
            if isinstance(payer.part, Allowance):
                for told, step in (*_of_allowance(offering, payer.part), *_never_blocked(view, payer)):
                    yield _finding(view, place, (payer.path, f"{payer.name} {told}", step))
    for rule in view.catalogue.rules:
        for path, told, step in _doubles(rule, ()):
            yield _finding(view, ("rules", rule.id), (path, f"rule {rule.id!r}: {told}", step))
        if rule.gate_status == "closed" and rule.charging != "charge":
            told = f"rule {rule.id!r}: nothing passes its closed gate that could be {rule.charging}"
            yield _finding(view, ("rules", rule.id), (("charging",), told, "open the gate, or remove `charging`"))


def rates(view: View) -> Iterator[Finding]:
    """Bit rates that no network can give: nothing at all through an open gate, or more guaranteed than allowed."""
    for rule in view.catalogue.rules:
        for way in ("up", "down") if rule.qos is not None and rule.gate_status == "open" else ():
            most, least = _rate(rule.qos, "mbr", way), _rate(rule.qos, "gbr", way)
            if most == 0:
                told, step = f"mbr_{way}_bps is 0: nothing passes, and nothing says so", "write `gate_status: closed`"
            elif most is not None and least is not None and least > most:
                told, step = (
                    f"gbr_{way}_bps is {least}, above mbr_{way}_bps, {most}",
                    "lower the one, or raise the other",
                )
            else:
                continue
            yield view.finding("rates", ("rules", rule.id), f"rule {rule.id!r}: {told}", step, path=("qos",))


def _finding(view: View, place: tuple[str, str], words: Words) -> Finding:
    path, told, step = words
    return view.finding("no-effect", place, told, step, path=path, severity="warning")


def _of_offering(offering: ProductOffering) -> Iterator[Words]:
    fees = sum(price.amount for price in offering.prices)
    if offering.trial_days is not None and not fees:
        yield ("trial_days",), "it has a trial, and costs nothing after it", "remove trial_days, or give it a price"
    if offering.renewal == "automatic" and offering.renewal_reminder_days >= (offering.term_days or 0):
        told = f"the reminder {offering.renewal_reminder_days} days before a renewal is before the term itself"
        yield ("renewal_reminder_days",), told, "lower renewal_reminder_days"
    each_cycle = sum(price.amount for price in offering.prices if price.type == "recurring")
    if 0 < offering.minimum_rent <= each_cycle:
        told = (
            f"minimum_rent is {format_micros(offering.minimum_rent)}, and its recurring prices alone come to "
            f"{format_micros(each_cycle)}: nothing is ever asked for"
        )
        yield ("minimum_rent",), told, "raise it, or remove it"


def _of_prices(offering: ProductOffering) -> Iterator[Words]:
    for place, price in enumerate(offering.usage_prices):
        sold = curve_of(price).octets_within(price.cap) if price.cap and price.whole_units else None
        whole = curve_of(price).micros(sold) if sold else None
        if whole is not None and price.cap is not None and whole < price.cap:
            told = (
                f"usage price {price.id!r}: the cap of {format_micros(price.cap)} is never spent: whole units come to "
                f"{format_micros(whole)}, and the next one is beyond it"
            )
            yield ("usage_prices", place, "cap"), told, "make the cap a multiple of the unit's price"
        if price.cap is None or price.on_cap != "free":
            continue
        for number, tier in enumerate(price.tiers):
            if curve_of(price).micros(tier.above) >= price.cap:
                told = f"usage price {price.id!r} is free beyond its cap before the tier above {tier.above} begins"
                yield ("usage_prices", place, "tiers", number), told, "remove the tier, or raise the cap"
                break


def _of_credits(view: View, offering: ProductOffering) -> Iterator[Words]:
    """Granted money that no usage price of the account can ever ask for."""
    if not offering.money_allowances:
        return
    priced = [item for item in view.catalogue.offerings if item.usage_prices]
    beside = [item for item in priced if item.id == offering.id or view.holdings.together(item, offering)]
    prices = [payer for item in beside for payer in view.payers(item) if isinstance(payer.part, UsagePrice)]
    for place, credit in enumerate(offering.money_allowances):
        reach = Reach.of(credit.scope)
        if not any(meet(price.reach, reach, view.category_of) for price in prices):
            told = (
                f"money allowance {offering.id}/{credit.id} is never spent: no usage price beside it is for its scope"
            )
            yield ("money_allowances", place), told, "widen its scope, or remove it"


def _of_allowance(offering: ProductOffering, allowance: Allowance) -> Iterator[tuple[str, str]]:
    if not allowance.amount:
        yield "grants nothing", "give it a volume, or remove it"
        return
    alone = offering.kind == "base_plan" or offering.max_held == 1
    if alone and allowance.rollover is None and allowance.share is not None and allowance.share > allowance.amount:
        yield "gives each member a larger share than there is", "lower the share, or remove it"
    if allowance.rollover is not None and allowance.rollover.most == 0:
        yield "rolls over at most nothing", "raise the rollover's limit, or remove the rollover"
    if (allowance.overshoot_tolerance_octets or 0) >= allowance.amount:
        yield "tolerates an overshoot of all its volume: it bounds nothing", "lower overshoot_tolerance_octets"


def _never_blocked(view: View, payer: Payer) -> Iterator[tuple[str, str]]:
    """`on_exhausted: block` beside a rule that gives the same traffic away when the allowance is used up."""
    allowance = payer.part
    if not isinstance(allowance, Allowance) or allowance.on_exhausted != "block":
        return
    rules = [view.rules[name] for name in payer.offering.rules]
    free = [
        rule for rule in rules
        if rule.bucket is not None and (rule.bucket.allowance, rule.bucket.state) == (allowance.id, "exhausted")
        and rule.charging == "free" and rule.gate_status == "open"
    ]  # fmt: skip
    if free and uncovered(payer.reach, [view.reach[rule.id] for rule in free], zones=view.zones) is None:
        yield (
            f"says `on_exhausted: block`, and rule {free[0].id!r} makes the same traffic free then: nothing is blocked",
            "write `on_exhausted: throttle`, or close the rule's gate",
        )


def _doubles(model: BaseModel, path: KeyPath) -> Iterator[Words]:
    """Values that stand twice in one list."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _doubles(value, (*path, name))
        elif isinstance(value, tuple) and value:
            if isinstance(value[0], BaseModel):
                for place, item in enumerate(value):
                    yield from _doubles(item, (*path, name, place))
            else:
                yield from _twice(value, (*path, name))


def _twice(values: Iterable[object], path: KeyPath) -> Iterator[Words]:
    for value, count in Counter(values).items():
        if count > 1:
            yield path, f"{path[-1]} names {value!r} {'twice' if count == 2 else f'{count} times'}", "keep one"


def _rate(qos: QosProfile | None, kind: str, way: str) -> int | None:
    rate: int | None = getattr(qos, f"{kind}_{way}_bps")
    return rate
