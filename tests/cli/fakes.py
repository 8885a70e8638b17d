"""A log and a ledger in memory, with just what the reconciliation reads."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from schemas import topics
from services.cli.ledger_view import LedgerRow, MovementTotal
from services.runtime.log import OffsetOutOfRange


class FakeRecord(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class FakeTopic:
    """One topic: per partition a list of records, and the first offset that retention has left."""

    def __init__(self, partitions: int) -> None:
        self.records: list[list[FakeRecord]] = [[] for _ in range(partitions)]
        self.firsts = [0] * partitions

    def append(self, partition: int, key: bytes | None, value: bytes | None) -> int:
        offset = self.end(partition)
        self.records[partition].append(FakeRecord(offset, 0, key, value))
        return offset

    def end(self, partition: int) -> int:
        records = self.records[partition]
        return records[-1].offset + 1 if records else self.firsts[partition]

    def drop_before(self, partition: int, offset: int) -> None:
        self.firsts[partition] = offset
        self.records[partition] = [record for record in self.records[partition] if record.offset >= offset]


class FakeReader:
    def __init__(self, topic: FakeTopic, log: "FakeLog") -> None:
        self._topic = topic
        self._log = log
        self._positions = dict(enumerate(topic.firsts))
        self.closed = False

    async def beginning_offsets(self) -> Mapping[int, int]:
        return dict(enumerate(self._topic.firsts))

    async def end_offsets(self) -> Mapping[int, int]:
        self._log.looked_at_ends()
        return {partition: self._topic.end(partition) for partition in range(len(self._topic.records))}

    async def seek(self, next_offsets: Mapping[int, int]) -> None:
        for partition, offset in next_offsets.items():
            if not self._topic.firsts[partition] <= offset <= self._topic.end(partition):
                raise OffsetOutOfRange(f"{partition}: {offset}")
        self._positions.update(next_offsets)

    async def poll(
        self, *, max_records: int, max_wait_ms: int, partition: int | None = None
    ) -> Mapping[int, Sequence[FakeRecord]]:
        found = {}
        for number, records in enumerate(self._topic.records):
            if partition not in (None, number):
                continue
            position = self._positions[number]
            batch = [record for record in records if record.offset >= position][: min(max_records, 7)]
            if batch:
                found[number] = batch
                self._positions[number] = batch[-1].offset + 1
            else:
                self._positions[number] = self._topic.end(number)
        return found

    def position(self, partition: int) -> int:
        return self._positions[partition]

    async def close(self) -> None:
        self.closed = True


class FakeLog:
    """`services.runtime.log.Log`, as far as reading goes."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.topics = {topic.name: FakeTopic(1 if topic.single_partition else partitions) for topic in topics.ALL}
        self.readers: list[FakeReader] = []
        self.on_look = lambda: None

    def looked_at_ends(self) -> None:
        """Called whenever somebody asks for end offsets; a test may make the log move here."""
        self.on_look()

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def ensure_topics(self, topics: Any, *, partitions: int) -> None: ...

    async def partitions_of(self, topic: str) -> int:
        return len(self.topics[topic].records)

    def lanes(self, *, group: str, inputs: Sequence[str]) -> Any:
        raise NotImplementedError

    async def publisher(self) -> Any:
        raise NotImplementedError

    async def reader(self, topic: str) -> FakeReader:
        reader = FakeReader(self.topics[topic], self)
        self.readers.append(reader)
        return reader


@dataclasses.dataclass
class FakeLedger:
    """`services.cli.ledger_view.LedgerView`."""

    booked: dict[int, int] = dataclasses.field(default_factory=dict)
    held: list[LedgerRow] = dataclasses.field(default_factory=list)
    totals: list[MovementTotal] = dataclasses.field(default_factory=list)
    served: list[MovementTotal] = dataclasses.field(default_factory=list)
    versions: list[str] = dataclasses.field(default_factory=list)
    paid: list[tuple[str, int, int, int]] = dataclasses.field(default_factory=list)
    limits: list[tuple[str, int, int, int]] = dataclasses.field(default_factory=list)
    leases: list[tuple[str, int, int, int, int, int]] = dataclasses.field(default_factory=list)

    def booked_offsets(self) -> Mapping[int, int]:
        return dict(self.booked)

    def rows(self) -> Iterable[LedgerRow]:
        return iter(self.held)

    def movement_totals(self) -> Iterable[MovementTotal]:
        return iter(self.totals)

    def balances(self) -> Iterable[MovementTotal]:
        return iter(self.served)

    def sponsored_totals(self) -> Iterable[tuple[str, int, int, int]]:
        return iter(self.paid)

    def budgets(self) -> Iterable[tuple[str, int, int, int]]:
        return iter(self.limits)

    def lane_leases(self) -> Iterable[tuple[str, int, int, int, int, int]]:
        return iter(self.leases)

    def catalogue_versions(self) -> Iterable[str]:
        return iter(self.versions)
