"""The machinery that both logs share: bounded retry, the gate between two batches, keeping a lane served."""

import asyncio
from collections.abc import Awaitable

import pytest

from services.runtime import lanes
from services.runtime.lanes import LaneGate, Retry, keep_served
from services.runtime.log import CommitFailed, LaneFenced, LaneLost, LogError, LogUnavailable, OffsetOutOfRange
from tests.waiting import wait_until_async

DEADLINE_S = 100.0


class FakeLane:
    """As much of a lane as its host sees."""

    partition = 3

    def __init__(self) -> None:
        self.gate = LaneGate()
        self.discarded = False

    async def discard(self) -> None:
        self.discarded = True


class Keeper:
    """Runs keep_served over fake lanes; `served` says what the server does with each lane in turn."""

    def __init__(
        self, served: list[LogError | Exception | None], *, opens: list[LogError | None] | None = None
    ) -> None:
        self.outcomes = served
        self.openings = opens or []
        self.lanes: list[FakeLane] = []
        self.fenced = 0
        self.owned = True

    async def run(self, *, limit_ms: int = 5_000) -> None:
        await keep_served(
            self._serve,  # type: ignore[arg-type]
            open_lane=self._open,  # type: ignore[arg-type]
            owned=lambda: self.owned,
            fenced=self._after_fence,
            retry=Retry(limit_ms=limit_ms),
        )

    async def _open(self) -> FakeLane:
        error = self.openings.pop(0) if self.openings else None
        if error is not None:
            raise error
        self.lanes.append(FakeLane())
        return self.lanes[-1]

    async def _serve(self, lane: FakeLane) -> None:
        outcome = self.outcomes.pop(0)
        if not self.outcomes:
            self.owned = False
        if outcome is not None:
            raise outcome

    async def _after_fence(self) -> None:
        self.fenced += 1


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.slept_s: list[float] = []
        monkeypatch.setattr(lanes.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(lanes.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


async def test_a_retry_pauses_longer_each_time_and_gives_up_after_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    retry = Retry(limit_ms=10_000)
    cause = CommitFailed("the last straw")

    async def fail_for_ever() -> None:
        while True:
            await retry.pause(cause)

    with pytest.raises(LogUnavailable, match="the last straw") as raised:
        await fail_for_ever()
    assert raised.value.__cause__ is cause
    assert clock.now_s == pytest.approx(10.0)
    longest = [min(lanes.LONGEST_PAUSE_S, lanes.FIRST_PAUSE_S * 2**number) for number in range(len(clock.slept_s))]
    assert all(most / 2 <= slept <= most for slept, most in zip(clock.slept_s[:-1], longest, strict=False))


async def test_a_retry_forgets_a_series_after_a_success_and_after_a_quiet_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    retry = Retry(limit_ms=1_000)

    async def almost_give_up() -> None:
        since = clock.now_s
        while clock.now_s - since < 0.9:
            await retry.pause(CommitFailed("again"))

    await almost_give_up()
    retry.reset()
    await almost_give_up()
    retry.well()
    clock.now_s += 1.1
    retry.well()
    await almost_give_up()


async def test_attempts_that_take_longer_than_the_limit_are_one_series_of_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    retry = Retry(limit_ms=1_000)
    await retry.pause(CommitFailed("at once"))
    clock.now_s += 10.0
    retry.well()
    with pytest.raises(LogUnavailable, match="after ten seconds"):
        await retry.pause(CommitFailed("after ten seconds"))


@pytest.mark.parametrize("error", [LaneLost("lost"), LaneFenced("fenced"), CommitFailed("failed"), None])
async def test_a_lane_is_served_again_after(error: LogError | None) -> None:
    keeper = Keeper([error, None])
    await keeper.run()
    assert len(keeper.lanes) == 2
    assert all(lane.discarded for lane in keeper.lanes)
    assert keeper.fenced == isinstance(error, LaneFenced)


@pytest.mark.parametrize("error", [OffsetOutOfRange("gone"), LogUnavailable("away"), ZeroDivisionError("bug")])
async def test_a_host_ends_by(error: Exception) -> None:
    keeper = Keeper([error, None])
    with pytest.raises(type(error)):
        await keeper.run()
    assert [lane.discarded for lane in keeper.lanes] == [True]


async def test_a_server_that_swallows_the_fence_still_waits_before_the_lane_is_opened_again() -> None:
    keeper = Keeper([None, None])

    async def open_fenced() -> FakeLane:
        lane = FakeLane()
        lane.gate.close(LaneFenced("by another owner"))
        keeper.lanes.append(lane)
        return lane

    keeper._open = open_fenced  # type: ignore[method-assign]
    await keeper.run()
    assert keeper.fenced == 1


async def test_an_opening_that_fails_is_tried_again_until_the_outage_has_lasted_too_long() -> None:
    keeper = Keeper([None], opens=[LogUnavailable("away"), LaneLost("elsewhere"), None])
    await keeper.run()
    assert len(keeper.lanes) == 1
    hopeless = Keeper([None], opens=[LogUnavailable("away")] * 1_000)
    with pytest.raises(LogUnavailable, match="gave up"):
        await hopeless.run(limit_ms=100)


async def test_a_held_gate_lets_no_batch_begin_and_a_released_one_does() -> None:
    gate = LaneGate()
    gate.hold()
    entering = asyncio.create_task(gate.may_begin())
    await let_run()
    assert not entering.done()
    gate.release()
    assert await within_deadline(entering) is True


async def test_a_host_waits_for_the_batch_in_flight() -> None:
    gate = LaneGate()
    assert await gate.may_begin()
    gate.begin_batch(took_records=True)
    gate.hold()
    settling = asyncio.create_task(gate.settled())
    await let_run()
    assert not settling.done()
    gate.committed()
    gate.end_batch()
    await within_deadline(settling)


async def test_a_lane_with_uncommitted_work_gets_one_chance_to_commit_it() -> None:
    gate = LaneGate()
    gate.begin_batch(took_records=True)
    gate.end_batch()
    gate.hold()
    assert await gate.may_begin() is False
    waiting = asyncio.create_task(gate.may_begin())
    await let_run()
    assert not waiting.done()
    gate.release()
    assert await within_deadline(waiting) is True
    gate.end("the end")
    assert await gate.may_begin() is False
    with pytest.raises(LaneLost, match="the end"):
        await gate.may_begin()


async def test_a_lane_that_has_done_nothing_ends_at_once_and_one_that_has_at_its_next_poll() -> None:
    idle, busy = LaneGate(), LaneGate()
    busy.begin_batch(took_records=False)
    for gate in (idle, busy):
        gate.end("the end")
    assert isinstance(idle.error, LaneLost)
    assert busy.error is None
    busy.end_batch()
    with pytest.raises(LaneLost, match="the end"):
        await busy.may_begin()


async def test_the_first_error_of_a_lane_is_the_one_that_stays() -> None:
    gate = LaneGate()
    gate.close(LaneFenced("first"))
    gate.close(LaneLost("second"))
    with pytest.raises(LaneFenced, match="first"):
        gate.check()


async def test_what_happens_while_a_lane_looks_for_records_ends_its_next_sleep() -> None:
    gate = LaneGate()
    await gate.may_begin()
    gate.wake()
    await within_deadline(asyncio.create_task(gate.sleep(60)))


async def let_run() -> None:
    """Give every task that can go on the chance to."""
    looks = iter(range(5))
    await wait_until_async(lambda: next(looks) == 4, DEADLINE_S)


async def within_deadline(awaitable: Awaitable[object]) -> object:
    async with asyncio.timeout(DEADLINE_S):
        return await awaitable
