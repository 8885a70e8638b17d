"""A new catalogue version takes over without a pause, and no decision mixes two versions."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import topics
from schemas.catalogue import Catalogue
from services.engine.feed import changes, digest_of, entries_of, marker_of
from services.policy.books import BookKeeper, Books
from services.policy.lane import LaneKeeper
from services.policy.metrics import PolicyMetrics
from services.runtime.log import LaneLost, NewRecord, Polled
from services.runtime.settings import Settings
from services.runtime.telemetry import new_registry
from tests.policy.lanes import NOW_MS, ListLane, lane_state, run
from tests.policy.records import Record, command_value, flow_record
from tests.policy.workers import worker
from tests.waiting import wait_until_async

DEADLINE_S = 120.0
CATEGORIES = ("streaming", "social", "voip_im")
VERSIONS = 3


def catalogue(version: int) -> Catalogue:
    """The same names in each version, but the application, its category, the rule and the price tell the version."""
    return Catalogue.model_validate(
        {
            "version": f"v{version}",
            "applications": [
                {"id": f"app-{version}", "name": "Named", "category": CATEGORIES[version % 3],
                 "pfds": [{"pfd_id": "names", "domain_names": ["example.net"]}]},
                {"id": "stable", "name": "Stable", "category": CATEGORIES[version % 3],
                 "pfds": [{"pfd_id": "names", "domain_names": ["example.org"]}]},
            ],
            "offerings": [
                {"id": "plan", "name": "Plan", "kind": "base_plan", "rules": [f"rule-{version}"],
                 "usage_prices": [{"id": f"price-{version}", "amount": str(version + 1), "per_octets": "1 MB"}]},
            ],
            "rules": [{"id": f"rule-{version}", "precedence": 100}],
        }
    )  # fmt: skip


BOOKS = [Books.compile(catalogue(version), name_cache_entries=100) for version in range(VERSIONS)]


def subscribed() -> list[Record]:
    activate = command_value("activate_product", command_id="c-2", product_id="p1", offering_id="plan")
    return [
        Record(b"sub-1", command_value("change_profile", subscriber_ids=["sub-1"]), 0, NOW_MS),
        Record(b"sub-1", activate, 1, NOW_MS),
    ]


def flow(number: int, name: str | None = "www.example.net", **changes: object) -> Record:
    base = {"record_id": f"r-{number}", "server_name": name or ..., "start_ms": NOW_MS, "end_ms": NOW_MS + 1_000}
    return flow_record(offset=number, **{**base, **changes})


def signature(decision: Mapping[str, Any]) -> tuple[object, ...]:
    """All that tells a version in a decision about www.example.net."""
    verdict, price = decision["classification"], decision["price"]
    return (
        decision["catalogue_version"], verdict["application"], verdict["category"], decision["rule_id"],
        price["price_id"], price["amount"],
    )  # fmt: skip


def expected(version: int) -> tuple[object, ...]:
    amount = f"0.0{version + 1}"
    return f"v{version}", f"app-{version}", CATEGORIES[version % 3], f"rule-{version}", f"price-{version}", amount


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, VERSIONS - 1), st.integers(1, 4)), min_size=1, max_size=8))
def test_every_decision_is_of_one_version_alone(batches: list[tuple[int, int]]) -> None:
    lane, state, number = ListLane(), lane_state(), 0
    run(lane, state, {topics.COMMANDS: subscribed()}, by=BOOKS[batches[0][0]])
    wanted = []
    for version, flows in batches:
        run(lane, state, {topics.FLOWS: [flow(number + at) for at in range(flows)]}, by=BOOKS[version])
        number += flows
        wanted += [expected(version)] * flows
    assert [signature(decision) for decision in lane.read(topics.DECISIONS)] == wanted


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        # The application has gone: what the lane remembers of it must not decide in its name.
        ("www.example.net", ("app-0", "streaming"), (None, "other")),
        # It is still there, in another category now.
        ("www.example.org", ("stable", "streaming"), ("stable", "social")),
    ],
)
def test_what_a_lane_remembers_goes_over_to_the_new_version(
    name: str, before: tuple[str, str], after: tuple[str | None, str]
) -> None:
    lane, state = ListLane(), lane_state()
    run(lane, state, {topics.COMMANDS: subscribed()}, by=BOOKS[0])
    run(lane, state, {topics.FLOWS: [flow(0, name), flow(1, None)]}, by=BOOKS[0])
    run(lane, state, {topics.FLOWS: [flow(2, None)]}, by=BOOKS[1])
    verdicts = [decision["classification"] for decision in lane.read(topics.DECISIONS)]
    found = [(verdict["application"], verdict["category"]) for verdict in verdicts]
    assert found == [before, before, after]


class CatalogueLog:
    """The catalogue topic in memory: what is published is read by whoever waits for it."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._read = 0
        self._version: int | None = None
        self._news = asyncio.Event()

    def publish(self, version: int) -> None:
        self.offer(self.changes_to(version))

    def changes_to(self, version: int) -> list[Record]:
        """What has to be offered to go over from the version asked for last; the marker comes last."""
        before, self._version = self._version, version
        old = entries_of(catalogue(before)) if before is not None else ()
        return [
            Record(key.encode(), None if entry is None else msgspec.json.encode(entry))
            for key, entry in changes(old, entries_of(catalogue(version)))
        ]

    def publish_dangling(self, version: int) -> None:
        """Offer a complete version whose offering names a rule that is in none of its entries."""
        entries = [entry for entry in entries_of(catalogue(version)) if entry.kind not in ("rule", "version")]
        marker = marker_of(f"v{version}", "EUR", digest_of(entries), 60)
        keep, self._version = {entry.entry_key for entry in entries}, version
        gone = {record.key for record in self._records} - {key.encode() for key in keep}
        records = [Record(key, None) for key in gone]
        records += [Record(entry.entry_key.encode(), msgspec.json.encode(entry)) for entry in (*entries, marker)]
        self.offer(records)

    def offer(self, records: Sequence[Record]) -> None:
        self._records += records
        self._news.set()

    def read(self) -> bool:
        """Whether all that was offered has been read."""
        return self._read == len(self._records)

    async def reader(self, topic: str) -> "CatalogueLog":
        assert topic == topics.CATALOGUE
        return self

    async def end_offsets(self) -> dict[int, int]:
        return {0: len(self._records)}

    def position(self, partition: int) -> int:
        return self._read

    async def poll(self, *, max_records: int, max_wait_ms: int) -> dict[int, Sequence[Record]]:
        await self._news.wait()
        self._news.clear()
        fresh, self._read = self._records[self._read :], len(self._records)
        return {0: fresh}

    async def close(self) -> None:
        pass


Step = Callable[[], Awaitable[None]]


class FedLane(ListLane):
    """A lane that is fed by the test: records, or a step to take before the lane goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.feed: asyncio.Queue[tuple[Step | None, dict[str, list[Record]]] | None] = asyncio.Queue()
        self.commits: list[int] = []
        """Decisions that were durable after each commit that made some."""

    def give(self, *flows: Record, commands: Sequence[Record] = (), before: Step | None = None) -> None:
        """The next poll: `before` is taken first."""
        records = {topics.COMMANDS: list(commands), topics.FLOWS: list(flows)}
        self.feed.put_nowait((before, {topic: batch for topic, batch in records.items() if batch}))

    async def replay(self, topic: str) -> AsyncIterator[list[Record]]:
        for batch in ():
            yield batch

    async def poll(self, *, max_records: int, max_wait_ms: int) -> Polled:
        item = await self.feed.get()
        if item is None:
            raise LaneLost("the test is over")
        before, records = item
        if before is not None:
            await before()
        return Polled(records, 0)

    def appended_octets(self) -> int:
        return 0

    async def commit(self, next_offsets: Mapping[str, int]) -> None:
        decided = len(self.out.get(topics.DECISIONS, []))
        if next_offsets.get(topics.FLOWS):
            self.commits.append(decided)

    def signatures(self) -> list[tuple[object, ...]]:
        return [signature(decision) for decision in self.read(topics.DECISIONS)]


class World:
    """A lane keeper at work on one fed lane, with catalogue version 0 in force and sub-1 subscribed."""

    def __init__(self) -> None:
        self.log, self.lane = CatalogueLog(), FedLane()
        self.effective: list[str] = []
        self.refused: list[str] = []
        self.keeper = BookKeeper(
            self.log,  # type: ignore[arg-type]
            name_cache_entries=100,
            on_change=lambda books, _: self.effective.append(books.version),
            on_refused=self.refused.append,
        )
        # A batch in flight waits for more for as long as a test may take, so that only an empty poll ends it.
        patient = Settings().model_copy(update={"transaction_max_wait_ms": 600_000})
        metrics = PolicyMetrics(new_registry())
        self.lanes = LaneKeeper(patient, self.keeper, metrics, partitions=1, clock_ms=lambda: NOW_MS)

    async def take_over(self, version: int) -> None:
        """Publish and wait until it is in force."""
        self.log.publish(version)
        await wait_until_async(lambda: self.effective[-1:] == [f"v{version}"], DEADLINE_S, f"v{version} in force")

    async def decided(self, count: int) -> None:
        await wait_until_async(lambda: self.lane.commits[-1:] == [count], DEADLINE_S, f"{count} durable decisions")


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    made = World()
    tasks = [asyncio.create_task(work) for work in (made.keeper.follow(), made.lanes.serve(made.lane))]  # type: ignore[arg-type]
    try:
        await made.take_over(0)
        made.lane.give(commands=subscribed())
        made.lane.give()
        yield made
        made.lane.feed.put_nowait(None)
        with contextlib.suppress(LaneLost):
            await asyncio.wait_for(tasks[1], DEADLINE_S)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_lane_decides_by_the_old_version_while_the_new_one_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, compile_books = threading.Event(), threading.Event(), Books.compile

    def slow(made_of: Catalogue, **options: Any) -> Books:
        if made_of.version == "v1":
            begun.set()
            assert go_on.wait(DEADLINE_S)
        return compile_books(made_of, **options)

    monkeypatch.setattr(Books, "compile", slow)
    async with world() as made:
        made.log.publish(1)
        await wait_until_async(begun.is_set, DEADLINE_S, "the new version's compilation")
        made.lane.give(flow(0))
        made.lane.give()
        await made.decided(1)
        assert made.effective == ["v0"]
        go_on.set()
        await wait_until_async(lambda: made.effective == ["v0", "v1"], DEADLINE_S, "the new version in force")
        made.lane.give(flow(1))
        made.lane.give()
        await made.decided(2)
        assert made.lane.signatures() == [expected(0), expected(1)]


async def test_transaction_in_flight_ends_by_the_version_it_began_with() -> None:
    async with world() as made:
        made.lane.give(flow(0))
        made.lane.give(flow(1), before=lambda: made.take_over(1))
        made.lane.give()
        await made.decided(2)
        made.lane.give(flow(2))
        made.lane.give()
        await made.decided(3)
        assert made.lane.signatures() == [expected(0), expected(0), expected(1)]


async def test_half_a_version_is_never_in_force() -> None:
    async with world() as made:
        *most, marker = made.log.changes_to(1)
        made.log.offer(most)
        await wait_until_async(made.log.read, DEADLINE_S, "all but the marker to be read")
        made.lane.give(flow(0))
        made.lane.give()
        await made.decided(1)
        assert made.effective == ["v0"]
        made.log.offer([marker])
        await wait_until_async(lambda: made.effective == ["v0", "v1"], DEADLINE_S, "the new version in force")
        made.lane.give(flow(1))
        made.lane.give()
        await made.decided(2)
        assert made.lane.signatures() == [expected(0), expected(1)]


async def test_a_version_that_breaks_a_rule_is_refused_and_the_one_before_stays_in_force() -> None:
    async with world() as made:
        made.log.publish_dangling(1)
        await wait_until_async(lambda: made.refused, DEADLINE_S, "the refusal")
        assert "rule-1" in made.refused[0]
        made.lane.give(flow(0))
        made.lane.give()
        await made.decided(1)
        assert made.keeper.refused() == made.refused[0]
        await made.take_over(2)
        assert made.keeper.refused() is None
        made.lane.give(flow(1))
        made.lane.give()
        await made.decided(2)
        assert made.lane.signatures() == [expected(0), expected(2)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"rule/rule-1", b"{"),
        (b"rule/rule-1", b'{"version": "1.0", "entry_key": "rule/rule-1", "kind": "poem", "body": {}}'),
        (b"\xff", b"{}"),
        (b"rule/nobody's", b"{"),
        (b"version", b"[" * 10_000),
        (b"version", b'{"version": "1.0", "entry_key": "version", "kind": "version", "body": {}}'),
    ],
)
async def test_an_entry_that_cannot_be_read_stops_no_lane(key: bytes, value: bytes) -> None:
    async with world() as made:
        made.log.offer([Record(key, value)])
        await wait_until_async(lambda: made.refused, DEADLINE_S, "the refusal")
        made.lane.give(flow(0))
        made.lane.give()
        await made.decided(1)
        await made.take_over(1)
        assert made.effective == ["v0", "v1"]
        made.log.offer([Record(key, None)] if key not in (b"version", b"rule/rule-1") else [])
        await wait_until_async(lambda: made.keeper.refused() is None, DEADLINE_S, "nothing refused any more")


async def test_without_a_good_version_nothing_is_decided_and_the_reason_is_at_hand() -> None:
    log, refused = CatalogueLog(), list[str]()
    keeper = BookKeeper(
        log,  # type: ignore[arg-type]
        name_cache_entries=100, on_change=lambda *_: None, on_refused=refused.append,
    )  # fmt: skip
    log.publish_dangling(1)
    task = asyncio.create_task(keeper.follow())
    try:
        await wait_until_async(lambda: refused, DEADLINE_S, "the refusal")
        assert not keeper.loaded()
        assert keeper.refused() == refused[0]
        log.publish(0)
        await asyncio.wait_for(keeper.first(), DEADLINE_S)
        assert keeper.current.version == "v0"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_reason_of_any_length_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Books:
        raise ValueError("x" * 10_000)

    async with world() as made:
        monkeypatch.setattr(Books, "compile", fail)
        made.log.publish(1)
        await wait_until_async(lambda: made.refused, DEADLINE_S, "the refusal")
    assert len(made.refused[0]) < 2_100


async def test_readiness_and_metrics_name_a_refused_catalogue(tmp_path: Path) -> None:
    broken = NewRecord(topics.CATALOGUE, b"rule/half", b"{", NOW_MS)
    async with worker(tmp_path, broken) as service, httpx.AsyncClient(trust_env=False) as client:

        async def answer(path: str) -> str:
            return (await client.get(f"http://127.0.0.1:{service.ops_port}{path}")).text

        async def told() -> bool:
            # The entry may be read before the version beside it is in force.
            said = await answer("/healthz/ready")
            return "rule/half" in said and "v1 is in force" in said

        await wait_until_async(told, DEADLINE_S, "readiness to name the entry and the version in force")
        assert "ott_policy_catalogue_refused 1.0" in await answer("/metrics")
