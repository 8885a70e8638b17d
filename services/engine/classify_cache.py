"""A cache that never outgrows its limit, however hostile the keys."""

from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """At most `entries` pairs in two generations; when the young one fills, the old one is dropped whole.

    What is asked for again survives, what is asked for once is gone after at most two fillings: about what an LRU
    does, at the price of two dictionary probes and without an order to maintain.
    """

    __slots__ = ("_generation_entries", "_old", "_young")

    def __init__(self, entries: int) -> None:
        if entries < 2:
            raise ValueError(f"cache entries are {entries}; a cache needs at least 2")
        self._generation_entries = entries // 2
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, key: Key) -> Value | None:
        """The value of `key`, or None; a value found in the old generation moves to the young one."""
        value = self._young.get(key)
        if value is None and self._old:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Keep `value` (never None) for `key`."""
        if len(self._young) >= self._generation_entries:
            self._old, self._young = self._young, {}
        self._young[key] = value
