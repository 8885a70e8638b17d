"""The bookkeeping of the reconciliation: offsets, ids and sums, in little memory for millions of records."""

from array import array
from collections import defaultdict
from collections.abc import Hashable, Iterator
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)

READ, DECIDED, REFUSED = 1, 2, 4
"""Marks of an input offset: it is in the log; it has a decision (or was applied); it has a dead letter."""

SHARDS = 64
OFFSET_BITS = 48


class OffsetMarks:
    """What is known of each offset of one input partition: one octet per offset, from `first` up to `end`."""

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self._marks = bytearray(max(0, end - first))

    def mark(self, offset: int, mark: int) -> bool:
        """Set `mark`; False when it was set before. Raises IndexError for an offset outside the partition."""
        at = offset - self.first
        if not 0 <= at < len(self._marks):
            raise IndexError(offset)
        before = self._marks[at]
        self._marks[at] = before | mark
        return not before & mark

    def of(self, offset: int) -> int:
        """The marks of `offset`; 0 outside the partition."""
        at = offset - self.first
        return self._marks[at] if 0 <= at < len(self._marks) else 0

    def next_open(self) -> int:
        """The offset after the last one that has an outcome: what is behind it is still waiting."""
        settled = self._marks.translate(_HAS_OUTCOME)
        return self.first + settled.rfind(b"\x01") + 1

    def count(self, marks: int, *, start: int = 0, below: int | None = None) -> int:
        """How many offsets from `start` on have exactly these marks."""
        return self._marks.count(marks, *self._range(start, below))

    def offsets(self, marks: int, *, start: int = 0, below: int | None = None) -> Iterator[int]:
        """The offsets from `start` on that have exactly these marks, rising."""
        at, until = self._range(start, below)
        while (at := self._marks.find(marks, at, until)) >= 0:
            yield self.first + at
            at += 1

    def _range(self, start: int, below: int | None) -> tuple[int, int]:
        until = len(self._marks) if below is None else max(0, below - self.first)
        return max(0, start - self.first), until


_HAS_OUTCOME = bytes(1 if marks & (DECIDED | REFUSED) else 0 for marks in range(256))


class Place(NamedTuple):
    """Where in a topic a record stands."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"partition {self.partition} offset {self.offset}"


class Repeat(NamedTuple):
    """An id that stands twice: the hash by which it was compared, and both places."""

    digest: int
    first: Place
    later: Place


class Missing(NamedTuple):
    """An id that is not where it should be: its hash, and where it was found."""

    digest: int
    place: Place


class IdBook:
    """Ids with the place where each stood: sixteen octets an id, compared by a 64-bit hash.

    Two different ids of five million share a hash once in a million runs, and another run tells that from a repeat.
    """

    def __init__(self) -> None:
        self._hashes = [array("q") for _ in range(SHARDS)]
        self._places = [array("q") for _ in range(SHARDS)]

    def add(self, identifier: str, partition: int, offset: int) -> None:
        """Enter `identifier`, seen at this place."""
        digest = hash(identifier)
        self._hashes[digest % SHARDS].append(digest)
        self._places[digest % SHARDS].append(partition << OFFSET_BITS | offset)

    def repeats(self) -> Iterator[Repeat]:
        """One for each later entry of an id that was entered before."""
        for hashes, places in zip(self._hashes, self._places, strict=True):
            seen: dict[int, int] = {}
            for digest, place in zip(hashes, places, strict=True):
                if (first := seen.setdefault(digest, place)) != place:
                    yield Repeat(digest, _place(first), _place(place))

    def missing_from(self, other: "IdBook") -> Iterator[Missing]:
        """The ids that `other` does not have."""
        for hashes, places, others in zip(self._hashes, self._places, other._hashes, strict=True):
            known = set(others)
            for digest, place in zip(hashes, places, strict=True):
                if digest not in known:
                    yield Missing(digest, _place(place))

    def __len__(self) -> int:
        return sum(map(len, self._hashes))


class TwoSums(Generic[Key]):
    """Two sums per key that have to be equal: what went in, and what came out."""

    def __init__(self) -> None:
        self.left: defaultdict[Key, int] = defaultdict(int)
        self.right: defaultdict[Key, int] = defaultdict(int)

    def keys(self) -> set[Key]:
        """Every key on either side."""
        return self.left.keys() | self.right.keys()

    def differences(self) -> Iterator[tuple[Key, int, int]]:
        """(key, left, right) where they differ; a missing sum is 0."""
        for key, left in self.left.items():
            if left != (right := self.right.get(key, 0)):
                yield key, left, right
        for key, right in self.right.items():
            if right and key not in self.left:
                yield key, 0, right


def _place(packed: int) -> Place:
    return Place(packed >> OFFSET_BITS, packed & (1 << OFFSET_BITS) - 1)
