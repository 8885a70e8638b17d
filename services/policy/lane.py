"""The life of a lane: restore, then one transaction after the other until the partition is lost."""

import asyncio
import time
from collections.abc import Callable

from services.engine.unknowns import UnknownsReport, merge_reports
from services.policy.books import BookKeeper
from services.policy.metrics import PolicyMetrics
from services.policy.restore import restore
from services.policy.transaction import LaneState, Transaction
from services.runtime.log import CommitFailed, Lane, LaneFenced, LaneLost, LogError, Polled
from services.runtime.settings import Settings
from services.runtime.telemetry import events

CHUNK_RECORDS = 500
"""Records processed without giving the event loop a turn: about ten milliseconds."""

MAX_TRANSACTION_OCTETS = 16 * 1024 * 1024
IDLE_WAIT_MS = 1_000
LEAST_WAIT_MS = 10
"""Also when something is due: it may have to wait for records, and the lane must not spin meanwhile."""

_events = events("policy.lane")


class LaneKeeper:
    """Serves lanes; one object per process, holding what all its lanes share."""

    def __init__(
        self,
        settings: Settings,
        keeper: BookKeeper,
        metrics: PolicyMetrics,
        *,
        partitions: int,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._settings = settings
        self._keeper = keeper
        self._metrics = metrics
        self._partitions = partitions
        self._clock_ms = clock_ms
        self._states: dict[int, LaneState] = {}

    def live_state(self) -> dict[str, bytes]:
        """What all lanes of this process hold at rest, by account id: the changelog's bytes, once they stand still."""
        return {account_id: raw for state in self._states.values() for account_id, raw in state.accounts.raw().items()}

    def unknowns(self) -> UnknownsReport:
        """The largest unlisted names of all lanes of this process, since each last started or took a new catalogue."""
        return merge_reports([state.unknowns.report() for state in self._states.values()])

    def restored_partitions(self) -> frozenset[int]:
        """Partitions whose lanes are up to date and at work."""
        return frozenset(self._states)

    async def serve(self, lane: Lane) -> None:
        """Serve `lane` until a LogError ends it. The state lives in this call: a failure drops it as a whole."""
        await self._keeper.first()
        try:
            await self._work(lane)
        except LogError as error:
            if cause := _rebuild_cause(error):
                self._metrics.rebuilds.labels(cause).inc()
            raise

    async def _work(self, lane: Lane) -> None:
        state = await self._restore(lane)
        self._metrics.lanes.inc()
        try:
            while True:
                await self._transact(lane, state)
        finally:
            self._leave(lane.partition)

    async def _restore(self, lane: Lane) -> LaneState:
        began_s = time.monotonic()
        state, records = await restore(lane, self._settings)
        ended_s = time.monotonic()
        self._metrics.restore_seconds.observe(ended_s - began_s)
        self._metrics.restored_records.inc(records)
        self._states[lane.partition] = state
        self._count_accounts()
        _events.info(
            "lane_restored", partition=lane.partition, records=records, accounts=len(state.accounts),
            began_s=began_s, ended_s=ended_s,
        )  # fmt: skip
        return state

    async def _transact(self, lane: Lane, state: LaneState) -> None:
        """Gather and process until the batch is full or its time is over, then make it durable."""
        polled = await self._first_records(lane, state)
        began = time.monotonic()
        transaction = Transaction(
            lane,
            state,
            self._keeper.current,
            partitions=self._partitions,
            max_record_octets=self._settings.max_record_octets,
            now_ms=self._clock_ms(),
        )
        await self._process(transaction, polled)
        polled = await self._gather(lane, transaction, polled, began)
        transaction.run_timers(caught_up=not polled.backlog)
        transaction.close()
        await lane.commit(transaction.next_offsets)
        self._report(lane.partition, transaction, polled, began)

    async def _first_records(self, lane: Lane, state: LaneState) -> Polled:
        due_ms = self._clock_ms() if state.to_adopt else state.agenda.next_ms()
        left_ms = IDLE_WAIT_MS if due_ms is None else due_ms - self._clock_ms()
        wait_ms = max(LEAST_WAIT_MS, min(IDLE_WAIT_MS, left_ms))
        return await lane.poll(max_records=self._settings.transaction_max_records, max_wait_ms=wait_ms)

    async def _gather(self, lane: Lane, transaction: Transaction, polled: Polled, began: float) -> Polled:
        while len(polled):
            room = self._settings.transaction_max_records - transaction.tally.records
            left_ms = self._settings.transaction_max_wait_ms - int((time.monotonic() - began) * 1_000)
            if room <= 0 or left_ms <= 0 or lane.appended_octets() > MAX_TRANSACTION_OCTETS:
                break
            polled = await lane.poll(max_records=room, max_wait_ms=left_ms)
            await self._process(transaction, polled)
        return polled

    async def _process(self, transaction: Transaction, polled: Polled) -> None:
        for topic, records in polled.records.items():
            for at in range(0, len(records), CHUNK_RECORDS):
                transaction.take(topic, records[at : at + CHUNK_RECORDS])
                await asyncio.sleep(0)

    def _report(self, partition: int, transaction: Transaction, polled: Polled, began: float) -> None:
        tally, metrics, now_s = transaction.tally, self._metrics, self._clock_ms() / 1_000
        tally.publish(metrics)
        self._count_accounts()
        metrics.lag_records.labels(str(partition)).set(polled.backlog)
        age_s = max(0.0, now_s - tally.oldest_ms / 1_000) if tally.records else 0.0
        metrics.lag_seconds.labels(str(partition)).set(age_s)
        if tally.records:
            metrics.batch_seconds.observe(time.monotonic() - began)
            metrics.end_to_end_seconds.observe(age_s)
            metrics.last_commit.labels(str(partition)).set(now_s)

    def _count_accounts(self) -> None:
        self._metrics.accounts.set(sum(len(state.accounts) for state in self._states.values()))

    def _leave(self, partition: int) -> None:
        """Take back what this process said of the partition: a series that nobody updates would lie."""
        self._metrics.lanes.dec()
        self._states.pop(partition, None)
        self._count_accounts()
        for gauge in (self._metrics.lag_records, self._metrics.lag_seconds, self._metrics.last_commit):
            try:
                gauge.remove(str(partition))
            except KeyError:
                continue


def _rebuild_cause(error: LogError) -> str | None:
    """One word for why the lane has to be rebuilt; None when the error ends the service."""
    if isinstance(error, LaneFenced):
        return "fenced"
    if isinstance(error, LaneLost):
        return "lost"
    return "commit_failed" if isinstance(error, CommitFailed) else None
