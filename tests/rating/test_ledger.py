"""The ledger loses nothing and books nothing twice, on SQLite and on PostgreSQL."""

import asyncio
import contextlib

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import event, select, text

from schemas.decision import Sponsorship
from schemas.topics import USAGE
from services.rating import ledger as module
from services.rating.database import DatabaseDown, open_database, reading
from services.rating.ledger import Ledger, booked_offsets, bucket_sums, refused_counts, usage_sums
from services.rating.metrics import RatingMetrics
from services.rating.models import movements, refused_usage, usage
from services.rating.patience import OutageTooLong
from services.rating.repositories import ledger as books
from services.rating.repositories.ledger import BucketSum, SponsoredSum, sponsored_sums
from services.rating.service import RatingService
from services.runtime.embedded_log import EmbeddedLog
from services.runtime.log import NewRecord, OffsetOutOfRange
from services.runtime.telemetry import new_registry
from tests.rating.conftest import DATABASES
from tests.rating.fakes import FakeLog
from tests.rating.usage_records import RATED_AT_MS, encoded, granted, moved, rated
from tests.waiting import wait_until_async

DEADLINE_S = 100
NOW_MS = RATED_AT_MS + 60_000


@pytest.fixture(autouse=True)
def always_watching(monkeypatch, quick_consumers):
    monkeypatch.setattr(module, "WATCH_INTERVAL_MS", 0)


@contextlib.asynccontextmanager
async def running(engine, log, settings, **changes):
    """A ledger at work; ends it, and shows what broke it."""
    ledger = _ledger(engine, log, settings, **changes)
    task = asyncio.create_task(ledger.run())
    try:
        yield ledger
    finally:
        ledger.stop()
        await task


def _ledger(engine, log, settings, **changes):
    return Ledger(
        engine=engine,
        log=log,
        settings=settings.model_copy(update=changes),
        metrics=RatingMetrics(CollectorRegistry()),
        clock=lambda: NOW_MS,
    )


async def _caught_up(engine, log):
    def done():
        ends = {
            partition: log.first_offsets.get((USAGE, partition), 0) + len(records)
            for partition, records in enumerate(log.lists(USAGE))
        }
        return booked_offsets(engine) == ends

    await wait_until_async(done, DEADLINE_S, "the ledger to reach the end of the log")


def _rows(engine, table):
    with reading(engine) as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def _ids(engine):
    return sorted(row["usage_id"] for row in _rows(engine, usage))


async def test_every_record_is_booked_once_with_its_movements(engine, settings):
    log = FakeLog()
    log.add(USAGE, b"acc-1", encoded(granted(5_000_000)))
    for number in range(30):
        log.add(USAGE, b"acc-1", encoded(rated(number)))
    async with running(engine, log, settings, ledger_batch_records=7):
        await _caught_up(engine, log)
    assert len(_ids(engine)) == 31
    assert bucket_sums(engine) == [BucketSum("acc-1", "prod-1/stream", "octets", 5_000_000 - 30_000)]
    [sums] = [item for item in usage_sums(engine) if item.kind == "usage"]
    assert (sums.rows, sums.record_count, sums.charged_octets, sums.amount_micros) == (30, 30, 30_000, 0)


async def test_what_campaigns_paid_for_is_booked_once_and_adds_up(engine, settings):
    log = FakeLog()
    paid = [
        [("spring", 600, 0, 4), ("cup", 300, 300, 2)],
        [("cup", 2**62, 7, 2**61), ("cup", 5, 0, 1)],
        [],
    ]
    for number, shares in enumerate(paid):
        sponsorships = tuple(
            Sponsorship(campaign_id=name, octets=octets, budget_octets=drawn, connections=ended)
            for name, octets, drawn, ended in shares
        )
        for _ in range(2):
            log.add(USAGE, b"acc-1", encoded(rated(number, sponsorships=sponsorships)))
    async with running(engine, log, settings):
        await _caught_up(engine, log)
    with reading(engine) as connection:
        assert sponsored_sums(connection) == [
            SponsoredSum("cup", 305 + 2**62, 307, connections=2**61 + 3), SponsoredSum("spring", 600, 0, connections=4),
        ]  # fmt: skip


async def test_a_row_keeps_every_field_of_its_record(engine, settings):
    log = FakeLog()
    record = rated(
        3, amount="1.25", currency="EUR", price_id="oob", price_octets_from=10, price_octets_to=2**65,
        service="video", sponsor_id="s", cause="why", octets=2**66, connections=7, credit_amount="0.75",
        circumstances="NR|eu||4|60", price_offering_id="plan",
    )  # fmt: skip
    log.add(USAGE, b"acc-1", encoded(record), partition=1)
    async with running(engine, log, settings):
        await _caught_up(engine, log)
    [row] = _rows(engine, usage)
    for name in ("usage_id", "application", "service", "price_octets_to", "octets", "evidence", "start_ms", "currency",
                 "connections", "circumstances", "price_offering_id"):  # fmt: skip
        assert row[name] == getattr(record, name), name
    assert (row["amount_micros"], row["log_partition"], row["log_offset"]) == (1_250_000, 1, 0)
    assert row["credit_micros"] == 750_000


async def test_a_restarted_ledger_goes_on_where_the_rows_end(engine, settings):
    log = FakeLog()
    for start in (0, 10):
        for number in range(start, start + 10):
            log.add(USAGE, b"acc-1", encoded(rated(number)))
        async with running(engine, log, settings):
            await _caught_up(engine, log)
    assert len(_ids(engine)) == 20
    assert refused_counts(engine) == {}


@pytest.mark.parametrize("breaks_at", ["INSERT INTO movements", "INSERT INTO buckets", "UPDATE ledger_offsets"])
async def test_a_crash_inside_the_transaction_leaves_neither_rows_nor_offset(engine, settings, breaks_at):
    log = FakeLog()
    partition = log.add(USAGE, b"acc-1", encoded(rated()))
    crashing = open_database(settings)

    def crash(_connection, _cursor, statement, *_rest):
        if statement.startswith(breaks_at):
            raise KeyboardInterrupt("the process ends here")

    event.listen(crashing, "after_cursor_execute", crash)
    ledger = _ledger(crashing, log, settings)
    polled = {partition: log.lists(USAGE)[partition]}
    ledger._begin(USAGE, {0: 0, 1: 0})
    with pytest.raises(KeyboardInterrupt):
        ledger._store(module.gather(polled, booked_at_ms=NOW_MS), {partition: (0, 1)})
    crashing.dispose()
    assert booked_offsets(engine) == {0: 0, 1: 0}
    assert (_rows(engine, usage), _rows(engine, movements)) == ([], [])
    async with running(engine, log, settings):
        await _caught_up(engine, log)
    assert len(_ids(engine)) == 1


async def test_two_ledgers_on_one_database_book_each_record_once(engine, settings):
    log = FakeLog()
    other = open_database(settings)
    async with (
        running(engine, log, settings, ledger_batch_records=3),
        running(other, log, settings, ledger_batch_records=5),
    ):
        for number in range(120):
            log.add(USAGE, b"acc-1" if number % 2 else b"acc-9", encoded(rated(number)))
            if number % 20 == 0:
                await _caught_up(engine, log)
        await _caught_up(engine, log)
    other.dispose()
    assert len(_ids(engine)) == 120
    assert bucket_sums(engine) == [BucketSum("acc-1", "prod-1/stream", "octets", -120_000)]
    assert refused_counts(engine) == {}


async def test_two_ledgers_that_hold_the_same_batch_cannot_both_book_it(engine, settings):
    log = FakeLog()
    log.add(USAGE, b"acc-1", encoded(rated()), partition=0)
    first, second = _ledger(engine, log, settings), _ledger(engine, log, settings)
    first._begin(USAGE, {0: 0, 1: 0})
    batch = module.gather({0: log.lists(USAGE)[0]}, booked_at_ms=NOW_MS)
    await asyncio.to_thread(first._store, batch, {0: (0, 1)})
    with pytest.raises(books.OffsetsMoved, match="no longer at offset 0"):
        await asyncio.to_thread(second._store, batch, {0: (0, 1)})
    assert len(_ids(engine)) == 1


async def test_a_duplicate_usage_id_is_refused_counted_and_moves_no_bucket(engine, settings):
    log = FakeLog()
    log.add(USAGE, b"acc-1", encoded(rated(0)), partition=0)
    async with running(engine, log, settings) as ledger:
        await _caught_up(engine, log)
        log.add(USAGE, b"acc-1", encoded(rated(0)), partition=0)
        log.add(USAGE, b"acc-1", encoded(rated(0)), partition=1)
        log.add(USAGE, b"acc-1", encoded(rated(0, octets=7)), partition=1)
        await _caught_up(engine, log)
        refused = ledger._metrics.ledger_refused.labels("duplicate")
        await wait_until_async(lambda: refused._value.get() == 2, DEADLINE_S, "both duplicates to be counted")
    assert bucket_sums(engine) == [BucketSum("acc-1", "prod-1/stream", "octets", -1000)]
    assert refused_counts(engine) == {"duplicate": 2, "conflict": 1}


async def test_malformed_usage_is_kept_and_does_not_hold_up_the_rest(engine, settings):
    log = FakeLog()
    log.add(USAGE, b"acc-1", b"not json", partition=0)
    log.add(USAGE, None, None, partition=0)
    log.add(USAGE, b"acc-1", encoded(rated(2)), partition=0)
    async with running(engine, log, settings):
        await _caught_up(engine, log)
    assert _ids(engine) == ["f-0-2-2-0"]
    kept = {row["offset"]: row for row in _rows(engine, refused_usage)}
    assert kept[0]["value"] == b"not json"
    assert (kept[0]["cause"], kept[1]["cause"], kept[1]["record_key"]) == ("malformed", "malformed", None)


async def test_the_running_balance_equals_the_sum_of_the_movements(engine, settings):
    log = FakeLog()
    for number in range(40):
        amount = -(2**62) if number % 3 else 2**64
        log.add(
            USAGE,
            b"k",
            encoded(rated(number, account_id=f"acc-{number % 5}", movements=(moved("main", amount, 0, "micros"),))),
            partition=number % 2,
        )
    async with running(engine, log, settings, ledger_batch_records=3):
        await _caught_up(engine, log)
    with reading(engine) as connection:
        assert list(books.bucket_balances(connection)) == bucket_sums(engine)
    assert sum(item.amount for item in bucket_sums(engine)) == 14 * 2**64 - 26 * 2**62


async def test_an_outage_of_the_database_is_waited_out_and_nothing_is_skipped(engine, settings, monkeypatch):
    log = FakeLog()
    away, refused = [True], []
    store = Ledger._store

    def flaky(self, batch, moves):
        if away:
            refused.append(moves)
            raise DatabaseDown("connection refused")
        return store(self, batch, moves)

    monkeypatch.setattr(Ledger, "_store", flaky)
    log.add(USAGE, b"acc-1", encoded(rated()))
    async with running(engine, log, settings) as ledger:
        # It stays away until red was seen: a pause between two attempts may be as short as it likes.
        red = "DatabaseDown: connection refused"
        await wait_until_async(lambda: ledger.health().detail == red and len(refused) > 2, DEADLINE_S, "red readiness")
        assert not ledger.health().ok
        away.clear()
        await _caught_up(engine, log)
        await wait_until_async(lambda: ledger.health().ok, DEADLINE_S, "green readiness")
    assert len(_ids(engine)) == 1


async def test_a_commit_that_got_through_unheard_is_not_booked_again(engine, settings, monkeypatch):
    log = FakeLog()
    store = Ledger._store
    calls = []

    def lost_answer(self, batch, moves):
        result = store(self, batch, moves)
        calls.append(moves)
        if len(calls) == 1:
            raise DatabaseDown("server closed the connection unexpectedly")
        return result

    monkeypatch.setattr(Ledger, "_store", lost_answer)
    log.add(USAGE, b"acc-1", encoded(rated()))
    async with running(engine, log, settings) as ledger:
        await _caught_up(engine, log)
        await wait_until_async(lambda: ledger.health().ok, DEADLINE_S, "recovery")
        log.add(USAGE, b"acc-1", encoded(rated(1)))
        await _caught_up(engine, log)
    assert len(_ids(engine)) == 2
    assert bucket_sums(engine) == [BucketSum("acc-1", "prod-1/stream", "octets", -2000)]


async def test_an_outage_that_outlasts_the_limit_stops_the_ledger_and_says_so(engine, settings, monkeypatch):
    monkeypatch.setattr("services.rating.patience.LONGEST_PAUSE_S", 0.02)
    log = FakeLog()
    log.down = True
    with pytest.raises(OutageTooLong, match=r"the fake log is down.*SMARTPIPE_OUTAGE_TIMEOUT_MS"):
        await asyncio.wait_for(_ledger(engine, log, settings, outage_timeout_ms=100).run(), DEADLINE_S)


async def test_records_that_retention_took_stop_the_ledger(engine, settings):
    log = FakeLog()
    for number in range(4):
        log.add(USAGE, b"acc-1", encoded(rated(number)), partition=0)
    async with running(engine, log, settings):
        await _caught_up(engine, log)
    log.add(USAGE, b"acc-1", encoded(rated(4)), partition=0)
    log.add(USAGE, b"acc-1", encoded(rated(5)), partition=0)
    log.forget(USAGE, 0, 5)
    with pytest.raises(OffsetOutOfRange):
        await _ledger(engine, log, settings).run()
    assert len(_ids(engine)) == 4


async def test_a_first_start_begins_at_the_beginning_of_the_log(engine, settings):
    log = FakeLog()
    for number in range(3):
        log.add(USAGE, b"acc-1", encoded(rated(number)), partition=0)
    log.forget(USAGE, 0, 1)
    async with running(engine, log, settings):
        await _caught_up(engine, log)
    assert _ids(engine) == ["f-0-1-1-0", "f-0-2-2-0"]


async def test_an_idle_partition_is_booked_until_the_last_look_at_its_end(engine, settings):
    log = FakeLog()
    async with running(engine, log, settings):

        def seen():
            with reading(engine) as connection:
                return books.booked_until_ms(connection, USAGE) == NOW_MS

        await wait_until_async(seen, DEADLINE_S, "the idle partitions to be noted")


@pytest.mark.parametrize("settings", DATABASES[1:], indirect=True)
async def test_connections_that_the_database_cuts_cost_no_record(engine, settings):
    log = FakeLog()
    cut = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
               " AND datname = current_database()")  # fmt: skip
    own = open_database(settings)
    async with running(own, log, settings, ledger_batch_records=5):
        for number in range(60):
            log.add(USAGE, b"acc-1", encoded(rated(number)))
            if number % 20 == 10:
                with engine.connect() as connection:
                    connection.execute(cut)
                await _caught_up(engine, log)
        await _caught_up(engine, log)
    own.dispose()
    assert len(_ids(engine)) == 60
    assert refused_counts(engine) == {}


async def test_the_embedded_log_is_booked_by_two_services_side_by_side(settings):
    logs = [EmbeddedLog(settings) for _ in range(2)]
    services = [RatingService(settings, log, new_registry()) for log in logs]
    for service in services:
        await service.start()
    engine = services[0].engine
    try:
        for service in services:
            await wait_until_async(lambda service=service: service.ledger.health().ok, DEADLINE_S, "both ledgers")
        publisher = await logs[0].publisher()
        for start in range(0, 200, 50):
            await publisher.publish(
                [NewRecord(USAGE, b"acc-%d" % (at % 7), encoded(rated(at)), 1) for at in range(start, start + 50)]
            )
            ends = await (await logs[0].reader(USAGE)).end_offsets()
            await wait_until_async(lambda ends=ends: booked_offsets(engine) == ends, DEADLINE_S, "all to be booked")
        await publisher.close()
        assert len(_ids(engine)) == 200
        assert refused_counts(engine) == {}
    finally:
        for service in services:
            await service.stop()
