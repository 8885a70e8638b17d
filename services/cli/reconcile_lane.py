"""Reconciles one lane: what its partition of every topic says about the same records has to agree.

Pure: it is fed the records of each topic in the order that `LaneAudit` names, and reports what does not fit.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from schemas.dead_letter import DeadLetter
from schemas.decision import PolicyDecision, PolicyUpdate
from schemas.flow import FlowRecord, octets_of
from schemas.notification import Notification
from schemas.state import STATE_VERSION, AccountState
from schemas.topics import COMMANDS, DEAD_LETTERS, DECISIONS, ENFORCEMENT, FLOWS, NOTIFICATIONS, STATE, USAGE
from schemas.units import parse_micros
from schemas.usage import Movement, RatedUsage
from services.cli.reconcile import Findings
from services.cli.reconcile_books import DECIDED, READ, REFUSED, IdBook, OffsetMarks, Place, TwoSums
from services.cli.reconcile_commands import CommandAudit
from services.cli.reconcile_ledger import PARTS, BucketKey, LedgerAudit
from services.runtime.log import LogRecord
from services.runtime.partitioning import partition_of

T = TypeVar("T")
Batch = Sequence[tuple[LogRecord, T]]
"""Records with what they hold, decoded by their contract."""

MAIN_BALANCE = "main"
ACCOUNT_PREFIX = b"a/"

_FIELDS = tuple((part, f"{part}_octets") for part in PARTS)

_decode_flow: Callable[[bytes], FlowRecord] = msgspec.json.Decoder(FlowRecord).decode
_decode_account: Callable[[bytes], AccountState] = msgspec.msgpack.Decoder(AccountState).decode
_encode_account = msgspec.msgpack.Encoder().encode


@dataclasses.dataclass(frozen=True)
class LaneView:
    """Which stretch of the log the audit of one lane is about."""

    partition: int
    partitions: int
    firsts: Mapping[str, int]
    """First offset that each topic's partition still holds."""
    ends: Mapping[str, int]
    """Offset, per topic, at which reading ends."""
    settled: bool = True
    """The ends were taken while the lane wrote nothing: all topics are of one moment."""
    command_memory: int = 1
    """How many command ids an account's state remembers at least."""

    def whole(self, *topics: str) -> bool:
        """Whether the lane was settled and retention has removed nothing of these topics."""
        return self.settled and not any(self.firsts.get(topic, 0) for topic in topics)


class Books:
    """What is kept over all lanes: ids that are unique everywhere, and catalogue versions."""

    def __init__(self) -> None:
        self.record_ids = IdBook()
        self.duplicates = IdBook()
        self.usage_ids = IdBook()
        self.notification_ids = IdBook()
        self.update_ids = IdBook()
        self.versions: Counter[str] = Counter()

    def finish(self, findings: Findings, *, known_versions: Collection[str] | None, whole: bool) -> None:
        """Report repeated ids, duplicates that are none, and unknown versions. `whole`: decisions hold their start."""
        for name, topic, book in (
            ("record_ids_once", DECISIONS, self.record_ids),
            ("usage_ids_once", USAGE, self.usage_ids),
            ("notification_ids_once", NOTIFICATIONS, self.notification_ids),
            ("update_ids_once", ENFORCEMENT, self.update_ids),
        ):
            findings.looked(name, len(book))
            for _, first, later in book.repeats():
                findings.violated(name, f"{topic}: the id at {first} stands again at {later}")
        self._finish_duplicates(findings, whole=whole)
        self._finish_versions(findings, known_versions)

    def _finish_duplicates(self, findings: Findings, *, whole: bool) -> None:
        if not whole:
            findings.skipped("duplicates_decided", "retention has removed the beginning of the decisions")
            return
        findings.looked("duplicates_decided", len(self.duplicates))
        for _, place in self.duplicates.missing_from(self.record_ids):
            findings.violated(
                "duplicates_decided",
                f"the flow record at {place} was refused as a duplicate, and no decision has its record id",
            )

    def _finish_versions(self, findings: Findings, known_versions: Collection[str] | None) -> None:
        findings.looked("catalogue_known", sum(self.versions.values()))
        for version, count in self.versions.items():
            if not version:
                findings.violated("catalogue_known", f"{count} decisions name no catalogue version", count)
            elif known_versions is not None and version not in known_versions:
                findings.violated(
                    "catalogue_known", f"{count} decisions name version {version!r}, which was never published", count
                )


class LaneAudit:
    """The audit of one lane.

    Order of use: `dead_letters`, `state`, `close_state`, `usage`, `commands`, `decisions`, `flows`, `notifications`,
    `updates`, each fed all of its partition up to the view's end, then `finish`.
    """

    def __init__(
        self,
        view: LaneView,
        findings: Findings,
        books: Books,
        *,
        ledger: LedgerAudit | None = None,
        opening: Mapping[BucketKey, int] | None = None,
    ) -> None:
        """`opening`: what the ledger's buckets add up to, where the usage topic no longer holds its beginning."""
        self._view, self._findings, self._books, self._ledger = view, findings, books, ledger
        self._flows = OffsetMarks(view.firsts.get(FLOWS, 0), view.ends.get(FLOWS, 0))
        self._commands = CommandAudit(
            findings,
            partition=view.partition,
            first=view.firsts.get(COMMANDS, 0),
            end=view.ends.get(COMMANDS, 0),
            memory=view.command_memory,
            cut_off=any(view.firsts.get(topic, 0) for topic in (DEAD_LETTERS, USAGE)),
        )
        self._opened = opening is not None
        self._newest: dict[bytes, bytes | None] = {}
        self._known: set[str] = set()
        self._removed: set[str] = set()
        self._accounts: set[str] = set()
        self._first_decided: int | None = None
        self._first_refused: int | None = None
        self._last_decided = -1
        self._volume: TwoSums[str] = TwoSums()
        self._parts: dict[str, TwoSums[str]] = {part: TwoSums() for part in ("records", *PARTS)}
        self._money: TwoSums[tuple[str, str]] = TwoSums()
        self._draws: TwoSums[tuple[str, str]] = TwoSums()
        self._buckets: TwoSums[BucketKey] = TwoSums()
        self._buckets.left.update(opening or {})
        self._told: TwoSums[str] = TwoSums()
        self._updated: TwoSums[str] = TwoSums()

    # --- dead letters ---------------------------------------------------------------------------------------------

    def dead_letters(self, batch: Batch[DeadLetter]) -> None:
        """Refused records of both inputs."""
        findings = self._findings
        findings.counts["dead_letters"] += len(batch)
        findings.looked("dead_letter_ids_once", len(batch))
        for record, letter in batch:
            wanted = f"{letter.source_topic}-{self._view.partition}-{letter.offset}"
            if letter.dead_letter_id != wanted or letter.partition != self._view.partition:
                self._stray(DEAD_LETTERS, record, f"dead letter {letter.dead_letter_id!r} is not {wanted!r}")
            if not self._refuse(record, letter):
                findings.violated("dead_letter_ids_once", f"{letter.dead_letter_id!r} stands twice")

    def _refuse(self, record: LogRecord, letter: DeadLetter) -> bool:
        """Enter the refusal; False when the record was refused before."""
        if letter.source_topic == COMMANDS:
            return self._commands.refused(letter.offset)
        if letter.cause == "duplicate" and letter.record_id is not None:
            self._books.duplicates.add(letter.record_id, self._view.partition, letter.offset)
        if self._first_refused is None:
            self._first_refused = letter.offset
        return self._mark_flow(letter.offset, REFUSED, f"dead letter at offset {record.offset}")

    # --- state ----------------------------------------------------------------------------------------------------

    def state(self, records: Sequence[LogRecord]) -> None:
        """The changelog: the newest value of each key counts, None removes the key."""
        newest = self._newest
        for record in records:
            if record.key is not None and record.key.startswith(ACCOUNT_PREFIX):
                newest[record.key] = record.value
                if record.value is None:
                    self._removed.add(_account_of(record.key))

    def close_state(
        self,
        live: Mapping[str, bytes | AccountState] | None = None,
        tell: Callable[[AccountState], None] | None = None,
    ) -> None:
        """The changelog is read. `live`: what the running workers hold; `tell`: is shown every account."""
        if live is not None:
            self._compare_live(live)
        else:
            self._findings.skipped("changelog_is_live_state", "no running worker was given to compare with")
        while self._newest:
            key, raw = self._newest.popitem()
            if raw is None:
                self._commands.removed(_account_of(key))
            elif (account := self._account(key, raw)) is not None and tell is not None:
                tell(account)

    def _compare_live(self, live: Mapping[str, bytes | AccountState]) -> None:
        name = "changelog_is_live_state"
        replayed = {_account_of(key): raw for key, raw in self._newest.items() if raw is not None}
        mine = {
            account for account in live if partition_of(account.encode(), self._view.partitions) == self._view.partition
        }
        self._findings.looked(name, len(mine | replayed.keys()))
        for account in sorted(mine | replayed.keys()):
            there = live.get(account)
            if (there if isinstance(there, bytes | None) else _encode_account(there)) != replayed.get(account):
                self._findings.violated(name, f"account {account!r} differs between the worker and the changelog")

    def _account(self, key: bytes, raw: bytes) -> AccountState | None:
        try:
            account = _decode_account(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.unreadable(STATE, f"state of {key!r}", error)
            return None
        if account.version != STATE_VERSION or key != ACCOUNT_PREFIX + account.account_id.encode():
            self._findings.violated("one_writer", f"{STATE}: the value of {key!r} is of account {account.account_id!r}")
        self._known.add(account.account_id)
        self._accounts.add(account.account_id)
        self._commands.remembered(account)
        self._told.right[account.account_id] = account.next_notification
        self._updated.right[account.account_id] = account.next_update
        self._remaining(account)
        self._pending(account)
        return account

    def _remaining(self, account: AccountState) -> None:
        """What the buckets hold now."""
        findings, remaining = self._findings, self._buckets.right
        findings.looked("no_bucket_negative", len(account.buckets) + 1)
        for bucket in account.buckets:
            remaining[account.account_id, bucket.bucket_id, "octets"] += bucket.remaining_octets
            if bucket.remaining_octets < 0:
                self._negative(account.account_id, bucket.bucket_id, bucket.remaining_octets)
        remaining[account.account_id, MAIN_BALANCE, "micros"] += account.balance_micros
        if account.payment == "prepaid" and account.balance_micros < 0:
            self._negative(account.account_id, MAIN_BALANCE, account.balance_micros)

    def _pending(self, account: AccountState) -> None:
        """Usage that is gathered and not yet told: it counts as told, and its draws as not yet made."""
        name = account.account_id
        for usage in account.pending:
            self._parts["records"].right[name] += usage.record_count
            for part, field in _FIELDS:
                self._parts[part].right[name] += getattr(usage, field)
            if usage.micros:
                self._money.right[name, account.currency] += usage.micros
            self._buckets.right[name, MAIN_BALANCE, "micros"] += usage.money
            for draw in usage.draws:
                self._draws.right[name, draw.bucket_id] += draw.octets
                self._buckets.right[name, draw.bucket_id, "octets"] += draw.octets

    # --- usage ----------------------------------------------------------------------------------------------------

    def usage(self, batch: Batch[RatedUsage]) -> list[RatedUsage]:
        """Rated usage and balance movements; gives back the rows whose amounts are what they should be."""
        self._findings.counts["usage"] += len(batch)
        entered = []
        for record, row in batch:
            place = Place(self._view.partition, record.offset)
            self._books.usage_ids.add(row.usage_id, *place)
            self._accounts.add(row.account_id)
            self._check_key(USAGE, record, row.account_id)
            if row.partition != self._view.partition:
                self._stray(USAGE, record, f"usage {row.usage_id!r} names partition {row.partition}")
            try:
                self._enter_usage(row, place)
                entered.append(row)
            except ValueError as error:
                self.unreadable(USAGE, f"usage {row.usage_id!r} at offset {record.offset}", error)
        return entered

    def _enter_usage(self, row: RatedUsage, place: Place) -> None:
        """Raises ValueError when an amount is no whole number of its unit."""
        micros = 0 if row.amount == "0" else parse_micros(row.amount)
        amounts = [(movement, int(movement.amount), int(movement.remaining)) for movement in row.movements]
        booked = self._ledger is not None and self._ledger.is_booked(*place)
        if booked and self._ledger is not None:
            self._ledger.expect(row, place, micros)
        elif self._ledger is not None:
            self._findings.waiting["usage"] += 1
        if row.kind == "usage":
            self._usage_parts(row, micros)
        for movement, amount, remaining in amounts:
            self._movement(row, movement, amount, remaining, opened=booked and self._opened)
        if row.source_topic == COMMANDS:
            self._commands.moved(row)

    def _usage_parts(self, row: RatedUsage, micros: int) -> None:
        account, parts = row.account_id, self._parts
        parts["records"].right[account] += row.record_count
        for part, field in _FIELDS:
            if octets := getattr(row, field):
                parts[part].right[account] += octets
        if micros:
            self._money.right[account, row.currency or ""] += micros

    def _movement(self, row: RatedUsage, movement: Movement, amount: int, remaining: int, *, opened: bool) -> None:
        """`opened`: the movement is part of the opening already."""
        findings, account, bucket = self._findings, row.account_id, movement.bucket_id
        if movement.unit == "octets":
            findings.looked("no_bucket_negative")
            if remaining < 0:
                self._negative(account, bucket, remaining)
            if row.kind == "usage":
                self._draws.right[account, bucket] -= amount
        if opened:
            return
        key = (account, bucket, movement.unit)
        total = self._buckets.left[key] = self._buckets.left[key] + amount
        findings.looked("movements_add_up")
        if total != remaining and (self._opened or self._view.whole(USAGE)):
            findings.violated(
                "movements_add_up",
                f"{row.usage_id!r} of account {account!r} leaves {remaining} {movement.unit} in {bucket!r}; "
                f"its movements so far add up to {total}",
            )

    # --- commands, decisions, flows -------------------------------------------------------------------------------

    def commands(self, records: Sequence[LogRecord]) -> None:
        """Account commands."""
        self._findings.counts["commands"] += len(records)
        self._commands.take(records)

    def decisions(self, batch: Batch[PolicyDecision]) -> list[PolicyDecision]:
        """Decisions, one per decided flow; gives back those whose amounts are what they should be."""
        entered = []
        books, volume = self._books, self._volume.right
        self._findings.counts["decisions"] += len(batch)
        for name in ("decision_ids_once", "decisions_in_order", "decision_parts", "charges_explained"):
            self._findings.looked(name, len(batch))
        for record, decision in batch:
            books.record_ids.add(decision.record_id, self._view.partition, record.offset)
            books.versions[decision.catalogue_version] += 1
            self._check_key(DECISIONS, record, decision.account_id)
            if self._flow_of(record, decision) >= self._flows.first:
                volume[decision.subscriber_id] += self._decided_parts(decision)
            else:
                self._decided_parts(decision)
            try:
                if decision.charged_octets or decision.price is not None or decision.draws:
                    self._decided_charge(decision)
                entered.append(decision)
            except ValueError as error:
                self.unreadable(DECISIONS, f"the price of decision {decision.decision_id!r}", error)
        return entered

    def _flow_of(self, record: LogRecord, decision: PolicyDecision) -> int:
        """The offset of the decided flow record; -1 when the id names none of this lane."""
        lane, _, number = decision.decision_id.partition("-")
        if lane != str(self._view.partition) or not number.isdecimal():
            self._stray(DECISIONS, record, f"decision {decision.decision_id!r} is not of lane {self._view.partition}")
            return -1
        offset = int(number)
        if not self._mark_flow(offset, DECIDED, f"decision {decision.decision_id!r}"):
            self._findings.violated(
                "decision_ids_once", f"{decision.decision_id!r} stands again at offset {record.offset}"
            )
        if offset <= self._last_decided:
            self._findings.violated(
                "decisions_in_order",
                f"{decision.decision_id!r} comes after {self._view.partition}-{self._last_decided}",
            )
        if self._first_decided is None:
            self._first_decided = offset
        self._last_decided = max(self._last_decided, offset)
        return offset

    def _decided_parts(self, decision: PolicyDecision) -> int:
        """Enter the parts by account; their sum."""
        account, parts = decision.account_id, self._parts
        self._accounts.add(account)
        parts["records"].left[account] += 1
        total = 0
        for part, field in _FIELDS:
            if octets := getattr(decision, field):
                parts[part].left[account] += octets
                total += octets
        if total != decision.octets:
            self._findings.violated(
                "decision_parts", f"{decision.decision_id!r} is about {decision.octets} octets; its parts are {total}"
            )
        return total

    def _decided_charge(self, decision: PolicyDecision) -> None:
        """Enter what buckets and prices gave for it."""
        account, price, paid = decision.account_id, decision.price, 0
        for draw in decision.draws:
            self._draws.left[account, draw.bucket_id] += draw.octets
            paid += draw.octets
        if price is not None:
            self._money.left[account, price.currency] += parse_micros(price.amount)
            paid += price.octets_to - price.octets_from
        if paid != decision.charged_octets:
            self._findings.violated(
                "charges_explained",
                f"{decision.decision_id!r} charges {decision.charged_octets} octets; draws and price explain {paid}",
            )

    def flows(self, records: Sequence[LogRecord]) -> None:
        """The flow records themselves; only decided ones are decoded."""
        self._findings.counts["flows"] += len(records)
        marks, volume = self._flows, self._volume.left
        for record in records:
            marks.mark(record.offset, READ)
            if marks.of(record.offset) & DECIDED:
                try:
                    flow = _decode_flow(record.value or b"")
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    self.unreadable(FLOWS, f"the decided flow record at offset {record.offset}", error)
                else:
                    volume[flow.subscriber_id] += octets_of(flow)

    # --- notifications and updates --------------------------------------------------------------------------------

    def notifications(self, batch: Batch[Notification]) -> None:
        """What people are told."""
        self._findings.counts["notifications"] += len(batch)
        for record, notification in batch:
            self._books.notification_ids.add(notification.notification_id, self._view.partition, record.offset)
            self._told.left[notification.account_id] += 1
            self._check_key(NOTIFICATIONS, record, notification.account_id)

    def updates(self, batch: Batch[PolicyUpdate]) -> None:
        """What gateways are told."""
        self._findings.counts["updates"] += len(batch)
        for record, update in batch:
            self._books.update_ids.add(update.update_id, self._view.partition, record.offset)
            self._updated.left[update.account_id] += 1
            self._check_key(ENFORCEMENT, record, update.account_id)

    # --- the end --------------------------------------------------------------------------------------------------

    def unreadable(self, topic: str, what: str, error: Exception) -> None:
        """An output broke its contract."""
        self._findings.violated("outputs_readable", f"{topic}: {what}: {error}")

    def finish(self) -> None:
        """Compare both sides of everything."""
        self._findings.counts["accounts"] += len(self._known)
        self._findings.waiting["lanes"] += not self._view.settled
        self._commands.finish(settled=self._view.settled)
        self._finish_flows()
        self._finish_accounts()
        self._compare("volume_by_subscriber", self._volume, "octets in its records", "decided")
        self._compare_usage()
        self._compare_buckets()
        for name, topic, sums in (
            ("notifications_complete", NOTIFICATIONS, self._told),
            ("updates_complete", ENFORCEMENT, self._updated),
        ):
            for account in self._removed:
                # Its numbers may have begun anew; what was told of them before cannot be counted.
                sums.left.pop(account, None)
                sums.right.pop(account, None)
            if self._able(name, STATE, topic):
                self._compare(name, sums, "records in the topic", "by the state's numbers")

    def _finish_flows(self) -> None:
        findings, marks, name = self._findings, self._flows, "flows_accounted"
        next_open = marks.next_open()
        start = self._judged_from(next_open)
        for both in marks.offsets(READ | DECIDED | REFUSED):
            findings.violated(name, f"the flow record at {self._at(both)} has a decision and a dead letter")
        for outcome in (DECIDED, REFUSED, DECIDED | REFUSED):
            for offset in marks.offsets(outcome):
                findings.violated(name, f"an outcome names the flow record at {self._at(offset)}, which is not there")
        if not self._view.settled:
            findings.skipped(name, self._unsettled())
            return
        findings.looked(name, _read_count(marks))
        findings.waiting["flows"] += marks.count(READ, start=next_open)
        for offset in marks.offsets(READ, start=start, below=next_open):
            findings.violated(name, f"the flow record at {self._at(offset)} has neither decision nor dead letter")

    def _judged_from(self, next_open: int) -> int:
        """The first flow record whose outcome must be there: retention may have removed older outcomes."""
        start = 0
        for topic, first in ((DECISIONS, self._first_decided), (DEAD_LETTERS, self._first_refused)):
            if self._view.firsts.get(topic, 0):
                start = max(start, next_open if first is None else first)
        return start

    def _finish_accounts(self) -> None:
        findings, partitions = self._findings, self._view.partitions
        findings.looked("one_writer", len(self._accounts))
        for account in self._accounts:
            if (right := partition_of(account.encode(), partitions)) != self._view.partition:
                findings.violated(
                    "one_writer",
                    f"account {account!r} belongs to lane {right}; lane {self._view.partition} wrote for it",
                )
        if self._able("state_of_every_account", STATE):
            findings.looked("state_of_every_account", len(self._accounts))
            for account in self._accounts - self._known - self._removed:
                findings.violated("state_of_every_account", f"account {account!r} has outcomes and no state")

    def _compare_usage(self) -> None:
        if self._able("usage_by_account", DECISIONS, USAGE):
            for part, sums in self._parts.items():
                unit = "flow records" if part == "records" else f"octets {part}"
                self._compare("usage_by_account", sums, f"{unit} decided", "in rated usage")
        if self._able("money_by_account", DECISIONS, USAGE):
            self._compare("money_by_account", self._money, "micro-units decided", "in rated usage")
        if self._able("draws_by_bucket", DECISIONS, USAGE):
            self._compare("draws_by_bucket", self._draws, "octets drawn by decisions", "by rated usage")

    def _compare_buckets(self) -> None:
        if not self._opened and not self._able("buckets_in_state", USAGE):
            self._findings.skipped("movements_add_up", "the usage topic does not hold its beginning")
            return
        if self._able("buckets_in_state", STATE):
            self._compare(
                "buckets_in_state", self._buckets, "by its movements", "in the state, gathered draws put back"
            )

    def _able(self, name: str, *topics: str) -> bool:
        """Whether the check can be made over these topics; notes the reason if it cannot."""
        if not self._view.settled:
            self._findings.skipped(name, self._unsettled())
            return False
        cut = [topic for topic in topics if self._view.firsts.get(topic, 0)]
        if cut:
            self._findings.skipped(name, f"retention has removed the beginning of {', '.join(cut)}")
        return not cut

    def _compare(self, name: str, sums: TwoSums[Any], left: str, right: str) -> None:
        self._findings.looked(name, len(sums.keys()))
        for key, came, went in sums.differences():
            shown = key if isinstance(key, str) else " / ".join(key)
            self._findings.violated(name, f"{shown}: {came} {left}, {went} {right}")

    def _mark_flow(self, offset: int, mark: int, what: str) -> bool:
        try:
            return self._flows.mark(offset, mark)
        except IndexError:
            # Before the first offset: retention has removed the record since. Behind the end: there never was one.
            if offset >= self._flows.first:
                self._findings.violated(
                    "flows_accounted", f"{what} names the flow record at {self._at(offset)}, which is not there"
                )
            return True

    def _check_key(self, topic: str, record: LogRecord, account_id: str) -> None:
        if record.key != account_id.encode():
            self._stray(topic, record, f"the key {record.key!r} is not account {account_id!r}")

    def _stray(self, topic: str, record: LogRecord, problem: str) -> None:
        self._findings.violated("one_writer", f"{topic} {self._at(record.offset)}: {problem}")

    def _negative(self, account: str, bucket: str, remaining: int) -> None:
        self._findings.violated("no_bucket_negative", f"bucket {bucket!r} of account {account!r} holds {remaining}")

    def _unsettled(self) -> str:
        return f"lane {self._view.partition} went on writing while it was read"

    def _at(self, offset: int) -> Place:
        return Place(self._view.partition, offset)


def _account_of(key: bytes) -> str:
    return key[len(ACCOUNT_PREFIX) :].decode(errors="replace")


def _read_count(marks: OffsetMarks) -> int:
    return sum(marks.count(READ | rest) for rest in (0, DECIDED, REFUSED, DECIDED | REFUSED))
