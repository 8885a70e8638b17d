"""Moments in a worker's life at which something can be done to it, each reached by a condition or by its own clock."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import DECISIONS
from services.cli.stage import Stage
from tests.faults.stream import Stream
from tests.waiting import wait_until_async

DEADLINE_S = 120.0
MOST_DECISIONS = 600

Reach = Callable[[], Awaitable[None]]


class Moments:
    """Leads a stage's newest worker to a moment of its life. The stage's log level has to be `info`."""

    def __init__(self, stage: Stage, rng: Random, *, stream: Stream, written: "WrittenDecisions") -> None:
        self._stage = stage
        self._rng = rng
        self._stream = stream
        self._written = written
        assert stage.worker is not None
        self._log = stage.worker.log_file
        self._log_begins_at = 0
        self._started_at = time.monotonic()
        self._start_s = 1.0
        self.phases: dict[str, Reach] = {
            "starting": self.starting,
            "restoring": self.restoring,
            "deciding": self.deciding,
            "committing": self.committing,
        }

    def begin(self) -> None:
        """The stage is about to start a worker: its life begins now."""
        self._log_begins_at = self._log.stat().st_size
        self._started_at = time.monotonic()

    async def starting(self) -> None:
        """Anywhere between its first breath and the first restored lane, by its own clock."""
        assert self._stage.worker is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._rng.random() * self._start_s):
                await self._stage.worker.ended()
        self._stage.check_worker()

    async def restoring(self) -> None:
        """Some lanes are restored, others are not."""
        lanes = self._rng.randrange(self._stage.settings.partitions)
        await self._until_logged("started", 1)
        await self._until_logged("lane_restored", lanes)

    async def deciding(self) -> None:
        """Some records on."""
        await self._until_logged("lane_restored", 1)
        self._start_s = time.monotonic() - self._started_at
        await self._stream.until_settled(self._rng.randrange(1, MOST_DECISIONS))

    async def committing(self) -> None:
        """Outputs are in the log, and their transaction is not committed, or was a moment ago."""
        await self._until_logged("lane_restored", 1)
        await self._written.wait()

    async def _until_logged(self, event: str, times: int) -> None:
        needle = f" {event} "

        def logged() -> bool:
            self._stage.check_worker()
            with self._log.open("rb") as log:
                log.seek(self._log_begins_at)
                return log.read().decode().count(needle) >= times

        await wait_until_async(logged, DEADLINE_S, f"{times} x {event} in the worker's log")


class WrittenDecisions:
    """Reads the decisions without waiting for their commit."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: int) -> None:
        self._consumer = consumer
        self._places = [TopicPartition(DECISIONS, partition) for partition in range(partitions)]
        self.seen = 0

    async def wait(self) -> None:
        """Return as soon as a worker has written a decision; most likely it is not committed yet."""
        await self._consumer.seek_to_end(*self._places)
        ends_at = time.monotonic() + DEADLINE_S
        while not await self._consumer.getmany(*self._places, timeout_ms=1_000, max_records=1):
            assert time.monotonic() < ends_at, f"waited {DEADLINE_S} s in vain for a decision to be written"

    async def count(self) -> int:
        """Decisions ever written, those of aborted transactions included."""
        await self._consumer.seek_to_beginning(*self._places)
        ends, count = await self._consumer.end_offsets(self._places), 0
        while any([await self._consumer.position(place) < end for place, end in ends.items()]):
            found = await self._consumer.getmany(*self._places, timeout_ms=1_000)
            count += sum(len(batch) for batch in found.values())
        return count


@contextlib.asynccontextmanager
async def written_decisions(stage: Stage) -> AsyncIterator[WrittenDecisions]:
    """A reader of what is not committed yet."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stage.settings.kafka_bootstrap, isolation_level="read_uncommitted", fetch_max_wait_ms=50
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(DECISIONS, partition) for partition in range(stage.settings.partitions)])
        yield WrittenDecisions(consumer, stage.settings.partitions)
    finally:
        await consumer.stop()
