"""Lanes, readers and publishers while the broker is away, and what they are when it has come back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiokafka.errors import KafkaError

from deploy.dev.kafka import DevKafka
from services.runtime import kafka_log
from services.runtime.log import CommitFailed, Lane, LaneLost, LogError, LogReader, LogUnavailable, NewRecord
from tests.runtime.conftest import KafkaStore
from tests.runtime.contract_tools import numbered
from tests.runtime.lane_tools import DEADLINE_S, Echo, Names, each_once, publish, running, values, wait_for_values
from tests.waiting import wait_until_async

pytestmark = pytest.mark.kafka


@contextlib.asynccontextmanager
async def stopped(broker: DevKafka) -> AsyncIterator[None]:
    """The session's broker is away, and comes back whatever happens."""
    await asyncio.to_thread(broker.stop)
    try:
        yield
    finally:
        await asyncio.to_thread(broker.start)


async def poll_for_ever(reader: LogReader) -> None:
    while True:
        await reader.poll(max_records=1, max_wait_ms=200)


async def read_some(reader: LogReader, count: int) -> int:
    """Poll until so many records have come, however few come at a time."""
    found = 0
    async with asyncio.timeout(DEADLINE_S):
        while found < count:
            polled = await reader.poll(max_records=count - found, max_wait_ms=1_000)
            found += sum(map(len, polled.values()))
    return found


@pytest.mark.timeout(600)
async def test_a_broker_restart_is_survived_and_a_long_outage_is_reported(
    kafka_store: KafkaStore, kafka_broker: DevKafka, names: Names
) -> None:
    # A broker on a busy machine takes a minute to come back, and the first publisher waits from before that.
    log, hasty = await kafka_store.log(outage_timeout_ms=300_000), await kafka_store.log(outage_timeout_ms=5_000)
    source, output, other = names.topic(), names.topic(), names.topic()
    await log.ensure_topics([source, output, other], partitions=3)
    await publish(log, source.name, numbered(3_000))
    publisher, hasty_publisher = await log.publisher(), await hasty.publisher()
    reader, hasty_reader = await log.reader(output.name), await hasty.reader(output.name)
    hasty_host = hasty.lanes(group=names.group(), inputs=[other.name])
    hasty_run = asyncio.create_task(hasty_host.run(Echo(other.name)))
    await wait_until_async(lambda: len(hasty_host.owned_partitions()) == 3, DEADLINE_S, "the hasty host's lanes")
    await hasty_reader.poll(max_records=1, max_wait_ms=100)
    host = log.lanes(group=names.group(), inputs=[source.name])
    echo = Echo(output.name, max_records=100)
    async with running(host, echo):
        await wait_until_async(lambda: sum(echo.committed.values()) > 500, DEADLINE_S, "work in progress")
        async with stopped(kafka_broker):
            async with asyncio.timeout(DEADLINE_S):
                ends = await asyncio.gather(
                    hasty_publisher.publish([NewRecord(other.name, b"k", b"v", 1)]),
                    poll_for_ever(hasty_reader),
                    hasty_run,
                    return_exceptions=True,
                )
            assert [type(end) for end in ends] == [LogUnavailable] * 3
            sending = asyncio.create_task(
                publisher.publish(
                    [NewRecord(source.name, key, value, 1) for key, value in numbered(3_000, start=3_000)]
                )
            )
        await sending
        await wait_for_values(log, output.name, 6_000)
        assert await read_some(reader, 10) == 10
        assert host.last_poll_age_s() < DEADLINE_S
    assert each_once(await values(log, output.name))
    for thing in (publisher, hasty_publisher, reader, hasty_reader):
        await thing.close()


class Strangers:
    """A lane server that meets a topic nobody has asked about yet, by writing or by reading, when told to `go`."""

    def __init__(self, meet: Callable[[Lane], Awaitable[None]]) -> None:
        self.meet = meet
        self.go = asyncio.Event()
        self.waiting = asyncio.Event()
        self.ends: list[type[Exception] | None] = []

    async def __call__(self, lane: Lane) -> None:
        """Serve the lane: `meet` once, and wait for the end."""
        if self.ends[-1:] != [None]:
            self.waiting.set()
            await self.go.wait()
            try:
                await self.meet(lane)
            except LogError as error:
                self.ends.append(type(error))
                raise
            self.ends.append(None)
        while True:
            await lane.poll(max_records=1, max_wait_ms=1_000)


@pytest.mark.timeout(600)
async def test_a_topic_first_met_while_the_broker_is_away_costs_the_lane_and_not_the_host(
    kafka_store: KafkaStore, kafka_broker: DevKafka, names: Names
) -> None:
    # Transactions are given up within the outage, whatever waits for what.
    log = await kafka_store.log(outage_timeout_ms=300_000, transaction_timeout_ms=10_000)
    source, written, kept = names.topic(), names.topic(), names.topic()
    await (await kafka_store.log()).ensure_topics([source, written, kept], partitions=1)
    await publish(await kafka_store.log(), kept.name, numbered(3))
    found: list[bytes | None] = []

    async def write(lane: Lane) -> None:
        lane.append(written.name, key=b"k", value=b"v", timestamp_ms=1)
        await lane.commit({})

    async def read(lane: Lane) -> None:
        found.clear()
        async for batch in lane.replay(kept.name):
            found.extend(record.value for record in batch)

    async def write_one_batch(lane: Lane) -> None:
        lane.append(source.name, key=b"k", value=b"v", timestamp_ms=1)
        await lane.commit({})

    async def write_many_batches(lane: Lane) -> None:
        for number in range(40):
            lane.append(source.name, key=b"k", value=bytes(100_000), timestamp_ms=number)
        await lane.commit({})

    servers = [Strangers(write), Strangers(read), Strangers(write_one_batch), Strangers(write_many_batches)]
    async with contextlib.AsyncExitStack() as stack:
        for server in servers:
            host = log.lanes(group=names.group(), inputs=[source.name])
            await stack.enter_async_context(running(host, server))
        await asyncio.gather(*(server.waiting.wait() for server in servers))
        async with stopped(kafka_broker):
            for server in servers:
                server.go.set()
            await wait_until_async(lambda: all(server.ends for server in servers), DEADLINE_S, "all lanes to be lost")
        await wait_until_async(
            lambda: all(server.ends[-1] is None for server in servers), DEADLINE_S, "all to have their topic"
        )
    assert [server.ends[0] for server in servers] == [CommitFailed, LaneLost, CommitFailed, CommitFailed]
    assert await values(log, written.name) == [b"v"]
    assert found == [b"0", b"1", b"2"]


async def test_a_connection_that_goes_while_it_is_written_to_is_made_anew(
    kafka_store: KafkaStore, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As uvloop tells it: by an error that is none of the library's."""
    log = await kafka_store.log()
    topic = names.topic()
    await log.ensure_topics([topic], partitions=1)
    publisher = await log.publisher()
    await publisher.publish([NewRecord(topic.name, b"k", b"before", 1)])

    def gone(_: bytes) -> None:
        raise RuntimeError("unable to perform operation; the handler is closed")

    clients = [publisher._producer.client, log._reached()._alive_admin()._client]
    broken = [connection for client in clients for connection in client._conns.values()]
    for connection in broken:
        monkeypatch.setattr(connection._writer, "write", gone)
    await publisher.publish([NewRecord(topic.name, b"k", b"after", 1)])
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(KafkaError):
                await log._reached().refresh()
                break
    assert broken
    assert not any(connection.connected() for connection in broken)
    assert await values(log, topic.name) == [b"before", b"after"]
    await publisher.close()


async def test_a_producer_whose_watch_on_the_cluster_has_failed_is_closed_all_the_same(kafka_store: KafkaStore) -> None:
    log = await kafka_store.log()
    producer = await log._reached().publishing_producer()

    async def fail() -> None:
        raise RuntimeError("a bug of the library")

    connections = list(producer.client._conns.values())
    producer.client._sync_task.cancel()
    producer.client._sync_task = asyncio.ensure_future(fail())
    await kafka_log._close(producer)
    assert connections
    assert not any(connection.connected() for connection in connections)
