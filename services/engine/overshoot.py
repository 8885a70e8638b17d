"""How far a bucket can be passed, and when a gateway has to hear what comes after it: before it is empty.

Usage is told after it happened, so a bucket's end is known some octets late. An allowance that declares a tolerance is
looked at again each time its bucket has halved, never for each flow: from what was drawn since the last look follows
what flows in one reporting interval, and as soon as no more than that is left, the gateway is given the remainder as a
quota, together with what applies after it. See docs/adr/0004-how-overshoot-is-bounded.md.
"""

from msgspec.structs import replace

from schemas.flow import FlowRecord, octets_of
from schemas.state import Bucket
from services.engine.tariff import CompiledAllowance


def first_look(bucket: Bucket, compiled: CompiledAllowance, *, at_ms: int) -> Bucket:
    """A fresh bucket with the remainder at which to look for the first time; as it is without a declared tolerance."""
    tolerance = compiled.allowance.overshoot_tolerance_octets
    if tolerance is None:
        return bucket
    return _looked(bucket, tolerance, at_ms)


def look(bucket: Bucket, compiled: CompiledAllowance, flow: FlowRecord, *, at_ms: int) -> Bucket:
    """A bucket that a flow at `at_ms` has drawn from, with its quota if its end is near, else with its next look.

    The end is near when no more is left than what flows in one reporting interval, or than the tolerance, whichever is
    more. A bucket that has its quota keeps it: the quota is the remainder of that moment, and does not shrink with it.
    `notice_at` must be that of the next notification; it is raised to the next look.
    """
    tolerance = compiled.allowance.overshoot_tolerance_octets
    if tolerance is None or bucket.quota_octets or not bucket.remaining:
        return bucket
    interval_ms = compiled.allowance.reporting_interval_s * 1_000
    near = max(tolerance, octets_in_interval(bucket, flow, at_ms=at_ms, interval_ms=interval_ms))
    if bucket.remaining <= near:
        return replace(bucket, quota_octets=bucket.remaining)
    return _looked(bucket, near, at_ms)


def octets_in_interval(bucket: Bucket, flow: FlowRecord, *, at_ms: int, interval_ms: int) -> int:
    """What flows in one reporting interval: by all that was drawn since the last look, or by this flow if it is faster.

    Less than an interval since the last look counts as a whole one: what came in a burst is not taken for a rate.
    """
    drawn = bucket.looked_octets - bucket.remaining
    since_ms, lasted_ms = max(at_ms - bucket.looked_ms, interval_ms), max(flow.end_ms - flow.start_ms, interval_ms)
    return max(drawn * interval_ms // since_ms, octets_of(flow) * interval_ms // lasted_ms)


def _looked(bucket: Bucket, near: int, at_ms: int) -> Bucket:
    next_look = max(near, bucket.remaining // 2)
    return replace(
        bucket,
        looked_ms=at_ms,
        looked_octets=bucket.remaining,
        notice_at=max(bucket.notice_at, next_look),
    )
