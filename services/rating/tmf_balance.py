"""TMF654 v4 documents: the buckets of the ledger."""

from typing import Any

from pydantic import Field

from schemas.catalogue import ProductOffering
from schemas.units import format_amount, format_micros, format_octets, format_seconds
from services.rating.documents import (
    Document,
    Quantity,
    Reference,
    TimePeriod,
    TmfModel,
    period,
    present,
    timestamp,
)

BASE = "/tmf-api/prepayBalanceManagement/v4"

MAIN_BALANCE = "main"
"""The bucket that holds money."""

NO_CURRENCY = "X" * 3
"""ISO 4217's code for "no currency": money whose currency no row has named yet."""

USAGE_TYPES = {"octets": "data", "micros": "monetary", "ms": "voice"}
"""TMF654's word for what a bucket holds, by the unit of its movements."""

Row = dict[str, Any]


class BucketDocument(TmfModel):
    """TMF654 Bucket, with the time up to which it is booked."""

    id: str
    href: str
    name: str
    description: str | None = None
    is_shared: bool = Field(description="Whether several subscribers draw from it.")
    remaining_value: Quantity
    remaining_value_name: str = Field(description="The same for people.")
    granted_value: Quantity | None = Field(None, description="The last grant. Ours, beyond TMF654.")
    status: str = Field(description="active or expired.")
    usage_type: str = Field(description="data, voice (time) or monetary.")
    valid_for: TimePeriod | None = None
    party_account: Reference
    product: tuple[Reference, ...] = ()
    related_party: tuple[Reference, ...] = ()
    booked_until: str | None = Field(
        None, description="Everything rated and emitted until then is in it. Ours, beyond TMF654."
    )
    base_type: str = Field(alias="@baseType")
    type: str = Field(alias="@type")


def bucket_document(
    row: Row,
    *,
    subscribers: list[str],
    offering: ProductOffering | None,
    booked_until_ms: int | None,
    now_ms: int,
) -> Document:
    """The bucket in `row` as TMF654 has it; `offering` is the one that granted it, if known."""
    name, description = bucket_names(row, offering)
    parties = [{"id": name, "role": "subscriber", "@referredType": "Individual"} for name in subscribers]
    product = {"id": row["product_id"], "name": offering.name if offering else None, "@referredType": "Product"}
    return present(
        {
            "id": row["bucket_key"],
            "href": f"{BASE}/bucket/{row['bucket_key']}",
            "name": name,
            "description": description,
            "isShared": len(subscribers) > 1,
            "remainingValue": quantity(row["remaining"], row["unit"], row["currency"]),
            "remainingValueName": value_text(row["remaining"], row["unit"], row["currency"]),
            "grantedValue": None if row["granted"] is None else quantity(row["granted"], row["unit"], row["currency"]),
            "status": "expired" if is_expired(row, now_ms) else "active",
            "usageType": USAGE_TYPES[row["unit"]],
            "validFor": period(row["valid_from_ms"], row["valid_until_ms"]),
            "partyAccount": {"id": row["account_id"], "name": row["account_id"]},
            "product": [present(product)] if row["product_id"] else [],
            "relatedParty": parties,
            "bookedUntil": None if booked_until_ms is None else timestamp(booked_until_ms),
            "@baseType": "Bucket",
            "@type": "BookedBucket",
        }
    )


def bucket_names(row: Row, offering: ProductOffering | None) -> tuple[str, str | None]:
    """Name and description of a bucket, for people."""
    bucket_id: str = row["bucket_id"]
    if bucket_id == MAIN_BALANCE:
        return "Main balance", "Money of the account."
    allowance_id = bucket_id.rpartition("/")[2]
    found = next((item for item in offering.allowances if item.id == allowance_id), None) if offering else None
    if offering is None or found is None:
        return bucket_id, None
    return found.name or found.id, f"Allowance {found.id!r} of {offering.name}."


def is_expired(row: Row, now_ms: int) -> bool:
    """Whether the bucket's end, which is exclusive, has come."""
    return row["valid_until_ms"] is not None and row["valid_until_ms"] <= now_ms


def quantity(amount: int, unit: str, currency: str | None) -> Document:
    """Octets as a number, seconds and money as exact decimal strings."""
    if unit == "octets":
        return {"amount": amount, "units": "octet"}
    if unit == "ms":
        return {"amount": format_seconds(amount), "units": "s"}
    return {"amount": format_micros(amount), "units": currency or NO_CURRENCY}


def value_text(amount: int, unit: str, currency: str | None) -> str:
    """The same for people."""
    if unit == "octets":
        return format_octets(amount)
    return format_amount(amount, "ms") if unit == "ms" else f"{format_micros(amount)} {currency or ''}".strip()
