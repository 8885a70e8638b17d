"""Traffic and commands that go on while workers come and go."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from schemas.command import AccountCommand, ChangeProfile, Credit, Debit, EmitUsage
from services.cli.stage import Stage, now_ms
from services.cli.stage_watch import Watch
from services.ingest.traffic import GeneratedRecord
from services.ingest.traffic_profile import make_subscribers, members_of
from services.rating.accounts import submit
from tests.pipeline.stages import PEOPLE, batches, traffic
from tests.waiting import wait_until_async

BATCH_RECORDS = 200
BACKLOG_RECORDS = 2_000
"""How far the traffic may run ahead of what was seen decided: always something to do, never much to catch up with."""

ROUND_RECORDS = 10_000
DEADLINE_S = 120.0
TEST_DEADLINE_S = 900.0


def mixed_traffic(seed: int) -> Sequence[GeneratedRecord]:
    """A round of everything; some of its records are duplicates, some are broken."""
    return traffic(ROUND_RECORDS, seed=seed, malformed_share=0.002)


class Stream:
    """Traffic in the background, and a count of what has become of it. `make` makes a round of it from a seed."""

    def __init__(
        self,
        stage: Stage,
        *,
        seed: int,
        backlog: int = BACKLOG_RECORDS,
        make: Callable[[int], Sequence[GeneratedRecord]] = mixed_traffic,
    ) -> None:
        self._stage = stage
        self._seed = seed
        self._backlog = backlog
        self._make = make
        self.rng = random.Random(seed)
        self._watch = Watch(stage.log, deadline_s=TEST_DEADLINE_S)
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def settled(self) -> int:
        """Flow records seen decided or refused so far."""
        return self._watch.settled_flows()

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Traffic flows inside the block."""
        await self._watch.start()
        self._tasks = [asyncio.create_task(self._publish()), asyncio.create_task(self._look())]
        try:
            yield
        finally:
            await self.end()
            await self._watch.close()

    async def end(self) -> None:
        """Publish nothing after the batch in hand, which goes out whole: all that is in the log has to be counted."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def until_settled(self, more: int) -> None:
        """Wait until so many more flow records are decided or refused."""
        wanted = self.settled + more

        def enough() -> bool:
            self._stage.check_worker()
            return self.settled >= wanted

        await wait_until_async(enough, DEADLINE_S, f"{more} more flow records to be decided")

    async def _publish(self) -> None:
        for number in itertools.count(self._seed):
            for batch in batches(self._make(number), BATCH_RECORDS):
                await wait_until_async(self._may_go_on, DEADLINE_S, "the worker to catch up")
                if self._stopping.is_set():
                    return
                await self._stage.publish(batch)

    def _may_go_on(self) -> bool:
        return self._stopping.is_set() or self._stage.published - self.settled < self._backlog

    async def _look(self) -> None:
        await self._watch.until(lambda _: self._stopping.is_set(), "the stream ends", alive=lambda: None)


async def order_something(stage: Stage, rng: random.Random, name: str, *, count: int = 4) -> None:
    """Some commands to accounts taken by chance; a lane may refuse them, but not forget them."""
    accounts = list(members_of(make_subscribers(PEOPLE)))
    chosen = [(f"{name}-{number}", rng.choice(accounts)) for number in range(count)]
    commands = [
        command
        for (command_id, account), make in zip(chosen, _kinds(rng), strict=False)
        for command in [make(version="1.0", command_id=command_id, account_id=account, issued_at_ms=now_ms())]
    ]
    await asyncio.to_thread(submit, stage.rating.engine, commands)


def _kinds(rng: random.Random) -> Iterator[Any]:
    amount = f"{rng.randrange(1, 500) / 100:.2f}"

    def credit(**common: Any) -> AccountCommand:
        return Credit(amount=amount, **common)

    def debit(**common: Any) -> AccountCommand:
        return Debit(amount=amount, **common)

    def profile(**common: Any) -> AccountCommand:
        return ChangeProfile(consumption_level="high", **common)

    return itertools.cycle((credit, debit, profile, EmitUsage))
