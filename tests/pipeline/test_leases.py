"""A budget that all lanes share, lent to them over the log: used up to its end, and not an octet further."""

import itertools
from pathlib import Path

from services.cli.stage import Stage
from tests.pipeline.budgets import (
    LEAST_OCTETS,
    assert_kept,
    out_octets,
    spent,
    sponsor,
    sponsored_traffic,
)
from tests.pipeline.stages import Where, assert_clean, playing
from tests.waiting import wait_until_async

BUDGET_OCTETS = 1_000_000_000
BATCH_RECORDS = 200
LAST_RECORDS = 400
DEADLINE_S = 120.0


async def test_lanes_use_up_a_budget_that_ends_in_the_middle_of_the_traffic(where: Where, tmp_path: Path) -> None:
    async with playing(where, tmp_path, lease_least_octets=LEAST_OCTETS) as stage:
        await sponsor(stage, BUDGET_OCTETS)
        await publish_until_all_is_lent(stage)
        # What lanes hold now is all there is, and this is more.
        await stage.publish(sponsored_traffic(LAST_RECORDS, seed=0))
        await stage.until_decided()
        survey, found = await stage.survey(), await spent(stage)
        lanes = stage.settings.partitions
    assert_clean(survey, published=stage.published)
    assert_kept(found, survey, octets=BUDGET_OCTETS, lanes=lanes)
    assert set(found.found_empty) == set(range(lanes)), "a lane has not met the budget's end"


async def publish_until_all_is_lent(stage: Stage) -> None:
    """Traffic on and on, until the budget's owner has nothing left to grant."""
    seeds = itertools.count(1)

    async def all_is_lent() -> bool:
        await stage.publish(sponsored_traffic(BATCH_RECORDS, seed=next(seeds)))
        await stage.until_decided()
        return await out_octets(stage) == BUDGET_OCTETS

    await wait_until_async(all_is_lent, DEADLINE_S, "the whole budget to be lent")
