"""Whole stages for tests: log, rating service and policy worker, on the embedded log or on the session's Kafka."""

import contextlib
import dataclasses
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiokafka.admin import AIOKafkaAdminClient

from schemas import topics
from schemas.dead_letter import DeadLetter
from schemas.decision import PolicyDecision
from schemas.usage import RatedUsage
from services.cli.demo_people import orders
from services.cli.stage import Stage, now_ms, open_stage, stage_settings
from services.cli.verify import Survey
from services.ingest.traffic import GeneratedRecord, generate_traffic
from services.ingest.traffic_profile import TrafficProfile, make_subscribers
from services.rating.clock import Clock, wall_clock_ms
from services.runtime.log import Log, LogRecord
from tests.waiting import wait_until_async

T = TypeVar("T")

DEADLINE_S = 120.0
PEOPLE = 40
HALF_AN_HOUR_MS = 1_800_000


@dataclasses.dataclass(frozen=True)
class Where:
    """Which log a stage stands on: the embedded one, or the Kafka at `bootstrap`."""

    bootstrap: str | None = None

    def settings(self) -> dict[str, object]:
        """What the log adds to the settings. The group is new each time: it names the transactions, too."""
        if self.bootstrap is None:
            return {}
        return {
            "log": "kafka",
            "kafka_bootstrap": self.bootstrap,
            "group": f"stage-{secrets.token_hex(4)}",
            "session_timeout_ms": 6_000,
        }


@contextlib.asynccontextmanager
async def playing(
    where: Where, folder: Path, *, clock: Clock = wall_clock_ms, rating_apart: bool = False, **changes: object
) -> AsyncIterator[Stage]:
    """A stage with nothing in its topics and its data in `folder`; `changes` are settings."""
    if where.bootstrap is not None:
        await remove_topics(where.bootstrap)
    settings = stage_settings(folder, **{**where.settings(), **changes})
    async with open_stage(settings, clock=clock, rating_apart=rating_apart) as stage:
        yield stage


async def remove_topics(bootstrap: str) -> None:
    """Delete the product's topics: their names are fixed, and one broker serves the whole test session."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    ours = {topic.name for topic in topics.ALL}

    async def left() -> set[str]:
        return ours & set(await admin.list_topics())

    async def gone() -> bool:
        return not await left()

    try:
        if found := await left():
            await admin.delete_topics(sorted(found))
        await wait_until_async(gone, DEADLINE_S, "the topics of the test before to be gone")
    finally:
        await admin.close()


async def subscribe(stage: Stage, *, people: int = PEOPLE, seed: int = 1) -> None:
    """Make `people` subscribers customers, with plans, add-ons and top-ups."""
    await stage.order(list(orders(make_subscribers(people), stage.catalogue, seed=seed, now_ms=now_ms())))


def traffic(records: int, *, seed: int, people: int = PEOPLE, **shares: Any) -> list[GeneratedRecord]:
    """Traffic of the last half hour, a few duplicates in it; broken records only if `malformed_share` asks for them."""
    profile = TrafficProfile(
        subscribers=make_subscribers(people),
        records=records,
        start_ms=now_ms() - HALF_AN_HOUR_MS,
        duration_ms=HALF_AN_HOUR_MS,
        **{"malformed_share": 0.0, **shares},
    )
    return list(generate_traffic(profile, seed))


async def contents(log: Log, topic: str) -> dict[int, list[LogRecord]]:
    """Everything visible in a topic as of now, per partition."""
    reader = await log.reader(topic)
    try:
        found: dict[int, list[LogRecord]] = {partition: [] for partition in await reader.beginning_offsets()}
        ends = await reader.end_offsets()
        while any(reader.position(partition) < end for partition, end in ends.items()):
            for partition, batch in (await reader.poll(max_records=5_000, max_wait_ms=50)).items():
                found[partition].extend(batch)
    finally:
        await reader.close()
    return found


async def decisions(log: Log) -> list[PolicyDecision]:
    """All decisions, lane by lane."""
    return [_decision(value) for value in await _values(log, topics.DECISIONS)]


async def dead_letters(log: Log) -> list[DeadLetter]:
    """All dead letters, lane by lane."""
    return [_letter(value) for value in await _values(log, topics.DEAD_LETTERS)]


async def rated_usage(log: Log) -> list[RatedUsage]:
    """All rated usage, lane by lane."""
    return [_usage(value) for value in await _values(log, topics.USAGE)]


async def _values(log: Log, topic: str) -> list[bytes]:
    found = await contents(log, topic)
    return [record.value or b"" for batch in found.values() for record in batch]


def wrong(found: Survey) -> list[str]:
    """What a reconciliation found, as sentences; empty when the books are right."""
    return [f"{check.name}: {offender}" for check in found.report.violated() for offender in check.offenders]


def assert_clean(found: Survey, *, published: int) -> None:
    """Every flow record is decided or a dead letter, nothing waits, nothing was left out, nothing is wrong."""
    report, problems = found.report, wrong(found)
    skipped = [f"{check.name} was left out: {check.skipped}" for check in report.checks if check.status == "skipped"]
    assert not problems + skipped, "\n".join(problems + skipped)
    assert report.ok
    assert report.check("nothing_waiting").checked, "the reconciliation was not strict"
    assert report.counts["flows"] == published, f"{report.counts['flows']} flow records in the log, not {published}"


def tally(items: Sequence[T], key: Callable[[T], object]) -> Counter[object]:
    """How many items have which key."""
    return Counter(key(item) for item in items)


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Slices of `size` items; the last may be shorter."""
    for at in range(0, len(items), size):
        yield items[at : at + size]


_decision = msgspec.json.Decoder(PolicyDecision).decode
_letter = msgspec.json.Decoder(DeadLetter).decode
_usage = msgspec.json.Decoder(RatedUsage).decode
