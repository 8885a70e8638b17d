"""Shared parts of the TM Forum documents: names as in the published v4 files, money and times in one form everywhere.

The models describe the API; the builders beside them make plain dictionaries, and a test holds the two together.
Money and octets: TM Forum types both as a JSON number. Octets are one; money is a decimal string, because a reader
with binary floats would change it.
"""

import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from schemas.units import format_micros

Document = dict[str, Any]


class TmfModel(BaseModel):
    """A part of a TM Forum document."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class TmfError(BaseModel):
    """Error of the TM Forum APIs."""

    code: str = Field(description="One word for programs, e.g. INVALID_ARGUMENT.")
    reason: str = Field(description="One line for people.")
    message: str = Field(description="Field, value, rule and next step.")
    status: str = Field(description="HTTP status, as text.")


class Money(TmfModel):
    """An amount of money."""

    unit: str = Field(description="ISO 4217 code.", examples=["EUR"])
    value: str = Field(description="Exact decimal string.", examples=["4.99"])


class Quantity(TmfModel):
    """An amount in a unit."""

    amount: int | str = Field(description="Octets as a number; seconds and money as exact decimal strings.")
    units: str = Field(description="`octet`, `s` for seconds, or the ISO 4217 code.")


class TimePeriod(TmfModel):
    """A period; its end is exclusive, an open end is left out."""

    start_date_time: str | None = Field(None, description="RFC 3339, inclusive.")
    end_date_time: str | None = Field(None, description="RFC 3339, exclusive.")


class Reference(TmfModel):
    """A reference to something else."""

    id: str
    href: str | None = None
    name: str | None = None
    role: str | None = None
    referred_type: str | None = Field(None, alias="@referredType")


def timestamp(at_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds; times that no calendar holds are given as the last one."""
    at = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(milliseconds=min(at_ms, _LAST_MS))
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


_LAST_MS = 253_402_300_799_999


def period(from_ms: int | None, until_ms: int | None) -> Document:
    """A TimePeriod; an unknown start and an open end are left out."""
    found = {"startDateTime": from_ms, "endDateTime": until_ms}
    return {name: timestamp(at_ms) for name, at_ms in found.items() if at_ms is not None}


def money(micros: int, currency: str) -> Document:
    """A Money."""
    return {"unit": currency, "value": format_micros(micros)}


def present(document: Document) -> Document:
    """The document without the members that are None or empty lists or objects."""
    return {name: value for name, value in document.items() if value is not None and value not in ([], {})}
