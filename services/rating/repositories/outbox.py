"""The outbox: records that must reach the log, stored in the transaction of the change that they announce.

Their ids rise in the order of storing. Two transactions that touch the same key are kept apart by the lock of their
account or of the catalogue, so ids also rise in the order in which changes of one key were committed.
"""

import contextlib
import fcntl
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from sqlalchemy import Connection, Engine, delete, func, select, text

from schemas.topics import BY_NAME
from services.rating.database import outages, reading, writing
from services.rating.models import outbox

RELAY_LOCK = 0x534D_4152_5402
"""Key of the PostgreSQL advisory lock of the one relay at work."""

MAX_RECORDS = 1_000
MAX_OCTETS = 4 * 1024 * 1024
"""Most that is taken out of the outbox at once; one larger record is taken alone."""

MAX_PER_KEY = 8
"""Most records of one key in a batch. A batch may be published twice, and a lane remembers an account's last sixteen
commands: so every command of a repeated batch is still known as a repetition."""

_IDS_PER_STATEMENT = 500

_bells: dict[str, list[Callable[[], object]]] = {}


class OutboxRecord(NamedTuple):
    """One record on its way; a value of None is a tombstone."""

    topic: str
    key: bytes
    value: bytes | None
    partition: int | None = None
    """For what is meant for a lane; None = the key's."""


class Pending(NamedTuple):
    """A record in the outbox."""

    id: int
    topic: str
    key: bytes
    value: bytes | None
    created_at_ms: int
    partition: int | None


def put(connection: Connection, records: Sequence[OutboxRecord], *, at_ms: int) -> None:
    """Store records in the caller's transaction, in this order. Call `ring` after the commit.

    Raises ValueError for a record that its topic would refuse: it would block all that come after it.
    """
    for record in records:
        limit = BY_NAME[record.topic].max_message_octets - 1024
        if record.value is not None and len(record.value) > limit:
            raise ValueError(f"{record.topic} {record.key!r} has {len(record.value)} octets; at most {limit} are taken")
    if records:
        connection.execute(outbox.insert(), [{**record._asdict(), "created_at_ms": at_ms} for record in records])


def ring(engine: Engine) -> None:
    """Tell the relays of this process that something was committed to the outbox; from any thread."""
    for bell in list(_bells.get(str(engine.url), ())):
        bell()


@contextlib.contextmanager
def hearing(engine: Engine, bell: Callable[[], object]) -> Iterator[None]:
    """Have `bell` called at each `ring` for the same database, until the end of the block."""
    bells = _bells.setdefault(str(engine.url), [])
    bells.append(bell)
    try:
        yield
    finally:
        bells.remove(bell)


def count(engine: Engine) -> int:
    """Records not yet published."""
    with reading(engine) as connection:
        return connection.scalar(select(func.count()).select_from(outbox)) or 0


def oldest(engine: Engine) -> list[Pending]:
    """The oldest records, in order: at most MAX_RECORDS, about MAX_OCTETS, and MAX_PER_KEY of one key."""
    with reading(engine) as connection:
        ids = _next_ids(connection)
        if not ids:
            return []
        query = select(outbox).where(outbox.c.id.between(ids[0], ids[-1])).order_by(outbox.c.id)
        return [Pending(*row) for row in connection.execute(query)]


def _next_ids(connection: Connection) -> list[int]:
    size = func.coalesce(func.length(outbox.c.value), 0)
    query = select(outbox.c.id, outbox.c.topic, outbox.c.key, size).order_by(outbox.c.id).limit(MAX_RECORDS)
    ids: list[int] = []
    octets, per_key = 0, Counter[tuple[str, bytes]]()
    for record_id, topic, key, length in connection.execute(query):
        octets += length
        per_key[topic, key] += 1
        if ids and (octets > MAX_OCTETS or per_key[topic, key] > MAX_PER_KEY):
            break
        ids.append(record_id)
    return ids


def remove(engine: Engine, ids: Sequence[int]) -> None:
    """Forget records that are published."""
    with writing(engine) as connection:
        for at in range(0, len(ids), _IDS_PER_STATEMENT):
            connection.execute(delete(outbox).where(outbox.c.id.in_(ids[at : at + _IDS_PER_STATEMENT])))


class RelayLock:
    """Held by the one relay at work; free again as soon as its holder is gone, however that ended."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Whether the lock is ours now. Raises DatabaseDown."""
        return self._lock_row() if self._engine.dialect.name == "postgresql" else self._lock_file()

    def release(self) -> None:
        """Give it back, if it was ours."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _lock_row(self) -> bool:
        with outages():
            connection = self._engine.connect()
            try:
                held = connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": RELAY_LOCK})
            except BaseException:
                connection.close()
                raise
        if not held:
            connection.close()
            return False
        self._connection = connection
        return True

    def _lock_file(self) -> bool:
        file = Path(f"{self._engine.url.database}.relay").open("ab")  # noqa: SIM115 - it is held until `release`
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True
