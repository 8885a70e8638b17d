"""What a lane remembers of each subscriber's last minutes, so that a flow without a name can be understood.

Event time only. Everything is bounded, per subscriber and in sum, so that neither a hostile subscriber nor many of
them can grow a lane. It is not part of the account's state: after a restart it fills again from the flows that follow,
and until then nameless flows fall back to weaker evidence. docs/classification.md says what that means for a charge.
"""

from collections.abc import Iterator
from typing import NamedTuple

from schemas.flow import FlowRecord
from services.engine.classify_cache import BoundedCache
from services.engine.classify_table import Target
from services.engine.hostnames import canonical_address

MIN_NAME_MS = 60_000
MAX_NAME_MS = 3_600_000
"""Bounds of a DNS answer's life here: many names live for seconds, but their connections do not."""

SERVER_MS = 600_000
SIGNAL_MS = 120_000
PORT_MS = 120_000
CALL_MS = 30_000
"""How long after its last sign an address, an application's signalling, a media port and a call are trusted."""

SLACK_MS = 60_000
"""How much earlier than what was learnt a flow may lie: records arrive when flows end, not when they begin."""


class Seen(NamedTuple):
    """An application at work, from when until when; `detail` is a port or a network, as the holder says."""

    target: Target
    from_ms: int
    until_ms: int
    detail: int | bytes


class _Name(NamedTuple):
    name: str
    from_ms: int
    until_ms: int


class Trail:
    """The last minutes of one subscriber."""

    __slots__ = ("_bounds", "_call", "_names", "_ports", "_servers", "_signals")

    def __init__(self, bounds: tuple[int, int, int, int]) -> None:
        self._bounds = bounds
        self._names: dict[str, _Name] = {}
        self._servers: dict[str, Seen] = {}
        self._ports: dict[int, Seen] = {}
        self._signals: dict[str, Seen] = {}
        self._call: Seen | None = None

    def learn_answers(self, flow: FlowRecord) -> None:
        """Take the addresses of a DNS flow; the newest answer wins. Its name is the one asked, not an alias."""
        if flow.dns_name is None or flow.dns_answers is None:
            return
        for answer in flow.dns_answers:
            address = canonical_address(answer.address)
            if address is not None:
                life_ms = min(max(answer.ttl_s * 1000, MIN_NAME_MS), MAX_NAME_MS)
                _put(self._names, address, _Name(flow.dns_name, flow.start_ms, flow.end_ms + life_ms), self._bounds[0])

    def name_of(self, address: str, flow: FlowRecord) -> str | None:
        """The name whose answer gave the subscriber this address, while it lives."""
        known = self._names.get(address)
        return known.name if known is not None and _holds(known.from_ms, known.until_ms, flow) else None

    def learn_server(self, address: str, target: Target, flow: FlowRecord) -> None:
        """The application was at work with this address."""
        seen = Seen(target, flow.start_ms, flow.end_ms + SERVER_MS, flow.subscriber_port)
        _put(self._servers, address, seen, self._bounds[1])

    def forget_server(self, address: str) -> None:
        """Something else speaks from this address too, so it says nothing any more."""
        if address in self._servers:
            del self._servers[address]

    def server(self, address: str, flow: FlowRecord) -> Seen | None:
        """Which application the subscriber used at this address a moment ago; `detail` is the subscriber's port."""
        return _fresh(self._servers.get(address), flow)

    def learn_port(self, target: Target, flow: FlowRecord) -> None:
        """The application used this UDP port of the subscriber; a known call stays a call."""
        if target.service == "call":
            self._call = Seen(target, flow.start_ms, flow.end_ms + CALL_MS, flow.remote_port)
        else:
            before = self.port(flow)
            if before is not None and before.target.application == target.application:
                target = before.target
        seen = Seen(target, flow.start_ms, flow.end_ms + PORT_MS, flow.remote_port)
        _put(self._ports, flow.subscriber_port, seen, self._bounds[2])

    def port(self, flow: FlowRecord) -> Seen | None:
        """What ran over this flow's UDP port on the subscriber's side a moment ago."""
        return _fresh(self._ports.get(flow.subscriber_port), flow)

    def call(self, flow: FlowRecord) -> Seen | None:
        """The call that goes on, or ended a moment ago."""
        return _fresh(self._call, flow)

    def learn_signal(self, target: Target, network: bytes, flow: FlowRecord) -> None:
        """An application that can carry media was used; `target` is what its media counts as."""
        seen = Seen(target, flow.start_ms, flow.end_ms + SIGNAL_MS, network)
        _put(self._signals, target.application, seen, self._bounds[3])

    def signals(self, flow: FlowRecord) -> Iterator[Seen]:
        """Applications used a moment ago that can carry media, newest first; `detail` is the network."""
        return (seen for seen in reversed(self._signals.values()) if _holds(seen.from_ms, seen.until_ms, flow))

    def used(self, application: str, flow: FlowRecord) -> bool:
        """True when the subscriber used the application a moment ago."""
        signal = _fresh(self._signals.get(application), flow)
        if signal is not None:
            return True
        return any(seen.target.application == application for seen in self._servers.values() if _fresh(seen, flow))


class SubscriberMemory:
    """The trails of the subscribers of one lane; who was not seen for long makes room."""

    def __init__(
        self, *, subscribers: int = 20_000, names: int = 64, servers: int = 32, ports: int = 32, applications: int = 8
    ) -> None:
        """Bounds: subscribers in all; and for each the DNS answers, addresses, media ports, applications kept."""
        for bound, limit in (("names", names), ("servers", servers), ("ports", ports), ("applications", applications)):
            if limit < 1:
                raise ValueError(f"{bound} is {limit}; a subscriber's memory needs room for at least 1")
        self._bounds = (names, servers, ports, applications)
        self._trails: BoundedCache[str, Trail] = BoundedCache(subscribers)

    def __len__(self) -> int:
        return len(self._trails)

    def trail_of(self, subscriber_id: str) -> Trail:
        """The subscriber's trail; an empty one at the first sight."""
        trail = self._trails.get(subscriber_id)
        if trail is None:
            trail = Trail(self._bounds)
            self._trails.put(subscriber_id, trail)
        return trail


def _put(store: dict, key: object, value: object, limit: int) -> None:  # type: ignore[type-arg]
    # Out and in again, so that the order of the dictionary is the order of the last sight.
    store.pop(key, None)
    store[key] = value
    if len(store) > limit:
        del store[next(iter(store))]


def _fresh(seen: Seen | None, flow: FlowRecord) -> Seen | None:
    return seen if seen is not None and _holds(seen.from_ms, seen.until_ms, flow) else None


def _holds(from_ms: int, until_ms: int, flow: FlowRecord) -> bool:
    return flow.start_ms < until_ms and flow.end_ms + SLACK_MS >= from_ms
