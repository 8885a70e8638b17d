"""Which PCC rules should be installed for an account, and what has to be told to a gateway when they change.

A rule is in force while the account's own conditions for it hold: the product is held, the bucket is in the state that
the rule wants, the campaign runs. Conditions on the traffic are the gateway's to look at. A rule whose traffic nothing
could pay for stays in force with its gate closed; one whose sponsor's budget is used up, without its sponsor.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from schemas.catalogue import Campaign, PccRule
from schemas.decision import UPDATE_VERSION, PolicyUpdate
from schemas.fields import MAX_CONGESTION
from schemas.flow import FlowRecord
from schemas.state import AccountState, Bucket, Product, Watch
from services.engine.caps import Means, campaign_counter, can_pay, limit_of, reserve_of, used_of
from services.engine.eligibility import tenure_ms
from services.engine.identity import short
from services.engine.late import grace_ends
from services.engine.money_ends import End, Sale, campaign_ends, declares, ends_of, octets_gone
from services.engine.overshoot import after_sale, is_due, is_to_tell, told_anew, watched, with_quota
from services.engine.periods import add_days, next_turn_ms
from services.engine.purses import credit_of
from services.engine.scopes import covers, meet
from services.engine.select import Plan, plan_of
from services.engine.standing import draw_order, standing_of, with_standing
from services.engine.tariff import CompiledOffering, CompiledPrice, CompiledRule, Reach, Tariff


def effective_rules(account: AccountState, tariff: Tariff, *, at_ms: int) -> tuple[PccRule, ...]:
    """The rules in force for `account` at `at_ms`, in order of precedence, the built-in one last.

    A rule without anything to pay for its traffic is returned with its gate closed. Products and buckets count only
    inside their validity; cycles that end before `at_ms` are not renewed here (`services.engine.timers` does that).
    """
    then = _as_of(account, at_ms)
    plan = plan_of(standing_of(then, tariff), tariff)
    return tuple(
        rule.rule.model_copy(update={"gate_status": "closed"}) if barred else rule.rule
        for rule, barred in _in_force(then, plan, tariff)
    )


def money_turns(before: AccountState, after: AccountState, tariff: Tariff) -> bool:
    """Whether, with what was paid from `before` to `after`, the rules in force are not those installed any more.

    Balance and limit serve all prices: a sale at one can leave too little for the next octet at another, though the
    sale itself met no end. And it can open a gate: what is left of a whole unit that was just paid is for any traffic.
    While each price could be paid from balance and limit alone, before and after, nothing has turned.
    """
    if _is_ample(before, tariff) and _is_ample(after, tariff):
        return False
    marks, _ = _changes(after, tariff, at_ms=after.settled_ms, cause="spend")
    return marks != after.installed_rules


def _is_ample(account: AccountState, tariff: Tariff) -> bool:
    if account.payment != "prepaid" and limit_of(account) is None and not account.purses:
        return True
    plan = plan_of(account.standing, tariff)
    reserve = Means(max((reserve_of(price, account) for price in plan.connections), default=0))
    return all(can_pay(price, account, reserve) for price in (*plan.prices, *plan.connections))


def settle(
    account: AccountState, tariff: Tariff, *, at_ms: int, cause: str
) -> tuple[AccountState, tuple[PolicyUpdate, ...]]:
    """Bring in order all that follows from a change of products, buckets, money or catalogue at `at_ms`.

    The order of buckets, the standing, the next due time and the installed rules; the updates say what changed for a
    gateway, with `cause`. Additions come before removals, so that no traffic is without its rule in between. What the
    end of a bucket will bring is told ahead, with the bucket's quota, once the bucket has one.
    """
    at_ms = max(at_ms, account.settled_ms)
    buckets = tuple(sorted(account.buckets, key=lambda bucket: draw_order(bucket, tariff)))
    account = replace(account, buckets=buckets, settled_ms=at_ms, catalogue_version=tariff.version)
    account = replace(with_standing(account, tariff), due_ms=_due_ms(account, tariff))
    account, updates = _install(account, tariff, at_ms=at_ms, cause=cause)
    if _awaits(account, tariff):
        account, ahead = _foretell(account, tariff, updates, cause=cause)
        updates += ahead
    return account, updates


def look_at_money(
    account: AccountState, flow: FlowRecord, tariff: Tariff, *, at_ms: int, changed: bool
) -> tuple[AccountState, bool]:
    """Bring the pace of money along after a flow at `at_ms`; and whether gateways have to hear of an end of it now.

    `changed` says that the rules are settled after this, or that money went for something else than octets: then
    what is left is found out in any case. The account's standing must be up to date.
    """
    gone = {watch.limit_id: octets_gone(account, watch.limit_id) for watch in account.watches}
    watches = tuple(after_sale(watch, gone[watch.limit_id], flow, at_ms=at_ms) for watch in account.watches)
    account = replace(account, watches=watches)
    if not changed and not any(is_due(watch, gone[watch.limit_id]) for watch in watches):
        return account, False
    known = {watch.limit_id: watch for watch in watches}
    # What has only just begun to be sold has the pace of what was drawn until now.
    recent = sum(entry.charged_octets for entry in account.pending)
    found, is_near = list[Watch](), False
    for end in _limits(account, tariff):
        sold = octets_gone(account, end.limit_id)
        watch = watched(known.get(end.limit_id), end, sold, at_ms=at_ms)
        watch = watch if watch.limit_id in known else replace(watch, near_octets=recent)
        is_near = is_near or is_to_tell(watch, end, sold)
        found.append(watch)
    return replace(account, watches=tuple(found)), is_near


def tell_budgets(
    account: AccountState, tariff: Tariff, empty: Collection[str], *, at_ms: int
) -> tuple[AccountState, tuple[PolicyUpdate, ...]]:
    """Tell gateways which campaigns of the account's products have no budget left, and which have one again.

    `empty` names all such campaigns. Nothing but the rules in force depends on it: who pays for a flow is found out
    when it is decided. The same account, and nothing to tell, where nothing has turned.
    """
    held = (tariff.offerings.get(product.offering_id) for product in account.products) if empty else ()
    mine = {campaign.id for offering in held if offering for campaign in offering.campaigns}.intersection(empty)
    told = tuple(sorted(mine))
    if told == account.empty_campaigns or not account.standing:
        return account, ()
    account, updates = _install(replace(account, empty_campaigns=told), tariff, at_ms=at_ms, cause="budget")
    if _awaits(account, tariff):
        account, ahead = _foretell(account, tariff, updates, cause="budget")
        updates += ahead
    return account, updates


def _as_of(account: AccountState, at_ms: int) -> AccountState:
    products = tuple(
        replace(product, status="active") if product.status == "pending_active" else product
        for product in account.products
        if product.start_ms <= at_ms and (product.end_ms is None or at_ms < product.end_ms)
    )
    buckets = tuple(
        bucket
        for bucket in account.buckets
        if bucket.valid_from_ms <= at_ms and (bucket.valid_until_ms is None or at_ms < bucket.valid_until_ms)
    )
    purses = tuple(
        purse
        for purse in account.purses
        if purse.valid_from_ms <= at_ms and (purse.valid_until_ms is None or at_ms < purse.valid_until_ms)
    )
    return replace(account, products=products, buckets=buckets, purses=purses, settled_ms=at_ms)


def _due_ms(account: AccountState, tariff: Tariff) -> int:
    return min(time for time in _boundaries(account, tariff) if time > account.settled_ms)


def _boundaries(account: AccountState, tariff: Tariff) -> Iterator[int]:
    yield account.cycle_end_ms
    yield from (bucket.valid_until_ms for bucket in account.buckets if bucket.valid_until_ms is not None)
    yield from (purse.valid_until_ms for purse in account.purses if purse.valid_until_ms is not None)
    for product in account.products:
        if product.end_ms is not None:
            yield product.end_ms
        if product.status == "pending_active":
            yield product.start_ms
        if (offering := tariff.offerings.get(product.offering_id)) is not None:
            yield from _turns(offering, account)
            yield reminder_ms(product, offering, account)
            yield renewal_reminder_ms(product, offering, account)
        yield product.trial_end_ms
    yield from grace_ends(account)


def _turns(offering: CompiledOffering, account: AccountState) -> Iterator[int]:
    """Times at which a campaign, a window or a condition on the account's age turns."""
    for campaign in offering.campaigns:
        yield campaign.valid_from_ms
        yield campaign.valid_until_ms or 0
    for condition in offering.conditions.values():
        yield tenure_ms(condition, account)
    for windows in offering.windows.values():
        yield next_turn_ms(windows, account.settled_ms, time_zone=account.time_zone) or 0


def reminder_ms(product: Product, offering: CompiledOffering, account: AccountState) -> int:
    """When the subscriber is told once more that a trial ends; 0 for never."""
    days = offering.offering.trial_reminder_days
    if product.trial != "running" or not days:
        return 0
    return add_days(product.trial_end_ms, -days, time_zone=account.time_zone)


def renewal_reminder_ms(product: Product, offering: CompiledOffering, account: AccountState) -> int:
    """When the subscriber is told that the term ends and another one begins; 0 for never."""
    days = offering.offering.renewal_reminder_days
    if not product.renews or offering.offering.renewal != "automatic" or not days or product.end_ms is None:
        return 0
    at_ms = add_days(product.end_ms, -days, time_zone=account.time_zone)
    return at_ms if at_ms > max(product.start_ms, product.trial_end_ms) else 0


def _in_force(account: AccountState, plan: Plan, tariff: Tariff) -> Iterator[tuple[CompiledRule, bool]]:
    """The rules in force, and whether each has its gate closed for want of a payer."""
    for rule, blocks, taken in _met(account, plan):
        yield rule, blocks or _barred(rule, account, plan, tariff, taken)


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
    met = [price for price in plan.connections if _serves(price.reach, rule, taken, tariff)]
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


def _selling(rule: CompiledRule, plan: Plan, tariff: Tariff, taken: list[Reach]) -> Iterator[CompiledPrice]:
    """The prices that some traffic of the rule is sold at; behind one for all of it, no other comes into play."""
    for price in plan.prices:
        if _serves(price.reach, rule, taken, tariff):
            yield price
            # What goes by the kind of traffic is passed over where that is in doubt.
            if not price.reach.by_kind and covers(price.reach, rule.reach):
                return


def _by_buckets(rule: CompiledRule, plan: Plan, tariff: Tariff, taken: list[Reach]) -> bool | None:
    """Whether buckets close the rule's gate (True), or keep it open (False); None where its traffic is sold."""
    for slot in plan.slots:
        if slot.allowance is None or not _serves(slot.allowance.reach, rule, taken, tariff):
            continue
        on_exhausted = slot.allowance.allowance.on_exhausted
        if slot.available or on_exhausted == "throttle":
            return False
        if on_exhausted == "block" and covers(slot.allowance.reach, rule.reach):
            return True
    return None


def _limits(account: AccountState, tariff: Tariff) -> Iterator[End]:
    """The ends of money, and of what campaigns pay, that are to be told ahead."""
    plan = plan_of(account.standing, tariff)
    if declares(plan.prices) and (sales := list(_sales(account, plan, tariff))):
        yield from ends_of(account, sales)
    if _has_bounded_campaign(plan):
        open_rules = (rule for rule, blocks, _ in _met(account, plan) if not blocks)
        yield from campaign_ends(account, (rule for rule in open_rules if rule.rule.gate_status == "open"))


def _has_bounded_campaign(plan: Plan) -> bool:
    campaigns = (line.rule.campaign for line in plan.lines)
    return any(item is not None and item.overshoot_tolerance_octets is not None for item in campaigns)


def _sales(account: AccountState, plan: Plan, tariff: Tariff) -> Iterator[Sale]:
    """The rules in force whose traffic is sold, all of it or at least what passes."""
    for rule, blocks, taken in _met(account, plan):
        if blocks or rule.rule.charging != "charge" or rule.rule.gate_status == "closed":
            continue
        if _by_buckets(rule, plan, tariff, taken) is not None or _barred(rule, account, plan, tariff, taken):
            continue
        connections = [price for price in plan.connections if _serves(price.reach, rule, taken, tariff)]
        reserve = max((reserve_of(price, account) for price in connections), default=0)
        paying = [purse for purse in plan.purses if _serves(purse.reach, rule, taken, tariff)]
        means = Means(0, credit_of(account, paying) if account.purses else 0)
        selling = _selling(rule, plan, tariff, taken)
        open_prices = tuple(price for price in selling if can_pay(price, account, means))
        yield Sale(rule.rule.id, open_prices, tuple(p for p in paying if covers(p.reach, rule.reach)), reserve)


def _serves(payer: Reach, rule: CompiledRule, taken: list[Reach], tariff: Tariff) -> bool:
    return meet(payer, rule.reach, tariff.category_of) and not any(covers(reach, payer) for reach in taken)


def _install(
    account: AccountState, tariff: Tariff, *, at_ms: int, cause: str
) -> tuple[AccountState, tuple[PolicyUpdate, ...]]:
    marks, changed = _changes(account, tariff, at_ms=at_ms, cause=cause)
    if not changed and marks == account.installed_rules:
        return account, ()
    return _number(replace(account, installed_rules=marks), [draft for _, draft in changed])


def _changes(
    account: AccountState, tariff: Tariff, *, at_ms: int, cause: str
) -> tuple[tuple[str, ...], list[tuple[str, PolicyUpdate]]]:
    """The marks of the rules in force, and what differs from those installed, each with the mark of its rule."""
    in_force = list(_in_force(account, plan_of(account.standing, tariff), tariff))
    marks = tuple(rule.closed_mark if barred else rule.open_mark for rule, barred in in_force)
    if marks == account.installed_rules:
        return marks, []
    before = {_rule_of(mark): mark for mark in account.installed_rules}
    changed = [
        (mark, _draft(account, _action(rule, before), rule, barred=barred, at_ms=at_ms, cause=cause))
        for (rule, barred), mark in zip(in_force, marks, strict=True)
        if before.get(rule.rule.id) != mark
    ]
    gone = before.keys() - {rule.rule.id for rule, _ in in_force}
    changed += [(f"{rule_id}#", _removal(account, rule_id, at_ms, cause)) for rule_id in sorted(gone)]
    return marks, changed


def _action(rule: CompiledRule, before: Mapping[str, str]) -> str:
    return "modify" if rule.rule.id in before else "install"


class _Coming(NamedTuple):
    """What one end will bring."""

    name: str
    """Of the end, as `AccountState.foretold` has it."""
    left: int
    """Octets until then."""
    fits: bool
    """Whether the quota that gateways have of it, if any, is what is left."""
    changes: list[tuple[str, PolicyUpdate]]

    def texts(self) -> list[str]:
        """What is foretold of it."""
        return [f"{self.name}|{mark}" for mark, _ in self.changes]


def _awaits(account: AccountState, tariff: Tariff) -> bool:
    """Whether something is foretold, or may have to be."""
    if account.foretold or account.watches or any(bucket.quota_octets for bucket in account.buckets):
        return True
    plan = plan_of(account.standing, tariff)
    return declares(plan.prices) or _has_bounded_campaign(plan)


def _foretell(
    account: AccountState, tariff: Tariff, told: tuple[PolicyUpdate, ...], *, cause: str
) -> tuple[AccountState, tuple[PolicyUpdate, ...]]:
    """Tell what each end that has a quota will bring, and take back what no longer follows from one.

    A rule that was just `told` without a quota has nothing foretold any more, whatever the end. What is foretold
    already, with a quota that still fits, is not told again.
    """
    told_ids = {update.rule_id for update in told}
    known = [text for text in account.foretold if _rule_foretold(text) not in told_ids]
    coming = [*_bucket_ends_coming(account, tariff, cause=cause)]
    account, of_money = _limits_coming(account, tariff, cause=cause)
    coming += of_money
    foretold = [text for item in coming for text in item.texts()]
    ahead_of = {text.rpartition("#")[0] for text in foretold}
    stale = {_rule_foretold(text) for text in known if text.rpartition("#")[0] not in ahead_of}
    # A rule that is told as it stands has lost what other ends will bring it, too.
    known = [text for text in known if _rule_foretold(text) not in stale]
    anew = [
        item
        for item in coming
        if item.changes and not (item.fits and item.texts() == [t for t in known if t.startswith(f"{item.name}|")])
    ]
    drafts = _taken_back(account, tariff, stale, cause=cause)
    drafts += [replace(update, quota_octets=item.left) for item in anew for _, update in item.changes]
    account = _with_quotas(account, {item.name: item.left for item in anew})
    return _number(replace(account, foretold=tuple(foretold)), drafts)


def _with_quotas(account: AccountState, left: Mapping[str, int]) -> AccountState:
    """The account with the quotas that are told now, by the name of their end."""
    if not left:
        return account
    return replace(
        account,
        buckets=tuple(
            replace(bucket, quota_octets=left[_end_name(bucket)]) if _end_name(bucket) in left else bucket
            for bucket in account.buckets
        ),
        watches=tuple(
            told_anew(watch, left[watch.limit_id], octets_gone(account, watch.limit_id))
            if watch.limit_id in left
            else watch
            for watch in account.watches
        ),
    )


def _end_name(bucket: Bucket) -> str:
    return f"{bucket.bucket_id}@{bucket.valid_from_ms}"


def _bucket_ends_coming(account: AccountState, tariff: Tariff, *, cause: str) -> Iterator[_Coming]:
    for bucket in account.buckets:
        if bucket.quota_octets and bucket.remaining:
            # What a correction has put back, a gateway has counted all the same.
            fits = bucket.remaining <= bucket.quota_octets and cause != "corrected"
            yield _Coming(_end_name(bucket), bucket.remaining, fits, _at_end_of(bucket, account, tariff))


def _limits_coming(account: AccountState, tariff: Tariff, *, cause: str) -> tuple[AccountState, list[_Coming]]:
    """The account with its watches, and what ends of money that are near will bring."""
    before = {watch.limit_id: watch for watch in account.watches}
    coming, watches = list[_Coming](), list[Watch]()
    for end in _limits(account, tariff):
        old, sold = before.get(end.limit_id), octets_gone(account, end.limit_id)
        watch = with_quota(watched(old, end, sold, at_ms=account.settled_ms), end, sold)
        watches.append(watch)
        if watch.quota_octets:
            fits = watch == old and cause != "corrected"
            coming.append(_Coming(end.limit_id, end.octets, fits, _at_limit(end, account, tariff)))
    return replace(account, watches=tuple(watches)), coming


def _at_limit(end: End, account: AccountState, tariff: Tariff) -> list[tuple[str, PolicyUpdate]]:
    _, changed = _changes(with_standing(end.then, tariff), tariff, at_ms=account.settled_ms, cause=end.cause)
    return [
        (mark, replace(update, quota_limit_id=end.limit_id, quota_rule_ids=end.rule_ids)) for mark, update in changed
    ]


def _at_end_of(bucket: Bucket, account: AccountState, tariff: Tariff) -> list[tuple[str, PolicyUpdate]]:
    """What the end of `bucket` would change for a gateway, each with its rule's mark then; nothing without a bound."""
    compiled = tariff.allowance(bucket.offering_id, bucket.allowance_id)
    if compiled is None or compiled.allowance.overshoot_tolerance_octets is None:
        return []
    emptied = tuple(replace(item, remaining=0) if item is bucket else item for item in account.buckets)
    then = with_standing(replace(account, buckets=emptied), tariff)
    _, changed = _changes(then, tariff, at_ms=account.settled_ms, cause="exhausted")
    users = tuple(
        rule.rule.id
        for rule, barred in _in_force(account, plan_of(account.standing, tariff), tariff)
        if not barred and rule.rule.charging != "free" and meet(compiled.reach, rule.reach, tariff.category_of)
    )
    if not users:
        # Nothing draws from it as things stand, so it comes to no end.
        return []
    return [(mark, replace(update, quota_bucket_id=bucket.bucket_id, quota_rule_ids=users)) for mark, update in changed]


def _taken_back(account: AccountState, tariff: Tariff, rule_ids: set[str], *, cause: str) -> list[PolicyUpdate]:
    """Tell rules as they stand now: what was foretold for them is then no longer awaited."""
    at_ms = account.settled_ms
    in_force = {
        rule.rule.id: (rule, barred) for rule, barred in _in_force(account, plan_of(account.standing, tariff), tariff)
    }
    return [
        _draft(account, "modify", in_force[rule_id][0], barred=in_force[rule_id][1], at_ms=at_ms, cause=cause)
        if rule_id in in_force
        else _removal(account, rule_id, at_ms, cause)
        for rule_id in sorted(rule_ids)
    ]


def _rule_foretold(text: str) -> str:
    return _rule_of(text.rpartition("|")[2])


def hand_over(
    account: AccountState, tariff: Tariff, joined_ids: tuple[str, ...], left_ids: tuple[str, ...], *, at_ms: int
) -> tuple[AccountState, tuple[PolicyUpdate, ...]]:
    """Install the rules in force for members who joined, and remove them for members who left.

    What a bucket's end will bring is told to all members anew: its quota is for all of them together.
    """
    in_force = list(_in_force(account, plan_of(account.standing, tariff), tariff))
    newcomers, leavers = replace(account, subscriber_ids=joined_ids), replace(account, subscriber_ids=left_ids)
    drafts = []
    if joined_ids:
        drafts += [
            _draft(newcomers, "install", rule, barred=barred, at_ms=at_ms, cause="profile") for rule, barred in in_force
        ]
    if left_ids:
        known = [rule.rule.id for rule, _ in in_force]
        known += sorted({_rule_foretold(text) for text in account.foretold}.difference(known))
        drafts += [_removal(leavers, rule_id, at_ms, "profile") for rule_id in known]
    account, updates = _number(account, drafts)
    if not account.foretold:
        return account, updates
    account, ahead = _foretell(replace(account, foretold=()), tariff, (), cause="profile")
    return account, updates + ahead


def _rule_of(mark: str) -> str:
    return mark.partition("#")[0]


def _number(account: AccountState, drafts: list[PolicyUpdate]) -> tuple[AccountState, tuple[PolicyUpdate, ...]]:
    """Give each update its number of the account."""
    first, name = account.next_update, short(account.account_id)
    updates = tuple(replace(draft, update_id=f"{name}:{first + n}") for n, draft in enumerate(drafts))
    return replace(account, next_update=first + len(updates)), updates


def _removal(account: AccountState, rule_id: str, at_ms: int, cause: str) -> PolicyUpdate:
    return PolicyUpdate(
        version=UPDATE_VERSION, update_id="-", account_id=account.account_id, subscriber_ids=account.subscriber_ids,
        action="remove", rule_id=rule_id, at_ms=at_ms, cause=cause, catalogue_version=account.catalogue_version,
    )  # fmt: skip


def _draft(
    account: AccountState, action: str, rule: CompiledRule, *, barred: bool, at_ms: int, cause: str
) -> PolicyUpdate:
    return PolicyUpdate(
        version=UPDATE_VERSION,
        update_id="-",
        account_id=account.account_id,
        subscriber_ids=account.subscriber_ids,
        action=action,  # type: ignore[arg-type]
        rule_id=rule.rule.id,
        at_ms=at_ms,
        cause=cause,
        catalogue_version=account.catalogue_version,
        precedence=rule.rule.precedence,
        rating_group=rule.rule.rating_group,
        gate_status="closed" if barred else rule.rule.gate_status,
        applications=rule.rule.scope.applications,
        categories=rule.rule.scope.categories,
        qos=rule.qos,
        sponsor_id=rule.campaign.sponsor_id if rule.campaign else None,
        services=rule.rule.scope.services,
        rat_types=rule.rule.scope.rat_types,
        plmns=rule.networks.wanted,
        except_plmns=rule.networks.unwanted,
        dnns=rule.rule.scope.dnns,
        min_congestion=rule.rule.min_congestion,
        max_congestion=rule.rule.max_congestion,
        suspect=rule.rule.suspect,
        redirect_url=rule.rule.redirect_url,
        steering=rule.rule.steering,
    )
