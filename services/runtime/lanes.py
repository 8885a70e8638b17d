"""What both logs share: bounded retry, the gate between two batches of a lane, and keeping a lane served.

An adapter brings a way to open a lane; `keep_served` does the rest: serve, discard, pause with jitter, open again.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from services.runtime.log import (
    CommitFailed,
    Lane,
    LaneFenced,
    LaneLost,
    LaneServer,
    LogError,
    LogUnavailable,
    OffsetOutOfRange,
    RecordTooLarge,
)

RECORD_OVERHEAD_OCTETS = 32
"""Upper bound of what Kafka's record format v2 adds to a key and a value; headers are not used."""

BATCH_OVERHEAD_OCTETS = 64
"""Upper bound of the head of a record batch, format v2. A topic's limit is about batches."""

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0


def record_octets(key: bytes | None, value: bytes | None) -> int:
    """Octets that a record takes in a batch, at most; the same rule in both logs, whatever the embedded one stores."""
    return (len(key) if key else 0) + (len(value) if value else 0) + RECORD_OVERHEAD_OCTETS


def check_fits(topic: str, octets: int, max_octets: int) -> None:
    """Raises RecordTooLarge when a record of `octets`, alone in its batch, is over the topic's limit."""
    if octets + BATCH_OVERHEAD_OCTETS > max_octets:
        raise RecordTooLarge(f"a record of {octets} octets does not fit topic {topic!r}, which takes {max_octets}")


def check_key(topic: str, key: bytes | None, *, compacted: bool) -> None:
    """Raises ValueError for a record without a key in a compacted topic, which could never be replaced."""
    if compacted and key is None:
        raise ValueError(f"a record for the compacted topic {topic!r} has no key")


def check_range(topic: str, partition: int, offset: int, *, begin: int, end: int) -> int:
    """`offset` itself. Raises OffsetOutOfRange when the log does not reach from it."""
    if begin <= offset <= end:
        return offset
    raise OffsetOutOfRange(
        f"{topic}-{partition} holds offsets {begin} to {end}, so reading cannot go on at {offset}; "
        "what is missing is gone: decide where to go on and set the offset by hand"
    )


class Retry:
    """Pauses between attempts, longer each time and jittered, until a series of failures has lasted too long.

    A series ends by `reset`, and by a failure that comes after things have been `well` for longer than `limit_ms`. How
    long an attempt took until it failed does not count: one that takes longer than the limit is still one more failure.
    """

    def __init__(self, *, limit_ms: int) -> None:
        self._limit_s = limit_ms / 1000
        self._since: float | None = None
        self._well_since: float | None = None
        self._pause_s = FIRST_PAUSE_S

    def reset(self) -> None:
        """Forget the failures so far: something has succeeded."""
        self._since = self._well_since = None

    def well(self) -> None:
        """As far as is known things work again, though nothing has been achieved yet."""
        if self._since is not None and self._well_since is None:
            self._well_since = time.monotonic()

    async def pause(self, cause: BaseException) -> None:
        """Wait before the next attempt. Raises LogUnavailable, from `cause`, when the series is over the limit."""
        now = time.monotonic()
        if self._since is None or (self._well_since is not None and now - self._well_since > self._limit_s):
            self._since = now
            self._pause_s = FIRST_PAUSE_S
        self._well_since = None
        left_s = self._since + self._limit_s - now
        if left_s <= 0:
            raise LogUnavailable(
                f"gave up after {self._limit_s:g} s of failures, the last one: {cause or type(cause).__name__}; "
                "see that the log can be reached and start again"
            ) from cause
        await asyncio.sleep(min(left_s, self._pause_s * random.uniform(0.5, 1.0)))  # noqa: S311 - jitter
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)


class LaneGate:
    """Stops a lane between two batches, never inside one.

    The host holds (a rebalance), asks to end (a stop), or closes (lost). The lane tells when it begins and ends a batch
    and whether it holds work that is not committed, so that it can be given one chance to commit it.
    """

    def __init__(self) -> None:
        self._held = False
        self._ending: LaneLost | None = None
        self._closed: LogError | None = None
        self._uncommitted = False
        self._asked_to_commit = False
        self._begun = False
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()

    # What the host does.

    def hold(self) -> None:
        """Let no new batch begin until `release`."""
        self._held = True
        self.wake()

    def release(self) -> None:
        """Let batches begin again."""
        self._held = False
        self._asked_to_commit = False
        self.wake()

    def end(self, reason: str) -> None:
        """End the lane at its next poll, after one chance to commit; at once if it has done nothing yet."""
        self._ending = self._ending or LaneLost(reason)
        if not (self._begun or self._uncommitted):
            self.close(self._ending)
        self.wake()

    def close(self, error: LogError) -> None:
        """End the lane now; the first error stays."""
        self._closed = self._closed or error
        self._settled.set()
        self.wake()

    async def settled(self) -> None:
        """Return once no batch is in flight."""
        await self._settled.wait()

    def wake(self) -> None:
        """Let a waiting poll look again."""
        self._wake.set()

    @property
    def error(self) -> LogError | None:
        """What ended the lane, or None while it lives."""
        return self._closed

    # What the lane does.

    def check(self) -> None:
        """Raise what ended the lane, if anything did."""
        if self._closed is not None:
            raise self._closed

    def begin_batch(self, *, took_records: bool) -> None:
        """The lane hands records, or a chance to commit, to its server."""
        self._begun = True
        self._settled.clear()
        self._uncommitted = self._uncommitted or took_records

    def appended(self) -> None:
        """The server has added outputs."""
        self._uncommitted = True

    def committed(self) -> None:
        """Everything so far is durable."""
        self._uncommitted = False

    def end_batch(self) -> None:
        """The server has come back for more."""
        self._settled.set()

    async def may_begin(self) -> bool:
        """True when a batch may begin; False when the server should first commit what it has.

        Waits while the host holds. Raises what ended the lane. Whatever happens from here on ends the next `sleep`.
        """
        while True:
            self._wake.clear()
            self.check()
            if not (self._held or self._ending):
                return True
            if self._uncommitted and not self._asked_to_commit:
                self._asked_to_commit = True
                return False
            if self._ending:
                self.close(self._ending)
            else:
                await self._wake.wait()

    async def sleep(self, timeout_s: float) -> None:
        """Wait for `wake`, or until the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()


class HostedLane(Lane, Protocol):
    """A lane as its host sees it."""

    gate: LaneGate

    async def discard(self) -> None:
        """Give back what the lane holds; nothing uncommitted stays behind."""


async def keep_served(
    serve: LaneServer,
    *,
    open_lane: Callable[[], Awaitable[HostedLane]],
    owned: Callable[[], bool],
    fenced: Callable[[], Awaitable[None]],
    retry: Retry,
) -> None:
    """Open a lane and serve it, again and again, while `owned` says so.

    After a fence `fenced` is awaited first, so that two hosts do not take a lane from each other in turns.
    Raises LogUnavailable after too long a series of failures, and whatever else the server or the opening raise.
    """
    while owned():
        try:
            lane = await open_lane()
        except (LogUnavailable, LaneLost) as error:
            await retry.pause(error)
            continue
        retry.well()
        ended_by = await _serve_once(serve, lane)
        if not owned():
            return
        if isinstance(ended_by, LaneFenced):
            await fenced()
        await retry.pause(ended_by)


async def _serve_once(serve: LaneServer, lane: HostedLane) -> LogError:
    try:
        await serve(lane)
    except (LaneLost, CommitFailed) as error:
        return lane.gate.error or error
    finally:
        lane.gate.close(LaneLost(f"the server of lane {lane.partition} has ended"))
        await lane.discard()
    return lane.gate.error or LaneLost(f"the server of lane {lane.partition} has ended")
