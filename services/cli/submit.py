"""`smartpipe submit`: account commands from a file into the rating database, whose outbox brings them to the lanes."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from schemas.command import COMMAND_VERSION, AccountCommand
from services.cli.lines import raw_lines
from services.cli.recorded import RecordingError, command_of
from services.rating.accounts import MAX_COMMANDS, CommandRefused, submit
from services.rating.database import Engine, open_migrated
from services.runtime.settings import Settings


class SubmissionRefused(Exception):  # noqa: N818 - a state of affairs
    """A command of the file is refused; the message names its line, field, value, rule and next step."""


def submit_file(
    file: str, settings: Settings, *, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
) -> Iterator[str]:
    """Submit the commands of `file` (`-` = standard input); one sentence for each MAX_COMMANDS of them, when stored.

    They are taken MAX_COMMANDS at a time, each time all or none.

    Raises SubmissionRefused, SchemaOutdated, DatabaseDown, OSError.
    """
    engine, done = open_migrated(settings), 0
    numbered = _commands(raw_lines(file), "standard input" if file == "-" else file, clock_ms())
    try:
        while batch := dict(islice(numbered, MAX_COMMANDS)):
            new = _take(engine, batch)
            done += len(batch)
            yield f"{new} commands stored, {len(batch) - new} known before; the rating service sends them on"
    except RecordingError as error:
        raise SubmissionRefused(f"{error}; of this file {done} commands are stored") from None


def _take(engine: Engine, batch: Mapping[str, AccountCommand]) -> int:
    try:
        return submit(engine, list(batch.values()))
    except CommandRefused as error:
        where = next(where for where, command in batch.items() if command.command_id == error.command_id)
        raise RecordingError(f"{where}: {error}") from None


def _commands(lines: Iterable[bytes], name: str, now_ms: int) -> Iterator[tuple[str, AccountCommand]]:
    """Place and command of every line that holds one. Raises RecordingError."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where, command = f"{name} line {number}", command_of(_completed(line, now_ms))
            if isinstance(command, str):
                raise RecordingError(f"{where}: {command}")
            yield where, command


def _completed(line: bytes, now_ms: int) -> bytes:
    """The command with what its writer may leave out. What is no JSON object is left to its decoder."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line
    common = {"version": COMMAND_VERSION, "command_id": str(uuid.uuid4()), "issued_at_ms": now_ms}
    return msgspec.json.encode({**common, **fields})
