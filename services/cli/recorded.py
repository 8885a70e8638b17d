"""Recorded traffic: flow records and account commands from files or from the log, in the order a lane gets them.

Everything is read as a stream and read only; nothing here grows with the length of the recording.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from schemas.catalogue import Catalogue
from schemas.command import COMMAND_MAJOR, AccountCommand, GrantLease
from schemas.flow import FlowRecord
from schemas.topics import CATALOGUE, COMMANDS, FLOWS
from services.engine.feed import CatalogueFeed
from services.engine.simulate import Clock
from services.ingest.jsonlines import JsonLinesError, read_flows
from services.policy.intake import Refused, read_command, read_flow
from services.policy.seen import SeenIds
from services.runtime.log import Log, LogReader, LogRecord, LogUnavailable

POLL_RECORDS = 5_000
POLL_WAIT_MS = 200
PROGRESS_EVERY_FLOWS = 100_000
STALLED_S = 30.0
"""A reader that brings nothing for so long, although its end is not reached, will not bring anything any more."""

_decode_command: Callable[[bytes], AccountCommand] = msgspec.json.Decoder(AccountCommand).decode


class RecordingError(ValueError):
    """A recording cannot be read: the message names file and line, or topic, and what to mend."""


class Listener(Protocol):
    """What a recording is played to."""

    def next_lane(self) -> None:
        """The records of another lane begin."""

    def command(self, command: AccountCommand, *, arrived_ms: int) -> None:
        """A command arrived."""

    def flow(self, flow: FlowRecord, *, arrived_ms: int) -> None:
        """A flow record arrived."""


class Recording:
    """Plays records to a listener, leaving out what a lane would refuse: duplicates, and what it cannot read."""

    def __init__(self, listener: Listener, *, seen_records: int, progress: Callable[[int], None]) -> None:
        self.refused: Counter[str] = Counter()
        """Records left out, by the cause of their dead letter."""
        self._listener = listener
        self._seen_records = seen_records
        self._progress = progress
        self._seen = SeenIds(seen_records)
        self._flows = 0

    def play_files(self, flows: str, accounts: Path | None) -> None:
        """Play a file of flow records (`-` = standard input), and one of account commands that go before or between.

        A file does not say when its records arrived: a flow counts as arrived at its end, a command when it was
        issued, and a command goes before the first flow that arrives later. Raises RecordingError, OSError.
        """
        clock = Clock()
        waiting = read_commands(accounts) if accounts is not None else iter(())
        command = next(waiting, None)
        for flow in _flows_of(flows):
            arrived_ms = clock.tick(flow.end_ms)
            while command is not None and command.issued_at_ms <= arrived_ms:
                self._listener.command(command, arrived_ms=command.issued_at_ms)
                command = next(waiting, None)
            self._flow(flow, arrived_ms)
        for later in () if command is None else (command, *waiting):
            self._listener.command(later, arrived_ms=later.issued_at_ms)

    async def play_topics(self, log: Log, *, max_record_octets: int) -> None:
        """Play the flow and command topics of a started `log`, lane by lane, up to their ends as of now.

        The time of arrival is the one that the log has. Raises LogError.
        """
        flows, commands = await log.reader(FLOWS), await log.reader(COMMANDS)
        try:
            ends = {FLOWS: await flows.end_offsets(), COMMANDS: await commands.end_offsets()}
            for partition in sorted(ends[FLOWS]):
                self._listener.next_lane()
                self._seen = SeenIds(self._seen_records)
                async for topic, record in _merged(
                    records_of(commands, COMMANDS, partition, ends[COMMANDS].get(partition, 0)),
                    records_of(flows, FLOWS, partition, ends[FLOWS][partition]),
                ):
                    self._take(topic, record, max_record_octets)
        finally:
            await flows.close()
            await commands.close()

    def _take(self, topic: str, record: LogRecord, max_octets: int) -> None:
        found = (read_flow if topic == FLOWS else read_command)(record, max_octets)
        if isinstance(found, Refused):
            self.refused[found.cause] += 1
        elif isinstance(found, FlowRecord):
            self._flow(found, record.timestamp)
        elif not isinstance(found, GrantLease):
            # A grant is for a lane; a simulation keeps the budgets of its own tariffs.
            self._listener.command(found, arrived_ms=record.timestamp)

    def _flow(self, flow: FlowRecord, arrived_ms: int) -> None:
        if not self._seen.add(flow.record_id):
            self.refused["duplicate"] += 1
            return
        self._listener.flow(flow, arrived_ms=arrived_ms)
        self._flows += 1
        self._progress(self._flows)


def read_commands(path: Path) -> Iterator[AccountCommand]:
    """The account commands of a file of JSON Lines, as `ott.account-commands.v1` holds them. Raises RecordingError."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _command(line, f"{path} line {number}")


async def read_catalogue_topic(log: Log) -> Catalogue:
    """The newest complete catalogue that a started `log` holds. Raises RecordingError when there is none."""
    reader, feed = await log.reader(CATALOGUE), CatalogueFeed()
    try:
        for partition, end in (await reader.end_offsets()).items():
            async for record in records_of(reader, CATALOGUE, partition, end):
                if record.key is not None:
                    feed.offer(record.key, record.value)
    finally:
        await reader.close()
    catalogue = feed.take()
    if catalogue is None:
        raise RecordingError(f"{CATALOGUE} holds no complete catalogue; publish one, or give --against FOLDER")
    return catalogue


async def records_of(reader: LogReader, topic: str, partition: int, end: int) -> AsyncIterator[LogRecord]:
    """The records of one partition, from the first that the log still holds up to `end`. Raises LogUnavailable."""
    loop = asyncio.get_running_loop()
    position = (await reader.beginning_offsets()).get(partition, 0)
    if position >= end:
        return
    # The other partitions are put to their ends, so that each poll brings this one only.
    await reader.seek({**await reader.end_offsets(), partition: position})
    moved_s = loop.time()
    while position < end:
        polled = await reader.poll(max_records=POLL_RECORDS, max_wait_ms=POLL_WAIT_MS)
        for record in polled.get(partition, ()):
            if record.offset < end:
                yield record
        if reader.position(partition) > position:
            moved_s, position = loop.time(), reader.position(partition)
        elif loop.time() - moved_s > STALLED_S:
            raise LogUnavailable(f"{topic}-{partition} brings nothing after offset {position}; look after the log")


async def _merged(
    commands: AsyncIterator[LogRecord], flows: AsyncIterator[LogRecord]
) -> AsyncIterator[tuple[str, LogRecord]]:
    """Both topics of a lane by time of arrival; of one time, commands come first, as they do in a lane."""
    command, flow = await anext(commands, None), await anext(flows, None)
    while command is not None or flow is not None:
        if flow is None or (command is not None and command.timestamp <= flow.timestamp):
            assert command is not None  # noqa: S101 - the loop's condition
            yield COMMANDS, command
            command = await anext(commands, None)
        else:
            yield FLOWS, flow
            flow = await anext(flows, None)


def _flows_of(file: str) -> Iterator[FlowRecord]:
    name = "standard input" if file == "-" else file
    try:
        if file == "-":
            yield from read_flows(sys.stdin.buffer)
        else:
            with Path(file).open("rb") as lines:
                yield from read_flows(lines)
    except JsonLinesError as error:
        raise RecordingError(f"{name} {error}") from None


def _command(line: bytes, where: str) -> AccountCommand:
    try:
        command = _decode_command(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordingError(f"{where}: {error}; write one account command a line, as {COMMANDS} holds it") from None
    if not command.version.startswith(COMMAND_MAJOR + "."):
        raise RecordingError(f"{where}: version {command.version!r} is not supported; this reads {COMMAND_MAJOR}.x")
    return command


def say_progress(count: int) -> None:
    """Say on standard error how many flow records have been played, now and then."""
    if count % PROGRESS_EVERY_FLOWS == 0:
        print(f"smartpipe: {count} flow records", file=sys.stderr)
