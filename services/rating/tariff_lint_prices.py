"""Lint of prices: ids that are no names, prices that fall as usage grows, and money asked for what is free."""

import itertools
from collections.abc import Iterator, Sequence

from schemas.catalogue import PccRule, ProductOffering, UsagePrice
from schemas.catalogue_allowances import Allowance
from schemas.units import format_amount, format_micros, format_octets
from services.engine.prices import curve_of
from services.engine.scopes import covers, meet, uncovered
from services.rating.findings import Finding
from services.rating.tariff_lint_view import NEVER, Payer, RuleIndex, View, asked, is_sure

MEGABYTE = 10**6

MOST_HELD = 8
"""Packs of one kind that somebody may buy instead of a bigger one; nobody buys more."""

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
                    above, one = price.tiers[number].above, price.unit.removesuffix("s")
                    yield view.finding(
                        "price-cliff", ("offerings", offering.id),
                        f"usage price {price.id!r}: with the {one} after {above} all {one}s cost "
                        f"{format_micros(cheap)} instead of {format_micros(dear)} a unit; the charge stays level "
                        f"{_until(above, dear, cheap, one)}",
                        "use `tier_mode: graduated`, where each octet costs what its own tier says",
                        path=("usage_prices", place, "tiers", number), severity="warning",
                    )  # fmt: skip


def rising_volumes(view: View) -> Iterator[Finding]:
    """A volume price that rises: one octet more makes all that came before it dearer."""
    for offering in view.catalogue.offerings:
        for place, price in enumerate(offering.usage_prices):
            amounts = [price.amount, *(tier.amount for tier in price.tiers)] if price.tier_mode == "volume" else []
            for number, (cheap, dear) in enumerate(itertools.pairwise(amounts)):
                above, one = price.tiers[number].above, price.unit.removesuffix("s")
                before, after = (curve_of(price).micros(count) for count in (above, above + 1))
                if cheap < dear and after - before > dear:
                    yield view.finding(
                        "price-cliff", ("offerings", offering.id),
                        f"usage price {price.id!r}: the {one} after {above} raises the charge from "
                        f"{format_micros(before)} to {format_micros(after)}, since all {one}s become dearer with it",
                        "use `tier_mode: graduated`, where each octet costs what its own tier says",
                        path=("usage_prices", place, "tiers", number), severity="warning",
                    )  # fmt: skip


def caps_of_nothing_much(view: View) -> Iterator[Finding]:
    """A cap that is reached before a megabyte has passed: a unit of the wrong size, more often than not."""
    for offering in view.catalogue.offerings:
        for place, price in enumerate(offering.usage_prices):
            sold = curve_of(price).octets_within(price.cap) if price.cap and price.unit == "octets" else None
            if price.cap and sold is not None and 0 < sold < MEGABYTE:
                yield view.finding(
                    "price-cliff", ("offerings", offering.id),
                    f"usage price {price.id!r}: its cap of {format_micros(price.cap)} is reached after "
                    f"{format_octets(sold)}, at {format_micros(price.amount)} for {format_octets(price.per_octets)}",
                    "look at amount and per_octets, or raise the cap", path=("usage_prices", place), severity="warning",
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
                f"offering {offering.id!r} costs {format_micros(fee)}, and its {format_octets(allowance.amount)} cost "
                f"{format_micros(cost)} at most without it, in plan {plan.id!r}",
                "lower its price, or raise its volume", severity="warning", path=("prices",),
                others=(f"offering {plan.id}",),
            )  # fmt: skip


def bigger_packs_cheaper(view: View) -> Iterator[Finding]:
    """A bigger pack that costs no more than a smaller one, or more than several of these, and is otherwise no worse."""
    ladders: dict[object, list[ProductOffering]] = {}
    for offering in view.catalogue.offerings:
        if _fee(offering) and view.on_sale(offering) and len(offering.allowances) == 1:
            ladders.setdefault(_ladder(offering), []).append(offering)
    for offerings in ladders.values():
        steps = sorted(offerings, key=lambda item: (item.allowances[0].amount, _fee(item)))
        for small, big in itertools.pairwise(steps):
            if small.allowances[0].amount < big.allowances[0].amount:
                yield from _step(view, small, big)


def _step(view: View, small: ProductOffering, big: ProductOffering) -> Iterator[Finding]:
    most, less = big.allowances[0], small.allowances[0]
    more, fewer = (_shown(item) for item in (most, less))
    count = -(-most.amount // less.amount) if less.amount else 0
    dear, cheap = _fee(big), _fee(small)
    stacked = small.kind != "base_plan" and 1 < count <= (small.max_held or MOST_HELD)
    if dear <= cheap and _is_no_worse(view, big, small):
        told = (
            f"offering {big.id!r} has {more} for {format_micros(dear)}, and {small.id!r} has {fewer} of the same for "
        )
        told += format_micros(cheap)
    elif stacked and count * cheap < dear and _is_no_worse(view, small, big):
        told = (
            f"offering {big.id!r} has {more} for {format_micros(dear)}, and {count} times {small.id!r} has no less of "
        )
        told += f"the same for {format_micros(count * cheap)}"
    else:
        return
    yield view.finding(
        "price-cliff", ("offerings", big.id), told, "raise the one price, or lower the other", severity="warning",
        path=("prices",), others=(f"offering {small.id}",),
    )  # fmt: skip


def paid_under_free(view: View) -> Iterator[Finding]:
    """An allowance or a usage price for traffic that a free rule takes before it: it can never be drawn."""
    for offering in view.catalogue.offerings:
        rules = [rule for rule in view.certain_rules(offering) if is_sure(rule.model_copy(update=_UNSURE))]
        free = [rule for rule in rules if rule.charging == "free" and rule.gate_status == "open"]
        for payer in view.payers(offering) if free else ():
            over = [rule for rule in free if not _charged_before(view, rule, rules, payer)]
            how = view.taken(payer, over)
            if how is None:
                continue
            names = ", ".join(repr(rule.id) for rule in over)
            yield view.finding(
                "paid-under-free", ("offerings", offering.id),
                f"{payer.name} is {how}: whoever holds offering {offering.id!r} has its traffic free by {names}",
                "remove it, or the free rule", path=payer.path, severity="error" if how == NEVER else "warning",
                others=(payer.name, *(f"rule {rule.id}" for rule in over)),
            )  # fmt: skip


def paid_beside_free(view: View) -> Iterator[Finding]:
    """A pack that is paid for, and an offering that makes its traffic free: who holds both pays for nothing.

    A plan is no pack: what it asks for is often what an add-on makes free.
    """
    free = _free_rules(view)
    for offering in view.catalogue.offerings:
        if _fee(offering) and offering.kind != "base_plan" and view.on_sale(offering):
            plans = view.plans_beside(offering)
            for payer in view.payers(offering):
                near = free.that_may_meet(payer.part.scope.applications[:1], plans)
                for rule in {one.id: one for one in near}.values():
                    yield from _beside(view, payer, rule)


def sponsored_under_free(view: View) -> Iterator[Finding]:
    """A sponsored rule, and a free one that is asked before it: the operator gives away what the sponsor would pay."""
    free = _free_rules(view)
    for rule in _sponsored(view):
        for other in _before(view, rule, free):
            yield view.finding(
                "paid-under-free", ("rules", rule.id),
                f"rule {rule.id!r} (precedence {rule.precedence}) is sponsored, and rule {other.id!r} (precedence "
                f"{other.precedence}) makes the same traffic free before it: the sponsor pays nothing for whoever "
                "holds both",
                "ask the sponsored rule first: give it the lower precedence", path=("precedence",),
                severity="warning", others=(f"rule {other.id}",),
            )  # fmt: skip


def charged_before_sponsored(view: View) -> Iterator[Finding]:
    """A sponsored rule, and one that charges for all its traffic and is asked before it: the sponsor never pays."""
    charged = view.index(rule for rule in view.catalogue.rules if _charges(rule))
    for rule in _sponsored(view):
        brought = {name for holder in view.holders[rule.id] for name in view.holdings.certain_rules(holder.id)}
        for other in _before(view, rule, charged):
            if other.id in brought:
                continue
            yield view.finding(
                "charged-before-free", ("rules", other.id),
                f"rule {other.id!r} (precedence {other.precedence}) charges, and rule {rule.id!r} (precedence "
                f"{rule.precedence}), which is sponsored, is asked after it for the same traffic: whoever holds "
                "both pays what the sponsor would",
                f"give {rule.id!r} the lower precedence", path=("precedence",), severity="warning",
                others=(f"rule {rule.id}",),
            )  # fmt: skip


def _charges(rule: PccRule) -> bool:
    """Whether a rule does nothing but charge, whatever is left in the bucket that it may wait for."""
    open_ = rule.gate_status == "open" and rule.charging == "charge"
    return open_ and rule.qos is None and rule.steering is None and rule.suspect != "only" and rule.spend is None


def _sponsored(view: View) -> Iterator[PccRule]:
    return (rule for rule in view.catalogue.rules if rule.charging == "sponsored" and rule.gate_status == "open")


def _free_rules(view: View) -> RuleIndex:
    """Rules that make their traffic free at any state of the account."""
    free = (rule for rule in view.catalogue.rules if rule.charging == "free" and rule.gate_status == "open")
    return view.index(rule for rule in free if is_sure(rule.model_copy(update=_UNSURE)))


def _before(view: View, rule: PccRule, rules: RuleIndex) -> Iterator[PccRule]:
    """Those of `rules` that some holder is asked for all the rule's own traffic before it is."""
    near = rules.that_may_meet(rule.scope.applications[:1], view.plans_under(rule))
    for other in {one.id: one for one in near}.values():
        if asked(other) < asked(rule) and _covers_own(view, rule, other) and _can_meet(view, rule, other):
            yield other


def _can_meet(view: View, one: PccRule, other: PccRule) -> bool:
    pairs = itertools.product(view.holders[one.id], view.holders[other.id])
    return any(mine.id == theirs.id or view.holdings.together(mine, theirs) for mine, theirs in pairs)


def _covers_own(view: View, rule: PccRule, free: PccRule) -> bool:
    return uncovered(view.own_traffic(view.reach[rule.id]), [view.reach[free.id]], zones=view.zones) is None


def _beside(view: View, payer: Payer, rule: PccRule) -> Iterator[Finding]:
    offering = payer.offering
    where = _taken_where(view, payer, rule)
    if where is None or rule.id in view.holdings.certain_rules(offering.id):
        return
    other = next((item for item in view.holders[rule.id] if view.holdings.together(item, offering)), None)
    if other is not None:
        needed = other.id in offering.requires
        yield view.finding(
            "paid-under-free", ("offerings", offering.id),
            f"{payer.name} is sold for traffic that rule {rule.id!r} of offering {other.id!r} makes free{where}, and "
            "an account can hold both",
            f"take {other.id} out of `requires`" if needed else f"write `excludes: [{other.id}]`", path=payer.path,
            severity="warning", others=(payer.name, f"offering {other.id}", f"rule {rule.id}"),
        )  # fmt: skip


def _taken_where(view: View, payer: Payer, rule: PccRule) -> str | None:
    """Where a free rule takes all that a payer is bought for: empty for everywhere, or at home; None for neither."""
    own = view.own_traffic(payer.reach)
    if uncovered(own, [view.reach[rule.id]], zones=view.zones) is None:
        return ""
    home = view.at_home(own)
    if home is None or uncovered(home, [view.reach[rule.id]], zones=view.zones) is not None:
        return None
    return f" in zone {' and '.join(sorted(home.zones))}"


def _charged_before(view: View, free: PccRule, rules: Sequence[PccRule], payer: Payer) -> bool:
    """Whether a rule that is asked before the free one charges for some traffic of `payer`."""
    before = [rule for rule in rules if rule.charging == "charge" and asked(rule) < asked(free)]
    return any(meet(view.reach[rule.id], payer.reach, view.category_of) for rule in before)


def _until(above: int, dear: int, cheap: int, one: str) -> str:
    return f"until {-(-above * dear // cheap)} {one}s" if cheap else "from there on"


def _fee(offering: ProductOffering) -> int:
    return sum(price.amount for price in offering.prices)


def _plans_under(view: View, offering: ProductOffering) -> list[ProductOffering]:
    names = view.holdings.plans_of(offering.id)
    plans = view.plans if names is None else [view.offerings[name] for name in sorted(names)]
    return [plan for plan in plans if view.on_sale(plan) and view.holdings.together(plan, offering)]


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


def _ladder(offering: ProductOffering) -> object:
    """What two packs have in common that can be held against each other by volume and price."""
    allowance = offering.allowances[0]
    alike = allowance.model_copy(update={"id": "-", "name": "", "octets": None, "seconds": None})
    kinds = sorted(price.type for price in offering.prices)
    return (
        offering.kind, offering.term_days, allowance.unit, alike.model_dump_json(), repr(offering.eligibility),
        tuple(kinds), tuple(sorted(offering.requires)), tuple(repr(price.scope) for price in offering.usage_prices),
    )  # fmt: skip


def _shown(allowance: Allowance) -> str:
    return format_octets(allowance.amount) if allowance.unit == "octets" else format_amount(allowance.amount, "ms")


def _is_no_worse(view: View, one: ProductOffering, other: ProductOffering) -> bool:
    """Whether the rules of `one` give all that those of `other` do: the same, or more quality or fewer closed gates."""
    mine, theirs = (_treatment(view, item) for item in (one, other))
    worse = [rule for rule in mine if rule not in theirs and not _is_a_gift(rule)]
    missed = [rule for rule in theirs if rule not in mine and not _is_a_limit(rule)]
    return not worse and (not missed or all(_is_plain(rule) for rule in missed))


def _treatment(view: View, offering: ProductOffering) -> list[PccRule]:
    """The rules without what tells two packs' own ones apart."""
    plain = {"id": "-", "name": "", "precedence": 0, "rating_group": 0, "service_identifier": None}
    found = []
    for rule in map(view.rules.__getitem__, offering.rules):
        bucket = rule.bucket.model_copy(update={"allowance": "-"}) if rule.bucket else None
        found.append(rule.model_copy(update={**plain, "bucket": bucket}))
    return found


def _is_a_gift(rule: PccRule) -> bool:
    """Whether a rule can only be an advantage: it is open, and gives a class, a priority or a guaranteed rate."""
    qos = rule.qos
    given = qos is not None and any(value is not None for value in (qos.five_qi, qos.arp, qos.gbr_down_bps))
    limited = qos is not None and any(value is not None for value in (qos.mbr_up_bps, qos.mbr_down_bps))
    return _is_plain(rule) or (_is_open(rule) and given and not limited)


def _is_a_limit(rule: PccRule) -> bool:
    return rule.gate_status == "closed"


def _is_plain(rule: PccRule) -> bool:
    """Whether a rule only names its traffic."""
    return _is_open(rule) and rule.qos is None


def _is_open(rule: PccRule) -> bool:
    sends = rule.redirect_url is not None or rule.steering is not None
    return rule.gate_status == "open" and rule.charging == "charge" and not sends
