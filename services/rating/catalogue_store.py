"""Publishing the catalogue: the version is stored and what changed goes to the workers, in one transaction."""

from typing import NamedTuple

import msgspec

from schemas.catalogue import CATALOGUE_VERSION, Catalogue, CatalogueEntry
from schemas.topics import CATALOGUE
from services.engine.feed import KINDS, changes, entries_of, marker_of
from services.rating.clock import Clock, wall_clock_ms
from services.rating.database import Connection, Engine, reading, writing
from services.rating.repositories import accounts, outbox
from services.rating.repositories import catalogue as shelf
from services.rating.repositories.catalogue import StoredObject, StoredVersion
from services.rating.repositories.outbox import OutboxRecord

_encode = msgspec.json.Encoder(order="deterministic").encode


class CatalogueRefused(Exception):  # noqa: N818 - a state of affairs
    """The catalogue cannot be published; the message names the version, the rule and the next step."""


class Publication(NamedTuple):
    """What a publication did. `changed` counts the objects announced; 0 when the version was in force already."""

    version: str
    changed: int


def publish_catalogue(
    engine: Engine, catalogue: Catalogue, *, replacing: str | None = None, clock: Clock = wall_clock_ms
) -> Publication:
    """Put a version in force: store it, and announce what differs from the one before.

    Publishing the version that is in force again changes nothing. Raises CatalogueRefused for a version name that was
    already used, for another currency than accounts have, or when `replacing` is given and another version is in force;
    and DatabaseDown.
    """
    *entries, marker = entries_of(catalogue)
    with writing(engine) as connection:
        shelf.lock(connection)
        before = shelf.current(connection)
        wanted = (catalogue.version, marker.body["digest"], catalogue.min_confidence, catalogue.currency)
        if before is not None and (before.version, before.digest, before.min_confidence, before.currency) == wanted:
            return Publication(catalogue.version, 0)
        if replacing is not None and (before is None or before.version != replacing):
            raise CatalogueRefused(
                f"catalogue version {before.version if before else None!r} is in force, not {replacing!r} any more; "
                "look at the differences again"
            )
        _refuse_used_name(connection, catalogue.version)
        _refuse_other_currency(connection, before, catalogue)
        at_ms = clock()
        records = [
            _record(key, entry)
            for key, entry in changes(_entries(connection, before) if before else (), [*entries, marker])
        ]
        outbox.put(connection, records, at_ms=at_ms)
        shelf.store(
            connection,
            name=catalogue.version,
            currency=catalogue.currency,
            digest=marker.body["digest"],
            min_confidence=catalogue.min_confidence,
            at_ms=at_ms,
            stored=[StoredObject(entry.kind, entry.entry_key.partition("/")[2], entry.body) for entry in entries],
        )
    outbox.ring(engine)
    return Publication(catalogue.version, len(records) - 1)


def announce_catalogue(engine: Engine, *, clock: Clock = wall_clock_ms) -> int:
    """Put every entry of the version in force into the outbox again, e.g. for a new, empty log; returns how many."""
    with writing(engine) as connection:
        shelf.lock(connection)
        version = shelf.current(connection)
        if version is None:
            return 0
        entries = [*_entries(connection, version), _marker(version)]
        outbox.put(connection, [_record(entry.entry_key, entry) for entry in entries], at_ms=clock())
    outbox.ring(engine)
    return len(entries)


def stored_catalogue(engine: Engine, version: str | None = None) -> Catalogue | None:
    """A stored version as a Catalogue, the one in force by default; None if there is none."""
    with reading(engine) as connection:
        found = shelf.current(connection) if version is None else shelf.version(connection, version)
        if found is None:
            return None
        objects = shelf.objects(connection, found.version)
    parts: dict[str, list[object]] = {part: [] for part in KINDS.values()}
    for item in objects:
        parts[KINDS[item.kind]].append(item.body)
    settings = {"version": found.version, "currency": found.currency, "min_confidence": found.min_confidence}
    return Catalogue.model_validate({**settings, **parts})


def _refuse_used_name(connection: Connection, name: str) -> None:
    used = shelf.version(connection, name)
    if used is not None:
        raise CatalogueRefused(
            f"catalogue version {name!r} was already published with other content or has been replaced since; "
            "versions never change, so give this one a new name"
        )


def _refuse_other_currency(connection: Connection, before: StoredVersion | None, catalogue: Catalogue) -> None:
    """Balances, totals and caps of accounts are numbers of the currency they began with; nothing converts them."""
    if before is not None and before.currency != catalogue.currency and accounts.exist(connection):
        raise CatalogueRefused(
            f"currency: {catalogue.currency} is not {before.currency}, which the balances of accounts are in; "
            f"publish amounts in {before.currency}, or serve {catalogue.currency} from an installation of its own"
        )


def _entries(connection: Connection, version: StoredVersion) -> list[CatalogueEntry]:
    return [
        CatalogueEntry(
            version=CATALOGUE_VERSION,
            entry_key=f"{item.kind}/{item.object_id}",
            kind=item.kind,  # type: ignore[arg-type]
            body=item.body,
        )
        for item in shelf.objects(connection, version.version)
    ]


def _marker(version: StoredVersion) -> CatalogueEntry:
    return marker_of(version.version, version.currency, version.digest, version.min_confidence)


def _record(key: str, entry: CatalogueEntry | None) -> OutboxRecord:
    return OutboxRecord(CATALOGUE, key.encode(), None if entry is None else _encode(entry))
