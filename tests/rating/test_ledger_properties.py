"""Whatever arrives, in whatever batches and however often: each record counts once, and nothing is lost of a sum."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from schemas.topics import USAGE
from services.rating.bookings import gather
from services.rating.database import open_database, reading, writing
from services.rating.models import buckets, movements, refused_usage, usage
from services.rating.repositories import ledger as books
from tests.rating.conftest import DATABASES, fresh_settings
from tests.rating.fakes import FakeRecord
from tests.rating.usage_records import encoded, moved, rated

_examples = itertools.count()

amounts = st.integers(-(2**70), 2**70)
arrivals = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2), amounts), max_size=40)
"""(number of the record, bucket, amount): a number seen before is a duplicate, or a conflict if it differs."""


@pytest.fixture(scope="module", params=DATABASES)
def ledger(request, tmp_path_factory):
    with fresh_settings(request.param, request, tmp_path_factory.mktemp("properties")) as made:
        engine = open_database(made)
        yield engine
        engine.dispose()


@settings(max_examples=25, deadline=None)
@given(arrivals=arrivals, cuts=st.lists(st.integers(1, 7), max_size=40))
def test_each_record_counts_once_and_sums_are_exact(ledger, arrivals, cuts):
    account = f"acc-{next(_examples)}"
    records = [_record(account, *arrival) for arrival in arrivals]
    with writing(ledger) as connection:
        books.begin_partitions(connection, USAGE, {0: 0})
    for batch in _batches(records, cuts):
        _book(ledger, batch)
    first: dict[int, tuple[int, int, int]] = {}
    for arrival in arrivals:
        first.setdefault(arrival[0], arrival)
    wanted = Counter()
    for _, bucket, amount in first.values():
        wanted[f"p/{bucket}"] += amount
    assert _sums(ledger, account, movements.c.amount, movements) == wanted
    assert _sums(ledger, account, buckets.c.remaining, buckets) == wanted
    booked = _count(ledger, select(func.count()).where(usage.c.account_id == account))
    refused = _count(ledger, select(func.count()).where(refused_usage.c.usage_id.like(f"{account}!%")))
    assert (booked, refused) == (len(first), len(arrivals) - len(first))


def _record(account, number, bucket, amount):
    movement = moved(f"p/{bucket}", amount, 0)
    return encoded(rated(number, usage_id=f"{account}!{number}", account_id=account, movements=(movement,)))


def _batches(records, cuts):
    rest = iter(records)
    for size in (*cuts, len(records)):
        if batch := list(itertools.islice(rest, size)):
            yield batch


def _book(engine, values):
    with writing(engine) as connection:
        start = books.next_offsets(connection, USAGE)[0]
        books.advance(connection, USAGE, {0: (start, start + len(values))}, {})
        polled = [FakeRecord(start + at, 0, b"k", value) for at, value in enumerate(values)]
        books.book(connection, USAGE, gather({0: polled}, booked_at_ms=1))


def _sums(engine, account, column, table):
    query = select(table.c.bucket_id, func.exact_sum(column)).where(table.c.account_id == account)
    with reading(engine) as connection:
        return {row[0]: row[1] for row in connection.execute(query.group_by(table.c.bucket_id))}


def _count(engine, query):
    with reading(engine) as connection:
        return connection.scalar(query)
