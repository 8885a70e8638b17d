"""The contract of the log port, at its edges: topics, publishers and readers. Every test runs on both logs."""

import asyncio

import pytest

from services.runtime.log import (
    Lane,
    LogError,
    NewRecord,
    OffsetOutOfRange,
    RecordTooLarge,
)
from services.runtime.partitioning import partition_of
from tests.runtime.contract_tools import in_lane, made, numbered
from tests.runtime.lane_tools import (
    DEADLINE_S,
    Names,
    Store,
    contents,
    publish,
    values,
    wait_for_values,
)


async def test_ensure_topics_creates_what_is_missing_and_refuses_another_partition_count(
    store: Store, names: Names
) -> None:
    log = await store.log()
    lanes, single = names.topic(), names.topic(single_partition=True)
    await made(log, lanes, single, partitions=3)
    await made(log, lanes, single, partitions=3)
    assert await log.partitions_of(lanes.name) == 3
    assert await log.partitions_of(single.name) == 1
    with pytest.raises(LogError, match=f"{lanes.name}.*3.*5"):
        await made(log, lanes, single, partitions=5)
    with pytest.raises(LogError, match="no-such-topic"):
        await log.partitions_of("no-such-topic")


async def test_the_publisher_keeps_the_order_of_each_key_and_places_keys_as_kafka_does(
    store: Store, names: Names
) -> None:
    log = await store.log()
    topic = names.topic()
    await made(log, topic, partitions=7)
    publisher = await log.publisher()
    for start in range(0, 3_000, 1_000):
        await publisher.publish([NewRecord(topic.name, key, value, 5) for key, value in numbered(1_000, start=start)])
    await publisher.close()
    seen: dict[bytes, list[int]] = {}
    for partition, batch in (await contents(log, topic.name)).items():
        for record in batch:
            assert partition_of(record.key, 7) == partition
            assert record.timestamp == 5
            seen.setdefault(record.key, []).append(int(record.value))
    assert sum(map(len, seen.values())) == 3_000
    assert all(numbers == sorted(numbers) for numbers in seen.values())


async def test_records_without_a_key_are_spread_and_values_may_be_missing(store: Store, names: Names) -> None:
    log = await store.log()
    topic = names.topic()
    await made(log, topic, partitions=2)
    await publish(log, topic.name, [(None, b"%d" % number) for number in range(10)] + [(b"k", None)])
    found = await contents(log, topic.name)
    assert all(len(batch) >= 5 for batch in found.values())
    assert [record.key for batch in found.values() for record in batch if record.value is None] == [b"k"]


async def test_a_record_goes_to_the_partition_that_it_names_whatever_its_key(store: Store, names: Names) -> None:
    log = await store.log()
    topic = names.topic()
    await made(log, topic, partitions=3)
    publisher = await log.publisher()
    await publisher.publish(
        [NewRecord(topic.name, b"k", b"%d-%d" % (place, turn), 1, place) for turn in range(4) for place in range(3)]
    )
    found = await contents(log, topic.name)
    assert {place: [record.value for record in batch] for place, batch in found.items()} == {
        place: [b"%d-%d" % (place, turn) for turn in range(4)] for place in range(3)
    }
    for nowhere in (3, -1):
        with pytest.raises(ValueError, match=f"has 3 partitions and no {nowhere}"):
            await publisher.publish([NewRecord(topic.name, b"k", b"v", 1, nowhere)])
    await publisher.close()
    assert len(await values(log, topic.name)) == 12


async def test_the_publisher_refuses_an_oversized_record_before_anything_is_published(
    store: Store, names: Names
) -> None:
    log = await store.log()
    topic = names.topic(max_octets=10_000)
    await made(log, topic, partitions=1)
    publisher = await log.publisher()
    with pytest.raises(RecordTooLarge, match=topic.name):
        await publisher.publish(
            [NewRecord(topic.name, b"k", b"small", 1), NewRecord(topic.name, b"k", bytes(10_001), 1)]
        )
    assert await values(log, topic.name) == []
    await publisher.publish([NewRecord(topic.name, b"k", b"%0200d" % number, 1) for number in range(200)])
    await publisher.close()
    assert len(await values(log, topic.name)) == 200


async def test_a_reader_knows_where_it_is_and_goes_where_it_is_told(store: Store, names: Names) -> None:
    log = await store.log()
    topic = names.topic()
    await made(log, topic, partitions=1)
    await publish(log, topic.name, numbered(100))
    reader = await log.reader(topic.name)
    assert await reader.beginning_offsets() == {0: 0}
    assert await reader.end_offsets() == {0: 100}
    assert reader.position(0) == 0
    first = (await reader.poll(max_records=30, max_wait_ms=10_000))[0]
    assert [record.offset for record in first] == list(range(30))
    assert reader.position(0) == 30
    await reader.seek({0: 90})
    assert [record.value for record in (await reader.poll(max_records=30, max_wait_ms=10_000))[0]] == [
        b"%d" % number for number in range(90, 100)
    ]
    assert reader.position(0) == 100
    assert await reader.poll(max_records=30, max_wait_ms=50) == {}
    await reader.close()


async def test_a_reader_brings_one_partition_alone_to_whoever_asks_for_it(store: Store, names: Names) -> None:
    log = await store.log()
    topic = names.topic()
    await made(log, topic, partitions=2)
    publisher = await log.publisher()
    await publisher.publish([NewRecord(topic.name, b"%d" % key, b"v", 1) for key in range(40)])
    await publisher.close()
    reader = await log.reader(topic.name)
    ends = await reader.end_offsets()
    assert min(ends.values()) > 0
    polled: dict[int, int] = {}
    while reader.position(1) < ends[1]:
        for partition, records in (await reader.poll(max_records=3, max_wait_ms=10_000, partition=1)).items():
            polled[partition] = polled.get(partition, 0) + len(records)
    assert polled == {1: ends[1]}
    assert await reader.poll(max_records=3, max_wait_ms=50, partition=1) == {}
    assert reader.position(0) == 0
    # What was not asked for is still there.
    while reader.position(0) < ends[0]:
        for partition, records in (await reader.poll(max_records=3, max_wait_ms=10_000)).items():
            polled[partition] = polled.get(partition, 0) + len(records)
    assert polled == ends
    await reader.close()


async def test_a_reader_refuses_offsets_that_the_log_does_not_hold(store: Store, names: Names) -> None:
    log = await store.log()
    topic = names.topic()
    await made(log, topic, partitions=1)
    await publish(log, topic.name, numbered(100))
    await store.drop_before(topic.name, 0, 20)
    reader = await log.reader(topic.name)
    assert await reader.beginning_offsets() == {0: 20}
    assert reader.position(0) == 20
    for wrong in (19, 101):
        with pytest.raises(OffsetOutOfRange, match=topic.name):
            await reader.seek({0: wrong})
    with pytest.raises(LogError, match="partition 7"):
        await reader.seek({7: 0})
    await reader.seek({0: 100})
    await store.drop_before(topic.name, 0, 60)
    await reader.seek({0: 60})
    assert len((await reader.poll(max_records=100, max_wait_ms=10_000))[0]) == 40
    await reader.close()


async def test_a_reader_moves_past_what_only_lanes_and_compaction_leave_behind(store: Store, names: Names) -> None:
    log = await store.log()
    source, output = names.topic(), names.topic(compacted=True)
    await made(log, source, output, partitions=1)

    async def write(lane: Lane) -> None:
        for number in range(20):
            lane.append(output.name, key=b"same", value=b"%d" % number, timestamp_ms=1)
            await lane.commit({})

    await in_lane(log, names.group(), [source.name], write)
    await wait_for_values(log, output.name, 1)
    reader = await log.reader(output.name)
    end = (await reader.end_offsets())[0]
    last = None
    async with asyncio.timeout(DEADLINE_S):
        while reader.position(0) < end:
            for batch in (await reader.poll(max_records=100, max_wait_ms=100)).values():
                last = batch[-1].value
    await reader.close()
    assert last == b"19"


async def test_a_reader_wakes_for_what_another_process_publishes(store: Store, names: Names) -> None:
    log, other = await store.log(), await store.log()
    topic = names.topic()
    await made(log, topic)
    reader = await log.reader(topic.name)
    waiting = asyncio.create_task(reader.poll(max_records=10, max_wait_ms=60_000))
    await publish(other, topic.name, [(b"k", b"v")])
    async with asyncio.timeout(DEADLINE_S):
        ((record,),) = (await waiting).values()
    assert (record.key, record.value) == (b"k", b"v")
    await reader.close()
