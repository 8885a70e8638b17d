"""TMF654 and our own lists: what an account has left, and until when that is booked."""

import pytest

from services.rating.documents import timestamp
from services.rating.routes.ott_policy import AccountBuckets, AccountUsage
from services.rating.tmf_balance import BucketDocument
from tests.rating.conftest import NOW_MS
from tests.rating.seeds import BOOKED_UNTIL_MS, book
from tests.rating.usage_records import granted, moved, rated

BUCKETS = "/tmf-api/prepayBalanceManagement/v4/bucket"
MINE = "/ott-policy/v1/accounts/acc-1"


@pytest.fixture(name="shop")
def _shop(seeded):
    return seeded


def test_a_bucket_says_what_is_left_for_how_long_and_until_when_that_is_booked(shop):
    [document] = shop.get(f"{BUCKETS}?product.id=prod-2").json()
    assert BucketDocument.model_validate(document)
    assert (document["name"], "description" in document) == ("prod-2/stream", False)
    assert document["remainingValue"] == {"amount": -1_000, "units": "octet"}
    assert document["bookedUntil"] == timestamp(BOOKED_UNTIL_MS)
    assert document["partyAccount"]["id"] == "acc-1"
    assert [party["id"] for party in document["relatedParty"]] == ["sub-1", "sub-2"]
    assert document["isShared"] is True


def test_a_granted_bucket_has_its_grant_its_name_and_its_end(shop):
    [document] = shop.get(f"{BUCKETS}?product.id=prod-1").json()
    assert document["name"] == "Video 5 GB"
    assert document["remainingValue"] == {"amount": 5_000_000, "units": "octet"}
    assert document["grantedValue"] == {"amount": 5_000_000, "units": "octet"}
    assert document["validFor"]["endDateTime"] == "2026-09-21T14:13:21.000Z"
    assert document["status"] == "expired"


def test_money_is_a_decimal_string(shop):
    [document] = shop.get(f"{BUCKETS}?usageType=monetary").json()
    assert document["remainingValue"] == {"amount": "19.98", "units": "EUR"}
    assert document["remainingValueName"] == "19.98 EUR"


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 3),
        ("relatedParty.id=sub-2", 3),
        ("relatedParty.id=acc-1", 3),
        ("relatedParty.id=sub-9", 0),
        ("partyAccount.id=acc-1", 3),
        ("partyAccount.id=sub-1", 0),
        ("product.id=prod-1", 1),
        ("usageType=data", 2),
        ("usageType=voice", 0),
        ("status=suspended", 0),
        ("status=expired", 1),
        ("status=active", 2),
        ("status=active&usageType=data", 1),
    ],
)
def test_buckets_are_filtered(shop, query, count):
    answer = shop.get(f"{BUCKETS}?{query}")
    assert (answer.status_code, len(answer.json()), answer.headers["X-Total-Count"]) == (200, count, str(count))


def test_a_bucket_is_found_by_the_id_that_the_list_gives(shop):
    for listed in shop.get(BUCKETS).json():
        assert shop.get(listed["href"]).json() == listed
        assert shop.get(f"{BUCKETS}?id={listed['id']}").json() == [listed]
    assert shop.get(f"{listed['href']}?fields=name").json().keys() == {"id", "href", "name"}


def test_pages_of_buckets_are_206_while_there_is_more(shop):
    assert shop.get(f"{BUCKETS}?limit=2").status_code == 206
    assert shop.get(f"{BUCKETS}?limit=2&offset=2").status_code == 200


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("owner=x", "'owner' is not known here"),
        ("relatedparty.id=x", "did you mean relatedParty.id"),
        ("status=frozen", "'status' is 'frozen'"),
        ("relatedParty.id=%2B4915112345678", "looks like a phone number"),
        ("partyAccount.id=tel:123", "looks like a phone number"),
        ("limit=-1", "'limit' is '-1'"),
        ("product.id=%00", "NUL"),
    ],
)
def test_a_bad_query_is_refused_with_the_next_step(shop, query, said):
    answer = shop.get(f"{BUCKETS}?{query}")
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_an_unknown_bucket_is_a_404(shop):
    assert shop.get(f"{BUCKETS}/none").json()["code"] == "NOT_FOUND"
    assert shop.get(f"{BUCKETS}/a%00b").status_code == 400


def test_an_account_reads_its_buckets_at_a_glance(shop):
    body = shop.get(f"{MINE}/buckets").json()
    assert AccountBuckets.model_validate(body)
    assert (body["subscriberIds"], body["bookedUntil"]) == (["sub-1", "sub-2"], timestamp(BOOKED_UNTIL_MS))
    assert {item["bucketId"]: item["remainingText"] for item in body["buckets"]} == {
        "main": "19.98 EUR", "prod-1/stream": "5.0 MB", "prod-2/stream": "-1.0 kB",
    }  # fmt: skip


def test_an_account_reads_its_usage_newest_first_in_pages(shop):
    first = shop.get(f"{MINE}/usage?perPage=3").json()
    second = shop.get(f"{MINE}/usage?perPage=3&page=2").json()
    assert AccountUsage.model_validate(first)
    assert (first["total"], second["page"]) == (5, 2)
    ids = [item["usageId"] for item in first["usage"] + second["usage"]]
    assert ids == ["c-0-14-14-1", "f-0-13-13-0", "f-0-12-12-0", "f-0-11-11-0", "c-0-10-10-0"]
    assert shop.get(first["usage"][0]["explanation"]).status_code == 200


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("kind=credit", 1),
        ("application=netflix", 1),
        ("category=voip_im", 1),
        ("treatment=blocked", 1),
        ("from=2026-09-21T14:13:18.012Z", 3),
        ("until=2026-09-21T14:13:18.012Z", 2),
    ],
)
def test_an_accounts_usage_is_filtered(shop, query, count):
    assert len(shop.get(f"{MINE}/usage?{query}").json()["usage"]) == count


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/ott-policy/v1/accounts/nobody/buckets", 404, "NOT_FOUND"),
        ("/ott-policy/v1/accounts/nobody/usage", 404, "NOT_FOUND"),
        (f"{MINE}/usage?perPage=101", 400, "INVALID_ARGUMENT"),
        (f"{MINE}/usage?page=0", 400, "INVALID_ARGUMENT"),
        (f"{MINE}/usage?from=yesterday", 400, "INVALID_ARGUMENT"),
        (f"{MINE}/usage?from=2026-05-01T00:00:00", 400, "INVALID_ARGUMENT"),
        (f"{MINE}/buckets?fields=x", 400, "INVALID_ARGUMENT"),
        (f"/ott-policy/v1/accounts/{'x' * 129}/buckets", 400, "INVALID_ARGUMENT"),
        ("/ott-policy/v1/nothing", 404, "NOT_FOUND"),
    ],
)
def test_errors_are_in_the_camara_form(shop, path, status, code):
    answer = shop.get(path)
    assert answer.json().keys() == {"status", "code", "message"}
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code)


def test_an_account_that_only_the_ledger_knows_is_known(client, engine):
    book(engine, rated(1, movements=(moved("main", 1, 1, "micros"),)))
    body = client.get(f"{MINE}/buckets").json()
    assert body["buckets"][0]["bucketId"] == "main"
    assert "subscriberIds" not in body


def test_octets_beyond_the_integers_of_a_database_are_served_exactly(client, engine):
    book(engine, granted(2**66))
    [bucket] = client.get(BUCKETS).json()
    assert bucket["remainingValue"]["amount"] == 2**66


def test_now_is_after_the_end_of_the_granted_bucket():
    assert granted(1).movements[0].valid_until_ms < NOW_MS


def test_time_is_a_decimal_string_of_seconds(client, engine):
    book(engine, rated(1, movements=(moved("prod-9/minutes", -1_500, 3_598_500, "ms"),), timed_octets=1000))
    [bucket] = client.get(f"{BUCKETS}?usageType=voice").json()
    assert bucket["remainingValue"] == {"amount": "-1.5", "units": "s"}
    assert bucket["remainingValueName"] == "-1.5 s"
    assert client.get(f"{BUCKETS}?usageType=data").json() == []
