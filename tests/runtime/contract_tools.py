"""What the tests of the log port's contract share."""

import asyncio
from collections.abc import Callable

from schemas.topics import Topic
from services.runtime.log import (
    Lane,
    Log,
    LogError,
)
from tests.runtime.lane_tools import (
    DEADLINE_S,
    running,
)

KEYS = [f"account-{number}".encode() for number in range(40)]


def numbered(count: int, *, start: int = 0) -> list[tuple[bytes | None, bytes | None]]:
    return [(KEYS[number % len(KEYS)], str(number).encode()) for number in range(start, start + count)]


async def made(log: Log, *topics: Topic, partitions: int = 4) -> None:
    await log.ensure_topics(topics, partitions=partitions)


def settled(measure: Callable[[], tuple[int, int]]) -> Callable[[], bool]:
    """True once the measured memory has grown by less than a megabyte for a hundred looks."""
    looks: list[int] = []

    def look() -> bool:
        looks.append(measure()[0])
        return len(looks) > 100 and max(looks[-100:]) - looks[-100] < 1_000_000

    return look


class Once:
    """A lane server that does one thing with the first lane it gets, then waits to be told to go."""

    def __init__(self, act: object) -> None:
        self.act = act
        self.result: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def __call__(self, lane: Lane) -> None:
        if not self.result.done():
            try:
                self.result.set_result(await self.act(lane))  # type: ignore[operator]
            except LogError as error:
                self.result.set_exception(error)
                raise
        while True:
            await lane.poll(max_records=1, max_wait_ms=1_000)


async def in_lane(log: Log, group: str, inputs: list[str], act: object) -> object:
    """What `act` makes of a lane; the lane is gone afterwards."""
    server = Once(act)
    async with running(log.lanes(group=group, inputs=inputs), server):
        async with asyncio.timeout(DEADLINE_S):
            return await server.result
