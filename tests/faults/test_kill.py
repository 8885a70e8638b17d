"""Workers that die without a word, at any moment of their lives: nothing is lost, nothing is charged twice."""

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.moments import Moments, written_decisions
from tests.faults.stream import Stream, order_something
from tests.faults.team import team_of
from tests.pipeline.stages import Where, assert_clean, decisions, playing, subscribe

pytestmark = pytest.mark.kafka

SEED = 20260
KILLS = 32
TAKEOVERS = 4


@pytest.mark.timeout(900)
async def test_thirty_kills_at_any_moment_lose_nothing_and_charge_nothing_twice(where: Where, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    # A static member's successor takes its place at once; a dynamic one would first wait for the session's end.
    settings = {"instance_id": "worker", "log_level": "info", "transaction_max_records": 200, "usage_interval_ms": 300}
    async with playing(where, tmp_path, **settings) as stage, written_decisions(stage) as written:
        await subscribe(stage)
        stream = Stream(stage, seed=SEED)
        moments = Moments(stage, rng, stream=stream, written=written)
        plan = list(moments.phases) * (KILLS // len(moments.phases))
        rng.shuffle(plan)
        killed: Counter[str] = Counter()
        async with stream.flowing():
            for number, phase in enumerate(plan):
                await order_something(stage, rng, f"round-{number}")
                await moments.phases[phase]()
                assert stage.worker is not None
                await stage.worker.kill()
                killed[phase] += 1
                moments.begin()
                await stage.start_worker()
        await stage.until_decided()
        found = await stage.survey()
        committed, ever_written = len(await decisions(stage.log)), await written.count()
    assert killed.total() >= 30
    assert min(killed.values()) >= 7
    assert_clean(found, published=stage.published)
    assert ever_written > committed, "no kill has left a transaction open; the moments are not what they claim"


@pytest.mark.timeout(600)
async def test_the_other_worker_of_the_group_takes_over_from_a_killed_one(where: Where, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    # Dynamic members: the group learns of a death by the end of the session, so that is short here.
    async with playing(where, tmp_path, session_timeout_ms=3_000, transaction_max_records=200) as stage:
        await subscribe(stage)
        stream = Stream(stage, seed=SEED)
        async with team_of(stage) as team:
            await team.hire()
            await team.until_lanes(2, 2)
            async with stream.flowing():
                for number in range(TAKEOVERS):
                    await order_something(stage, rng, f"takeover-{number}")
                    await stream.until_settled(rng.randrange(1, 1_000))
                    await team.kill(rng.choice(team.members))
                    await team.until_lanes(4)
                    await stream.until_settled(1)
                    await team.hire()
                    await team.until_lanes(2, 2)
            await stage.until_decided()
            found = await team.survey()
    assert_clean(found, published=stage.published)
