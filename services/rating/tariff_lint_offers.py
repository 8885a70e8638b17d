"""Lint of offerings and campaigns: traffic that nothing pays for, words that are never heard, sales that cannot be."""

import itertools
from collections.abc import Iterator, Sequence

from schemas.catalogue import Campaign, ProductOffering, UsagePrice
from schemas.catalogue_allowances import Allowance
from schemas.catalogue_scopes import Scope
from schemas.units import format_micros, format_octets
from services.engine.scopes import WHOLE_WEEK, Names, clock_of, kinds_of, meet, overlapping, week_of
from services.engine.tariff import Reach
from services.rating.findings import Finding
from services.rating.tariff_lint_sales import SHORTEST_CYCLE_DAYS
from services.rating.tariff_lint_view import Payer, View

MAX_GAPS = 3
"""Gaps told of one offering; who mends these sees the rest."""

MAX_HOLES = 24
"""Holes that are looked at for them: several may read the same."""

_LABELS = ("RAT", "zone", "data network")


def gaps(view: View) -> Iterator[Finding]:
    """Traffic that an offering pays for at some times, networks or places, while at others nothing does.

    Where all of it is paid for by something, the usage prices are looked at alone: what is left when buckets are empty.
    """
    for offering in view.catalogue.offerings:
        payers = view.payers(offering)
        prices = [payer for payer in payers if isinstance(payer.part, UsagePrice)]
        for own, kinds, when in (
            (payers, (Allowance, UsagePrice), ""), (prices, (UsagePrice,), ", once its buckets are empty"),
        ):  # fmt: skip
            found = _widest(_first_holes(view, offering, own, kinds), own)
            told = {item.message: item for item in (_gap(view, own, hole, when) for hole in found)}
            yield from itertools.islice(told.values(), MAX_GAPS)
            if found:
                break


def overlaps(view: View) -> Iterator[Finding]:
    """Windows of one scope that overlap, and parts of one offering of which one is never heard where both fit."""
    for part, item_id, path, scope in _scopes(view):
        pair = overlapping(Reach.of(scope).windows) if len(scope.windows) > 1 else None
        if pair is not None:
            yield view.finding(
                "overlap", (part, item_id), "two windows of the scope are open at the same time",
                "merge them, or mend their days and times", path=(*path, "scope", "windows"), severity="warning",
            )  # fmt: skip
    for offering in view.catalogue.offerings:
        payers = view.payers(offering)
        for number, one in enumerate(payers):
            for other in payers[number + 1 :]:
                if type(one.part) is type(other.part) and _both_fit(view, one, other):
                    yield from _clash(view, one, other)


def validity(view: View) -> Iterator[Finding]:
    """An allowance that outlives its product, or that is granted more often than the product is bought."""
    for offering in view.catalogue.offerings:
        for payer in view.payers(offering):
            problem = _validity_problem(offering, payer.part) if isinstance(payer.part, Allowance) else None
            if problem is not None:
                yield view.finding(
                    "validity", ("offerings", offering.id), f"{payer.name} {problem[0]}", problem[1], path=payer.path,
                    severity="warning", others=(payer.name,),
                )  # fmt: skip


def renewals(view: View) -> Iterator[Finding]:
    """A renewal that charges a whole cycle's price again within the cycle, or that nobody hears of before."""
    for offering in view.catalogue.offerings:
        if offering.renewal == "none":
            continue
        whole = [price.id for price in offering.prices if price.type == "recurring" and price.proration == "none"]
        if whole and (offering.term_days or 0) < SHORTEST_CYCLE_DAYS:
            yield view.finding(
                "renewal", ("offerings", offering.id),
                f"offering {offering.id!r} is renewed every {offering.term_days} days, and each renewal charges the "
                f"whole of price {whole[0]!r} for the cycle once more",
                "make it a `one_time` price, or give it `proration: daily`", path=("prices",), severity="warning",
            )  # fmt: skip
        if offering.prices and not offering.renewal_reminder_days:
            yield view.finding(
                "renewal", ("offerings", offering.id),
                f"offering {offering.id!r} is renewed and charged without a word before",
                "give it `renewal_reminder_days`", path=("renewal",), severity="warning",
            )  # fmt: skip


def time_of_anything(view: View) -> Iterator[Finding]:
    """An allowance of seconds for any service: connections that are open and idle use it up, too."""
    for offering in view.catalogue.offerings:
        for payer in view.payers(offering):
            part = payer.part
            if isinstance(part, Allowance) and part.unit == "ms" and not part.scope.services:
                yield view.finding(
                    "time-of-anything", ("offerings", offering.id),
                    f"{payer.name} grants seconds to every service of its scope: connections that stay open, and "
                    "several at the same time, use them up as calls do",
                    "narrow its scope to services, such as `services: [call]`", path=payer.path, severity="warning",
                    others=(payer.name,),
                )  # fmt: skip


def campaigns(view: View) -> Iterator[Finding]:
    """A sponsor without a limit, or a campaign that is over and still named by what is on sale."""
    users: dict[str, list[str]] = {campaign.id: [] for campaign in view.catalogue.campaigns}
    for rule in view.catalogue.rules:
        if rule.campaign and any(view.on_sale(holder) for holder in view.holders[rule.id]):
            users[rule.campaign].append(rule.id)
    for campaign in view.catalogue.campaigns:
        yield from _campaign(view, campaign, users[campaign.id])


def _campaign(view: View, campaign: Campaign, rule_ids: list[str]) -> Iterator[Finding]:
    place, others = ("campaigns", campaign.id), tuple(f"rule {rule_id}" for rule_id in rule_ids)
    if campaign.budget is None and campaign.per_subscriber_octets is None:
        yield view.finding(
            "sponsor-budget", place, f"campaign {campaign.id!r} has no limit: sponsor {campaign.sponsor_id!r} pays "
            "for whatever is used",
            "give it a limit", others=others,
        )  # fmt: skip
    yield from _empty_limits(view, campaign, others)
    ended = campaign.valid_until_ms is not None and campaign.valid_until_ms <= view.at_ms
    if ended and rule_ids:
        yield view.finding(
            "campaign-over", place, f"campaign {campaign.id!r} is over, and rule {rule_ids[0]!r} of an offering on "
            "sale still names it",
            "prolong it, or retire the offering", path=("valid_until_ms",), others=others,
        )  # fmt: skip
    if campaign.valid_until_ms is not None and campaign.valid_until_ms <= campaign.valid_from_ms:
        yield view.finding(
            "campaign-over", place, f"campaign {campaign.id!r} ends at or before its start, so it never runs",
            "mend valid_from_ms or valid_until_ms", path=("valid_until_ms",), others=others,
        )  # fmt: skip
    if not rule_ids:
        step = "name it in a rule, or remove it"
        yield view.finding(
            "campaign-unused", place, f"no rule of an offering on sale names campaign {campaign.id!r}", step,
            severity="warning",
        )  # fmt: skip


def _empty_limits(view: View, campaign: Campaign, others: tuple[str, ...]) -> Iterator[Finding]:
    share, budget = campaign.per_subscriber_octets, campaign.budget
    if share == 0 or (budget is not None and not budget.limit_octets()):
        yield view.finding(
            "sponsor-budget", ("campaigns", campaign.id), f"campaign {campaign.id!r} has a limit of no octet: sponsor "
            f"{campaign.sponsor_id!r} pays for nothing",
            "raise the limit, or remove the campaign", others=others,
        )  # fmt: skip
    elif share is not None and budget is not None and share > budget.limit_octets():
        yield view.finding(
            "sponsor-budget", ("campaigns", campaign.id),
            f"campaign {campaign.id!r} promises each subscriber {format_octets(share)}, and its whole budget covers "
            f"{format_octets(budget.limit_octets())}",
            "raise the budget, or lower per_subscriber_octets", path=("budget",), severity="warning", others=others,
        )  # fmt: skip


def settlements(view: View) -> Iterator[Finding]:
    """A budget of money that is used up at another price than its sponsor is billed: it bounds no bill."""
    for campaign in view.catalogue.campaigns:
        terms, budget = campaign.settlement, campaign.budget
        if terms is None or budget is None or budget.amount_per_gb is None:
            continue
        if (terms.amount_per_gb, terms.amount_per_connections) == (budget.amount_per_gb, None):
            continue
        billed = [f"{format_micros(terms.amount_per_gb)} for a GB"] if terms.amount_per_gb is not None else []
        if terms.amount_per_connections is not None:
            of = "a connection" if terms.per_connections == 1 else f"{terms.per_connections} connections"
            billed.append(f"{format_micros(terms.amount_per_connections)} for {of}")
        yield view.finding(
            "settlement-terms", ("campaigns", campaign.id),
            f"the budget of campaign {campaign.id!r} is used up at {format_micros(budget.amount_per_gb)} for a GB, and "
            f"sponsor {campaign.sponsor_id!r} is billed {' and '.join(billed)}: its bill can pass the budget's amount, "
            "or stay below it",
            "bill what the budget is counted by, or give the budget in octets", path=("settlement",),
            severity="warning",
        )  # fmt: skip


def _widest(holes: list[tuple[Names, int]], own: Sequence[Payer]) -> list[tuple[Names, int]]:
    """The holes without those of one radio access where there is the same hole for any, and the offering asks for none.

    A rule that tells radio access apart, such as a closed gate, would else have one gap told several times.
    """
    if any(payer.reach.rat_types for payer in own):
        return holes
    anywhere = {names: minutes for names, minutes in holes if names[3] is None}
    return [
        (names, minutes) for names, minutes in holes
        if names[3] is None or minutes & ~anywhere.get((*names[:3], None, *names[4:]), 0)
    ]  # fmt: skip


def _is_bounded(reach: Reach) -> bool:
    return bool(reach.rat_types or reach.zones or reach.dnns or reach.windows)


def _plans(view: View, offering: ProductOffering) -> list[ProductOffering]:
    return [plan for plan in view.plans if view.holdings.together(plan, offering)]


def _first_holes(
    view: View, offering: ProductOffering, own: Sequence[Payer], kinds: tuple[type, ...]
) -> list[tuple[Names, int]]:
    """The holes that are left where the offering stands on the first plan whose parts of `kinds` do not fill them."""
    if not any(_is_bounded(payer.reach) for payer in own):
        return []
    plans = [] if offering.kind == "base_plan" else [view.payers(plan) for plan in _plans(view, offering)]
    for below in plans or [[]]:
        alike = [payer for payer in below if isinstance(payer.part, kinds)]
        found = list(itertools.islice(_holes(view, offering, own, alike), MAX_HOLES))
        if found:
            return found
    return []


def _holes(
    view: View, offering: ProductOffering, own: Sequence[Payer], below: Sequence[Payer]
) -> Iterator[tuple[Names, int]]:
    """Traffic, by its names, and minutes that only parts of its kind are paid for."""
    exempt = [
        view.reach[rule.id] for rule in view.certain_rules(offering) if _needs_no_payer(rule.charging, rule.gate_status)
    ]
    reaches = [*(payer.reach for payer in own), *(payer.reach for payer in below), *exempt]
    weeks = [week_of(reach.windows) for reach in reaches]
    kinds: dict[Names, list[tuple[Names, int, bool]]] = {}
    for names, serving in kinds_of(reaches, zones=view.zones):
        if not _is_plausible(view, names):
            continue
        week = 0
        for place, minutes in enumerate(weeks):
            week |= minutes if serving >> place & 1 else 0
        mine = any(serving >> place & 1 for place in range(len(own)))
        kinds.setdefault(names[:3], []).append((names, WHOLE_WEEK & ~week, mine))
    for cells in kinds.values():
        if any(mine for _, _, mine in cells):
            yield from ((names, missing) for names, missing, _ in cells if missing)


def _needs_no_payer(charging: str, gate_status: str) -> bool:
    return charging != "charge" or gate_status == "closed"


def _is_plausible(view: View, names: Names) -> bool:
    """Whether the application's traffic is of that category, as far as the catalogue knows."""
    application, category = names[:2]
    return application is None or category is None or view.category_of.get(application, category) == category


def _gap(view: View, own: Sequence[Payer], hole: tuple[Names, int], when: str) -> Finding:
    payer, (names, minutes) = own[0], hole
    offering = payer.offering
    what = next((name for name in (names[2], names[0]) if name), None)
    named = [f"{label} {name}" for label, name in zip(_LABELS, names[3:], strict=True) if name]
    if names[3] is None and any(one.reach.rat_types for one in own):
        named.insert(0, "any other RAT")
    where = f"for {', '.join(named)}, " if named else ""
    return view.finding(
        "gap", ("offerings", offering.id),
        f"offering {offering.id!r} pays for {f'traffic of {what!r}' if what else 'traffic'} at some times and places, "
        f"and nothing does {where}{clock_of(minutes)}{when}: it is blocked there",
        "add an allowance or a usage price for it, or a rule with `gate_status: closed` that says so",
        path=payer.path, severity="warning", others=(payer.name,),
    )  # fmt: skip


def _scopes(view: View) -> Iterator[tuple[str, str, tuple[str | int, ...], Scope]]:
    for rule in view.catalogue.rules:
        yield "rules", rule.id, (), rule.scope
    for offering in view.catalogue.offerings:
        for payer in view.payers(offering):
            yield "offerings", offering.id, payer.path, payer.part.scope


def _both_fit(view: View, one: Payer, other: Payer) -> bool:
    if isinstance(one.part, UsagePrice) and isinstance(other.part, UsagePrice) and one.part.unit != other.part.unit:
        return False  # A connection is priced beside its octets.
    together = week_of(one.reach.windows) & week_of(other.reach.windows)
    return bool(together) and meet(one.reach, other.reach, view.category_of)


def _clash(view: View, one: Payer, other: Payer) -> Iterator[Finding]:
    if isinstance(one.part, UsagePrice):
        if one.reach.order() == other.reach.order():
            yield view.finding(
                "overlap", ("offerings", one.offering.id),
                f"{one.name} and {other.name} are equally narrow and both fit some traffic: the cheaper is always "
                "taken, and the other one never",
                "make one narrower, or their scopes disjoint", path=other.path, severity="warning",
                others=(one.name, other.name),
            )  # fmt: skip
        return
    first, last = sorted((one, other), key=_drawn)
    ends = [part.on_exhausted for part in (first.part, last.part) if isinstance(part, Allowance)]
    if one.reach.specificity == other.reach.specificity and ends[0] not in ("continue", ends[1]):
        yield view.finding(
            "overlap", ("offerings", one.offering.id),
            f"{first.name} says `on_exhausted: {ends[0]}`, and {last.name} fits some of its traffic, is drawn after it "
            f"and says `{ends[1]}`: only the last of equally narrow allowances is heard",
            "let both say the same", path=first.path, severity="warning", others=(first.name, last.name),
        )  # fmt: skip


def _drawn(payer: Payer) -> tuple[object, ...]:
    priority = payer.part.priority if isinstance(payer.part, Allowance) else 0
    return payer.reach.order(), priority, payer.part.id


def _validity_problem(offering: ProductOffering, allowance: Allowance) -> tuple[str, str] | None:
    if allowance.valid_days is not None and allowance.validity == "cycle":
        return "is renewed each cycle, so its valid_days are not looked at", "remove valid_days, or grant it `once`"
    if offering.term_days is None:
        return None
    if allowance.valid_days is not None and allowance.valid_days > offering.term_days:
        step = "shorten valid_days, or lengthen term_days"
        return f"is valid for {allowance.valid_days} days, and its product ends after {offering.term_days}", step
    if allowance.validity == "cycle" and offering.kind == "pass":
        return "is granted again when a cycle begins within the pass", "write `validity: once`"
    return None
