"""How far a bucket, or money, can be passed, and when a gateway has to hear what comes after it: before its end.

Usage is told after it happened, so an end is known some octets late. Where an allowance, or a price, declares a
tolerance, gateways are given what is left as a quota, together with what applies after it, as soon as no more is left
than has flowed in the last reporting interval, or than the tolerance. A bucket is looked at each time a quarter of it
is gone, never for each flow; money when something is sold, which is off the short way anyhow. See
docs/adr/0004-how-overshoot-is-bounded.md.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from schemas.flow import FlowRecord, octets_of
from schemas.state import AccountState, Bucket, Watch
from services.engine.money_ends import End
from services.engine.tariff import CompiledAllowance, CompiledPrice, Tariff


class Bound(NamedTuple):
    """How far an end may be passed, and how late usage is told at most."""

    tolerance_octets: int
    interval_ms: int


def bound_of(compiled: CompiledAllowance, prices: Sequence[CompiledPrice]) -> Bound | None:
    """The bound that a bucket is looked at for: its allowance's own, and that of `prices` which may pay after it.

    The largest tolerance is told too late by none. None where nothing declares one.
    """
    allowance = compiled.allowance
    found = []
    if allowance.overshoot_tolerance_octets is not None:
        found.append(Bound(allowance.overshoot_tolerance_octets, allowance.reporting_interval_s * 1_000))
    if leads_to_money(compiled):
        declared = (price.price for price in prices if price.price.overshoot_tolerance_octets is not None)
        found += [
            Bound(price.overshoot_tolerance_octets or 0, price.reporting_interval_s * 1_000) for price in declared
        ]
    if not found:
        return None
    return Bound(max(item.tolerance_octets for item in found), max(item.interval_ms for item in found))


def leads_to_money(compiled: CompiledAllowance) -> bool:
    """Whether what comes after a bucket's end may be sold."""
    return compiled.allowance.unit == "octets" and compiled.allowance.on_exhausted == "continue"


def first_look(bucket: Bucket, compiled: CompiledAllowance, *, at_ms: int) -> Bucket:
    """A fresh bucket with the remainder at which to look for the first time; as it is without a declared tolerance."""
    tolerance = compiled.allowance.overshoot_tolerance_octets
    return bucket if tolerance is None else _first_look(bucket, tolerance, at_ms)


def watched_over(account: AccountState, prices: Sequence[CompiledPrice], tariff: Tariff) -> AccountState:
    """The account with a first look at buckets that nobody looks at yet and that lead to money with a tolerance."""
    buckets = tuple(_seen_first(bucket, prices, tariff, account.settled_ms) for bucket in account.buckets)
    return account if buckets == account.buckets else replace(account, buckets=buckets)


def look(bucket: Bucket, bound: Bound | None, flow: FlowRecord, *, at_ms: int) -> Bucket:
    """A bucket that a flow at `at_ms` has drawn from, with its quota if its end is near, else with its next look.

    The end is near when no more is left than flowed in the last reporting interval, or than the tolerance, whichever is
    more. A bucket that has its quota keeps it: the quota is the remainder of that moment, and does not shrink with it.
    `notice_at` must be that of the next notification; it is raised to the next look.
    """
    if bound is None or bucket.quota_octets or not bucket.remaining:
        return bucket
    is_older = at_ms - bucket.looked_ms > bound.interval_ms
    near = max(bound.tolerance_octets, octets_in_interval(bucket, flow, at_ms=at_ms, interval_ms=bound.interval_ms))
    if bucket.remaining <= near:
        return replace(bucket, quota_octets=bucket.remaining)
    if is_older:
        return _looked(replace(bucket, before_octets=bucket.looked_octets), near, at_ms)
    return _next_look(bucket, near)


def kept_in_sight(bucket: Bucket) -> Bucket:
    """A bucket near its end that money follows, looked at with each flow: how far the money goes may turn with each."""
    return replace(bucket, notice_at=max(bucket.notice_at, bucket.remaining - 1)) if bucket.quota_octets else bucket


def octets_in_interval(bucket: Bucket, flow: FlowRecord, *, at_ms: int, interval_ms: int) -> int:
    """The most that can have flowed in the last reporting interval: all since a look before it, or this flow's pace.

    How the octets since then were spread over the time, a bucket does not know; they may all have come just now.
    """
    is_older = at_ms - bucket.looked_ms > interval_ms
    drawn = (bucket.looked_octets if is_older else bucket.before_octets) - bucket.remaining
    return max(drawn, _pace(flow, interval_ms))


def after_sale(watch: Watch, sold: int, flow: FlowRecord, *, at_ms: int) -> Watch:
    """An end of money after a flow at `at_ms`, with its pace; `sold` octets are sold in the cycle by then."""
    if at_ms - watch.looked_ms > watch.interval_ms:
        watch = replace(watch, looked_ms=at_ms, looked_octets=sold, before_octets=watch.looked_octets)
    near = max(sold - watch.before_octets, _pace(flow, watch.interval_ms))
    return watch if near == watch.near_octets else replace(watch, near_octets=near)


def is_due(watch: Watch, sold: int) -> bool:
    """Whether it is time to find out what is left: a gateway may have to hear of it."""
    near = 0 if watch.quota_octets else _near(watch)
    return sold + near >= watch.ends_at_octets


def is_to_tell(watch: Watch, end: End, sold: int) -> bool:
    """Whether a gateway has to hear of an end now: it is near, or what was told of it does not fit any more."""
    if not watch.quota_octets:
        return end.octets <= _near(watch)
    left = _quota_left(watch, sold)
    # Used up, and yet there is money: cheaper octets were sold. Or money has gone that no octets were sold for.
    return left <= 0 or end.octets + watch.tolerance_octets < left


def watched(watch: Watch | None, end: End, sold: int, *, at_ms: int) -> Watch:
    """An end of money as it was found now."""
    if watch is None or sold < watch.looked_octets:
        # Where fewer octets are sold than were, a cycle has begun or a correction has come: nothing was told of this.
        watch = Watch(end.limit_id, at_ms, sold, sold)
    watch = replace(watch, tolerance_octets=end.tolerance_octets, interval_ms=end.interval_ms)
    return watch if watch.quota_octets else replace(watch, ends_at_octets=sold + end.octets)


def begun(watch: Watch, recent_octets: int) -> Watch:
    """An end of money that has just come into sight, with the pace of what was drawn until now.

    Until the interval is over, what is sold comes on top of that.
    """
    return replace(watch, before_octets=watch.looked_octets - recent_octets, near_octets=recent_octets)


def with_quota(watch: Watch, end: End, sold: int) -> Watch:
    """An end of money with the quota that gateways should have now: all that is left if that is near, else none.

    A quota that is as large as what is left goes on as it was told.
    """
    if end.octets > max(_near(watch), watch.quota_octets):
        return replace(watch, quota_octets=0, quota_from_octets=0, ends_at_octets=sold + end.octets)
    if watch.quota_octets and _quota_left(watch, sold) == end.octets:
        return watch
    return told_anew(watch, end.octets, sold)


def told_anew(watch: Watch, octets: int, sold: int) -> Watch:
    """An end of money of which gateways are given a quota of `octets` now."""
    return replace(watch, quota_octets=octets, quota_from_octets=sold, ends_at_octets=sold + octets)


def _pace(flow: FlowRecord, interval_ms: int) -> int:
    return octets_of(flow) * interval_ms // max(flow.end_ms - flow.start_ms, interval_ms)


def _seen_first(bucket: Bucket, prices: Sequence[CompiledPrice], tariff: Tariff, at_ms: int) -> Bucket:
    compiled = tariff.allowance(bucket.offering_id, bucket.allowance_id)
    if compiled is None or bucket.looked_ms or bucket.timed or not bucket.remaining:
        return bucket
    bound = bound_of(compiled, prices)
    return bucket if bound is None else _first_look(bucket, bound.tolerance_octets, at_ms)


def _first_look(bucket: Bucket, tolerance: int, at_ms: int) -> Bucket:
    return _looked(replace(bucket, before_octets=bucket.remaining), tolerance, at_ms)


def _looked(bucket: Bucket, near: int, at_ms: int) -> Bucket:
    return _next_look(replace(bucket, looked_ms=at_ms, looked_octets=bucket.remaining), near)


def _next_look(bucket: Bucket, near: int) -> Bucket:
    # So that what is left when no look comes is never less than what flows meanwhile, and flowed before.
    next_look = max(bucket.remaining * 3 // 4, (bucket.remaining + near) // 2)
    return replace(bucket, notice_at=max(bucket.notice_at, next_look))


def _near(watch: Watch) -> int:
    return max(watch.tolerance_octets, watch.near_octets)


def _quota_left(watch: Watch, sold: int) -> int:
    return watch.quota_octets - (sold - watch.quota_from_octets)
