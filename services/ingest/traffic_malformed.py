"""Records that must end as dead letters: one maker for each way in which a record can be broken."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

from schemas.dead_letter import DeadLetterCause

MalformedKind = Literal[
    "not_json", "wrong_type", "missing_field", "negative_octets", "huge_octets", "bad_utf8", "oversized",
    "unknown_version", "end_before_start", "null_key", "wrong_key",
]  # fmt: skip

EXPECTED_CAUSES: dict[MalformedKind, DeadLetterCause] = {
    "not_json": "not_json",
    "wrong_type": "invalid_field",
    "missing_field": "invalid_field",
    "negative_octets": "invalid_field",
    "huge_octets": "invalid_field",
    "bad_utf8": "bad_utf8",
    "oversized": "too_large",
    "unknown_version": "unknown_version",
    "end_before_start": "end_before_start",
    "null_key": "null_key",
    "wrong_key": "key_mismatch",
}
"""Each malformed kind and the cause that its dead letter has to name, in the order in which they are generated."""

MALFORMED_KINDS: tuple[MalformedKind, ...] = tuple(EXPECTED_CAUSES)


class Broken(NamedTuple):
    """Key and value of a broken record."""

    key: bytes | None
    value: bytes


def break_record(kind: MalformedKind, *, key: bytes, value: bytes, oversized_octets: int) -> Broken:
    """A good record, broken in the way of `kind`; the rest of it stays as it was."""
    if kind == "null_key":
        return Broken(None, value)
    if kind == "wrong_key":
        return Broken(b"not-" + key, value)
    if kind == "not_json":
        return Broken(key, value[: len(value) // 2])
    if kind == "bad_utf8":
        return Broken(key, _edited(value, exporter_id="probe-?").replace(b"probe-?", b"probe-\xff\xfe"))
    if kind == "oversized":
        return Broken(key, _edited(value, padding="x" * oversized_octets))
    return Broken(key, msgspec.json.encode(_EDITS[kind](msgspec.json.decode(value))))


_EDITS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "wrong_type": lambda fields: {**fields, "octets_up": "many"},
    "missing_field": lambda fields: {name: value for name, value in fields.items() if name != "record_id"},
    "negative_octets": lambda fields: {**fields, "octets_down": -1},
    "unknown_version": lambda fields: {**fields, "version": "9.0"},
    "end_before_start": lambda fields: {**fields, "start_ms": fields["end_ms"] + 1},
    # JSON has no largest number, but the encoder does: the text is put in by hand.
    "huge_octets": lambda fields: {**fields, "octets_down": msgspec.Raw(str(2**70).encode())},
}


def _edited(value: bytes, **changes: object) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(value), **changes})
