"""The relay of the outbox: publishes what was stored, in order, at least once, and forgets it when it is stored.

A crash between publishing and forgetting publishes again; commands carry an id that lanes apply once, and a catalogue
entry published twice is the same entry. One relay is at work at a time, so order holds across replicas, too.
"""

import asyncio
from collections.abc import Sequence

from services.rating.clock import Clock, wall_clock_ms
from services.rating.database import Engine
from services.rating.metrics import RatingMetrics
from services.rating.patience import Patience, Stopping
from services.rating.repositories import outbox
from services.rating.repositories.outbox import Pending, RelayLock
from services.runtime.log import Log, LogUnavailable, NewRecord, Publisher
from services.runtime.settings import Settings
from services.runtime.telemetry import Health, events

_events = events("rating.outbox")


class OutboxRelay:
    """Publishes until it is stopped. One object, one `run`."""

    def __init__(
        self, *, engine: Engine, log: Log, settings: Settings, metrics: RatingMetrics, clock: Clock = wall_clock_ms
    ) -> None:
        self._engine = engine
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._poll_s = settings.outbox_poll_ms / 1000
        self._stopping = asyncio.Event()
        self._rung = asyncio.Event()
        self._publisher: Publisher | None = None
        self._patience = Patience(
            outage_timeout_ms=settings.outage_timeout_ms, stopping=self._stopping, log_events=_events
        )

    async def run(self) -> None:
        """Publish until `stop`. Raises OutageTooLong, and bugs."""
        loop = asyncio.get_running_loop()
        with outbox.hearing(self._engine, lambda: loop.call_soon_threadsafe(self._rung.set)):
            try:
                while not self._stopping.is_set():
                    self._rung.clear()
                    await self._patience.through(self._drain)
                    await self._wait()
            except Stopping:
                pass
            finally:
                await self._drop_publisher()

    def stop(self) -> None:
        """Let `run` end after the batch in hand."""
        self._stopping.set()
        self._rung.set()

    def health(self) -> Health:
        """Well while no outage holds it up."""
        outage = self._patience.outage
        return Health(ok=outage is None, detail=outage or "publishing")

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._rung.wait(), self._poll_s)
        except TimeoutError:
            return

    async def _drain(self) -> None:
        waiting = await asyncio.to_thread(outbox.count, self._engine)
        self._metrics.outbox_pending.set(waiting)
        if not waiting:
            return
        lock = RelayLock(self._engine)
        if not await asyncio.to_thread(lock.acquire):
            return
        try:
            while batch := await asyncio.to_thread(outbox.oldest, self._engine):
                await self._publish(batch)
                await asyncio.to_thread(outbox.remove, self._engine, [item.id for item in batch])
                self._count(batch)
                if self._stopping.is_set():
                    return
            self._metrics.outbox_pending.set(0)
        finally:
            await asyncio.to_thread(lock.release)

    async def _publish(self, batch: Sequence[Pending]) -> None:
        now_ms = self._clock()
        records = [NewRecord(item.topic, item.key, item.value, now_ms, item.partition) for item in batch]
        if self._publisher is None:
            self._publisher = await self._log.publisher()
        try:
            await self._publisher.publish(records)
        except LogUnavailable:
            await self._drop_publisher()
            raise

    async def _drop_publisher(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.close()

    def _count(self, batch: Sequence[Pending]) -> None:
        for item in batch:
            self._metrics.outbox_published.labels(item.topic).inc()
        _events.debug("published", records=len(batch), last_id=batch[-1].id)
