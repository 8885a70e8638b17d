"""Keep what gateways have installed in step with an account.

Whatever changes an account's products, buckets, money or members ends here: its rules in force are compared with those
that were told last, and the differences go out. See `services.engine.effective` for the rules themselves.
"""

from collections.abc import Collection

from msgspec.structs import replace

from schemas.decision import PolicyUpdate
from schemas.flow import FlowRecord
from schemas.state import AccountState, Watch
from services.engine.caps import Means, can_pay, limit_of, reserve_of
from services.engine.due import next_due_ms
from services.engine.effective import limits_ahead, rules_in_force
from services.engine.foretell import awaits, foretell, rule_foretold
from services.engine.members import alike_installed, groups, installed_for, with_installed
from services.engine.money_ends import declares, is_for, octets_gone
from services.engine.overshoot import after_sale, begun, is_due, is_to_tell, octets_in_interval, watched, watched_over
from services.engine.select import plan_of
from services.engine.standing import draw_order, with_standing
from services.engine.tariff import Tariff
from services.engine.updates import changes_of, drafted, mark_of, numbered, removal, rule_of


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
    account = replace(with_standing(account, tariff), due_ms=next_due_ms(account, tariff))
    if declares(prices := plan_of(account.standing, tariff).prices):
        account = watched_over(account, prices, tariff)
    return _tell(account, tariff, at_ms=at_ms, cause=cause)


def look_at_money(
    account: AccountState, flow: FlowRecord, tariff: Tariff, *, at_ms: int, changed: bool
) -> tuple[AccountState, bool]:
    """Bring the pace of money along after a flow at `at_ms`; and whether gateways have to hear of an end of it now.

    `changed` says that the rules are settled after this, or that money went for something else than octets: then
    what is left is found out in any case. The account's standing must be up to date.
    """
    # Of what each member has, others take nothing.
    mine = [watch for watch in account.watches if is_for(watch.limit_id, flow.subscriber_id)]
    gone = {watch.limit_id: octets_gone(account, watch.limit_id) for watch in mine}
    after = {watch.limit_id: after_sale(watch, gone[watch.limit_id], flow, at_ms=at_ms) for watch in mine}
    watches = tuple(after.get(watch.limit_id, watch) for watch in account.watches)
    account = replace(account, watches=watches)
    if not changed and not any(is_due(watch, gone[watch.limit_id]) for watch in after.values()):
        return account, False
    known = {watch.limit_id: watch for watch in watches}
    found, is_near = list[Watch](), False
    for end in limits_ahead(account, tariff):
        sold = octets_gone(account, end.limit_id)
        watch = watched(known.get(end.limit_id), end, sold, at_ms=at_ms)
        if watch.limit_id not in known:
            watch = begun(watch, _recent(account, flow, at_ms=at_ms, interval_ms=watch.interval_ms))
        is_near = is_near or is_to_tell(watch, end, sold)
        found.append(watch)
    # An end that is no more, such as of a price that nothing pays any longer, is still awaited by who has its quota.
    still = {watch.limit_id for watch in found}
    is_over = any(watch.quota_octets and watch.limit_id not in still for watch in watches)
    return replace(account, watches=tuple(found)), is_near or is_over


def money_turns(before: AccountState, after: AccountState, tariff: Tariff) -> bool:
    """Whether, with what was paid from `before` to `after`, the rules in force are not those installed any more.

    Balance and limit serve all prices: a sale at one can leave too little for the next octet at another, though the
    sale itself met no end. And it can open a gate: what is left of a whole unit that was just paid is for any traffic.
    While each price could be paid from balance and limit alone, before and after, nothing has turned.
    """
    if _is_ample(before, tariff) and _is_ample(after, tariff):
        return False
    told, _ = changes_of(after, tariff, at_ms=after.settled_ms, cause="spend")
    return told is not after


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
    return _tell(replace(account, empty_campaigns=told), tariff, at_ms=at_ms, cause="budget")


def hand_over(
    account: AccountState, tariff: Tariff, joined_ids: tuple[str, ...], left_ids: tuple[str, ...], *, at_ms: int
) -> tuple[AccountState, tuple[PolicyUpdate, ...]]:
    """Install the rules in force for members who joined, and remove them for members who left.

    What a bucket's end will bring is told to all members anew: its quota is for all of them together.
    """
    drafts = list[PolicyUpdate]()
    told = {member: installed_for(account, member) for member in account.subscriber_ids if member not in joined_ids}
    newcomers = replace(account, subscriber_ids=joined_ids)
    for group in groups(newcomers, tariff) if joined_ids else ():
        in_force = list(rules_in_force(group, tariff))
        marks = tuple(mark_of(rule, barred=barred) for rule, barred in in_force)
        told.update(dict.fromkeys(group.subscriber_ids, marks))
        drafts += [
            drafted(group, "install", rule, barred=barred, at_ms=at_ms, cause="profile") for rule, barred in in_force
        ]
    for marks, members in alike_installed(account, left_ids):
        known = [rule_of(mark) for mark in marks]
        known += sorted({rule_foretold(text) for text in account.foretold}.difference(known))
        leavers = replace(account, subscriber_ids=members)
        drafts += [removal(leavers, rule_id, at_ms, "profile") for rule_id in known]
    account = with_installed(account, {member: told[member] for member in account.subscriber_ids})
    account, updates = numbered(account, drafts)
    if not account.foretold:
        return account, updates
    account, ahead = foretell(replace(account, foretold=()), tariff, (), cause="profile")
    return account, updates + ahead


def _tell(
    account: AccountState, tariff: Tariff, *, at_ms: int, cause: str
) -> tuple[AccountState, tuple[PolicyUpdate, ...]]:
    account, changed = changes_of(account, tariff, at_ms=at_ms, cause=cause)
    account, updates = numbered(account, [draft for _, draft in changed])
    if not awaits(account, tariff):
        return account, updates
    account, ahead = foretell(account, tariff, updates, cause=cause)
    return account, updates + ahead


def _recent(account: AccountState, flow: FlowRecord, *, at_ms: int, interval_ms: int) -> int:
    """The pace of what has only just begun to be sold, or soon will be: that of what was drawn until now."""
    paces = [
        octets_in_interval(bucket, flow, at_ms=at_ms, interval_ms=interval_ms)
        for bucket in account.buckets
        if bucket.quota_octets
    ]
    return max([sum(entry.charged_octets for entry in account.pending), *paces])


def _is_ample(account: AccountState, tariff: Tariff) -> bool:
    if account.payment != "prepaid" and limit_of(account) is None and not account.purses:
        return True
    plan = plan_of(account.standing, tariff)
    reserve = Means(max((reserve_of(price, account) for price in plan.connections), default=0))
    return all(can_pay(price, account, reserve) for price in (*plan.prices, *plan.connections))
