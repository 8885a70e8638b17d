"""What lanes refused: reads the dead letters of commands, so that an order which was refused is no longer pending.

A lane has the last word on a command. Its dead letter names the command and the reason; both are kept beside the
command, in the transaction that moves the offsets.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec

from schemas.dead_letter import DeadLetter
from schemas.topics import COMMANDS, DEAD_LETTERS
from services.rating.consumer import Consumer
from services.rating.database import Engine, again_after_collision, writing
from services.rating.repositories import accounts as files
from services.rating.repositories import ledger as books
from services.rating.repositories.accounts import RefusedCommand
from services.runtime.log import Log, LogReader, LogRecord
from services.runtime.settings import Settings
from services.runtime.telemetry import Health, events

MAX_DETAIL = 1_000

_events = events("rating.refusals")
_decode: Callable[[bytes], DeadLetter] = msgspec.json.Decoder(DeadLetter).decode
_OF_A_COMMAND = COMMANDS.encode()

Polled = Mapping[int, Sequence[LogRecord]]


class Refusals(Consumer):
    """Keeps refusals until it is stopped. One object, one `run`."""

    topic = DEAD_LETTERS

    def __init__(self, *, engine: Engine, log: Log, settings: Settings) -> None:
        super().__init__(engine=engine, log=log, settings=settings, log_events=_events)

    def health(self) -> Health:
        """Well while no outage holds it up."""
        outage = self._patience.outage
        return Health(ok=outage is None, detail=outage or "reading")

    async def _step(self, reader: LogReader) -> None:
        polled = await self._poll(reader)
        if not any(polled.values()):
            return
        moves = {partition: (self._stored[partition], reader.position(partition)) for partition in polled}
        found = refused_commands(polled)
        kept = await self._patience.through(lambda: asyncio.to_thread(self._keep, found, moves))
        self._stored.update({partition: following for partition, (_, following) in moves.items()})
        for refused in kept:
            _events.warning("command_refused", command_id=refused.command_id, cause=refused.cause)

    def _keep(self, found: Sequence[RefusedCommand], moves: Mapping[int, tuple[int, int]]) -> Sequence[RefusedCommand]:
        def once() -> Sequence[RefusedCommand]:
            with writing(self._engine) as connection:
                books.advance(connection, DEAD_LETTERS, moves, {})
                return files.keep_refused_commands(connection, found)

        return again_after_collision(once)


def refused_commands(polled: Polled) -> list[RefusedCommand]:
    """The refused commands among dead letters. What is no dead letter of a command is somebody else's to look into."""
    return [refused for records in polled.values() for record in records if (refused := _read(record.value))]


def _read(value: bytes | None) -> RefusedCommand | None:
    if value is None or _OF_A_COMMAND not in value:
        return None
    try:
        letter = _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if letter.source_topic != COMMANDS or letter.record_id is None:
        return None
    cause, detail = letter.cause, letter.detail
    if cause == "refused_command":
        # The lane's own reason stands before the first colon.
        cause, _, detail = letter.detail.partition(": ")  # type: ignore[assignment]
    return RefusedCommand(letter.record_id, cause, detail.replace("\x00", "\\0")[:MAX_DETAIL], letter.at_ms)
