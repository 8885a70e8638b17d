"""The generator: realistic, seeded, and exactly as broken as it was asked to be."""

import dataclasses
import itertools
from collections import Counter

import msgspec
import pytest

from schemas.flow import FlowRecord, account_of, check_flow
from services.ingest.traffic import GeneratedRecord, generate_traffic
from services.ingest.traffic_applications import APPLICATIONS
from services.ingest.traffic_malformed import EXPECTED_CAUSES, MALFORMED_KINDS
from services.ingest.traffic_profile import TrafficProfile, make_subscribers, members_of

NOON_MS = 1_767_225_600_000 + 12 * 3_600_000
HOUR_MS = 3_600_000
PROFILE = TrafficProfile(subscribers=make_subscribers(200), records=20_000, start_ms=NOON_MS, duration_ms=HOUR_MS)

decode = msgspec.json.Decoder(FlowRecord).decode


@pytest.fixture(scope="module")
def records() -> list[GeneratedRecord]:
    return list(generate_traffic(PROFILE, 7))


@pytest.fixture(scope="module")
def good(records: list[GeneratedRecord]) -> list[tuple[GeneratedRecord, FlowRecord]]:
    return [(record, decode(record.value)) for record in records if record.note not in EXPECTED_CAUSES]


def test_the_same_seed_gives_the_same_octets(records: list[GeneratedRecord]) -> None:
    assert list(generate_traffic(PROFILE, 7)) == records


def test_another_seed_gives_other_records(records: list[GeneratedRecord]) -> None:
    others = {record.value for record in generate_traffic(PROFILE, 8)}
    assert others.isdisjoint(record.value for record in records)


def test_exactly_the_asked_number_of_records_comes_in_publishing_order(records: list[GeneratedRecord]) -> None:
    times = [record.timestamp_ms for record in records]
    assert len(records) == PROFILE.records
    assert times == sorted(times)
    assert times[0] >= NOON_MS
    assert times[-1] < NOON_MS + HOUR_MS


def test_every_good_record_keeps_the_contract_and_its_key(good: list[tuple[GeneratedRecord, FlowRecord]]) -> None:
    for record, flow in good:
        assert check_flow(flow) is None
        assert record.key == account_of(flow).encode()
        assert flow.end_ms <= record.timestamp_ms


def test_a_record_id_repeats_only_in_duplicates(good: list[tuple[GeneratedRecord, FlowRecord]]) -> None:
    firsts: dict[str, bytes] = {}
    for record, flow in good:
        if record.note == "duplicate":
            assert firsts[flow.record_id] == record.value
        else:
            assert flow.record_id not in firsts
            firsts[flow.record_id] = record.value


def test_the_shares_that_were_asked_for_are_kept(records: list[GeneratedRecord]) -> None:
    notes = Counter(record.note for record in records)
    assert 100 < notes["duplicate"] < 320
    assert 250 < notes["failed"] < 550
    assert 700 < notes["dns"] < 1_500
    assert 0 < notes["spoofed"] < 60
    assert sum(notes[kind] for kind in MALFORMED_KINDS) == 20


def test_each_malformed_kind_comes_at_least_once_however_small_the_share() -> None:
    profile = dataclasses.replace(PROFILE, records=300, malformed_share=0.00001)
    notes = Counter(record.note for record in generate_traffic(profile, 1))
    assert {kind: notes[kind] for kind in MALFORMED_KINDS} == dict.fromkeys(MALFORMED_KINDS, 1)


@pytest.mark.parametrize("kind", MALFORMED_KINDS)
def test_a_malformed_record_breaks_the_one_rule_of_its_kind(kind: str) -> None:
    profile = dataclasses.replace(PROFILE, records=600, malformed_share=0.1)
    broken = [record for record in generate_traffic(profile, 1) if record.note == kind]
    assert broken
    for record in broken:
        assert _rule_broken(record) == EXPECTED_CAUSES[kind]


_NAMES = {
    msgspec.ValidationError: "invalid_field",
    UnicodeDecodeError: "bad_utf8",
    msgspec.DecodeError: "not_json",
}


def _rule_broken(record: GeneratedRecord) -> str | None:
    if record.key is None:
        return "null_key"
    if len(record.value) > 262_144:
        return "too_large"
    try:
        flow = decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _NAMES[type(error)]
    if problem := check_flow(flow):
        return "unknown_version" if problem.startswith("version") else "end_before_start"
    return None if record.key == account_of(flow).encode() else "key_mismatch"


def test_traffic_without_faults_has_none() -> None:
    profile = dataclasses.replace(PROFILE, records=2_000, malformed_share=0, duplicate_share=0, spoofed_share=0)
    notes = {record.note for record in generate_traffic(profile, 3)}
    assert notes <= {"flow", "dns", "call", "unlisted", "nameless", "failed"}


def test_a_long_flow_is_reported_in_intervals_that_join(good: list[tuple[GeneratedRecord, FlowRecord]]) -> None:
    intervals: dict[str, list[FlowRecord]] = {}
    for record, flow in good:
        if record.note != "duplicate":
            intervals.setdefault(flow.record_id.rpartition("-")[0], []).append(flow)
    long = [flows for flows in intervals.values() if len(flows) > 1]
    assert len(long) > 50
    for flows in long:
        for earlier, later in itertools.pairwise(flows):
            assert (later.subscriber_port, later.remote_ip) == (earlier.subscriber_port, earlier.remote_ip)
            assert later.start_ms == earlier.end_ms
            assert earlier.end_reason == "active"


def test_a_failed_flow_brought_nothing_down(good: list[tuple[GeneratedRecord, FlowRecord]]) -> None:
    failed = [flow for record, flow in good if record.note == "failed"]
    assert {flow.end_reason for flow in failed} == {"reset", "no_answer"}
    assert {(flow.octets_down, flow.packets_down) for flow in failed} == {(0, 0)}


def test_popular_applications_lead_and_all_are_there(good: list[tuple[GeneratedRecord, FlowRecord]]) -> None:
    names = {name: app.app_id for app in APPLICATIONS for name in app.names}
    counts = Counter(names[flow.server_name] for _, flow in good if flow.server_name in names)
    assert counts["youtube"] > counts["netflix"] > counts["vimeo"] > 0
    assert set(counts) > {app.app_id for app in APPLICATIONS if app.plain_http < 500}


def test_sizes_have_a_heavy_tail_and_a_bound(good: list[tuple[GeneratedRecord, FlowRecord]]) -> None:
    sizes = sorted(flow.octets_up + flow.octets_down for _, flow in good)
    assert sum(sizes[-len(sizes) // 10 :]) > sum(sizes) // 2
    assert sizes[-1] < PROFILE.max_flow_octets


def test_the_mix_of_access_and_addresses_is_there(good: list[tuple[GeneratedRecord, FlowRecord]]) -> None:
    rats = Counter(flow.rat_type for _, flow in good)
    assert set(rats) == {"NR", "EUTRA", "UTRA", "GERA", "WLAN"}
    assert rats["EUTRA"] > rats["UTRA"] > rats["GERA"]
    assert {":" in flow.remote_ip for _, flow in good} == {True, False}
    assert {flow.sampling_rate for _, flow in good} == {1, 10}
    assert any(record.note == "call" and flow.stun_realm for record, flow in good)


def test_evenings_are_busier_than_nights() -> None:
    profile = dataclasses.replace(PROFILE, start_ms=NOON_MS - 12 * HOUR_MS, duration_ms=24 * HOUR_MS)
    hours = Counter(record.timestamp_ms // HOUR_MS % 24 for record in generate_traffic(profile, 1))
    assert len(hours) == 24
    assert hours[20] > 5 * hours[4]


def test_families_share_an_account() -> None:
    members = members_of(make_subscribers(100, family_permille=200, family_size=4))
    assert members["fam-00001"] == ("sub-000001", "sub-000002", "sub-000003", "sub-000004")
    assert members["sub-000100"] == ("sub-000100",)
    assert sum(len(ids) for ids in members.values()) == 100
    assert len(members) == 85


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"subscribers": ()}, "subscribers"),
        ({"applications": ()}, "applications"),
        ({"records": -1, "malformed_share": 0}, "records"),
        ({"records": 10}, "malformed"),
        ({"duration_ms": 0}, "duration_ms"),
        ({"duplicate_share": 1.5}, "duplicate_share"),
        ({"hour_weights": (0,) * 24}, "hour_weights"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused_by_its_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(PROFILE, **change)  # type: ignore[arg-type]
