"""The books a lane decides by: one catalogue version, compiled. Swapped as a whole, so no decision mixes two."""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Self

from schemas.catalogue import Catalogue
from schemas.topics import CATALOGUE
from services.engine.classify import Classifier
from services.engine.feed import CatalogueFeed
from services.engine.tariff import Tariff, compile_tariff
from services.runtime.log import Log, LogReader

POLL_RECORDS = 5_000
POLL_WAIT_MS = 500


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
    """Follows the catalogue topic and holds the newest complete version."""

    def __init__(self, log: Log, *, name_cache_entries: int, on_change: Callable[[Books, float], None]) -> None:
        self._log = log
        self._name_cache_entries = name_cache_entries
        self._on_change = on_change
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
                    self._feed.offer(record.key, record.value)

    async def _apply(self) -> None:
        catalogue = self._feed.take()
        if catalogue is None:
            return
        books = await asyncio.to_thread(Books.compile, catalogue, name_cache_entries=self._name_cache_entries)
        self._books = books
        self._on_change(books, time.time())
        self._first.set()
