"""Address prefixes to values: one dictionary per prefix length, probed from the longest."""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from schemas.flow_description import Network

Value = TypeVar("Value")


class PrefixTable(Generic[Value]):
    """IPv4 and IPv6 prefixes; several values may share one prefix, the first given comes first."""

    def __init__(self, entries: Iterable[tuple[Network, Value]]) -> None:
        lengths: dict[tuple[int, int], dict[int, list[Value]]] = {}
        for network, value in entries:
            shift = network.max_prefixlen - network.prefixlen
            table = lengths.setdefault((network.max_prefixlen // 8, shift), {})
            table.setdefault(int(network.network_address) >> shift, []).append(value)
        self._by_octets: dict[int, list[tuple[int, dict[int, list[Value]]]]] = {4: [], 16: []}
        for (octets, shift), table in sorted(lengths.items()):
            self._by_octets[octets].append((shift, table))

    def covering(self, packed: bytes) -> Iterator[Value]:
        """Every value whose prefix holds the address (4 or 16 octets), longest prefix first."""
        number = int.from_bytes(packed)
        for shift, table in self._by_octets[len(packed)]:
            yield from table.get(number >> shift, ())


_UNICAST_LIMIT = {4: 0xE000_0000, 16: 0xFF << 120}


def is_group(packed: bytes) -> bool:
    """True for multicast, broadcast and reserved addresses: no single far side can be behind them.

    A private IPv4 address that ends in 255 counts as its network's broadcast.
    """
    if int.from_bytes(packed) >= _UNICAST_LIMIT[len(packed)] or not any(packed):
        return True
    private = packed[0] == 10 or packed[:2] == b"\xc0\xa8" or (packed[0] == 172 and 16 <= packed[1] < 32)
    return len(packed) == 4 and packed[3] == 255 and private


def network_of(packed: bytes) -> bytes:
    """The part of an address that one operator usually owns alone: /16 of IPv4, /32 of IPv6."""
    return packed[:2] if len(packed) == 4 else packed[:4]
