"""The contract of the log port: every test here runs on both logs."""

import asyncio
import tracemalloc
from collections import Counter

import pytest

from services.runtime.log import (
    CommitFailed,
    Lane,
    LaneHost,
    LaneLost,
    LogError,
    LogUnavailable,
    NewRecord,
    OffsetOutOfRange,
    RecordTooLarge,
)
from services.runtime.partitioning import partition_of
from tests.runtime.contract_tools import KEYS, in_lane, made, numbered, settled
from tests.runtime.lane_tools import (
    DEADLINE_S,
    Echo,
    Held,
    Names,
    Store,
    contents,
    publish,
    replayed,
    running,
    values,
    wait_for_values,
)
from tests.waiting import wait_until_async


async def test_records_of_one_key_keep_their_order(store: Store, names: Names) -> None:
    log = await store.log()
    source, output = names.topic(), names.topic()
    await made(log, source, output)
    await publish(log, source.name, numbered(2_000))
    async with running(log.lanes(group=names.group(), inputs=[source.name]), Echo(output.name)):
        await wait_for_values(log, output.name, 2_000)
    originals = {
        f"{source.name}/{partition}/{record.offset}".encode(): record
        for partition, batch in (await contents(log, source.name)).items()
        for record in batch
    }
    seen: dict[bytes, list[int]] = {}
    for batch in (await contents(log, output.name)).values():
        for record in batch:
            original = originals[record.value]
            assert original.key == record.key
            assert original.timestamp == record.timestamp == 1_700_000_000_000
            seen.setdefault(record.key, []).append(int(original.value))
    assert sum(map(len, seen.values())) == 2_000
    assert all(numbers == sorted(numbers) for numbers in seen.values())


async def test_one_lane_gets_the_same_partition_of_every_input(store: Store, names: Names) -> None:
    log = await store.log()
    flows, commands, output = names.topic(), names.topic(), names.topic()
    await made(log, flows, commands, output)
    await publish(log, flows.name, numbered(100))
    await publish(log, commands.name, numbered(100))
    echo = Echo(output.name)
    async with running(log.lanes(group=names.group(), inputs=[flows.name, commands.name]), echo) as _:
        await wait_for_values(log, output.name, 200)
    assert sorted(lane.partition for lane in echo.lanes) == [0, 1, 2, 3]
    for partition, batch in (await contents(log, output.name)).items():
        assert {partition_of(record.key, 4) for record in batch} <= {partition}
        assert {record.value.split(b"/")[0].decode() for record in batch} == {flows.name, commands.name}


async def test_all_that_an_earlier_input_holds_comes_before_anything_of_a_later_one(store: Store, names: Names) -> None:
    log = await store.log()
    flows, commands, output = names.topic(), names.topic(), names.topic()
    await made(log, flows, commands, output, partitions=1)
    await publish(log, flows.name, numbered(3_000))
    await publish(log, commands.name, numbered(2_000))
    order: list[str] = []

    async def note(lane: Lane) -> None:
        while len(order) < 5_000:
            polled = await lane.poll(max_records=100, max_wait_ms=1_000)
            assert len(polled) <= 100
            for topic, batch in polled.records.items():
                order.extend([topic] * len(batch))

    await in_lane(log, names.group(), [commands.name, flows.name], note)
    assert order == [commands.name] * 2_000 + [flows.name] * 3_000


async def test_an_earlier_input_that_ends_in_control_records_does_not_hold_up_a_later_one(
    store: Store, names: Names
) -> None:
    log = await store.log()
    source, commands, flows = names.topic(), names.topic(), names.topic()
    await made(log, source, commands, flows, partitions=1)
    await publish(log, source.name, numbered(10))
    # What a lane writes is transactional, so on Kafka `commands` ends in the mark of a commit.
    async with running(log.lanes(group=names.group(), inputs=[source.name]), Echo(commands.name)):
        await wait_for_values(log, commands.name, 10)
    await publish(log, flows.name, numbered(10))
    order: list[str] = []

    async def note(lane: Lane) -> None:
        while len(order) < 20:
            polled = await lane.poll(max_records=100, max_wait_ms=1_000)
            for topic, batch in polled.records.items():
                order.extend([topic] * len(batch))

    await in_lane(log, names.group(), [commands.name, flows.name], note)
    assert order == [commands.name] * 10 + [flows.name] * 10


async def test_starting_a_log_twice_is_starting_it_once(store: Store, names: Names) -> None:
    log = await store.log()
    topic = names.topic()
    await made(log, topic, partitions=1)
    await log.start()
    await publish(log, topic.name, numbered(1))
    assert await wait_for_values(log, topic.name, 1)


async def test_outputs_are_invisible_until_the_commit_and_then_all_there(store: Store, names: Names) -> None:
    log = await store.log()
    source, first, second = names.topic(), names.topic(), names.topic()
    await made(log, source, first, second, partitions=1)
    await publish(log, source.name, numbered(10))
    group = names.group()

    async def process(lane: Lane) -> None:
        polled = await lane.poll(max_records=100, max_wait_ms=10_000)
        for output in (first.name, second.name):
            for number in range(3_000):
                lane.append(output, key=b"k", value=b"%d" % number, timestamp_ms=1)
        assert lane.appended_octets() >= 2 * 3_000
        assert await values(log, first.name) == []
        assert lane.committed() == {source.name: 0}
        await lane.commit({source.name: len(polled)})
        assert lane.appended_octets() == 0
        assert lane.committed() == {source.name: 10}

    await in_lane(log, group, [source.name], process)
    for output in (first.name, second.name):
        assert await wait_for_values(log, output, 3_000) == [b"%d" % number for number in range(3_000)]

    async def where(lane: Lane) -> object:
        return lane.committed()

    assert await in_lane(log, group, [source.name], where) == {source.name: 10}


async def test_a_lane_that_dies_with_outputs_appended_leaves_no_trace(store: Store, names: Names) -> None:
    log = await store.log()
    source, output = names.topic(), names.topic()
    await made(log, source, output, partitions=1)
    await publish(log, source.name, numbered(10))
    group = names.group()

    async def half(lane: Lane) -> None:
        await lane.poll(max_records=100, max_wait_ms=10_000)
        lane.append(output.name, key=b"k", value=b"never", timestamp_ms=1)
        raise LaneLost("as if the process had died")

    with pytest.raises(LaneLost, match="as if"):
        await in_lane(log, group, [source.name], half)
    async with running(log.lanes(group=group, inputs=[source.name]), Echo(output.name)):
        assert b"never" not in await wait_for_values(log, output.name, 10)
    assert len(await values(log, output.name)) == 10


async def test_offsets_alone_and_outputs_alone_can_be_committed_and_nothing_at_all_is_a_no_op(
    store: Store, names: Names
) -> None:
    log = await store.log()
    source, output = names.topic(), names.topic()
    await made(log, source, output, partitions=1)
    await publish(log, source.name, numbered(3))
    group = names.group()

    async def process(lane: Lane) -> None:
        await lane.commit({})
        await lane.commit({source.name: 2})
        lane.append(output.name, key=b"k", value=b"v", timestamp_ms=1)
        await lane.commit({})

    await in_lane(log, group, [source.name], process)
    assert await wait_for_values(log, output.name, 1) == [b"v"]

    async def rest(lane: Lane) -> object:
        assert lane.committed() == {source.name: 2}
        polled = await lane.poll(max_records=10, max_wait_ms=10_000)
        return [record.value for record in polled.records[source.name]]

    assert await in_lane(log, group, [source.name], rest) == [b"2"]


async def test_a_second_owner_fences_the_first(store: Store, names: Names) -> None:
    first, second = await store.log(drain_timeout_ms=300), await store.log(drain_timeout_ms=300)
    source, output = names.topic(), names.topic()
    await made(first, source, output, partitions=2)
    await publish(first, source.name, numbered(200))
    group = names.group()
    slow, quick = Held(output.name), Echo(output.name)
    refused: list[LogError] = []

    async def watched(lane: Lane) -> None:
        try:
            await slow(lane)
        except LaneLost as error:
            refused.append(error)
            raise

    async with running(first.lanes(group=group, inputs=[source.name]), watched):
        await wait_until_async(lambda: slow.waiting == 2, DEADLINE_S, "both lanes to hold a batch")
        host = second.lanes(group=group, inputs=[source.name])
        async with running(host, quick):
            await wait_until_async(lambda: quick.committed, DEADLINE_S, "the second host to take a lane over")
            (moved,) = host.owned_partitions()
            slow.go.set()
            await wait_for_values(first, output.name, 200)
            await wait_until_async(lambda: refused, DEADLINE_S, "the first owner to be refused")
            assert all(place[1] != moved for place in slow.committed)
    assert Counter(await values(first, output.name)).most_common(1)[0][1] == 1


async def test_a_new_owner_goes_on_where_the_last_commit_ended(store: Store, names: Names) -> None:
    log = await store.log()
    source, output = names.topic(), names.topic()
    await made(log, source, output)
    group = names.group()
    first = Echo(output.name)
    await publish(log, source.name, numbered(500))
    async with running(log.lanes(group=group, inputs=[source.name]), first):
        await wait_for_values(log, output.name, 500)
    await publish(log, source.name, numbered(500, start=500))
    second = Echo(output.name)
    async with running(log.lanes(group=group, inputs=[source.name]), second):
        await wait_for_values(log, output.name, 1_000)
    assert not first.taken.keys() & second.taken.keys()
    assert sum((first.taken + second.taken).values()) == 1_000


async def test_a_graceful_stop_under_load_leaves_nothing_to_process_again(store: Store, names: Names) -> None:
    log = await store.log()
    source, output = names.topic(), names.topic()
    await made(log, source, output)
    group = names.group()
    await publish(log, source.name, numbered(6_000))
    servers = [Echo(output.name, max_records=100) for _ in range(3)]
    for server in servers[:2]:
        async with running(log.lanes(group=group, inputs=[source.name]), server):
            await wait_until_async(lambda server=server: len(server.taken) > 1_000, DEADLINE_S, "work in progress")
        assert server.taken == server.committed
    async with running(log.lanes(group=group, inputs=[source.name]), servers[2]):
        await wait_for_values(log, output.name, 6_000)
    taken = sum((server.taken for server in servers), Counter())
    assert len(taken) == 6_000
    assert set(taken.values()) == {1}


async def test_a_stop_lets_a_lane_commit_what_it_has_gathered_over_several_polls(store: Store, names: Names) -> None:
    log = await store.log()
    source, output = names.topic(), names.topic()
    await made(log, source, output, partitions=1)
    await publish(log, source.name, numbered(3))
    gathered = asyncio.Event()

    async def gather(lane: Lane) -> None:
        position = 0
        while True:
            polled = await lane.poll(max_records=1, max_wait_ms=60_000 if gathered.is_set() else 10_000)
            if len(polled):
                position = polled.records[source.name][-1].offset + 1
                lane.append(output.name, key=b"k", value=b"%d" % position, timestamp_ms=1)
                if position == 3:
                    gathered.set()
            else:
                await lane.commit({source.name: position})

    async with running(log.lanes(group=names.group(), inputs=[source.name]), gather):
        async with asyncio.timeout(DEADLINE_S):
            await gathered.wait()
        assert await values(log, output.name) == []
    assert await wait_for_values(log, output.name, 3) == [b"1", b"2", b"3"]


async def test_replay_brings_the_last_value_of_every_key_tombstones_included(store: Store, names: Names) -> None:
    log = await store.log()
    source, changelog, empty = names.topic(), names.topic(compacted=True), names.topic(compacted=True)
    await made(log, source, changelog, empty, partitions=1)
    group = names.group()

    async def write(lane: Lane) -> None:
        for round_ in range(5):
            for key in KEYS:
                lane.append(changelog.name, key=key, value=b"%d" % round_, timestamp_ms=round_)
            await lane.commit({source.name: 0})
        lane.append(changelog.name, key=KEYS[0], value=None, timestamp_ms=9)
        await lane.commit({})

    await in_lane(log, group, [source.name], write)

    async def restore(lane: Lane) -> object:
        assert await replayed(lane, empty.name) == []
        return {record.key: record.value for record in await replayed(lane, changelog.name)}

    # The log ends in the mark of a transaction, which is no record: a replay that counts records never ends.
    state = await in_lane(log, group, [source.name], restore)
    assert state == {KEYS[0]: None} | dict.fromkeys(KEYS[1:], b"4")


async def test_replay_brings_only_the_lane_own_partition(store: Store, names: Names) -> None:
    log = await store.log()
    source, changelog = names.topic(), names.topic(compacted=True)
    await made(log, source, changelog)
    await publish(log, changelog.name, [(key, b"state of " + key) for key in KEYS])
    found: dict[int, set[bytes]] = {}

    async def restore(lane: Lane) -> None:
        found[lane.partition] = {record.key for record in await replayed(lane, changelog.name)}
        while True:
            await lane.poll(max_records=1, max_wait_ms=1_000)

    async with running(log.lanes(group=names.group(), inputs=[source.name]), restore):
        await wait_until_async(lambda: len(found) == 4, DEADLINE_S, "four lanes")
    assert found == {partition: {key for key in KEYS if partition_of(key, 4) == partition} for partition in range(4)}


async def test_a_slow_lane_does_not_fill_the_memory(store: Store, names: Names) -> None:
    log = await store.log()
    source, output = names.topic(), names.topic()
    await made(log, source, output, partitions=1)
    megabytes = 96
    for _ in range(megabytes // 4):
        await publish(log, source.name, [(b"k", bytes(100_000))] * 40)
    slow = Held(output.name)
    tracemalloc.start()
    try:
        async with running(log.lanes(group=names.group(), inputs=[source.name]), slow):
            await wait_until_async(lambda: slow.waiting, DEADLINE_S, "a batch in flight")
            await wait_until_async(settled(tracemalloc.get_traced_memory), DEADLINE_S, "the memory to grow no more")
            assert tracemalloc.get_traced_memory()[1] < 32_000_000
            slow.go.set()
    finally:
        tracemalloc.stop()


async def test_an_output_too_large_is_refused_and_the_rest_commits(store: Store, names: Names) -> None:
    log = await store.log()
    source, small, large = names.topic(), names.topic(max_octets=10_000), names.topic(max_octets=8 * 1024 * 1024)
    await made(log, source, small, large, partitions=1)

    async def process(lane: Lane) -> None:
        for number in range(1_000):
            lane.append(small.name, key=b"k", value=b"%050d" % number, timestamp_ms=number)
        rest = [(b"k", b"%050d" % number) for number in range(1_000, 2_000)]
        lane.append_all(small.name, rest, timestamp_ms=1_000)
        before = lane.appended_octets()
        with pytest.raises(RecordTooLarge, match="10000"):
            lane.append(small.name, key=b"k", value=bytes(10_001), timestamp_ms=1)
        with pytest.raises(RecordTooLarge, match="10000"):
            lane.append_all(small.name, [(b"k", bytes(10_001)), (b"k", b"never")], timestamp_ms=1)
        assert lane.appended_octets() == before
        lane.append(small.name, key=b"k", value=bytes(9_800), timestamp_ms=1)
        lane.append(large.name, key=b"k", value=bytes(8_000_000), timestamp_ms=1)
        await lane.commit({source.name: 0})

    await in_lane(log, names.group(), [source.name], process)
    found = await wait_for_values(log, small.name, 2_001)
    assert found == [b"%050d" % number for number in range(2_000)] + [bytes(9_800)]
    assert await wait_for_values(log, large.name, 1) == [bytes(8_000_000)]


async def test_a_record_of_eight_megabytes_reaches_its_lane_among_others(store: Store, names: Names) -> None:
    log = await store.log()
    source, output = names.topic(max_octets=8 * 1024 * 1024), names.topic()
    await made(log, source, output)
    await publish(log, source.name, numbered(2_000))
    await publish(log, source.name, [(KEYS[3], bytes(8 * 1024 * 1024 - 1_000))])
    await publish(log, source.name, numbered(2_000, start=2_000))
    async with running(log.lanes(group=names.group(), inputs=[source.name]), Echo(output.name)):
        await wait_for_values(log, output.name, 4_001)


async def test_an_unknown_output_topic_is_an_error_that_names_it(store: Store, names: Names) -> None:
    log = await store.log()
    source = names.topic()
    await made(log, source)

    async def process(lane: Lane) -> None:
        lane.append("no-such-topic", key=b"k", value=b"v", timestamp_ms=1)
        await lane.commit({})

    with pytest.raises(LogError, match="no-such-topic"):
        await in_lane(log, names.group(), [source.name], process)


async def test_a_bug_in_a_lane_server_ends_the_host(store: Store, names: Names) -> None:
    log = await store.log()
    source = names.topic()
    await made(log, source)

    async def serve(lane: Lane) -> None:
        raise ZeroDivisionError(f"a bug in lane {lane.partition}")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        async with asyncio.timeout(DEADLINE_S):
            await log.lanes(group=names.group(), inputs=[source.name]).run(serve)


async def test_a_lane_that_keeps_failing_to_commit_ends_the_host(store: Store, names: Names) -> None:
    log = await store.log(outage_timeout_ms=500)
    source = names.topic()
    await made(log, source, partitions=1)
    opened = 0

    async def serve(lane: Lane) -> None:
        nonlocal opened
        opened += 1
        raise CommitFailed("as if the broker had refused it")

    with pytest.raises(LogUnavailable, match="as if the broker"):
        async with asyncio.timeout(DEADLINE_S):
            await log.lanes(group=names.group(), inputs=[source.name]).run(serve)
    assert opened > 1, "it was given up before it was tried again"


async def test_retention_that_overtook_the_committed_offset_ends_the_host(store: Store, names: Names) -> None:
    log = await store.log()
    source, output = names.topic(), names.topic()
    await made(log, source, output, partitions=1)
    group = names.group()
    await publish(log, source.name, numbered(100))

    async def some(lane: Lane) -> None:
        await lane.commit({source.name: 10})

    await in_lane(log, group, [source.name], some)
    await store.drop_before(source.name, 0, 50)
    with pytest.raises(OffsetOutOfRange, match=source.name):
        async with asyncio.timeout(DEADLINE_S):
            await log.lanes(group=group, inputs=[source.name]).run(Echo(output.name))


async def test_without_a_committed_offset_a_lane_begins_at_the_first_record_that_is_left(
    store: Store, names: Names
) -> None:
    log = await store.log()
    source, output = names.topic(), names.topic()
    await made(log, source, output, partitions=1)
    await publish(log, source.name, numbered(100))
    await store.drop_before(source.name, 0, 40)
    async with running(log.lanes(group=names.group(), inputs=[source.name]), Echo(output.name)):
        await wait_for_values(log, output.name, 60)
    assert (await values(log, output.name))[0] == f"{source.name}/0/40".encode()


async def test_poll_comes_back_empty_after_its_time_and_at_once_with_news(store: Store, names: Names) -> None:
    log, other = await store.log(), await store.log()
    source = names.topic()
    await made(log, source, partitions=1)

    async def wait(lane: Lane) -> None:
        polled = await lane.poll(max_records=10, max_wait_ms=50)
        assert len(polled) == 0
        waiting = asyncio.create_task(lane.poll(max_records=10, max_wait_ms=60_000))
        await publish(other, source.name, numbered(1))
        async with asyncio.timeout(DEADLINE_S):
            assert len(await waiting) == 1

    await in_lane(log, names.group(), [source.name], wait)


async def test_the_backlog_counts_what_waits_behind_a_poll(store: Store, names: Names) -> None:
    log = await store.log()
    source = names.topic()
    await made(log, source, partitions=1)
    await publish(log, source.name, numbered(1_000))

    async def look(lane: Lane) -> None:
        polled = await lane.poll(max_records=100, max_wait_ms=10_000)
        seen = len(polled)
        assert polled.backlog == 1_000 - seen
        while seen < 1_000:
            polled = await lane.poll(max_records=100, max_wait_ms=10_000)
            seen += len(polled)
        assert polled.backlog == 0

    await in_lane(log, names.group(), [source.name], look)


async def test_a_host_tells_when_it_joined_what_it_owns_and_that_it_lives(store: Store, names: Names) -> None:
    log = await store.log()
    source, output = names.topic(), names.topic()
    await made(log, source, output)
    host = log.lanes(group=names.group(), inputs=[source.name])
    assert not host.joined()
    assert host.owned_partitions() == frozenset()
    async with running(host, Echo(output.name)):
        await wait_until_async(lambda: host.owned_partitions() == {0, 1, 2, 3}, DEADLINE_S, "four lanes up")
        assert host.joined()
        await wait_until_async(lambda: host.last_poll_age_s() < 1.0, DEADLINE_S, "a round of the loop")
    assert host.owned_partitions() == frozenset()


def shared(*hosts: LaneHost) -> bool:
    """Two lanes each, and no other's: lanes open one by one, so counts alone say nothing about a share."""
    found = [host.owned_partitions() for host in hosts]
    return [len(lanes) for lanes in found] == [2, 2] and frozenset().union(*found) == {0, 1, 2, 3}


async def test_two_hosts_of_a_group_share_the_partitions_and_the_survivor_takes_them_all(
    store: Store, names: Names
) -> None:
    log, other = await store.log(), await store.log()
    source, output = names.topic(), names.topic()
    await made(log, source, output)
    group = names.group()
    survivor, leaver = log.lanes(group=group, inputs=[source.name]), other.lanes(group=group, inputs=[source.name])
    async with running(survivor, Echo(output.name)):
        async with running(leaver, Echo(output.name)):
            await wait_until_async(lambda: shared(survivor, leaver), DEADLINE_S, "two lanes each")
            await publish(log, source.name, numbered(400))
            await wait_for_values(log, output.name, 400)
        await wait_until_async(lambda: len(survivor.owned_partitions()) == 4, DEADLINE_S, "four lanes")
        await publish(log, source.name, numbered(400))
        await wait_for_values(log, output.name, 800)
    assert set(Counter(await values(log, output.name)).values()) == {1}


async def test_nothing_is_left_running_when_everything_is_closed(store: Store, names: Names) -> None:
    before = asyncio.all_tasks()
    log = await store.log()
    source, output = names.topic(), names.topic()
    await made(log, source, output)
    publisher, reader = await log.publisher(), await log.reader(output.name)
    async with running(log.lanes(group=names.group(), inputs=[source.name]), Echo(output.name)):
        await publisher.publish([NewRecord(source.name, b"k", b"v", 1)])
        await wait_for_values(log, output.name, 1)
    for thing in (publisher, reader, log):
        await thing.close()
    await wait_until_async(lambda: asyncio.all_tasks() <= before, DEADLINE_S, "every task to end")


async def test_inputs_with_different_partition_counts_are_refused(store: Store, names: Names) -> None:
    log = await store.log()
    four, three = names.topic(), names.topic()
    await made(log, four, partitions=4)
    await made(log, three, partitions=3)
    with pytest.raises(LogError, match="partitions"):
        await log.lanes(group=names.group(), inputs=[four.name, three.name]).run(Echo(four.name))
