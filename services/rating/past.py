"""A closed period of an account, by the ledger: what expired of its buckets, and what its totals came to."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from schemas.command import PastBucket, PastPeriod, PastTotal
from schemas.units import Unit, format_micros
from services.engine.purses import PAID
from services.engine.shares import share_id
from services.rating.database import Connection
from services.rating.repositories import accounts as files
from services.rating.repositories import catalogue as shelf
from services.rating.repositories import corrections as orders
from services.rating.repositories import readings

Row = dict[str, Any]


class UnclearTotals(Exception):  # noqa: N818 - a state of affairs
    """The ledger does not say what a total of the period came to."""


class _Moved(NamedTuple):
    """A grant or an expiry of one bucket."""

    row: Row
    bucket_id: str
    unit: Unit
    amount: int


def past_period(connection: Connection, row: Row, *, span: tuple[int, int]) -> PastPeriod:
    """What the account of `row` had when it happened; `span` is its billing cycle.

    Raises orders.TooManyRows, UnclearTotals.
    """
    account_id, at_ms = row["account_id"], row["start_ms"]
    products = [
        (item["product_id"], item["offering_id"])
        for item in files.products_of(connection, [account_id]).get(account_id, [])
        if item["start_ms"] <= at_ms and (item["end_ms"] is None or at_ms < item["end_ms"])
    ]
    return PastPeriod(
        products=tuple(products),
        buckets=tuple(_buckets(connection, account_id, dict(products), at_ms)),
        totals=tuple(_totals(connection, row, span, dict(products))),
    )


def _buckets(
    connection: Connection, account_id: str, products: dict[str, str], at_ms: int
) -> Iterator[PastBucket]:  # fmt: skip
    found = orders.rows_of(connection, account_id, ("grant", "expiry"))
    by_row = readings.movements_of(connection, [item["usage_id"] for item in found])
    moved = [
        _Moved(item, each["bucket_id"], each["unit"], each["amount"])
        for item in found
        for each in by_row.get(item["usage_id"], [])
        if each["unit"] != "micros" and each["bucket_id"].rpartition("/")[0] in products
    ]
    ends = orders.bucket_ends(connection, account_id)
    for bucket_id, unit in sorted({(item.bucket_id, item.unit) for item in moved}):
        mine = [item for item in moved if (item.bucket_id, item.unit) == (bucket_id, unit)]
        bucket = _bucket(mine, at_ms, ends.get((bucket_id, unit)))
        if bucket is not None:
            offering_id = products[bucket_id.rpartition("/")[0]]
            yield PastBucket(bucket_id=bucket_id, offering_id=offering_id, unit=unit, **bucket)


def _bucket(moved: list[_Moved], at_ms: int, last_end_ms: int | None) -> Row | None:
    """The bucket that was valid at `at_ms`; None where there was none, or where it is still the account's."""
    grants = [item for item in moved if item.row["kind"] == "grant"]
    begun = max((item.row["start_ms"] for item in grants if item.row["start_ms"] <= at_ms), default=None)
    if begun is None:
        return None
    # What late usage takes back of an expiry is an expiry of less than nothing, at the usage's own time.
    turns = [item for item in moved if item.row["kind"] == "grant" or item.amount < 0]
    ends = [item.row["start_ms"] for item in turns if item.row["start_ms"] > at_ms]
    is_last = not any(item.row["start_ms"] > begun for item in grants)
    end_ms = min(ends, default=last_end_ms if is_last else None)
    if end_ms is None or end_ms <= at_ms:
        return None
    expired = [item for item in moved if item.row["kind"] == "expiry"]
    left = sum(-item.amount for item in expired if item.amount < 0 and item.row["start_ms"] == end_ms)
    left -= sum(item.amount for item in expired if item.amount > 0 and begun <= item.row["start_ms"] < end_ms)
    granted = sum(item.amount for item in grants if item.row["start_ms"] == begun)
    remaining = max(0, min(left, granted))
    return {"remaining": remaining, "granted": granted, "valid_from_ms": begun, "valid_until_ms": end_ms}


def _totals(
    connection: Connection, wanted: Row, span: tuple[int, int], products: dict[str, str]
) -> Iterator[PastTotal]:  # fmt: skip
    octets, micros = Counter[str](), Counter[str]()
    found = orders.rows_of(connection, wanted["account_id"], ("usage", "refund"), span)
    movements = readings.movements_of(connection, [item["usage_id"] for item in found])
    sponsored = readings.sponsorships_of(connection, [item["usage_id"] for item in found])
    for row in found:
        sign = -1 if row["kind"] == "refund" else 1
        drawn = [item for item in movements.get(row["usage_id"], []) if item["unit"] != "micros"]
        micros[PAID] += row["credit_micros"]
        if row["price_id"] is not None and (row["octets"] or row["connections"]):
            name = f"price:{row['price_offering_id'] or _offering_of(connection, row, products)}/{row['price_id']}"
            octets[name] += sign * _sold(row, sign * sum(item["amount"] for item in drawn if item["unit"] == "octets"))
            micros[name] += row["amount_micros"]
        if row["subscriber_id"] != wanted["subscriber_id"]:
            continue
        for item in drawn:
            octets[share_id(item["bucket_id"], row["subscriber_id"])] -= item["amount"]
        for item in sponsored.get(row["usage_id"], []):
            octets[f"campaign:{item['campaign_id']}:{row['subscriber_id']}"] += sign * item["octets"]
    for name in sorted({*octets, *micros}):
        if octets[name] > 0 or micros[name] > 0:
            amount = format_micros(max(0, micros[name]))
            yield PastTotal(counter_id=name, octets=max(0, octets[name]), amount=amount)


def _sold(row: Row, moved: int) -> int:
    """Connections, or what is left of the charged octets after those that buckets of volume or of time paid for."""
    return int(row["connections"] or row["charged_octets"] - row["timed_octets"] + moved)


def _offering_of(connection: Connection, row: Row, products: dict[str, str]) -> str:
    """The offering that a price belonged to, for rows of before 1.2, which name the price only."""
    sellers = []
    for offering_id in sorted(set(products.values())):
        offering = shelf.find(connection, row["catalogue_version"], "offering", offering_id) or {}
        if any(price["id"] == row["price_id"] for price in offering.get("usage_prices", ())):
            sellers.append(offering_id)
    if len(sellers) > 1:
        name = f"{row['usage_id']!r} was sold at price {row['price_id']!r}, which {' and '.join(sellers)} have"
        raise UnclearTotals(f"{name}, and does not say whose it was")
    return sellers[0] if sellers else ""
