"""The books of the real engine are right: generated traffic through real lanes, with crashes, over the shipped tariffs.

The lanes write into a log in memory, in one thread, so that every run of a seed is the same run.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import Random

import pytest
from msgspec.structs import replace

from schemas import topics
from schemas.state import AccountState
from services.cli.verify import Survey, survey, verify
from services.engine.feed import entries_of
from services.ingest.traffic import generate_traffic
from services.ingest.traffic_malformed import EXPECTED_CAUSES
from services.ingest.traffic_profile import TrafficProfile, make_subscribers, members_of
from services.policy.books import Books
from services.policy.restore import restore
from services.policy.transaction import LaneState, Transaction
from services.rating.catalogue_files import load_catalogue
from services.runtime.log import LogRecord, Output
from services.runtime.partitioning import partition_of
from services.runtime.settings import Settings
from tests.cli.fakes import FakeLog
from tests.cli.orders import emission, orders
from tests.cli.world import Account, World, encode

PARTITIONS = 3
START_MS = 1_767_225_600_000
SETTINGS = Settings(usage_interval_ms=60_000, dedup_records_per_lane=50_000)
CATALOGUE = load_catalogue()
BOOKS = Books.compile(CATALOGUE, name_cache_entries=10_000)


class LogLane:
    """A lane over the log in memory: outputs are seen by nobody before `commit`."""

    def __init__(self, log: FakeLog, partition: int) -> None:
        self.partition = partition
        self.positions = {topics.COMMANDS: 0, topics.FLOWS: 0}
        self._log = log
        self._outputs: list[tuple[str, bytes | None, bytes | None]] = []

    def append(self, topic: str, *, key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:
        self._outputs.append((topic, key, value))

    def append_all(self, topic: str, records: Sequence[Output], *, timestamp_ms: int) -> None:
        self._outputs += [(topic, key, value) for key, value in records]

    def commit(self, next_offsets: dict[str, int]) -> None:
        for topic, key, value in self._outputs:
            self._log.topics[topic].append(self.partition, key, value)
        self._outputs = []
        self.positions.update(next_offsets)

    def abort(self) -> None:
        self._outputs = []

    async def replay(self, topic: str) -> AsyncIterator[Sequence[LogRecord]]:
        yield self._log.topics[topic].records[self.partition]

    def waiting(self, topic: str, at_most: int) -> list[LogRecord]:
        start = self.positions[topic]
        return list(self._log.topics[topic].records[self.partition][start : start + at_most])


def publish(world: World, topic: str, key: bytes | None, value: bytes) -> None:
    world.append(topic, partition_of(key, PARTITIONS) if key is not None else 0, key, value)


def serve(world: World, rng: Random) -> dict[str, bytes | AccountState]:
    """Process everything, in transactions of random size, some of which crash; what the lanes hold at the end."""
    live: dict[str, bytes | AccountState] = {}
    for partition in range(PARTITIONS):
        lane = LogLane(world.log, partition)
        state = rebuilt(lane)
        now_ms = START_MS + 10_000
        while work := {topic: lane.waiting(topic, rng.randrange(1, 400)) for topic in lane.positions}:
            if not any(work.values()):
                break
            now_ms += rng.randrange(30_000)
            transaction = Transaction(
                lane, state, BOOKS, partitions=PARTITIONS, max_record_octets=SETTINGS.max_record_octets, now_ms=now_ms
            )  # type: ignore[arg-type]
            for topic, records in work.items():
                transaction.take(topic, records)
            transaction.run_timers()
            transaction.close()
            if rng.random() < 0.1:
                lane.abort()
                state = rebuilt(lane)
            else:
                lane.commit(transaction.next_offsets)
        live.update(state.accounts.raw())
    return live


def rebuilt(lane: LogLane) -> LaneState:
    state, _ = asyncio.run(restore(lane, SETTINGS))  # type: ignore[arg-type]
    return state


@pytest.mark.parametrize("seed", [1, 2])
def test_generated_traffic_through_real_lanes_reconciles(seed: int) -> None:
    found, causes = run(seed)
    report = found.report
    assert report.ok, report.violated()
    assert all(check.status == "ok" for check in report.checks), [c for c in report.checks if c.status != "ok"]
    assert report.counts["decisions"] + sum(causes.values()) == report.counts["flows"]
    refused = {cause: count for (cause, topic), count in found.summary.refused.items() if topic == topics.FLOWS}
    assert refused == causes
    # All of this has to have happened, or the reconciliation had nothing to prove.
    assert found.summary.told["exhausted"] + found.summary.told["throttled"] + found.summary.told["threshold"]
    assert sum(found.summary.money.values())
    assert {part for _, part in found.summary.octets} == {"charged", "free", "sponsored", "blocked", "not_charged"}


def test_a_reclassified_flow_through_a_real_lane_reconciles() -> None:
    """The name in the handshake says Facebook, the header says Netflix; the next record of the flow is clear."""
    world = World(PARTITIONS)
    for entry in entries_of(CATALOGUE):
        world.append(topics.CATALOGUE, 0, entry.entry_key.encode(), entry)
    ordered = {"version": "1.0", "account_id": "alice", "issued_at_ms": START_MS}
    for number, fields in enumerate(
        (
            {"type": "change_profile"},
            {"type": "activate_product", "product_id": "plan", "offering_id": "smart-general"},
            {"type": "activate_product", "product_id": "free", "offering_id": "social-free-facebook"},
        )
    ):
        publish(world, topics.COMMANDS, b"alice", encode({**ordered, **fields, "command_id": f"k{number}"}))
    flow = world.flow_record(Account("alice", 0), 6_000, start_ms=START_MS, end_ms=START_MS + 1, subscriber_id="alice")
    for number, http_host in enumerate(("www.netflix.com", None)):
        seen = replace(flow, record_id=f"r{number}", server_name="www.facebook.com", http_host=http_host)
        publish(world, topics.FLOWS, b"alice", encode(seen))
    publish(world, topics.COMMANDS, *emission("alice", START_MS))
    live = serve(world, Random(3))
    found = asyncio.run(verify(world.log, world.ledger(), live_state=lambda: live, settle_s=0))
    assert not found.violated()
    assert found.check("corrections_even").checked == found.check("corrections_once").checked == 1


def run(seed: int) -> tuple[Survey, dict[str, int]]:
    """One whole run; its survey, and how many flow records had to be refused, by cause."""
    rng = Random(seed)
    world = World(PARTITIONS)
    for entry in entries_of(CATALOGUE):
        world.append(topics.CATALOGUE, 0, entry.entry_key.encode(), entry)
    subscribers = make_subscribers(60)
    for key, value in orders(CATALOGUE, members_of(subscribers), START_MS):
        publish(world, topics.COMMANDS, key, value)
    profile = TrafficProfile(
        subscribers=subscribers, records=4_000, start_ms=START_MS + 1_000, duration_ms=3_600_000, malformed_share=0.01
    )
    causes: dict[str, int] = {}
    for record in generate_traffic(profile, seed):
        cause = "duplicate" if record.note == "duplicate" else EXPECTED_CAUSES.get(record.note)  # type: ignore[call-overload]
        if cause is not None:
            causes[cause] = causes.get(cause, 0) + 1
        publish(world, topics.FLOWS, record.key, record.value)
    for account in members_of(subscribers):
        if rng.random() < 0.5:
            publish(world, topics.COMMANDS, *emission(account, START_MS))
    live = serve(world, rng)
    ledger = world.ledger()
    ledger.versions = [CATALOGUE.version]
    return asyncio.run(survey(world.log, ledger, live_state=lambda: live, strict=True, settle_s=0)), causes
