"""Published versions of the catalogue and their objects. Old versions stay, so that old charges can be explained."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, text

from services.rating.models import catalogue_objects, catalogue_versions

CATALOGUE_LOCK = 0x534D_4152_5403
"""Key of the PostgreSQL advisory lock that lets one publication at a time go on."""


class StoredVersion(NamedTuple):
    """One published version; the highest sequence is the one in force."""

    sequence: int
    version: str
    currency: str
    digest: str
    published_at_ms: int
    min_confidence: int


class StoredObject(NamedTuple):
    """One object of a version, as it stood in the catalogue files."""

    kind: str
    object_id: str
    body: dict[str, Any]


def lock(connection: Connection) -> None:
    """Keep other publications out until the end of the transaction; on SQLite a writer is alone anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CATALOGUE_LOCK})


def current(connection: Connection) -> StoredVersion | None:
    """The version in force, or None before the first publication."""
    row = connection.execute(select(catalogue_versions).order_by(catalogue_versions.c.sequence.desc()).limit(1)).first()
    return None if row is None else StoredVersion(*row)


def version(connection: Connection, name: str) -> StoredVersion | None:
    """The version called `name`, or None."""
    row = connection.execute(select(catalogue_versions).where(catalogue_versions.c.version == name)).first()
    return None if row is None else StoredVersion(*row)


def objects(connection: Connection, version_name: str, kind: str | None = None) -> list[StoredObject]:
    """The objects of a version, of one kind or of all, ordered by kind and id."""
    table = catalogue_objects.c
    query = select(table.kind, table.object_id, table.body).where(table.version == version_name)
    if kind is not None:
        query = query.where(table.kind == kind)
    rows = connection.execute(query.order_by(table.kind, table.object_id))
    return [StoredObject(row.kind, row.object_id, json.loads(row.body)) for row in rows]


def find(connection: Connection, version_name: str, kind: str, object_id: str) -> dict[str, Any] | None:
    """One object of a version, or None."""
    table = catalogue_objects.c
    query = select(table.body).where(table.version == version_name, table.kind == kind, table.object_id == object_id)
    body = connection.scalar(query)
    return None if body is None else json.loads(body)


def store(
    connection: Connection, *, name: str, currency: str, digest: str, min_confidence: int, at_ms: int,
    stored: Iterable[StoredObject],
) -> None:  # fmt: skip
    """Add a version; it is in force from the end of the transaction."""
    connection.execute(
        catalogue_versions.insert().values(
            version=name, currency=currency, digest=digest, published_at_ms=at_ms, min_confidence=min_confidence
        )
    )
    rows = [
        {"version": name, "kind": item.kind, "object_id": item.object_id, "body": json.dumps(item.body)}
        for item in stored
    ]
    if rows:
        connection.execute(catalogue_objects.insert(), rows)


def version_names(connection: Connection) -> list[str]:
    """Every version ever published, oldest first."""
    return list(connection.scalars(select(catalogue_versions.c.version).order_by(catalogue_versions.c.sequence)))
