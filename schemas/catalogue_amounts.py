"""Amounts and ids as people write them in the catalogue's files."""

from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from schemas.units import format_micros, parse_micros, parse_octets, parse_seconds


def _octets(value: object) -> object:
    return parse_octets(value) if isinstance(value, str) else value


def _seconds(value: object) -> object:
    return parse_seconds(value) if isinstance(value, str) else value


def _micros(value: object) -> object:
    return parse_micros(value) if isinstance(value, str) else value


MAX_AMOUNT_OCTETS = 2**60
MAX_AMOUNT_SECONDS = 10**12
MAX_AMOUNT_MICROS = 10**15
"""The largest volume (1 EiB), time (some 30 000 years) and price (1 000 000 000 units) of a catalogue: totals of them
still fit into 64 bits."""

OctetAmount = Annotated[int, Field(ge=0, le=MAX_AMOUNT_OCTETS, strict=True), BeforeValidator(_octets)]
"""Octets; files may write `5 GB`."""

SecondAmount = Annotated[int, Field(ge=0, le=MAX_AMOUNT_SECONDS, strict=True), BeforeValidator(_seconds)]
"""Seconds; files may write `60 min`."""

MoneyAmount = Annotated[
    int, Field(ge=0, le=MAX_AMOUNT_MICROS, strict=True), BeforeValidator(_micros),
    PlainSerializer(format_micros, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,6})?$"}, mode="serialization"),
]  # fmt: skip
"""Micro-units of the catalogue's currency inside; a decimal string such as `4.99` in files and on the wire."""

CatalogueId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]

AsNumber = Annotated[int, Field(ge=1, le=2**32 - 1, strict=True)]
"""Autonomous system number (RFC 6793)."""
