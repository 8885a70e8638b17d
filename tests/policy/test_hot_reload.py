"""A new catalogue version takes over without a pause, and no decision mixes two versions."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import topics
from schemas.catalogue import Catalogue
from services.engine.feed import changes, entries_of
from services.policy.books import BookKeeper, Books
from services.policy.lane import LaneKeeper
from services.policy.metrics import PolicyMetrics
from services.runtime.log import LaneLost, Polled
from services.runtime.settings import Settings
from services.runtime.telemetry import new_registry
from tests.policy.lanes import NOW_MS, ListLane, lane_state, run
from tests.policy.records import Record, command_value, flow_record
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
        self.keeper = BookKeeper(
            self.log,  # type: ignore[arg-type]
            name_cache_entries=100,
            on_change=lambda books, _: self.effective.append(books.version),
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
