"""The log port over Apache Kafka, with aiokafka 0.14: the only file that knows that library.

A lane is an input partition with a transactional producer of its own, `<group>-<partition>`: aiokafka cannot fence by
group generation, but starting the new owner's producer fences the old one (docs/adr/0001). The rebalance callbacks
only hold and release lanes, since no heartbeat is sent inside them and their errors would vanish. Every produced batch
is awaited before its transaction commits, since aiokafka commits after a failed one; a producer that has failed once is
thrown away, since its sequence numbers may no longer fit.

One loop fetches for all lanes of a host, into a bounded queue per lane and input. A full lane is left out of the next
fetch, which keeps what is already here, where pausing would throw it away and fetch it again.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition, conn
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.consumer import fetcher
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    IllegalOperation,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    ProducerClosed,
    ProducerFenced,
    RecordListTooLargeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.helpers import create_ssl_context

from schemas.topics import Topic
from services.runtime.kafka_batches import (
    BATCH_OCTETS,
    DEFAULT_MAX_OCTETS,
    Intake,
    OutputBatches,
    TopicFacts,
    requests_of,
)
from services.runtime.lanes import LaneGate, Retry, check_range, keep_served
from services.runtime.log import (
    CommitFailed,
    LaneFenced,
    LaneLost,
    LaneServer,
    LogError,
    LogRecord,
    LogUnavailable,
    NewRecord,
    OffsetOutOfRange,
    Output,
    Polled,
    RecordTooLarge,
)
from services.runtime.partitioning import checked_partition, partition_of
from services.runtime.settings import Settings

FETCH_OCTETS = 2 * 1024 * 1024
"""Per partition and fetch. A larger batch comes whole when its partition is first in the fetch (KIP-74)."""

FETCH_TOTAL_OCTETS = 32 * 1024 * 1024
FETCH_RECORDS = 2_000
"""Records taken over at a time, some 6 ms of work, so that heartbeats and lanes get their turn."""

FETCH_WAIT_MS = 50
"""How long a broker holds an empty fetch. While it does, no other partition of that broker is fetched."""

FULL_LANE_WAIT_MS = 15
REPLAY_FETCH_OCTETS = 4 * 1024 * 1024
REPLAY_RECORDS = 5_000

HEARTBEAT_MS = 500
"""A rebalance is heard of in the answer to a heartbeat."""

NO_POLL_LIMIT_MS = 2**31 - 1
"""aiokafka's own watch on polling is off: a lane may be busy for long, and `last_poll_age_s` tells."""

CONNECT_TIMEOUT_S = 10.0
OPEN_TIMEOUT_S = 20.0
ABORT_TIMEOUT_S = 2.0
CLOSE_TIMEOUT_S = 1.0
ROUND_TIMEOUT_S = 2.0
IDLE_ROUND_S = 0.1
TOPIC_TIMEOUT_S = 30.0

RECYCLE_RECORDS = 10**9
"""Records after which a producer is replaced: aiokafka's sequence numbers go wrong at 2^31."""

_BROKEN = (KafkaError, IllegalOperation, AssertionError, TimeoutError, OSError)
"""How a producer fails. aiokafka asserts on its transaction's state, so an assertion is a broken producer too."""


class _PlainRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """A fetch that gives the decoder's own records: they have all that a LogRecord has.

    aiokafka would copy each into a ConsumerRecord of eleven fields, which costs more than decoding it. The names are
    private and the version is pinned; tests/runtime/test_kafka_fetch.py would notice a change.
    """

    def __iter__(self) -> Iterator[LogRecord]:
        # The generator itself, without a Python function around each of its steps.
        return self._records_iterator or iter(())

    def _consumer_record(self, _place: TopicPartition, record: LogRecord) -> LogRecord:
        return record


fetcher.PartitionRecords = _PlainRecords


class _Connection(conn.AIOKafkaConnection):  # type: ignore[misc]
    """A connection that is broken, and no bug, when it is written to just after it has gone.

    asyncio drops what is written then, and the answer stays away; uvloop raises RuntimeError, which aiokafka takes for
    none of its errors: it ended whatever task had asked, that which keeps up with the cluster's metadata included.
    """

    def send(self, request: Any, expect_response: bool = True) -> Any:
        try:
            return super().send(request, expect_response)
        except RuntimeError as error:
            self.close(reason=conn.CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error


conn.AIOKafkaConnection = _Connection


class KafkaLog:
    """`services.runtime.log.Log` over a Kafka cluster."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cluster: _Cluster | None = None

    async def start(self) -> None:
        """Reach the cluster, once. Raises LogUnavailable after the settings' outage time."""
        if self._cluster is None:
            self._cluster = await _Cluster.reach(self._settings)

    async def close(self) -> None:
        """Close the connection; hosts, readers and publishers are closed by whoever asked for them."""
        if self._cluster is not None:
            await self._cluster.close()
            self._cluster = None

    async def ensure_topics(self, topics: Sequence[Topic], *, partitions: int) -> None:
        """Create what is missing; refuse, by LogError, a topic whose partition count differs."""
        await self._reached().ensure(topics, partitions)

    async def partitions_of(self, topic: str) -> int:
        """Partition count of an existing topic."""
        return (await self._reached().facts(topic)).partitions

    def lanes(self, *, group: str, inputs: Sequence[str]) -> "KafkaLaneHost":
        """A member of `group` whose lanes read the co-partitioned topics `inputs`."""
        return KafkaLaneHost(self._reached(), self._settings, group=group, inputs=tuple(inputs))

    async def reader(self, topic: str) -> "KafkaReader":
        """A reader at the beginning of every partition of `topic`."""
        cluster = self._reached()
        return await KafkaReader.open(cluster, topic, (await cluster.facts(topic)).partitions)

    async def publisher(self) -> "KafkaPublisher":
        """A started publisher."""
        publisher = KafkaPublisher(self._reached())
        await publisher.start()
        return publisher

    def _reached(self) -> "_Cluster":
        if self._cluster is None:
            raise LogError("the Kafka log is not open; await start() first")
        return self._cluster


class KafkaLane:
    """`services.runtime.log.Lane`: one transaction of the lane's own producer per commit."""

    def __init__(
        self,
        host: "KafkaLaneHost",
        cluster: "_Cluster",
        *,
        partition: int,
        producer: AIOKafkaProducer,
        committed: Mapping[str, int],
        ends: Mapping[str, int],
        on_commit: Callable[[], None],
    ) -> None:
        self.gate = LaneGate()
        self.intake = Intake(committed, ends)
        self._host = host
        self._cluster = cluster
        self._partition = partition
        self._producer: AIOKafkaProducer | None = producer
        self._committed = dict(committed)
        self._on_commit = on_commit
        self._outputs: dict[str, OutputBatches] = {}
        self._produced_records = 0

    @property
    def partition(self) -> int:
        """The partition number."""
        return self._partition

    async def replay(self, topic: str) -> AsyncIterator[Sequence[LogRecord]]:
        """Batches of this partition of `topic` from its beginning to its end as of now."""
        place = TopicPartition(topic, self._partition)
        with self._lost_if_away(topic):
            await self._cluster.facts(topic)
        consumer = await self._cluster.consumer(max_partition_fetch_bytes=REPLAY_FETCH_OCTETS)
        try:
            consumer.assign([place])
            with self._lost_if_away(topic):
                begin, end = await self._cluster.bounds(consumer, place)
            consumer.seek(place, begin)
            async for batch in self._cluster.read_up_to(consumer, place, end):
                self.gate.check()
                if batch:
                    yield batch
        finally:
            await _close(consumer)

    def committed(self) -> Mapping[str, int]:
        """Next offset per input topic."""
        return dict(self._committed)

    async def poll(self, *, max_records: int, max_wait_ms: int) -> Polled:
        """The next records, or none after `max_wait_ms`."""
        self.gate.end_batch()
        ends_at = time.monotonic() + max_wait_ms / 1000
        while await self.gate.may_begin():
            if not self.intake.open:
                self._host.feed(self)
            if self.intake.owed:
                await self._host.settle_owed(self)
            records = self.intake.take(max_records)
            left_s = ends_at - time.monotonic()
            if records or left_s <= 0:
                self._host.hungry()
                self.gate.begin_batch(took_records=bool(records))
                return Polled(records, self.intake.waiting() + await self._host.backlog(self))
            await self.gate.sleep(left_s)
        self.gate.begin_batch(took_records=False)
        return Polled({}, self.intake.waiting())

    def append(self, topic: str, *, key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:
        """Add an output to the batch; memory only."""
        output = self._outputs.get(topic) or self._open_output(topic)
        output.append(key, value, timestamp_ms)
        self.gate.appended()

    def append_all(self, topic: str, records: Sequence[Output], *, timestamp_ms: int) -> None:
        """Add many outputs to the batch; memory only."""
        output = self._outputs.get(topic) or self._open_output(topic)
        self.gate.appended()
        output.extend(records, timestamp_ms)

    def appended_octets(self) -> int:
        """Size of the outputs gathered for the next commit, as batches."""
        return sum(sum(output.octets) for output in self._outputs.values())

    async def commit(self, next_offsets: Mapping[str, int]) -> None:
        """Outputs and input offsets in one Kafka transaction, every batch of it awaited."""
        self.gate.check()
        if not next_offsets and not self.appended_octets():
            return
        try:
            async with asyncio.timeout(self._cluster.settings.transaction_timeout_ms / 1000):
                # A broker that is away when a topic is first written to costs this lane, as it would a moment later.
                await self._cluster.learn_missing(self._outputs)
                await self._transact(next_offsets)
        except (*_BROKEN, LogUnavailable) as error:
            failure = self._failure(error)
            self.gate.close(failure)
            await self._abort(failure)
            raise failure from error
        self._committed.update(next_offsets)
        self.gate.committed()
        self._on_commit()
        await self._recycle()

    async def discard(self) -> None:
        """Drop what was not committed, and the producer."""
        self._host.forget(self)
        self._outputs = {}
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await _close(producer)

    @contextlib.contextmanager
    def _lost_if_away(self, topic: str) -> Iterator[None]:
        """A question that no broker answers costs the lane; how long one may be away is the business of the host."""
        try:
            yield
        except (*_BROKEN, LogUnavailable) as error:
            raise LaneLost(f"lane {self._partition} could not replay {topic!r}: {error!r}") from error

    def _open_output(self, topic: str) -> OutputBatches:
        facts = self._cluster.known_facts(topic)
        if facts is not None and self._partition >= facts.partitions:
            raise LogError(f"topic {topic!r} has no partition {self._partition}; create it with as many as the inputs")
        output = self._outputs[topic] = OutputBatches(topic, facts, self._alive_producer())
        return output

    async def _transact(self, next_offsets: Mapping[str, int]) -> None:
        producer = self._alive_producer()
        await producer.begin_transaction()
        outputs = [output for output in self._outputs.values() if output.batches]
        await _send(producer, ((output.topic, self._partition, output.batches) for output in outputs))
        if next_offsets:
            places = {TopicPartition(topic, self._partition): offset for topic, offset in next_offsets.items()}
            await producer.send_offsets_to_transaction(places, self._host.group)
        await producer.commit_transaction()
        self._produced_records += sum(output.records for output in outputs)
        self._outputs = {}

    def _failure(self, error: BaseException) -> LogError:
        where = f"lane {self._partition} of {self._host.group!r}"
        if _is_fenced(error):
            return LaneFenced(f"{where} was taken over by another owner")
        if isinstance(error, TimeoutError):
            limit_ms = self._cluster.settings.transaction_timeout_ms
            return CommitFailed(f"{where} could not commit within transaction_timeout_ms = {limit_ms}")
        return CommitFailed(f"{where} could not commit: {error!r}")

    async def _abort(self, failure: LogError) -> None:
        # At best: the successor's start of the same transactional id aborts what is left open.
        if self._producer is not None and not isinstance(failure, LaneFenced):
            with contextlib.suppress(*_BROKEN):
                async with asyncio.timeout(ABORT_TIMEOUT_S):
                    await self._producer.abort_transaction()
        await self.discard()

    async def _recycle(self) -> None:
        if self._produced_records >= RECYCLE_RECORDS:
            producer, self._producer = self._alive_producer(), None
            await _close(producer)
            try:
                self._producer = await self._host.producer(self._partition)
            except _BROKEN as error:
                # The batch is committed all the same, so the lane ends at its next step, not here.
                self.gate.close(LaneLost(f"lane {self._partition} could not replace its producer: {error!r}"))
            self._produced_records = 0

    def _alive_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise LaneLost(f"lane {self._partition} of {self._host.group!r} has been discarded")
        return self._producer


class KafkaLaneHost:
    """`services.runtime.log.LaneHost`: a group member that feeds the lanes of its partitions."""

    def __init__(self, cluster: "_Cluster", settings: Settings, *, group: str, inputs: tuple[str, ...]) -> None:
        self.group = group
        self._cluster = cluster
        self._settings = settings
        self._inputs = inputs
        self._consumer: AIOKafkaConsumer | None = None
        self._serve: LaneServer | None = None
        self._owned: frozenset[int] = frozenset()
        self._generation = -1
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._lanes: dict[int, KafkaLane] = {}
        self._rebalancing_since: float | None = None
        self._reassigned = asyncio.Event()
        self._hungry = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._failure: BaseException | None = None
        self._trouble: Exception | None = None
        self._joined = False
        self._round_at = time.monotonic()
        self._pulse = _Pulse(settings.outage_timeout_ms)
        self._retry = Retry(limit_ms=settings.outage_timeout_ms)

    async def run(self, serve: LaneServer) -> None:
        """Join the group and serve until `stop`."""
        self._ended.clear()
        self._serve = serve
        try:
            await self._check_inputs()
            self._consumer = await self._connected()
            try:
                self._rebalancing_since = time.monotonic()
                self._consumer.subscribe(self._inputs, listener=_Listener(self))
                while not self._stopping.is_set():
                    await self._round()
            finally:
                failures = await self._end_lanes()
                await _close(self._consumer)
            for failure in failures:
                raise failure
        except _StopError:
            pass
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Let lanes finish their batch, commit, leave the group."""
        self._stopping.set()
        self._hungry.set()
        self._reassigned.set()
        await self._ended.wait()

    def owned_partitions(self) -> frozenset[int]:
        """Partitions whose lanes are up in this process."""
        return frozenset(partition for partition, lane in self._lanes.items() if lane.gate.error is None)

    def assigned_partitions(self) -> frozenset[int]:
        """Partitions that the group has given to this process."""
        return self._owned

    def joined(self) -> bool:
        """True once the group has given an assignment, an empty one included."""
        return self._joined

    def last_poll_age_s(self) -> float:
        """Seconds since the fetch loop last went round."""
        return time.monotonic() - self._round_at

    # What the group says.

    async def hold(self) -> None:
        """A rebalance begins: no new batch, and the ones in flight may end, all within one deadline."""
        self._rebalancing_since = time.monotonic()
        for lane in self._lanes.values():
            lane.gate.hold()
        # A lane that takes longer is not lost: if somebody else gets it, that owner fences it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_timeout_ms / 1000):
                for lane in list(self._lanes.values()):
                    await lane.gate.settled()

    def resume(self, assigned: Collection[TopicPartition]) -> None:
        """A rebalance has ended: drop what went elsewhere, go on with what stayed, take up what is new."""
        consumer = self._alive_consumer()
        # Nobody can have had our partitions in between only if no generation is missing.
        generation = consumer._coordinator.generation
        kept = generation <= self._generation + 1
        self._generation = generation
        self._owned = self._co_partitioned(assigned)
        for place in assigned:
            # Somewhere, so that aiokafka does not look for a position itself; a lane seeks before it is fed.
            consumer.pause(place)
            consumer.seek(place, 0)
        for partition, lane in list(self._lanes.items()):
            if partition not in self._owned:
                lane.gate.close(LaneLost(f"partition {partition} went to another member of {self.group!r}"))
            elif not kept:
                lane.gate.close(LaneLost(f"partition {partition} of {self.group!r} may have been elsewhere meanwhile"))
            elif lane.intake.open:
                self.feed(lane)
            lane.gate.release()
        self._take_up()
        self._rebalancing_since = None
        self._joined = True
        self._reassigned.set()
        self._hungry.set()

    def fail(self, error: BaseException) -> None:
        """Something went wrong where an exception would be lost; end the host."""
        self._failure = error
        self._hungry.set()

    # What the lanes ask for.

    def feed(self, lane: KafkaLane) -> None:
        """Fetch for this lane, from its position on."""
        consumer = self._alive_consumer()
        for topic, offset in lane.intake.positions.items():
            place = TopicPartition(topic, lane.partition)
            consumer.seek(place, offset)
            consumer.resume(place)
        lane.intake.open = True
        self._hungry.set()

    def hungry(self) -> None:
        """A lane has taken records: there may be room for more."""
        self._hungry.set()

    async def backlog(self, lane: KafkaLane) -> int:
        """Records known to wait in the broker for this lane."""
        consumer = self._alive_consumer()
        behind = 0
        for topic in self._inputs:
            place = TopicPartition(topic, lane.partition)
            if self._rebalancing_since is None and place in consumer.assignment():
                highwater = consumer.highwater(place)
                behind += max(0, highwater - await consumer.position(place)) if highwater is not None else 0
        return behind

    async def settle_owed(self, lane: KafkaLane) -> None:
        """Tell the lane which inputs are read to where they ended when it was opened, control records included."""
        consumer = self._alive_consumer()
        for topic in list(lane.intake.owed):
            place = TopicPartition(topic, lane.partition)
            if self._rebalancing_since is None and place in consumer.assignment():
                lane.intake.read_to(topic, await consumer.position(place))

    async def producer(self, partition: int) -> AIOKafkaProducer:
        """A started producer for a lane: whoever had the partition is fenced, what it left open is settled."""
        transaction_ms = self._settings.transaction_timeout_ms
        return await self._cluster.producer(
            transactional_id=f"{self.group}-{partition}",
            transaction_timeout_ms=transaction_ms,
            # Several attempts have to fit into one transaction.
            request_timeout_ms=min(30_000, max(5_000, transaction_ms // 3)),
        )

    def forget(self, lane: KafkaLane) -> None:
        """The lane is gone: fetch for it no more."""
        if self._lanes.get(lane.partition) is lane:
            del self._lanes[lane.partition]
            consumer = self._alive_consumer()
            for topic in self._inputs:
                place = TopicPartition(topic, lane.partition)
                if place in consumer.assignment():
                    consumer.pause(place)

    # The loop.

    async def _round(self) -> None:
        self._round_at = time.monotonic()
        self._check_health()
        self._hungry.clear()
        wanted, full = self._wanted()
        if not wanted:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_ROUND_S):
                    await self._hungry.wait()
            return
        for place, records in (await self._fetch(wanted, FULL_LANE_WAIT_MS if full else FETCH_WAIT_MS)).items():
            self._hand_over(place, records)
        if self._trouble is not None:
            await self._recover()
        else:
            self._retry.well()
        self._pulse.beat(self._alive_consumer(), wanted)
        # Records that are here already come without a pause; heartbeats and lanes need theirs.
        await asyncio.sleep(0)

    def _hand_over(self, place: TopicPartition, records: list[LogRecord]) -> None:
        lane = self._lanes.get(place.partition)
        # What comes for a lane that has not polled yet is dropped: it seeks to its position first.
        if lane is not None and lane.intake.open:
            if records[0].offset < lane.intake.positions[place.topic]:
                raise RuntimeError(f"{place} gave offset {records[0].offset} twice; the fetch loop is wrong")
            lane.intake.put(place.topic, records)
            lane.gate.wake()

    async def _recover(self) -> None:
        """After a failed fetch: aiokafka may have moved on past records that it never gave, so go back to ours."""
        trouble, self._trouble = self._trouble, None
        if self._rebalancing_since is None:
            for lane in self._lanes.values():
                if lane.intake.open:
                    self.feed(lane)
        if isinstance(trouble, KafkaError):
            await self._retry.pause(trouble)

    def _check_health(self) -> None:
        if self._failure is not None:
            raise self._failure
        for partition, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[partition]
                task.result()
        if self._rebalancing_since is not None:
            waited_ms = (time.monotonic() - self._rebalancing_since) * 1000
            if waited_ms > self._settings.outage_timeout_ms + self._settings.drain_timeout_ms:
                raise LogUnavailable(f"group {self.group!r} gave no assignment for {waited_ms / 1000:.0f} s")

    def _wanted(self) -> tuple[list[TopicPartition], bool]:
        """Partitions to fetch from, and whether some are left out for now because their lane is full."""
        if self._rebalancing_since is not None:
            return [], False
        fed = [lane for lane in self._lanes.values() if lane.intake.open and lane.gate.error is None]
        wanted = [TopicPartition(topic, lane.partition) for lane in fed for topic in lane.intake.wanted()]
        return wanted, len(wanted) < len(fed) * len(self._inputs)

    async def _fetch(self, wanted: list[TopicPartition], wait_ms: int) -> Mapping[TopicPartition, list[LogRecord]]:
        found = await self._get(wanted, wait_ms)
        first = [place for place in wanted if place.topic == self._inputs[0]]
        if first and any(place.topic != self._inputs[0] for place in found):
            # One call takes partitions in any order; add what is here already of the input that goes first.
            for place, records in (await self._get(first, 0)).items():
                found[place] = [*found.get(place, ()), *records]
        return found

    async def _get(self, places: list[TopicPartition], wait_ms: int) -> dict[TopicPartition, list[LogRecord]]:
        """What one call brings, nothing if it fails; `_recover` has to follow then."""
        try:
            # The guard is for a rebalance, which makes getmany wait for its end.
            async with asyncio.timeout(ROUND_TIMEOUT_S):
                consumer = self._alive_consumer()
                return dict(await consumer.getmany(*places, timeout_ms=wait_ms, max_records=FETCH_RECORDS))
        except OffsetOutOfRangeError as error:
            self._out_of_range(error.args[0])
        except NoOffsetForPartitionError:
            # aiokafka looked for a position before a lane had set its own; it has one now.
            return {}
        except (KafkaError, TimeoutError) as error:
            self._trouble = error
        return {}

    def _out_of_range(self, offsets: Mapping[TopicPartition, int]) -> None:
        for place, offset in offsets.items():
            lane = self._lanes.get(place.partition)
            if lane is not None and lane.intake.open:
                lane.gate.close(
                    OffsetOutOfRange(f"{place.topic}-{place.partition} does not hold offset {offset} any more")
                )

    # The lanes.

    def _take_up(self) -> None:
        for partition in self._owned - self._tasks.keys():
            self._tasks[partition] = asyncio.create_task(self._keep_lane(partition))

    async def _keep_lane(self, partition: int) -> None:
        assert self._serve is not None  # noqa: S101 - run() has set it
        retry = Retry(limit_ms=self._settings.outage_timeout_ms)
        await keep_served(
            self._serve,
            open_lane=lambda: self._open_lane(partition, retry),
            owned=lambda: partition in self._owned and not self._stopping.is_set(),
            fenced=self._after_fence,
            retry=retry,
        )

    async def _open_lane(self, partition: int, retry: Retry) -> KafkaLane:
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self._cluster.refresh()
                # First the producer: it settles the transaction of the owner before, and with it the committed offset.
                producer = await self.producer(partition)
                committed, ends = await self._committed(partition)
        except BaseException as error:
            if producer is not None:
                await _close(producer)
            if isinstance(error, _BROKEN):
                raise LogUnavailable(f"lane {partition} of {self.group!r} could not be opened: {error!r}") from error
            raise
        lane = KafkaLane(
            self,
            self._cluster,
            partition=partition,
            producer=producer,
            committed=committed,
            ends=ends,
            on_commit=retry.reset,
        )
        self._lanes[partition] = lane
        if self._rebalancing_since is not None:
            lane.gate.hold()
        if self._stopping.is_set() or partition not in self._owned:
            lane.gate.close(LaneLost(f"partition {partition} of {self.group!r} went elsewhere while it was opened"))
        return lane

    async def _committed(self, partition: int) -> tuple[dict[str, int], dict[str, int]]:
        """Where the lane stands in each input, and where each input ends now."""
        consumer = self._alive_consumer()
        offsets, ends = {}, {}
        for topic in self._inputs:
            place = TopicPartition(topic, partition)
            offset = await consumer.committed(place)
            begin, end = await self._cluster.bounds(consumer, place)
            offsets[topic] = check_range(topic, partition, begin if offset is None else offset, begin=begin, end=end)
            ends[topic] = end
        return offsets, ends

    async def _after_fence(self) -> None:
        # Either the group has given the lane to somebody else and we are about to hear of it, or somebody outside the
        # group has come and gone. Taking it back at once would only have two owners fence each other in turns.
        self._reassigned.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.session_timeout_ms / 1000):
                await self._reassigned.wait()

    async def _end_lanes(self) -> list[Exception]:
        self._owned = frozenset()
        for partition, task in self._tasks.items():
            if partition in self._lanes:
                self._lanes[partition].gate.end("the host is stopping")
            else:
                task.cancel()
        tasks = tuple(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.drain_timeout_ms / 1000)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        return [result for result in results if isinstance(result, Exception)]

    # The group.

    def _membership(self) -> dict[str, Any]:
        # The group waits this long for a member that is still finishing its batches.
        rebalance_ms = max(self._settings.session_timeout_ms, self._settings.drain_timeout_ms + 5_000)
        return {
            "group_id": self.group,
            "group_instance_id": self._settings.instance_id or None,
            "partition_assignment_strategy": (RangePartitionAssignor,),
            "session_timeout_ms": self._settings.session_timeout_ms,
            "heartbeat_interval_ms": min(HEARTBEAT_MS, self._settings.session_timeout_ms // 3),
            "rebalance_timeout_ms": rebalance_ms,
            "request_timeout_ms": max(30_000, rebalance_ms + 5_000),
            "max_poll_interval_ms": NO_POLL_LIMIT_MS,
        }

    async def _connected(self) -> AIOKafkaConsumer:
        # A stop need not wait for a broker that is away.
        connecting = asyncio.ensure_future(self._cluster.consumer(**self._membership()))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((connecting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if connecting.done():
                return connecting.result()
            raise _StopError
        finally:
            stopping.cancel()
            if not connecting.done():
                connecting.cancel()
                await asyncio.gather(connecting, return_exceptions=True)

    async def _check_inputs(self) -> None:
        counts = {topic: (await self._cluster.facts(topic)).partitions for topic in self._inputs}
        if len(set(counts.values())) != 1:
            raise LogError(f"inputs of {self.group!r} differ in partitions: {counts}; create them with the same count")

    def _co_partitioned(self, assigned: Collection[TopicPartition]) -> frozenset[int]:
        per_topic = [{place.partition for place in assigned if place.topic == topic} for topic in self._inputs]
        if any(partitions != per_topic[0] for partitions in per_topic):
            raise LogError(f"the members of {self.group!r} read different topics; give each application its own group")
        return frozenset(per_topic[0])

    def _alive_consumer(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise LogError(f"the host of {self.group!r} does not run")
        return self._consumer


class _StopError(Exception):
    """The host was asked to stop before it had joined."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """aiokafka logs and forgets what these raise, so it is handed over."""

    def __init__(self, host: KafkaLaneHost) -> None:
        self._host = host

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002
        try:
            await self._host.hold()
        except Exception as error:
            self._host.fail(error)

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        try:
            self._host.resume(assigned)
        except Exception as error:
            self._host.fail(error)


class KafkaReader:
    """`services.runtime.log.LogReader`: a consumer without a group."""

    def __init__(self, cluster: "_Cluster", topic: str, partitions: int, consumer: AIOKafkaConsumer) -> None:
        self._cluster = cluster
        self._topic = topic
        self._places = [TopicPartition(topic, partition) for partition in range(partitions)]
        self._consumer = consumer
        self._positions: dict[int, int] = {}
        self._pulse = _Pulse(cluster.settings.outage_timeout_ms)
        self._retry = Retry(limit_ms=cluster.settings.outage_timeout_ms)

    @classmethod
    async def open(cls, cluster: "_Cluster", topic: str, partitions: int) -> "KafkaReader":
        """A reader at the beginning."""
        reader = cls(cluster, topic, partitions, await cluster.consumer())
        try:
            beginning = await reader.beginning_offsets()
        except BaseException:
            await reader.close()
            raise
        reader._consumer.assign(reader._places)
        reader._go_to(beginning)
        return reader

    async def beginning_offsets(self) -> Mapping[int, int]:
        """First offset that each partition still holds."""
        with _unavailable(self._topic):
            return _by_partition(await self._consumer.beginning_offsets(self._places))

    async def end_offsets(self) -> Mapping[int, int]:
        """Next offset per partition, as of now, committed records only."""
        with _unavailable(self._topic):
            return _by_partition(await self._consumer.end_offsets(self._places))

    async def seek(self, next_offsets: Mapping[int, int]) -> None:
        """Read on from these offsets. Raises OffsetOutOfRange."""
        beginnings, ends = await self.beginning_offsets(), await self.end_offsets()
        for partition, offset in next_offsets.items():
            if partition not in beginnings:
                raise LogError(f"topic {self._topic!r} has no partition {partition}; it has {len(beginnings)}")
            check_range(self._topic, partition, offset, begin=beginnings[partition], end=ends[partition])
        self._go_to(next_offsets)

    async def poll(
        self, *, max_records: int, max_wait_ms: int, partition: int | None = None
    ) -> Mapping[int, Sequence[LogRecord]]:
        """The next records per partition, or of `partition` alone; empty when none arrived in time."""
        # What is fetched of the others meanwhile, one batch each, waits until somebody asks for it.
        wanted = () if partition is None else (self._places[partition],)
        try:
            found = await self._consumer.getmany(*wanted, timeout_ms=max_wait_ms, max_records=max_records)
        except OffsetOutOfRangeError as error:
            ((place, offset),) = error.args[0].items()
            raise OffsetOutOfRange(f"{place.topic}-{place.partition} does not hold offset {offset} any more") from error
        except KafkaError as error:
            await self._retry.pause(error)
            return {}
        self._retry.well()
        for place in self._places:
            self._positions[place.partition] = await self._consumer.position(place)
        self._pulse.beat(self._consumer, self._places)
        return _by_partition(found)

    def position(self, partition: int) -> int:
        """Next offset that will be read."""
        return self._positions[partition]

    async def close(self) -> None:
        """Close the consumer."""
        await _close(self._consumer)

    def _go_to(self, offsets: Mapping[int, int]) -> None:
        for partition, offset in offsets.items():
            self._consumer.seek(TopicPartition(self._topic, partition), offset)
        self._positions.update(offsets)


class KafkaPublisher:
    """`services.runtime.log.Publisher`: an idempotent producer, replaced after any failure."""

    def __init__(self, cluster: "_Cluster") -> None:
        self._cluster = cluster
        self._producer: AIOKafkaProducer | None = None
        self._produced_records = 0
        self._keyless = itertools.count()
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Have a producer ready."""
        self._producer = await self._cluster.publishing_producer()
        self._produced_records = 0

    async def publish(self, records: Sequence[NewRecord]) -> None:
        """Return once all are stored, in order per key. Raises LogUnavailable or RecordTooLarge."""
        if not records:
            return
        async with self._turn:
            if self._producer is None or self._produced_records >= RECYCLE_RECORDS:
                await self._drop()
                await self.start()
            await self._store(self._producer, await self._sorted(self._producer, records))
            self._produced_records += len(records)

    async def close(self) -> None:
        """Flush and close the producer."""
        async with self._turn:
            await self._drop()

    async def _sorted(self, producer: Any, records: Sequence[NewRecord]) -> list[tuple[str, int, OutputBatches]]:
        outputs: dict[tuple[str, int], OutputBatches] = {}
        for topic, key, value, timestamp_ms, partition in records:
            facts = self._cluster.known_facts(topic) or await self._cluster.facts(topic)
            if partition is None:
                number = next(self._keyless) if key is None else partition_of(key, facts.partitions)
                partition = number % facts.partitions  # noqa: PLW2901 - the one that it will be
            else:
                checked_partition(partition, facts.partitions, topic)
            output = outputs.get((topic, partition))
            if output is None:
                output = outputs[topic, partition] = OutputBatches(topic, facts, producer)
            output.append(key, value, timestamp_ms)
        return [(topic, partition, output) for (topic, partition), output in outputs.items()]

    async def _store(self, producer: Any, outputs: list[tuple[str, int, OutputBatches]]) -> None:
        try:
            async with asyncio.timeout(self._cluster.settings.outage_timeout_ms / 1000):
                await _learn_metadata(producer, {topic for topic, _, _ in outputs})
                for request in requests_of(outputs):
                    await _send(producer, request)
        except _BROKEN as error:
            await self._drop()
            if isinstance(error, (MessageSizeTooLargeError, RecordListTooLargeError)):
                await self._cluster.refresh()
                raise RecordTooLarge(f"the broker refused a batch: {error!r}; the topic's limit was lowered") from error
            raise LogUnavailable(f"records could not be stored, or not all of them: {error!r}") from error
        except BaseException:
            await self._drop()
            raise

    async def _drop(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await _close(producer)


class _Cluster:
    """The connection that asks about topics, and the way to make consumers and producers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._options = _client_options(settings)
        self._facts: dict[str, TopicFacts] = {}
        self._admin: AIOKafkaAdminClient | None = None

    @classmethod
    async def reach(cls, settings: Settings) -> "_Cluster":
        """Connect. Raises LogUnavailable after the settings' outage time."""
        cluster = cls(settings)
        cluster._admin = await cluster._within_outage(cluster._connected_admin)
        return cluster

    async def close(self) -> None:
        """Close the connection."""
        if self._admin is not None:
            await self._admin.close()

    async def consumer(self, **options: Any) -> AIOKafkaConsumer:
        """A started consumer of committed records, without assignment. Raises LogUnavailable."""

        async def connected() -> AIOKafkaConsumer:
            consumer = AIOKafkaConsumer(
                **self._options,
                **{
                    "isolation_level": "read_committed",
                    "enable_auto_commit": False,
                    # A position that the log does not hold has to be an error, never a silent jump.
                    "auto_offset_reset": "none",
                    "fetch_max_wait_ms": FETCH_WAIT_MS,
                    "fetch_max_bytes": FETCH_TOTAL_OCTETS,
                    "max_partition_fetch_bytes": FETCH_OCTETS,
                    **options,
                },
            )
            return await _started(consumer)

        return await self._within_outage(connected)

    async def producer(self, **options: Any) -> AIOKafkaProducer:
        """A started producer; one attempt."""
        return await _started(AIOKafkaProducer(**self._options, acks="all", max_batch_size=BATCH_OCTETS, **options))

    async def publishing_producer(self) -> AIOKafkaProducer:
        """A started producer without transactions. Raises LogUnavailable after the settings' outage time."""
        return await self._within_outage(lambda: self.producer(enable_idempotence=True, request_timeout_ms=30_000))

    async def ensure(self, topics: Sequence[Topic], partitions: int) -> None:
        """Create what is missing and wait until it can be used. Raises LogError for another partition count."""
        wanted = {topic.name: 1 if topic.single_partition else partitions for topic in topics}
        with _unavailable("the topics"):
            async with asyncio.timeout(TOPIC_TIMEOUT_S):
                await self._learn(wanted)
                missing = [topic for topic in topics if topic.name not in self._facts]
                if missing:
                    await self._create(missing, wanted)
                while not wanted.keys() <= self._facts.keys():
                    await asyncio.sleep(IDLE_ROUND_S)
                    await self._learn(wanted)
                await self._wait_for_leaders(missing)
        for name, count in wanted.items():
            if self._facts[name].partitions != count:
                raise LogError(
                    f"topic {name!r} has {self._facts[name].partitions} partitions, not {count}: keys would move to "
                    "other lanes; set `partitions` to what exists or choose other topics"
                )

    async def facts(self, topic: str) -> TopicFacts:
        """What the cluster says of a topic. Raises LogError when it does not exist."""
        await self.learn_missing((topic,))
        return self._facts[topic]

    async def learn_missing(self, topics: Iterable[str]) -> None:
        """Ask about those of `topics` that are not known. Raises LogError for one that does not exist."""
        unknown = [topic for topic in topics if topic not in self._facts]
        if unknown:
            with _unavailable("the topics"):
                await self._learn(unknown)
            for topic in unknown:
                if topic not in self._facts:
                    raise LogError(f"topic {topic!r} does not exist; `smartpipe topics` creates it")

    def known_facts(self, topic: str) -> TopicFacts | None:
        """What is known of a topic without asking."""
        return self._facts.get(topic)

    async def refresh(self) -> None:
        """Ask again about all known topics: an operator may have changed a limit."""
        await self._learn(list(self._facts))

    async def bounds(self, consumer: AIOKafkaConsumer, place: TopicPartition) -> tuple[int, int]:
        """First offset that a partition holds, and the one after its last committed record."""
        begin = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
        return begin, end

    async def read_up_to(
        self, consumer: AIOKafkaConsumer, place: TopicPartition, end: int
    ) -> AsyncIterator[list[LogRecord]]:
        """Records from the consumer's position on until that position has reached `end`, however few they are."""
        pulse = _Pulse(self.settings.outage_timeout_ms)
        retry = Retry(limit_ms=self.settings.outage_timeout_ms)
        while await consumer.position(place) < end:
            try:
                found = await consumer.getmany(place, timeout_ms=IDLE_ROUND_S * 1000, max_records=REPLAY_RECORDS)
            except OffsetOutOfRangeError as error:
                # Retention or compaction moved on under the replay; a new one begins at the new beginning.
                raise LaneLost(f"{place.topic}-{place.partition} was cut while it was replayed") from error
            except KafkaError as error:
                await retry.pause(error)
                continue
            retry.well()
            pulse.beat(consumer, (place,))
            yield found.get(place, [])
            await asyncio.sleep(0)

    async def _connected_admin(self) -> AIOKafkaAdminClient:
        admin = AIOKafkaAdminClient(**self._options)
        try:
            await admin.start()
        except BaseException:
            await admin.close()
            raise
        return admin

    async def _within_outage(self, connect: Callable[[], Awaitable[Any]]) -> Any:
        retry = Retry(limit_ms=self.settings.outage_timeout_ms)
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    return await connect()
            except (KafkaError, OSError, TimeoutError) as error:
                await retry.pause(error)

    async def _create(self, topics: list[Topic], partitions: Mapping[str, int]) -> None:
        factor = self.settings.kafka_replication_factor
        response = await self._alive_admin().create_topics(
            [
                NewTopic(
                    topic.name,
                    partitions[topic.name],
                    factor,
                    # aiokafka wants it so for the broker's own default, -1.
                    replica_assignments={} if factor == -1 else None,
                    topic_configs=topic.broker_settings(),
                )
                for topic in topics
            ]
        )
        for name, code, message in response.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise LogError(f"topic {name!r} could not be created: {message or for_code(code).__name__}")

    async def _wait_for_leaders(self, topics: list[Topic]) -> None:
        """A leader is named before it knows; asking it for an offset is a question that it answers once it does."""
        places = [
            TopicPartition(topic.name, partition)
            for topic in topics
            for partition in range(self._facts[topic.name].partitions)
        ]
        if places:
            consumer = await self.consumer()
            try:
                await consumer.end_offsets(places)
            finally:
                await _close(consumer)

    async def _learn(self, topics: Collection[str]) -> None:
        if not topics:
            return
        admin = self._alive_admin()
        described = await admin.describe_topics(list(topics))
        counts = {topic["topic"]: len(topic["partitions"]) for topic in described if not topic["error_code"]}
        for topic in described:
            if for_code(topic["error_code"]) is UnknownTopicOrPartitionError:
                self._facts.pop(topic["topic"], None)
        if not counts:
            return
        limits = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in counts])
        for _code, _message, _type, name, entries, *_ in itertools.chain(*(answer.resources for answer in limits)):
            values = {entry[0]: entry[1] for entry in entries}
            self._facts[name] = TopicFacts(
                counts[name],
                int(values.get("max.message.bytes") or DEFAULT_MAX_OCTETS),
                "compact" in values.get("cleanup.policy", ""),
            )

    def _alive_admin(self) -> AIOKafkaAdminClient:
        if self._admin is None:
            raise LogError("the Kafka log is not open; await start() first")
        return self._admin


class _Pulse:
    """Notices that no broker has answered a fetch for too long; aiokafka itself would go on trying for ever."""

    def __init__(self, limit_ms: int) -> None:
        self._limit_s = limit_ms / 1000
        self._seen: int | None = None
        self._seen_at = time.monotonic()
        self._looked_at = self._seen_at

    def beat(self, consumer: AIOKafkaConsumer, places: Collection[TopicPartition]) -> None:
        """Look at when the latest answer came. Raises LogUnavailable."""
        now = time.monotonic()
        # A gap between two looks is ours, not the broker's.
        self._seen_at += max(0.0, now - self._looked_at - ROUND_TIMEOUT_S)
        self._looked_at = now
        assigned = consumer.assignment()
        seen = max((consumer.last_poll_timestamp(place) or 0 for place in places if place in assigned), default=None)
        if seen is None or seen != self._seen:
            self._seen = seen
            self._seen_at = now
        elif now - self._seen_at > self._limit_s:
            raise LogUnavailable(f"no broker has answered a fetch for {self._limit_s:g} s; see that Kafka is up")


async def _learn_metadata(producer: AIOKafkaProducer, topics: Collection[str]) -> None:
    """Have the producer know the topics' leaders; aiokafka itself gives up after one request's time."""
    for topic in topics:
        known = False
        while not known:
            with contextlib.suppress(UnknownTopicOrPartitionError):
                known = bool(await producer.partitions_for(topic))


async def _send(producer: AIOKafkaProducer, outputs: Iterable[tuple[str, int, Sequence[Any]]]) -> None:
    """Send batches and await every single one. The first batch of each partition goes before any second one."""
    waiting: list[asyncio.Future[object]] = []
    columns = [[(topic, partition, batch) for batch in batches] for topic, partition, batches in outputs]
    try:
        for row in itertools.zip_longest(*columns):
            for entry in row:
                if entry is not None:
                    topic, partition, batch = entry
                    batch.close()
                    waiting.append(await producer.send_batch(batch, topic, partition=partition))
    except BaseException:
        # Nothing will be committed. To wait for what was sent would wait as long as the broker is away.
        for future in waiting:
            future.add_done_callback(_hear)
        raise
    results = await asyncio.gather(*waiting, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _started(client: Any) -> Any:
    try:
        await client.start()
    except BaseException:
        await _close(client)
        raise
    return client


async def _close(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Close a consumer or a producer, waiting only a moment for a broker that does not answer."""
    is_producer = isinstance(client, AIOKafkaProducer)
    connections = client.client if is_producer else client._client
    closing = asyncio.ensure_future(client.stop())
    await asyncio.wait((closing,), timeout=CLOSE_TIMEOUT_S)
    if not closing.done():
        # aiokafka waits for ever for batches that nobody will take; fail them, and the requests in flight.
        if is_producer:
            _fail_all(client)
        await _disconnect(connections)
        await asyncio.wait((closing,), timeout=CLOSE_TIMEOUT_S)
    closing.cancel()
    outcome = await asyncio.gather(closing, return_exceptions=True)
    if isinstance(outcome[0], BaseException):
        # It gave up on the way, which leaves connections behind.
        await _disconnect(connections)


async def _disconnect(client: Any) -> None:
    """Close a client's connections, also where the task has failed that keeps up with the cluster's metadata."""
    try:
        await client.close()
    except Exception:
        # It is of no use any more, and all that was in the way.
        client._sync_task = None
        await client.close()


def _fail_all(producer: AIOKafkaProducer) -> None:
    """End the batches that wait in a producer. Their waiters hear of it, and Python not of those without a waiter."""
    accumulator = producer._message_accumulator
    waiting = [batch._drain_waiter for batches in accumulator._batches.values() for batch in batches]
    accumulator.fail_all(ProducerClosed())
    for waiter in waiting:
        _hear(waiter)


def _hear(future: asyncio.Future[object]) -> None:
    """Have Python not complain later of an error that nobody waits for."""
    if future.done() and not future.cancelled():
        future.exception()


@contextlib.contextmanager
def _unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except (KafkaError, TimeoutError, OSError) as error:
        raise LogUnavailable(f"Kafka could not be asked about {what}: {error!r}") from error


def _is_fenced(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ProducerFenced):
            return True
        error = error.__cause__
    return False


def _by_partition(found: Mapping[TopicPartition, Any]) -> dict[int, Any]:
    return {place.partition: value for place, value in found.items()}


def _client_options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap.split(","),
        "client_id": f"smartpipe-{settings.instance_id}" if settings.instance_id else "smartpipe",
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = create_ssl_context(cafile=settings.kafka_ca_file or None)
    if settings.kafka_security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password
    return options
