"""A stage: log, rating service and policy worker, all up in one place, and the steps that can be taken on them.

The demo, the bench and the fault tests play on it. The worker is a process of its own, so that it can be killed.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from schemas import topics
from schemas.catalogue import Catalogue
from schemas.command import AccountCommand, ActivateProduct
from services.cli.flows import publish_all
from services.cli.live_state import ask_workers, count_lanes
from services.cli.processes import prepare_topics
from services.cli.stage_watch import Watch
from services.cli.verify import Survey, survey
from services.cli.worker_process import WorkerProcess
from services.ingest.traffic import GeneratedRecord
from services.rating.accounts import MAX_COMMANDS, submit
from services.rating.catalogue_files import load_catalogue
from services.rating.catalogue_store import publish_catalogue
from services.rating.clock import Clock, wall_clock_ms
from services.rating.database import Engine, migrate, open_database
from services.rating.ledger_view import SqlLedgerView
from services.rating.service import RatingService
from services.runtime.log import Log, NewRecord
from services.runtime.open_log import open_log
from services.runtime.ports import free_port
from services.runtime.settings import Settings, load_settings
from services.runtime.telemetry import new_registry

SETTLE_DEADLINE_S = 180.0
LOOK_AGAIN_S = 0.05


class Stage:
    """Made by `open_stage`, which also takes it down again."""

    def __init__(
        self, settings: Settings, *, log: Log, engine: Engine, rating: RatingService, catalogue: Catalogue
    ) -> None:
        self.settings = settings
        self.log = log
        self.rating = rating
        self.catalogue = catalogue
        self.ledger = SqlLedgerView(engine)
        self.published = 0
        self.worker: WorkerProcess | None = None
        self._engine = engine
        self._activations = 0
        self._watch = Watch(log, deadline_s=SETTLE_DEADLINE_S)
        self._log_file = Path(settings.data_dir) / "policy.log"

    async def start(self) -> None:
        """Begin to watch, and start a worker."""
        await self._watch.start()
        await self.start_worker()

    async def close(self) -> None:
        """Stop the worker in good order."""
        await self._watch.close()
        if self.worker is not None:
            await self.worker.stop()

    async def start_worker(self) -> WorkerProcess:
        """Start a worker; the one before it should have ended."""
        self.worker = await WorkerProcess.start(self.settings, self._log_file)
        return self.worker

    async def order(self, commands: Sequence[AccountCommand]) -> None:
        """Give the rating service commands, and wait until every activation among them is done."""
        for at in range(0, len(commands), MAX_COMMANDS):
            await asyncio.to_thread(submit, self._engine, commands[at : at + MAX_COMMANDS])
        self._activations += sum(isinstance(command, ActivateProduct) for command in commands)
        await self._watch.until(
            lambda watch: watch.activated + watch.refused_commands >= self._activations,
            f"{self._activations} products are active",
            alive=self.check_worker,
        )

    async def publish(self, records: Sequence[GeneratedRecord]) -> None:
        """Publish flow records as an exporter does: stamped with the time of publishing."""
        publisher = await self.log.publisher()
        try:
            await publish_all(publisher, (NewRecord(topics.FLOWS, item.key, item.value, now_ms()) for item in records))
        finally:
            await publisher.close()
        self.published += len(records)

    async def until_decided(self, count: int | None = None) -> None:
        """Wait until so many flow records, by default all that were published, have a decision or a dead letter."""
        wanted = self.published if count is None else count
        await self._watch.until(
            lambda watch: watch.settled_flows() >= wanted, f"{wanted} flow records are decided", alive=self.check_worker
        )

    async def until_lanes_up(self) -> None:
        """Wait until the worker has restored every lane: before that it holds less than the changelog."""
        give_up = time.monotonic() + SETTLE_DEADLINE_S
        while (up := await asyncio.to_thread(count_lanes, self._address())) < self.settings.partitions:
            self.check_worker()
            if time.monotonic() > give_up:
                raise TimeoutError(
                    f"waited {SETTLE_DEADLINE_S:g} s for {self.settings.partitions} lanes; {up} are up, "
                    f"see {self._log_file}"
                )
            await asyncio.sleep(LOOK_AGAIN_S)

    def settled_flows(self) -> int:
        """Flow records seen decided or refused so far."""
        return self._watch.settled_flows()

    async def survey(self) -> Survey:
        """Reconcile, once everything has come to rest; what still waits after the deadline is a violation."""
        await self.until_lanes_up()
        return await survey(self.log, self.ledger, live_state=self._live_state, wait_s=SETTLE_DEADLINE_S, strict=True)

    def _live_state(self) -> dict[str, bytes]:
        return ask_workers([self._address()])

    def _address(self) -> str:
        return f"127.0.0.1:{self.settings.policy_ops_port}"

    def check_worker(self) -> None:
        """Raise if the worker has ended unasked."""
        if self.worker is not None and not self.worker.running():
            raise RuntimeError(f"the worker ended unasked; its last words:\n{self.worker.last_words()}")


@contextlib.asynccontextmanager
async def open_stage(
    settings: Settings, *, clock: Clock = wall_clock_ms, rating_apart: bool = False
) -> AsyncIterator[Stage]:
    """Everything up, with topics, tables and the shipped catalogue; and everything down again, whatever happens.

    The rating service goes by `clock`. With `rating_apart` its database is there, but whoever asked has to run it.
    """
    log, engine, catalogue = open_log(settings), open_database(settings), load_catalogue()
    rating = RatingService(settings, log, new_registry(), clock=clock)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(log.close)
        await prepare_topics(log, settings)
        await asyncio.to_thread(migrate, engine)
        await asyncio.to_thread(publish_catalogue, engine, catalogue)
        stack.push_async_callback(rating.stop)
        if not rating_apart:
            await rating.start()
        stage = Stage(settings, log=log, engine=engine, rating=rating, catalogue=catalogue)
        stack.push_async_callback(stage.close)
        await stage.start()
        yield stage


def stage_settings(folder: Path, **changes: Any) -> Settings:
    """Settings of a stage: its data in `folder`, free ports, short intervals; `changes` go on top."""
    values: dict[str, Any] = {
        "data_dir": str(folder), "partitions": 4, "usage_interval_ms": 1_000, "log_level": "warning",
        "policy_ops_port": free_port(), "rating_ops_port": 0, "http_port": 0,
    }  # fmt: skip
    return load_settings(**{**values, **changes})


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000
