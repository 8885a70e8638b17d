"""TMF620: lists, filters, attributes, pages, errors."""

import pytest

from services.rating.catalogue_store import publish_catalogue
from services.rating.tmf_catalogue import OfferingDocument, PriceDocument
from tests.rating.catalogues import catalogue

BASE = "/tmf-api/productCatalogManagement/v4"
OFFERINGS = f"{BASE}/productOffering"
PRICES = f"{BASE}/productOfferingPrice"


@pytest.fixture(name="shop")
def _shop(seeded):
    return seeded


def _ids(answer):
    return [item["id"] for item in answer.json()]


def test_every_offering_of_the_catalogue_in_force_is_listed(client, engine):
    publish_catalogue(engine, catalogue())
    publish_catalogue(engine, catalogue("v2", offerings=catalogue().model_dump(mode="json")["offerings"][2:]))
    answer = client.get(OFFERINGS)
    assert answer.status_code == 200
    assert _ids(answer) == ["old", "stream-lite"]
    assert (answer.headers["X-Total-Count"], answer.headers["X-Result-Count"]) == ("2", "2")


def test_before_the_first_publication_the_lists_are_empty(client):
    assert client.get(OFFERINGS).json() == []
    assert client.get(PRICES).json() == []


def test_an_offering_says_what_it_costs_needs_and_brings(shop):
    document = shop.get(f"{OFFERINGS}/stream-pack").json()
    assert OfferingDocument.model_validate(document)
    assert document["href"] == f"{OFFERINGS}/stream-pack"
    assert (document["lifecycleStatus"], document["isSellable"], document["lastUpdate"]) == (
        "Active", True, "2026-09-21T14:13:20.000Z",
    )  # fmt: skip
    assert document["productOfferingPrice"][0]["id"] == "stream-pack:stream-fee"
    assert document["productOfferingTerm"] == [{"name": "term", "duration": {"amount": 30, "units": "day"}}]
    assert {(item["id"], item["relationshipType"]) for item in document["productOfferingRelationship"]} == {
        ("basic", "requires"), ("stream-lite", "excludes"),
    }  # fmt: skip
    brought = {
        item["name"]: item["productSpecCharacteristicValue"][0]["value"] for item in document["prodSpecCharValueUse"]
    }
    assert brought["allowance.stream"]["octets"] == 5 * 10**9
    assert brought["pccRules"] == ["stream-pack-rule"]


def test_prices_are_decimal_strings_with_their_unit_and_cap(shop):
    price = shop.get(f"{PRICES}/basic:oob").json()
    assert PriceDocument.model_validate(price)
    assert price["price"] == {"unit": "EUR", "value": "0.01"}
    assert price["unitOfMeasure"] == {"amount": 1_000_000, "units": "octet"}
    cap = next(item for item in price["prodSpecCharValueUse"] if item["name"] == "cap")
    assert cap["productSpecCharacteristicValue"] == [{"value": "5", "valueType": "string", "unitOfMeasure": "EUR"}]
    fee = shop.get(f"{PRICES}/stream-pack:stream-fee").json()
    assert (fee["priceType"], fee["price"]["value"], fee["recurringChargePeriodType"]) == ("recurring", "4.99", "month")


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("lifecycleStatus=Active", ["basic", "stream-lite", "stream-pack"]),
        ("lifecycleStatus=Retired", ["old"]),
        ("lifecycleStatus=Active,Retired", ["basic", "old", "stream-lite", "stream-pack"]),
        ("isSellable=false", ["old"]),
        ("id=basic", ["basic"]),
        ("name=Streaming+pack", ["stream-pack"]),
        ("category.id=add_on", ["stream-lite", "stream-pack"]),
        ("category.id=base_plan&lifecycleStatus=Active", ["basic"]),
        ("productOfferingRelationship.relationshipType=excludes", ["stream-pack"]),
        ("productOfferingTerm.duration.amount=30", ["stream-pack"]),
        ("productOfferingPrice.priceType=usage", ["basic"]),
        ("version=9", []),
    ],
)
def test_offerings_are_filtered_by_any_scalar_attribute(shop, query, ids):
    answer = shop.get(f"{OFFERINGS}?{query}")
    assert answer.status_code == 200
    assert sorted(_ids(answer)) == ids


@pytest.mark.parametrize(
    ("query", "status", "count"),
    [
        ("", 200, 4),
        ("limit=2", 206, 2),
        ("limit=4", 200, 4),
        ("limit=0", 206, 0),
        ("offset=1", 200, 3),
        ("offset=1&limit=2", 206, 2),
        ("offset=2&limit=2", 200, 2),
        ("offset=9&limit=2", 200, 0),
        ("limit=1000", 200, 4),
    ],
)
def test_a_page_is_206_only_when_a_limit_was_given_and_there_is_more(shop, query, status, count):
    answer = shop.get(f"{OFFERINGS}?{query}")
    assert (answer.status_code, len(answer.json())) == (status, count)
    assert (answer.headers["X-Total-Count"], answer.headers["X-Result-Count"]) == ("4", str(count))


def test_pages_put_together_are_the_list(shop):
    pages = [_ids(shop.get(f"{OFFERINGS}?offset={at}&limit=1"))[0] for at in range(4)]
    assert pages == _ids(shop.get(OFFERINGS))


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ("name", {"id", "href", "name"}),
        ("name,validFor,lifecycleStatus", {"id", "href", "name", "lifecycleStatus"}),
        ("none", {"id", "href"}),
        ("id", {"id", "href"}),
    ],
)
def test_fields_keeps_what_is_asked_for_and_the_identity(shop, fields, names):
    assert set(shop.get(f"{OFFERINGS}?fields={fields}").json()[0]) == names
    assert set(shop.get(f"{OFFERINGS}/basic?fields={fields}").json()) == names


REFUSED = {
    "an unknown filter": ("lifecycleState=Active", "did you mean lifecycleStatus"),
    "a filter on an object": ("validFor=x", "'validFor' is not known here"),
    "an unknown attribute": ("fields=nme", "did you mean name"),
    "a negative offset": ("offset=-1", "'offset' is '-1'"),
    "a limit that is no number": ("limit=many", "'limit' is 'many'"),
    "too large a limit": ("limit=1001", "less than or equal to 1000"),
    "a limit given twice": ("limit=1&limit=2", "give it once"),
    "a NUL": ("name=%00", "NUL character"),
    "a huge offset": ("offset=99999999999999999999999", "less than or equal to"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_query_is_refused_in_the_tm_forum_form_with_the_next_step(shop, case):
    query, said = REFUSED[case]
    answer = shop.get(f"{OFFERINGS}?{query}")
    body = answer.json()
    assert answer.status_code == 400
    assert body.keys() == {"code", "reason", "message", "status"}
    assert (body["code"], body["reason"], body["status"]) == ("INVALID_ARGUMENT", "Bad Request", "400")
    assert said in body["message"]


@pytest.mark.parametrize("path", [f"{OFFERINGS}/gold", f"{PRICES}/oob", f"{BASE}/catalog", f"{OFFERINGS}/a%2Fb"])
def test_what_is_not_there_is_a_404_in_the_tm_forum_form(shop, path):
    answer = shop.get(path)
    assert answer.status_code == 404
    assert answer.json()["code"] == "NOT_FOUND"


def test_a_method_that_is_not_served_is_a_405(shop):
    answer = shop.request("POST", OFFERINGS, json={})
    assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
