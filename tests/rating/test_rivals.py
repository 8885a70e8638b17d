"""Several writers at once, and processes that die: what is stored stays exact and in order."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
from sqlalchemy import select

from schemas.command import ChangeProfile
from schemas.topics import BY_NAME, USAGE
from services.rating.accounts import submit
from services.rating.bookings import gather
from services.rating.database import again_after_collision, reading, writing
from services.rating.ledger import booked_offsets, bucket_sums, refused_counts, usage_sums
from services.rating.models import accounts
from services.rating.repositories import ledger as books
from services.rating.repositories import outbox
from services.rating.repositories.ledger import BucketSum
from services.runtime.embedded_log import EmbeddedLog
from services.runtime.log import NewRecord
from tests.rating.fakes import FakeRecord
from tests.rating.usage_records import encoded, moved, rated
from tests.waiting import wait_until_async

DEADLINE_S = 100
ROOT = Path(__file__).parents[2]


def _at_once(*works):
    failures = []

    def run(work):
        try:
            work()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_one_usage_id_on_two_partitions_is_booked_once_by_two_ledgers_at_once(engine, settings, monkeypatch):
    both_have_looked = threading.Barrier(2)
    look = books._known_digests

    def look_and_wait(*arguments):
        found = look(*arguments)
        # On SQLite a writer is alone, so nobody comes; then the first one goes on.
        with contextlib.suppress(threading.BrokenBarrierError):
            both_have_looked.wait(timeout=0.2)
        return found

    monkeypatch.setattr(books, "_known_digests", look_and_wait)
    with writing(engine) as connection:
        books.begin_partitions(connection, USAGE, {0: 0, 1: 0})

    def book(partition):
        batch = gather({partition: [FakeRecord(0, 0, b"acc-1", encoded(rated()))]}, booked_at_ms=1)

        def once():
            with writing(engine) as connection:
                books.advance(connection, USAGE, {partition: (0, 1)}, {})
                books.book(connection, USAGE, batch)

        again_after_collision(once)

    _at_once(lambda: book(0), lambda: book(1))
    assert bucket_sums(engine) == [BucketSum("acc-1", "prod-1/stream", "octets", -1000)]
    assert refused_counts(engine) == {"duplicate": 1}
    assert booked_offsets(engine) == {0: 1, 1: 1}


def test_two_ledgers_on_two_partitions_lose_no_movement_of_a_shared_bucket(engine):
    with writing(engine) as connection:
        books.begin_partitions(connection, USAGE, {0: 0, 1: 0})

    def book(partition):
        for at in range(20):
            record = rated(at, partition=partition, movements=(moved("main", 1, 0, "micros"),))
            batch = gather({partition: [FakeRecord(at, 0, b"acc-1", encoded(record))]}, booked_at_ms=1)
            with writing(engine) as connection:
                books.advance(connection, USAGE, {partition: (at, at + 1)}, {})
                books.book(connection, USAGE, batch)

    _at_once(lambda: book(0), lambda: book(1))
    with reading(engine) as connection:
        assert list(books.bucket_balances(connection)) == bucket_sums(engine)
    assert bucket_sums(engine) == [BucketSum("acc-1", "main", "micros", 40)]


def test_the_last_command_in_the_outbox_is_the_profile_that_is_stored(engine):
    def change(number):
        command = ChangeProfile(
            version="1.0", command_id=f"c-{number}", account_id="acc-1", issued_at_ms=1, cycle_day=number
        )
        submit(engine, [command])

    _at_once(*(lambda number=number: change(number) for number in range(1, 13)))
    sent = []
    while batch := outbox.oldest(engine):
        sent += [msgspec.json.decode(item.value)["cycle_day"] for item in batch]
        outbox.remove(engine, [item.id for item in batch])
    assert sorted(sent) == list(range(1, 13))
    with reading(engine) as connection:
        assert connection.scalar(select(accounts.c.cycle_day)) == sent[-1]


def test_the_same_command_sent_by_many_at_once_is_taken_once(engine):
    command = ChangeProfile(version="1.0", command_id="c", account_id="acc-1", issued_at_ms=1)
    taken = []
    _at_once(*(lambda: taken.append(submit(engine, [command])) for _ in range(8)))
    assert sorted(taken) == [0] * 7 + [1]
    assert outbox.count(engine) == 1


LEDGER = """
import asyncio
from prometheus_client import CollectorRegistry
from services.rating import ledger
from services.rating.database import open_database
from services.rating.metrics import RatingMetrics
from services.runtime.embedded_log import EmbeddedLog
from services.runtime.settings import load_settings

async def main():
    settings = load_settings()
    log = EmbeddedLog(settings)
    await log.start()
    await ledger.Ledger(
        engine=open_database(settings), log=log, settings=settings, metrics=RatingMetrics(CollectorRegistry())
    ).run()

asyncio.run(main())
"""


async def test_a_ledger_that_is_killed_again_and_again_books_each_record_once(engine, settings, tmp_path):
    count, kills = 3_000, 4
    log = EmbeddedLog(settings)
    await log.start()
    await log.ensure_topics([BY_NAME[USAGE]], partitions=3)
    publisher = await log.publisher()
    await publisher.publish(
        [NewRecord(USAGE, b"acc-%d" % (number % 50), encoded(_usage(number)), 1) for number in range(count)]
    )
    reader = await log.reader(USAGE)
    ends = await reader.end_offsets()
    environment = {
        "PATH": os.environ["PATH"], "SMARTPIPE_DATA_DIR": settings.data_dir, "SMARTPIPE_LEDGER_BATCH_RECORDS": "40",
        "SMARTPIPE_DATABASE_URL": settings.database_url,
    }  # fmt: skip

    def booked():
        return sum(booked_offsets(engine).values())

    for kill in range(1, kills + 1):
        process = _start_ledger(environment)
        try:
            goal = count * kill // kills
            await wait_until_async(lambda goal=goal: booked() >= goal, DEADLINE_S, f"{goal} booked records")
        finally:
            process.kill()
            process.wait()
    assert booked_offsets(engine) == ends
    await reader.close()
    await publisher.close()
    await log.close()
    assert refused_counts(engine) == {}
    assert sum(item.rows for item in usage_sums(engine)) == count
    assert sum(item.amount for item in bucket_sums(engine)) == -sum(range(count))


def _start_ledger(environment):
    return subprocess.Popen([sys.executable, "-c", LEDGER], env=environment, cwd=ROOT)


def _usage(number):
    return rated(number, account_id=f"acc-{number % 50}", movements=(moved("p/data", -number, 0),))
