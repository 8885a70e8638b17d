"""TMF635 usage and the explanation of a charge."""

import json

import pytest

from schemas.decision import Sponsorship
from services.rating.catalogue_store import publish_catalogue
from services.rating.explain import Explanation
from services.rating.tmf_usage import UsageDocument
from tests.rating.catalogues import catalogue
from tests.rating.seeds import book, seed
from tests.rating.usage_records import moved, rated

USAGE = "/tmf-api/usageManagement/v4/usage"


@pytest.fixture(name="shop")
def _shop(seeded):
    return seeded


def _explain(client, usage_id):
    answer = client.get(f"/ott-policy/v1/usage/{usage_id}/explanation")
    assert answer.status_code == 200, answer.text
    assert Explanation.model_validate(answer.json())
    return answer.json()


def test_a_row_of_the_ledger_is_rated_usage(shop):
    document = shop.get(f"{USAGE}/f-0-12-12-0").json()
    assert UsageDocument.model_validate(document)
    assert document["description"] == "2.0 MB of other, charged for 0.02 EUR"
    [rated_usage] = document["ratedProductUsage"]
    assert rated_usage["taxExcludedRatingAmount"] == {"unit": "EUR", "value": "0.02"}
    assert rated_usage["usageRatingTag"] == "non included usage"
    named = {item["name"]: item["value"] for item in document["usageCharacteristic"]}
    assert (named["octets"], named["treatment"], named["catalogue_version"]) == (2_000_000, "charged", "v1")


def test_connections_and_granted_money_are_shown(client, engine):
    chat = {"octets": 0, "charged_octets": 0, "record_count": 0, "movements": (), "application": "whatsapp"}
    money = {"amount": "0.04", "credit_amount": "0.03", "currency": "EUR", "price_id": "chat"}
    book(engine, rated(70, connections=4, circumstances="NR||||", price_offering_id="basic", **chat, **money))
    document = client.get(f"{USAGE}/f-0-70-70-0").json()
    assert document["description"] == "4 connections of whatsapp, charged for 0.04 EUR, 0.03 of it by granted money"
    named = {item["name"]: item["value"] for item in document["usageCharacteristic"]}
    shown = (named["connections"], named["credit_amount"], named["circumstances"], named["price_offering_id"])
    assert shown == (4, "0.03", "NR||||", "basic")


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 5),
        ("usageType=usage", 3),
        ("usageType=grant", 1),
        ("relatedParty.id=sub-2", 1),
        ("relatedParty.id=acc-1", 5),
        ("id=f-0-11-11-0", 1),
        ("status=rated", 5),
        ("status=billed", 0),
        ("ratedProductUsage.productRef.id=prod-1", 1),
        ("usageDate.gte=2026-09-21T14:13:18.012Z", 3),
        ("usageDate.lt=2026-09-21T16:13:18.012%2B02:00", 2),
    ],
)
def test_usage_is_filtered(shop, query, count):
    answer = shop.get(f"{USAGE}?{query}")
    assert (answer.status_code, len(answer.json()), answer.headers["X-Total-Count"]) == (200, count, str(count))


@pytest.mark.parametrize("query", ["usageDate=x", "usageDate.gte=x", "limit=9999", "relatedParty.id=%2B49151", "x=1"])
def test_a_bad_query_is_refused(shop, query):
    answer = shop.get(f"{USAGE}?{query}")
    assert (answer.status_code, answer.json()["status"]) == (400, "400")


def test_usage_is_given_in_pages_newest_first(shop):
    answer = shop.get(f"{USAGE}?limit=2&offset=1&fields=usageDate")
    assert answer.status_code == 206
    assert [item["id"] for item in answer.json()] == ["f-0-13-13-0", "f-0-12-12-0"]
    assert shop.get(f"{USAGE}/none").status_code == 404


def test_a_draw_is_explained_from_the_evidence_to_the_bucket(shop):
    found = _explain(shop, "f-0-11-11-0")
    assert found["summary"].startswith(
        "1.0 kB of netflix, charged, by rule stream-pack-rule; 1.0 kB taken from Video 5 GB"
    )
    assert (found["evidence"]["kind"], found["evidence"]["matched"]) == ("server_name", "nflxvideo.net")
    assert found["rule"]["definition"]["precedence"] == 100
    assert found["rule"]["offering"] == "stream-pack"
    assert "precedence 100 is the lowest" in found["rule"]["why"]
    [bucket] = found["buckets"]
    assert (bucket["name"], bucket["before"], bucket["change"], bucket["after"]) == (
        "Video 5 GB", 5_000_000, -1_000, 4_999_000,
    )  # fmt: skip
    assert found["traffic"]["octets"] == {
        "total": 1000, "charged": 1000, "free": 0, "sponsored": 0, "blocked": 0, "notCharged": 0,
    }  # fmt: skip
    assert found["catalogueVersion"] == "v1"
    assert (found["source"]["topic"], found["source"]["firstOffset"], found["source"]["lastOffset"]) == (
        "ott.flows.v1", 11, 11,
    )  # fmt: skip
    assert "decisions 0-11 to 0-11" in found["source"]["decisions"]
    assert "bookedUntil" in found


def test_the_losers_are_named_with_the_reason(shop):
    losers = {item["ruleId"]: item for item in _explain(shop, "f-0-11-11-0")["losers"]}
    assert losers["general"]["reason"] == "precedence"
    assert losers["no-voip-3g"]["reason"] == "category"
    of_general = {item["ruleId"]: item for item in _explain(shop, "f-0-12-12-0")["losers"]}
    assert of_general["stream-pack-rule"]["reason"] == "application"


def test_a_price_is_explained_by_its_interval_its_definition_and_its_rounding(shop):
    found = _explain(shop, "f-0-12-12-0")
    price = found["price"]
    assert (price["amount"], price["currency"], price["priceId"]) == ("0.02", "EUR", "oob")
    assert price["interval"] == {"octetsFrom": 9_500_000, "octetsTo": 11_500_000}
    assert price["definition"]["amount"] == "0.01"
    assert price["calculation"] == (
        "price(11500000 octets) − price(9500000 octets) = 0.115 − 0.095 = 0.02, at 0.01 per 1.0 MB, "
        "at most 5 a cycle unless the subscriber raised it"
    )
    assert "down to a whole millionth" in price["rounding"]
    [bucket] = found["buckets"]
    assert (bucket["unit"], bucket["before"], bucket["change"], bucket["after"]) == ("EUR", "20", "-0.02", "19.98")


def test_a_price_shared_with_other_traffic_says_so(client, engine):
    seed(engine)
    book(
        engine,
        rated(
            30, currency="EUR", amount="0.005", price_id="oob", price_octets_from=0, price_octets_to=10**6, movements=()
        ),
    )
    text = _explain(client, "f-0-30-30-0")["price"]["calculation"]
    assert "0.005 of it is this usage" in text


def test_a_movement_is_explained_by_its_command(shop):
    found = _explain(shop, "c-0-14-14-1")
    assert found["price"] == {"amount": "-20", "currency": "EUR", "calculation": "a credit of this amount"}
    assert json.loads(found["source"]["command"])["type"] == "credit"
    assert found["buckets"][0]["text"] == "20 EUR put into Main balance (19.98 EUR before, 39.98 EUR after)"
    assert "rule" not in found


def test_a_late_flow_is_explained_by_what_was_held_when_it_was_rated(client, engine):
    seed(engine)
    late = rated(50, start_ms=1_000, end_ms=2_000, movements=(moved("prod-2/stream", -1, 5),))
    book(engine, late)
    found = _explain(client, late.usage_id)
    assert found["rule"]["offering"] == "stream-pack"
    assert found["buckets"][0]["name"] == "Video 5 GB"


def test_evidence_that_fits_no_application_is_not_called_a_match(client, engine):
    book(engine, rated(51, application=None, category="other", evidence="server_name:m.example", movements=()))
    meaning = _explain(client, "f-0-51-51-0")["evidence"]["meaning"]
    assert "was 'm.example', which fits no application of the catalogue" in meaning


def test_a_row_with_a_reclassified_flow_says_so_and_the_correction_says_what_it_corrects(client, engine):
    plain = {"application": None, "category": "other", "rule_id": "default"}
    wrong = rated(60, last_offset=66, octets=1000, charged_octets=1000, **plain)
    pair = {"partition": 0, "cause": "reclassified", "corrects": "0-63", "movements": ()}
    refund = rated(70, kind="refund", octets=300, charged_octets=300, **plain, **pair)
    again = rated(71, octets=300, charged_octets=0, free_octets=300, treatment="free", **pair)
    stranger = rated(64, **plain)
    book(engine, wrong, refund, again, stranger)
    told = _explain(client, "f-0-60-60-0")
    assert told["correctedBy"] == ["f-0-70-70-0"]
    assert "300 B were taken back" in told["notes"][-1]
    assert "corrects" not in told
    assert _explain(client, "f-0-70-70-0")["corrects"] == "0-63"
    assert "takes back what decision 0-63 was charged" in _explain(client, "f-0-70-70-0")["notes"][-1]
    assert _explain(client, "f-0-70-70-0")["summary"].startswith("300 B of other taken back")
    assert "charges again" in _explain(client, "f-0-71-71-0")["notes"][-1]
    assert "correctedBy" not in _explain(client, "f-0-64-64-0")


def test_the_campaign_that_paid_is_named_with_what_came_from_its_budget(client, engine):
    campaign = {"id": "cup", "name": "Cup final", "sponsor_id": "tube", "budget": {"octets": "1 GB"}}
    publish_catalogue(engine, catalogue(campaigns=[campaign]))
    paid = (Sponsorship(campaign_id="cup", octets=1_000, budget_octets=1_000, connections=2),)
    sponsored = {"treatment": "sponsored", "charged_octets": 0, "sponsored_octets": 1_000, "octets": 1_000}
    book(engine, rated(61, sponsorships=paid, movements=(), **sponsored))
    assert _explain(client, "f-0-61-61-0")["campaigns"] == [
        {"campaignId": "cup", "name": "Cup final", "sponsorId": "tube", "octets": 1_000, "budgetOctets": 1_000,
         "connections": 2,
         "text": "campaign cup of tube paid for 1.0 kB, 1.0 kB of them from its budget, and 2 connections"},
    ]  # fmt: skip
    back = rated(62, kind="refund", sponsorships=paid, movements=(), corrects="f-0-61-61-0", **sponsored)
    book(engine, back)
    assert "got back 1.0 kB" in _explain(client, "f-0-62-62-0")["campaigns"][0]["text"]


def test_a_total_that_was_rounded_says_what_it_was(client, engine):
    offering = {"id": "basic", "name": "Basic", "kind": "base_plan",
                "usage_prices": [{"id": "oob", "amount": "1", "per_octets": 3_000}]}  # fmt: skip
    publish_catalogue(engine, catalogue(offerings=[offering], rules=[]))
    money = {"currency": "EUR", "amount": "0.166666", "price_id": "oob", "movements": ()}
    book(engine, rated(63, price_octets_from=0, price_octets_to=500, octets=500, charged_octets=500, **money))
    rounding = _explain(client, "f-0-63-63-0")["price"]["rounding"]
    assert rounding.endswith("here the total 0.166666666666... became 0.166666")


def test_blocked_traffic_is_explained(shop):
    found = _explain(shop, "f-0-13-13-0")
    assert found["rule"]["definition"]["gate_status"] == "closed"
    assert "may not pass" in found["traffic"]["meaning"]


def test_an_old_charge_is_explained_by_the_version_that_was_used(client, engine):
    seed(engine)
    changed = catalogue().model_dump(mode="json")["rules"]
    changed[2] |= {"precedence": 7, "name": "New name"}
    publish_catalogue(engine, catalogue("v2", rules=changed))
    assert _explain(client, "f-0-11-11-0")["rule"]["definition"]["precedence"] == 100


def test_the_operators_own_service_is_named_as_such(client, engine):
    seed(engine)
    applications = catalogue().model_dump(mode="json")["applications"]
    applications[0] |= {"own": True}
    publish_catalogue(engine, catalogue("v2", applications=applications))
    assert "ownService" not in _explain(client, "f-0-11-11-0")["traffic"]
    book(engine, rated(60, catalogue_version="v2", application="netflix"))
    found = _explain(client, "f-0-60-60-0")
    assert found["traffic"]["ownService"] is True
    assert "of the operator's own service" in found["summary"]


def test_a_charge_under_an_unknown_version_says_what_is_missing(client, engine):
    book(engine, rated(1, catalogue_version="v0", movements=(moved("p/a", -1, 1),)))
    found = _explain(client, "f-0-1-1-0")
    assert "not in the stored catalogue version v0" in found["rule"]["why"]
    assert any("v0 is not stored here" in note for note in found["notes"])


def test_the_built_in_rule_is_explained(client, engine):
    book(engine, rated(40, rule_id="default", movements=()))
    assert "built-in rule" in _explain(client, "f-0-40-40-0")["rule"]["why"]


def test_usage_that_is_not_booked_has_no_explanation_yet(shop):
    answer = shop.get("/ott-policy/v1/usage/f-9-9-9-9/explanation")
    assert answer.status_code == 404
    assert "still gathered is not booked yet" in answer.json()["message"]
