"""Reconciles the account commands of one lane: each is applied once, or refused once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from schemas.command import Command, GrantLease
from schemas.state import AccountState
from schemas.usage import RatedUsage
from services.cli.reconcile import Findings
from services.cli.reconcile_books import DECIDED, READ, REFUSED, OffsetMarks
from services.runtime.log import LogRecord

_decode: Callable[[bytes], Command] = msgspec.json.Decoder(Command).decode


class _Unproved(NamedTuple):
    """A command of which no trace was found."""

    offset: int
    account_id: str | None
    name: str


class CommandAudit:
    """What became of the commands of one lane, those to its accounts and those to itself.

    A command proves itself by a dead letter, by a movement that it caused, or by the account's memory of the last
    commands applied to it; a grant by the lease, which knows the last ask that was answered. A command that is older
    than a full memory and moved nothing cannot be proved either way.
    Order of use: refused, remembered or removed, moved, then take, then finish.
    """

    def __init__(
        self, findings: Findings, *, partition: int, first: int, end: int, memory: int, cut_off: bool = False
    ) -> None:
        """`cut_off`: retention has removed the oldest dead letters or movements, and proofs with them."""
        self._findings = findings
        self._partition = partition
        self._marks = OffsetMarks(first, end)
        self._memory = memory
        self._cut_off = cut_off
        self._first_refused: int | None = None
        self._remembered: set[str] = set()
        self._full: set[str] = set()
        self._moved: dict[str, int] = {}
        self._answered: Mapping[str, int] = {}
        self._unproved: list[_Unproved] = []

    def refused(self, offset: int) -> bool:
        """A dead letter refused the command at `offset`; False when an earlier one did so already."""
        if self._first_refused is None:
            self._first_refused = offset
        return _mark(self._marks, offset, REFUSED)

    def remembered(self, account: AccountState) -> None:
        """The account remembers the commands last applied to it."""
        self._remembered.update(account.recent_commands)
        if len(account.recent_commands) >= self._memory:
            self._full.add(account.account_id)

    def answered(self, leases: Mapping[str, int]) -> None:
        """The lane has answers to its asks up to these numbers, by campaign."""
        self._answered = leases

    def removed(self, account_id: str) -> None:
        """The account is gone, and its memory with it."""
        self._full.add(account_id)

    def moved(self, row: RatedUsage) -> None:
        """A row of rated usage says that the command `row.cause` moved a balance."""
        cause, offset = row.cause or "", row.first_offset
        self._findings.looked("commands_applied_once")
        if self._moved.setdefault(cause, offset) != offset:
            self._findings.violated(
                "commands_applied_once",
                f"command {cause!r} of account {row.account_id!r} moved balances at offset {self._moved[cause]} "
                f"and again at {offset} of partition {self._partition}",
            )
        _mark(self._marks, offset, DECIDED)

    def take(self, records: Sequence[LogRecord]) -> None:
        """The commands themselves, in order."""
        self._findings.looked("commands_accounted", len(records))
        for record in records:
            _mark(self._marks, record.offset, READ)
            if not self._marks.of(record.offset) & REFUSED:
                self._prove(record)

    def finish(self, *, settled: bool) -> None:
        """Settle what has no trace: waiting behind the last proved command, or lost before it."""
        if not settled:
            self._findings.skipped("commands_accounted", f"lane {self._partition} went on writing while it was read")
            return
        self._report_refused_movements()
        self._report_unproved(self._marks.next_open())

    def _prove(self, record: LogRecord) -> None:
        try:
            command = _decode(record.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._unproved.append(_Unproved(record.offset, None, "unreadable"))
            return
        name = command.command_id
        if isinstance(command, GrantLease):
            proved = command.sequence <= self._answered.get(command.campaign_id, 0)
        else:
            proved = name in self._remembered or name in self._moved
        if proved:
            _mark(self._marks, record.offset, DECIDED)
        elif not self._marks.of(record.offset) & DECIDED:
            self._unproved.append(_Unproved(record.offset, command.account_id, name))

    def _report_refused_movements(self) -> None:
        for offset in self._both(self._marks):
            self._findings.violated(
                "commands_applied_once",
                f"the command at partition {self._partition} offset {offset} was refused and moved balances",
            )

    def _report_unproved(self, next_open: int) -> None:
        forgotten, proved_from = 0, self._proved_from()
        for lost in self._unproved:
            if lost.offset >= next_open:
                self._findings.waiting["commands"] += 1
            elif lost.account_id in self._full or lost.offset < proved_from:
                forgotten += 1
            else:
                self._findings.violated(
                    "commands_accounted",
                    f"command {lost.name!r} of account {lost.account_id!r}, partition {self._partition} "
                    f"offset {lost.offset}, was neither applied nor refused",
                )
        if forgotten:
            self._findings.counts["commands_forgotten"] += forgotten
            self._findings.skipped(
                "commands_accounted", f"lane {self._partition}: {forgotten} commands older than an account's memory"
            )

    def _proved_from(self) -> int:
        """The first command whose dead letter or movement must be there."""
        if not self._cut_off:
            return 0
        return max(self._first_refused or 0, next(iter(self._moved.values()), 0))

    @staticmethod
    def _both(marks: OffsetMarks) -> Iterable[int]:
        yield from marks.offsets(DECIDED | REFUSED)
        yield from marks.offsets(READ | DECIDED | REFUSED)


def _mark(marks: OffsetMarks, offset: int, mark: int) -> bool:
    try:
        return marks.mark(offset, mark)
    except IndexError:
        # Retention has removed the command since; what is not there cannot be reconciled.
        return True
