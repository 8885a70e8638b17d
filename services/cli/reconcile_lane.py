"""Reconciles one lane: what its partition of every topic says about the same records has to agree.

Pure: it is fed the records of each topic in the order that `LaneAudit` names, and reports what does not fit.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from schemas.dead_letter import DeadLetter
from schemas.decision import PolicyDecision, PolicyUpdate
from schemas.flow import FlowRecord, octets_of
from schemas.notification import Notification
from schemas.state import AccountState
from schemas.topics import (
    COMMANDS,
    DEAD_LETTERS,
    DECISIONS,
    ENFORCEMENT,
    FLOWS,
    LEASE_REQUESTS,
    NOTIFICATIONS,
    STATE,
    USAGE,
)
from schemas.units import parse_micros
from schemas.usage import Movement, RatedUsage
from services.cli.reconcile import Findings
from services.cli.reconcile_books import Place, TwoSums
from services.cli.reconcile_commands import CommandAudit
from services.cli.reconcile_corrections import CorrectionAudit
from services.cli.reconcile_flows import FlowAudit
from services.cli.reconcile_leases import LeaseAudit
from services.cli.reconcile_ledger import LedgerAudit
from services.cli.reconcile_log import LogBooks
from services.cli.reconcile_repeats import RepeatAudit
from services.cli.reconcile_state import StateAudit, report_negative
from services.cli.reconcile_view import PART_FIELDS, BucketKey, LaneSums, LaneView
from services.runtime.log import LogRecord
from services.runtime.partitioning import partition_of

T = TypeVar("T")
Batch = Sequence[tuple[LogRecord, T]]
"""Records with what they hold, decoded by their contract."""

_decode_flow: Callable[[bytes], FlowRecord] = msgspec.json.Decoder(FlowRecord).decode


class LaneAudit:
    """The audit of one lane.

    Order of use: `dead_letters`, `state`, `close_state`, `usage`, `commands`, `decisions`, `flows`, `notifications`,
    `updates`, each fed all of its partition up to the view's end, then `finish`.
    """

    def __init__(
        self,
        view: LaneView,
        findings: Findings,
        books: LogBooks,
        *,
        ledger: LedgerAudit | None = None,
        leases: LeaseAudit | None = None,
        opening: Mapping[BucketKey, int] | None = None,
    ) -> None:
        """`opening`: what the ledger's buckets add up to, where the usage topic no longer holds its beginning."""
        self._view, self._findings, self._books, self._ledger = view, findings, books, ledger
        self._sums = LaneSums(opening)
        self._opened = opening is not None
        self._flows = FlowAudit(view, findings)
        self._commands = CommandAudit(
            findings,
            partition=view.partition,
            first=view.firsts.get(COMMANDS, 0),
            end=view.ends.get(COMMANDS, 0),
            memory=view.command_memory,
            cut_off=any(view.firsts.get(topic, 0) for topic in (DEAD_LETTERS, USAGE)),
        )
        self._state = StateAudit(view, findings, self._sums, self._commands)
        self._leases = LeaseAudit(findings) if leases is None else leases
        self._leases.begin(
            view.partition,
            settled=view.settled,
            decisions_whole=not view.firsts.get(DECISIONS, 0),
            requests_first=view.firsts.get(LEASE_REQUESTS, 0),
        )
        self._corrections = CorrectionAudit(findings)
        self._repeats = RepeatAudit(findings, view.partition)
        self._accounts: set[str] = set()

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
            self._repeats.refused(letter)
        return self._flows.refused(letter.offset, f"the dead letter at offset {record.offset}")

    # --- state ----------------------------------------------------------------------------------------------------

    def state(self, records: Sequence[LogRecord]) -> None:
        """The changelog."""
        self._state.take(records)
        self._leases.state(self._view.partition, records)

    def close_state(
        self,
        live: Mapping[str, bytes | AccountState] | None = None,
        tell: Callable[[AccountState], None] | None = None,
    ) -> None:
        """The changelog is read. `live`: what the running workers hold; `tell`: is shown every account."""
        self._state.close(live, tell)
        self._commands.answered(self._leases.answered(self._view.partition))

    def lease_requests(self, records: Sequence[LogRecord]) -> None:
        """What the lane asked for and gave back of budgets."""
        self._leases.requests(self._view.partition, records)

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
        if row.corrects is not None:
            self._corrections.take(row)
        elif row.kind == "usage":
            self._usage_parts(row, micros)
        for movement, amount, remaining in amounts:
            self._movement(row, movement, amount, remaining, opened=booked and self._opened)
        if row.source_topic == COMMANDS:
            self._commands.moved(row)

    def _usage_parts(self, row: RatedUsage, micros: int) -> None:
        account, parts = row.account_id, self._sums.parts
        parts["records"].right[account] += row.record_count
        for part, field in PART_FIELDS:
            if octets := getattr(row, field):
                parts[part].right[account] += octets
        if micros:
            self._sums.money.right[account, row.currency or ""] += micros
        for paid in row.sponsorships:
            self._sums.sponsored.right[account, paid.campaign_id] += paid.octets
            self._sums.sponsored_connections.right[account, paid.campaign_id] += paid.connections

    def _movement(self, row: RatedUsage, movement: Movement, amount: int, remaining: int, *, opened: bool) -> None:
        """`opened`: the movement is part of the opening already."""
        findings, account, bucket = self._findings, row.account_id, movement.bucket_id
        if movement.unit != "micros":
            findings.looked("no_bucket_negative")
            if remaining < 0:
                report_negative(findings, account, bucket, remaining)
            if row.kind == "usage" and row.corrects is None:
                self._sums.draws.right[account, bucket] -= amount
        if opened:
            return
        key = (account, bucket, movement.unit)
        total = self._sums.buckets.left[key] = self._sums.buckets.left[key] + amount
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
        books, volume = self._books, self._sums.volume.right
        self._findings.counts["decisions"] += len(batch)
        for name in (
            "decision_ids_once",
            "decisions_in_order",
            "decision_parts",
            "charges_explained",
            "sponsors_named",
        ):
            self._findings.looked(name, len(batch))
        for record, decision in batch:
            books.record_ids.add(decision.record_id, self._view.partition, record.offset)
            books.versions[decision.catalogue_version] += 1
            self._repeats.decided(decision)
            self._check_key(DECISIONS, record, decision.account_id)
            parts = self._decided_parts(decision)
            if self._decide(record, decision):
                volume[decision.subscriber_id] += parts
            if decision.sponsored_octets or decision.sponsorships:
                self._decided_sponsorships(decision)
            try:
                if decision.charged_octets or decision.price is not None or decision.draws:
                    self._decided_charge(decision)
                if decision.connection is not None:
                    micros = parse_micros(decision.connection.amount)
                    self._sums.money.left[decision.account_id, decision.connection.currency] += micros
                entered.append(decision)
            except ValueError as error:
                self.unreadable(DECISIONS, f"the price of decision {decision.decision_id!r}", error)
        return entered

    def _decide(self, record: LogRecord, decision: PolicyDecision) -> bool:
        """Enter that the flow record has a decision; whether the record can still be read."""
        lane, _, number = decision.decision_id.partition("-")
        if lane != str(self._view.partition) or not number.isdecimal():
            self._stray(DECISIONS, record, f"decision {decision.decision_id!r} is not of lane {self._view.partition}")
            return False
        return self._flows.decided(int(number), decision.decision_id, record.offset)

    def _decided_parts(self, decision: PolicyDecision) -> int:
        """Enter the parts by account; their sum."""
        account, parts = decision.account_id, self._sums.parts
        self._accounts.add(account)
        parts["records"].left[account] += 1
        total = 0
        for part, field in PART_FIELDS:
            if octets := getattr(decision, field):
                parts[part].left[account] += octets
                total += octets
        if total != decision.octets:
            self._findings.violated(
                "decision_parts", f"{decision.decision_id!r} is about {decision.octets} octets; its parts are {total}"
            )
        return total

    def _decided_sponsorships(self, decision: PolicyDecision) -> None:
        """Enter what campaigns paid for. Decisions of the first contract did not name them."""
        paid_octets = 0
        for paid in decision.sponsorships:
            self._sums.sponsored.left[decision.account_id, paid.campaign_id] += paid.octets
            self._sums.sponsored_connections.left[decision.account_id, paid.campaign_id] += paid.connections
            paid_octets += paid.octets
        self._leases.drawn(self._view.partition, decision.sponsorships)
        if paid_octets != decision.sponsored_octets and decision.version != "1.0":
            self._findings.violated(
                "sponsors_named",
                f"{decision.decision_id!r} has {decision.sponsored_octets} octets sponsored; campaigns paid for "
                f"{paid_octets}",
            )

    def _decided_charge(self, decision: PolicyDecision) -> None:
        """Enter what buckets and prices gave for it."""
        account, price, paid = decision.account_id, decision.price, 0
        for draw in decision.draws:
            self._sums.draws.left[account, draw.bucket_id] += draw.amount
            paid += draw.octets
        if price is not None:
            self._sums.money.left[account, price.currency] += parse_micros(price.amount)
            paid += price.octets_to - price.octets_from
        if paid != decision.charged_octets:
            self._findings.violated(
                "charges_explained",
                f"{decision.decision_id!r} charges {decision.charged_octets} octets; draws and price explain {paid}",
            )

    def flows(self, records: Sequence[LogRecord]) -> None:
        """The flow records themselves; only decided ones are decoded."""
        self._findings.counts["flows"] += len(records)
        volume = self._sums.volume.left
        for record in records:
            if self._flows.read(record.offset):
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
            self._sums.told.left[notification.account_id] += 1
            self._check_key(NOTIFICATIONS, record, notification.account_id)

    def updates(self, batch: Batch[PolicyUpdate]) -> None:
        """What gateways are told."""
        self._findings.counts["updates"] += len(batch)
        for record, update in batch:
            self._books.update_ids.add(update.update_id, self._view.partition, record.offset)
            self._sums.updated.left[update.account_id] += 1
            self._check_key(ENFORCEMENT, record, update.account_id)

    # --- the end --------------------------------------------------------------------------------------------------

    def unreadable(self, topic: str, what: str, error: Exception) -> None:
        """An output broke its contract."""
        self._findings.violated("outputs_readable", f"{topic}: {what}: {error}")

    def finish(self) -> None:
        """Compare both sides of everything."""
        self._findings.counts["accounts"] += len(self._state.known)
        self._findings.waiting["lanes"] += not self._view.settled
        self._commands.finish(settled=self._view.settled)
        self._flows.finish()
        self._repeats.finish()
        self._corrections.finish(whole=self._view.whole(USAGE))
        self._finish_accounts()
        self._compare("volume_by_subscriber", self._sums.volume, "octets in its records", "decided")
        self._compare_usage()
        self._compare_buckets()
        for name, topic, sums in (
            ("notifications_complete", NOTIFICATIONS, self._sums.told),
            ("updates_complete", ENFORCEMENT, self._sums.updated),
        ):
            for account in self._state.removed:
                # Its numbers may have begun anew; what was told of them before cannot be counted.
                sums.left.pop(account, None)
                sums.right.pop(account, None)
            if self._able(name, STATE, topic):
                self._compare(name, sums, "records in the topic", "by the state's numbers")

    def _finish_accounts(self) -> None:
        findings, partitions = self._findings, self._view.partitions
        everybody = self._accounts | self._state.known
        findings.looked("one_writer", len(everybody))
        for account in everybody:
            if (right := partition_of(account.encode(), partitions)) != self._view.partition:
                findings.violated(
                    "one_writer",
                    f"account {account!r} belongs to lane {right}; lane {self._view.partition} wrote for it",
                )
        if self._able("state_of_every_account", STATE):
            findings.looked("state_of_every_account", len(self._accounts))
            for account in self._accounts - self._state.known - self._state.removed:
                findings.violated("state_of_every_account", f"account {account!r} has outcomes and no state")

    def _compare_usage(self) -> None:
        if self._able("usage_by_account", DECISIONS, USAGE):
            for part, sums in self._sums.parts.items():
                unit = "flow records" if part == "records" else f"octets {part}"
                self._compare("usage_by_account", sums, f"{unit} decided", "in rated usage")
        if self._able("money_by_account", DECISIONS, USAGE):
            self._compare("money_by_account", self._sums.money, "micro-units decided", "in rated usage")
        if self._able("sponsored_by_campaign", DECISIONS, USAGE):
            self._compare(
                "sponsored_by_campaign", self._sums.sponsored, "octets paid for in decisions", "in rated usage"
            )
            connections = self._sums.sponsored_connections
            self._compare("sponsored_by_campaign", connections, "connections in decisions", "in rated usage")
        if self._able("draws_by_bucket", DECISIONS, USAGE):
            self._compare("draws_by_bucket", self._sums.draws, "octets drawn by decisions", "by rated usage")

    def _compare_buckets(self) -> None:
        if not self._opened and not self._able("buckets_in_state", USAGE):
            self._findings.skipped("movements_add_up", "the usage topic does not hold its beginning")
            return
        if self._able("buckets_in_state", STATE):
            self._compare(
                "buckets_in_state", self._sums.buckets, "by its movements", "in the state, gathered draws put back"
            )

    def _able(self, name: str, *topics: str) -> bool:
        """Whether the check can be made over these topics; notes the reason if it cannot."""
        if not self._view.settled:
            self._findings.skipped(name, self._view.unsettled())
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

    def _check_key(self, topic: str, record: LogRecord, account_id: str) -> None:
        if record.key != account_id.encode():
            self._stray(topic, record, f"the key {record.key!r} is not account {account_id!r}")

    def _stray(self, topic: str, record: LogRecord, problem: str) -> None:
        self._findings.violated("one_writer", f"{topic} {self._at(record.offset)}: {problem}")

    def _at(self, offset: int) -> Place:
        return Place(self._view.partition, offset)
