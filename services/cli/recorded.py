"""Recorded traffic: flow records and account commands from files or from the log, in the order a lane gets them.

Everything is read as a stream and read only; nothing here grows with the length of the recording. What cannot be read
is left out, counted and, where it stands in a file, named.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from schemas.catalogue import Catalogue
from schemas.command import COMMAND_MAJOR, AccountCommand, GrantLease
from schemas.flow import FlowRecord
from schemas.topics import CATALOGUE, COMMANDS, FLOWS
from services.cli.lines import lines_of
from services.cli.progress import Progress, say
from services.engine.feed import CatalogueFeed
from services.engine.simulate import Clock
from services.ingest.jsonlines import JsonLinesError, decode_flow
from services.policy.intake import Refused, read_command, read_flow
from services.policy.seen import SeenIds
from services.runtime.log import Log, LogReader, LogRecord, LogUnavailable
from services.runtime.open_log import open_log
from services.runtime.settings import Settings

POLL_RECORDS = 5_000
POLL_WAIT_MS = 200
LOOK_EVERY_FLOWS = 500
"""How often the clock is looked at for a word about progress."""

MAX_NAMED_LINES = 10
"""Unreadable lines that are named; the rest is counted."""

UNREADABLE = "unreadable_line"
"""In the counts of what was left out: a line of a file that holds no flow record, or no account command."""

STALLED_S = 30.0
"""A reader that brings nothing for so long, although its end is not reached, will not bring anything any more."""

_decode_command: Callable[[bytes], AccountCommand] = msgspec.json.Decoder(AccountCommand).decode


class RecordingError(ValueError):
    """A recording cannot be read: the message names the topic or the folder, and what to mend."""


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

    def __init__(self, listener: Listener, *, seen_records: int, say: Callable[[str], None]) -> None:
        self.refused: Counter[str] = Counter()
        """Records left out, by the cause of their dead letter; lines of files are UNREADABLE."""
        self._listener = listener
        self._seen_records = seen_records
        self._say = say
        self._progress = Progress(say)
        self._seen = SeenIds(seen_records)
        self._flows = 0
        self._of = ""

    def play_files(self, flows: str, accounts: Path | None) -> None:
        """Play a file of flow records (`-` = standard input), and one of account commands that go before or between.

        A file does not say when its records arrived: a flow counts as arrived at its end, a command when it was
        issued, and a command goes before the first flow that arrives later. Raises OSError.
        """
        clock = Clock()
        waiting = self._commands_of(accounts) if accounts is not None else iter(())
        command = next(waiting, None)
        for flow in self._flows_of(flows):
            arrived_ms = clock.tick(flow.end_ms)
            while command is not None and command.issued_at_ms <= arrived_ms:
                self._listener.command(command, arrived_ms=command.issued_at_ms)
                command = next(waiting, None)
            self._flow(flow, arrived_ms)
        for later in () if command is None else (command, *waiting):
            self._listener.command(later, arrived_ms=later.issued_at_ms)
        if (unnamed := self.refused[UNREADABLE] - MAX_NAMED_LINES) > 0:
            self._say(f"{unnamed} more lines cannot be read")

    async def play_topics(self, log: Log, *, max_record_octets: int) -> None:
        """Play the flow and command topics of a started `log`, lane by lane, up to their ends as of now.

        The time of arrival is the one that the log has. Raises LogError.
        """
        flows, commands = await log.reader(FLOWS), await log.reader(COMMANDS)
        try:
            ends = {FLOWS: await flows.end_offsets(), COMMANDS: await commands.end_offsets()}
            held = _held(ends[FLOWS], await flows.beginning_offsets())
            self._of = f" of at most {held}"
            self._say(
                f"{FLOWS} holds at most {held} flow records in {len(ends[FLOWS])} lanes; what comes now is left out"
            )
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
        if self._flows % LOOK_EVERY_FLOWS == 0:
            self._progress.at(f"{self._flows}{self._of} flow records")

    def _flows_of(self, file: str) -> Iterator[FlowRecord]:
        for number, line in lines_of(file):
            try:
                yield decode_flow(line, number)
            except JsonLinesError as error:
                self._unreadable(f"{_name(file)} {error}")

    def _commands_of(self, path: Path) -> Iterator[AccountCommand]:
        """The account commands of a file of JSON Lines, as `ott.account-commands.v1` holds them."""
        for number, line in lines_of(str(path)):
            command = command_of(line)
            if isinstance(command, str):
                self._unreadable(f"{path} line {number}: {command}")
            else:
                yield command

    def _unreadable(self, problem: str) -> None:
        self.refused[UNREADABLE] += 1
        if self.refused[UNREADABLE] <= MAX_NAMED_LINES:
            self._say(problem)


@contextlib.asynccontextmanager
async def recorded_log(settings: Settings) -> AsyncIterator[Log]:
    """The configured log, started, only to be read.

    Raises RecordingError where there is no embedded log, which opening would make; LogUnavailable.
    """
    if settings.log == "kafka":
        limit_s = settings.outage_timeout_ms / 1_000
        say(f"reading from Kafka at {settings.kafka_bootstrap}, which has {limit_s:g} s to answer")
    elif not _embedded_file(settings).exists():
        raise RecordingError(
            f"there is no log at {_embedded_file(settings)}; give --data-dir FOLDER, --kafka HOST:PORT or --flows FILE"
        )
    log = open_log(settings)
    try:
        await log.start()
        yield log
    finally:
        await log.close()


def command_of(line: bytes) -> AccountCommand | str:
    """The account command in one line of JSON, or why it is none."""
    try:
        command = _decode_command(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"{error}; write one account command a line, as {COMMANDS} holds it"
    if not command.version.startswith(COMMAND_MAJOR + "."):
        return f"version {command.version!r} is not supported; this reads {COMMAND_MAJOR}.x"
    return command


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
    # The other partitions are put to their ends, so that nothing old is fetched of them beside it.
    await reader.seek({**await reader.end_offsets(), partition: position})
    moved_s = loop.time()
    while position < end:
        polled = await reader.poll(max_records=POLL_RECORDS, max_wait_ms=POLL_WAIT_MS, partition=partition)
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


def _held(ends: Mapping[int, int], begins: Mapping[int, int]) -> int:
    """Offsets between the two; some may be a transaction's own marks, or compacted."""
    return sum(end - begins.get(partition, 0) for partition, end in ends.items())


def _embedded_file(settings: Settings) -> Path:
    from services.runtime.embedded_file import FILE_NAME

    return Path(settings.data_dir) / FILE_NAME


def _name(file: str) -> str:
    return "standard input" if file == "-" else file
