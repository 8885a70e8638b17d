"""What the API reads of the ledger: buckets and usage, filtered, counted, in pages."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, or_, select

from schemas.topics import FLOWS, USAGE
from services.rating.models import account_members, buckets, movements, sponsorships, usage
from services.rating.repositories import ledger as books
from services.rating.repositories.accounts import of_person
from services.runtime.partitioning import partition_of

Row = dict[str, Any]


class Page(NamedTuple):
    """Some of the rows that fit, and how many fit in all."""

    rows: list[Row]
    total: int


class BucketFilter(NamedTuple):
    """Conditions on buckets; None = any."""

    bucket_key: str | None = None
    account_id: str | None = None
    person_id: str | None = None
    """An account or one of its subscribers."""
    product_id: str | None = None
    unit: str | None = None
    expired_before_ms: int | None = None
    """Only those whose end is not later."""
    alive_at_ms: int | None = None
    """Only those whose end is later, or open."""


class UsageFilter(NamedTuple):
    """Conditions on usage rows; None = any. Times are those of the first event of a row."""

    usage_id: str | None = None
    account_id: str | None = None
    person_id: str | None = None
    """An account, or the subscriber whose usage it was."""
    kind: str | None = None
    application: str | None = None
    category: str | None = None
    treatment: str | None = None
    product_id: str | None = None
    from_ms: int | None = None
    """Inclusive."""
    until_ms: int | None = None
    """Exclusive."""


def find_buckets(connection: Connection, wanted: BucketFilter, *, offset: int, limit: int) -> Page:
    """A page of buckets, ordered by account and bucket."""
    table = buckets.c
    query = _where(
        select(buckets),
        {
            table.bucket_key: wanted.bucket_key,
            table.account_id: wanted.account_id,
            table.product_id: wanted.product_id,
            table.unit: wanted.unit,
        },
    )
    if wanted.person_id is not None:
        query = query.where(of_person(table.account_id, wanted.person_id))
    if wanted.expired_before_ms is not None:
        query = query.where(table.valid_until_ms <= wanted.expired_before_ms)
    if wanted.alive_at_ms is not None:
        query = query.where(or_(table.valid_until_ms.is_(None), table.valid_until_ms > wanted.alive_at_ms))
    return _page(connection, query, (table.account_id, table.bucket_id, table.unit), offset, limit)


def find_usage(connection: Connection, wanted: UsageFilter, *, offset: int, limit: int) -> Page:
    """A page of usage rows, newest first."""
    table = usage.c
    query = _where(
        select(usage),
        {
            table.usage_id: wanted.usage_id,
            table.account_id: wanted.account_id,
            table.kind: wanted.kind,
            table.application: wanted.application,
            table.category: wanted.category,
            table.treatment: wanted.treatment,
            table.product_id: wanted.product_id,
        },
    )
    if wanted.person_id is not None:
        query = query.where(or_(table.account_id == wanted.person_id, table.subscriber_id == wanted.person_id))
    if wanted.from_ms is not None:
        query = query.where(table.start_ms >= wanted.from_ms)
    if wanted.until_ms is not None:
        query = query.where(table.start_ms < wanted.until_ms)
    return _page(connection, query, (table.end_ms.desc(), table.usage_id), offset, limit)


def usage_around(connection: Connection, partition: int, offset: int, *, limit: int) -> list[Row]:
    """Usage rows of flow records of one partition, from a first to a last one between which `offset` lies."""
    table = usage.c
    query = select(usage).where(
        table.source_topic == FLOWS, table.source_partition == partition, table.kind == "usage",
        table.first_offset <= offset, table.last_offset >= offset,
    )  # fmt: skip
    order = (table.last_offset - table.first_offset, table.usage_id)
    return [dict(row) for row in connection.execute(query.order_by(*order).limit(limit)).mappings()]


def corrections(connection: Connection, account_id: str) -> list[Row]:
    """All rows of an account that correct others, oldest first."""
    table = usage.c
    query = select(usage).where(table.account_id == account_id, table.corrects.is_not(None))
    order = (table.rated_at_ms, table.log_partition, table.log_offset)
    return [dict(row) for row in connection.execute(query.order_by(*order)).mappings()]


def movements_of(connection: Connection, usage_ids: Sequence[str]) -> dict[str, list[Row]]:
    """Movements per usage row, in the order in which they happened."""
    found: dict[str, list[Row]] = {}
    query = select(movements).where(movements.c.usage_id.in_(usage_ids))
    for row in connection.execute(query.order_by(movements.c.usage_id, movements.c.ordinal)).mappings():
        found.setdefault(row["usage_id"], []).append(dict(row))
    return found


def sponsorships_of(connection: Connection, usage_ids: Sequence[str]) -> dict[str, list[Row]]:
    """What campaigns paid for, or got back, per usage row."""
    found: dict[str, list[Row]] = {}
    query = select(sponsorships).where(sponsorships.c.usage_id.in_(usage_ids))
    for row in connection.execute(query.order_by(sponsorships.c.usage_id, sponsorships.c.campaign_id)).mappings():
        found.setdefault(row["usage_id"], []).append(dict(row))
    return found


def subscribers_of(connection: Connection, account_ids: Sequence[str]) -> dict[str, list[str]]:
    """Subscribers per account, ordered."""
    found: dict[str, list[str]] = {}
    query = select(account_members).where(account_members.c.account_id.in_(account_ids))
    for row in connection.execute(query.order_by(account_members.c.subscriber_id)):
        found.setdefault(row.account_id, []).append(row.subscriber_id)
    return found


def booked_until_ms(connection: Connection, account_id: str) -> int | None:
    """Time up to which everything that was rated and emitted for the account is booked; None before the first look."""
    partitions = books.partition_count(connection, USAGE)
    if not partitions:
        return None
    return books.booked_until_ms(connection, USAGE, partition_of(account_id.encode(), partitions)) or None


def _where(query: Select[Any], equal: Mapping[Any, object]) -> Select[Any]:
    for column, value in equal.items():
        if value is not None:
            query = query.where(column == value)
    return query


def _page(connection: Connection, query: Select[Any], order: Sequence[Any], offset: int, limit: int) -> Page:
    total = connection.scalar(select(func.count()).select_from(query.subquery())) or 0
    rows = connection.execute(query.order_by(*order).offset(offset).limit(limit)).mappings() if limit else ()
    return Page([dict(row) for row in rows], total)
