"""The lane's memory of record ids: what makes a second record with the same id a duplicate.

Bounded: the last `capacity` ids of the lane, in slots of 1024 that the changelog keeps, the newest overwriting the
oldest. An id is remembered as eight octets of BLAKE2b; two ids of one horizon of 100 000 collide by chance once in
four thousand million horizons.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from schemas.state import STATE_VERSION, SeenRecords

SLOT_DIGESTS = 1_024
DIGEST_OCTETS = 8


def digest_of(record_id: str) -> bytes:
    """The eight octets that stand for a record id."""
    return blake2b(record_id.encode(), digest_size=DIGEST_OCTETS).digest()


class SeenIds:
    """The ids that this lane has decided, newest last."""

    def __init__(self, capacity: int) -> None:
        self._slots_kept = -(-capacity // SLOT_DIGESTS)
        self._known: set[bytes] = set()
        self._full: deque[list[bytes]] = deque()
        self._open: list[bytes] = []
        self._sequence = 0
        self._dirty: dict[int, list[bytes]] = {}

    def add(self, record_id: str) -> bool:
        """Remember `record_id`; False when it was known already."""
        if not self._slots_kept:
            return True
        digest = digest_of(record_id)
        if digest in self._known:
            return False
        self._known.add(digest)
        self._open.append(digest)
        self._dirty[self._sequence] = self._open
        if len(self._open) == SLOT_DIGESTS:
            self._close_slot()
        return True

    def changed_slots(self) -> Iterator[tuple[str, SeenRecords]]:
        """(changelog key, content) of the slots changed since the last call: one transaction's worth."""
        for sequence, digests in self._dirty.items():
            yield self._key(sequence), SeenRecords(STATE_VERSION, sequence, b"".join(digests))
        self._dirty = {}

    def restore(self, slots: Iterable[SeenRecords]) -> None:
        """Take what the changelog held, in any order. Slots beyond the capacity are left out, oldest first."""
        kept = sorted(slots, key=lambda slot: slot.sequence)[-self._slots_kept - 1 :] if self._slots_kept else []
        for slot in kept:
            digests = [slot.digests[at : at + DIGEST_OCTETS] for at in range(0, len(slot.digests), DIGEST_OCTETS)]
            self._known.update(digests)
            self._sequence, self._open = slot.sequence, digests
            if len(digests) == SLOT_DIGESTS:
                self._close_slot()
        self._dirty = {}

    def __len__(self) -> int:
        return len(self._known)

    def _close_slot(self) -> None:
        self._full.append(self._open)
        self._open = []
        self._sequence += 1
        if len(self._full) > self._slots_kept:
            self._known.difference_update(self._full.popleft())

    def _key(self, sequence: int) -> str:
        # One slot more than is kept: the open one must not overwrite the oldest that still counts.
        return f"s/{sequence % (self._slots_kept + 1)}"
