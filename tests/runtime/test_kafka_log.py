"""What only a real Kafka can go wrong with: each step of the lanes' recipe, and each trap that it avoids."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from services.runtime import kafka_log
from services.runtime.log import (
    CommitFailed,
    Lane,
    LaneFenced,
    LaneHost,
    LogError,
    NewRecord,
    OffsetOutOfRange,
    RecordTooLarge,
)
from tests.runtime.conftest import KafkaStore
from tests.runtime.contract_tools import numbered
from tests.runtime.lane_tools import (
    DEADLINE_S,
    Echo,
    Held,
    Names,
    contents,
    each_once,
    publish,
    replayed,
    running,
    values,
    wait_for_values,
)
from tests.waiting import wait_until_async

PROBE = b"probe"

pytestmark = pytest.mark.kafka


async def elapsed(seconds: float) -> None:
    """Time has to pass on the broker's side: the condition is the clock itself."""
    ends_at = time.monotonic() + seconds
    await wait_until_async(lambda: time.monotonic() >= ends_at, seconds + DEADLINE_S, "time to pass")


@contextlib.asynccontextmanager
async def administration(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def limit_messages(bootstrap: str, topic: str, octets: int) -> None:
    """Lower the limit, and wait until the broker goes by it: the change is accepted before it is in force."""
    async with administration(bootstrap) as admin:
        configs = {"max.message.bytes": str(octets)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()

    async def in_force() -> bool:
        try:
            await producer.send_and_wait(topic, bytes(octets), key=PROBE, partition=0)
        except MessageSizeTooLargeError:
            return True
        return False

    try:
        await wait_until_async(in_force, DEADLINE_S, "the lower limit to be in force")
    finally:
        await producer.stop()


async def test_no_record_comes_before_a_replay_that_outlasts_the_session_has_ended(
    kafka_store: KafkaStore, names: Names
) -> None:
    # Long enough for a busy machine to send its heartbeats, and outlasted all the same.
    log = await kafka_store.log(session_timeout_ms=4_000)
    source, changelog, output = names.topic(), names.topic(compacted=True), names.topic()
    await log.ensure_topics([source, changelog, output], partitions=2)
    await publish(log, changelog.name, numbered(100))
    await publish(log, source.name, numbered(80))
    host = log.lanes(group=names.group(), inputs=[source.name])
    echo = Echo(output.name)
    early: list[int] = []

    async def slow_restore(lane: Lane) -> None:
        await replayed(lane, changelog.name)
        await elapsed(5.5)
        early.append(lane.intake.waiting())  # type: ignore[attr-defined]
        await echo(lane)

    async with running(host, slow_restore):
        await wait_for_values(log, output.name, 80)
        assert host._generation == 1, "the member was evicted while it restored"
    assert early == [0, 0]
    assert each_once(await values(log, output.name))
    assert set(echo.taken.values()) == {1}


def apart(one: LaneHost, other: LaneHost) -> bool:
    """Both have lanes, none of them the same: each hears of a rebalance in its own time."""
    first, second = one.owned_partitions(), other.owned_partitions()
    return bool(first and second) and not first & second


async def test_a_storm_of_rebalances_processes_every_record_exactly_once(kafka_store: KafkaStore, names: Names) -> None:
    log = await kafka_store.log(session_timeout_ms=10_000)
    source, changelog, output = names.topic(), names.topic(compacted=True), names.topic()
    await log.ensure_topics([source, changelog, output], partitions=6)
    await publish(log, changelog.name, numbered(2_000))
    group = names.group()
    steady, passing = Echo(output.name, max_records=50), Echo(output.name, max_records=50)
    published = 0

    async def restoring(lane: Lane) -> None:
        await replayed(lane, changelog.name)
        await passing(lane)

    async def traffic() -> None:
        nonlocal published
        while True:
            await publish(log, source.name, numbered(100, start=published))
            published += 100
            await elapsed(0.02)

    host = log.lanes(group=group, inputs=[source.name])
    async with running(host, steady):
        publishing = asyncio.create_task(traffic())
        for visits in range(5):
            visitor = log.lanes(group=group, inputs=[source.name])
            async with running(visitor, restoring):
                await wait_until_async(lambda: apart(visitor, host), DEADLINE_S, f"visit {visits} to get lanes")  # noqa: B023
                before = sum(passing.committed.values())
                await wait_until_async(lambda: sum(passing.committed.values()) > before, DEADLINE_S, "work on a visit")  # noqa: B023
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        total = sum(map(len, (await contents(log, source.name)).values()))
        await wait_for_values(log, output.name, total)
    assert each_once(await values(log, output.name))
    # Three partitions stayed all the time and their lanes were not built anew; three went and came back five times.
    assert len(steady.lanes) <= 6 + 3 * 5


async def test_a_lane_takes_over_the_open_transaction_of_a_dead_producer_in_seconds(
    kafka_store: KafkaStore, names: Names
) -> None:
    log = await kafka_store.log()
    source, output = names.topic(), names.topic()
    await log.ensure_topics([source, output], partitions=1)
    await publish(log, source.name, numbered(10))
    group = names.group()
    dead = AIOKafkaProducer(
        bootstrap_servers=kafka_store.bootstrap, transactional_id=f"{group}-0", transaction_timeout_ms=300_000
    )
    await dead.start()
    await dead.begin_transaction()
    await dead.send_and_wait(output.name, b"half", partition=0)
    await dead.client.close()
    reader = await log.reader(output.name)
    assert await reader.end_offsets() == {0: 0}
    async with running(log.lanes(group=group, inputs=[source.name]), Echo(output.name)):
        # Left alone, the open transaction would hide all of them for five minutes.
        assert b"half" not in await wait_for_values(log, output.name, 10)
    await reader.close()
    await kafka_log._close(dead)


async def test_the_broker_itself_refuses_the_old_owner(kafka_store: KafkaStore, names: Names) -> None:
    log = await kafka_store.log(session_timeout_ms=4_000)
    source, output = names.topic(), names.topic()
    await log.ensure_topics([source, output], partitions=1)
    await publish(log, source.name, numbered(10))
    held = Held(output.name)
    host = log.lanes(group=names.group(), inputs=[source.name])
    refused: list[LogError] = []
    visible: list[bytes | None] = []

    async def watched(lane: Lane) -> None:
        try:
            await held(lane)
        except LogError as error:
            # Looked at before the lane is given back, for the next one does the work again.
            visible.extend(await values(log, output.name))
            refused.append(error)
            raise

    async with running(host, watched):
        await wait_until_async(lambda: held.waiting, DEADLINE_S, "a batch in flight")
        # No rebalance tells this host that somebody else has opened the lane.
        other = await host.producer(0)
        held.go.set()
        await wait_until_async(lambda: refused, DEADLINE_S, "the refusal")
        assert isinstance(refused[0], LaneFenced)
        assert visible == []
        await other.stop()
        # Nobody in the group has the partition, so after a session's time it is taken back.
        await wait_for_values(log, output.name, 10)
    assert each_once(await values(log, output.name))


async def test_an_output_that_the_broker_refuses_fails_the_whole_commit_and_the_lane_is_rebuilt(
    kafka_store: KafkaStore, names: Names
) -> None:
    log = await kafka_store.log()
    source, fine, refused = names.topic(), names.topic(), names.topic()
    await log.ensure_topics([source, fine, refused], partitions=1)
    await publish(log, source.name, numbered(5))
    outcomes: list[type[Exception]] = []

    async def serve(lane: Lane) -> None:
        # An operator lowers the limit while the lane is up.
        await limit_messages(kafka_store.bootstrap, refused.name, 2_000)
        while True:
            polled = await lane.poll(max_records=10, max_wait_ms=1_000)
            if not len(polled):
                continue
            lane.append(fine.name, key=b"k", value=b"fine", timestamp_ms=1)
            try:
                lane.append(refused.name, key=b"k", value=bytes(5_000), timestamp_ms=1)
            except RecordTooLarge as error:
                outcomes.append(type(error))
            try:
                await lane.commit({source.name: 5})
            except CommitFailed as error:
                outcomes.append(type(error))
                assert await values(log, fine.name) == []
                raise

    async with running(log.lanes(group=names.group(), inputs=[source.name]), serve):
        assert await wait_for_values(log, fine.name, 1) == [b"fine"]
    # The rebuilt lane has asked for the topic's limit and refuses the output before it is sent.
    assert outcomes == [CommitFailed, RecordTooLarge]
    found = await contents(log, refused.name)
    assert {record.key for batch in found.values() for record in batch} <= {PROBE}


async def test_many_small_outputs_fit_a_topic_of_small_batches(kafka_store: KafkaStore, names: Names) -> None:
    log = await kafka_store.log()
    source, small = names.topic(), names.topic(max_octets=3_000)
    await log.ensure_topics([source, small], partitions=1)
    await publish(log, small.name, numbered(500))
    async with running(log.lanes(group=names.group(), inputs=[source.name]), Echo(small.name)):
        await publish(log, source.name, numbered(500))
        await wait_for_values(log, small.name, 1_000)


async def test_replay_ends_at_the_end_of_a_compacted_changelog_with_holes(
    kafka_store: KafkaStore, names: Names
) -> None:
    log = await kafka_store.log()
    source, changelog = names.topic(), names.topic(compacted=True)
    await log.ensure_topics([source], partitions=1)
    configs = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    async with administration(kafka_store.bootstrap) as admin:
        await admin.create_topics([NewTopic(changelog.name, 1, 1, topic_configs=configs)])
    found: dict[str, object] = {}

    async def write_and_restore(lane: Lane) -> None:
        written = 0

        async def compacted() -> bool:
            nonlocal written
            for number in range(100):
                lane.append(changelog.name, key=b"key-%d" % number, value=b"%d" % written, timestamp_ms=1)
            written += 100
            await lane.commit({})
            return sum(map(len, (await contents(log, changelog.name)).values())) < written

        await wait_until_async(compacted, DEADLINE_S, "the cleaner to run")
        lane.append(changelog.name, key=b"key-7", value=None, timestamp_ms=1)
        await lane.commit({})
        records = await replayed(lane, changelog.name)
        found["state"] = {record.key: record.value for record in records}
        found["expected"] = {b"key-%d" % number: b"%d" % (written - 100) for number in range(100)} | {b"key-7": None}
        while True:
            await lane.poll(max_records=1, max_wait_ms=1_000)

    async with running(log.lanes(group=names.group(), inputs=[source.name]), write_and_restore):
        await wait_until_async(lambda: "expected" in found, 2 * DEADLINE_S, "the replay")
    assert found["state"] == found["expected"]


async def test_retention_that_overtakes_a_running_lane_ends_the_host(kafka_store: KafkaStore, names: Names) -> None:
    log = await kafka_store.log()
    source, output = names.topic(), names.topic()
    await log.ensure_topics([source, output], partitions=1)
    for _ in range(10):
        await publish(log, source.name, [(b"k", bytes(20_000))] * 200)
    held = Held(output.name)

    async def overtake() -> None:
        async with running(log.lanes(group=names.group(), inputs=[source.name]), held) as run:
            await wait_until_async(lambda: held.waiting, DEADLINE_S, "a batch in flight")
            await kafka_store.drop_before(source.name, 0, 1_999)
            held.go.set()
            await asyncio.wait((run,), timeout=DEADLINE_S)

    with pytest.raises(OffsetOutOfRange, match=source.name):
        await overtake()


async def test_records_that_a_failed_fetch_has_swallowed_are_fetched_again(
    kafka_store: KafkaStore, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await kafka_store.log()
    commands, flows, output = names.topic(), names.topic(), names.topic()
    await log.ensure_topics([commands, flows, output], partitions=2)
    swallowed = 0
    getmany = AIOKafkaConsumer.getmany

    async def flaky(consumer: AIOKafkaConsumer, *places: TopicPartition, **options: int) -> object:
        nonlocal swallowed
        found = await getmany(consumer, *places, **options)
        if found and swallowed < 5:
            swallowed += 1
            raise KafkaError("as if a batch had been damaged on its way")
        return found

    host = log.lanes(group=names.group(), inputs=[commands.name, flows.name])
    async with running(host, Echo(output.name)):
        await wait_until_async(lambda: len(host.owned_partitions()) == 2, DEADLINE_S, "the lanes")
        monkeypatch.setattr(AIOKafkaConsumer, "getmany", flaky)
        for start in range(0, 1_000, 100):
            await publish(log, commands.name, numbered(100, start=start))
            await publish(log, flows.name, numbered(100, start=start))
        await wait_until_async(lambda: swallowed == 5, DEADLINE_S, "five failures")
        monkeypatch.setattr(AIOKafkaConsumer, "getmany", getmany)
        found = await wait_for_values(log, output.name, 2_000)
    assert len(found) == len(set(found)) == 2_000


async def test_a_rebalance_keeps_the_lanes_that_stay(kafka_store: KafkaStore, names: Names) -> None:
    log = await kafka_store.log()
    source, output = names.topic(), names.topic()
    await log.ensure_topics([source, output], partitions=4)
    group = names.group()
    echo = Echo(output.name)
    host, other = (log.lanes(group=group, inputs=[source.name]) for _ in range(2))
    async with running(host, echo):
        await wait_until_async(lambda: len(host.owned_partitions()) == 4, DEADLINE_S, "four lanes")
        before = {lane.partition: lane for lane in echo.lanes}
        async with running(other, Echo(output.name)):
            await wait_until_async(
                lambda: len(other.owned_partitions()) == len(host.owned_partitions()) == 2 and apart(other, host),
                DEADLINE_S,
                "two lanes elsewhere",
            )
            stayed = host.owned_partitions()
            await publish(log, source.name, numbered(200))
            await wait_for_values(log, output.name, 200)
        await wait_until_async(lambda: len(host.owned_partitions()) == 4, DEADLINE_S, "four lanes again")
        again = [lane.partition for lane in echo.lanes[4:]]
    assert len(stayed) == 2
    assert sorted(again) == sorted({0, 1, 2, 3} - stayed)
    assert all(before[partition] in echo.lanes for partition in stayed)
    assert each_once(await values(log, output.name))


async def test_a_static_member_that_restarts_disturbs_nobody(kafka_store: KafkaStore, names: Names) -> None:
    # A restart has to end within the session, however slow the machine is.
    first = await kafka_store.log(instance_id="pod-0", session_timeout_ms=60_000)
    second = await kafka_store.log(instance_id="pod-1", session_timeout_ms=60_000)
    source, output = names.topic(), names.topic()
    await first.ensure_topics([source, output], partitions=4)
    group = names.group()
    stays = second.lanes(group=group, inputs=[source.name])
    echo = Echo(output.name)
    async with running(stays, echo):
        # Lanes open one by one: two of four are a share only once all four have been held.
        await wait_until_async(lambda: len(stays.owned_partitions()) == 4, DEADLINE_S, "all lanes")
        async with running(first.lanes(group=group, inputs=[source.name]), Echo(output.name)):
            await wait_until_async(lambda: len(stays.owned_partitions()) == 2, DEADLINE_S, "a share each")
            generation, built = stays._generation, len(echo.lanes)
        restarted = first.lanes(group=group, inputs=[source.name])
        async with running(restarted, Echo(output.name)):
            await wait_until_async(lambda: len(restarted.owned_partitions()) == 2, DEADLINE_S, "the same share again")
            await publish(first, source.name, numbered(200))
            await wait_for_values(first, output.name, 200)
            assert (stays._generation, len(echo.lanes)) == (generation, built)


async def test_producers_are_replaced_before_their_sequence_numbers_run_out(
    kafka_store: KafkaStore, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_log, "RECYCLE_RECORDS", 250)
    log = await kafka_store.log()
    source, output = names.topic(), names.topic()
    await log.ensure_topics([source, output], partitions=1)
    publisher = await log.publisher()
    producers: set[int] = set()

    class Watching(Echo):
        async def between(self, lane: Lane) -> None:
            producers.add(id(lane._producer))  # type: ignore[attr-defined]
            self.kept = (*getattr(self, "kept", ()), lane._producer)  # type: ignore[attr-defined]

    async with running(log.lanes(group=names.group(), inputs=[source.name]), Watching(output.name, max_records=100)):
        for start in range(0, 1_000, 100):
            await publisher.publish([NewRecord(source.name, k, v, 1) for k, v in numbered(100, start=start)])
        found = await wait_for_values(log, output.name, 1_000)
    await publisher.close()
    assert len(producers) >= 3
    assert found == [f"{source.name}/0/{offset}".encode() for offset in range(1_000)]


async def test_members_that_read_different_topics_are_told_so(kafka_store: KafkaStore, names: Names) -> None:
    log = await kafka_store.log()
    first, second, output = names.topic(), names.topic(), names.topic()
    await log.ensure_topics([first, second, output], partitions=2)
    group = names.group()

    async def disagree() -> None:
        one, other = (
            log.lanes(group=group, inputs=[first.name, second.name]),
            log.lanes(group=group, inputs=[first.name]),
        )
        async with running(one, Echo(output.name)) as run, running(other, Echo(output.name)):
            await asyncio.wait((run,), timeout=DEADLINE_S)

    with pytest.raises(LogError, match="read different topics"):
        await disagree()


async def test_committed_records_of_lanes_are_read_while_open_ones_are_not(
    kafka_store: KafkaStore, names: Names
) -> None:
    log = await kafka_store.log()
    topic = names.topic()
    await log.ensure_topics([topic], partitions=1)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_store.bootstrap, transactional_id=names.group())
    await producer.start()
    reader = await log.reader(topic.name)
    for abort in (True, False):
        await producer.begin_transaction()
        await producer.send_and_wait(topic.name, b"aborted" if abort else b"committed", partition=0)
        assert await reader.poll(max_records=10, max_wait_ms=200) == {}
        await (producer.abort_transaction() if abort else producer.commit_transaction())
    async with asyncio.timeout(DEADLINE_S):
        while not (found := await reader.poll(max_records=10, max_wait_ms=1_000)):
            pass
    assert [record.value for record in found[0]] == [b"committed"]
    async with asyncio.timeout(DEADLINE_S):
        while reader.position(0) < (await reader.end_offsets())[0]:
            await reader.poll(max_records=10, max_wait_ms=50)
    await producer.stop()
    await reader.close()


async def test_what_aiokafka_keeps_private_and_the_adapter_needs_is_there(
    kafka_store: KafkaStore, names: Names
) -> None:
    """The private places that services/runtime/kafka_log.py reaches into; a new aiokafka has to be looked at."""
    log = await kafka_store.log()
    source = names.topic()
    await log.ensure_topics([source], partitions=1)
    host = log.lanes(group=names.group(), inputs=[source.name])
    async with running(host, Echo(source.name)):
        await wait_until_async(host.owned_partitions, DEADLINE_S, "the lane")
        consumer = host._alive_consumer()
        assert consumer._coordinator.generation == 1
        assert callable(consumer._client.close)
        producer = await host.producer(0)
        assert callable(producer._message_accumulator.fail_all)
        assert producer._message_accumulator._batches == {}
        await producer.stop()
        assert TopicPartition(source.name, 0) in consumer.assignment()
