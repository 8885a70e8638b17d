"""What an explanation is made of, gathered from the ledger's database: for the API and for the command line alike."""

from typing import Any

from services.rating.database import Connection
from services.rating.explain import Facts
from services.rating.explain_corrections import is_corrected_by
from services.rating.published import PublishedVersions
from services.rating.repositories import accounts, readings
from services.rating.repositories.readings import UsageFilter

Row = dict[str, Any]

MAX_CANDIDATES = 20
"""Rows among which one is asked to choose that holds a decision."""


def row_called(connection: Connection, usage_id: str) -> Row | None:
    """The row of the ledger with this id, or None."""
    page = readings.find_usage(connection, UsageFilter(usage_id=usage_id), offset=0, limit=1)
    return page.rows[0] if page.rows else None


def rows_around(connection: Connection, partition: int, offset: int) -> list[Row]:
    """Rows of usage that may hold the decision `<partition>-<offset>`, at most MAX_CANDIDATES.

    A row names the first and the last of its flow records; rows of several accounts and kinds of traffic interlock.
    """
    return readings.usage_around(connection, partition, offset, limit=MAX_CANDIDATES)


def facts_of(connection: Connection, published: PublishedVersions, row: Row) -> Facts:
    """Everything that the explanation of `row` is made of."""
    account_id = row["account_id"]
    products = accounts.products_of(connection, [account_id]).get(account_id, [])
    return Facts(
        row=row,
        movements=readings.movements_of(connection, [row["usage_id"]]).get(row["usage_id"], []),
        published=published.version(connection, row["catalogue_version"]),
        held=[product["offering_id"] for product in products if _held(product, row)],
        products={product["product_id"]: product["offering_id"] for product in products},
        command=accounts.command(connection, row["cause"]) if row["cause"] else None,
        booked_until_ms=readings.booked_until_ms(connection, account_id),
        corrections=[item for item in readings.corrections(connection, account_id) if is_corrected_by(row, item)],
        sponsorships=readings.sponsorships_of(connection, [row["usage_id"]]).get(row["usage_id"], []),
    )


def _held(product: Row, row: Row) -> bool:
    # A late flow is decided with what the account holds by then, so the beginning is held against the rating.
    ended = product["end_ms"] is not None and product["end_ms"] < row["start_ms"]
    return not ended and product["start_ms"] <= max(row["end_ms"], row["rated_at_ms"])
