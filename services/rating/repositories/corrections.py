"""What was ordered to be corrected, and the rows of the ledger that corrections are about."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, case, func, select

from services.engine.reclassify import CAUSE as RECLASSIFIED
from services.rating.models import buckets, corrections, refused_commands, usage

MAX_ROWS = 10_000
"""Most rows that one look brings."""

Row = dict[str, Any]


class TooManyRows(Exception):  # noqa: N818 - a state of affairs
    """More rows than one look brings, so that a sum of them would be wrong."""


class Stretch(NamedTuple):
    """Rows of usage to look for: by account and event time, start inclusive, end exclusive; None = any."""

    account_id: str
    from_ms: int
    until_ms: int
    application: str | None = None
    category: str | None = None


def row(connection: Connection, usage_id: str) -> Row | None:
    """One row of the ledger."""
    found = connection.execute(select(usage).where(usage.c.usage_id == usage_id)).mappings().first()
    return None if found is None else dict(found)


def rows(connection: Connection, wanted: Stretch) -> list[Row]:
    """Rows of usage in event order; at most MAX_ROWS."""
    table = usage.c
    query = select(usage).where(
        table.account_id == wanted.account_id,
        table.kind == "usage",
        table.start_ms >= wanted.from_ms,
        table.start_ms < wanted.until_ms,
    )
    for column, value in ((table.application, wanted.application), (table.category, wanted.category)):
        if value is not None:
            query = query.where(column == value)
    order = (table.start_ms, table.rated_at_ms, table.source_partition, table.first_offset, table.ordinal)
    return [dict(found) for found in connection.execute(_first(query, *order)).mappings()]


def rows_of(
    connection: Connection, account_id: str, kinds: Sequence[str], span: tuple[int, int] | None = None
) -> list[Row]:
    """Rows of an account and of some kinds, all or those that began within `span`. Raises TooManyRows."""
    table = usage.c
    query = select(usage).where(table.account_id == account_id, table.kind.in_(kinds))
    if span is not None:
        query = query.where(table.start_ms >= span[0], table.start_ms < span[1])
    found = [dict(item) for item in connection.execute(query.limit(MAX_ROWS + 1)).mappings()]
    if len(found) > MAX_ROWS:
        raise TooManyRows(f"{account_id!r} has more than {MAX_ROWS} rows of {', '.join(kinds)} there")
    return found


def bucket_ends(connection: Connection, account_id: str) -> dict[tuple[str, str], int | None]:
    """When the bucket granted last under each id and unit ends, or has ended."""
    table = buckets.c
    query = select(table.bucket_id, table.unit, table.valid_until_ms).where(table.account_id == account_id)
    return {(item.bucket_id, item.unit): item.valid_until_ms for item in connection.execute(query)}


def ordered(connection: Connection, account_id: str) -> list[Row]:
    """What was ordered for an account, oldest first, each with its `state`.

    `booked` once the ledger holds its rows; `refused` when the lane would not do it, with `cause`, `detail` and
    `refused_at_ms`; else `pending`.
    """
    booked = select(usage.c.usage_id).where(
        usage.c.corrects == corrections.c.usage_id, usage.c.cause == corrections.c.command_id
    )
    refused = refused_commands.c
    # A refused command that was published again may have been carried out after all: then the ledger is right.
    state = case((booked.exists(), "booked"), (refused.command_id.is_not(None), "refused"), else_="pending")
    query = (
        select(corrections, state.label("state"), refused.cause, refused.detail, refused.refused_at_ms)
        .outerjoin(refused_commands, refused.command_id == corrections.c.command_id)
        .where(corrections.c.account_id == account_id)
    )
    order = (corrections.c.ordered_at_ms, corrections.c.usage_id, corrections.c.number)
    return [dict(found) for found in connection.execute(query.order_by(*order)).mappings()]


def reclassified(connection: Connection, account_id: str) -> int:
    """How many flows of the account the lane itself has corrected, as far as it is booked."""
    table = usage.c
    conditions = (table.account_id == account_id, table.kind == "refund", table.cause == RECLASSIFIED)
    return connection.scalar(select(func.count()).where(*conditions)) or 0


def late(connection: Connection, account_id: str | None) -> list[Row]:
    """Rows of flows that came too late to be charged and are not settled, newest first; at most MAX_ROWS."""
    table = usage.c
    settled = usage.alias()
    query = select(usage).where(
        table.cause == "late", table.kind == "usage", table.treatment == "not_charged",
        ~select(settled.c.usage_id).where(settled.c.corrects == table.usage_id).exists(),
    )  # fmt: skip
    if account_id is not None:
        query = query.where(table.account_id == account_id)
    return [dict(found) for found in connection.execute(_first(query, table.end_ms.desc(), table.usage_id)).mappings()]


def add(connection: Connection, found: Sequence[Row]) -> None:
    """Note what is ordered. Raises Collision when somebody orders a correction of the same row at this very moment."""
    connection.execute(corrections.insert(), list(found))


def _first(query: Any, *order: Any) -> Any:
    return query.order_by(*order).limit(MAX_ROWS)
