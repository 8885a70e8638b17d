"""The outbox: nothing committed is lost, nothing uncommitted is published, order holds, one relay at a time."""

import asyncio
import contextlib

import pytest
from prometheus_client import CollectorRegistry

from schemas.topics import CATALOGUE, COMMANDS
from services.rating.database import DatabaseDown, open_database, writing
from services.rating.metrics import RatingMetrics
from services.rating.outbox import OutboxRelay
from services.rating.repositories import outbox
from services.rating.repositories.outbox import OutboxRecord, RelayLock
from tests.rating.fakes import FakeLog, FakePublisher
from tests.waiting import wait_until_async

DEADLINE_S = 100


@contextlib.asynccontextmanager
async def relaying(engine, log, settings, **changes):
    relay = _relay(engine, log, settings, **changes)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        relay.stop()
        await task


def _relay(engine, log, settings, **changes):
    return OutboxRelay(
        engine=engine,
        log=log,
        settings=settings.model_copy(update={"outbox_poll_ms": 10, **changes}),
        metrics=RatingMetrics(CollectorRegistry()),
    )


def _put(engine, *values, key=b"acc-1", topic=COMMANDS):
    with writing(engine) as connection:
        outbox.put(connection, [OutboxRecord(topic, key, value) for value in values], at_ms=1)


def _published(log, topic=COMMANDS):
    return [record.value for records in log.lists(topic) for record in records]


async def _emptied(engine):
    await wait_until_async(lambda: outbox.count(engine) == 0, DEADLINE_S, "the outbox to be empty")


async def test_records_are_published_in_order_and_forgotten(engine, settings):
    log = FakeLog(partitions=1)
    values = [str(number).encode() for number in range(50)]
    _put(engine, *values)
    async with relaying(engine, log, settings):
        await _emptied(engine)
        _put(engine, b"late")
        await _emptied(engine)
    assert _published(log) == [*values, b"late"]


async def test_a_tombstone_goes_out_as_one(engine, settings):
    log = FakeLog()
    _put(engine, None, key=b"offering/old", topic=CATALOGUE)
    async with relaying(engine, log, settings):
        await _emptied(engine)
    assert _published(log, CATALOGUE) == [None]


async def test_a_change_that_was_rolled_back_is_never_published(engine, settings):
    log = FakeLog()

    def fail():
        with writing(engine) as connection:
            outbox.put(connection, [OutboxRecord(COMMANDS, b"a", b"never")], at_ms=1)
            raise KeyError("the change fails")

    with pytest.raises(KeyError):
        fail()
    _put(engine, b"real")
    async with relaying(engine, log, settings):
        await _emptied(engine)
    assert _published(log) == [b"real"]


async def test_a_crash_before_forgetting_publishes_again_rather_than_never(engine, settings, monkeypatch):
    log = FakeLog(partitions=1)
    _put(engine, b"1", b"2")
    remove, crashes = outbox.remove, [True]

    def crash_once(*arguments):
        if crashes.pop() if crashes else False:
            raise KeyboardInterrupt("the process ends here")
        remove(*arguments)

    monkeypatch.setattr(outbox, "remove", crash_once)
    relay = _relay(engine, log, settings)
    with pytest.raises(KeyboardInterrupt):
        await relay._drain()
    assert _published(log) == [b"1", b"2"]
    assert outbox.count(engine) == 2
    async with relaying(engine, log, settings):
        await _emptied(engine)
    assert _published(log) == [b"1", b"2", b"1", b"2"]


async def test_an_outage_of_the_log_keeps_the_records_and_turns_readiness_red(engine, settings):
    log = FakeLog(partitions=1)
    log.down = True
    _put(engine, b"1")
    async with relaying(engine, log, settings) as relay:
        await wait_until_async(lambda: not relay.health().ok, DEADLINE_S, "red readiness")
        assert outbox.count(engine) == 1
        log.down = False
        await _emptied(engine)
        await wait_until_async(lambda: relay.health().ok, DEADLINE_S, "green readiness")
    assert _published(log) == [b"1"]


async def test_an_outage_of_the_database_is_waited_out(engine, settings, monkeypatch):
    log = FakeLog(partitions=1)
    oldest, outages = outbox.oldest, [1, 2]

    def flaky(*arguments):
        if outages:
            outages.pop()
            raise DatabaseDown("connection refused")
        return oldest(*arguments)

    monkeypatch.setattr(outbox, "oldest", flaky)
    _put(engine, b"1")
    async with relaying(engine, log, settings):
        await _emptied(engine)
    assert _published(log) == [b"1"]


async def test_a_ring_is_heard_long_before_the_next_look(engine, settings):
    log = FakeLog(partitions=1)
    async with relaying(engine, log, settings, outbox_poll_ms=60_000) as relay:
        await wait_until_async(lambda: relay.health().ok and outbox._bells.get(str(engine.url)), DEADLINE_S)
        other = open_database(settings)
        _put(other, b"1")
        await wait_until_async(lambda: outbox.ring(other) or outbox.count(other) == 0, DEADLINE_S, "the ring")
        other.dispose()


def test_one_relay_at_a_time_has_the_lock(engine, settings):
    rival = open_database(settings)
    first, second = RelayLock(engine), RelayLock(rival)
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()
    rival.dispose()


async def test_two_relays_publish_each_record_once_and_in_order(engine, settings):
    log = FakeLog(partitions=1)
    rival = open_database(settings)
    values = [str(number).encode() for number in range(300)]
    async with relaying(engine, log, settings), relaying(rival, log, settings):
        for at in range(0, 300, 30):
            _put(engine, *values[at : at + 30])
        await _emptied(engine)
    rival.dispose()
    assert _published(log) == values


def test_a_batch_repeats_no_account_more_often_than_a_lane_remembers(engine):
    _put(engine, *(str(number).encode() for number in range(30)))
    assert len(outbox.oldest(engine)) == outbox.MAX_PER_KEY


def test_a_batch_is_bounded_in_octets_and_a_large_record_travels_alone(engine, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_OCTETS", 100)
    for number, size in enumerate((60, 60, 500, 10)):
        _put(engine, b"x" * size, key=str(number).encode())
    sizes = []
    while batch := outbox.oldest(engine):
        sizes.append([len(item.value) for item in batch])
        outbox.remove(engine, [item.id for item in batch])
    assert sizes == [[60], [60], [500], [10]]


def test_a_record_that_its_topic_would_refuse_does_not_get_in(engine):
    with pytest.raises(ValueError, match="octets; at most"):
        _put(engine, b"x" * 9_000_000)
    assert outbox.count(engine) == 0


async def test_a_broken_publisher_is_replaced(engine, settings, monkeypatch):
    log = FakeLog(partitions=1)
    closed = []

    async def close(self):
        closed.append(self)

    monkeypatch.setattr(FakePublisher, "close", close)
    relay = _relay(engine, log, settings)
    _put(engine, b"1")
    await relay._drain()
    first = relay._publisher
    log.down = True
    _put(engine, b"2")
    with pytest.raises(Exception, match="fake log is down"):
        await relay._drain()
    log.down = False
    await relay._drain()
    assert closed == [first]
    assert _published(log) == [b"1", b"2"]
