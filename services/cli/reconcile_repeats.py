"""Repeated record ids that say something else: two records of one id, and only the first was charged.

A lane charges a record id once and refuses what comes under it again, whatever that says: it remembers the id alone. An
exporter that gives one id to two records loses the second, and this is where that is seen.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from schemas.dead_letter import DeadLetter
from schemas.decision import PolicyDecision
from schemas.flow import FlowRecord, octets_of
from services.cli.reconcile import Findings

MAX_REPEATS = 200_000
"""Refused duplicates that are held against their decisions, per lane; what is beyond is counted as not looked at."""

_decode: Callable[[bytes], FlowRecord] = msgspec.json.Decoder(FlowRecord).decode


class _Told(NamedTuple):
    subscriber_id: str
    octets: int
    ms: int


class RepeatAudit:
    """The refused duplicates of one lane: `refused` for all dead letters, `decided` for all decisions, `finish`."""

    def __init__(self, findings: Findings, partition: int) -> None:
        self._findings = findings
        self._partition = partition
        self._repeats: dict[str, list[tuple[int, _Told]]] = {}
        self._held = 0
        self._first: str | None = None
        self._differ = 0

    def refused(self, letter: DeadLetter) -> None:
        """Take a duplicate, as far as it can be read: a value that was cut cannot."""
        told = _told_by(letter)
        if told is None or letter.record_id is None or self._held >= MAX_REPEATS:
            self._findings.counts["duplicates_not_compared"] += 1
            return
        self._held += 1
        self._repeats.setdefault(letter.record_id, []).append((letter.offset, told))

    def decided(self, decision: PolicyDecision) -> None:
        """Hold what was decided against what came under the same id; whose, how much, and how long it was."""
        if decision.record_id not in self._repeats:
            return
        first = _Told(decision.subscriber_id, decision.octets, decision.end_ms - decision.start_ms)
        for offset, told in self._repeats[decision.record_id]:
            if told != first:
                self._differ += 1
                self._first = self._first or _difference(decision, self._partition, offset, told, first)

    def finish(self) -> None:
        """Say how many differ, and how the first of them does. It is the exporter's mistake, so nothing is violated."""
        self._findings.counts["duplicates_that_differ"] += self._differ
        if self._first is not None:
            self._findings.remarks.append(
                f"{self._differ} refused duplicates differ from the record decided; {self._first}"
            )


def _told_by(letter: DeadLetter) -> _Told | None:
    if letter.value is None or letter.value_octets > len(letter.value):
        return None
    try:
        flow = _decode(letter.value)
    except msgspec.DecodeError:
        return None
    return _Told(flow.subscriber_id, octets_of(flow), flow.end_ms - flow.start_ms)


def _difference(decision: PolicyDecision, partition: int, offset: int, told: _Told, first: _Told) -> str:
    names = [name for name, mine, other in zip(_Told._fields, told, first, strict=True) if mine != other]
    values = ", ".join(f"{name} {getattr(told, name)} instead of {getattr(first, name)}" for name in names)
    where = f"flow record {decision.record_id!r} at partition {partition} offset {offset}"
    return f"{where} says {values}: its exporter gives one id to several records, and those are not charged"
