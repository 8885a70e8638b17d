"""Host names as exporters send them: made comparable, and looked up by their longest listed suffix.

Everything here is total: whatever text a subscriber's device sent, there is an answer and no exception, in time
linear in its length.
"""

import re
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Generic, TypeVar

import idna

MAX_HOST_CHARACTERS = 255
"""Longer text is no host name: DNS allows 253 characters, and the contract 255."""

_NAME = re.compile(r"(?:[a-z0-9_-]+\.)*[a-z0-9_-]+")
_PLAIN = re.compile(r"(?:[a-z0-9_-]+\.)*[a-z0-9_-]*[a-z_-]")
"""Most names come as they shall be: lower case, and not ending in a digit as addresses do."""

_PORT = re.compile(r"[0-9]{0,5}")

Value = TypeVar("Value")


def normalise(text: str) -> str | None:
    """The one spelling of a host: lower case, A-labels, no port, no brackets, no trailing dot; None if it is no host.

    IP literals come back in the shortest canonical form, an IPv4-mapped IPv6 address as IPv4. Idempotent; never raises.
    Source: RFC 9110 section 7.2 (Host), RFC 6066 section 3 (server name), UTS #46.
    """
    if len(text) > MAX_HOST_CHARACTERS:
        return None
    if _PLAIN.fullmatch(text):
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


_DEEP = object()
"""Stands for: there is more than one entry at or below these two labels."""


class SuffixTable(Generic[Value]):
    """Names to values: `example.com` covers itself and all below, `=example.com` itself, `*.example.com` all below.

    One star may also stand inside the first label, where tenants of a shared name are told apart by it:
    `tenant-*.cdn.example`. The longest entry wins, an exact one over a suffix, a plain one over a star.

    The last two labels of a host are asked for first: that settles most hosts with one probe. The others cost one or
    two probes for each label of the deepest entry, however deep the asked name is.
    """

    def __init__(self, entries: Iterable[tuple[str, Value]]) -> None:
        """Take (entry, value) pairs, first come first kept.

        Raises ValueError on an entry that is no name or could match a whole registry.
        """
        self._exact: dict[str, Hit[Value]] = {}
        # Values stand here without their entry: the part of the host that matched says it, and a large table stays
        # small in the processor's caches.
        self._suffixes: dict[str, Value] = {}
        self._stars: dict[str, list[tuple[str, str, Hit[Value]]]] = {}
        for entry, value in entries:
            self._add(entry, value)
        for stars in self._stars.values():
            stars.sort(key=lambda star: -len(star[0]) - len(star[1]))
        depths = [name.count(".") + 1 for name in self._suffixes] + [name.count(".") + 2 for name in self._stars]
        self._depth = max(depths, default=0)
        self._roots = self._index()

    def __len__(self) -> int:
        return len(self._exact) + len(self._suffixes) + sum(map(len, self._stars.values()))

    def find(self, host: str) -> Hit[Value] | None:
        """The entry that covers a normalised `host`, with its value; None when nothing does."""
        last_two = host[host.rfind(".", 0, max(host.rfind("."), 0)) + 1 :]
        root = self._roots.get(last_two)
        if root is None:
            return None
        return self._descend(host) if root is _DEEP else (last_two, root)  # type: ignore[return-value]

    def _descend(self, host: str) -> Hit[Value] | None:
        hit = self._exact.get(host)
        if hit is not None:
            return hit
        get, stars = self._suffixes.get, self._stars
        rest = self._tail(host)
        while rest:
            value = get(rest)
            if value is not None:
                return rest, value
            label, _, rest = rest.partition(".")
            if rest in stars:
                hit = _star(label, stars[rest])
                if hit is not None:
                    return hit
        return None

    def _tail(self, host: str) -> str:
        if host.count(".") < self._depth:
            return host
        return ".".join(host.rsplit(".", self._depth)[1:])

    def _index(self) -> dict[str, Value | object]:
        """What the last two labels settle: the entry itself where there is nothing below it, else a walk."""
        roots: dict[str, Value | object] = {
            name: value for name, value in self._suffixes.items() if name.count(".") == 1
        }
        for name in (*self._exact, *self._stars, *(name for name in self._suffixes if name.count(".") > 1)):
            roots[".".join(name.split(".")[-2:])] = _DEEP
        return roots

    def _add(self, entry: str, value: Value) -> None:
        exact = entry.startswith("=")
        label, dot, rest = entry[exact:].partition(".")
        star = not exact and dot != "" and label.count("*") == 1
        name = normalise(rest if star else entry[exact:])
        if name is None or is_address(name):
            raise ValueError(f"domain name {entry!r} is no host name; write it as example.com, *.example.com or =name")
        if not exact and is_public_suffix(name):
            raise ValueError(f"domain name {entry!r} covers a public suffix and would match strangers; name the domain")
        if star:
            start, _, end = label.lower().partition("*")
            self._stars.setdefault(name, []).append((start, end, (entry, value)))
        elif exact:
            self._exact.setdefault(name, (entry, value))
        else:
            self._suffixes.setdefault(name, value)


def _star(label: str, stars: list[tuple[str, str, Hit[Value]]]) -> Hit[Value] | None:
    for start, end, hit in stars:
        if len(label) >= len(start) + len(end) and label.startswith(start) and label.endswith(end):
            return hit
    return None


_REGISTRY_LABELS = frozenset(
    ("ac", "co", "com", "edu", "go", "gob", "gouv", "gov", "ltd", "mil", "ne", "net", "nom", "or", "org", "plc", "sch")
)


def is_public_suffix(name: str) -> bool:
    """True for a name under which anybody can register: a single label, or a registry label under a country's code.

    The usual shapes only (`com`, `co.uk`, `com.br`, `ne.jp`); the catalogue's linter has the longer list.
    """
    first, dot, rest = name.partition(".")
    return not dot or (first in _REGISTRY_LABELS and len(rest) == 2)
