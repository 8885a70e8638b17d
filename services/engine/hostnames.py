"""Host names as exporters send them: made comparable, and looked up by their longest listed suffix.

Everything here is total: whatever text a subscriber's device sent, there is an answer and no exception, in time
linear in its length.
"""

import re
from array import array
from collections.abc import Iterable, Mapping
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any, Generic, NamedTuple, TypeVar

import idna

MAX_HOST_CHARACTERS = 255
"""Longer text is no host name: DNS allows 253 characters, and the contract 255."""

_NAME = re.compile(r"(?:[a-z0-9_-]++\.)*+[a-z0-9_-]++")
_PLAIN = re.compile(r"(?:[a-z0-9_-]++\.)*+[a-z0-9_-]*[a-z_-]")
"""Most names come as they shall be: lower case, and not ending in a digit as addresses do."""

_is_plain = _PLAIN.fullmatch

_PORT = re.compile(r"[0-9]{0,5}")

Value = TypeVar("Value")


def normalise(text: str) -> str | None:
    """The one spelling of a host: lower case, A-labels, no port, no brackets, no trailing dot; None if it is no host.

    IP literals come back in the shortest canonical form, an IPv4-mapped IPv6 address as IPv4. Idempotent; never raises.
    Source: RFC 9110 section 7.2 (Host), RFC 6066 section 3 (server name), UTS #46.
    """
    if len(text) > MAX_HOST_CHARACTERS:
        return None
    if _is_plain(text):
        return text
    host = _without_port(text.strip())
    if host is None:
        return None
    if ":" in host:
        return canonical_address(host)
    if host.endswith("."):
        host = host[:-1]
    host = host.lower() if host.isascii() else _a_labels(host)
    if not _NAME.fullmatch(host):
        return None
    return canonical_address(host) or host if host[-1].isdigit() else host


def canonical_address(text: str) -> str | None:
    """The one spelling of an IP address; None when the text is none. IPv4-mapped IPv6 becomes IPv4."""
    packed = pack_address(text)
    if packed is None:
        return None
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)


def pack_address(text: str) -> bytes | None:
    """4 or 16 octets of an IP address, None when the text is none. IPv4-mapped IPv6 becomes IPv4."""
    try:
        packed = inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return None
    return packed[12:] if packed.startswith(b"\0" * 10 + b"\xff\xff") else packed


def is_address(host: str) -> bool:
    """True when a normalised host is an IP literal and not a name."""
    return ":" in host or (host[-1].isdigit() and pack_address(host) is not None)


def _without_port(text: str) -> str | None:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        return host if bracket and ":" in host and (not port or _is_port(port)) else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host if _PORT.fullmatch(port) else None
    return text


def _is_port(text: str) -> bool:
    return text.startswith(":") and _PORT.fullmatch(text[1:]) is not None


def _a_labels(host: str) -> str:
    try:
        return idna.encode(host, uts46=True, transitional=False).decode("ascii").removesuffix(".").lower()
    except (UnicodeError, ValueError, IndexError):
        return ""


Hit = tuple[str, Value]
"""The entry that matched, in normal spelling, and its value."""


class _Node(NamedTuple, Generic[Value]):
    """What is listed for a text: two labels, a longer end of a host, or `=` and a whole host."""

    own: Value | None
    """The value of the text itself."""

    below: "_Below | None"
    """What else is listed under two labels; None where nothing is."""


class _Below(NamedTuple):
    """What else is listed under two labels, so that nothing is asked for that cannot be there."""

    exact: bool
    """Exact names."""

    depths: tuple[int, ...]
    """How many labels of a host entries with more than two look at, the most first."""


_NOTHING: _Node[Any] = _Node(None, None)

_LONG = 1 << 60
"""A number that hashes to itself where hashes have 64 bits, and not where they have 32."""


class SuffixTable(Generic[Value]):
    """Names to values: `example.com` covers itself and all below, `=example.com` itself, `*.example.com` all below.

    One star may also stand inside the first label, where tenants of a shared name are told apart by it:
    `tenant-*.cdn.example`. The longest entry wins, an exact one over a suffix, a plain one over a star.

    The last two labels of a host are asked for first: that settles most hosts with one probe. The others cost one
    probe more for each length that an entry under these two labels has, however deep the asked name is.

    A name is known by its 64-bit hash, and a probe reads one line of memory, so that a large table is about as quick
    as a small one. docs/adr/0005-names-are-known-by-their-hashes.md tells why that is exact enough to bill on.
    """

    def __init__(self, entries: Iterable[tuple[str, Value]]) -> None:
        """Take (entry, value) pairs, first come first kept.

        Raises ValueError on an entry that is no name or could match a whole registry, RuntimeError where hashes are
        too short to know names by.
        """
        if hash(_LONG) != _LONG:
            raise RuntimeError("hashes are too short in this Python to know names by; use a 64-bit build")
        exact: dict[str, Value] = {}
        suffixes: dict[str, Value] = {}
        self._stars: dict[str, list[tuple[str, str, Hit[Value]]]] = {}
        for entry, value in entries:
            self._add(entry, value, exact, suffixes)
        for stars in self._stars.values():
            stars.sort(key=lambda star: -len(star[0]) - len(star[1]))
        self._entries = len(exact) + len(suffixes) + sum(map(len, self._stars.values()))
        self._nodes, self._cells, self._mask = _hashed(_nodes(exact, suffixes, self._stars))

    def __len__(self) -> int:
        return self._entries

    def find(self, host: str) -> Hit[Value] | None:
        """The entry that covers a normalised `host`, with its value; None when nothing does."""
        labels = host.rsplit(".", 2)
        last_two = f"{labels[-2]}.{labels[-1]}" if len(labels) > 1 else host
        # As `_at` does, without the call.
        wanted, cells = hash(last_two), self._cells
        at = wanted & self._mask
        while (held := cells[at]) != wanted:
            if not held:
                return None
            at += 2
        own, below = self._nodes[cells[at + 1]]
        if below is not None:
            hit = self._descend(host, below)
            if hit is not None:
                return hit
        return None if own is None else (last_two, own)

    def _descend(self, host: str, below: _Below) -> Hit[Value] | None:
        """The longest of the entries with more than two labels, or the exact one."""
        if below.exact:
            whole = f"={host}"
            value = self._at(whole)
            if value is not None:
                return whole, value
        labels = host.count(".") + 1
        for depth in below.depths:
            if depth <= labels:
                rest = host if depth == labels else ".".join(host.rsplit(".", depth)[1:])
                value = self._at(rest)
                if value is not None:
                    return rest, value
                hit = self._starred(rest) if self._stars else None
                if hit is not None:
                    return hit
        return None

    def _at(self, text: str) -> Value | None:
        """The value of a text itself: its cell, or a free one, is at or after the place that its hash names."""
        wanted, cells = hash(text), self._cells
        at = wanted & self._mask
        while (held := cells[at]) != wanted:
            if not held:
                return None
            at += 2
        return self._nodes[cells[at + 1]].own

    def _starred(self, rest: str) -> Hit[Value] | None:
        label, _, base = rest.partition(".")
        for start, end, hit in self._stars.get(base, ()):
            if len(label) >= len(start) + len(end) and label.startswith(start) and label.endswith(end):
                return hit
        return None

    def _add(self, entry: str, value: Value, exact: dict[str, Value], suffixes: dict[str, Value]) -> None:
        whole = entry.startswith("=")
        label, dot, rest = entry[whole:].partition(".")
        star = not whole and dot != "" and label.count("*") == 1
        name = normalise(rest if star else entry[whole:])
        if name is None or is_address(name):
            raise ValueError(f"domain name {entry!r} is no host name; write it as example.com, *.example.com or =name")
        if not whole and is_public_suffix(name):
            raise ValueError(f"domain name {entry!r} covers a public suffix and would match strangers; name the domain")
        if star:
            start, _, end = label.lower().partition("*")
            self._stars.setdefault(name, []).append((start, end, (entry, value)))
        else:
            (exact if whole else suffixes).setdefault(name, value)


def _nodes(exact: Mapping[str, Value], suffixes: Mapping[str, Value], stars: Iterable[str]) -> dict[str, _Node[Value]]:
    """Each text that is asked for to what is listed there. Equal nodes are one object: they are few, texts are many."""
    below: dict[str, set[int]] = {}
    for name in exact:
        below.setdefault(_last_two(name), set()).add(0)
    for name in suffixes:
        if name.count(".") > 1:
            below.setdefault(_last_two(name), set()).add(name.count(".") + 1)
    for name in stars:
        below.setdefault(_last_two(name), set()).add(name.count(".") + 2)
    same: dict[tuple[int, frozenset[int]], _Node[Value]] = {}
    nodes: dict[str, _Node[Value]] = {}
    for text, own in (*suffixes.items(), *((f"={name}", value) for name, value in exact.items())):
        depths = frozenset(below.pop(text, ()))
        nodes[text] = same.setdefault((id(own), depths), _Node(own, _below(depths)))
    for text, listed in below.items():
        depths = frozenset(listed)
        nodes[text] = same.setdefault((id(None), depths), _Node(None, _below(depths)))
    return nodes


def _hashed(nodes: Mapping[str, _Node[Value]]) -> tuple[list[_Node[Value]], "array[int]", int]:
    """The nodes without repetition, pairs of cells (hash of a text, number of its node), and the mask of the places.

    A third of the places is taken at most, so that few probes look at a second one. Hash 0 marks a free place and node
    0 says nothing, so a text with that hash is not found, and none is found instead.
    """
    places = 8
    while places < 3 * len(nodes):
        places *= 2
    cells, mask = array("q", bytes(16 * places + 16)), 2 * places - 2
    numbers: dict[int, int] = {}
    kept = [_NOTHING]
    for text, node in nodes.items():
        at = hash(text) & mask
        while cells[at]:
            at += 2
        if id(node) not in numbers:
            numbers[id(node)] = len(kept)
            kept.append(node)
        cells[at], cells[at + 1] = hash(text), numbers[id(node)]
        if at + 2 == len(cells):
            # What runs over the end stays there: the last place is always free, so no probe passes it.
            cells.extend((0, 0))
    return kept, cells, mask


def _below(depths: frozenset[int]) -> _Below | None:
    return _Below(0 in depths, tuple(sorted(depths - {0}, reverse=True))) if depths else None


def _last_two(name: str) -> str:
    return ".".join(name.rsplit(".", 2)[-2:])


_REGISTRY_LABELS = frozenset(
    ("ac", "co", "com", "edu", "go", "gob", "gouv", "gov", "ltd", "mil", "ne", "net", "nom", "or", "org", "plc", "sch")
)


def is_public_suffix(name: str) -> bool:
    """True for a name under which anybody can register: a single label, or a registry label under a country's code.

    The usual shapes only (`com`, `co.uk`, `com.br`, `ne.jp`); the catalogue's linter has the longer list.
    """
    first, dot, rest = name.partition(".")
    return not dot or (first in _REGISTRY_LABELS and len(rest) == 2)
