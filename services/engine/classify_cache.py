"""A cache that never outgrows its limit, however hostile the keys."""

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedCache(dict[Key, Value]):
    """At most `entries` pairs in two generations; when the young one fills, the old one is dropped whole.

    What is asked for again survives, what is asked for once is gone after at most two fillings: about what an LRU
    does, without an order to maintain. The young generation is the dictionary itself, so that a hit costs no call:

        value = cache.get(key) or cache.older(key)
    """

    __slots__ = ("_generation_entries", "_old")

    def __init__(self, entries: int) -> None:
        if entries < 2:
            raise ValueError(f"cache entries are {entries}; a cache needs at least 2")
        super().__init__()
        self._generation_entries = entries // 2
        self._old: dict[Key, Value] = {}

    def older(self, key: Key) -> Value | None:
        """The value of `key` in the old generation, which makes it young again; or None."""
        value = self._old.get(key)
        if value is not None:
            self.put(key, value)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Keep `value` (never a false one) for `key`."""
        if len(self) >= self._generation_entries:
            self._old = dict(self)
            self.clear()
        self[key] = value

    def total(self) -> int:
        """Distinct keys held in both generations."""
        return len(self.keys() | self._old.keys())
