"""The books a lane decides by: one catalogue version, compiled. Swapped as a whole, so no decision mixes two."""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Self

import msgspec

from schemas.catalogue import Catalogue
from schemas.topics import CATALOGUE
from services.engine.classify import Classifier
from services.engine.feed import CatalogueFeed
from services.engine.tariff import Tariff, compile_tariff
from services.runtime.log import Log, LogReader

POLL_RECORDS = 5_000
POLL_WAIT_MS = 500
MAX_REASON = 2_000
"""Characters that are kept of why a catalogue was refused: it quotes what somebody wrote."""


@dataclasses.dataclass(frozen=True)
class Books:
    """Everything that decisions of one catalogue version need."""

    version: str
    classifier: Classifier
    tariff: Tariff

    @classmethod
    def compile(cls, catalogue: Catalogue, *, name_cache_entries: int) -> Self:
        """Build the tables of `catalogue`; takes milliseconds to a second, by its size."""
        classifier = Classifier(catalogue.applications, cache_entries=name_cache_entries)
        return cls(catalogue.version, classifier, compile_tariff(catalogue))


class BookKeeper:
    """Follows the catalogue topic and holds the newest complete version that compiles.

    What cannot be read or compiled is refused as a whole and told to `on_refused`, with the reason: decisions go on by
    the books of before, since one bad version must not stop every worker. The next good version takes over.
    """

    def __init__(
        self,
        log: Log,
        *,
        name_cache_entries: int,
        on_change: Callable[[Books, float], None],
        on_refused: Callable[[str], None],
    ) -> None:
        self._log = log
        self._name_cache_entries = name_cache_entries
        self._on_change = on_change
        self._on_refused = on_refused
        self._unreadable: dict[bytes, str] = {}
        self._uncompiled: str | None = None
        self._feed = CatalogueFeed()
        self._first = asyncio.Event()
        self._books: Books | None = None

    @property
    def current(self) -> Books:
        """The books of now. Await `first` before the first use."""
        if self._books is None:
            raise RuntimeError("no catalogue yet; await BookKeeper.first() before deciding")
        return self._books

    def loaded(self) -> bool:
        """Whether a catalogue is there."""
        return self._books is not None

    def refused(self) -> str | None:
        """Why something in the topic is not in force; None when all is well.

        An entry that cannot be read is told until its key is written anew, whatever version is in force: a worker that
        starts may miss just that entry.
        """
        return self._uncompiled or next(iter(self._unreadable.values()), None)

    async def first(self) -> None:
        """Wait until a complete catalogue was read: without one nothing can be decided, so nothing is."""
        await self._first.wait()

    async def follow(self) -> None:
        """Read the topic for ever. Raises LogUnavailable when the log stays away."""
        reader = await self._log.reader(CATALOGUE)
        try:
            ends = await reader.end_offsets()
            while True:
                await self._read_some(reader)
                # While catching up at start, older complete versions on the way are of no interest.
                if all(reader.position(partition) >= end for partition, end in ends.items()):
                    await self._apply()
        finally:
            await reader.close()

    async def _read_some(self, reader: LogReader) -> None:
        for records in (await reader.poll(max_records=POLL_RECORDS, max_wait_ms=POLL_WAIT_MS)).values():
            for record in records:
                if record.key is not None:
                    self._offer(record.key, record.value)

    def _offer(self, key: bytes, value: bytes | None) -> None:
        self._unreadable.pop(key, None)
        try:
            self._feed.offer(key, value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if value is not None:
                detail = f"entry {key[:128]!r}: {error}; publish the object again, or a tombstone if it is nobody's"
                self._unreadable[key] = self._refuse(detail)

    async def _apply(self) -> None:
        try:
            catalogue = self._feed.take()
            if catalogue is None:
                return
            books = await asyncio.to_thread(Books.compile, catalogue, name_cache_entries=self._name_cache_entries)
        except Exception as error:
            # Compiling has touched nothing. Whatever is wrong with a version, stopping would make an outage of it.
            self._uncompiled = self._refuse(f"{type(error).__name__}: {error}; mend the catalogue, publish it again")
            return
        self._books, self._uncompiled = books, None
        self._on_change(books, time.time())
        self._first.set()

    def _refuse(self, reason: str) -> str:
        cut = reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]}..."
        self._on_refused(cut)
        return cut
