"""How far buckets were overshot in a recording: what passed, although a gateway would have had to act before.

A gateway is taken to hear of a change when the record that caused it has arrived, and to count against a quota what it
has passed and not yet reported, as the quota's contract says. Records do not say when within their interval their
octets flowed; they are taken to have flowed evenly.
"""

from collections.abc import Iterator

import msgspec

from schemas.decision import PolicyDecision
from schemas.flow import FlowRecord
from services.engine.outcome import Outcome
from services.engine.tariff import CompiledAllowance, Tariff, Traffic

FORGET_MS = 3_600_000
"""How long after a gateway has heard records are looked at that may have begun before: longer than any interval."""


class OvershootReport(msgspec.Struct, frozen=True, kw_only=True):
    """One allowance: what it promises, and the worst that was seen."""

    offering_id: str
    allowance_id: str
    tolerance_octets: int | None
    """The bound that the allowance declares; null when it declares none."""
    ended: int
    """Buckets whose end changed what a gateway lets pass."""
    told_ahead: int
    """How many of them a gateway had heard of before."""
    worst_octets: int
    """Most that passed beyond the end of one of them."""


class _Count(msgspec.Struct):
    ended: int = 0
    told_ahead: int = 0
    worst_octets: int = 0


class _Heard(msgspec.Struct):
    """When a gateway heard of a bucket's end, what it may let pass from then on, and what had passed already."""

    compiled: CompiledAllowance
    heard_ms: int
    quota_octets: int
    passed_octets: int = 0
    over: bool = False


class OvershootMeter:
    """Watches the outcomes of one tariff. Memory grows with the accounts that are near the end of a bucket."""

    def __init__(self, tariff: Tariff) -> None:
        self._tariff = tariff
        self._counts: dict[tuple[str, str], _Count] = {}
        self._heard: dict[str, dict[str, _Heard]] = {}

    def take(self, flow: FlowRecord, outcome: Outcome, *, now_ms: int) -> None:
        """Take notice of one decided flow that arrived at `now_ms`."""
        decision, account_id = outcome.decision, outcome.account.account_id
        if decision is None:
            return
        if heard := self._heard.get(account_id):
            self._passed(flow, decision, heard, now_ms)
        for update in outcome.updates:
            if update.quota_octets is not None and update.quota_bucket_id is not None:
                self._hear(outcome, update.quota_bucket_id, update.quota_octets, now_ms)
        if any(not draw.left for draw in decision.draws):
            self._ended(outcome, decision, now_ms)

    def report(self) -> Iterator[OvershootReport]:
        """Each allowance that declares a bound, or had a bucket whose end mattered."""
        declared = {
            (offering_id, name): compiled.allowance.overshoot_tolerance_octets
            for offering_id, offering in self._tariff.offerings.items()
            for name, compiled in offering.allowances.items()
        }
        for key in sorted(declared):
            count = self._counts.get(key, _Count())
            if declared[key] is not None or count.ended:
                yield OvershootReport(
                    offering_id=key[0], allowance_id=key[1], tolerance_octets=declared[key], ended=count.ended,
                    told_ahead=count.told_ahead, worst_octets=count.worst_octets,
                )  # fmt: skip

    def _passed(self, flow: FlowRecord, decision: PolicyDecision, heard: dict[str, _Heard], now_ms: int) -> None:
        """Add what of the flow had passed before a gateway heard; forget what no record can change any more."""
        traffic = _traffic(flow, decision, self._tariff)
        for bucket_id, entry in list(heard.items()):
            if now_ms - entry.heard_ms > FORGET_MS and entry.over:
                del heard[bucket_id]
            elif flow.start_ms < entry.heard_ms and _draws_on(entry, traffic, decision, self._tariff):
                entry.passed_octets += _octets_before(flow, decision.octets, entry.heard_ms)
                self._over(entry)

    def _hear(self, outcome: Outcome, bucket_id: str, quota_octets: int, now_ms: int) -> None:
        if compiled := _allowance(outcome, bucket_id, self._tariff):
            buckets = self._heard.setdefault(outcome.account.account_id, {})
            known = buckets.get(bucket_id)
            # One quota comes with as many updates as there are rules that change.
            if known is None or known.over or (known.heard_ms, known.quota_octets) != (now_ms, quota_octets):
                buckets[bucket_id] = _Heard(compiled, now_ms, quota_octets)

    def _ended(self, outcome: Outcome, decision: PolicyDecision, now_ms: int) -> None:
        if all(update.quota_octets is not None for update in outcome.updates):
            return
        drawn = decision.sponsored_octets
        buckets = self._heard.setdefault(outcome.account.account_id, {})
        for draw in decision.draws:
            drawn += draw.octets
            compiled = None if draw.left else _allowance(outcome, draw.bucket_id, self._tariff)
            if compiled is None:
                continue
            entry = buckets.get(draw.bucket_id)
            count = self._count(compiled)
            count.ended += 1
            if entry is None or entry.over:
                entry = buckets[draw.bucket_id] = _Heard(compiled, now_ms, drawn - decision.octets)
            else:
                count.told_ahead += 1
            entry.over = True
            self._over(entry)

    def _over(self, entry: _Heard) -> None:
        count = self._count(entry.compiled)
        count.worst_octets = max(count.worst_octets, entry.passed_octets - entry.quota_octets)

    def _count(self, compiled: CompiledAllowance) -> _Count:
        return self._counts.setdefault((compiled.offering_id, compiled.allowance.id), _Count())


def _octets_before(flow: FlowRecord, octets: int, at_ms: int) -> int:
    """How many of the flow's octets had flowed by `at_ms`."""
    if flow.end_ms <= at_ms:
        return octets
    return octets * (at_ms - flow.start_ms) // (flow.end_ms - flow.start_ms)


def _draws_on(entry: _Heard, traffic: Traffic, decision: PolicyDecision, tariff: Tariff) -> bool:
    """Whether the flow would have drawn from the bucket, had it not ended."""
    rule = tariff.rules.get(decision.rule_id, tariff.built_in).rule
    if decision.treatment == "not_charged" or (rule.charging == "free" and rule.bucket is None):
        return False
    return entry.compiled.reach.miss(traffic) is None


def _traffic(flow: FlowRecord, decision: PolicyDecision, tariff: Tariff) -> Traffic:
    seen = decision.classification
    around = tariff.surroundings.of(flow) if tariff.surroundings is not None else ()
    return Traffic(seen.application, seen.category, seen.service, flow.rat_type, seen.confidence, *around)


def _allowance(outcome: Outcome, bucket_id: str, tariff: Tariff) -> CompiledAllowance | None:
    for bucket in outcome.account.buckets:
        if bucket.bucket_id == bucket_id:
            return tariff.allowance(bucket.offering_id, bucket.allowance_id)
    return None
