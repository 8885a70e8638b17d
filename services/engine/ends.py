"""How near the ends are that traffic of a kind can come to: buckets, shares, caps, limits, what campaigns pay.

For explanations: what is charged follows `services.engine.charge` alone.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from schemas.state import AccountState
from services.engine.caps import NEARING_PERCENT, campaign_counter, cap_of, limit_of, spent_micros, used_of
from services.engine.leases import released_octets
from services.engine.reasons import Met
from services.engine.select import Selection
from services.engine.shares import share_id
from services.engine.tariff import CompiledPrice, Tariff

Unit = Literal["octets", "ms", "micros"]


class End(NamedTuple):
    """Something that comes to an end by use."""

    kind: Literal["bucket", "share", "cap", "spending_limit", "balance", "campaign", "budget"]
    name: str
    """Bucket id, price id, campaign id; empty for what an account has one of."""
    unit: Unit
    used: int
    most: int | None
    """None of a balance: nobody said where it began. Of a budget, what is released by now."""
    left: int

    @property
    def is_near(self) -> bool:
        """Whether so much is used that a subscriber would be told of a cap; nothing left is near, too."""
        return self.left <= 0 or (self.most is not None and self.used * 100 >= self.most * NEARING_PERCENT)


def ends_of(
    met: Met, subscriber_id: str, tariff: Tariff, *, now_ms: int, leases: Mapping[str, int] | None = None
) -> tuple[End, ...]:
    """The ends that what is `met` can come to, as its account stands, in the order of the waterfall.

    `leases` is what is left, of what is released by `now_ms`, of campaigns' budgets.
    """
    account, selection = met.account, met.selection
    return (
        *_campaign(account, subscriber_id, selection, now_ms, leases),
        *_buckets(met, subscriber_id, tariff),
        *_money(account, selection),
    )


def _campaign(
    account: AccountState, subscriber_id: str, selection: Selection, now_ms: int, leases: Mapping[str, int] | None
) -> Iterator[End]:
    campaign = selection.rule.campaign
    if campaign is None:
        return
    if campaign.per_subscriber_octets is not None:
        used = used_of(campaign_counter(campaign.id, subscriber_id), account.counters).octets
        most = campaign.per_subscriber_octets
        yield End("campaign", campaign.id, "octets", used, most, max(0, most - used))
    if campaign.budget is not None and leases is not None:
        most, left = released_octets(campaign, now_ms), leases.get(campaign.id, 0)
        yield End("budget", campaign.id, "octets", most - left, most, left)


def asleep_of(met: Met, tariff: Tariff) -> Iterator[str]:
    """Buckets that are for such traffic and serve nothing now."""
    for bucket in met.account.buckets:
        compiled = tariff.allowance(bucket.offering_id, bucket.allowance_id)
        if compiled is not None and bucket.bucket_id in met.asleep and compiled.reach.miss(met.traffic) is None:
            yield bucket.bucket_id


def _buckets(met: Met, subscriber_id: str, tariff: Tariff) -> Iterator[End]:
    account, traffic = met.account, met.traffic
    for bucket in account.buckets:
        if bucket.bucket_id in met.asleep:
            continue
        compiled = tariff.allowance(bucket.offering_id, bucket.allowance_id)
        if compiled is None or compiled.reach.miss(traffic) is not None or not traffic.gets(compiled.reach):
            continue
        used = max(0, bucket.granted - bucket.remaining)
        yield End("bucket", bucket.bucket_id, bucket.unit, used, bucket.granted, bucket.remaining)
        if (share := compiled.allowance.share) is not None:
            mine = used_of(share_id(bucket.bucket_id, subscriber_id), account.counters).octets
            yield End("share", bucket.bucket_id, bucket.unit, mine, share, max(0, share - mine))


def _money(account: AccountState, selection: Selection) -> Iterator[End]:
    prices = [price for price in (selection.price, selection.connection) if price is not None]
    for price in prices:
        yield from _cap(price, account)
    if not prices:
        return
    limit = limit_of(account)
    if limit is not None:
        spent = spent_micros(account.counters)
        yield End("spending_limit", "", "micros", spent, limit, max(0, limit - spent))
    if account.payment == "prepaid":
        yield End("balance", "", "micros", 0, None, account.balance_micros)


def _cap(price: CompiledPrice, account: AccountState) -> Iterator[End]:
    cap = cap_of(price, account)
    if cap is not None:
        spent = used_of(price.counter_id, account.counters).micros
        yield End("cap", price.price.id, "micros", spent, cap, max(0, cap - spent))
