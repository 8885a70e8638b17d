"""Lanes change hands while they spend a budget that they share: what a lane holds goes with it, to the octet."""

import random
from pathlib import Path

import pytest

from tests.faults.team import team_of
from tests.pipeline.budgets import (
    LEAST_OCTETS,
    assert_kept,
    publish_until_lent,
    spent,
    sponsor,
    sponsored_traffic,
)
from tests.pipeline.stages import Where, assert_clean, playing

pytestmark = pytest.mark.kafka

SEED = 4
BUDGET_OCTETS = 800_000_000
MOST_OCTETS = 60_000_000
TAKEOVERS = 2
ROUND_RECORDS = 60
LAST_RECORDS = 600
"""A fifth of them, which is one lane's, is more than a slice and a half, the most that it can hold."""
RETRY_MS = 3_600_000
"""Nothing comes back here, so lanes that found the budget used up need not ask again, and come to rest."""


@pytest.mark.timeout(900)
async def test_what_a_lane_holds_of_a_budget_goes_with_it_to_another_worker(where: Where, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    slices = {"lease_least_octets": LEAST_OCTETS, "lease_most_octets": MOST_OCTETS, "lease_retry_ms": RETRY_MS}
    # Dynamic members: the group learns of a death by the end of the session, so that is short here.
    async with playing(where, tmp_path, session_timeout_ms=3_000, transaction_max_records=20, **slices) as stage:
        await sponsor(stage, BUDGET_OCTETS)
        async with team_of(stage) as team:
            for _ in range(TAKEOVERS):
                await stage.publish(sponsored_traffic(ROUND_RECORDS, seed=rng.randrange(10**6)))
                # One joins, and lanes go over in good order.
                await team.hire()
                await team.until_lanes(2, 2)
                await stage.publish(sponsored_traffic(ROUND_RECORDS, seed=rng.randrange(10**6)))
                await stage.until_decided(stage.published - rng.randrange(ROUND_RECORDS))
                # One dies, and the other takes its lanes as the changelog has them.
                await team.kill(rng.choice(team.members))
                await team.until_lanes(4)
            await publish_until_lent(stage, BUDGET_OCTETS)
            # What lanes hold now is all there is, and this is more.
            await stage.publish(sponsored_traffic(LAST_RECORDS, seed=SEED))
            await stage.until_decided()
            survey, found = await team.survey(), await spent(stage)
            lanes = stage.settings.partitions
    assert_clean(survey, published=stage.published)
    assert_kept(found, survey, octets=BUDGET_OCTETS, lanes=lanes)
