"""TMF620 v4 documents of the catalogue: ProductOffering and ProductOfferingPrice."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from schemas.catalogue import FlatPrice, ProductOffering, UsagePrice
from schemas.catalogue_allowances import Allowance
from schemas.catalogue_scopes import Scope
from schemas.units import format_micros
from services.rating.documents import (
    Document,
    Money,
    Quantity,
    Reference,
    TimePeriod,
    TmfModel,
    money,
    period,
    present,
    timestamp,
)

BASE = "/tmf-api/productCatalogManagement/v4"

_STATUS = {"in_study": "In study", "active": "Active", "retired": "Retired"}
_KINDS = {"base_plan": "Base plan", "add_on": "Add-on", "pass": "Pass"}


class CharacteristicValue(TmfModel):
    """One value of a characteristic."""

    value: Any
    value_type: str | None = None
    unit_of_measure: str | None = None


class CharacteristicUse(TmfModel):
    """What an offering or a price says beyond the TM Forum fields: allowances, PCC rules, scope, cap."""

    name: str
    description: str | None = None
    value_type: str | None = None
    product_spec_characteristic_value: tuple[CharacteristicValue, ...] = ()


class Duration(TmfModel):
    """A length of time."""

    amount: int
    units: str


class OfferingTerm(TmfModel):
    """How long a product lasts."""

    name: str
    duration: Duration


class OfferingRelationship(TmfModel):
    """An offering that must, or must not, be held with this one."""

    id: str
    href: str
    name: str
    relationship_type: str = Field(description="`requires` (one of them) or `excludes`.")


class PriceReference(TmfModel):
    """A price of an offering, by value and by reference."""

    id: str
    href: str
    name: str
    price_type: str


class OfferingDocument(TmfModel):
    """TMF620 ProductOffering."""

    id: str
    href: str
    name: str
    description: str | None = None
    version: str
    lifecycle_status: str = Field(description="In study, Active or Retired.")
    last_update: str = Field(description="When this catalogue version was published.")
    is_bundle: bool
    is_sellable: bool
    valid_for: TimePeriod | None = None
    category: tuple[Reference, ...] = ()
    product_offering_price: tuple[PriceReference, ...] = ()
    product_offering_term: tuple[OfferingTerm, ...] = ()
    product_offering_relationship: tuple[OfferingRelationship, ...] = ()
    prod_spec_char_value_use: tuple[CharacteristicUse, ...] = ()
    type: str = Field(alias="@type")


class PriceDocument(TmfModel):
    """TMF620 ProductOfferingPrice."""

    id: str
    href: str
    name: str
    description: str | None = None
    version: str
    lifecycle_status: str
    last_update: str
    is_bundle: bool
    price_type: str = Field(description="recurring, oneTime or usage.")
    recurring_charge_period_type: str | None = None
    recurring_charge_period_length: int | None = None
    price: Money
    unit_of_measure: Quantity | None = None
    valid_for: TimePeriod | None = None
    prod_spec_char_value_use: tuple[CharacteristicUse, ...] = ()
    type: str = Field(alias="@type")


def offering_document(offering: ProductOffering, *, published_at_ms: int) -> Document:
    """The offering as TMF620 has it; allowances and rules as characteristics."""
    active = offering.lifecycle_status == "active"
    term = {"name": "term", "duration": {"amount": offering.term_days, "units": "day"}}
    return present(
        {
            "id": offering.id,
            "href": f"{BASE}/productOffering/{offering.id}",
            "name": offering.name,
            "description": offering.description or None,
            "version": offering.version,
            "lifecycleStatus": _STATUS[offering.lifecycle_status],
            "lastUpdate": timestamp(published_at_ms),
            "isBundle": False,
            "isSellable": active,
            "validFor": period(offering.valid_from_ms or None, offering.valid_until_ms),
            "category": [{"id": offering.kind, "name": _KINDS[offering.kind]}],
            "productOfferingPrice": [_price_reference(document) for document in _prices(offering, "", 0)],
            "productOfferingTerm": [term] if offering.term_days else [],
            "productOfferingRelationship": list(_relationships(offering)),
            "prodSpecCharValueUse": [*map(_allowance, offering.allowances), *_rules(offering)],
            "@type": "ProductOffering",
        }
    )


def price_documents(offering: ProductOffering, *, currency: str, published_at_ms: int) -> list[Document]:
    """The offering's prices as TMF620 has them; ids are `<offering>:<price>`, unique within the offering only."""
    return list(_prices(offering, currency, published_at_ms))


def scope_text(scope: Scope) -> str:
    """The scope in words, for people."""
    parts = [
        (scope.applications, "applications"),
        (scope.categories, "categories"),
        (scope.services, "services"),
        (scope.rat_types, "radio access"),
        (scope.zones, "zones"),
        (scope.dnns, "data networks"),
    ]
    said = [f"{name} {', '.join(values)}" for values, name in parts if values]
    return "; ".join(said) or "all traffic"


def _prices(offering: ProductOffering, currency: str, published_at_ms: int) -> Iterator[Document]:
    for flat in offering.prices:
        yield _price(offering, flat, currency, published_at_ms) | _flat(flat)
    for price in offering.usage_prices:
        yield _price(offering, price, currency, published_at_ms) | _usage(price, currency)


def _price(offering: ProductOffering, price: FlatPrice | UsagePrice, currency: str, published_at_ms: int) -> Document:
    price_id = f"{offering.id}:{price.id}"
    return {
        "id": price_id,
        "href": f"{BASE}/productOfferingPrice/{price_id}",
        "name": price.id,
        "version": offering.version,
        "lifecycleStatus": _STATUS[offering.lifecycle_status],
        "lastUpdate": timestamp(published_at_ms),
        "isBundle": False,
        "price": money(price.amount, currency),
        "@type": "ProductOfferingPrice",
    }


def _flat(price: FlatPrice) -> Document:
    if price.type == "one_time":
        return {"priceType": "oneTime", "description": "Once, when the product is activated."}
    return {
        "priceType": "recurring",
        "description": "Each billing cycle, in advance.",
        "recurringChargePeriodType": "month",
        "recurringChargePeriodLength": 1,
    }


def _usage(price: UsagePrice, currency: str) -> Document:
    uses = [
        _characteristic("scope", scope_text(price.scope), price.scope.model_dump(mode="json", exclude_defaults=True))
    ]
    if price.cap is not None:
        said = "Most that is charged in a billing cycle; beyond it, traffic is " + (
            "blocked." if price.on_cap == "block" else "free."
        )
        uses.append(_characteristic("cap", said, format_micros(price.cap), unit=currency))
    return {
        "priceType": "usage",
        "description": "Out-of-bundle traffic, priced by the cycle's total, so that splitting it costs the same.",
        "unitOfMeasure": {"amount": price.per_octets, "units": "octet"},
        "prodSpecCharValueUse": uses,
    }


def _price_reference(price: Document) -> Document:
    return {name: price[name] for name in ("id", "href", "name", "priceType")}


def _relationships(offering: ProductOffering) -> Iterator[Document]:
    for kind, ids in (("requires", offering.requires), ("excludes", offering.excludes)):
        for other in ids:
            yield {"id": other, "href": f"{BASE}/productOffering/{other}", "name": other, "relationshipType": kind}


def _allowance(allowance: Allowance) -> Document:
    value = allowance.model_dump(mode="json", exclude_defaults=True)
    said = f"{allowance.name or allowance.id}: {scope_text(allowance.scope)}"
    return _characteristic(f"allowance.{allowance.id}", said, value)


def _rules(offering: ProductOffering) -> Iterator[Document]:
    if offering.rules:
        yield _characteristic("pccRules", "PCC rules that the product brings.", list(offering.rules))


def _characteristic(name: str, description: str, value: object, *, unit: str | None = None) -> Document:
    kind = "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"
    return {
        "name": name,
        "description": description,
        "valueType": kind,
        "productSpecCharacteristicValue": [{"value": value} | present({"valueType": kind, "unitOfMeasure": unit})],
    }
