"""Workers asked to stop, standing still, or without their broker: nothing is done twice, nothing is lost."""

import asyncio
import signal
from pathlib import Path

import pytest

from deploy.dev.kafka import DevKafka
from services.cli.stage import Stage
from tests.faults.moments import written_decisions
from tests.faults.stream import Stream, order_something
from tests.faults.team import Member, team_of
from tests.pipeline.stages import Where, assert_clean, decisions, playing, subscribe, tally, traffic
from tests.waiting import wait_until_async

pytestmark = pytest.mark.kafka

SEED = 77
DEADLINE_S = 120.0
STOP_DEADLINE_S = 10.0
SMALL_BATCHES = {"transaction_max_records": 200}


async def test_a_worker_stopped_under_load_ends_in_time_with_nothing_to_repeat(where: Where, tmp_path: Path) -> None:
    async with playing(where, tmp_path, **SMALL_BATCHES) as stage, written_decisions(stage) as written:
        await subscribe(stage)
        stream = Stream(stage, seed=SEED)
        async with stream.flowing(), team_of(stage) as team:
            for _ in range(3):
                await stream.until_settled(500)
                await written.wait()
                (member,) = team.members
                code = await stopped(member)
                assert code == 0, member.process.last_words()
                team.members.remove(member)
                await team.hire()
            await stream.until_settled(500)
            await stream.end()
            await stage.until_decided()
            found = await team.survey()
        decided = await decisions(stage.log)
        # What is decided and not committed is written and not seen: it would have been repeated by the successor.
        assert await written.count() == len(decided)
    assert set(tally(decided, lambda decision: decision.decision_id).values()) == {1}
    assert_clean(found, published=stage.published)


async def stopped(member: Member) -> int:
    """Ask a worker to end; its exit code, if it comes in time."""
    member.send(signal.SIGTERM)
    async with asyncio.timeout(STOP_DEADLINE_S):
        return await member.process.ended()


async def test_readiness_is_red_until_every_lane_is_restored_and_then_stays_green(where: Where, tmp_path: Path) -> None:
    async with playing(where, tmp_path) as stage:
        await subscribe(stage)
        async with team_of(stage) as team:
            await team.kill(team.members[0])
            member = await team.hire()
            seen = await readiness_until_up(stage, member)
    assert seen[0] is False, "ready before anything was restored"
    assert seen[-1] is True
    assert seen == sorted(seen), "green, and then red again"


async def readiness_until_up(stage: Stage, member: Member) -> list[bool]:
    """What the readiness of a starting worker says, look by look, until all of its lanes are at work and a bit on."""
    seen: list[bool] = []

    async def up() -> bool:
        found = await member.health()
        if found is not None:
            seen.append(found.status == 200)
        return bool(seen) and seen[-1] and await member.lanes() == stage.settings.partitions

    await wait_until_async(up, DEADLINE_S, "all lanes to be up and told of")
    return seen


@pytest.mark.timeout(600)
async def test_a_worker_that_stood_still_past_its_session_commits_nothing_more(where: Where, tmp_path: Path) -> None:
    async with playing(where, tmp_path, session_timeout_ms=3_000, **SMALL_BATCHES) as stage:
        await subscribe(stage)
        stream = Stream(stage, seed=SEED)
        async with team_of(stage) as team, written_decisions(stage) as written, stream.flowing():
            (zombie,) = team.members
            await stream.until_settled(500)
            await written.wait()
            zombie.freeze()
            successor = await team.hire()
            await wait_until_async(lambda: all_lanes(stage, successor), DEADLINE_S, "the successor to have all lanes")
            await stream.until_settled(500)
            zombie.thaw()
            await wait_until_async(lambda: rebuilt(zombie), DEADLINE_S, "the zombie to notice")
            await team.until_lanes(2, 2)
            await order_something(stage, stream.rng, "after")
            await stream.until_settled(500)
            await stream.end()
            await stage.until_decided()
            found = await team.survey()
    assert_clean(found, published=stage.published)


async def all_lanes(stage: Stage, member: Member) -> bool:
    return await member.lanes() == stage.settings.partitions


async def rebuilt(member: Member) -> bool:
    """Whether it has lost a lane and said so."""
    return await member.metric("ott_policy_lane_rebuilds_total") > 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_of_the_broker_needs_no_restart_of_anything_else(
    where: Where, kafka_broker: DevKafka, tmp_path: Path, how: str
) -> None:
    # How long a broker takes to come back is not what is tried here.
    async with playing(where, tmp_path, outage_timeout_ms=600_000, **SMALL_BATCHES) as stage:
        await subscribe(stage)
        worker = stage.worker
        await stage.publish(traffic(4_000, seed=1, malformed_share=0.002))
        await stage.until_decided(500)
        await asyncio.to_thread(kafka_broker.stop if how == "stop" else kafka_broker.kill)
        await asyncio.to_thread(kafka_broker.start)
        await stage.publish(traffic(1_000, seed=2))
        await stage.until_decided()
        found = await stage.survey()
        assert stage.worker is worker
        stage.check_worker()
    assert_clean(found, published=5_000)
