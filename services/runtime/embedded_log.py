"""The embedded log: the log port over one SQLite file, for one machine. It is no server and pretends to be none.

Every batch is one transaction: outputs and input offsets together, checked against the lane's epoch. Opening a lane
raises its epoch, so whoever held it before can commit nothing more. The living hosts of a group share the partitions in
ranges; docs/adr/0002 says why there is neither a lease nor a heartbeat.
"""

import asyncio
import contextlib
import itertools
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from schemas.topics import Topic
from services.runtime import embedded_file
from services.runtime.embedded_file import EmbeddedFile, EmbeddedRecord, EmbeddedTopic, Found, Member, Part, Row
from services.runtime.lanes import LaneGate, Retry, check_fits, check_key, check_range, keep_served, record_octets
from services.runtime.log import (
    CommitFailed,
    LaneFenced,
    LaneServer,
    LogError,
    LogUnavailable,
    NewRecord,
    Output,
    Polled,
)
from services.runtime.partitioning import checked_partition, partition_of
from services.runtime.settings import Settings

REPLAY_RECORDS = 4_000
MEMBER_INTERVAL_S = 0.1
ROUNDS_AFTER_FENCE = 2
RETENTION_INTERVAL_S = 600.0


class _Output(NamedTuple):
    topic: EmbeddedTopic
    rows: list[Row]


class EmbeddedLog:
    """`services.runtime.log.Log` in one SQLite file below `settings.data_dir`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file: EmbeddedFile | None = None

    async def start(self) -> None:
        """Create the file if need be and open it, once. Raises LogUnavailable."""
        if self._file is not None:
            return
        folder = Path(self._settings.data_dir)
        self._file = await EmbeddedFile.open(folder, outage_timeout_ms=self._settings.outage_timeout_ms)
        self._file.keep(self._keep_retention())

    async def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            await self._file.close()
            self._file = None

    async def ensure_topics(self, topics: Sequence[Topic], *, partitions: int) -> None:
        """Create what is missing; refuse, by LogError, a topic whose partition count differs."""
        await self._opened().write(lambda connection: embedded_file.ensure_topics(connection, topics, partitions))

    async def partitions_of(self, topic: str) -> int:
        """Partition count of an existing topic."""
        return (await self._opened().topic(topic)).partitions

    def lanes(self, *, group: str, inputs: Sequence[str]) -> "EmbeddedLaneHost":
        """A member of `group` whose lanes read the co-partitioned topics `inputs`."""
        return EmbeddedLaneHost(self._opened(), self._settings, group=group, inputs=tuple(inputs))

    async def reader(self, topic: str) -> "EmbeddedReader":
        """A reader at the beginning of every partition of `topic`."""
        file = self._opened()
        reader = EmbeddedReader(file, await file.topic(topic))
        await reader.seek(await reader.beginning_offsets())
        return reader

    async def publisher(self) -> "EmbeddedPublisher":
        """A publisher."""
        return EmbeddedPublisher(self._opened())

    async def apply_retention(self, *, now_ms: int) -> None:
        """Drop what has been stored longer than its topic keeps records; runs by itself every ten minutes."""
        await self._opened().write(lambda connection: embedded_file.apply_retention(connection, now_ms))

    def _opened(self) -> EmbeddedFile:
        if self._file is None:
            raise LogError("the embedded log is not open; await start() first")
        return self._file

    async def _keep_retention(self) -> None:
        while True:
            await self.apply_retention(now_ms=time.time_ns() // 1_000_000)
            await asyncio.sleep(RETENTION_INTERVAL_S)


class EmbeddedLane:
    """`services.runtime.log.Lane` over the file. Reads go by position, the commit is one transaction."""

    def __init__(
        self,
        file: EmbeddedFile,
        *,
        group: str,
        partition: int,
        epoch: int,
        inputs: Mapping[str, EmbeddedTopic],
        positions: Mapping[str, int],
        on_commit: Callable[[], None],
    ) -> None:
        self.gate = LaneGate()
        self._file = file
        self._group = group
        self._partition = partition
        self._epoch = epoch
        self._inputs = inputs
        self._committed = dict(positions)
        self._positions = dict(positions)
        self._ends = dict(positions)
        self._on_commit = on_commit
        self._outputs: dict[str, _Output] = {}
        self._octets = 0
        self._on_news = self.gate.wake
        file.bell.listen(self._on_news, [topic.part(partition) for topic in inputs.values()])

    @property
    def partition(self) -> int:
        """The partition number."""
        return self._partition

    async def replay(self, topic: str) -> AsyncIterator[Sequence[EmbeddedRecord]]:
        """Batches of this partition of `topic` from its beginning to its end as of now."""
        place = (await self._file.topic(topic), self._partition)
        position, end = await self._file.read(lambda connection: embedded_file.bounds(connection, _part(place)))
        while position < end:
            found = await self._file.read(_reading(place, start=position, stop=end, max_records=REPLAY_RECORDS))
            self.gate.check()
            position = found.position
            if found.records:
                yield found.records

    def committed(self) -> Mapping[str, int]:
        """Next offset per input topic."""
        return dict(self._committed)

    async def poll(self, *, max_records: int, max_wait_ms: int) -> Polled:
        """The next records, or none after `max_wait_ms`."""
        self.gate.end_batch()
        deadline = time.monotonic() + max_wait_ms / 1000
        while await self.gate.may_begin():
            found = await self._file.read(lambda connection: self._read_inputs(connection, max_records))
            left_s = deadline - time.monotonic()
            if left_s <= 0 or any(read.records for read in found.values()):
                return self._polled(found)
            await self.gate.sleep(left_s)
        return self._polled({})

    def append(self, topic: str, *, key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:
        """Add an output to the batch; memory only."""
        output = self._outputs.get(topic) or self._open_output(topic)
        self._octets += _checked_octets(output.topic, key, value)
        output.rows.append((timestamp_ms, key, value))
        self.gate.appended()

    def append_all(self, topic: str, records: Sequence[Output], *, timestamp_ms: int) -> None:
        """Add many outputs to the batch; memory only."""
        for key, value in records:
            self.append(topic, key=key, value=value, timestamp_ms=timestamp_ms)

    def appended_octets(self) -> int:
        """Size of the outputs gathered for the next commit."""
        return self._octets

    async def commit(self, next_offsets: Mapping[str, int]) -> None:
        """Outputs and input offsets in one transaction, if this lane's epoch still holds."""
        self.gate.check()
        batches = {(output.topic, self._partition): output.rows for output in self._outputs.values() if output.rows}
        if not next_offsets and not batches:
            return
        try:
            await self._file.write(
                lambda connection: self._store(connection, batches, next_offsets), written=batches.keys()
            )
        except LaneFenced as error:
            self.gate.close(error)
            raise
        except LogUnavailable as error:
            failure = CommitFailed(f"lane {self._partition} of {self._group!r} could not commit: {error}")
            self.gate.close(failure)
            raise failure from error
        self._outputs = {}
        self._octets = 0
        self._committed.update(next_offsets)
        self.gate.committed()
        self._on_commit()

    async def discard(self) -> None:
        """Drop what was not committed."""
        self._file.bell.leave(self._on_news)
        self._outputs = {}

    def _open_output(self, name: str) -> _Output:
        topic = self._file.known_topic(name)
        if self._partition >= topic.partitions:
            raise LogError(f"topic {name!r} has no partition {self._partition}; create it with as many as the inputs")
        output = self._outputs[name] = _Output(topic, [])
        return output

    def _polled(self, found: Mapping[str, Found]) -> Polled:
        for name, read in found.items():
            self._positions[name] = read.position
            self._ends[name] = read.end
        records = {name: read.records for name, read in found.items() if read.records}
        self.gate.begin_batch(took_records=bool(records))
        return Polled(records, sum(self._ends[name] - self._positions[name] for name in self._inputs))

    def _read_inputs(self, connection: sqlite3.Connection, max_records: int) -> dict[str, Found]:
        """The inputs in order of priority, from one snapshot; nothing of an input while one before it has more."""
        found: dict[str, Found] = {}
        left = max_records
        for name, topic in self._inputs.items():
            place = (topic, self._partition)
            found[name] = read = _reading(place, start=self._positions[name], max_records=left)(connection)
            left -= len(read.records)
            if left <= 0 or read.position < read.end:
                break
        return found

    def _store(
        self, connection: sqlite3.Connection, batches: Mapping[Part, Sequence[Row]], next_offsets: Mapping[str, int]
    ) -> None:
        epoch = embedded_file.epoch_of(connection, group=self._group, partition=self._partition)
        if epoch != self._epoch:
            raise LaneFenced(
                f"lane {self._partition} of {self._group!r} was taken over: its epoch is {epoch}, not {self._epoch}"
            )
        embedded_file.append(connection, batches)
        offsets = {self._inputs[name].part(self._partition): offset for name, offset in next_offsets.items()}
        embedded_file.store_offsets(connection, self._group, offsets)


class EmbeddedLaneHost:
    """`services.runtime.log.LaneHost`: serves its range of the group's partitions while its member file is locked."""

    def __init__(self, file: EmbeddedFile, settings: Settings, *, group: str, inputs: tuple[str, ...]) -> None:
        self._file = file
        self._settings = settings
        self._group = group
        self._input_names = inputs
        self._inputs: dict[str, EmbeddedTopic] = {}
        self._owned: frozenset[int] = frozenset()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._lanes: dict[int, EmbeddedLane] = {}
        self._joined = False
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._round_at = time.monotonic()
        self._rounds = 0
        self._round_over = asyncio.Event()

    async def run(self, serve: LaneServer) -> None:
        """Join the group and serve until `stop`."""
        self._ended.clear()
        try:
            self._inputs = await self._co_partitioned()
            member = Member(self._file.folder, self._group)
            try:
                await self._file.write(member.join)
                await self._serve_range(member, serve)
            finally:
                failures = await self._end_lanes()
                member.unlock()
            await self._file.write(lambda connection: member.bury(connection, [member.id]))
            for failure in failures:
                raise failure
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Let lanes finish their batch, commit, leave the group."""
        self._stopping.set()
        await self._ended.wait()

    def owned_partitions(self) -> frozenset[int]:
        """Partitions whose lanes are up in this process."""
        return frozenset(partition for partition, lane in self._lanes.items() if lane.gate.error is None)

    def assigned_partitions(self) -> frozenset[int]:
        """Partitions that the group has given to this process."""
        return self._owned

    def joined(self) -> bool:
        """True once the group has given an assignment."""
        return self._joined

    def last_poll_age_s(self) -> float:
        """Seconds since the host last looked after its lanes."""
        return time.monotonic() - self._round_at

    async def _co_partitioned(self) -> dict[str, EmbeddedTopic]:
        topics = {name: await self._file.topic(name) for name in self._input_names}
        counts = {name: topic.partitions for name, topic in topics.items()}
        if len(set(counts.values())) != 1:
            raise LogError(f"inputs of {self._group!r} differ in partitions: {counts}; create them with the same count")
        return topics

    async def _serve_range(self, member: Member, serve: LaneServer) -> None:
        partitions = next(iter(self._inputs.values())).partitions
        while not self._stopping.is_set():
            everybody = await self._file.read(member.everybody)
            dead = [other for other, alive in everybody if not alive]
            if dead:
                await self._file.write(lambda connection, dead=dead: member.bury(connection, dead))  # type: ignore[misc]
            self._owned = share_of(member.id, [other for other, alive in everybody if alive], partitions)
            self._joined = True
            self._round_at = time.monotonic()
            self._let_go_and_take_up(serve)
            self._count_rounds(1)
            await self._next_round()

    def _let_go_and_take_up(self, serve: LaneServer) -> None:
        for partition, lane in self._lanes.items():
            if partition not in self._owned:
                lane.gate.end(f"lane {partition} of {self._group!r} belongs to another host now")
        for partition in self._owned - self._tasks.keys():
            self._tasks[partition] = asyncio.create_task(self._keep_lane(partition, serve))

    async def _next_round(self) -> None:
        stop = asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait(
            (stop, *self._tasks.values()), timeout=MEMBER_INTERVAL_S, return_when=asyncio.FIRST_COMPLETED
        )
        stop.cancel()
        for partition, task in list(self._tasks.items()):
            if task in done:
                del self._tasks[partition]
                task.result()

    async def _keep_lane(self, partition: int, serve: LaneServer) -> None:
        retry = Retry(limit_ms=self._settings.outage_timeout_ms)
        try:
            await keep_served(
                serve,
                open_lane=lambda: self._open_lane(partition, retry),
                owned=lambda: partition in self._owned and not self._stopping.is_set(),
                fenced=self._after_fence,
                retry=retry,
            )
        finally:
            self._lanes.pop(partition, None)

    async def _after_fence(self) -> None:
        # Whoever fenced us is among the members already, so the next round that begins tells whose lane it is; the one
        # that ends next may have begun before. No time is long enough for that: the file may be slow.
        known = self._rounds + ROUNDS_AFTER_FENCE
        while self._rounds < known:
            await self._round_over.wait()

    def _count_rounds(self, count: int) -> None:
        self._rounds += count
        over, self._round_over = self._round_over, asyncio.Event()
        over.set()

    async def _open_lane(self, partition: int, retry: Retry) -> EmbeddedLane:
        await self._file.learn_topics()
        epoch, positions = await self._file.write(
            lambda connection: embedded_file.take_over(
                connection, group=self._group, partition=partition, inputs=self._inputs
            )
        )
        lane = self._lanes[partition] = EmbeddedLane(
            self._file,
            group=self._group,
            partition=partition,
            epoch=epoch,
            inputs=self._inputs,
            positions=positions,
            on_commit=retry.reset,
        )
        if self._stopping.is_set():
            lane.gate.end("the host is stopping")
        return lane

    async def _end_lanes(self) -> list[Exception]:
        self._owned = frozenset()
        # No more rounds will come; whoever waits for one is not to hold up the end.
        self._count_rounds(ROUNDS_AFTER_FENCE)
        for lane in self._lanes.values():
            lane.gate.end("the host is stopping")
        tasks = tuple(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.drain_timeout_ms / 1000)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        return [result for result in results if isinstance(result, Exception)]


class EmbeddedReader:
    """`services.runtime.log.LogReader` over the file."""

    def __init__(self, file: EmbeddedFile, topic: EmbeddedTopic) -> None:
        self._file = file
        self._topic = topic
        self._positions: dict[int, int] = {}
        self._first = 0
        self._news = asyncio.Event()
        self._on_news = self._news.set
        file.bell.listen(self._on_news, topic.parts())

    async def beginning_offsets(self) -> Mapping[int, int]:
        """First offset that each partition still holds."""
        return {partition: begin for partition, (begin, _) in (await self._bounds()).items()}

    async def end_offsets(self) -> Mapping[int, int]:
        """Next offset per partition, as of now."""
        return {partition: end for partition, (_, end) in (await self._bounds()).items()}

    async def seek(self, next_offsets: Mapping[int, int]) -> None:
        """Read on from these offsets. Raises OffsetOutOfRange."""
        bounds = await self._bounds()
        for partition, offset in next_offsets.items():
            if partition not in bounds:
                raise LogError(f"topic {self._topic.name!r} has no partition {partition}; it has {len(bounds)}")
            begin, end = bounds[partition]
            check_range(self._topic.name, partition, offset, begin=begin, end=end)
        self._positions.update(next_offsets)

    async def poll(
        self, *, max_records: int, max_wait_ms: int, partition: int | None = None
    ) -> Mapping[int, Sequence[EmbeddedRecord]]:
        """The next records per partition, or of `partition` alone; empty when none arrived in time."""
        deadline = time.monotonic() + max_wait_ms / 1000

        def reading(connection: sqlite3.Connection) -> dict[int, Found]:
            return self._read_all(connection, max_records, partition)

        while True:
            self._news.clear()
            found = await self._file.read(reading)
            self._positions.update({number: read.position for number, read in found.items()})
            records = {number: read.records for number, read in found.items() if read.records}
            left_s = deadline - time.monotonic()
            if records or left_s <= 0:
                return records
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._news.wait()

    def position(self, partition: int) -> int:
        """Next offset that will be read."""
        return self._positions[partition]

    async def close(self) -> None:
        """Stop listening."""
        self._file.bell.leave(self._on_news)

    async def _bounds(self) -> dict[int, tuple[int, int]]:
        topic = self._topic
        return await self._file.read(
            lambda connection: {
                partition: embedded_file.bounds(connection, topic.part(partition))
                for partition in range(topic.partitions)
            }
        )

    def _read_all(self, connection: sqlite3.Connection, max_records: int, only: int | None) -> dict[int, Found]:
        found: dict[int, Found] = {}
        left = max_records
        count = self._topic.partitions
        self._first = (self._first + 1) % count
        for partition in (*range(self._first, count), *range(self._first)) if only is None else (only,):
            if left > 0:
                place = (self._topic, partition)
                found[partition] = _reading(place, start=self._positions[partition], max_records=left)(connection)
                left -= len(found[partition].records)
        return found


class EmbeddedPublisher:
    """`services.runtime.log.Publisher` over the file: each call is one transaction."""

    def __init__(self, file: EmbeddedFile) -> None:
        self._file = file
        self._keyless = itertools.count()

    async def publish(self, records: Sequence[NewRecord]) -> None:
        """Return once all are stored, in order per key. Raises LogUnavailable or RecordTooLarge."""
        batches: dict[Part, list[Row]] = {}
        for record in records:
            topic = await self._file.topic(record.topic)
            _checked_octets(topic, record.key, record.value)
            batches.setdefault((topic, self._partition(topic, record)), []).append(
                (record.timestamp_ms, record.key, record.value)
            )
        await self._file.write(lambda connection: embedded_file.append(connection, batches), written=batches.keys())

    async def close(self) -> None:
        """Nothing is held."""

    def _partition(self, topic: EmbeddedTopic, record: NewRecord) -> int:
        if record.partition is not None:
            return checked_partition(record.partition, topic.partitions, record.topic)
        key = record.key
        return next(self._keyless) % topic.partitions if key is None else partition_of(key, topic.partitions)


def share_of(member: str, living: Sequence[str], partitions: int) -> frozenset[int]:
    """The partitions of one member: contiguous ranges over the living members, in the order in which they joined."""
    if member not in living:
        return frozenset()
    at, count = living.index(member), len(living)
    return frozenset(range(at * partitions // count, (at + 1) * partitions // count))


def _part(place: Part) -> int:
    topic, partition = place
    return topic.part(partition)


def _reading(
    place: Part, *, start: int, stop: int | None = None, max_records: int
) -> Callable[[sqlite3.Connection], Found]:
    return lambda connection: embedded_file.read(connection, place, start=start, stop=stop, max_records=max_records)


def _checked_octets(topic: EmbeddedTopic, key: bytes | None, value: bytes | None) -> int:
    octets = record_octets(key, value)
    check_fits(topic.name, octets, topic.max_octets)
    check_key(topic.name, key, compacted=topic.compacted)
    return octets
