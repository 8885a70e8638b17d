"""The file below the embedded log: its layout, its SQL, and who may touch it.

One SQLite file, used by several processes at once; each process has one thread that writes and one that reads, so that
neither a busy file nor a checkpoint stops the event loop. Everything here but `EmbeddedFile` and `Bell` runs in those
threads: plain functions over a connection.
"""

import asyncio
import concurrent.futures
import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from schemas.topics import Topic
from services.runtime.file_lock import alone_at
from services.runtime.lanes import check_range
from services.runtime.log import LogError, LogUnavailable

FILE_NAME = "log.sqlite3"
LAYOUT_VERSION = 1
MAX_PARTITIONS = 1024

READ_OCTETS = 4 * 1024 * 1024
"""A read stops after this many octets, so that a few large records cannot fill the memory."""

WATCH_INTERVAL_S = 0.01
BUSY_ATTEMPT_S = 0.25
TOMBSTONE_RETENTION_MS = 86_400_000

_OFFSET_BITS = 40
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1

_LAYOUT = (
    "CREATE TABLE topic(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL,"
    " compacted INTEGER NOT NULL, max_octets INTEGER NOT NULL, retention_ms INTEGER NOT NULL)",
    # `part` is topic id * 1024 + partition; a record's id is part << 40 | offset, so that each partition is one
    # contiguous range of the table and appending is writing at its end.
    "CREATE TABLE part(id INTEGER PRIMARY KEY, begin_offset INTEGER NOT NULL, next_offset INTEGER NOT NULL)",
    "CREATE TABLE record(id INTEGER PRIMARY KEY, timestamp_ms INTEGER NOT NULL, key BLOB, value BLOB)",
    # A compacted topic keeps the last record of each key: replacing on the unique key is the compaction.
    "CREATE TABLE compacted_record(id INTEGER PRIMARY KEY, timestamp_ms INTEGER NOT NULL, key BLOB NOT NULL,"
    " value BLOB, part INTEGER NOT NULL, UNIQUE(part, key))",
    # How far a partition had got at a wall-clock time: retention goes by storing time, not by event time.
    "CREATE TABLE mark(part INTEGER NOT NULL, stored_ms INTEGER NOT NULL, next_offset INTEGER NOT NULL)",
    "CREATE INDEX mark_by_part ON mark(part, stored_ms)",
    "CREATE TABLE group_offset(grp TEXT NOT NULL, part INTEGER NOT NULL, next_offset INTEGER NOT NULL,"
    " PRIMARY KEY(grp, part)) WITHOUT ROWID",
    "CREATE TABLE lane(grp TEXT NOT NULL, partition INTEGER NOT NULL, epoch INTEGER NOT NULL,"
    " PRIMARY KEY(grp, partition)) WITHOUT ROWID",
    "CREATE TABLE member(id TEXT PRIMARY KEY, grp TEXT NOT NULL)",
)

T = TypeVar("T")
Row = tuple[int, bytes | None, bytes | None]
"""A record to store: timestamp in ms, key, value."""


class EmbeddedRecord(NamedTuple):
    """One record as read; the shape of `services.runtime.log.LogRecord`."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class EmbeddedTopic(NamedTuple):
    """A topic as the file knows it."""

    id: int
    name: str
    partitions: int
    compacted: bool
    max_octets: int
    retention_ms: int

    def part(self, partition: int) -> int:
        """The id of one partition."""
        return self.id * MAX_PARTITIONS + partition

    def parts(self) -> range:
        """The ids of all partitions."""
        return range(self.part(0), self.part(self.partitions))


Part = tuple[EmbeddedTopic, int]
"""A partition of a topic."""


class Found(NamedTuple):
    """What a read found: records, the position after them, and the partition's end."""

    records: list[EmbeddedRecord]
    position: int
    end: int


class EmbeddedFile:
    """The open file: a connection to write with, one to read with, one to see the changes of others with."""

    def __init__(self, folder: Path, *, outage_timeout_ms: int) -> None:
        self.folder = folder
        self._outage_s = outage_timeout_ms / 1000
        self._closing = False
        self._threads = [concurrent.futures.ThreadPoolExecutor(1, f"log-{name}") for name in ("write", "read")]
        self._writer, self._reader, self._watcher = (_connect(folder / FILE_NAME, self._outage_s) for _ in range(3))
        for connection in (self._writer, self._watcher):
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY_ATTEMPT_S * 1000)}")
        self.bell = Bell(self._watcher)
        self._topics: dict[str, EmbeddedTopic] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, folder: Path, *, outage_timeout_ms: int) -> "EmbeddedFile":
        """Open the file, creating what is missing. Raises LogUnavailable, or LogError for another layout."""

        def prepare() -> EmbeddedFile:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _prepare(folder, outage_timeout_ms / 1000)
                return cls(folder, outage_timeout_ms=outage_timeout_ms)
            except (OSError, sqlite3.Error) as error:
                raise LogUnavailable(f"{folder / FILE_NAME} cannot be opened: {error}; see data_dir") from error

        file = await asyncio.get_running_loop().run_in_executor(None, prepare)
        file.keep(file.bell.watch())
        return file

    async def close(self) -> None:
        """Close the connections, each in its own thread."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        loop = asyncio.get_running_loop()
        for thread, connection in zip(self._threads, (self._writer, self._reader), strict=True):
            await loop.run_in_executor(thread, connection.close)
            thread.shutdown(wait=False)
        self._watcher.close()

    def keep(self, upkeep: Coroutine[None, None, None]) -> None:
        """Run `upkeep` until the file is closed; if it fails, so does the next use of the file."""
        self._tasks.append(asyncio.create_task(upkeep))

    async def write(self, work: Callable[[sqlite3.Connection], T], *, written: Iterable[Part] = ()) -> T:
        """Run `work` in one transaction, then wake whoever waits for the partitions `written`."""
        result = await self._run(self._threads[0], lambda: self._transact(work))
        self.bell.ring({topic.part(partition) for topic, partition in written})
        return result

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which only reads, in the reading thread."""
        return await self._run(self._threads[1], lambda: work(self._reader))

    async def topic(self, name: str) -> EmbeddedTopic:
        """A topic by name. Raises LogError when it does not exist."""
        if name not in self._topics:
            await self.learn_topics()
        return self.known_topic(name)

    async def learn_topics(self) -> None:
        """Take note of all topics, so that `known_topic` need not ask the file."""
        rows = await self.read(lambda connection: connection.execute("SELECT * FROM topic").fetchall())
        self._topics = {topic.name: topic for topic in map(EmbeddedTopic._make, rows)}

    def known_topic(self, name: str) -> EmbeddedTopic:
        """A topic by name, from memory. Raises LogError when it is not known."""
        try:
            return self._topics[name]
        except KeyError:
            raise LogError(f"topic {name!r} does not exist; `smartpipe topics` creates it") from None

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        ends_at = time.monotonic() + self._outage_s
        while True:
            try:
                return _transact(self._writer, work)
            except sqlite3.OperationalError as error:
                # Waiting for a busy file is cut into short pieces, so that closing need not wait for all of it.
                if not _is_busy(error) or self._closing or time.monotonic() > ends_at:
                    raise

    async def _run(self, thread: concurrent.futures.Executor, work: Callable[[], T]) -> T:
        if self._closing:
            raise LogError(f"{self.folder / FILE_NAME} is closed")
        for task in self._tasks:
            if task.done():
                task.result()
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, work)
        except sqlite3.Error as error:
            raise LogUnavailable(f"{self.folder / FILE_NAME}: {error}") from error


class Bell:
    """Wakes waiting reads: at once for commits of this process, after a look at the file for those of others."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._listeners: dict[Callable[[], None], frozenset[int]] = {}

    def listen(self, listener: Callable[[], None], parts: Iterable[int]) -> None:
        """Call `listener` after every commit to one of `parts`, until `leave`."""
        self._listeners[listener] = frozenset(parts)

    def leave(self, listener: Callable[[], None]) -> None:
        """Call it no more."""
        self._listeners.pop(listener, None)

    def ring(self, parts: set[int]) -> None:
        """This process has written to `parts`."""
        for listener, wanted in self._listeners.items():
            if not parts.isdisjoint(wanted):
                listener()

    async def watch(self) -> None:
        """Ring for what other processes write; SQLite does not say where, so everybody is woken."""
        seen = None
        while True:
            version = self._version()
            if version is None or version != seen:
                seen = version
                for listener in self._listeners:
                    listener()
            await asyncio.sleep(WATCH_INTERVAL_S)

    def _version(self) -> int | None:
        """What changes with every commit of another process; None while the file is too busy to tell."""
        try:
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            return None
        return int(version)


class Member:
    """A host's place in its group: a row, and a locked file that says that the process lives.

    The kernel gives the lock back when the process dies, however it dies, so there is no lease to wait for.
    """

    def __init__(self, folder: Path, group: str) -> None:
        self.id = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        self._folder = folder / "members"
        self._group = group
        self._lock: int | None = None

    def join(self, connection: sqlite3.Connection) -> None:
        """Take the lock, then show up: a member that is seen without its lock would be taken for dead."""
        self._folder.mkdir(exist_ok=True)
        self._lock = os.open(self._folder / self.id, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        connection.execute("INSERT INTO member(id, grp) VALUES (?, ?)", (self.id, self._group))

    def unlock(self) -> None:
        """Give the lock back: from now on the others take this member for dead, and its partitions over."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def everybody(self, connection: sqlite3.Connection) -> list[tuple[str, bool]]:
        """All members of the group in the order in which they joined, each with whether it lives."""
        rows = connection.execute("SELECT id FROM member WHERE grp = ? ORDER BY id", (self._group,)).fetchall()
        return [(other, other == self.id or self._is_locked(other)) for (other,) in rows]

    def bury(self, connection: sqlite3.Connection, dead: Iterable[str]) -> None:
        """Forget members that have died."""
        for member in dead:
            connection.execute("DELETE FROM member WHERE id = ?", (member,))
            (self._folder / member).unlink(missing_ok=True)

    def _is_locked(self, member: str) -> bool:
        try:
            lock = os.open(self._folder / member, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(lock)


def ensure_topics(connection: sqlite3.Connection, topics: Sequence[Topic], partitions: int) -> None:
    """Create what is missing. Raises LogError for a topic whose partition count differs."""
    for topic in topics:
        wanted = 1 if topic.single_partition else partitions
        row = connection.execute("SELECT partitions FROM topic WHERE name = ?", (topic.name,)).fetchone()
        if row is None:
            _create_topic(connection, topic, wanted)
        elif row[0] != wanted:
            raise LogError(
                f"topic {topic.name!r} has {row[0]} partitions, not {wanted}: keys would move to other lanes; "
                "set `partitions` to what exists or start with a new log"
            )


def take_over(
    connection: sqlite3.Connection, *, group: str, partition: int, inputs: Mapping[str, EmbeddedTopic]
) -> tuple[int, dict[str, int]]:
    """Raise the lane's epoch, which fences whoever had it; the new epoch and the committed offset per input.

    An input without a committed offset is read from its beginning. Raises OffsetOutOfRange.
    """
    (epoch,) = connection.execute(
        "INSERT INTO lane(grp, partition, epoch) VALUES (?, ?, 1)"
        " ON CONFLICT(grp, partition) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
        (group, partition),
    ).fetchone()
    offsets = {}
    for name, topic in inputs.items():
        begin, end = bounds(connection, topic.part(partition))
        row = connection.execute(
            "SELECT next_offset FROM group_offset WHERE grp = ? AND part = ?", (group, topic.part(partition))
        ).fetchone()
        offsets[name] = check_range(name, partition, row[0] if row else begin, begin=begin, end=end)
    return epoch, offsets


def epoch_of(connection: sqlite3.Connection, *, group: str, partition: int) -> int:
    """The epoch of the lane's present owner."""
    (epoch,) = connection.execute(
        "SELECT epoch FROM lane WHERE grp = ? AND partition = ?", (group, partition)
    ).fetchone()
    return int(epoch)


def store_offsets(connection: sqlite3.Connection, group: str, next_offsets: Mapping[int, int]) -> None:
    """Set the group's committed offset of each part."""
    connection.executemany(
        "INSERT OR REPLACE INTO group_offset(grp, part, next_offset) VALUES (?, ?, ?)",
        [(group, part, offset) for part, offset in next_offsets.items()],
    )


def bounds(connection: sqlite3.Connection, part: int) -> tuple[int, int]:
    """First offset that a partition still holds, and the next one that it will give."""
    begin, end = connection.execute("SELECT begin_offset, next_offset FROM part WHERE id = ?", (part,)).fetchone()
    return begin, end


def read(connection: sqlite3.Connection, place: Part, *, start: int, stop: int | None, max_records: int) -> Found:
    """Records from `start` up to `stop` (now's end if None), bounded in number and octets.

    Raises OffsetOutOfRange when retention has overtaken `start`.
    """
    topic, partition = place
    part = topic.part(partition)
    begin, end = bounds(connection, part)
    if start < begin:
        check_range(topic.name, partition, start, begin=begin, end=end)
    stop = end if stop is None else stop
    table = "compacted_record" if topic.compacted else "record"
    cursor = connection.execute(
        f"SELECT id & {_OFFSET_MASK}, timestamp_ms, key, value FROM {table}"  # noqa: S608 - both names are ours
        " WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (part << _OFFSET_BITS | start, part << _OFFSET_BITS | stop, max_records),
    )
    records: list[EmbeddedRecord] = []
    octets = 0
    for row in cursor:
        records.append(EmbeddedRecord._make(row))
        octets += len(row[3] or b"")
        if octets >= READ_OCTETS:
            break
    if octets < READ_OCTETS and len(records) < max_records:
        # Everything up to the end has been seen, holes of compaction included.
        return Found(records, stop, end)
    return Found(records, records[-1].offset + 1, end)


def append(connection: sqlite3.Connection, batches: Mapping[Part, Sequence[Row]]) -> None:
    """Write records at the end of their partitions, inside the caller's transaction."""
    for (topic, partition), rows in batches.items():
        part = topic.part(partition)
        _, end = bounds(connection, part)
        first = part << _OFFSET_BITS | end
        if topic.compacted:
            connection.executemany(
                "INSERT OR REPLACE INTO compacted_record(id, timestamp_ms, key, value, part) VALUES (?, ?, ?, ?, ?)",
                ((id_, *row, part) for id_, row in enumerate(rows, first)),
            )
        else:
            connection.executemany(
                "INSERT INTO record(id, timestamp_ms, key, value) VALUES (?, ?, ?, ?)",
                ((id_, *row) for id_, row in enumerate(rows, first)),
            )
        connection.execute("UPDATE part SET next_offset = ? WHERE id = ?", (end + len(rows), part))


def apply_retention(connection: sqlite3.Connection, now_ms: int) -> None:
    """Drop what was stored longer ago than each topic keeps records, and tombstones after a day.

    Goes by marks, which it sets itself: as exact as it is called often.
    """
    for topic in map(EmbeddedTopic._make, connection.execute("SELECT * FROM topic").fetchall()):
        kept_ms = TOMBSTONE_RETENTION_MS if topic.compacted else topic.retention_ms
        for partition, part in enumerate(topic.parts()):
            (before,) = connection.execute(
                "SELECT max(next_offset) FROM mark WHERE part = ? AND stored_ms <= ?", (part, now_ms - kept_ms)
            ).fetchone()
            if before is not None:
                drop_before(connection, (topic, partition), before)
            connection.execute("INSERT INTO mark SELECT id, ?, next_offset FROM part WHERE id = ?", (now_ms, part))


def drop_before(connection: sqlite3.Connection, place: Part, before: int) -> None:
    """Forget what a partition holds before an offset; of a compacted one only the tombstones."""
    topic, partition = place
    part = topic.part(partition)
    first, last = part << _OFFSET_BITS, part << _OFFSET_BITS | before
    if topic.compacted:
        connection.execute("DELETE FROM compacted_record WHERE id >= ? AND id < ? AND value IS NULL", (first, last))
    else:
        connection.execute("DELETE FROM record WHERE id >= ? AND id < ?", (first, last))
        connection.execute("UPDATE part SET begin_offset = max(begin_offset, ?) WHERE id = ?", (before, part))
    connection.execute("DELETE FROM mark WHERE part = ? AND next_offset <= ?", (part, before))


def _create_topic(connection: sqlite3.Connection, topic: Topic, partitions: int) -> None:
    if partitions > MAX_PARTITIONS:
        raise LogError(f"topic {topic.name!r}: {partitions} partitions; at most {MAX_PARTITIONS} fit the embedded log")
    created = connection.execute(
        "INSERT INTO topic(name, partitions, compacted, max_octets, retention_ms) VALUES (?, ?, ?, ?, ?) RETURNING *",
        (topic.name, partitions, topic.compacted, topic.max_message_octets, topic.retention_ms),
    ).fetchone()
    parts = [(part,) for part in EmbeddedTopic._make(created).parts()]
    connection.executemany("INSERT INTO part(id, begin_offset, next_offset) VALUES (?, 0, 0)", parts)


def _is_busy(error: sqlite3.OperationalError) -> bool:
    # The low octet is the kind; the rest tells recovering from writing.
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    # Each connection is used by one thread at a time, but is opened in another. Also what only reads may have to wait:
    # for who recovers the file after a crash, and for who cleans up behind himself as the last to leave.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=busy_timeout_s)
    # NORMAL in WAL mode survives the death of the process; only a loss of power may take the last batches back.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA cache_size = -8192")
    return connection


def _prepare(folder: Path, busy_timeout_s: float) -> None:
    # A change of the journal mode does not wait for a busy file.
    with alone_at(folder / f"{FILE_NAME}.create"):
        connection = _connect(folder / FILE_NAME, busy_timeout_s)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                _transact(connection, _create_layout)
            elif version != LAYOUT_VERSION:
                raise LogError(
                    f"{folder / FILE_NAME} has layout {version}, this version reads {LAYOUT_VERSION}; "
                    "use another data_dir"
                )
        finally:
            connection.close()


def _create_layout(connection: sqlite3.Connection) -> None:
    for statement in _LAYOUT:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {LAYOUT_VERSION}")


def _transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        # A full disk may have rolled it back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
