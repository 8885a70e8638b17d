"""Where to stop reading: for each lane, ends of all its topics that belong to one moment.

A lane's outputs become visible together, but the ends of its topics can only be asked for one after the other. When
two rounds of asking give the same answer, nothing was written between them, and that is the moment.
"""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from schemas.topics import (
    COMMANDS,
    DEAD_LETTERS,
    DECISIONS,
    ENFORCEMENT,
    FLOWS,
    LEASE_REQUESTS,
    NOTIFICATIONS,
    STATE,
    USAGE,
)
from services.runtime.log import LogReader

OUTPUTS = (DECISIONS, DEAD_LETTERS, USAGE, NOTIFICATIONS, ENFORCEMENT, LEASE_REQUESTS, STATE)
INPUTS = (COMMANDS, FLOWS)

LOOK_AGAIN_S = 0.05

Ends = Mapping[str, Mapping[int, int]]
"""End offset per topic and partition."""


class Cut(NamedTuple):
    """Ends per topic and partition, and the partitions whose ends are of one moment."""

    ends: Ends
    settled: frozenset[int]


async def take_cut(readers: Mapping[str, LogReader], *, partitions: int, settle_s: float) -> Cut:
    """Ask until every lane has stood still for one look, or `settle_s` seconds are over."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + settle_s
    ends: dict[str, dict[int, int]] = {topic: dict(found) for topic, found in (await _look(readers)).items()}
    settled: set[int] = set()
    while True:
        await asyncio.sleep(LOOK_AGAIN_S)
        now = await _look(readers)
        for partition in set(range(partitions)) - settled:
            if all(now[topic][partition] == ends[topic][partition] for topic in OUTPUTS):
                settled.add(partition)
            for topic in OUTPUTS:
                ends[topic][partition] = now[topic][partition]
        if len(settled) == partitions or loop.time() >= give_up:
            break
    # The inputs last: whatever was decided up to the cut is then in them.
    for topic in INPUTS:
        ends[topic] = dict(await readers[topic].end_offsets())
    return Cut(ends, frozenset(settled))


async def _look(readers: Mapping[str, LogReader]) -> Ends:
    return {topic: await readers[topic].end_offsets() for topic in OUTPUTS}
