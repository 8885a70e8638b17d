"""The owner of budgets dies without a word while lanes spend what it lent: nothing is lent twice, nothing is lost."""

import asyncio
import contextlib
import random
from pathlib import Path

import pytest

from services.cli.stage import Stage
from services.cli.worker_process import WorkerProcess
from tests.pipeline.budgets import (
    LEAST_OCTETS,
    assert_kept,
    out_octets,
    publish_until_lent,
    spent,
    sponsor,
    sponsored_traffic,
)
from tests.pipeline.stages import Where, assert_clean, playing
from tests.waiting import wait_until_async

SEED = 31
BUDGET_OCTETS = 1_000_000_000
MOST_OCTETS = 60_000_000
"""The largest slice: the budget is lent bit by bit, over the lives of several owners."""

KILLS = 6
STARTING_SHARE = 0.3
MOST_START_S = 2.0
ROUND_RECORDS = 50
LAST_RECORDS = 600
"""A fifth of them, which is one lane's, is more than a slice and a half, the most that it can hold."""
RETRY_MS = 3_600_000
"""Nothing comes back here, so lanes that found the budget used up need not ask again, and come to rest."""
DEADLINE_S = 120.0

STANDS = [
    pytest.param("embedded", "sqlite", id="embedded-sqlite"),
    pytest.param("embedded", "postgres", id="embedded-postgres", marks=pytest.mark.postgres),
    pytest.param("kafka", "postgres", id="kafka-postgres", marks=[pytest.mark.kafka, pytest.mark.postgres]),
]


class Owner:
    """The rating service as a process that can be killed."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._log_file = Path(stage.settings.data_dir) / "rating.log"
        self._process: WorkerProcess | None = None

    async def start(self) -> None:
        self._process = await WorkerProcess.start(self._stage.settings, self._log_file, command="rating")

    async def kill(self) -> None:
        assert self._process is not None
        self.check()
        await self._process.kill()

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop()

    def check(self) -> None:
        assert self._process is not None
        assert self._process.running(), self._process.last_words()

    async def watched(self, seconds: float) -> None:
        """Let it work for a while, or fail if it ends by itself."""
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.ended()
        self.check()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("log", "database"), STANDS)
async def test_a_budget_is_lent_once_and_whole_while_its_owner_is_killed(
    log: str, database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    where = Where(request.getfixturevalue("kafka")) if log == "kafka" else Where()
    url = request.getfixturevalue("postgres_url") if database == "postgres" else ""
    slices = {"lease_least_octets": LEAST_OCTETS, "lease_most_octets": MOST_OCTETS, "lease_retry_ms": RETRY_MS}
    rng = random.Random(SEED)
    async with playing(where, tmp_path, rating_apart=True, database_url=url, **slices) as stage:
        owner = Owner(stage)
        await owner.start()
        try:
            await sponsor(stage, BUDGET_OCTETS)
            lent = [await kill_somewhere(stage, owner, rng) for _ in range(KILLS)]
            await publish_until_lent(stage, BUDGET_OCTETS)
            # What lanes hold now is all there is, and this is more.
            await stage.publish(sponsored_traffic(LAST_RECORDS, seed=SEED))
            await stage.until_decided()
            survey, found = await stage.survey(), await spent(stage)
            lanes = stage.settings.partitions
        finally:
            await owner.stop()
    assert_clean(survey, published=stage.published)
    assert_kept(found, survey, octets=BUDGET_OCTETS, lanes=lanes)
    assert len({octets for octets in lent if octets < BUDGET_OCTETS}) >= KILLS // 3, (
        f"the budget has ended too soon; lent at each kill: {lent}"
    )


async def kill_somewhere(stage: Stage, owner: Owner, rng: random.Random) -> int:
    """Kill the owner while it starts or while lanes ask, and start the next; how much was lent at that moment."""
    await stage.publish(sponsored_traffic(ROUND_RECORDS, seed=rng.randrange(10**6)))
    if rng.random() < STARTING_SHARE:
        await owner.watched(rng.random() * MOST_START_S)
    else:
        await until_more_is_lent(stage, owner, rng)
        await stage.publish(sponsored_traffic(ROUND_RECORDS, seed=rng.randrange(10**6)))
        await stage.until_decided(stage.published - rng.randrange(ROUND_RECORDS))
    lent = await out_octets(stage)
    await owner.kill()
    # Lanes spend on while nobody lends.
    await stage.publish(sponsored_traffic(ROUND_RECORDS, seed=rng.randrange(10**6)))
    await stage.until_decided()
    await owner.start()
    return lent


async def until_more_is_lent(stage: Stage, owner: Owner, rng: random.Random) -> None:
    """Traffic on and on, until the owner is in the middle of its work."""
    before = await out_octets(stage)

    async def more() -> bool:
        owner.check()
        await stage.publish(sponsored_traffic(ROUND_RECORDS, seed=rng.randrange(10**6)))
        await stage.until_decided()
        return before == BUDGET_OCTETS or await out_octets(stage) > before

    await wait_until_async(more, DEADLINE_S, f"more than {before} octets to be lent")
