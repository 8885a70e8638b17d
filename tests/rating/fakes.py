"""A log in memory that keeps the port's Protocol as far as the rating service uses it, and a database that breaks."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping, Sequence

from sqlalchemy import Engine, event

from schemas.topics import BY_NAME, Topic
from services.rating.database import DatabaseDown
from services.runtime.log import LogUnavailable, NewRecord, OffsetOutOfRange
from services.runtime.partitioning import partition_of


@dataclasses.dataclass(frozen=True)
class FakeRecord:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class FakeLog:
    """Topics as lists. `down` makes everything unavailable; `publishes` counts calls of publish."""

    def __init__(self, partitions: int = 2) -> None:
        self.partitions = partitions
        self.topics: dict[str, list[list[FakeRecord]]] = {}
        self.first_offsets: dict[tuple[str, int], int] = {}
        self.down = False
        self.publishes = 0
        self.started = self.closed = False
        self.arrived = asyncio.Event()

    async def start(self) -> None:
        self.check()
        self.started = True

    async def close(self) -> None:
        self.closed = True

    async def ensure_topics(self, topics: Sequence[Topic], *, partitions: int) -> None:
        self.check()
        for topic in topics:
            self.lists(topic.name)

    async def partitions_of(self, topic: str) -> int:
        self.check()
        return len(self.lists(topic))

    def lanes(self, *, group: str, inputs: Sequence[str]):
        raise NotImplementedError("the rating service has no lanes")

    async def reader(self, topic: str) -> "FakeReader":
        self.check()
        return FakeReader(self, topic)

    async def publisher(self) -> "FakePublisher":
        self.check()
        return FakePublisher(self)

    def lists(self, topic: str) -> list[list[FakeRecord]]:
        count = 1 if BY_NAME[topic].single_partition else self.partitions
        return self.topics.setdefault(topic, [[] for _ in range(count)])

    def check(self) -> None:
        if self.down:
            raise LogUnavailable("the fake log is down")

    def add(self, topic: str, key: bytes | None, value: bytes | None, partition: int | None = None) -> int:
        """Append one record; its partition follows from the key unless given."""
        lists = self.lists(topic)
        chosen = partition_of(key or b"", len(lists)) if partition is None else partition
        records = lists[chosen]
        self.arrived.set()
        records.append(FakeRecord(self.first_offsets.get((topic, chosen), 0) + len(records), 0, key, value))
        return chosen

    def forget(self, topic: str, partition: int, count: int) -> None:
        """Retention: the first `count` records are gone."""
        del self.lists(topic)[partition][:count]
        self.first_offsets[(topic, partition)] = self.first_offsets.get((topic, partition), 0) + count


class FakeReader:
    def __init__(self, log: FakeLog, topic: str) -> None:
        self._log = log
        self._topic = topic
        self._positions = {number: self._first(number) for number in range(len(log.lists(topic)))}
        self.closed = False

    async def beginning_offsets(self) -> Mapping[int, int]:
        self._log.check()
        return {number: self._first(number) for number in self._positions}

    async def end_offsets(self) -> Mapping[int, int]:
        self._log.check()
        return {number: self._first(number) + len(self._records(number)) for number in self._positions}

    async def seek(self, next_offsets: Mapping[int, int]) -> None:
        self._log.check()
        for partition, offset in next_offsets.items():
            if offset < self._first(partition):
                raise OffsetOutOfRange(f"offset {offset} of {self._topic}-{partition} is gone")
            self._positions[partition] = offset

    async def poll(self, *, max_records: int, max_wait_ms: int) -> Mapping[int, Sequence[FakeRecord]]:
        self._log.check()
        found = self._take(max_records)
        if not found:
            self._log.arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._log.arrived.wait(), max_wait_ms / 1000)
            found = self._take(max_records)
        return found

    def _take(self, max_records: int) -> dict[int, Sequence[FakeRecord]]:
        found: dict[int, Sequence[FakeRecord]] = {}
        for partition, position in self._positions.items():
            room = max_records - sum(len(batch) for batch in found.values())
            at = position - self._first(partition)
            if batch := self._records(partition)[at : at + room]:
                found[partition] = batch
                self._positions[partition] = position + len(batch)
        return found

    def position(self, partition: int) -> int:
        return self._positions[partition]

    async def close(self) -> None:
        self.closed = True

    def _records(self, partition: int) -> list[FakeRecord]:
        return self._log.lists(self._topic)[partition]

    def _first(self, partition: int) -> int:
        return self._log.first_offsets.get((self._topic, partition), 0)


class FakePublisher:
    def __init__(self, log: FakeLog) -> None:
        self._log = log

    async def publish(self, records: Sequence[NewRecord]) -> None:
        self._log.publishes += 1
        self._log.check()
        for record in records:
            self._log.add(record.topic, record.key, record.value, record.partition)

    async def close(self) -> None:
        pass


def break_once(engine: Engine, starts: str) -> list[str]:
    """Let the first statement that starts like this end in a lost connection. The list fills with it."""
    broken: list[str] = []

    def cut(_connection, _cursor, statement, *_):
        if statement.startswith(starts) and not broken:
            broken.append(statement)
            raise DatabaseDown("the cable was pulled")

    event.listen(engine, "after_cursor_execute", cut)
    return broken
