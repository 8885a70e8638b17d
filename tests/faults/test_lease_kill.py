"""Workers that die without a word while lanes spend a budget that they share: no octet of it is drawn twice or lost."""

import asyncio
import contextlib
import random
from pathlib import Path

import pytest

from services.cli.stage import Stage
from services.ingest.traffic import GeneratedRecord
from tests.faults.stream import Stream
from tests.pipeline.budgets import LEAST_OCTETS, assert_kept, out_octets, spent, sponsor, sponsored_traffic
from tests.pipeline.stages import Where, assert_clean, playing
from tests.waiting import wait_until_async

pytestmark = pytest.mark.kafka

SEED = 20261
BUDGET_OCTETS = 2_000_000_000
MOST_OCTETS = 100_000_000
"""The largest slice: the budget is lent bit by bit, over the lives of several workers."""

KILLS_BEFORE_THE_END = 9
KILLS_AFTER_THE_END = 3
MOST_DECISIONS = 150
STARTING_SHARE = 0.5
MOST_START_S = 2.0
ROUND_RECORDS = 1_000
BACKLOG_RECORDS = 100
"""Few: a worker that is quick must not use the budget up before it is killed a few times."""
LAST_RECORDS = 1_000
"""A fifth of them, which is one lane's, is more than the slice and a half that it may have got at the beginning."""
RETRY_MS = 3_600_000
"""Nothing comes back here, so lanes that found the budget used up need not ask again, and come to rest."""
DEADLINE_S = 120.0


@pytest.mark.timeout(600)
async def test_a_budget_is_used_up_and_never_passed_while_workers_are_killed(where: Where, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    # A static member's successor takes its place at once; a dynamic one would first wait for the session's end.
    settings = {"instance_id": "worker", "partitions": 3, "transaction_max_records": 50}
    slices = {"lease_least_octets": LEAST_OCTETS, "lease_most_octets": MOST_OCTETS, "lease_retry_ms": RETRY_MS}
    async with playing(where, tmp_path, **settings, **slices) as stage:
        await sponsor(stage, BUDGET_OCTETS)
        stream = Stream(stage, seed=SEED, backlog=BACKLOG_RECORDS, make=fans)
        async with stream.flowing():
            lent = [await kill_somewhere(stage, stream, rng) for _ in range(KILLS_BEFORE_THE_END)]
            await until_all_is_lent(stage)
            lent += [await kill_somewhere(stage, stream, rng) for _ in range(KILLS_AFTER_THE_END)]
        # What lanes hold now is all there is, and this is more.
        await stage.publish(sponsored_traffic(LAST_RECORDS, seed=SEED - 1))
        await stage.until_decided()
        survey, found = await stage.survey(), await spent(stage)
        lanes = stage.settings.partitions
    assert_clean(survey, published=stage.published)
    assert_kept(found, survey, octets=BUDGET_OCTETS, lanes=lanes)
    assert sum(octets < BUDGET_OCTETS for octets in lent) >= KILLS_BEFORE_THE_END // 3, (
        f"the budget has ended too soon; lent at each kill: {lent}"
    )


def fans(seed: int) -> list[GeneratedRecord]:
    """A round of the stream: only flows that the campaign is for."""
    return sponsored_traffic(ROUND_RECORDS, seed=seed)


async def kill_somewhere(stage: Stage, stream: Stream, rng: random.Random) -> int:
    """Kill the worker while it starts or while it decides, and start the next; how much was lent at that moment."""
    assert stage.worker is not None
    if rng.random() < STARTING_SHARE:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rng.random() * MOST_START_S):
                await stage.worker.ended()
        stage.check_worker()
    else:
        await stream.until_settled(rng.randrange(1, MOST_DECISIONS))
    lent = await out_octets(stage)
    await stage.worker.kill()
    await stage.start_worker()
    return lent


async def until_all_is_lent(stage: Stage) -> None:
    async def all_is_lent() -> bool:
        stage.check_worker()
        return await out_octets(stage) == BUDGET_OCTETS

    await wait_until_async(all_is_lent, DEADLINE_S, "the whole budget to be lent")
