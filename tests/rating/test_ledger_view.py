"""What the reconciliation reads is what the ledger booked."""

import pytest

from schemas.topics import USAGE
from services.rating import ledger as module
from services.rating.catalogue_store import publish_catalogue
from services.rating.database import writing
from services.rating.ledger_view import SqlLedgerView
from services.rating.repositories import ledger as books
from tests.rating.catalogues import catalogue
from tests.rating.fakes import FakeRecord
from tests.rating.usage_records import encoded, granted, rated


@pytest.fixture
def view(engine, monkeypatch):
    monkeypatch.setattr(books, "ROWS_PER_FETCH", 3)
    publish_catalogue(engine, catalogue())
    values = [encoded(granted(10_000, number=90)), b"junk"]
    values += [encoded(rated(number, amount="0.5", currency="EUR")) for number in range(8)]
    polled = {0: [FakeRecord(at, 0, b"acc-1", value) for at, value in enumerate(values)]}
    with writing(engine) as connection:
        books.begin_partitions(connection, USAGE, {0: 0, 1: 7})
        books.advance(connection, USAGE, {0: (0, 10)}, {})
        books.book(connection, USAGE, module.gather(polled, booked_at_ms=1))
    return SqlLedgerView(engine)


def test_every_row_is_streamed_with_its_octets_and_its_money(view):
    rows = sorted(view.rows())
    assert len(rows) == 9
    assert tuple(rows[1]) == ("f-0-0-0-0", "acc-1", "usage", 1000, 0, 0, 0, 0, 500_000, "EUR")


def test_offsets_totals_balances_and_versions_are_those_of_the_database(view):
    assert view.booked_offsets() == {0: 10, 1: 7}
    assert list(view.movement_totals()) == [("acc-1", "prod-1/stream", "octets", 2_000)]
    assert list(view.balances()) == list(view.movement_totals())
    assert view.catalogue_versions() == ["v1"]
    assert view.refused_counts() == {"malformed": 1}
