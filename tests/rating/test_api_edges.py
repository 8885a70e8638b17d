"""What holds for every path: correlators, errors without traces, bounded metrics, docs without the internet."""

import json
import re
from pathlib import Path

import pytest

from services.rating import openapi
from services.rating.database import DatabaseDown
from services.rating.openapi import openapi_text
from services.rating.repositories import readings
from services.rating.routes import pages, problems
from services.rating.routes.middleware import CORRELATOR

BUCKETS = "/tmf-api/prepayBalanceManagement/v4/bucket"
USAGE = "/ott-policy/v1/accounts/acc-1/usage"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("given", ["b4333c46-49c0-4f62-80d7-f0ef930f1c46", "a", "x" * 256, "a-_:;./<>{}1"])
def test_a_well_formed_correlator_comes_back(seeded, given):
    assert seeded.get(USAGE, headers={CORRELATOR: given}).headers[CORRELATOR] == given


@pytest.mark.parametrize("path", [USAGE, "/nothing", BUCKETS + "?x=1", "/docs", "/healthz/live"])
def test_an_absent_correlator_is_made(seeded, path):
    first, second = (seeded.get(path).headers[CORRELATOR] for _ in range(2))
    assert re.fullmatch(r"[0-9a-f-]{36}", first)
    assert first != second


@pytest.mark.parametrize("given", ["a b", "x" * 257, "a\tb", "ü", "a,b", "a\nSet-Cookie: x", "a\r\nx: y", "%0d%0a"])
def test_a_malformed_correlator_is_refused_and_not_repeated(seeded, given):
    answer = seeded.get(USAGE, headers=[(CORRELATOR.encode(), given.encode())])
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")
    assert given not in answer.text
    assert answer.headers[CORRELATOR] != given


def test_two_correlators_are_refused(seeded):
    answer = seeded.get(BUCKETS, headers=[(CORRELATOR, "a"), (CORRELATOR, "b")])
    assert (answer.status_code, answer.json()["status"]) == (400, "400")


@pytest.mark.parametrize(
    ("path", "keys"), [(BUCKETS, {"code", "reason", "message", "status"}), (USAGE, {"status", "code", "message"})]
)
def test_a_bug_is_a_500_without_a_trace_but_with_the_correlator(seeded, monkeypatch, caplog, path, keys):
    def broken(*_arguments, **_names):
        raise RuntimeError("password=secret-word")

    monkeypatch.setattr(readings, "find_buckets", broken)
    monkeypatch.setattr(readings, "find_usage", broken)
    answer = seeded.get(path, headers={CORRELATOR: "mine"})
    assert (answer.status_code, answer.headers[CORRELATOR]) == (500, "mine")
    assert answer.json().keys() == keys
    assert answer.json()["code"] == "INTERNAL"
    assert "mine" in answer.json()["message"]
    assert "secret-word" not in answer.text
    assert "Traceback" not in answer.text
    [record] = [record for record in caplog.records if record.name == "rating.http"]
    assert record.fields["correlator"] == "mine"
    assert "secret-word" in str(record.exc_info)


@pytest.mark.parametrize("path", [BUCKETS, USAGE])
def test_a_database_outage_is_a_503_that_says_when_to_come_back(seeded, monkeypatch, path):
    def down(*_arguments, **_names):
        raise DatabaseDown("connection to server at 10.0.0.1 failed")

    monkeypatch.setattr(readings, "find_buckets", down)
    monkeypatch.setattr(readings, "find_usage", down)
    answer = seeded.get(path)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, str(problems.RETRY_AFTER_S))
    assert answer.json()["code"] == "UNAVAILABLE"
    assert "10.0.0.1" not in answer.text


def test_routes_are_counted_by_template_so_that_ids_add_no_series(seeded):
    for number in range(50):
        seeded.get(f"/ott-policy/v1/accounts/acc-{number}/buckets")
        seeded.get(f"{BUCKETS}/{number}")
        seeded.get(f"/nothing/{number}")
        seeded.request("BREW", f"/nothing/{number}")
    seen = {
        tuple(sample.labels[name] for name in ("method", "route", "status"))
        for metric in seeded.registry.collect()
        if metric.name == "ott_rating_http_requests"
        for sample in metric.samples
        if sample.name.endswith("_total")
    }
    assert ("GET", "/ott-policy/v1/accounts/{account_id}/buckets", "4xx") in seen
    assert ("GET", "/tmf-api/prepayBalanceManagement/v4/bucket/{bucket_id}", "4xx") in seen
    assert ("GET", "unmatched", "4xx") in seen
    assert not [route for _, route, _ in seen if re.search(r"/\d+$|acc-\d", route)]
    assert {method for method, _, _ in seen} <= {"GET", "POST", "other"}


def test_the_docs_need_no_other_host(seeded):
    page = seeded.get("/docs")
    assert page.status_code == 200
    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", page.text) == []
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    for url in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert seeded.get(url).status_code == 200, url
    assert seeded.get("/openapi.json").json()["info"]["title"] == "Smartpipe rating API"


def test_the_vendored_docs_keep_their_licence():
    files = {file.name for file in pages.ASSETS.iterdir()}
    assert {"LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"} <= files
    assert "Apache License" in (pages.ASSETS / "LICENSE").read_text()


def test_the_front_page_leads_to_the_docs(seeded):
    answer = seeded.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


def test_the_kept_openapi_document_is_the_one_that_is_served(seeded):
    kept = (ROOT / "schemas/openapi/rating.json").read_text()
    assert kept == openapi_text(), "run `python -m services.rating.openapi` and commit schemas/openapi/rating.json"
    assert seeded.get("/openapi.json").json()["paths"] == json.loads(kept)["paths"]


def test_every_operation_documents_its_answers_and_has_a_name():
    document = json.loads(openapi_text())
    operations = [(path, operation) for path, item in document["paths"].items() for operation in item.values()]
    assert len({operation["operationId"] for _, operation in operations}) == len(operations) == 14
    for path, operation in operations:
        if not path.startswith("/healthz"):
            assert {"200", "400"} <= operation["responses"].keys(), path
            assert operation["responses"]["200"]["content"]["application/json"]["schema"], path
            assert "422" not in operation["responses"], path


@pytest.mark.parametrize(
    "name",
    [
        "TMF620_ProductCatalog/TMF620-ProductCatalog-v4.1.0",
        "TMF654_PrepayBalanceManagement/TMF654-PrepayBalance-v4.0.0",
        "TMF635_UsageManagement/TMF635-UsageManagement-v4.0.0",
    ],
)
def test_paths_and_attributes_are_those_of_the_published_files(name):
    file = ROOT.parent / "shared" / "specs" / "tmforum" / f"{name}.swagger.json"
    if not file.exists():
        pytest.skip(f"the published file {name} is not at hand")
    published = json.loads(file.read_text())
    ours = json.loads(openapi_text())
    base = published["basePath"].rstrip("/")
    mine = {path.removeprefix(base) for path in ours["paths"] if path.startswith(base)}
    assert mine
    assert {re.sub(r"{.*?}", "{id}", path) for path in mine} <= published["paths"].keys()
    for path in mine:
        schema = ours["paths"][base + path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        document = (schema.get("items") or schema)["$ref"].rpartition("/")[2]
        theirs = published["definitions"][path.split("/")[1][0].upper() + path.split("/")[1][1:]]["properties"]
        extra = ours["components"]["schemas"][document]["properties"].keys() - theirs.keys()
        assert extra <= {"bookedUntil", "grantedValue"}, path


HOSTILE = [
    "", " ", "%00", "%F0%9F%98%80", "%ED%A0%80", "%FF%FE", "x" * 5_000, "-1", "1e9", "9" * 40, "%EF%BC%91", "../../etc",
    "%27%3B--", "0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59", "NaN", "null", "[]", "a%2Cb", "%25", "*",
    "%0d%0ax",
]  # fmt: skip
PAGE = ["fields", "offset", "limit", "id"]
NAMES = {
    "/tmf-api/productCatalogManagement/v4/productOffering": [*PAGE, "name", "validFor.startDateTime"],
    "/tmf-api/productCatalogManagement/v4/productOfferingPrice": ["price.value"],
    BUCKETS: [*PAGE, "relatedParty.id", "product.id", "status"],
    "/tmf-api/usageManagement/v4/usage": ["relatedParty.id", "usageDate.gte", "usageDate.lt", "usageType"],
    USAGE: ["from", "until", "page", "perPage", "kind"],
}


@pytest.mark.parametrize("path", NAMES)
def test_no_value_of_a_parameter_breaks_a_route(seeded, path):
    for name in NAMES[path]:
        for value in HOSTILE:
            answer = seeded.get(f"{path}?{name}={value}")
            assert answer.status_code in {200, 206, 400}, (name, value)
            assert answer.status_code != 400 or len(answer.text) < 2_500


@pytest.mark.parametrize(
    "template", [f"{path}/{{}}" for path in list(NAMES)[:-1]] + ["/ott-policy/v1/usage/{}/explanation"]
)
def test_no_id_in_a_path_breaks_a_route(seeded, template):
    for value in HOSTILE[2:]:
        assert seeded.get(template.format(value)).status_code in {200, 400, 404}, value


def test_the_check_of_the_openapi_document_refuses_a_difference(tmp_path):
    kept = tmp_path / "rating.json"
    assert openapi.main(["--check", str(kept)]) == 1
    assert openapi.main([str(kept)]) == 0
    assert openapi.main(["--check", str(kept)]) == 0
    kept.write_text(kept.read_text() + " ")
    assert openapi.main(["--check", str(kept)]) == 1
