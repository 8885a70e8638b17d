"""Late flows: usage that is told after the period in which it happened was closed.

What a period leaves behind (the buckets that expired, the products that ended, the totals of the cycle before) stays
in the account for a grace. A flow from that time is charged there: from the bucket that was valid when it happened,
against the caps of its own cycle. What comes later still is not charged but listed for correction.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from schemas.state import AccountState, Bucket, Product
from services.engine.packed import unpacked
from services.engine.periods import holds
from services.engine.purses import key_of
from services.engine.shares import shares_back, shares_then
from services.engine.standing import draw_order, with_standing
from services.engine.tariff import Tariff

GRACE_MS = 86_400_000
"""How long a closed period takes late flows: a day, counted in event time or by the wall clock of a timer. Longer than
the outage that an operator would let happen at a month's end, since what comes later is not charged."""


def is_beyond(account: AccountState, at_ms: int) -> bool:
    """Whether `at_ms` lies in a period of the account that takes no flows any more.

    Time before the account existed is no such period: its flows are charged in the present one.
    """
    return 0 < account.created_ms <= at_ms < (account.past_start_ms or account.cycle_start_ms)


def is_present(account: AccountState, at_ms: int) -> bool:
    """Whether a flow from before the account's last change meets what one from now would meet."""
    if account.lapsed or account.ended or not account.standing.endswith("||"):
        return False
    if account.created_ms <= at_ms < account.cycle_start_ms:
        return False
    return not renewed_since(unpacked(account), at_ms)


def renewed_since(account: AccountState, at_ms: int) -> set[str]:
    """Products that are in a later term than at `at_ms`: what the present one grants is not for usage of then."""
    return {item.product_id for item in account.products if item.first_ms and item.first_ms <= at_ms < item.start_ms}


def in_past_cycle(account: AccountState, at_ms: int) -> bool:
    """Whether `at_ms` lies in the cycle before the present one, and that is still open for late flows.

    What of that cycle was before the account existed is no part of it.
    """
    begun_ms = max(account.past_start_ms, account.created_ms)
    return bool(account.past_start_ms) and begun_ms <= at_ms < account.cycle_start_ms


def view_of(account: AccountState, tariff: Tariff, at_ms: int) -> AccountState:
    """The account as it stood at `at_ms`, before its last change.

    In the cycle before: what was held and valid then. In the present cycle: what is held now, and what has ended since;
    but a term that a product has begun since is not for the term before.
    """
    past = in_past_cycle(account, at_ms)
    renewed = renewed_since(account, at_ms)
    products = [item for item in account.products if _was_held(item, at_ms, past=past)]
    # What has come and gone since was not there; what has come to stay serves usage of the present cycle.
    products += [item for item in account.ended if item.start_ms <= at_ms and _was_held(item, at_ms, past=past)]
    buckets = [
        bucket for bucket in account.buckets if not (past or bucket.product_id in renewed) or _was_valid(bucket, at_ms)
    ]
    buckets += [bucket for bucket in account.lapsed if _was_valid(bucket, at_ms)]
    # What is suspended in the present cycle keeps what it holds.
    held = {product.product_id for product in products}
    buckets = [bucket for bucket in buckets if bucket.product_id in held]
    view = replace(
        account,
        products=tuple(replace(product, status="active") for product in products),
        buckets=tuple(sorted(buckets, key=lambda bucket: draw_order(bucket, tariff))),
        counters=shares_then(account.past_counters if past else account.counters, renewed, at_ms, past=past),
        purses=tuple(
            purse
            for purse in account.purses
            if not (past or purse.product_id in renewed) or purse.valid_from_ms <= at_ms
        ),
        settled_ms=at_ms,
    )
    return with_standing(view, tariff)


def merged(account: AccountState, view: AccountState, tariff: Tariff, at_ms: int) -> AccountState:
    """`account` after a flow was charged to its `view`. What a past cycle would tell its owner, it keeps to itself."""
    drawn = {_key(bucket): bucket for bucket in view.buckets}
    spent = {key_of(purse): purse for purse in view.purses}
    after = replace(
        account,
        buckets=tuple(drawn.get(_key(bucket), bucket) for bucket in account.buckets),
        lapsed=tuple(drawn.get(_key(bucket), bucket) for bucket in account.lapsed),
        balance_micros=view.balance_micros,
        purses=tuple(spent.get(key_of(purse), purse) for purse in account.purses),
    )
    past, renewed = in_past_cycle(account, at_ms), renewed_since(account, at_ms)
    counters = shares_back(
        account.past_counters if past else account.counters, view.counters, renewed, at_ms, past=past
    )
    if past:
        after = replace(after, past_counters=counters)
    else:
        after = replace(
            after, counters=counters, told_blocked=view.told_blocked, next_notification=view.next_notification
        )
    return with_standing(after, tariff)


def drawn_from_lapsed(before: AccountState, after: AccountState) -> list[tuple[Bucket, int]]:
    """The lapsed buckets that a flow drew from, and how much."""
    pairs = zip(before.lapsed, after.lapsed, strict=True)
    return [(old, old.remaining - new.remaining) for old, new in pairs if old.remaining != new.remaining]


def grace_ends(account: AccountState) -> Iterator[int]:
    """Times at which something that was kept for late flows can go."""
    yield from ((bucket.valid_until_ms or 0) + GRACE_MS for bucket in account.lapsed)
    yield from ((product.end_ms or 0) + GRACE_MS for product in account.ended)
    if account.past_start_ms:
        yield account.cycle_start_ms + GRACE_MS


def grace_is_over(account: AccountState, at_ms: int) -> bool:
    """Whether the cycle before the present one takes no late flows any more, and its totals are still kept."""
    return bool(account.past_start_ms) and account.cycle_start_ms <= at_ms - GRACE_MS


def swept(account: AccountState, at_ms: int) -> AccountState:
    """`account` without what has been kept long enough."""
    over_ms = at_ms - GRACE_MS
    account = replace(
        account,
        lapsed=tuple(bucket for bucket in account.lapsed if (bucket.valid_until_ms or 0) > over_ms),
        ended=tuple(product for product in account.ended if (product.end_ms or 0) > over_ms),
    )
    if grace_is_over(account, at_ms):
        account = replace(account, past_start_ms=0, past_counters=())
    return account


def lapse(bucket: Bucket, at_ms: int) -> Bucket:
    """The bucket as it is kept after it was taken away at `at_ms`."""
    end_ms = at_ms if bucket.valid_until_ms is None else min(at_ms, bucket.valid_until_ms)
    return replace(bucket, valid_until_ms=end_ms)


def _was_held(product: Product, at_ms: int, *, past: bool) -> bool:
    if product.end_ms is not None and at_ms >= product.end_ms:
        return False
    return _served_past(product, at_ms) if past else product.status == "active"


def _served_past(product: Product, at_ms: int) -> bool:
    """Whether a product served at a time of the cycle before. What renews was held from its first term on."""
    if product.follows or (product.first_ms or product.start_ms) > at_ms:
        return False
    # What sleeps keeps what it paid for last: where that was before, it has slept since.
    slept = product.status == "suspended" and bool(product.paid)
    return not slept or any(at_ms < fee.until_ms for fee in product.paid)


def _was_valid(bucket: Bucket, at_ms: int) -> bool:
    return holds(bucket.valid_from_ms, bucket.valid_until_ms, at_ms)


def _key(bucket: Bucket) -> tuple[str, int, bool]:
    # A bucket that was kept in part has a lapsed part beside it, of the same beginning.
    return bucket.bucket_id, bucket.valid_from_ms, bucket.rolled
