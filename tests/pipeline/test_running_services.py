"""Both services at work, looked at from outside: ports, explanations, what an order and a new catalogue change."""

import asyncio
import dataclasses
import http.client
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from deploy.checks.expressions import check_expressions
from schemas.catalogue import Catalogue
from schemas.command import ActivateProduct, ChangeProfile
from schemas.decision import PolicyDecision
from services.cli.stage import Stage, now_ms
from services.ingest.traffic_profile import make_subscribers
from services.rating.catalogue_store import publish_catalogue
from tests.pipeline.flows import flow
from tests.pipeline.stages import PEOPLE, Where, assert_clean, decisions, playing, subscribe, traffic
from tests.waiting import wait_until_async

DEADLINE_S = 120.0
EMBEDDED = Where()
ACCOUNT = "sub-voip"
PLAYED = ("before", "after")


@dataclasses.dataclass(frozen=True)
class Seen:
    """What two running services showed."""

    scraped: dict[str, str]
    health: dict[str, int]
    row: dict[str, Any]
    """The newest row of an account's usage, as its page shows it."""
    explanation: dict[str, Any]
    """What the link in that row leads to."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """One stage with a little traffic behind it; the claims below look at what it showed."""
    return asyncio.run(look_at_a_stage(tmp_path_factory.mktemp("running")))


async def look_at_a_stage(folder: Path) -> Seen:
    async with playing(EMBEDDED, folder) as stage:
        await subscribe(stage)
        await stage.publish(traffic(1_000, seed=3, malformed_share=0.02))
        await stage.until_decided()
        await stage.survey()
        ports = {"policy": stage.settings.policy_ops_port, "rating": stage.rating.ops_port}
        account = next(row.account_id for row in stage.ledger.rows() if row.kind == "usage" and row.charged_octets)
        api = f"127.0.0.1:{stage.rating.http_port}"
        page = as_json(await fetch(api, f"/ott-policy/v1/accounts/{account}/usage?kind=usage&treatment=charged"))
        row = page["usage"][0]
        return Seen(
            scraped={name: (await fetch(f"127.0.0.1:{port}", "/metrics"))[1] for name, port in ports.items()},
            health={
                f"{name} {path}": (await fetch(f"127.0.0.1:{port}", f"/healthz/{path}"))[0]
                for name, port in ports.items()
                for path in ("live", "ready")
            },
            row=row,
            explanation=as_json(await fetch(api, row["explanation"])),
        )


async def fetch(address: str, path: str) -> tuple[int, str]:
    """Status and body of one GET."""

    def get() -> tuple[int, str]:
        connection = http.client.HTTPConnection(address, timeout=DEADLINE_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(get)


def as_json(answer: tuple[int, str]) -> dict[str, Any]:
    status, body = answer
    assert status == http.client.OK, body
    found: dict[str, Any] = json.loads(body)
    return found


def test_every_expression_of_dashboard_and_rules_names_what_the_services_expose(seen: Seen) -> None:
    assert check_expressions(list(seen.scraped.values())) == []


def test_an_expression_is_missed_when_one_service_is_not_scraped(seen: Seen) -> None:
    assert check_expressions([seen.scraped["policy"]]) != []
    assert check_expressions([seen.scraped["rating"]]) != []


def test_both_services_are_alive_and_ready(seen: Seen) -> None:
    assert set(seen.health.values()) == {http.client.OK}, seen.health
    assert len(seen.health) == 4


def test_what_was_counted_is_what_was_decided(seen: Seen) -> None:
    lines = seen.scraped["policy"].splitlines()
    counted = sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("ott_policy_records_total{"))
    assert counted >= 1_000


def test_the_explanation_of_a_booked_row_adds_up_to_what_was_booked(seen: Seen) -> None:
    told, row = seen.explanation, seen.row
    assert (told["usageId"], told["kind"]) == (row["usageId"], "usage")
    assert told["traffic"]["octets"]["total"] == row["octets"]
    assert told["traffic"]["treatment"] == row["treatment"] == "charged"
    assert told["rule"]["id"]
    drawn = [bucket for bucket in told["buckets"] if bucket["unit"] == "octet"]
    assert all(bucket["before"] + bucket["change"] == bucket["after"] for bucket in drawn)
    assert 0 <= -sum(bucket["change"] for bucket in drawn) <= row["octets"]


async def test_a_product_that_is_ordered_changes_what_is_decided(tmp_path: Path) -> None:
    def call() -> Any:
        return flow(ACCOUNT, server_name="web.whatsapp.com", rat_type="UTRA")

    async with playing(EMBEDDED, tmp_path) as stage:
        await stage.order([profile(), product("p1", "smart-basic")])
        await stage.publish([call()])
        await stage.until_decided()
        await stage.order([product("p2", "voip-3g")])
        await stage.publish([call()])
        await stage.until_decided()
        before, after = await decisions(stage.log)
        found = await stage.survey()
    assert (before.treatment, before.rule_id) == ("blocked", "voip-blocked-on-3g")
    assert (after.treatment, after.rule_id) == ("charged", "voip-open-on-3g")
    assert_clean(found, published=2)


def profile() -> ChangeProfile:
    return ChangeProfile(
        version="1.0", command_id="c0", account_id=ACCOUNT, issued_at_ms=now_ms(), subscriber_ids=(ACCOUNT,),
        payment="postpaid",
    )  # fmt: skip


def product(product_id: str, offering_id: str) -> ActivateProduct:
    return ActivateProduct(
        version="1.0", command_id=f"c-{product_id}", account_id=ACCOUNT, issued_at_ms=now_ms(),
        product_id=product_id, offering_id=offering_id,
    )  # fmt: skip


async def test_a_catalogue_published_mid_stream_takes_over_between_two_decisions(tmp_path: Path) -> None:
    account = make_subscribers(PEOPLE)[-1].account_id
    async with playing(EMBEDDED, tmp_path) as stage:
        await subscribe(stage)
        old, new = stage.catalogue, with_one_more_application(stage.catalogue)
        await stage.publish(
            [*traffic(500, seed=1), flow(account, record_id="before", server_name="cdn.player.example")]
        )
        await stage.until_decided()
        await asyncio.to_thread(publish_catalogue, stage.rating.engine, new)
        await stream_until_decided_by(stage, new.version)
        await stage.publish([flow(account, record_id="after", server_name="cdn.player.example")])
        await stage.until_decided()
        found = await stage.survey()
        decided = await decisions(stage.log)
    played = {item.record_id: item.classification.application for item in decided if item.record_id in PLAYED}
    assert played == {"before": None, "after": "example-player"}
    assert {decision.catalogue_version for decision in decided} == {old.version, new.version}
    assert versions_by_lane(decided) == {(old.version, new.version)}
    assert_clean(found, published=stage.published)


def with_one_more_application(catalogue: Catalogue) -> Catalogue:
    """The next version: one application more, known by a domain that was nobody's so far."""
    player = {
        "id": "example-player", "name": "Example Player", "category": "streaming",
        "pfds": [{"pfd_id": "names", "domain_names": ["player.example"]}],
    }  # fmt: skip
    body = catalogue.model_dump(mode="json")
    return Catalogue.model_validate(
        {**body, "version": f"{catalogue.version}-next", "applications": [*body["applications"], player]}
    )


async def stream_until_decided_by(stage: Stage, version: str) -> None:
    """Publish on and on until every lane has decided by the new version."""
    numbers = itertools.count(100)

    async def adopted() -> bool:
        await stage.publish(traffic(200, seed=next(numbers)))
        await stage.until_decided()
        newest = {decision.decision_id.partition("-")[0]: decision for decision in await decisions(stage.log)}
        return all(decision.catalogue_version == version for decision in newest.values())

    await wait_until_async(adopted, DEADLINE_S, f"all lanes to decide by {version}")


def versions_by_lane(decided: list[PolicyDecision]) -> set[tuple[str, ...]]:
    """For each lane, the versions in the order in which they decided, without repeats in a row."""
    lanes: dict[str, list[str]] = {}
    for decision in decided:
        line = lanes.setdefault(decision.decision_id.partition("-")[0], [])
        if line[-1:] != [decision.catalogue_version]:
            line.append(decision.catalogue_version)
    return {tuple(line) for line in lanes.values()}
