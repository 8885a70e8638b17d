"""TMF635 v4 documents: the rows of the ledger as rated usage."""

from typing import Any

from pydantic import Field

from schemas.units import format_micros, format_octets
from services.rating.documents import (
    Document,
    Money,
    Reference,
    TmfModel,
    money,
    present,
    timestamp,
)

BASE = "/tmf-api/usageManagement/v4"

Row = dict[str, Any]

_PAID_BY_A_BUNDLE = {"charged", "free", "sponsored"}

_OCTETS = ("octets", "charged_octets", "free_octets", "sponsored_octets", "blocked_octets", "not_charged_octets")
_WORDS = (
    "category", "application", "service", "treatment", "rule_id", "rating_group", "sponsor_id", "price_id",
    "catalogue_version", "record_count", "cause", "corrects", "circumstances", "price_offering_id",
)  # fmt: skip


class UsageCharacteristic(TmfModel):
    """A named value of the usage."""

    name: str
    value_type: str
    value: Any


class RatedProductUsage(TmfModel):
    """What the usage cost."""

    rating_date: str
    rating_amount_type: str = Field(description="Total: the whole row.")
    usage_rating_tag: str | None = Field(None, description="`included usage`, or `non included usage` when priced.")
    is_billed: bool
    tax_excluded_rating_amount: Money | None = Field(None, description="As priced; tax is not computed here.")
    product_ref: Reference | None = None


class UsageDocument(TmfModel):
    """TMF635 Usage."""

    id: str
    href: str
    description: str
    usage_date: str = Field(description="Time of the earliest event.")
    usage_type: str = Field(description="usage, grant, expiry, fee, credit, debit, reserve, release or refund.")
    status: str = Field(description="rated")
    related_party: tuple[Reference, ...]
    rated_product_usage: tuple[RatedProductUsage, ...]
    usage_characteristic: tuple[UsageCharacteristic, ...]
    type: str = Field(alias="@type")


def usage_document(row: Row) -> Document:
    """The row as TMF635 has it."""
    return {
        "id": row["usage_id"],
        "href": f"{BASE}/usage/{row['usage_id']}",
        "description": usage_sentence(row),
        "usageDate": timestamp(row["start_ms"]),
        "usageType": row["kind"],
        "status": "rated",
        "relatedParty": [
            {"id": row["subscriber_id"], "role": "subscriber", "@referredType": "Individual"},
            {"id": row["account_id"], "role": "account", "@referredType": "PartyAccount"},
        ],
        "ratedProductUsage": [_rated(row)],
        "usageCharacteristic": list(_characteristics(row)),
        "@type": "Usage",
    }


def usage_sentence(row: Row) -> str:
    """The row in one sentence."""
    cost = _cost(row)
    traffic = row["application"] or row["category"] or "traffic"
    if row["kind"] == "refund" and (row["octets"] or row["connections"]):
        return f"{_volume(row)} of {traffic} taken back{cost}"
    if row["kind"] != "usage":
        what = row["offering_id"] or row["product_id"]
        return f"{row['kind']}{f' of {what}' if what else ''}{cost}"
    word = str(row["treatment"] or "rated").replace("_", " ")
    again = " again" if row["corrects"] else ""
    return f"{_volume(row)} of {traffic}, {word}{again}{cost}"


def _volume(row: Row) -> str:
    number = row["connections"]
    return f"{number} connection{'s' if number > 1 else ''}" if number else format_octets(row["octets"])


def _cost(row: Row) -> str:
    """What it cost, and how much of that granted money paid."""
    if not row["amount_micros"]:
        return ""
    cost = f" for {format_micros(row['amount_micros'])} {row['currency'] or ''}".rstrip()
    return f"{cost}, {format_micros(row['credit_micros'])} of it by granted money" if row["credit_micros"] else cost


def _rated(row: Row) -> Document:
    amount = None if row["currency"] is None else money(row["amount_micros"], row["currency"])
    return present(
        {
            "ratingDate": timestamp(row["rated_at_ms"]),
            "ratingAmountType": "Total",
            "usageRatingTag": _tag(row),
            "isBilled": False,
            "taxExcludedRatingAmount": amount,
            "productRef": {"id": row["product_id"]} if row["product_id"] else None,
        }
    )


def _tag(row: Row) -> str | None:
    if row["price_id"]:
        return "non included usage"
    return "included usage" if row["treatment"] in _PAID_BY_A_BUNDLE else None


def _characteristics(row: Row) -> list[Document]:
    named = [(name, row[name]) for name in _WORDS if row[name] is not None]
    named += [(name, row[name]) for name in _OCTETS if row["kind"] in ("usage", "refund")]
    if row["connections"]:
        named.append(("connections", row["connections"]))
    if row["credit_micros"]:
        named.append(("credit_amount", format_micros(row["credit_micros"])))
    named.append(("endDate", timestamp(row["end_ms"])))
    return [
        {"name": name, "valueType": "number" if isinstance(value, int) else "string", "value": value}
        for name, value in named
    ]
