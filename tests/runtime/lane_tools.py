"""What the tests of both logs share: an adapter to the store under test, small lane servers, reading it all back."""

import asyncio
import contextlib
import dataclasses
import itertools
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from schemas.topics import Topic
from services.runtime.log import Lane, LaneHost, Log, LogRecord, NewRecord
from services.runtime.settings import Settings
from tests.waiting import wait_until_async

DEADLINE_S = 100.0
"""Only a failing test waits so long; a passing one may share its machine with others and still needs a part of it."""

QUICK: dict[str, object] = {
    "session_timeout_ms": 6_000,
    "drain_timeout_ms": 20_000,
    "outage_timeout_ms": 60_000,
}
"""Settings that let a failing test fail within its time; only the session's end is ever waited for by a passing one."""


class Store(Protocol):
    """One log's storage, which any number of `Log` objects may open: each stands for a process."""

    name: str

    async def log(self, **settings: object) -> Log:
        """A started log over the store, closed when the test ends."""

    async def drop_before(self, topic: str, partition: int, offset: int) -> None:
        """What retention does: the records before `offset` are gone."""


@dataclasses.dataclass
class Names:
    """Names that no other test uses, since one broker serves them all."""

    run: str = dataclasses.field(default_factory=lambda: f"{os.getpid():x}{secrets.token_hex(3)}")
    count: itertools.count = dataclasses.field(default_factory=itertools.count)  # type: ignore[type-arg]

    def group(self) -> str:
        """A consumer group."""
        return f"group-{self.run}-{next(self.count)}"

    def topic(self, *, compacted: bool = False, max_octets: int = 1_048_588, single_partition: bool = False) -> Topic:
        """A topic."""
        return Topic(
            f"topic-{self.run}-{next(self.count)}",
            (),
            "key",
            (),
            (),
            "A topic of a test.",
            compacted=compacted,
            single_partition=single_partition,
            max_message_octets=max_octets,
        )


class Echo:
    """A lane server that copies every input record to `output` and remembers what it took and committed."""

    def __init__(self, output: str, *, max_records: int = 500) -> None:
        self.output = output
        self.max_records = max_records
        self.lanes: list[Lane] = []
        self.taken: Counter[tuple[str, int, int]] = Counter()
        self.committed: Counter[tuple[str, int, int]] = Counter()

    async def __call__(self, lane: Lane) -> None:
        """Serve the lane until it raises."""
        self.lanes.append(lane)
        while True:
            polled = await lane.poll(max_records=self.max_records, max_wait_ms=100)
            await self.between(lane)
            places = [
                (topic, lane.partition, record.offset) for topic, batch in polled.records.items() for record in batch
            ]
            self.taken.update(places)
            for topic, batch in polled.records.items():
                for record in batch:
                    lane.append(
                        self.output,
                        key=record.key,
                        value=f"{topic}/{lane.partition}/{record.offset}".encode(),
                        timestamp_ms=record.timestamp,
                    )
            await lane.commit({topic: batch[-1].offset + 1 for topic, batch in polled.records.items()})
            self.committed.update(places)

    async def between(self, lane: Lane) -> None:
        """A place for a test to stop a batch in flight."""


class Held(Echo):
    """An Echo whose first non-empty batch waits for `go`."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.go = asyncio.Event()
        self.waiting = 0

    async def between(self, lane: Lane) -> None:
        """Wait for the test."""
        self.waiting += 1
        await self.go.wait()


@contextlib.asynccontextmanager
async def running(host: LaneHost, serve: object) -> AsyncIterator[asyncio.Task[None]]:
    """The host running until the block ends, then stopped; its error, if it had one, comes out here."""
    task = asyncio.create_task(host.run(serve))  # type: ignore[arg-type]
    try:
        yield task
    finally:
        stopping = asyncio.create_task(host.stop())
        await asyncio.wait((task, stopping), timeout=DEADLINE_S)
        if not task.done():
            task.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
    await task


async def publish(log: Log, topic: str, records: Sequence[tuple[bytes | None, bytes | None]]) -> None:
    """Publish (key, value) pairs."""
    publisher = await log.publisher()
    try:
        await publisher.publish([NewRecord(topic, key, value, 1_700_000_000_000) for key, value in records])
    finally:
        await publisher.close()


async def contents(log: Log, topic: str) -> dict[int, list[LogRecord]]:
    """Everything visible in a topic as of now, per partition."""
    reader = await log.reader(topic)
    try:
        found: dict[int, list[LogRecord]] = {partition: [] for partition in await reader.beginning_offsets()}
        ends = await reader.end_offsets()
        while any(reader.position(partition) < end for partition, end in ends.items()):
            for partition, batch in (await reader.poll(max_records=5_000, max_wait_ms=50)).items():
                found[partition].extend(batch)
    finally:
        await reader.close()
    return found


async def values(log: Log, topic: str) -> list[bytes | None]:
    """All visible values."""
    return [record.value for batch in (await contents(log, topic)).values() for record in batch]


async def wait_for_values(log: Log, topic: str, count: int) -> list[bytes | None]:
    """All visible values, once there are at least `count`.

    It reads on while it waits: to read all again at each look would be most of what a slow machine has to do.
    """
    reader = await log.reader(topic)
    found = 0

    async def enough() -> bool:
        nonlocal found
        found += sum(map(len, (await reader.poll(max_records=5_000, max_wait_ms=50)).values()))
        return found >= count

    try:
        await wait_until_async(enough, DEADLINE_S, f"{count} records in {topic}")
    finally:
        await reader.close()
    return await values(log, topic)


def each_once(found: Sequence[bytes | None]) -> bool:
    """Whether no value is there twice."""
    return set(Counter(found).values()) <= {1}


async def replayed(lane: Lane, topic: str) -> list[LogRecord]:
    """What a replay brings."""
    return [record async for batch in lane.replay(topic) for record in batch]


def test_settings(**settings: object) -> Settings:
    """Settings for a test."""
    return Settings.model_validate({**QUICK, **settings})


test_settings.__test__ = False  # type: ignore[attr-defined]
