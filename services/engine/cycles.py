"""An account's billing cycles: how long the present one is, which is the next, and what part of a whole one it is.

A cycle goes from one anchor to the next. Where the anchor was changed, the cycle after that is a short one, up to the
new anchor: it is a part of a whole cycle, and so are its prices, its grants and its minimum rent.
"""

from msgspec.structs import replace

from schemas.state import AccountState, Product
from services.engine.periods import DAY_MS, cycle_at, days_between, next_cycle_end


def renewed(account: AccountState) -> AccountState:
    """The account in its next cycle, under its present zone and anchor; the one that ends is kept for late flows."""
    zone, day, start = account.time_zone, account.cycle_day, account.cycle_end_ms
    end = next_cycle_end(start, time_zone=zone, cycle_day=day)
    whole = days_between(*cycle_at(end - 1, time_zone=zone, cycle_day=day), time_zone=zone)
    is_short = days_between(start, end, time_zone=zone) < whole
    return replace(
        account,
        cycle_start_ms=start,
        cycle_end_ms=end,
        whole_cycle_days=whole if is_short else 0,
        counters=(),
        told_blocked=(),
        past_start_ms=account.cycle_start_ms,
        past_counters=account.counters,
    )


def days_of_cycle(account: AccountState, product: Product, from_ms: int) -> tuple[int, int]:
    """Local days of the present cycle that `product` serves from `from_ms` on, and all days of a whole cycle."""
    zone, end = account.time_zone, account.cycle_end_ms
    until = end if product.end_ms is None else min(end, product.end_ms)
    days, whole = part_of_cycle(account)
    return min(days, days_between(max(from_ms, account.cycle_start_ms), until, time_zone=zone)), whole


def part_of_cycle(account: AccountState) -> tuple[int, int]:
    """Local days of the present cycle, and of a whole one: the same, unless it is a short one."""
    start, end = account.cycle_start_ms, account.cycle_end_ms
    days = days_between(start, end, time_zone=account.time_zone)
    if not account.whole_cycle_days:
        return days, days
    # After a move to the west it may begin on a day that the cycle before had already.
    return min(days, max(1, (end - start + DAY_MS // 2) // DAY_MS)), account.whole_cycle_days


def part_of(amount: int, account: AccountState) -> int:
    """What `amount` of a whole cycle is for the present one, rounded down."""
    days, whole = part_of_cycle(account)
    return amount if days == whole else amount * days // whole
