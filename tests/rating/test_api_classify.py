"""What a flow would be, and why, by the version in force."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.engine.classify import Classifier
from services.engine.classify_explain import asked_flow
from services.rating import classification
from services.rating.catalogue_store import publish_catalogue
from services.rating.classification import Judges
from services.rating.database import reading
from services.rating.published import PublishedVersions
from services.rating.routes.classify import FlowClassification
from tests.rating.catalogues import catalogue

CLASSIFY = "/ott-policy/v1/classify"

APPLICATIONS = [
    {"id": "netflix", "name": "Netflix", "provider": "Netflix", "category": "streaming",
     "pfds": [{"pfd_id": "1", "domain_names": ["nflxvideo.net"]}]},
    {"id": "whatsapp", "name": "WhatsApp", "provider": "Meta", "category": "voip_im",
     "pfds": [{"pfd_id": "1", "domain_names": ["whatsapp.net"], "prefixes": ["192.0.2.0/24"], "as_numbers": [64500]}]},
]  # fmt: skip


@pytest.fixture
def shop(client, engine):
    publish_catalogue(engine, catalogue(applications=APPLICATIONS))
    return client


def ask(client, **query):
    answer = client.get(CLASSIFY, params=query)
    assert answer.status_code == 200, answer.text
    assert FlowClassification.model_validate(answer.json())
    return answer.json()


def test_a_listed_name_is_its_application_and_says_why(shop):
    assert ask(shop, server_name="IPv4-c1.oca.NflxVideo.net.") == {
        "catalogueVersion": "v1",
        "category": "streaming",
        "application": "netflix",
        "applicationName": "Netflix",
        "confidence": 90,
        "suspect": False,
        "evidence": [
            {"role": "decided", "kind": "server_name", "value": "ipv4-c1.oca.nflxvideo.net",
             "matched": "nflxvideo.net", "application": "netflix", "confidence": 90},
        ],
        "explanation": [
            "verdict: streaming / netflix (Netflix), confidence 90",
            "decided: server name 'ipv4-c1.oca.nflxvideo.net' (nflxvideo.net): netflix, 90",
            "in vain: port tcp/443 is no application's own",
            "catalogue: v1",
        ],
    }  # fmt: skip


def test_an_unlisted_name_is_other_and_says_why(shop):
    found = ask(shop, http_host="site.example:8080", remote_port=8080, ip_protocol=6)
    assert (found["category"], found["reason"], "application" in found) == ("other", "name_not_listed", False)
    assert found["evidence"][0]["role"] == "no_say"


def test_a_false_name_is_suspect_and_says_who_contradicts(shop):
    found = ask(shop, server_name="nflxvideo.net", http_host="whatsapp.net", remote_ip="192.0.2.7", remote_port=80)
    assert (found["application"], found["suspect"], found["confidence"]) == ("netflix", True, 45)
    assert [item["role"] for item in found["evidence"]] == ["decided", "contradicts", "contradicts"]
    assert any(
        line.startswith("suspect: HTTP host 'whatsapp.net' points at whatsapp (Meta)") for line in found["explanation"]
    )


def test_an_autonomous_system_can_be_asked_for(shop):
    found = ask(shop, remote_as=64500, remote_port=5222)
    assert (found["application"], found["evidence"][0]["kind"]) == ("whatsapp", "asn")
    assert ask(shop, remote_as=64500, server_name="nflxvideo.net")["suspect"]


def test_an_address_alone_can_be_asked_for(shop):
    assert ask(shop, remote_ip="::ffff:192.0.2.7", remote_port=5222)["application"] == "whatsapp"


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({}, "give at least one of them"),
        ({"remote_port": 443}, "give at least one of them"),
        ({"server_name": "a.example", "sni": "a.example"}, "'sni' is not known here"),
        ({"serverName": "a.example"}, "did you mean server_name"),
        ({"remote_ip": "a.example"}, "give an IPv4 or IPv6 address"),
        ({"remote_ip": "192.0.2.0/24"}, "give an IPv4 or IPv6 address"),
        ({"server_name": "a.example", "remote_port": "65536"}, "remote_port"),
        ({"server_name": "a.example", "ip_protocol": "tcp"}, "ip_protocol"),
        ({"server_name": "a.example", "remote_as": "AS64500"}, "remote_as"),
        ({"server_name": "x" * 256}, "server_name"),
        ({"server_name": "a\x00b"}, "NUL"),
        ({"server_name": ["a.example", "b.example"]}, "given twice"),
    ],
)
def test_a_question_that_breaks_a_rule_is_a_400_that_names_it(shop, query, word):
    answer = shop.get(CLASSIFY, params=query)
    assert (answer.status_code, answer.json().keys()) == (400, {"status", "code", "message"})
    assert answer.json()["code"] == "INVALID_ARGUMENT"
    assert word in answer.json()["message"]


@pytest.mark.parametrize("text", ["", ".", "a b", "\x1b[2J", "名前" * 20, "[::1]", "x" * 255, "-", "%00", "a..b"])
def test_any_text_in_the_place_of_a_name_is_answered(shop, text):
    assert ask(shop, server_name=text, http_host=text)["category"] == "other"


def test_before_the_first_publication_it_is_a_503(client):
    answer = client.get(CLASSIFY, params={"server_name": "a.example"})
    assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
    assert "publish one" in answer.json()["message"]


def test_a_new_version_answers_from_its_publication_on(shop, engine):
    assert ask(shop, server_name="fresh.example.com")["reason"] == "name_not_listed"
    fresh = {"id": "fresh", "name": "Fresh", "category": "social",
             "pfds": [{"pfd_id": "1", "domain_names": ["example.com"]}]}  # fmt: skip
    publish_catalogue(engine, catalogue("v2", applications=[*APPLICATIONS, fresh]))
    found = ask(shop, server_name="fresh.example.com")
    assert (found["application"], found["applicationName"], found["catalogueVersion"]) == ("fresh", "Fresh", "v2")


@pytest.fixture
def published(engine):
    """Reads versions v1, v2 ... which are published as they are asked for."""
    versions = PublishedVersions()

    def read(name):
        publish_catalogue(engine, catalogue(name, applications=APPLICATIONS))
        with reading(engine) as connection:
            return versions.version(connection, name)

    return read


def test_a_version_is_compiled_once_however_many_ask_at_once(published, monkeypatch):
    first, compiled, together = published("v1"), [], threading.Barrier(4)

    class Counted(Classifier):
        def __init__(self, *arguments, **options):
            compiled.append(1)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(classification, "Classifier", Counted)
    judges = Judges()

    def ask_together(_number):
        together.wait(timeout=30)
        return judges.of(first)

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(ask_together, range(4)))
    assert len(compiled) == 1
    assert all(judge is found[0] for judge in found)


def test_a_late_request_does_not_bring_an_old_version_back(published):
    old, new = published("v1"), published("v2")
    judges = Judges()
    judge = judges.of(new)
    assert judges.of(old) is judge
    assert judge.explain(asked_flow(server_name="nflxvideo.net")).catalogue_version == "v2"


def test_threads_may_share_a_judge(published):
    judge = Judges().of(published("v1"))

    def ask_many(seed):
        names = [f"{number % 7}.{seed}.{'nflxvideo.net' if number % 2 else 'site.example'}" for number in range(300)]
        return [judge.explain(asked_flow(server_name=name)).classification.application for name in names]

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask_many, range(4)))
    assert answers == [[None, "netflix"] * 150] * 4
