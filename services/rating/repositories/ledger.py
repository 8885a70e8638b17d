"""The ledger's tables: offsets, usage, movements, buckets, refusals, and the sums over them."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, Select, case, cast, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from schemas.topics import USAGE
from services.rating.bookings import Batch, Booking, Refused, Row, bucket_changes, duplicate
from services.rating.models import buckets, ledger_offsets, movements, refused_usage, sponsorships, usage

IDS_PER_QUERY = 500
"""Both databases limit the parameters of one statement."""

ROWS_PER_FETCH = 2_000
"""Rows held in memory while all of them are streamed."""

_BUCKET_KEYS = uuid.UUID("6d0e4a4e-1f5a-4c69-9a51-5b0f1f0c2f3e")


class OffsetsMoved(Exception):  # noqa: N818 - a state of affairs
    """Another ledger has booked from these partitions meanwhile; nothing of this transaction may stay."""


class Booked(NamedTuple):
    """What a transaction did: rows by kind, refusals by cause."""

    rows: Mapping[str, int]
    refused: Mapping[str, int]


def insert_into(connection: Connection, table: Any) -> Any:
    """An INSERT that knows ON CONFLICT, for the database at hand."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def begin_partitions(connection: Connection, topic: str, beginnings: Mapping[int, int]) -> None:
    """Give every partition that has no offset yet its first one."""
    rows = [
        {"topic": topic, "partition": partition, "next_offset": offset, "booked_until_ms": 0}
        for partition, offset in sorted(beginnings.items())
    ]
    if rows:
        connection.execute(insert_into(connection, ledger_offsets).on_conflict_do_nothing(), rows)


def next_offsets(connection: Connection, topic: str) -> dict[int, int]:
    """Next offset to book, per partition."""
    query = select(ledger_offsets.c.partition, ledger_offsets.c.next_offset).where(ledger_offsets.c.topic == topic)
    return {row.partition: row.next_offset for row in connection.execute(query)}


def advance(
    connection: Connection, topic: str, moves: Mapping[int, tuple[int, int]], booked_until_ms: Mapping[int, int]
) -> None:
    """Move each partition from one offset to the next, compare-and-set. First statement of a booking.

    On PostgreSQL it waits for a rival's transaction and then sees its result. Raises OffsetsMoved.
    """
    table = ledger_offsets
    for partition, (found, following) in sorted(moves.items()):
        until = booked_until_ms.get(partition, 0)
        moved = connection.execute(
            update(table)
            .where(table.c.topic == topic, table.c.partition == partition, table.c.next_offset == found)
            .values(
                next_offset=following,
                booked_until_ms=case((table.c.booked_until_ms < until, until), else_=table.c.booked_until_ms),
            )
        )
        if moved.rowcount != 1:
            raise OffsetsMoved(f"partition {partition} of {topic} is no longer at offset {found}")


def book(connection: Connection, topic: str, batch: Batch) -> Booked:
    """Store the batch; a usage id that is already there is refused, with its movements.

    Raises Collision when a rival books one of its usage ids from another partition at this very moment.
    """
    known = _known_digests(connection, list(batch.bookings))
    bookings = [booking for usage_id, booking in batch.bookings.items() if usage_id not in known]
    if bookings:
        connection.execute(usage.insert(), [booking.usage for booking in bookings])
    rows = [movement for booking in bookings for movement in booking.movements]
    if rows:
        connection.execute(movements.insert(), rows)
        _move_buckets(connection, bookings)
    paid = [sponsorship for booking in bookings for sponsorship in booking.sponsorships]
    if paid:
        connection.execute(sponsorships.insert(), paid)
    refused = batch.refused + [
        duplicate(batch.bookings[usage_id], same=digest == batch.bookings[usage_id].usage["digest"])
        for usage_id, digest in known.items()
    ]
    keep_refused(connection, topic, refused, batch.booked_at_ms)
    return Booked(_count(booking.usage["kind"] for booking in bookings), _count(item.cause for item in refused))


def _known_digests(connection: Connection, usage_ids: Sequence[str]) -> dict[str, bytes]:
    """Digests of the records that are booked already. One that a rival books meanwhile makes the INSERT collide."""
    digests: dict[str, bytes] = {}
    for ids in _chunks(usage_ids):
        query = select(usage.c.usage_id, usage.c.digest).where(usage.c.usage_id.in_(ids))
        digests.update({row.usage_id: row.digest for row in connection.execute(query)})
    return digests


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + IDS_PER_QUERY] for at in range(0, len(ids), IDS_PER_QUERY))


def _move_buckets(connection: Connection, bookings: Iterable[Booking]) -> None:
    rows = [
        {"account_id": account, "bucket_id": bucket, "unit": unit, "bucket_key": bucket_key(account, bucket, unit)}
        | change
        for (account, bucket, unit), change in sorted(bucket_changes(bookings).items())
    ]
    statement = insert_into(connection, buckets)
    new, old = statement.excluded, buckets.c
    granted = new.granted.is_not(None)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["account_id", "bucket_id", "unit"],
            set_={
                "remaining": func.exact_add(old.remaining, new.remaining),
                "granted": func.coalesce(new.granted, old.granted),
                "valid_from_ms": case((granted, new.valid_from_ms), else_=old.valid_from_ms),
                "valid_until_ms": case((granted, new.valid_until_ms), else_=old.valid_until_ms),
                "offering_id": func.coalesce(new.offering_id, old.offering_id),
                "currency": func.coalesce(new.currency, old.currency),
                "catalogue_version": new.catalogue_version,
                "changed_at_ms": new.changed_at_ms,
            },
        ),
        rows,
    )


def bucket_key(account_id: str, bucket_id: str, unit: str) -> str:
    """The bucket's id for the outside: ids may hold any character, a URL segment may not."""
    return str(uuid.uuid5(_BUCKET_KEYS, "\0".join((account_id, bucket_id, unit))))


def keep_refused(connection: Connection, topic: str, refused: Sequence[Refused], at_ms: int) -> None:
    """Keep records of `topic` that were not booked, whole, so that somebody can look into them."""
    rows: list[Row] = [
        {
            "topic": topic,
            "partition": item.partition,
            "offset": item.offset,
            "cause": item.cause,
            "detail": item.detail.replace("\x00", "\\0"),
            "usage_id": item.usage_id,
            "record_key": item.key,
            "value": item.value,
            "refused_at_ms": at_ms,
        }
        for item in refused
    ]
    if rows:
        connection.execute(insert_into(connection, refused_usage).on_conflict_do_nothing(), rows)


class BucketSum(NamedTuple):
    """Sum of all movements of one bucket: what it must hold."""

    account_id: str
    bucket_id: str
    unit: str
    amount: int


class UsageSum(NamedTuple):
    """Sums of the usage rows of one account, kind, category and treatment."""

    account_id: str
    subscriber_id: str
    kind: str
    category: str | None
    treatment: str | None
    currency: str | None
    rows: int
    record_count: int
    octets: int
    charged_octets: int
    free_octets: int
    sponsored_octets: int
    blocked_octets: int
    not_charged_octets: int
    amount_micros: int


class BookedRow(NamedTuple):
    """One booked usage row, as much of it as a reconciliation needs."""

    usage_id: str
    account_id: str
    kind: str
    charged_octets: int
    free_octets: int
    sponsored_octets: int
    blocked_octets: int
    not_charged_octets: int
    amount_micros: int
    currency: str | None


def booked_rows(connection: Connection) -> Iterator[BookedRow]:
    """Every booked row, streamed, in no order."""
    query = select(*(usage.c[name] for name in BookedRow._fields))
    streaming = connection.execution_options(stream_results=True, yield_per=ROWS_PER_FETCH)
    return (BookedRow(*row) for row in streaming.execute(query))


def bucket_sums(connection: Connection) -> Iterator[BucketSum]:
    """Σ movements per bucket, ordered; computed from the movements, not from the running balances."""
    keys = (movements.c.account_id, movements.c.bucket_id, movements.c.unit)
    query = select(*keys, func.exact_sum(movements.c.amount)).group_by(*keys).order_by(*keys)
    return (BucketSum(*row) for row in connection.execute(query))


def bucket_balances(connection: Connection) -> Iterator[BucketSum]:
    """The running balance per bucket, ordered: must equal `bucket_sums`."""
    keys = (buckets.c.account_id, buckets.c.bucket_id, buckets.c.unit)
    return (BucketSum(*row) for row in connection.execute(select(*keys, buckets.c.remaining).order_by(*keys)))


class SponsoredSum(NamedTuple):
    """What one campaign has to pay for, and how much of that from its budget: refunds are off already."""

    campaign_id: str
    octets: int
    budget_octets: int
    refunded_octets: int = 0
    """What it got back."""
    connections: int = 0


def sponsored_sums(connection: Connection) -> list[SponsoredSum]:
    """Σ booked sponsorships less Σ refunded ones, per campaign, ordered."""
    columns = sponsorships.c
    counted = cast(func.sum(columns.connections), BigInteger)
    sums = (func.exact_sum(columns.octets), func.exact_sum(columns.budget_octets), counted)
    query = select(columns.campaign_id, usage.c.kind, *sums).join(usage, usage.c.usage_id == columns.usage_id)
    keys = (columns.campaign_id, usage.c.kind)
    found: dict[str, SponsoredSum] = {}
    rows = connection.execute(query.group_by(*keys).order_by(*keys))
    for campaign_id, kind, octets, budget_octets, connections in rows:
        paid, sign = found.get(campaign_id, SponsoredSum(campaign_id, 0, 0)), -1 if kind == "refund" else 1
        found[campaign_id] = SponsoredSum(
            campaign_id,
            paid.octets + sign * octets,
            paid.budget_octets + sign * budget_octets,
            paid.refunded_octets + (octets if kind == "refund" else 0),
            paid.connections + sign * connections,
        )
    return list(found.values())


class SponsorRefund(NamedTuple):
    """A row of the ledger by which a campaign got something back."""

    campaign_id: str
    usage_id: str
    corrects: str
    cause: str
    octets: int
    rated_at_ms: int
    connections: int = 0


def sponsor_refunds(connection: Connection, account_id: str) -> list[SponsorRefund]:
    """What campaigns got back for one account, oldest first, each with the row that was wrong and the cause."""
    rows, paid = usage.c, sponsorships.c
    query = (
        select(
            paid.campaign_id, rows.usage_id, rows.corrects, rows.cause, paid.octets, rows.rated_at_ms, paid.connections
        )
        .join(usage, rows.usage_id == paid.usage_id)
        .where(rows.account_id == account_id, rows.kind == "refund")
        .order_by(rows.rated_at_ms, rows.usage_id, paid.campaign_id)
    )
    return [SponsorRefund(*row) for row in connection.execute(query)]


def usage_sums(connection: Connection) -> Iterator[UsageSum]:
    """Σ usage rows per account, subscriber, kind, category, treatment and currency, ordered."""
    columns = usage.c
    keys = (
        columns.account_id, columns.subscriber_id, columns.kind, columns.category, columns.treatment, columns.currency,
    )  # fmt: skip
    counts = (func.count(), cast(func.sum(columns.record_count), BigInteger))
    names = (
        "octets", "charged_octets", "free_octets", "sponsored_octets", "blocked_octets", "not_charged_octets",
        "amount_micros",
    )  # fmt: skip
    sums = (func.exact_sum(columns[name]) for name in names)
    query = select(*keys, *counts, *sums).group_by(*keys).order_by(*keys)
    return (UsageSum._make(row) for row in connection.execute(query))


def refused_counts(connection: Connection) -> dict[str, int]:
    """Refused usage records by cause."""
    table = refused_usage.c
    query = select(table.cause, func.count()).where(table.topic == USAGE).group_by(table.cause)
    return {row[0]: row[1] for row in connection.execute(query)}


def booked_until_ms(connection: Connection, topic: str, partition: int | None = None) -> int:
    """Time up to which everything that was emitted is booked: in one partition, or in all of them. 0 = nothing yet."""
    query: Select[Any] = select(func.min(ledger_offsets.c.booked_until_ms)).where(ledger_offsets.c.topic == topic)
    if partition is not None:
        query = query.where(ledger_offsets.c.partition == partition)
    return connection.scalar(query) or 0


def partition_count(connection: Connection, topic: str) -> int:
    """Partitions of the topic that the ledger knows of."""
    query = select(func.count()).select_from(ledger_offsets).where(ledger_offsets.c.topic == topic)
    return connection.scalar(query) or 0


def _count(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts
