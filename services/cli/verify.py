"""Verify: reads log and ledger and has them reconciled. The shell around `reconcile_lane` and `reconcile_ledger`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from schemas.catalogue import CatalogueEntry
from schemas.dead_letter import DeadLetter
from schemas.decision import PolicyDecision, PolicyUpdate
from schemas.notification import Notification
from schemas.state import AccountState
from schemas.topics import (
    BY_NAME,
    CATALOGUE,
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
from schemas.usage import RatedUsage
from services.cli.ledger_view import LedgerView
from services.cli.reconcile import Findings, Report
from services.cli.reconcile_lane import Batch, LaneAudit
from services.cli.reconcile_leases import LeaseAudit
from services.cli.reconcile_ledger import LedgerAudit
from services.cli.reconcile_log import LogBooks
from services.cli.reconcile_view import BucketKey, LaneView
from services.cli.summary import Summary
from services.cli.verify_cut import INPUTS, OUTPUTS, Cut, take_cut
from services.engine.commands import RECENT_COMMANDS
from services.engine.feed import MARKER_KEY
from services.runtime.log import Log, LogReader, LogRecord, LogUnavailable
from services.runtime.partitioning import partition_of

T = TypeVar("T")

POLL_RECORDS = 5_000
POLL_WAIT_MS = 200
STALLED_S = 30.0
"""A reader that brings nothing for so long, although its end is not reached, will not bring anything any more."""

SETTLE_S = 3.0
"""How long to look for a moment in which each lane stands still."""

RETRY_S = 0.25
OPENING_TRIES = 5

LEDGER_CHECKS = (
    "ledger_holds_usage_once",
    "ledger_by_account",
    "ledger_by_bucket",
    "ledger_by_campaign",
    "ledger_balances",
)

LIVE_CHECK = "changelog_is_live_state"

LiveState = Mapping[str, bytes | AccountState]
"""What running workers hold, by account id: the changelog's bytes, or decoded."""

LiveSource = Callable[[], LiveState]
"""Asks the running workers, after the cut is taken. Synchronous: it is run in a thread."""


class Survey(NamedTuple):
    """What one pass over the log brought: is it right, and what is in it."""

    report: Report
    summary: Summary


async def verify(
    log: Log,
    ledger: LedgerView | None = None,
    *,
    live_state: LiveSource | None = None,
    strict: bool = False,
    wait_s: float = 0.0,
    settle_s: float = SETTLE_S,
) -> Report:
    """Reconcile a started `log` with `ledger`; the report. See `survey`."""
    return (await survey(log, ledger, live_state=live_state, strict=strict, wait_s=wait_s, settle_s=settle_s)).report


async def survey(
    log: Log,
    ledger: LedgerView | None = None,
    *,
    live_state: LiveSource | None = None,
    strict: bool = False,
    wait_s: float = 0.0,
    settle_s: float = SETTLE_S,
) -> Survey:
    """Reconcile a started `log` with `ledger`, and sum up what is in it.

    While records or rated usage are still waiting to be processed, or lanes or ledger do not stand still, it begins
    again for up to `wait_s` seconds; what waits then is reported, and is a violation with `strict`. So it does while a
    worker holds another state than the changelog: it may have been asked in the midst of a transaction. Without a
    ledger its checks are skipped.
    Raises LogError when the log cannot be read to its end.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + wait_s
    while True:
        findings, summary = Findings(), Summary()
        await _Reading(log, ledger, findings, summary, live_state).run(settle_s)
        moving = any(findings.waiting.values()) or findings.found(LIVE_CHECK)
        if not moving or loop.time() >= give_up:
            return Survey(findings.report(strict=strict), summary)
        await asyncio.sleep(RETRY_S)


class _Reading:
    """One pass over everything, lane by lane, so that only one lane's accounts are in memory at a time."""

    def __init__(
        self, log: Log, ledger: LedgerView | None, findings: Findings, summary: Summary, live: LiveSource | None
    ) -> None:
        self._log, self._view, self._findings, self._summary, self._ask_live = log, ledger, findings, summary, live
        self._live: LiveState | None = None
        self._at_rest: frozenset[int] = frozenset()
        self._books = LogBooks()
        self._readers: dict[str, LogReader] = {}
        self._firsts: dict[str, Mapping[int, int]] = {}
        self._ledger: LedgerAudit | None = None
        self._leases = LeaseAudit(findings)
        self._openings: dict[int, dict[BucketKey, int]] = {}

    async def run(self, settle_s: float) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for topic in (*OUTPUTS, *INPUTS, CATALOGUE):
                self._readers[topic] = reader = await self._log.reader(topic)
                stack.push_async_callback(reader.close)
                self._firsts[topic] = await reader.beginning_offsets()
            partitions = await self._log.partitions_of(FLOWS)
            await self._open_ledger(partitions)
            cut = await take_cut(self._readers, partitions=partitions, settle_s=settle_s)
            if self._ask_live is not None:
                self._live = await asyncio.to_thread(self._ask_live)
                self._at_rest = await self._unchanged_since(cut)
            for partition in range(partitions):
                await self._lane(partition, partitions, cut)
            await self._close()

    async def _unchanged_since(self, cut: Cut) -> frozenset[int]:
        """Lanes whose changelog still ends where the cut is: what their workers hold belongs to it."""
        ends = await self._readers[STATE].end_offsets()
        return frozenset(lane for lane in cut.settled if ends[lane] == cut.ends[STATE][lane])

    async def _open_ledger(self, partitions: int) -> None:
        """Take the booked offsets before any usage is read: what is read later is then there to compare with."""
        if self._view is None:
            for name in LEDGER_CHECKS:
                self._findings.skipped(name, "no ledger was given")
            return
        self._ledger = LedgerAudit(await asyncio.to_thread(self._view.booked_offsets))
        cut_off = [partition for partition, first in self._firsts[USAGE].items() if first]
        if cut_off:
            await self._open_buckets(self._view, cut_off, partitions)

    async def _open_buckets(self, view: LedgerView, cut_off: list[int], partitions: int) -> None:
        """Where the usage topic has lost its beginning, the ledger says what its buckets held."""
        for _ in range(OPENING_TRIES):
            booked = dict(await asyncio.to_thread(view.booked_offsets))
            totals = await asyncio.to_thread(lambda: list(view.movement_totals()))
            if booked == dict(await asyncio.to_thread(view.booked_offsets)):
                break
        else:
            return
        self._ledger = LedgerAudit(booked)
        self._openings = {partition: {} for partition in cut_off}
        for account, bucket, unit, amount in totals:
            opening = self._openings.get(partition_of(account.encode(), partitions))
            if opening is not None:
                opening[account, bucket, unit] = amount

    async def _lane(self, partition: int, partitions: int, cut: Cut) -> None:
        view = LaneView(
            partition=partition,
            partitions=partitions,
            # Compaction keeps the newest value of each key, so a compacted topic has no beginning to lose.
            firsts={
                topic: 0 if BY_NAME[topic].compacted else self._firsts[topic].get(partition, 0) for topic in cut.ends
            },
            ends={topic: ends[partition] for topic, ends in cut.ends.items()},
            settled=partition in cut.settled,
            command_memory=RECENT_COMMANDS,
        )
        audit = LaneAudit(
            view,
            self._findings,
            self._books,
            ledger=self._ledger,
            leases=self._leases,
            opening=self._openings.get(partition),
        )
        await self._feed(view, audit)
        audit.finish()

    async def _feed(self, view: LaneView, audit: LaneAudit) -> None:
        summary = self._summary
        async for letters in self._decoded(DEAD_LETTERS, view, audit, _decode_letter):
            audit.dead_letters(letters)
            summary.dead_letters(letter for _, letter in letters)
        async for records in self._records(STATE, view):
            audit.state(records)
        audit.close_state(self._live_state_of(view.partition), summary.account)
        async for records in self._records(LEASE_REQUESTS, view):
            audit.lease_requests(records)
        async for rows in self._decoded(USAGE, view, audit, _decode_usage):
            summary.usage(audit.usage(rows))
        async for records in self._records(COMMANDS, view):
            audit.commands(records)
        async for decisions in self._decoded(DECISIONS, view, audit, _decode_decision):
            summary.decisions(audit.decisions(decisions))
        async for records in self._records(FLOWS, view):
            audit.flows(records)
        async for notifications in self._decoded(NOTIFICATIONS, view, audit, _decode_notification):
            audit.notifications(notifications)
            summary.notifications(notification for _, notification in notifications)
        async for updates in self._decoded(ENFORCEMENT, view, audit, _decode_update):
            audit.updates(updates)

    def _live_state_of(self, partition: int) -> LiveState | None:
        if self._live is None:
            self._findings.skipped(LIVE_CHECK, "no running worker was given to compare with")
        elif partition not in self._at_rest:
            self._findings.waiting["workers"] += 1
            self._findings.skipped(LIVE_CHECK, f"lane {partition} went on writing before its worker was asked")
        else:
            return self._live
        return None

    async def _close(self) -> None:
        known = await self._known_versions()
        self._books.finish(self._findings, known_versions=known, whole=self._whole(DECISIONS))
        await asyncio.to_thread(self._leases.compare, self._view)
        if self._ledger is None or self._view is None:
            return
        await asyncio.to_thread(self._ledger.read, self._view)
        now_booked = await asyncio.to_thread(self._view.booked_offsets)
        if dict(now_booked) != dict(self._ledger.booked):
            self._findings.waiting["ledger"] += 1
            for name in LEDGER_CHECKS:
                self._findings.skipped(name, "the ledger went on booking while it was read")
            return
        self._ledger.compare(self._findings, self._view, whole=self._whole(USAGE))

    async def _known_versions(self) -> set[str] | None:
        """Catalogue versions that were published; None when compaction may have removed some of them."""
        known: set[str] = set()
        if self._view is not None:
            known |= set(await asyncio.to_thread(self._view.catalogue_versions))
        first, end = self._firsts[CATALOGUE][0], (await self._readers[CATALOGUE].end_offsets())[0]
        count = 0
        async for records in self._read(CATALOGUE, 0, first, end):
            count += len(records)
            markers = [record.value for record in records if record.key == MARKER_KEY.encode() and record.value]
            known |= {str(_decode_entry(value).body.get("version")) for value in markers}
        if self._view is None and count < end:
            self._findings.skipped("catalogue_known", "the catalogue topic was compacted, and no database was given")
            return None
        return known

    def _whole(self, topic: str) -> bool:
        return not any(self._firsts[topic].values())

    async def _decoded(
        self, topic: str, view: LaneView, audit: LaneAudit, decode: Callable[[bytes], T]
    ) -> AsyncIterator[Batch[T]]:
        async for records in self._records(topic, view):
            self._findings.looked("outputs_readable", len(records))
            batch = []
            for record in records:
                try:
                    batch.append((record, decode(record.value or b"")))
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    audit.unreadable(topic, f"partition {view.partition} offset {record.offset}", error)
            yield batch

    def _records(self, topic: str, view: LaneView) -> AsyncIterator[Sequence[LogRecord]]:
        return self._read(topic, view.partition, self._firsts[topic].get(view.partition, 0), view.ends[topic])

    async def _read(self, topic: str, partition: int, first: int, end: int) -> AsyncIterator[Sequence[LogRecord]]:
        """The records of one partition from `first` up to `end`."""
        if first >= end:
            return
        reader, loop = self._readers[topic], asyncio.get_running_loop()
        ends = await reader.end_offsets()
        # The other partitions are put to their ends, so that nothing old is fetched of them beside it.
        await reader.seek({**ends, partition: first})
        moved_at, position = loop.time(), first
        while position < end:
            polled = await reader.poll(max_records=POLL_RECORDS, max_wait_ms=POLL_WAIT_MS, partition=partition)
            records = [record for record in polled.get(partition, ()) if record.offset < end]
            if records:
                yield records
            if reader.position(partition) > position:
                moved_at, position = loop.time(), reader.position(partition)
            elif loop.time() - moved_at > STALLED_S:
                raise LogUnavailable(
                    f"{topic}-{partition} brings nothing after offset {position} for {STALLED_S} s, although it ends "
                    f"at {end}; look after the log, then verify again"
                )


_decode_letter = msgspec.json.Decoder(DeadLetter).decode
_decode_usage = msgspec.json.Decoder(RatedUsage).decode
_decode_decision = msgspec.json.Decoder(PolicyDecision).decode
_decode_notification = msgspec.json.Decoder(Notification).decode
_decode_update = msgspec.json.Decoder(PolicyUpdate).decode
_decode_entry = msgspec.json.Decoder(CatalogueEntry).decode
