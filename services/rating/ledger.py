"""The ledger: reads `ott.usage.v1` and books it, rows and offsets in one transaction.

However many replicas run, each record is booked once: the offsets move by compare-and-set in the transaction that
books, so of two ledgers that read the same records one finds the offsets moved, drops its work and goes on from there.
"""

import asyncio
from collections.abc import Mapping, Sequence

from schemas.topics import USAGE
from services.rating.bookings import Batch, gather
from services.rating.clock import Clock, wall_clock_ms
from services.rating.consumer import Consumer
from services.rating.database import Engine, again_after_collision, reading, writing
from services.rating.metrics import RatingMetrics
from services.rating.repositories import ledger as books
from services.rating.repositories.ledger import Booked, BucketSum, UsageSum
from services.runtime.log import Log, LogReader, LogRecord
from services.runtime.settings import Settings
from services.runtime.telemetry import Health, events

WATCH_INTERVAL_MS = 1_000
"""How often the end of the log is looked at: lag, and the time up to which an idle partition is booked."""

_events = events("rating.ledger")


class Ledger(Consumer):
    """Books usage until it is stopped. One object, one `run`."""

    topic = USAGE

    def __init__(
        self, *, engine: Engine, log: Log, settings: Settings, metrics: RatingMetrics, clock: Clock = wall_clock_ms
    ) -> None:
        super().__init__(engine=engine, log=log, settings=settings, log_events=_events)
        self._metrics = metrics
        self._clock = clock
        self._watched_at_ms = 0
        self._lag: dict[int, int] | None = None

    def health(self) -> Health:
        """Well while no outage holds it up."""
        if self._patience.outage is not None:
            return Health(ok=False, detail=self._patience.outage)
        if self._lag is None:
            return Health(ok=False, detail="has not yet reached the log")
        return Health(ok=True, detail=f"{sum(self._lag.values())} usage records behind")

    def lag_records(self) -> int | None:
        """Usage records that are not yet booked, as of the last look; None before the first one."""
        return None if self._lag is None else sum(self._lag.values())

    async def _resume(self, reader: LogReader) -> None:
        await super()._resume(reader)
        _events.info("resumed", next_offsets=dict(sorted(self._stored.items())))

    async def _step(self, reader: LogReader) -> None:
        polled = await self._poll(reader)
        if any(polled.values()):
            await self._book(reader, polled)
        if self._clock() - self._watched_at_ms >= WATCH_INTERVAL_MS:
            await self._watch(reader)

    async def _book(self, reader: LogReader, polled: Mapping[int, Sequence[LogRecord]]) -> None:
        batch = gather(polled, booked_at_ms=self._clock())
        moves = {partition: (self._stored[partition], reader.position(partition)) for partition in polled}
        # An unclear commit is retried, too: if it had got through, the offsets have moved and nothing is booked twice.
        booked = await self._patience.through(lambda: asyncio.to_thread(self._store, batch, moves))
        self._stored.update({partition: following for partition, (_, following) in moves.items()})
        self._count(booked)

    def _store(self, batch: Batch, moves: Mapping[int, tuple[int, int]]) -> Booked:
        return again_after_collision(lambda: self._store_once(batch, moves))

    def _store_once(self, batch: Batch, moves: Mapping[int, tuple[int, int]]) -> Booked:
        with writing(self._engine) as connection:
            books.advance(connection, USAGE, moves, batch.rated_until_ms)
            return books.book(connection, USAGE, batch)

    def _count(self, booked: Booked) -> None:
        for kind, count in booked.rows.items():
            self._metrics.ledger_rows.labels(kind).inc(count)
        for cause, count in booked.refused.items():
            self._metrics.ledger_refused.labels(cause).inc(count)
            _events.warning("refused", cause=cause, records=count)
        self._metrics.ledger_last_commit.set(self._clock() / 1000)

    async def _watch(self, reader: LogReader) -> None:
        """Look where the log ends; what is booked up to there is booked up to the moment before the look."""
        at_ms = self._clock()
        ends = await self._patience.through(reader.end_offsets)
        self._lag = {partition: max(0, end - reader.position(partition)) for partition, end in ends.items()}
        for partition, lag in self._lag.items():
            self._metrics.ledger_lag.labels(str(partition)).set(lag)
        idle = {
            partition: (self._stored[partition], reader.position(partition))
            for partition, lag in self._lag.items()
            if lag == 0 and partition in self._stored
        }
        await self._patience.through(lambda: asyncio.to_thread(self._note_idle, idle, at_ms))
        self._stored.update({partition: following for partition, (_, following) in idle.items()})
        self._watched_at_ms = at_ms

    def _note_idle(self, idle: Mapping[int, tuple[int, int]], at_ms: int) -> None:
        with writing(self._engine) as connection:
            books.advance(connection, USAGE, idle, dict.fromkeys(idle, at_ms))


def bucket_sums(engine: Engine) -> list[BucketSum]:
    """Σ movements per bucket: what the buckets of the accounts must hold."""
    with reading(engine) as connection:
        return list(books.bucket_sums(connection))


def usage_sums(engine: Engine) -> list[UsageSum]:
    """Σ usage per account, subscriber, kind, category, treatment and currency."""
    with reading(engine) as connection:
        return list(books.usage_sums(connection))


def booked_offsets(engine: Engine) -> dict[int, int]:
    """Next offset of `ott.usage.v1` to book, per partition."""
    with reading(engine) as connection:
        return books.next_offsets(connection, USAGE)


def refused_counts(engine: Engine) -> dict[str, int]:
    """Usage records that were refused, by cause."""
    with reading(engine) as connection:
        return books.refused_counts(connection)
