"""What gateways are told ahead: the end of a bucket or of money, as a quota, and the rules that apply after it.

Usage is told after it happened, so whoever waits for an end hears of it late. See `services.engine.overshoot` for when
an end is near enough, and docs/adr/0004-how-overshoot-is-bounded.md for the bound.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from schemas.decision import PolicyUpdate
from schemas.state import AccountState, Bucket, Watch
from services.engine.effective import (
    drawing_on,
    has_bounded_campaign,
    has_bounded_share,
    limits_ahead,
    rules_in_force,
)
from services.engine.members import groups
from services.engine.money_ends import End, declares, octets_gone
from services.engine.overshoot import told_anew, watched, with_quota
from services.engine.select import plan_of
from services.engine.standing import with_standing
from services.engine.tariff import Tariff
from services.engine.updates import changes_of, drafted, numbered, removal, rule_of


def awaits(account: AccountState, tariff: Tariff) -> bool:
    """Whether something is foretold, or may have to be."""
    if account.foretold or account.watches or any(bucket.quota_octets for bucket in account.buckets):
        return True
    plan = plan_of(account.standing, tariff)
    return declares(plan.prices) or has_bounded_campaign(plan) or has_bounded_share(plan)


def foretell(
    account: AccountState, tariff: Tariff, told: tuple[PolicyUpdate, ...], *, cause: str
) -> tuple[AccountState, tuple[PolicyUpdate, ...]]:
    """Tell what each end that has a quota will bring, and take back what no longer follows from one.

    A rule that was just `told` without a quota has nothing foretold any more, whatever the end. What is foretold
    already, with a quota that still fits, is not told again.
    """
    coming = [*_bucket_ends_coming(account, tariff, cause=cause)]
    account, of_money = _limits_coming(account, tariff, cause=cause)
    coming += of_money
    everybody = account.subscriber_ids
    foretold = list(dict.fromkeys(text for item in coming for text in item.texts(everybody)))
    stale = _stale(account, told, foretold)
    # Who is told a rule as it stands has lost what other ends will bring it, too.
    lost = {(update.rule_id, member) for update in told for member in update.subscriber_ids} | stale
    known = [text for text in account.foretold if lost.isdisjoint(_awaiting(text, everybody))]
    anew = [
        item
        for item in coming
        if item.changes
        and not (item.fits and item.texts(everybody) == [t for t in known if t.startswith(f"{item.name}|")])
    ]
    drafts = _taken_back(account, tariff, stale, cause=cause)
    drafts += [replace(update, quota_octets=item.left) for item in anew for _, update in item.changes]
    account = _with_quotas(account, {item.name: item.left for item in anew})
    return numbered(replace(account, foretold=tuple(foretold)), drafts)


def rule_foretold(text: str) -> str:
    """The rule that a text of `AccountState.foretold` is about."""
    return rule_of(text.rpartition("|")[2])


class _Coming(NamedTuple):
    """What one end will bring."""

    name: str
    """Of the end, as `AccountState.foretold` has it."""
    left: int
    """Octets until then."""
    fits: bool
    """Whether the quota that gateways have of it, if any, is what is left."""
    changes: list[tuple[str, PolicyUpdate]]

    def texts(self, everybody: tuple[str, ...]) -> list[str]:
        """What is foretold of it; whose traffic brings it is in a digest, and who is told, if not `everybody`."""
        return [
            f"{self.name}|{mark}:{_digest(update.quota_rule_ids, update.quota_subscriber_ids)}"
            f"{_names(update.subscriber_ids) if update.subscriber_ids != everybody else ''}"
            for mark, update in self.changes
        ]


def _bucket_ends_coming(account: AccountState, tariff: Tariff, *, cause: str) -> Iterator[_Coming]:
    for bucket in account.buckets:
        if bucket.quota_octets and bucket.remaining:
            # What a correction has put back, a gateway has counted all the same.
            fits = bucket.remaining <= bucket.quota_octets and cause != "corrected"
            yield _Coming(_end_name(bucket), bucket.remaining, fits, _at_end_of(bucket, account, tariff))


def _at_end_of(bucket: Bucket, account: AccountState, tariff: Tariff) -> list[tuple[str, PolicyUpdate]]:
    """What the end of `bucket` would change for a gateway, each with its rule's mark then; nothing without a bound."""
    compiled = tariff.allowance(bucket.offering_id, bucket.allowance_id)
    if compiled is None or compiled.allowance.overshoot_tolerance_octets is None:
        return []
    users, whose = _users_of(bucket, account, tariff)
    if not users:
        # Nothing draws from it as things stand, so it comes to no end.
        return []
    emptied = tuple(replace(item, remaining=0) if item is bucket else item for item in account.buckets)
    then = with_standing(replace(account, buckets=emptied), tariff)
    _, changed = changes_of(then, tariff, at_ms=account.settled_ms, cause="exhausted")
    return [
        (
            mark,
            replace(update, quota_bucket_id=bucket.bucket_id, quota_rule_ids=users, quota_subscriber_ids=whose),
        )
        for mark, update in changed
    ]


def _users_of(bucket: Bucket, account: AccountState, tariff: Tariff) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The rules whose traffic draws on a bucket, and the members whose; no members: everybody's."""
    rule_ids, whose, place = dict[str, None](), list[str](), account.buckets.index(bucket)
    for group in groups(account, tariff):
        found = drawing_on(group, tariff, place) if plan_of(group.standing, tariff).slots[place].available else ()
        if found:
            rule_ids.update(dict.fromkeys(found))
            whose += group.subscriber_ids
    return tuple(rule_ids), () if len(whose) == len(account.subscriber_ids) else tuple(whose)


def _limits_coming(account: AccountState, tariff: Tariff, *, cause: str) -> tuple[AccountState, list[_Coming]]:
    """The account with its watches, and what ends of money that are near will bring."""
    before = {watch.limit_id: watch for watch in account.watches}
    coming, watches = list[_Coming](), list[Watch]()
    for end in limits_ahead(account, tariff):
        old, sold = before.get(end.limit_id), octets_gone(account, end.limit_id)
        watch = with_quota(watched(old, end, sold, at_ms=account.settled_ms), end, sold)
        watches.append(watch)
        if watch.quota_octets:
            fits = watch == old and cause != "corrected"
            coming.append(_Coming(end.limit_id, end.octets, fits, _at_limit(end, account, tariff)))
    return replace(account, watches=tuple(watches)), coming


def _at_limit(end: End, account: AccountState, tariff: Tariff) -> list[tuple[str, PolicyUpdate]]:
    _, changed = changes_of(with_standing(end.then, tariff), tariff, at_ms=account.settled_ms, cause=end.cause)
    users = {"quota_rule_ids": end.rule_ids, "quota_subscriber_ids": end.subscriber_ids}
    return [(mark, replace(update, quota_limit_id=end.limit_id, **users)) for mark, update in changed]


def _stale(account: AccountState, told: tuple[PolicyUpdate, ...], foretold: list[str]) -> set[tuple[str, str]]:
    """Rules, and members who still await a change of them, that no end will bring them any more."""
    everybody = account.subscriber_ids
    heard = {(update.rule_id, member) for update in told for member in update.subscriber_ids}
    still: dict[str, set[tuple[str, str]]] = {}
    for text in foretold:
        still.setdefault(text.rpartition("#")[0], set()).update(_awaiting(text, everybody))
    return {
        pair
        for text in account.foretold
        for pair in _awaiting(text, everybody)
        if pair not in heard and pair not in still.get(text.rpartition("#")[0], ())
    }


def _taken_back(
    account: AccountState, tariff: Tariff, stale: set[tuple[str, str]], *, cause: str
) -> list[PolicyUpdate]:
    """Tell rules as they stand now to members: what was foretold for them is then no longer awaited."""
    at_ms, drafts = account.settled_ms, list[PolicyUpdate]()
    for group in groups(account, tariff) if stale else ():
        in_force = {rule.rule.id: (rule, barred) for rule, barred in rules_in_force(group, tariff)}
        for rule_id in sorted({rule_id for rule_id, _ in stale}):
            members = tuple(member for member in group.subscriber_ids if (rule_id, member) in stale)
            if members and rule_id in in_force:
                rule, barred = in_force[rule_id]
                whom = replace(group, subscriber_ids=members)
                drafts.append(drafted(whom, "modify", rule, barred=barred, at_ms=at_ms, cause=cause))
            elif members:
                drafts.append(removal(replace(group, subscriber_ids=members), rule_id, at_ms, cause))
    return drafts


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


def _awaiting(text: str, everybody: tuple[str, ...]) -> list[tuple[str, str]]:
    """The rule that a text of `AccountState.foretold` is about, with each member who was told."""
    names = text.rpartition("#")[2].partition(":")[2].partition(":")[2]
    members = [bytes.fromhex(name).decode() for name in names.split(",")] if names else everybody
    return [(rule_foretold(text), member) for member in members]


def _names(members: tuple[str, ...]) -> str:
    # In hexadecimal digits, since an id may hold any sign, those that divide the text as well.
    return f":{','.join(member.encode().hex() for member in members)}"


def _digest(*parts: tuple[str, ...]) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=4).hexdigest()
