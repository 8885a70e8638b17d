"""Batches on both sides of a Kafka lane: the fetched chunks that wait for it, the record batches it has gathered."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from services.runtime.lanes import BATCH_OVERHEAD_OCTETS, RECORD_OVERHEAD_OCTETS, check_fits, check_key, record_octets
from services.runtime.log import LogRecord, Output

BATCH_OCTETS = 512 * 1024
"""Size of a record batch before a new one is begun; a larger record gets a batch of its own."""

REQUEST_OCTETS = 32 * 1024 * 1024
"""What a publisher sends at once; a broker refuses requests over 100 MiB."""

QUEUE_CHUNKS = 4
"""Fetched chunks that wait per lane and input, each within FETCH_RECORDS and one fetch."""

DEFAULT_MAX_OCTETS = 1_048_588


class BatchSource(Protocol):
    """A producer, as far as batches go."""

    def create_batch(self) -> Any:
        """A new, empty record batch."""


class TopicFacts(NamedTuple):
    """What the cluster says of a topic."""

    partitions: int
    max_octets: int
    compacted: bool


class Intake:
    """What was fetched for a lane and not polled yet: a few chunks per input."""

    def __init__(self, positions: Mapping[str, int], ends: Mapping[str, int]) -> None:
        """`positions`: next offset per input, in order of priority; `ends`: what each held when the lane was opened."""
        self.open = False
        """True once the lane has polled: from then on it is fed."""
        self.positions = dict(positions)
        """Next offset to fetch, per input."""
        self._chunks: dict[str, deque[list[LogRecord]]] = {topic: deque() for topic in positions}
        self.owed = {topic: ends[topic] for topic, offset in positions.items() if offset < ends[topic]}
        """Inputs that have not yet been read to where they ended when the lane was opened."""

    def wanted(self) -> Iterator[str]:
        """Inputs that there is room for."""
        return (topic for topic, chunks in self._chunks.items() if len(chunks) < QUEUE_CHUNKS)

    def put(self, topic: str, records: list[LogRecord]) -> None:
        """Add a chunk."""
        self._chunks[topic].append(records)
        self.positions[topic] = records[-1].offset + 1

    def take(self, max_records: int) -> dict[str, list[LogRecord]]:
        """The oldest records, `max_records` in all; nothing of an input while one before it has more or owes some."""
        taken: dict[str, list[LogRecord]] = {}
        left = max_records
        for topic, chunks in self._chunks.items():
            while chunks and left > 0:
                chunk = chunks.popleft()
                if len(chunk) > left:
                    chunks.appendleft(chunk[left:])
                    chunk = chunk[:left]
                left -= len(chunk)
                if topic in taken:
                    taken[topic].extend(chunk)
                else:
                    taken[topic] = chunk
            if chunks or topic in self.owed:
                break
        return taken

    def read_to(self, topic: str, offset: int) -> None:
        """`topic` was fetched up to `offset`; what it owed is settled once that much is also handed out."""
        if not self._chunks[topic] and offset >= self.owed[topic]:
            del self.owed[topic]

    def waiting(self) -> int:
        """Records in the queue."""
        return sum(len(chunk) for chunks in self._chunks.values() for chunk in chunks)


class OutputBatches:
    """The record batches gathered for one partition of one topic.

    Records go straight to aiokafka's compiled batch builder: the Python layer around it costs more than all it does.
    That reaches into private names of aiokafka, whose version is pinned; tests/runtime/test_kafka_batches.py would
    notice a change.
    """

    def __init__(self, topic: str, facts: TopicFacts | None, producer: BatchSource) -> None:
        self.topic = topic
        self._producer = producer
        self._compacted = facts is not None and facts.compacted
        self._max_octets = facts.max_octets if facts else DEFAULT_MAX_OCTETS
        self._batch_octets = min(BATCH_OCTETS, self._max_octets) - BATCH_OVERHEAD_OCTETS
        self._batches: list[Any] = []
        self._octets: list[int] = []
        self._capacity = 0
        self._room = 0
        self._count = 0
        self._add: Callable[..., object] = _no_batch

    @property
    def batches(self) -> list[Any]:
        """The batches, ready to be sent; more records may follow."""
        self._note_open_batch()
        return self._batches

    @property
    def octets(self) -> list[int]:
        """The size of each batch, rounded up."""
        self._note_open_batch()
        return self._octets

    @property
    def records(self) -> int:
        """Records in all batches."""
        return sum(batch.record_count() for batch in self.batches)

    def append(self, key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:
        """Add a record. Raises RecordTooLarge."""
        if key is None:
            check_key(self.topic, key, compacted=self._compacted)
        octets = record_octets(key, value)
        if octets > self._room:
            self._begin_batch(octets)
        if self._add(self._count, timestamp_ms, key, value, _NO_HEADERS) is None:
            raise AssertionError("a batch had less room than was counted for it")
        self._count += 1
        self._room -= octets

    def extend(self, records: Sequence[Output], timestamp_ms: int) -> None:
        """Add many records, in order. Raises RecordTooLarge; those before it are added."""
        for key, value in records:
            octets = len(key or b"") + len(value or b"") + RECORD_OVERHEAD_OCTETS
            if octets > self._room or key is None:
                self.append(key, value, timestamp_ms)
                continue
            # The same as there, without the calls: most of what a lane writes goes this way.
            if self._add(self._count, timestamp_ms, key, value, _NO_HEADERS) is None:
                raise AssertionError("a batch had less room than was counted for it")
            self._count += 1
            self._room -= octets

    def _begin_batch(self, octets: int) -> None:
        check_fits(self.topic, octets, self._max_octets)
        self._note_open_batch()
        batch = self._producer.create_batch()
        self._batches.append(batch)
        self._octets.append(BATCH_OVERHEAD_OCTETS)
        self._add = batch._builder.append
        self._count = 0
        self._capacity = self._room = max(self._batch_octets, octets)

    def _note_open_batch(self) -> None:
        if self._batches:
            # The producer numbers the records of a partition by this count.
            self._batches[-1]._relative_offset = self._count
            self._octets[-1] = BATCH_OVERHEAD_OCTETS + self._capacity - self._room


def requests_of(outputs: list[tuple[str, int, OutputBatches]]) -> Iterator[list[tuple[str, int, list[Any]]]]:
    """The outputs in portions that a broker takes at once, in order per partition."""
    portion: list[tuple[str, int, list[Any]]] = []
    octets = 0
    for topic, partition, output in outputs:
        for batch, size in zip(output.batches, output.octets, strict=True):
            if portion and octets + size > REQUEST_OCTETS:
                yield portion
                portion, octets = [], 0
            if portion and portion[-1][:2] == (topic, partition):
                portion[-1][2].append(batch)
            else:
                portion.append((topic, partition, [batch]))
            octets += size
    if portion:
        yield portion


_NO_HEADERS: list[tuple[str, bytes]] = []


def _no_batch(*_: object) -> object:
    raise AssertionError("a batch is begun before a record is added")
