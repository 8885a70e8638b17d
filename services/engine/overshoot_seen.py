"""How far ends were overshot in a recording: what passed, although a gateway would have had to act before.

Ends are those of buckets and of members' shares in them, of the money that a price is paid with (its cap, a spending
limit, a balance), and of what a campaign pays for each subscriber. A gateway is taken to hear of a change when the
record that caused it has arrived, and to count against a quota what it has passed and not yet reported, as the quota's
contract says. Records do not say when within their interval their octets flowed; they are taken to have flowed evenly.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from schemas.decision import PolicyDecision, PolicyUpdate
from schemas.flow import FlowRecord
from schemas.state import AccountState
from services.engine.caps import SPENDING_LIMIT, campaign_counter, used_of
from services.engine.money_ends import BALANCE, BEHIND
from services.engine.outcome import Outcome
from services.engine.shares import share_id
from services.engine.tariff import Tariff, Traffic

FORGET_MS = 3_600_000
"""How long after a gateway has heard records are looked at that may have begun before: longer than any interval."""

_ENDS = {"cap_reached": "", "limit_reached": SPENDING_LIMIT, "balance": BALANCE}
"""Causes of updates by which money has ended, and what it was that did; a cap has the name of its price."""


class OvershootReport(msgspec.Struct, frozen=True, kw_only=True):
    """One allowance, price or campaign: what it promises, and the worst that was seen."""

    offering_id: str
    """Empty for a campaign."""
    allowance_id: str
    """Empty where it is no allowance."""
    tolerance_octets: int | None
    """The bound that is declared; null when none is."""
    ended: int
    """Ends of its buckets, of the money it is paid with, or of a subscriber's volume, that changed what may pass."""
    told_ahead: int
    """How many of them a gateway had heard of before."""
    worst_octets: int
    """Most that passed beyond one of them."""
    price_id: str | None = None
    """The price, where it is one."""
    campaign_id: str | None = None
    """The campaign, where it is one's volume per subscriber."""


class _Key(NamedTuple):
    """What has an end; two of the three names beside the offering are empty."""

    offering_id: str
    allowance_id: str = ""
    price_id: str = ""
    campaign_id: str = ""


class _Count(msgspec.Struct):
    ended: int = 0
    told_ahead: int = 0
    worst_octets: int = 0


class _Heard(msgspec.Struct):
    """When a gateway heard of an end, what it may let pass from then on, and what had passed already."""

    key: _Key
    heard_ms: int
    quota_octets: int
    rule_ids: tuple[str, ...] = ()
    """Rules whose traffic comes to this end; a bucket goes by its scope."""
    subscriber_ids: tuple[str, ...] = ()
    """Whose traffic does; empty: everybody's."""
    with_buckets: bool = False
    """Whether what is drawn from buckets comes to it, too."""
    passed_octets: int = 0
    recorded_octets: int = 0
    """What records have told since that came to this end."""
    over: bool = False


class OvershootMeter:
    """Watches the outcomes of one tariff. Memory grows with the accounts that are near an end."""

    def __init__(self, tariff: Tariff) -> None:
        self._tariff = tariff
        self._counts: dict[_Key, _Count] = {}
        self._heard: dict[str, dict[str, _Heard]] = {}

    def take(self, flow: FlowRecord, outcome: Outcome, *, now_ms: int) -> None:
        """Take notice of one decided flow that arrived at `now_ms`."""
        decision, account_id = outcome.decision, outcome.account.account_id
        if decision is None:
            return
        if self._heard.get(account_id):
            self._passed(flow, decision, outcome.account, now_ms)
        if any(not draw.left for draw in decision.draws):
            self._buckets_ended(outcome, decision, now_ms)
        elif any(update.cause == "share" and update.quota_octets is None for update in outcome.updates):
            self._share_ended(outcome, decision, now_ms)
        if outcome.updates:
            self._money_ended(outcome, decision, now_ms)
            self._campaign_ended(outcome, decision, now_ms)
        # Last, since what an end brings is told without a quota, as what takes one back is.
        self.hear(outcome, now_ms=now_ms)

    def hear(self, outcome: Outcome, *, now_ms: int) -> None:
        """Take notice of what gateways are told, by a flow or by a command."""
        for update in outcome.updates:
            if update.quota_octets is not None:
                self._foretold(outcome, update, update.quota_octets, now_ms)
            elif update.gate_status == "open":
                self._taken_back(update)

    def report(self) -> Iterator[OvershootReport]:
        """Each allowance and price that declares a bound, and whatever had an end that mattered."""
        declared = dict(_declared(self._tariff))
        for key in sorted(declared.keys() | self._counts.keys()):
            count, tolerance = self._counts.get(key, _Count()), declared.get(key)
            if tolerance is not None or count.ended:
                yield OvershootReport(
                    offering_id=key.offering_id, allowance_id=key.allowance_id, tolerance_octets=tolerance,
                    ended=count.ended, told_ahead=count.told_ahead, worst_octets=count.worst_octets,
                    price_id=key.price_id or None, campaign_id=key.campaign_id or None,
                )  # fmt: skip

    def _passed(self, flow: FlowRecord, decision: PolicyDecision, account: AccountState, now_ms: int) -> None:
        """Add what of the flow had passed before a gateway heard; forget what no record can change any more."""
        heard, traffic = self._heard[account.account_id], _traffic(flow, decision, self._tariff)
        for end_id, entry in list(heard.items()):
            if now_ms - entry.heard_ms > FORGET_MS and entry.over:
                del heard[end_id]
            else:
                self._add(flow, self._counted(entry, traffic, decision, account), entry)

    def _add(self, flow: FlowRecord, octets: int, entry: _Heard) -> None:
        entry.recorded_octets += octets
        if flow.start_ms < entry.heard_ms:
            entry.passed_octets += _octets_before(flow, octets, entry.heard_ms)
            self._over(entry)

    def _counted(self, entry: _Heard, traffic: Traffic, decision: PolicyDecision, account: AccountState) -> int:
        """Octets of a flow that come to this end: those that it would have paid for, had it not come."""
        if entry.subscriber_ids and decision.subscriber_id not in entry.subscriber_ids:
            return 0
        if entry.key.allowance_id:
            if not _draws_on(entry.key, traffic, decision, self._tariff):
                return 0
            return decision.octets - decision.sponsored_octets - _drawn_before(entry.key, decision, account)
        if decision.rule_id not in entry.rule_ids:
            return 0
        if entry.key.campaign_id:
            return decision.octets - decision.not_charged_octets
        return (decision.charged_octets if entry.with_buckets else _sold(decision)) + decision.blocked_octets

    def _foretold(self, outcome: Outcome, update: PolicyUpdate, quota_octets: int, now_ms: int) -> None:
        end_id, account = update.quota_bucket_id or update.quota_limit_id or "", outcome.account
        key = (
            _bucket(account, end_id, self._tariff)
            if update.quota_bucket_id
            else _declaring(account, end_id, self._tariff)
        )
        if key is None:
            return
        ends = self._heard.setdefault(account.account_id, {})
        known = ends.get(end_id)
        if known is None or known.over or not _is_same(known, quota_octets, now_ms):
            ends[end_id] = _Heard(
                key, now_ms, quota_octets, update.quota_rule_ids, update.quota_subscriber_ids,
                with_buckets=end_id.startswith(BEHIND),
            )  # fmt: skip

    def _taken_back(self, update: PolicyUpdate) -> None:
        """Forget the ends of money that were foretold for a rule; what still is, is told after this."""
        ends = self._heard.get(update.account_id, {})
        for end_id, entry in list(ends.items()):
            is_theirs = not entry.subscriber_ids or not set(entry.subscriber_ids).isdisjoint(update.subscriber_ids)
            if not entry.key.allowance_id and update.rule_id in entry.rule_ids and is_theirs and not entry.over:
                del ends[end_id]

    def _buckets_ended(self, outcome: Outcome, decision: PolicyDecision, now_ms: int) -> None:
        if not any(_is_of_bucket(update) for update in outcome.updates):
            return
        drawn = decision.sponsored_octets
        for draw in decision.draws:
            drawn += draw.octets
            key = None if draw.left else _bucket(outcome.account, draw.bucket_id, self._tariff)
            if key is not None:
                self._end(outcome, draw.bucket_id, _Heard(key, now_ms, drawn - decision.octets))

    def _share_ended(self, outcome: Outcome, decision: PolicyDecision, now_ms: int) -> None:
        """Count the end of a member's share of a bucket, which closed a gate or changed another rule for the member."""
        member, drawn = decision.subscriber_id, decision.sponsored_octets
        for draw in decision.draws:
            drawn += draw.octets
            key = _bucket(outcome.account, draw.bucket_id, self._tariff)
            compiled = self._tariff.allowance(key.offering_id, key.allowance_id) if key else None
            counter = used_of(share_id(draw.bucket_id, member), outcome.account.counters)
            if key is not None and compiled is not None and counter.octets == compiled.allowance.share:
                self._end(outcome, counter.counter_id, _Heard(key, now_ms, drawn - decision.octets, (), (member,)))

    def _money_ended(self, outcome: Outcome, decision: PolicyDecision, now_ms: int) -> None:
        """Count an end of money that the flow has brought about: its price's cap, the limit or the balance."""
        closed = [update for update in outcome.updates if _is_of_money(update)]
        cause = next((update.cause for update in closed), None)
        price = _price(outcome.account, decision, self._tariff)
        if cause is not None and price is not None:
            end_id = _ENDS[cause] or f"price:{price.offering_id}/{price.price_id}"
            rule_ids = tuple(update.rule_id for update in closed)
            whose = closed[0].subscriber_ids
            everybody = len(whose) == len(outcome.account.subscriber_ids)
            unheard = _Heard(price, now_ms, -decision.blocked_octets, rule_ids, () if everybody else whose)
            self._end(outcome, end_id, unheard)

    def _campaign_ended(self, outcome: Outcome, decision: PolicyDecision, now_ms: int) -> None:
        """Count the end of what a campaign pays for a subscriber, where that has taken the sponsor out of the rule."""
        rule = self._tariff.rules.get(decision.rule_id)
        if rule is None or rule.campaign is None or not decision.sponsored_octets:
            return
        told = [item for item in outcome.updates if item.rule_id == decision.rule_id and item.quota_octets is None]
        if any(update.action == "modify" and update.sponsor_id is None for update in told):
            key, beyond = _Key("", campaign_id=rule.campaign.id), decision.octets - decision.sponsored_octets
            end_id = campaign_counter(rule.campaign.id, decision.subscriber_id)
            self._end(outcome, end_id, _Heard(key, now_ms, -beyond, (decision.rule_id,), (decision.subscriber_id,)))

    def _end(self, outcome: Outcome, end_id: str, unheard: _Heard) -> None:
        """Count an end; `unheard` is what a gateway that had not heard of it before knows now."""
        ends = self._heard.setdefault(outcome.account.account_id, {})
        entry = ends.get(end_id) or ends.get(f"{BEHIND}{end_id}")
        if entry is None or entry.over:
            entry = ends[end_id] = unheard
        else:
            # Of what is paid for by the same money, that counts which came to its end.
            entry.key = unheard.key
            self._count(entry).told_ahead += 1
        self._count(entry).ended += 1
        entry.over = True
        self._over(entry)

    def _over(self, entry: _Heard) -> None:
        if entry.over:
            count = self._count(entry)
            count.worst_octets = max(count.worst_octets, entry.passed_octets - entry.quota_octets)

    def _count(self, entry: _Heard) -> _Count:
        return self._counts.setdefault(entry.key, _Count())


def _declared(tariff: Tariff) -> Iterator[tuple[_Key, int | None]]:
    for offering_id, offering in tariff.offerings.items():
        for name, compiled in offering.allowances.items():
            yield _Key(offering_id, allowance_id=name), compiled.allowance.overshoot_tolerance_octets
        for price in offering.prices:
            yield _Key(offering_id, price_id=price.price.id), price.price.overshoot_tolerance_octets
    for campaign in tariff.campaigns.values():
        yield _Key("", campaign_id=campaign.id), campaign.overshoot_tolerance_octets


def _is_of_bucket(update: PolicyUpdate) -> bool:
    """Whether the end of a bucket may have brought it: rules that come and go, or a gate that closes.

    A rule that is told with an open gate is what it was, and a quota of it is taken back. Where money paid on after the
    bucket and ended with the same flow, that end is the money's.
    """
    as_it_was = update.action == "modify" and update.gate_status == "open"
    return update.quota_octets is None and not as_it_was and not _is_of_money(update)


def _is_of_money(update: PolicyUpdate) -> bool:
    """Whether an end of money closed a gate."""
    return update.quota_octets is None and update.gate_status == "closed" and update.cause in _ENDS


def _octets_before(flow: FlowRecord, octets: int, at_ms: int) -> int:
    """How many of the flow's octets had flowed by `at_ms`."""
    if flow.end_ms <= at_ms:
        return octets
    return octets * (at_ms - flow.start_ms) // (flow.end_ms - flow.start_ms)


def _draws_on(key: _Key, traffic: Traffic, decision: PolicyDecision, tariff: Tariff) -> bool:
    """Whether the flow would have drawn from the bucket, had it not ended."""
    rule = tariff.rules.get(decision.rule_id, tariff.built_in).rule
    if decision.treatment == "not_charged" or (rule.charging == "free" and rule.bucket is None):
        return False
    compiled = tariff.allowance(key.offering_id, key.allowance_id)
    return compiled is not None and compiled.reach.miss(traffic) is None


def _is_same(known: _Heard, quota_octets: int, now_ms: int) -> bool:
    """Whether a quota is the one that a gateway has: it comes with each rule that changes, and again for another cause.

    Then the gateway has gone by it since it heard first.
    """
    if (known.heard_ms, known.quota_octets) == (now_ms, quota_octets):
        return True
    return known.quota_octets - known.recorded_octets == quota_octets


def _drawn_before(key: _Key, decision: PolicyDecision, account: AccountState) -> int:
    """Octets that buckets paid for which are drawn before any of an allowance: they come to no end of it."""
    earlier = set[str]()
    for bucket in account.buckets:
        if (bucket.offering_id, bucket.allowance_id) == (key.offering_id, key.allowance_id):
            break
        earlier.add(bucket.bucket_id)
    return sum(draw.octets for draw in decision.draws if draw.bucket_id in earlier)


def _sold(decision: PolicyDecision) -> int:
    return decision.price.octets_to - decision.price.octets_from if decision.price else 0


def _traffic(flow: FlowRecord, decision: PolicyDecision, tariff: Tariff) -> Traffic:
    seen = decision.classification
    around = tariff.surroundings.of(flow) if tariff.surroundings is not None else ()
    return Traffic(seen.application, seen.category, seen.service, flow.rat_type, seen.confidence, *around)


def _bucket(account: AccountState, bucket_id: str, tariff: Tariff) -> _Key | None:
    for bucket in account.buckets:
        if bucket.bucket_id == bucket_id and tariff.allowance(bucket.offering_id, bucket.allowance_id) is not None:
            return _Key(bucket.offering_id, allowance_id=bucket.allowance_id)
    return None


def _price(account: AccountState, decision: PolicyDecision, tariff: Tariff) -> _Key | None:
    """The price that the flow was sold at."""
    if decision.price is None:
        return None
    return next((key for key, _ in _prices(account, tariff) if key.price_id == decision.price.price_id), None)


def _declaring(account: AccountState, limit_id: str, tariff: Tariff) -> _Key | None:
    """The campaign, the shared bucket, the price whose cap it is, or one whose tolerance made other money be told."""
    limit_id = limit_id.removeprefix(BEHIND)
    if limit_id.startswith("campaign:"):
        return _Key("", campaign_id=limit_id.split(":")[1])
    if limit_id.startswith("member:"):
        shared = (item.bucket_id for item in account.buckets if limit_id.startswith(share_id(item.bucket_id, "")))
        return next((_bucket(account, bucket_id, tariff) for bucket_id in shared), None)
    declared = [(key, name) for key, name in _prices(account, tariff, declared=True)]
    return next((key for key, name in declared if limit_id in (name, SPENDING_LIMIT, BALANCE)), None)


def _prices(account: AccountState, tariff: Tariff, *, declared: bool = False) -> Iterator[tuple[_Key, str]]:
    """The prices of products held, and the names of their caps."""
    for product in account.products:
        offering = tariff.offerings.get(product.offering_id)
        for price in offering.prices if offering else ():
            if not declared or price.price.overshoot_tolerance_octets is not None:
                yield _Key(product.offering_id, price_id=price.price.id), price.counter_id
