"""What a lane keeps of the names that no application claims."""

from pathlib import Path

import httpx
import msgspec
import pytest

from schemas import topics
from services.engine.unknowns import UnknownsReport, Volume
from services.policy.metrics import PolicyMetrics
from services.policy.restore import restore
from services.policy.service import UNKNOWNS_PATH, PolicyService
from services.policy.transaction import LaneState
from services.runtime.log import NewRecord
from services.runtime.settings import Settings
from services.runtime.telemetry import new_registry
from tests.policy.lanes import CATALOGUE, NOW_MS, Changelog, ListLane, books, lane_state, run
from tests.policy.records import Record, command_value, flow_record
from tests.policy.workers import worker
from tests.waiting import wait_until_async

DEADLINE_S = 120.0

NEW = {
    "version": "v2",
    "applications": [
        *CATALOGUE["applications"],
        {"id": "fresh", "name": "Fresh", "category": "social",
         "pfds": [{"pfd_id": "names", "domain_names": ["fresh.example"]}]},
    ],
}  # fmt: skip


def subscribed() -> list[Record]:
    activate = command_value("activate_product", command_id="c-2", product_id="p1", offering_id="plan")
    return [
        Record(b"sub-1", command_value("change_profile", subscriber_ids=["sub-1"]), 0, NOW_MS),
        Record(b"sub-1", activate, 1, NOW_MS),
    ]


def flow(number: int, server_name: str | None, **changes: object) -> Record:
    name = ... if server_name is None else server_name
    base = {"record_id": f"r-{number}", "server_name": name, "start_ms": NOW_MS, "end_ms": NOW_MS + 1_000}
    return flow_record(offset=number, **{**base, **changes})


@pytest.fixture
def state() -> LaneState:
    fresh = lane_state()
    run(ListLane(), fresh, {topics.COMMANDS: subscribed()})
    return fresh


def names(state: LaneState) -> list[tuple[str, str, int, int]]:
    return [(item.exporter_id, item.name, item.flows, item.octets) for item in state.unknowns.report().names]


def test_lane_counts_the_names_that_no_application_claims(state: LaneState) -> None:
    flows = [flow(0, "a.fresh.example"), flow(1, "b.fresh.example", sampling_rate=10), flow(2, "media.example.net")]
    transaction = run(ListLane(), state, {topics.FLOWS: [*flows, flow(3, None, remote_ip="198.51.100.9")]})
    assert names(state) == [("probe-1", "fresh.example", 2, 110_000)]
    assert transaction.tally.unknown == {"name_not_listed": Volume(2, 110_000), "no_evidence": Volume(1, 10_000)}


def test_each_transaction_tells_only_of_its_own_flows(state: LaneState) -> None:
    run(ListLane(), state, {topics.FLOWS: [flow(0, "a.fresh.example")]})
    second = run(ListLane(), state, {topics.FLOWS: [flow(1, "a.fresh.example")]})
    assert second.tally.unknown == {"name_not_listed": Volume(1, 10_000)}
    assert names(state) == [("probe-1", "fresh.example", 2, 20_000)]


def test_refused_records_are_no_traffic(state: LaneState) -> None:
    strangers = [flow(1, "fresh.example", subscriber_id="sub-9"), flow(2, "fresh.example", octets_up=-1)]
    repeated = flow(3, "fresh.example")
    run(ListLane(), state, {topics.FLOWS: [repeated, *strangers, repeated]})
    assert names(state) == [("probe-1", "fresh.example", 1, 10_000)]


def test_names_stay_out_of_metrics_and_reasons_are_in(state: LaneState) -> None:
    transaction = run(ListLane(), state, {topics.FLOWS: [flow(0, "secret.example")]})
    registry = new_registry()
    transaction.tally.publish(PolicyMetrics(registry))
    labels = {"reason": "name_not_listed"}
    assert registry.get_sample_value("ott_policy_unknown_flows_total", labels) == 1
    assert registry.get_sample_value("ott_policy_unknown_octets_total", labels) == 10_000
    assert "secret" not in str([sample for family in registry.collect() for sample in family.samples])


def test_new_catalogue_version_starts_the_list_anew(state: LaneState) -> None:
    flows = [flow(0, "fresh.example"), flow(1, "other.example")]
    run(ListLane(), state, {topics.FLOWS: flows})
    again = [flow(2, "fresh.example"), flow(3, "other.example")]
    run(ListLane(), state, {topics.FLOWS: again}, by=books(**NEW), now_ms=NOW_MS + 5)
    report = state.unknowns.report()
    assert names(state) == [("probe-1", "other.example", 1, 10_000)]
    assert (report.catalogue_versions, report.since_ms) == (("v2",), NOW_MS + 5)


async def test_restart_keeps_the_account_and_loses_the_list() -> None:
    lane, state = Changelog(), lane_state()
    run(lane, state, {topics.COMMANDS: subscribed(), topics.FLOWS: [flow(0, "fresh.example")]})
    restored, _ = await restore(lane, Settings())  # type: ignore[arg-type]
    assert restored.accounts.raw() == state.accounts.raw()
    assert names(state) != []
    assert names(restored) == []


def orders_and_flow(subscriber: str, server_name: str) -> list[NewRecord]:
    key = subscriber.encode()
    profile = command_value("change_profile", account_id=subscriber, subscriber_ids=[subscriber])
    record = flow(0, server_name, subscriber_id=subscriber, record_id=f"r-{subscriber}")
    return [NewRecord(topics.COMMANDS, key, profile, NOW_MS), NewRecord(topics.FLOWS, key, record.value or b"", NOW_MS)]


async def ask(service: PolicyService) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{service.ops_port}{UNKNOWNS_PATH}")


async def test_operations_port_serves_the_names_of_all_lanes(tmp_path: Path) -> None:
    people = [f"sub-{number}" for number in range(8)]
    records = [record for person in people for record in orders_and_flow(person, "fresh.example")]
    async with worker(tmp_path, *records) as service:

        async def all_counted() -> bool:
            report = msgspec.json.decode((await ask(service)).content, type=UnknownsReport)
            return report.octets == 80_000

        await wait_until_async(all_counted, DEADLINE_S, "both lanes to have counted all flows")
        answer = await ask(service)
    assert answer.headers["content-type"] == "application/json"
    [name] = answer.json()["names"]
    assert (name["exporter_id"], name["name"], name["flows"], name["error_octets"]) == (
        "probe-1",
        "fresh.example",
        8,
        0,
    )
    assert answer.json()["catalogue_versions"] == ["v1"]
