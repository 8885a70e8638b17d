"""Marks: how much of an allowance is used, and how much money is spent, as far as rules ask for it.

A rule turns with the octet that reaches its mark. So charging goes no further than the next mark before it looks at
the rules again, and a flow in two records meets what it would meet in one.
"""

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from schemas.catalogue import BucketCondition, SpendCondition
from schemas.state import AccountState, Bucket
from services.engine.caps import spent_micros, used_of
from services.engine.tariff import CompiledOffering, CompiledPrice, Tariff


def mark_of(condition: BucketCondition) -> int | None:
    """The percentage used that a condition turns at, 0 for the first octet; None where it is about an end."""
    return (condition.percent or 0) if condition.state in ("fresh", "used") else None


def marks_of(
    account: AccountState, offerings: Iterable[CompiledOffering], tariff: Tariff
) -> Iterator[tuple[str, bool]]:
    """The marks that the rules of `offerings` ask for, by name, and whether they are reached.

    Names are `<offering>/<allowance>@<percent>` and `spend@<micros>`.
    """
    spends: set[int] = set()
    for compiled in offerings:
        spends.update(compiled.spends)
        for allowance_id, percents in compiled.marks.items():
            granted, left = _supply(account, compiled.offering.id, allowance_id, tariff)
            for percent in percents:
                yield f"{compiled.offering.id}/{allowance_id}@{percent}", left <= _level(percent, granted)
    spent = spent_micros(account.counters)
    yield from ((f"spend@{micros}", spent >= micros) for micros in sorted(spends))


def holds(condition: BucketCondition, offering_id: str, reached: frozenset[str]) -> bool:
    """Whether a condition on a mark holds, given the names of the marks that are reached."""
    name = f"{offering_id}/{condition.allowance}@{mark_of(condition)}"
    return (name in reached) == (condition.state == "used")


def is_spent(condition: SpendCondition, reached: frozenset[str]) -> bool:
    """Whether what was spent in the cycle lies where `condition` wants it."""
    if condition.at_least is not None and f"spend@{condition.at_least}" not in reached:
        return False
    return condition.below is None or f"spend@{condition.below}" not in reached


def until_mark(bucket: Bucket, account: AccountState, tariff: Tariff) -> int | None:
    """What can be drawn from `bucket`, in its unit, until its allowance reaches its next mark; None without one."""
    offering = tariff.offerings.get(bucket.offering_id)
    percents = offering.marks.get(bucket.allowance_id) if offering else None
    if not percents:
        return None
    granted, left = _supply(account, bucket.offering_id, bucket.allowance_id, tariff)
    return min((left - level for percent in percents if (level := _level(percent, granted)) < left), default=None)


def octets_until_spend(
    price: CompiledPrice, account: AccountState, tariff: Tariff, *, credit_micros: int
) -> int | None:  # fmt: skip
    """What can be sold at `price`, to purses first, until the money spent reaches the next mark; None without one."""
    held = {product.offering_id for product in account.products if product.status == "active"}
    asked = [micros for name in held if name in tariff.offerings for micros in tariff.offerings[name].spends]
    if not asked:
        return None
    spent = spent_micros(account.counters)
    ahead = [micros for micros in asked if micros > spent]
    if not ahead:
        return None
    used_octets = used_of(price.counter_id, account.counters).octets
    octets = price.octets_to_reach(price.amount_up_to(used_octets) + min(ahead) - spent + credit_micros)
    return None if octets is None else octets - used_octets


def with_notices(account: AccountState, tariff: Tariff) -> AccountState:
    """`account` with buckets that leave the short way of charging at their next mark at the latest."""
    if not any(offering.marks for offering in _offerings(account, tariff)):
        return account
    return replace(account, buckets=tuple(_noticed(bucket, account, tariff) for bucket in account.buckets))


def _noticed(bucket: Bucket, account: AccountState, tariff: Tariff) -> Bucket:
    until = until_mark(bucket, account, tariff)
    if until is None or bucket.remaining - until <= bucket.notice_at:
        return bucket
    return replace(bucket, notice_at=bucket.remaining - until)


def _supply(account: AccountState, offering_id: str, allowance_id: str, tariff: Tariff) -> tuple[int, int]:
    """What was granted and is left in the buckets of an allowance, without those that serve nothing now."""
    asleep = {product.product_id for product in account.products if product.status != "active"}
    buckets = [
        bucket
        for bucket in account.buckets
        if bucket.offering_id == offering_id
        and bucket.allowance_id == allowance_id
        and bucket.product_id not in asleep
        and not tariff.has_changed_unit(bucket)
    ]
    return sum(bucket.granted for bucket in buckets), sum(bucket.remaining for bucket in buckets)


def _level(percent: int, granted: int) -> int:
    """What is left of `granted` when the mark is reached: at or below it, it is; nothing left is beyond all marks."""
    return max(0, granted - max(1, -(-percent * granted // 100)))


def _offerings(account: AccountState, tariff: Tariff) -> Iterator[CompiledOffering]:
    names = dict.fromkeys(bucket.offering_id for bucket in account.buckets)
    yield from (tariff.offerings[name] for name in names if name in tariff.offerings)
