"""Watches the outputs of the policy service from outside, as a gateway or a notifier would: by reading the log."""

import asyncio
import time
from collections.abc import Callable

import msgspec

from schemas import topics
from services.runtime.log import Log, LogReader

POLL_RECORDS = 5_000
POLL_WAIT_MS = 50


class _Letter(msgspec.Struct):
    source_topic: str


class _Notice(msgspec.Struct):
    kind: str


class Watch:
    """Counts what came out so far. `until` waits for a condition on the counts."""

    def __init__(self, log: Log, *, deadline_s: float) -> None:
        self._log = log
        self._deadline_s = deadline_s
        self._readers: dict[str, LogReader] = {}
        self.decisions = 0
        self.refused_flows = 0
        self.refused_commands = 0
        self.activated = 0

    async def start(self) -> None:
        """Begin reading at the beginning of each topic."""
        for topic in (topics.DECISIONS, topics.DEAD_LETTERS, topics.NOTIFICATIONS):
            self._readers[topic] = await self._log.reader(topic)

    async def close(self) -> None:
        """Give the readers back."""
        for reader in self._readers.values():
            await reader.close()

    async def until(self, condition: Callable[["Watch"], bool], what: str, *, alive: Callable[[], None]) -> None:
        """Wait until `condition` holds. `alive` is called now and then and raises if waiting has become pointless.

        Raises TimeoutError, naming `what` and the counts, after the deadline.
        """
        give_up = time.monotonic() + self._deadline_s
        while not condition(self):
            await self._read()
            alive()
            if time.monotonic() > give_up:
                raise TimeoutError(
                    f"waited {self._deadline_s:g} s until {what}; so far {self.decisions} decisions, "
                    f"{self.refused_flows} refused flow records, {self.activated} activations"
                )

    def settled_flows(self) -> int:
        """Flow records that have a decision or a dead letter."""
        return self.decisions + self.refused_flows

    async def _read(self) -> None:
        await asyncio.gather(*(self._read_topic(topic) for topic in self._readers))

    async def _read_topic(self, topic: str) -> None:
        polled = await self._readers[topic].poll(max_records=POLL_RECORDS, max_wait_ms=POLL_WAIT_MS)
        values = [record.value for records in polled.values() for record in records if record.value is not None]
        if topic == topics.DECISIONS:
            self.decisions += len(values)
        elif topic == topics.DEAD_LETTERS:
            sources = [_decode_letter(value).source_topic for value in values]
            self.refused_flows += sources.count(topics.FLOWS)
            self.refused_commands += sources.count(topics.COMMANDS)
        else:
            self.activated += sum(_decode_notice(value).kind == "activated" for value in values)


_decode_letter = msgspec.json.Decoder(_Letter).decode
_decode_notice = msgspec.json.Decoder(_Notice).decode
