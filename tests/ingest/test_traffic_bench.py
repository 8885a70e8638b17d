"""Traffic for measuring: valid, unique, small."""

import msgspec

from schemas.flow import FlowRecord, account_of, check_flow
from services.ingest.traffic_bench import bench_accounts, bench_traffic

START_MS = 1_767_225_600_000
decode = msgspec.json.Decoder(FlowRecord).decode


def test_bench_records_are_valid_unique_and_keyed_by_their_account() -> None:
    records = list(bench_traffic(accounts=50, records=3_000, seed=1, start_ms=START_MS))
    flows = [decode(record.value) for record in records]
    assert len({flow.record_id for flow in flows}) == 3_000
    assert {account_of(flow) for flow in flows} == set(bench_accounts(50))
    for record, flow in zip(records, flows, strict=True):
        assert check_flow(flow) is None
        assert record.key == account_of(flow).encode()
        assert len(record.value) < 450


def test_bench_time_follows_the_rate() -> None:
    records = list(bench_traffic(accounts=5, records=1_001, seed=1, start_ms=START_MS, records_per_s=500))
    assert (records[0].timestamp_ms, records[-1].timestamp_ms) == (START_MS, START_MS + 2_000)


def test_the_same_seed_gives_the_same_bench_records() -> None:
    first, second = (list(bench_traffic(accounts=9, records=100, seed=4, start_ms=START_MS)) for _ in range(2))
    assert first == second
