"""A small shop with an account, its products, and a ledger with a few rows."""

from schemas.command import ActivateProduct, ChangeProfile, Credit
from schemas.topics import COMMANDS, USAGE
from services.rating.accounts import submit
from services.rating.bookings import gather
from services.rating.catalogue_store import publish_catalogue
from services.rating.database import writing
from services.rating.repositories import ledger as books
from services.runtime.partitioning import partition_of
from tests.rating.catalogues import catalogue
from tests.rating.fakes import FakeRecord
from tests.rating.usage_records import RATED_AT_MS, encoded, granted, moved, rated

BOOKED_UNTIL_MS = RATED_AT_MS + 30_000
PARTITIONS = 2
PUBLISHED_AT_MS = 1_790_000_000_000


def seed(engine) -> None:
    """Catalogue v1; account acc-1 with sub-1 and sub-2; a grant, a draw, a priced flow, a blocked one, a top-up."""
    publish_catalogue(engine, catalogue(), clock=lambda: PUBLISHED_AT_MS)
    order_products(engine)
    book(
        engine,
        granted(5_000_000, number=10),
        rated(11, movements=(moved("prod-2/stream", -1_000, 4_999_000),)),
        priced(12),
        rated(13, application="whatsapp", category="voip_im", service="call", rule_id="no-voip-3g", treatment="blocked",
              charged_octets=0, blocked_octets=1000, movements=(), subscriber_id="sub-2"),
        topped_up(14),
    )  # fmt: skip


def priced(number: int):
    """Two megabytes beyond every bucket, priced from 9.5 to 11.5 MB of the cycle."""
    return rated(
        number, application=None, category="other", rule_id="general", rating_group=1, octets=2_000_000,
        charged_octets=2_000_000, currency="EUR", amount="0.02", price_id="oob", price_octets_from=9_500_000,
        price_octets_to=11_500_000, movements=(moved("main", -20_000, 19_980_000, "micros"),), evidence=None,
    )  # fmt: skip


def topped_up(number: int):
    """A credit by command."""
    return rated(
        number, usage_id=f"c-0-{number}-{number}-1", kind="credit", source_topic=COMMANDS, category=None,
        application=None, rule_id=None, rating_group=None, treatment=None, record_count=0, octets=0, charged_octets=0,
        currency="EUR", amount="-20", evidence=None, cause="credit-1", subscriber_id="acc-1",
        movements=(moved("main", 20_000_000, 39_980_000, "micros"),),
    )  # fmt: skip


def order_products(engine) -> None:
    common = {"version": "1.0", "account_id": "acc-1", "issued_at_ms": RATED_AT_MS - 86_400_000}
    submit(
        engine,
        [
            ChangeProfile(command_id="create", subscriber_ids=("sub-1", "sub-2"), **common),
            ActivateProduct(command_id="o-1", product_id="prod-1", offering_id="basic", **common),
            ActivateProduct(command_id="o-2", product_id="prod-2", offering_id="stream-pack", **common),
            Credit(command_id="credit-1", amount="20", **common),
        ],
    )


def book(engine, *records) -> None:
    """Book records as the ledger would, and note the time of the last look at the log's end."""
    partition = partition_of(b"acc-1", PARTITIONS)
    with writing(engine) as connection:
        books.begin_partitions(connection, USAGE, dict.fromkeys(range(PARTITIONS), 0))
        start = books.next_offsets(connection, USAGE)[partition]
        polled = [FakeRecord(start + at, 0, b"acc-1", encoded(record)) for at, record in enumerate(records)]
        moves = {partition: (start, start + len(records))}
        books.advance(connection, USAGE, moves, {partition: BOOKED_UNTIL_MS})
        books.book(connection, USAGE, gather({partition: polled}, booked_at_ms=RATED_AT_MS))
