"""Accounts, their members, the products ordered for them, and the commands sent to their lanes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, or_, select

from services.rating.models import account_members, accounts, commands, products, refused_commands, usage
from services.rating.repositories.ledger import insert_into

PROFILE = ("currency", "payment", "time_zone", "cycle_day", "segment", "age_band", "consumption_level", "tier")
"""Profile columns, named like the fields of ChangeProfile."""

_IDS_PER_STATEMENT = 500

Row = dict[str, Any]


class RefusedCommand(NamedTuple):
    """A command that its lane did not carry out: the rule it broke, one word, and the lane's sentence."""

    command_id: str
    cause: str
    detail: str
    refused_at_ms: int


def lock(connection: Connection, ids: Iterable[str], *, at_ms: int) -> dict[str, Row]:
    """The accounts with these ids, created where new (`created` says so), locked until the end of the transaction.

    The lock keeps the outbox in the order in which the changes of one account are committed.
    """
    wanted = sorted(set(ids))
    known = {row["account_id"] for row in _accounts(connection, wanted)}
    new = [
        {"account_id": account_id, "created_at_ms": at_ms, "changed_at_ms": at_ms}
        for account_id in wanted
        if account_id not in known
    ]
    if new:
        connection.execute(insert_into(connection, accounts).on_conflict_do_nothing(), new)
    rows = _accounts(connection, wanted, lock=True)
    return {row["account_id"]: row | {"created": row["account_id"] not in known} for row in rows}


def exist(connection: Connection) -> bool:
    """Whether there is any account."""
    return connection.execute(select(accounts.c.account_id).limit(1)).first() is not None


def members(connection: Connection, ids: Iterable[str]) -> dict[str, list[str]]:
    """Subscriber ids per account."""
    found: dict[str, list[str]] = {}
    for chunk in _chunks(sorted(ids)):
        query = select(account_members).where(account_members.c.account_id.in_(chunk))
        for row in connection.execute(query.order_by(account_members.c.subscriber_id)):
            found.setdefault(row.account_id, []).append(row.subscriber_id)
    return found


def owners(connection: Connection, subscriber_ids: Iterable[str]) -> dict[str, str]:
    """Account per subscriber id, for those that belong to one."""
    found: dict[str, str] = {}
    for chunk in _chunks(sorted(subscriber_ids)):
        query = select(account_members).where(account_members.c.subscriber_id.in_(chunk))
        found.update({row.subscriber_id: row.account_id for row in connection.execute(query)})
    return found


def products_of(connection: Connection, ids: Iterable[str]) -> dict[str, list[Row]]:
    """Products ever ordered, per account, oldest first."""
    found: dict[str, list[Row]] = {}
    for chunk in _chunks(sorted(ids)):
        query = select(products).where(products.c.account_id.in_(chunk))
        for row in connection.execute(query.order_by(products.c.start_ms, products.c.product_id)).mappings():
            found.setdefault(row["account_id"], []).append(dict(row))
    return found


def commands_by_id(connection: Connection, ids: Iterable[str]) -> dict[str, str]:
    """Bodies of the commands that are stored already."""
    found: dict[str, str] = {}
    for chunk in _chunks(sorted(ids)):
        query = select(commands.c.command_id, commands.c.body).where(commands.c.command_id.in_(chunk))
        found.update({row.command_id: row.body for row in connection.execute(query)})
    return found


def command(connection: Connection, command_id: str) -> str | None:
    """Body of one command, or None."""
    return connection.scalar(select(commands.c.body).where(commands.c.command_id == command_id))


def keep_refused_commands(connection: Connection, found: Iterable[RefusedCommand]) -> list[RefusedCommand]:
    """Keep why lanes refused commands that were ordered here, the first time that they did; returns those kept."""
    first = {item.command_id: item for item in reversed(list(found))}
    ours = commands_by_id(connection, first)
    rows = [first[command_id] for command_id in sorted(ours)]
    if rows:
        statement = insert_into(connection, refused_commands).on_conflict_do_nothing()
        connection.execute(statement, [row._asdict() for row in rows])
    return rows


def find(connection: Connection, account_id: str) -> Row | None:
    """One account's profile, or None when it was never ordered here."""
    return next(iter(_accounts(connection, [account_id])), None)


def is_known(connection: Connection, account_id: str) -> bool:
    """Whether the account was created here or has usage in the ledger."""
    if find(connection, account_id) is not None:
        return True
    return connection.scalar(select(usage.c.usage_id).where(usage.c.account_id == account_id).limit(1)) is not None


def save(
    connection: Connection,
    *,
    profiles: Sequence[Row],
    member_lists: Mapping[str, Sequence[str]],
    product_rows: Sequence[Row],
    command_rows: Sequence[Row],
) -> None:
    """Store what a set of commands changed."""
    _save_profiles(connection, profiles)
    _save_members(connection, member_lists)
    if product_rows:
        statement = insert_into(connection, products)
        changed = {name: statement.excluded[name] for name in ("end_ms", "cancelled_by")}
        connection.execute(
            statement.on_conflict_do_update(index_elements=["account_id", "product_id"], set_=changed), product_rows
        )
    if command_rows:
        connection.execute(commands.insert(), command_rows)


def _accounts(connection: Connection, ids: Sequence[str], *, lock: bool = False) -> list[Row]:
    rows: list[Row] = []
    for chunk in _chunks(ids):
        query = select(accounts).where(accounts.c.account_id.in_(chunk)).order_by(accounts.c.account_id)
        rows += [dict(row) for row in connection.execute(query.with_for_update() if lock else query).mappings()]
    return rows


def _save_profiles(connection: Connection, profiles: Sequence[Row]) -> None:
    if not profiles:
        return
    statement = insert_into(connection, accounts)
    changed = {name: statement.excluded[name] for name in (*PROFILE, "changed_at_ms")}
    connection.execute(statement.on_conflict_do_update(index_elements=["account_id"], set_=changed), profiles)


def _save_members(connection: Connection, member_lists: Mapping[str, Sequence[str]]) -> None:
    for chunk in _chunks(sorted(member_lists)):
        connection.execute(delete(account_members).where(account_members.c.account_id.in_(chunk)))
    rows = [
        {"account_id": account_id, "subscriber_id": subscriber_id}
        for account_id, subscriber_ids in member_lists.items()
        for subscriber_id in subscriber_ids
    ]
    if rows:
        connection.execute(account_members.insert(), rows)


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + _IDS_PER_STATEMENT] for at in range(0, len(ids), _IDS_PER_STATEMENT))


def of_person(column: Any, id_: str) -> Any:
    """SQL condition: the account in `column` is `id_` itself, or `id_` is one of its subscribers."""
    theirs = select(account_members.c.account_id).where(account_members.c.subscriber_id == id_)
    return or_(column == id_, column.in_(theirs))
