"""What everybody does who books a topic exactly once: begin where the database stands, go on, leave on request."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

from services.rating.database import Engine, writing
from services.rating.patience import Patience, Stopping
from services.rating.repositories import ledger as books
from services.rating.repositories.ledger import OffsetsMoved
from services.runtime.log import Log, LogReader, LogRecord
from services.runtime.settings import Settings

__all__ = ["Consumer"]

POLL_WAIT_MS = 200
"""How long a poll waits for records; a stop is noticed within it."""

RIVAL_PAUSE_S = 2.0
"""After another replica was faster, leave it alone for a random part of this."""


class Consumer:
    """Books one topic until it is stopped; its offsets lie in the database, beside what was booked."""

    topic: str

    def __init__(self, *, engine: Engine, log: Log, settings: Settings, log_events: Any) -> None:
        self._engine = engine
        self._log = log
        self._settings = settings
        self._log_events = log_events
        self._stopping = asyncio.Event()
        self._patience = Patience(
            outage_timeout_ms=settings.outage_timeout_ms, stopping=self._stopping, log_events=log_events
        )
        self._stored: dict[int, int] = {}

    async def run(self) -> None:
        """Book until `stop`.

        Raises OffsetOutOfRange when the log has dropped records that were not booked, OutageTooLong, and bugs.
        """
        try:
            reader = await self._patience.through(lambda: self._log.reader(self.topic))
            try:
                await self._resume(reader)
                while not self._stopping.is_set():
                    await self._go_on(reader)
            finally:
                await reader.close()
        except Stopping:
            return

    def stop(self) -> None:
        """Let `run` end after the transaction in hand."""
        self._stopping.set()

    async def _go_on(self, reader: LogReader) -> None:
        try:
            await self._step(reader)
        except OffsetsMoved as moved:
            await self._give_way(moved)
            await self._resume(reader)

    async def _give_way(self, moved: OffsetsMoved) -> None:
        """Leave alone for a while whoever was faster."""
        self._log_events.info("rival_was_faster", detail=str(moved))
        await self._patience.pause(random.uniform(0, RIVAL_PAUSE_S))  # noqa: S311 - jitter, no secret

    async def _step(self, reader: LogReader) -> None:
        """Book what is there. Raises OffsetsMoved when another replica booked it first."""
        raise NotImplementedError

    async def _poll(self, reader: LogReader) -> Mapping[int, Sequence[LogRecord]]:
        return await self._patience.through(
            lambda: reader.poll(max_records=self._settings.ledger_batch_records, max_wait_ms=POLL_WAIT_MS)
        )

    async def _resume(self, reader: LogReader) -> None:
        beginnings = await self._patience.through(reader.beginning_offsets)
        self._stored = await self._patience.through(lambda: asyncio.to_thread(self._begin, self.topic, beginnings))
        await self._patience.through(lambda: reader.seek(self._stored))

    def _begin(self, topic: str, beginnings: Mapping[int, int]) -> dict[int, int]:
        """Where to go on in `topic`."""
        with writing(self._engine) as connection:
            books.begin_partitions(connection, topic, beginnings)
            return books.next_offsets(connection, topic)
