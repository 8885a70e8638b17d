"""From records of `ott.usage.v1` to rows for the ledger. Pure: the bytes in, rows and refusals out.

Whatever could stop the database from taking a row is refused here, so that no single record can block the rest.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from schemas.topics import USAGE
from schemas.units import parse_micros
from schemas.usage import USAGE_VERSION, Movement, RatedUsage
from services.runtime.log import LogRecord

BIGGEST_LONG = 2**63 - 1
BIGGEST_WHOLE = 10**36
"""Amounts of one record are smaller, so that sums of very many still fit what the database keeps exactly."""

_MAJOR = USAGE_VERSION.partition(".")[0]

_SAME = (
    "usage_id", "kind", "account_id", "subscriber_id", "source_topic", "first_offset", "last_offset", "ordinal",
    "start_ms", "end_ms", "rated_at_ms", "catalogue_version", "category", "application", "service", "rule_id",
    "rating_group", "treatment", "product_id", "offering_id", "sponsor_id", "record_count", "octets", "charged_octets",
    "free_octets", "sponsored_octets", "blocked_octets", "not_charged_octets", "currency", "price_id",
    "price_octets_from", "price_octets_to", "evidence", "cause", "corrects", "timed_octets", "connections",
    "circumstances", "price_offering_id",
)  # fmt: skip
"""Columns that are named like the fields they hold."""

_WHOLE = re.compile(r"-?[0-9]{1,36}")

_LONGS = ("partition", "first_offset", "last_offset", "ordinal", "rating_group", "record_count", "connections")
_WHOLES = (
    "octets", "charged_octets", "free_octets", "sponsored_octets", "blocked_octets", "not_charged_octets",
    "price_octets_from", "price_octets_to", "timed_octets",
)  # fmt: skip

Row = dict[str, Any]

RefusedCause = Literal["duplicate", "conflict", "malformed", "unknown_version"]
"""Why a record is not booked. Only a duplicate is as it should be; `conflict`: its id is another row's."""


class Booking(NamedTuple):
    """One usage record as rows."""

    usage: Row
    movements: list[Row]
    sponsorships: list[Row]
    grants: Mapping[tuple[str, str], Movement]
    """The last grant per (bucket id, unit)."""
    key: bytes | None
    value: bytes


class Refused(NamedTuple):
    """A record that was not booked, with its cause."""

    partition: int
    offset: int
    cause: RefusedCause
    detail: str
    usage_id: str | None
    key: bytes | None
    value: bytes | None


@dataclasses.dataclass
class Batch:
    """What one transaction books: rows in the order of the log, keyed by usage id, and what was refused."""

    booked_at_ms: int
    bookings: dict[str, Booking] = dataclasses.field(default_factory=dict)
    refused: list[Refused] = dataclasses.field(default_factory=list)
    rated_until_ms: dict[int, int] = dataclasses.field(default_factory=dict)
    """Latest emission time per log partition."""


class _MalformedError(ValueError):
    """The field, the value, the rule and the next step."""


class _UnknownVersionError(_MalformedError):
    """A major version that this code does not know."""


class _Peek(msgspec.Struct):
    version: str


_decode = msgspec.json.Decoder(RatedUsage).decode
_peek = msgspec.json.Decoder(_Peek).decode


def gather(polled: Mapping[int, Sequence[LogRecord]], *, booked_at_ms: int) -> Batch:
    """The batch of the records of one poll, per partition of the usage topic."""
    batch = Batch(booked_at_ms)
    for partition, records in sorted(polled.items()):
        for record in records:
            _add(batch, partition, record)
    return batch


def duplicate(booking: Booking, *, same: bool) -> Refused:
    """The refusal of a record whose usage id is already in the ledger, with the same content or with another."""
    row = booking.usage
    place = row["log_partition"], row["log_offset"]
    if same:
        detail = "the same record is already booked; nothing is to be done"
        return Refused(*place, "duplicate", detail, row["usage_id"], booking.key, None)
    detail = "another record is booked under this usage id; compare the two and book a correction"
    return Refused(*place, "conflict", detail, row["usage_id"], booking.key, booking.value)


def _add(batch: Batch, partition: int, record: LogRecord) -> None:
    try:
        usage = _read(record.value)
        booking = _book(usage, partition, record, batch.booked_at_ms)
    except _UnknownVersionError as error:
        batch.refused.append(_refusal(partition, record, "unknown_version", error))
        return
    except _MalformedError as error:
        batch.refused.append(_refusal(partition, record, "malformed", error))
        return
    earlier = batch.bookings.setdefault(usage.usage_id, booking)
    if earlier is not booking:
        same = earlier.usage["digest"] == booking.usage["digest"]
        batch.refused.append(duplicate(booking, same=same))
    batch.rated_until_ms[partition] = max(batch.rated_until_ms.get(partition, 0), usage.rated_at_ms)


def _refusal(partition: int, record: LogRecord, cause: RefusedCause, error: Exception) -> Refused:
    return Refused(partition, record.offset, cause, str(error)[:1000], None, record.key, record.value)


def _read(value: bytes | None) -> RatedUsage:
    if value is None:
        raise _MalformedError(f"the record has no value; {USAGE} holds one RatedUsage a record")
    _check_version(value)
    try:
        usage = _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _MalformedError(f"not a RatedUsage of version {USAGE_VERSION}: {error}; see schemas/usage.py") from None
    _check_numbers(usage)
    if b"\\u0000" in value:
        _check_texts(usage)
    return usage


def _check_version(value: bytes) -> None:
    try:
        version = _peek(value).version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if version.partition(".")[0] != _MAJOR:
        raise _UnknownVersionError(
            f"version is {version[:20]!r}, this ledger knows {_MAJOR}.x; update the rating service"
        )


def _check_numbers(usage: RatedUsage) -> None:
    for names, bound in ((_LONGS, BIGGEST_LONG), (_WHOLES, BIGGEST_WHOLE - 1)):
        for name in names:
            number = getattr(usage, name)
            if number is not None and not 0 <= number <= bound:
                raise _MalformedError(f"{name} is {str(number)[:60]}; it lies between 0 and {bound}")


def _check_texts(usage: RatedUsage) -> None:
    texts = [(name, getattr(usage, name)) for name in _SAME]
    texts += [("movements.bucket_id", movement.bucket_id) for movement in usage.movements]
    texts += [("sponsorships.campaign_id", item.campaign_id) for item in usage.sponsorships]
    for name, text in texts:
        if isinstance(text, str) and "\x00" in text:
            raise _MalformedError(f"{name} holds a NUL character, which PostgreSQL cannot store; send printable text")


def _book(usage: RatedUsage, partition: int, record: LogRecord, booked_at_ms: int) -> Booking:
    value = record.value or b""
    row: Row = {name: getattr(usage, name) for name in _SAME}
    row.update(
        source_partition=usage.partition,
        amount_micros=_micros(usage.amount, "amount"),
        credit_micros=_micros(usage.credit_amount, "credit_amount"),
        log_partition=partition,
        log_offset=record.offset,
        digest=hashlib.blake2b(value, digest_size=16).digest(),
        booked_at_ms=booked_at_ms,
    )
    movements = [_movement(usage, number, movement) for number, movement in enumerate(usage.movements)]
    granted = usage.movements if usage.kind == "grant" else ()
    grants: dict[tuple[str, str], Movement] = {(item.bucket_id, item.unit): item for item in granted}
    return Booking(row, movements, _sponsorships(usage), grants, record.key, value)


def _movement(usage: RatedUsage, ordinal: int, movement: Movement) -> Row:
    return {
        "usage_id": usage.usage_id,
        "ordinal": ordinal,
        "account_id": usage.account_id,
        "bucket_id": movement.bucket_id,
        "unit": movement.unit,
        "amount": _whole(movement.amount, "movements.amount"),
        "remaining": _whole(movement.remaining, "movements.remaining"),
    }


def _sponsorships(usage: RatedUsage) -> list[Row]:
    """What each campaign paid for, once per campaign."""
    rows: dict[str, Row] = {}
    for item in usage.sponsorships:
        row = rows.setdefault(
            item.campaign_id,
            {
                "usage_id": usage.usage_id, "campaign_id": item.campaign_id, "octets": 0, "budget_octets": 0,
                "connections": 0,
            },
        )  # fmt: skip
        row["octets"] += item.octets
        row["budget_octets"] += item.budget_octets
        row["connections"] += item.connections
    if sum(max(row["octets"], row["budget_octets"]) for row in rows.values()) >= BIGGEST_WHOLE:
        raise _MalformedError(f"sponsorships add up to {BIGGEST_WHOLE} octets or more; send whole numbers below it")
    if sum(row["connections"] for row in rows.values()) > BIGGEST_LONG:
        raise _MalformedError(f"sponsorships add up to more than {BIGGEST_LONG} connections; send the number counted")
    return list(rows.values())


def _micros(text: str, name: str) -> int:
    try:
        return parse_micros(text)
    except ValueError as error:
        raise _MalformedError(f"{name}: {str(error)[:200]}") from None


def _whole(text: str, name: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise _MalformedError(f"{name} is {text[:60]!r}; write a whole number of at most 36 digits")
    return int(text)


def bucket_changes(bookings: Iterable[Booking]) -> dict[tuple[str, str, str], Row]:
    """What the bookings change per (account, bucket, unit): the sum of the movements, and the last grant."""
    changes: dict[tuple[str, str, str], Row] = {}
    for booking in bookings:
        for movement in booking.movements:
            at = (movement["account_id"], movement["bucket_id"], movement["unit"])
            change = changes.setdefault(at, {"remaining": 0, **_nothing_granted()})
            change["remaining"] += movement["amount"]
            _describe(change, booking, movement)
    return changes


def _nothing_granted() -> Row:
    return dict.fromkeys(("granted", "valid_from_ms", "valid_until_ms", "offering_id", "currency"))


def _describe(change: Row, booking: Booking, movement: Row) -> None:
    usage = booking.usage
    change["changed_at_ms"] = usage["rated_at_ms"]
    change["catalogue_version"] = usage["catalogue_version"]
    change["product_id"] = movement["bucket_id"].rpartition("/")[0] or None
    change["offering_id"] = usage["offering_id"] or change["offering_id"]
    change["currency"] = usage["currency"] or change["currency"]
    if grant := booking.grants.get((movement["bucket_id"], movement["unit"])):
        change.update(
            granted=movement["amount"], valid_from_ms=grant.valid_from_ms, valid_until_ms=grant.valid_until_ms
        )
