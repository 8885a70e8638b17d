"""Where money ends, what a campaign pays for each subscriber, a member's share; how far it is until then, in octets.

Money ends at a price's cap, at the subscriber's own limit, with a prepaid balance.

Gateways count octets, so the end of money is told them as octets that can still be sold. Where one price alone sells,
that is exact. Where several sell from the same money, it is what is surely paid for in whatever parts they sell it: a
quota that is too large would break the bound, and one that is too small is told anew when it is used up. See
docs/adr/0004-how-overshoot-is-bounded.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from schemas.state import AccountState, Bucket, Counter
from services.engine.caps import (
    SPENDING_LIMIT,
    campaign_counter,
    limit_of,
    octets_under_cap,
    raised_id,
    spent_micros,
    used_of,
)
from services.engine.prices import curve_of
from services.engine.purses import PAID, credit_of, paid_from
from services.engine.shares import share_id
from services.engine.tariff import CompiledAllowance, CompiledPrice, CompiledPurse, CompiledRule

BALANCE = "balance"
"""The name of a prepaid balance among what can end."""

BEHIND = "behind:"
"""Before the name of an end of money that is told together with that of the buckets which are drawn first."""

_CAUSES = {SPENDING_LIMIT: "limit_reached", BALANCE: "balance"}


class Sale(NamedTuple):
    """A rule in force whose traffic is sold, since no bucket pays for any of it."""

    rule_id: str
    prices: tuple[CompiledPrice, ...]
    """Those that some of it is sold at, and that are not at their end."""
    purses: tuple[CompiledPurse, ...]
    """Granted money that pays for all of it."""
    reserve_micros: int
    """Kept for the end of its connections."""


class End(NamedTuple):
    """An end of money that is to be told ahead."""

    limit_id: str
    """`price:<offering>/<price>` (its cap), `spending_limit`, `balance`, `campaign:<campaign>:<subscriber>` or
    `member:<bucket>:<subscriber>` (the member's share of it)."""
    cause: str
    octets: int
    """What can surely be sold, or is paid by the campaign, until then; at least 1."""
    tolerance_octets: int
    interval_ms: int
    rule_ids: tuple[str, ...]
    """Rules whose traffic uses these octets up."""
    then: AccountState
    """The account as it is at the end."""
    subscriber_ids: tuple[str, ...] = ()
    """Whose traffic uses these octets up; empty: everybody's."""


def declares(prices: Sequence[CompiledPrice]) -> bool:
    """Whether one of the prices wants its end to be told ahead."""
    return any(price.price.overshoot_tolerance_octets is not None for price in prices)


def ends_of(account: AccountState, sales: Sequence[Sale]) -> Iterator[End]:
    """The ends of money ahead of what is sold: blocking caps of prices with a tolerance, then limit or balance."""
    prices = {price.counter_id: price for sale in sales for price in sale.prices}
    for price in prices.values():
        if price.price.overshoot_tolerance_octets is not None and price.price.on_cap == "block":
            yield from _cap_end(price, account, [sale for sale in sales if price in sale.prices])
    if declares(tuple(prices.values())):
        yield from _money_end(tuple(prices.values()), account, sales)


def campaign_end(account: AccountState, rules: Sequence[CompiledRule], member: str) -> End | None:
    """The end of what the campaign of some sponsored `rules` pays for a member; None where that has been had."""
    campaign = rules[0].campaign
    if campaign is None or campaign.per_subscriber_octets is None:
        return None
    used = used_of(campaign_counter(campaign.id, member), account.counters)
    left = campaign.per_subscriber_octets - used.octets
    if left <= 0:
        return None
    then = _with(account, replace(used, octets=campaign.per_subscriber_octets))
    bound = campaign.overshoot_tolerance_octets or 0, campaign.reporting_interval_s * 1_000
    names = tuple(rule.rule.id for rule in rules)
    return End(used.counter_id, "campaign_cap", left, *bound, names, then, (member,))


def share_end(
    account: AccountState, bucket: Bucket, compiled: CompiledAllowance, member: str, rule_ids: tuple[str, ...]
) -> End:
    """The end of what a member may draw from a bucket, not used up yet, with rules that draw on it."""
    allowance, used = compiled.allowance, used_of(share_id(bucket.bucket_id, member), account.counters)
    share = allowance.share or 0
    bound = allowance.overshoot_tolerance_octets or 0, allowance.reporting_interval_s * 1_000
    then = _with(account, replace(used, octets=share))
    return End(used.counter_id, "share", share - used.octets, *bound, rule_ids, then, (member,))


def is_for(limit_id: str, subscriber_id: str) -> bool:
    """Whether a subscriber's traffic can bring an end nearer: one of all, or that member's own."""
    return not _is_of_member(limit_id) or limit_id.endswith(f":{subscriber_id}")


def octets_gone(account: AccountState, limit_id: str) -> int:
    """Octets of the cycle that have gone towards an end: paid by the campaign, drawn of a share, or sold at any price.

    Connections, which are counted like octets sold, make it no smaller.
    """
    if _is_of_member(limit_id):
        return used_of(limit_id, account.counters).octets
    sold = sum(counter.octets for counter in account.counters if counter.counter_id.startswith("price:"))
    if limit_id.startswith(BEHIND):
        sold += sum(bucket.granted - bucket.remaining for bucket in account.buckets if not bucket.timed)
    return sold


def behind(ends: Iterable[End], octets: int, rule_ids: Iterable[str]) -> Iterator[End]:
    """Ends of money as they are when buckets have given `octets`, which `rule_ids` draw on, before any is spent."""
    drawing = tuple(rule_ids)
    for end in ends:
        users = tuple(dict.fromkeys((*end.rule_ids, *drawing)))
        yield end._replace(limit_id=f"{BEHIND}{end.limit_id}", octets=octets + end.octets, rule_ids=users)


def _is_of_member(limit_id: str) -> bool:
    return limit_id.startswith(("campaign:", "member:"))


def _cap_end(price: CompiledPrice, account: AccountState, sales: Sequence[Sale]) -> Iterator[End]:
    most = octets_under_cap(price, account)
    left = 0 if most is None else most - used_of(price.counter_id, account.counters).octets
    if left > 0:
        then = _sold(account, price, left, _common(sales))
        yield End(price.counter_id, "cap_reached", left, *_bound_of((price,)), _rules_of(sales), then)


def _money_end(prices: tuple[CompiledPrice, ...], account: AccountState, sales: Sequence[Sale]) -> Iterator[End]:
    """The end of limit or balance, whichever holds less, with the granted money that all of the sales can use."""
    own = _own(account)
    if own is None:
        return
    purses = _common(sales)
    micros = own[0] + credit_of(account, purses) - max(sale.reserve_micros for sale in sales)
    octets = _surely_sold(micros, prices, account) if micros >= 0 else 0
    if octets is not None and octets > 0:
        then = _spent(account, prices, micros, octets, purses)
        if len(prices) == 1:
            then = _sold(account, prices[0], octets, purses)
        yield End(own[1], _CAUSES[own[1]], octets, *_bound_of(prices), _rules_of(sales), then)


def _bound_of(prices: Sequence[CompiledPrice]) -> tuple[int, int]:
    """The tolerance and the interval in ms to go by: the largest that is declared, which tells no price too late."""
    declared = [price.price for price in prices if price.price.overshoot_tolerance_octets is not None]
    tolerance = max(price.overshoot_tolerance_octets or 0 for price in declared)
    return tolerance, max(price.reporting_interval_s for price in declared) * 1_000


def _rules_of(sales: Sequence[Sale]) -> tuple[str, ...]:
    return tuple(sale.rule_id for sale in sales)


def _own(account: AccountState) -> tuple[int, str] | None:
    """What limit and balance leave, and which of the two leaves less; None without either."""
    found = []
    limit = limit_of(account)
    if limit is not None:
        found.append((max(0, limit - spent_micros(account.counters)), SPENDING_LIMIT))
    if account.payment == "prepaid":
        found.append((max(0, account.balance_micros), BALANCE))
    return min(found, key=lambda item: item[0], default=None)


def _common(sales: Sequence[Sale]) -> list[CompiledPurse]:
    return [purse for purse in sales[0].purses if all(purse in sale.purses for sale in sales)]


def _surely_sold(micros: int, prices: Sequence[CompiledPrice], account: AccountState) -> int | None:
    """Octets that `micros` pay for, in whatever parts the prices sell them; None where no number costs so much."""
    alone = [octets for price in prices if (octets := _sold_alone(price, micros, account)) is not None]
    if not alone:
        return None
    most, least = min(alone), 1
    if len(prices) == 1 or most <= 1 or _at_worst(most, prices, account) <= micros:
        return most
    # One octet is always paid for, since each price has one left; `most` are not.
    while most - least > 1:
        middle = (least + most) // 2
        if _at_worst(middle, prices, account) <= micros:
            least = middle
        else:
            most = middle
    return least


def _sold_alone(price: CompiledPrice, micros: int, account: AccountState) -> int | None:
    used = used_of(price.counter_id, account.counters).octets
    most = price.octets_within(price.amount_up_to(used) + micros)
    if most is None or most >= price.most_octets:
        return None
    free_from = octets_under_cap(price, account) if price.price.on_cap == "free" else None
    return None if free_from is not None and free_from <= most else most - used


def _at_worst(octets: int, prices: Sequence[CompiledPrice], account: AccountState) -> int:
    """The most that `octets` can cost, sold in whatever parts; what rounding may have given away is in it.

    Of prices that are even from here on, all of it at the dearest; of others, with units, steps back or caps that set
    free, all of it at each of them.
    """
    even, uneven = 0, 0
    for price in prices:
        used = used_of(price.counter_id, account.counters).octets
        curve = price.curve or curve_of(price.price)
        steps = [step for step in curve.steps if step.end is None or step.end > used]
        if curve.whole_units or (curve.volume and len(steps) > 1) or price.price.on_cap == "free":
            uneven += price.amount_up_to(used + octets) - price.amount_up_to(used)
        else:
            even = max(even, -(-octets * max(step.amount for step in steps) // curve.unit_octets))
    return even + uneven + len(prices)


def _sold(account: AccountState, price: CompiledPrice, octets: int, purses: Sequence[CompiledPurse]) -> AccountState:
    """The account after `octets` are sold at `price`."""
    used = used_of(price.counter_id, account.counters)
    total = used.octets + octets
    micros = price.amount_up_to(total) - price.amount_up_to(used.octets)
    account = _with(account, Counter(price.counter_id, total, used.micros + micros, price.price.unit))
    account, given = _paid(account, micros, purses)
    return replace(account, balance_micros=account.balance_micros - (micros - given))


def _spent(
    account: AccountState, prices: Sequence[CompiledPrice], micros: int, octets: int, purses: Sequence[CompiledPurse]
) -> AccountState:
    """The account after `micros` went for `octets`, whichever they were.

    What a price gives for nothing from where it stands, the rest of a unit or of a step, can be gone as well.
    """
    for price in prices:
        used = used_of(price.counter_id, account.counters)
        given = (price.octets_within(price.amount_up_to(used.octets)) or 0) - used.octets
        account = _with(account, replace(used, octets=used.octets + max(0, min(given, octets))))
    limit = limit_of(account)
    account, paid = _paid(account, micros, purses)
    if limit is not None:
        counters = tuple(item for item in account.counters if item.counter_id != raised_id(SPENDING_LIMIT))
        # What was spent is not booked on a price here, so the limit comes nearer instead.
        account = replace(account, counters=counters, spending_limit_micros=limit - micros)
    return replace(account, balance_micros=account.balance_micros - (micros - paid))


def _paid(account: AccountState, micros: int, purses: Sequence[CompiledPurse]) -> tuple[AccountState, int]:
    account, paid = paid_from(account, purses, micros)
    given = sum(item.micros for item in paid)
    if given:
        account = _with(account, Counter(PAID, 0, used_of(PAID, account.counters).micros + given))
    return account, given


def _with(account: AccountState, total: Counter) -> AccountState:
    others = tuple(counter for counter in account.counters if counter.counter_id != total.counter_id)
    return replace(account, counters=(*others, total))
