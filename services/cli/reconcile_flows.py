"""Reconciles the flow records of one lane: each has one decision or one dead letter."""

from schemas.topics import DEAD_LETTERS, DECISIONS, FLOWS
from services.cli.reconcile import Findings
from services.cli.reconcile_books import DECIDED, READ, REFUSED, OffsetMarks, Place
from services.cli.reconcile_view import LaneView


class FlowAudit:
    """What became of the flow records of one lane. Order of use: refused, decided, read, finish."""

    def __init__(self, view: LaneView, findings: Findings) -> None:
        self._view = view
        self._findings = findings
        self._marks = OffsetMarks(view.firsts.get(FLOWS, 0), view.ends.get(FLOWS, 0))
        self._first_refused: int | None = None
        self._first_decided: int | None = None
        self._last_decided = -1

    def refused(self, offset: int, what: str) -> bool:
        """`what` refused the record at `offset`; False when it was refused before."""
        if self._first_refused is None:
            self._first_refused = offset
        return self._mark(offset, REFUSED, what)

    def decided(self, offset: int, decision_id: str, at: int) -> bool:
        """The decision at offset `at` of its topic is about the record at `offset`; whether that can still be read."""
        if not self._mark(offset, DECIDED, f"decision {decision_id!r}"):
            self._findings.violated("decision_ids_once", f"{decision_id!r} stands again at offset {at}")
        if offset <= self._last_decided:
            after = f"{self._view.partition}-{self._last_decided}"
            self._findings.violated("decisions_in_order", f"{decision_id!r} comes after {after!r}")
        if self._first_decided is None:
            self._first_decided = offset
        self._last_decided = max(self._last_decided, offset)
        return offset >= self._marks.first

    def read(self, offset: int) -> bool:
        """The record at `offset` is in the log; whether it was decided."""
        self._marks.mark(offset, READ)
        return bool(self._marks.of(offset) & DECIDED)

    def finish(self) -> None:
        """Report records with no outcome, with two, and outcomes with no record."""
        findings, marks, name = self._findings, self._marks, "flows_accounted"
        for offset in marks.offsets(READ | DECIDED | REFUSED):
            findings.violated(name, f"the flow record at {self._at(offset)} has a decision and a dead letter")
        for outcome in (DECIDED, REFUSED, DECIDED | REFUSED):
            for offset in marks.offsets(outcome):
                findings.violated(name, f"an outcome names the flow record at {self._at(offset)}, which is not there")
        if not self._view.settled:
            findings.skipped(name, self._view.unsettled())
            return
        findings.looked(name, sum(marks.count(READ | rest) for rest in (0, DECIDED, REFUSED, DECIDED | REFUSED)))
        next_open = marks.next_open()
        findings.waiting["flows"] += marks.count(READ, start=next_open)
        for offset in marks.offsets(READ, start=self._judged_from(next_open), below=next_open):
            findings.violated(name, f"the flow record at {self._at(offset)} has neither decision nor dead letter")

    def _judged_from(self, next_open: int) -> int:
        """The first flow record whose outcome must be there: retention may have removed older outcomes."""
        start = 0
        for topic, first in ((DECISIONS, self._first_decided), (DEAD_LETTERS, self._first_refused)):
            if self._view.firsts.get(topic, 0):
                start = max(start, next_open if first is None else first)
        return start

    def _mark(self, offset: int, mark: int, what: str) -> bool:
        try:
            return self._marks.mark(offset, mark)
        except IndexError:
            # Before the first offset: retention has removed the record since. Behind the end: there never was one.
            if offset >= self._marks.first:
                self._findings.violated(
                    "flows_accounted", f"{what} names the flow record at {self._at(offset)}, which is not there"
                )
            return True

    def _at(self, offset: int) -> Place:
        return Place(self._view.partition, offset)
