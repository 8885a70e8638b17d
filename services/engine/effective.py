"""Which PCC rules should be installed for an account, and where what pays for their traffic comes to an end.

A rule is in force while the account's own conditions for it hold: the product is held, the bucket is in the state that
the rule wants, the campaign runs. Conditions on the traffic are the gateway's to look at. A rule whose traffic nothing
could pay for stays in force with its gate closed; one whose sponsor's budget is used up, without its sponsor.
"""

import itertools
from collections.abc import Iterator

from msgspec.structs import replace

from schemas.catalogue import Campaign, PccRule
from schemas.fields import MAX_CONGESTION
from schemas.state import AccountState
from services.engine.caps import Means, campaign_counter, can_pay, reserve_of, used_of
from services.engine.members import groups
from services.engine.money_ends import End, Sale, behind, campaign_end, declares, ends_of, share_end
from services.engine.periods import holds
from services.engine.purses import credit_of
from services.engine.scopes import covers, meet
from services.engine.select import Plan, plan_of
from services.engine.standing import with_standing
from services.engine.tariff import CompiledAllowance, CompiledPrice, CompiledRule, Reach, Tariff


def effective_rules(
    account: AccountState, tariff: Tariff, *, at_ms: int, subscriber_id: str | None = None
) -> tuple[PccRule, ...]:
    """The rules in force for `account` at `at_ms`, in order of precedence, the built-in one last.

    Those of one member where `subscriber_id` says so; else those of members who have not used up a share, a campaign's
    sponsor in them until all members have had theirs. A rule without anything to pay for its traffic is returned with
    its gate closed. Products and buckets count only inside their validity; cycles that end before `at_ms` are not
    renewed here (`services.engine.timers` does that).
    """
    then = _as_of(account, tariff, at_ms)
    if subscriber_id is not None:
        then = next(group for group in groups(then, tariff) if subscriber_id in group.subscriber_ids)
    return tuple(
        rule.rule.model_copy(update={"gate_status": "closed"}) if barred else rule.rule
        for rule, barred in rules_in_force(then, tariff)
    )


def rules_in_force(account: AccountState, tariff: Tariff) -> Iterator[tuple[CompiledRule, bool]]:
    """The rules in force by the account's standing, and whether each has its gate closed for want of a payer."""
    plan = plan_of(account.standing, tariff)
    for rule, blocks, taken in _met(account, plan):
        yield rule, blocks or _barred(rule, account, plan, tariff, taken)


def limits_ahead(account: AccountState, tariff: Tariff) -> Iterator[End]:
    """The ends of money, of what campaigns pay, and of members' shares, that are to be told ahead."""
    plan = plan_of(account.standing, tariff)
    if declares(plan.prices):
        yield from _money_ends(account, tariff)
        yield from _ends_behind(account, plan, tariff)
    if has_bounded_campaign(plan):
        yield from _campaign_ends(account, tariff)
    if has_bounded_share(plan):
        yield from _share_ends(account, tariff)


def has_bounded_campaign(plan: Plan) -> bool:
    """Whether the end of what a campaign pays for each subscriber is to be told ahead."""
    campaigns = (line.rule.campaign for line in plan.lines)
    return any(item is not None and item.overshoot_tolerance_octets is not None for item in campaigns)


def has_bounded_share(plan: Plan) -> bool:
    """Whether the end of what each member may draw from a bucket is to be told ahead."""
    allowances = (slot.allowance.allowance for slot in plan.slots if slot.allowance is not None)
    return any(item.share is not None and item.overshoot_tolerance_octets is not None for item in allowances)


def drawing_on(account: AccountState, tariff: Tariff, place: int) -> tuple[str, ...]:
    """The rules in force some of whose traffic draws on the bucket at `place`, as things stand.

    Not one all of whose traffic finds octets in buckets that are drawn before it.
    """
    plan = plan_of(account.standing, tariff)
    return tuple(
        rule.rule.id
        for rule, blocks, taken in _met(account, plan)
        if not blocks and rule.rule.charging == "charge" and rule.rule.gate_status == "open"
        if _comes_to(plan, place, rule, taken, tariff) and not _barred(rule, account, plan, tariff, taken)
    )


def _comes_to(plan: Plan, place: int, rule: CompiledRule, taken: list[Reach], tariff: Tariff) -> bool:
    for slot in plan.slots[:place]:
        if slot.allowance is not None and slot.available and covers(slot.allowance.reach, rule.reach):
            return False
    allowance = plan.slots[place].allowance
    return allowance is not None and _serves(allowance.reach, rule, taken, tariff)


def _money_ends(account: AccountState, tariff: Tariff) -> Iterator[End]:
    sales = _sales_of_all(account, tariff)
    if sales is not None:
        whose, sold = sales
        yield from (end._replace(subscriber_ids=whose) for end in ends_of(account, sold))


def _ends_behind(account: AccountState, plan: Plan, tariff: Tariff) -> Iterator[End]:
    """Where money ends that buckets near their end lead to: a gateway cannot wait for the one to hear of the other.

    Members who differ are told of money when a bucket has ended.
    """
    near = [place for place, bucket in enumerate(account.buckets) if bucket.quota_octets and bucket.remaining]
    if not near or account.member_standings:
        return
    emptied = [replace(item, remaining=0) if place in near else item for place, item in enumerate(account.buckets)]
    then = with_standing(replace(account, buckets=tuple(emptied)), tariff)
    drawing = {place: drawing_on(account, tariff, place) for place in near}
    users = {rule_id for rule_ids in drawing.values() for rule_id in rule_ids}
    # What one rule may draw and another may not, is no more than can be counted for both.
    octets = sum(account.buckets[place].remaining for place in near if _serves_all(plan, place, users))
    if users:
        yield from behind(_money_ends(then, tariff), octets, sorted(users))


def _serves_all(plan: Plan, place: int, rule_ids: set[str]) -> bool:
    """Whether all traffic of some rules may draw on the bucket at `place`."""
    allowance = plan.slots[place].allowance
    rules = (line.rule for line in plan.lines if line.rule.rule.id in rule_ids)
    return allowance is not None and all(covers(allowance.reach, rule.reach) for rule in rules)


def _campaign_ends(account: AccountState, tariff: Tariff) -> Iterator[End]:
    for group in groups(account, tariff):
        found: dict[str, list[CompiledRule]] = {}
        for rule, blocks, _ in _met(group, plan_of(group.standing, tariff)):
            campaign = None if blocks or rule.rule.gate_status == "closed" else rule.campaign
            if campaign is not None and campaign.overshoot_tolerance_octets is not None:
                found.setdefault(campaign.id, []).append(rule)
        for sponsored in found.values():
            yield from (end for member in group.subscriber_ids if (end := campaign_end(account, sponsored, member)))


def _share_ends(account: AccountState, tariff: Tariff) -> Iterator[End]:
    for group in groups(account, tariff):
        slots = plan_of(group.standing, tariff).slots
        for place, (bucket, slot) in enumerate(zip(account.buckets, slots, strict=True)):
            if slot.allowance is None or not slot.available or slot.allowance.allowance.share is None:
                continue
            tolerance = slot.allowance.allowance.overshoot_tolerance_octets
            users = () if tolerance is None else drawing_on(group, tariff, place)
            if users:
                yield from (
                    share_end(account, bucket, slot.allowance, member, users) for member in group.subscriber_ids
                )


def _as_of(account: AccountState, tariff: Tariff, at_ms: int) -> AccountState:
    products = tuple(
        replace(product, status="active") if product.status == "pending_active" else product
        for product in account.products
        if product.start_ms <= at_ms and (product.end_ms is None or at_ms < product.end_ms)
    )
    buckets = tuple(bucket for bucket in account.buckets if holds(bucket.valid_from_ms, bucket.valid_until_ms, at_ms))
    purses = tuple(purse for purse in account.purses if holds(purse.valid_from_ms, purse.valid_until_ms, at_ms))
    then = replace(account, products=products, buckets=buckets, purses=purses, settled_ms=at_ms)
    return with_standing(then, tariff)


def _met(account: AccountState, plan: Plan) -> Iterator[tuple[CompiledRule, bool, list[Reach]]]:
    """The rules in force, whether an empty budget closes the gate of each, and what rules before it take."""
    taken: list[Reach] = []
    for line in plan.lines:
        if line.unmet is None:
            rule, blocks = _as_sponsored(line.rule, account)
            yield rule, blocks, taken
            if _takes_all(rule.rule):
                taken.append(rule.reach)


def _as_sponsored(rule: CompiledRule, account: AccountState) -> tuple[CompiledRule, bool]:
    """The rule as it is, without its sponsor where that pays no more, and whether its gate is closed by that."""
    campaign = rule.campaign
    if rule.unsponsored is None or campaign is None:
        return rule, False
    if campaign.per_subscriber_octets is not None and _have_had(campaign, account):
        return rule.unsponsored, False
    if campaign.id not in account.empty_campaigns:
        return rule, False
    blocks = campaign.budget is not None and campaign.budget.on_empty == "block"
    return rule.unsponsored, blocks and rule.rule.gate_status == "open"


def _have_had(campaign: Campaign, account: AccountState) -> bool:
    """Whether all members have had what the campaign pays for each in a cycle: rules are for all of them alike."""
    most = campaign.per_subscriber_octets or 0
    counters = (campaign_counter(campaign.id, member) for member in account.subscriber_ids)
    return all(used_of(name, account.counters).octets >= most for name in counters)


def _takes_all(rule: PccRule) -> bool:
    """Whether it is for all traffic of its scope, whatever a single flow is like."""
    any_congestion = rule.min_congestion == 0 and rule.max_congestion == MAX_CONGESTION
    return not rule.min_confidence and rule.suspect == "any" and any_congestion


def _barred(rule: CompiledRule, account: AccountState, plan: Plan, tariff: Tariff, taken: list[Reach]) -> bool:
    """Whether nothing could pay for any traffic that meets the rule; what rules before it take does not meet it."""
    if rule.rule.charging != "charge" or rule.rule.gate_status == "closed":
        return False
    met = _connections(rule, plan, tariff, taken)
    covering = next((price for price in met if covers(price.reach, rule.reach)), None)
    # Where every connection has a price and none can be paid, nothing passes, whoever pays for the octets.
    purses = [purse for purse in plan.purses if _serves(purse.reach, rule, taken, tariff)]
    credit = credit_of(account, purses) if account.purses else 0
    closed = covering is not None and not any(can_pay(price, account, Means(0, credit)) for price in met)
    means = Means(reserve_of(covering, account), credit)
    by_buckets = _by_buckets(rule, plan, tariff, taken)
    if by_buckets is not None:
        return by_buckets or closed
    payers = _selling(rule, plan, tariff, taken)
    return closed or not any(can_pay(price, account, means) for price in payers)


def _connections(rule: CompiledRule, plan: Plan, tariff: Tariff, taken: list[Reach]) -> list[CompiledPrice]:
    """The prices of connections of the rule's traffic; none where its sponsor is, or was, to pay for the octets."""
    if tariff.rules.get(rule.rule.id, rule).rule.charging == "sponsored":
        return []
    return [price for price in plan.connections if _serves(price.reach, rule, taken, tariff)]


def _selling(rule: CompiledRule, plan: Plan, tariff: Tariff, taken: list[Reach]) -> Iterator[CompiledPrice]:
    """The prices that some traffic of the rule is sold at; behind one for all of it, no other comes into play."""
    for price in plan.prices:
        if _serves(price.reach, rule, taken, tariff):
            yield price
            # What goes by the kind of traffic is passed over where that is in doubt.
            if not price.reach.by_kind and covers(price.reach, rule.reach):
                return


def _by_buckets(rule: CompiledRule, plan: Plan, tariff: Tariff, taken: list[Reach]) -> bool | None:
    """Whether buckets close the rule's gate (True), or keep it open (False); None where its traffic is sold.

    Equally narrow buckets are one supply, as for a flow: while one of them has octets it pays, and when all are empty,
    the last says what follows.
    """
    serving = [
        (slot.allowance, slot.available)
        for slot in plan.slots
        if slot.allowance is not None and _serves(slot.allowance.reach, rule, taken, tariff)
    ]
    for _, group in itertools.groupby(serving, key=lambda item: item[0].reach.specificity):
        supply = list(group)
        if any(available for _, available in supply):
            return False
        word = _last_word(rule, [allowance for allowance, _ in supply])
        if word != "continue":
            return word == "block"
    return None


def _last_word(rule: CompiledRule, supply: list[CompiledAllowance]) -> str:
    """What follows for the rule's traffic when equally narrow buckets are empty; for a part of it, if that may pass."""
    later: list[Reach] = []
    words: set[str] = set()
    for allowance in reversed(supply):
        # A bucket all of whose traffic a later one is for, too, has nothing to say.
        if not any(covers(reach, allowance.reach) for reach in later):
            words.add(allowance.allowance.on_exhausted)
        later.append(allowance.reach)
    if "throttle" in words:
        return "throttle"
    everything = any(covers(reach, rule.reach) for reach in later)
    return "block" if words == {"block"} and everything else "continue"


def _sales_of_all(account: AccountState, tariff: Tariff) -> tuple[tuple[str, ...], list[Sale]] | None:
    """What is sold, and to whom; None where nothing is.

    A gateway counts the same rules for all who use a quota up. So members to whom other rules are sold than to the
    first of them are left out.
    """
    whose: list[str] = []
    first: list[Sale] = []
    for group in groups(account, tariff):
        sales = list(_sales(group, plan_of(group.standing, tariff), tariff))
        if sales and (not first or [sale.rule_id for sale in sales] == [sale.rule_id for sale in first]):
            first = first or sales
            whose += group.subscriber_ids
    everybody = len(whose) == len(account.subscriber_ids)
    return (() if everybody else tuple(whose), first) if first else None


def _sales(account: AccountState, plan: Plan, tariff: Tariff) -> Iterator[Sale]:
    """The rules in force whose traffic is sold, all of it or at least what passes."""
    for rule, blocks, taken in _met(account, plan):
        if blocks or rule.rule.charging != "charge" or rule.rule.gate_status == "closed":
            continue
        if _by_buckets(rule, plan, tariff, taken) is not None or _barred(rule, account, plan, tariff, taken):
            continue
        connections = _connections(rule, plan, tariff, taken)
        reserve = max((reserve_of(price, account) for price in connections), default=0)
        paying = [purse for purse in plan.purses if _serves(purse.reach, rule, taken, tariff)]
        means = Means(0, credit_of(account, paying) if account.purses else 0)
        selling = _selling(rule, plan, tariff, taken)
        open_prices = tuple(price for price in selling if can_pay(price, account, means))
        yield Sale(rule.rule.id, open_prices, tuple(p for p in paying if covers(p.reach, rule.reach)), reserve)


def _serves(payer: Reach, rule: CompiledRule, taken: list[Reach], tariff: Tariff) -> bool:
    return meet(payer, rule.reach, tariff.category_of) and not any(covers(reach, payer) for reach in taken)
