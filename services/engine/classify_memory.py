"""What a lane remembers of each subscriber's last minutes, so that a flow without a name can be understood.

Event time only. Everything is bounded, per subscriber and in sum, so that neither a hostile subscriber nor many of
them can grow a lane. It is not part of the account's state: after a restart it fills again from the flows that follow,
and until then nameless flows fall back to weaker evidence. docs/classification.md says what that means for a charge.
"""

from typing import TypeVar

from schemas.flow import FlowRecord
from services.engine.classify_cache import BoundedCache
from services.engine.classify_table import Tables, Target
from services.engine.hostnames import canonical_address

MIN_NAME_MS = 60_000
MAX_NAME_MS = 3_600_000
"""Bounds of a DNS answer's life here: many names live for seconds, but their connections do not."""

SERVER_MS = 600_000
SIGNAL_MS = 120_000
PORT_MS = 120_000
CALL_MS = 30_000
"""How long after its last sign an address, an application's signalling, a UDP port and a call are trusted."""

SLACK_MS = 60_000
"""How much earlier than what was learnt a flow may lie: records arrive when flows end, not when they begin."""

Detail = TypeVar("Detail")

Seen = tuple[Target, int, int, Detail]
"""An application at work: target, from when, until when it counts, and a detail that the holder names."""


class Trail:
    """The last minutes of one subscriber."""

    __slots__ = ("_bounds", "_call", "_ports", "_signals", "names", "servers", "tables")

    def __init__(self, bounds: tuple[int, int, int, int]) -> None:
        self._bounds = bounds
        self.tables: Tables | None = None
        self._call: Seen[None] | None = None
        self._ports: dict[int, Seen[None]] = {}
        self._signals: dict[str, Seen[bytes]] = {}
        self.names: dict[str, tuple[str, int, int]] = {}
        self.servers: dict[str, Seen[int]] = {}

    def adopt(self, tables: Tables) -> None:
        """Go over to another version of the catalogue: what it still knows is kept as it stands there."""
        if self.tables is not None:
            self.servers = _carried_over(self.servers, tables)
            self._ports = _carried_over(self._ports, tables)
            self._signals = _carried_over(self._signals, tables)
            self._call = _carried_over({0: self._call}, tables).get(0) if self._call is not None else None
        self.tables = tables

    def learn_answers(self, flow: FlowRecord) -> None:
        """Take the addresses of a DNS flow; the newest answer wins. Its name is the one asked, not an alias."""
        if flow.dns_name is None or flow.dns_answers is None:
            return
        for answer in flow.dns_answers:
            address = canonical_address(answer.address)
            if address is not None:
                life_ms = min(max(answer.ttl_s * 1000, MIN_NAME_MS), MAX_NAME_MS)
                _put(self.names, address, (flow.dns_name, flow.start_ms, flow.end_ms + life_ms), self._bounds[0])

    def name_of(self, address: str, flow: FlowRecord) -> str | None:
        """The name whose answer gave the subscriber this address, while it lives."""
        known = self.names.get(address)
        return known[0] if known is not None and _holds(known[1], known[2], flow) else None

    def learn_server(self, address: str, target: Target, flow: FlowRecord) -> None:
        """The application was at work with this address, from this port of the subscriber's."""
        servers = self.servers
        if len(servers) >= self._bounds[1] and address not in servers:
            del servers[next(iter(servers))]
        servers[address] = (target, flow.start_ms, flow.end_ms + SERVER_MS, flow.subscriber_port)

    def server(self, address: str, flow: FlowRecord) -> Seen[int] | None:
        """Which application the subscriber used at this address a moment ago; the detail is the subscriber's port."""
        seen = self.servers.get(address)
        return seen if seen is not None and _holds(seen[1], seen[2], flow) else None

    def learn_port(self, target: Target, flow: FlowRecord) -> None:
        """The application used this UDP port of the subscriber; a known call stays a call."""
        if target.service == "call":
            self._call = (target, flow.start_ms, flow.end_ms + CALL_MS, None)
        else:
            before = self.port(flow)
            if before is not None and before.application == target.application:
                target = before
        _put(self._ports, flow.subscriber_port, (target, flow.start_ms, flow.end_ms + PORT_MS, None), self._bounds[2])

    def port(self, flow: FlowRecord) -> Target | None:
        """What ran over this flow's UDP port on the subscriber's side a moment ago."""
        seen = self._ports.get(flow.subscriber_port)
        return seen[0] if seen is not None and _holds(seen[1], seen[2], flow) else None

    def call(self, flow: FlowRecord) -> Target | None:
        """The call that goes on, or ended a moment ago."""
        seen = self._call
        return seen[0] if seen is not None and _holds(seen[1], seen[2], flow) else None

    def learn_signal(self, target: Target, network: bytes, flow: FlowRecord) -> None:
        """An application that can carry media was used."""
        seen = (target, flow.start_ms, flow.end_ms + SIGNAL_MS, network)
        _put(self._signals, target.application, seen, self._bounds[3])

    def signals(self, flow: FlowRecord) -> list[Seen[bytes]]:
        """Applications used a moment ago that can carry media, newest first; the detail is the network."""
        return [seen for seen in reversed(self._signals.values()) if _holds(seen[1], seen[2], flow)]

    def used(self, application: str, flow: FlowRecord) -> bool:
        """True when the subscriber used the application a moment ago."""
        signal = self._signals.get(application)
        if signal is not None and _holds(signal[1], signal[2], flow):
            return True
        return any(seen[0].application == application and _holds(seen[1], seen[2], flow)
                   for seen in self.servers.values())  # fmt: skip


class SubscriberMemory:
    """The trails of the subscribers of one lane; who was not seen for long makes room."""

    def __init__(
        self, *, subscribers: int = 10_000, names: int = 32, servers: int = 16, ports: int = 16, applications: int = 8
    ) -> None:
        """Bounds: subscribers in all; and for each the DNS answers, addresses, UDP ports, applications kept."""
        for bound, limit in (("names", names), ("servers", servers), ("ports", ports), ("applications", applications)):
            if limit < 1:
                raise ValueError(f"{bound} is {limit}; a subscriber's memory needs room for at least 1")
        self._bounds = (names, servers, ports, applications)
        self.trails: BoundedCache[str, Trail] = BoundedCache(subscribers)

    def total(self) -> int:
        """Subscribers remembered."""
        return self.trails.total()

    def trail_of(self, subscriber_id: str) -> Trail:
        """The subscriber's trail; an empty one at the first sight."""
        trail = self.trails.get(subscriber_id) or self.trails.older(subscriber_id)
        if trail is None:
            trail = Trail(self._bounds)
            self.trails.put(subscriber_id, trail)
        return trail


Key = TypeVar("Key")
Value = TypeVar("Value")


def _carried_over(store: dict[Key, Seen[Detail]], tables: Tables) -> dict[Key, Seen[Detail]]:
    successors = ((key, tables.successor(seen[0]), seen) for key, seen in store.items())
    return {key: (target, *seen[1:]) for key, target, seen in successors if target is not None}


def _put(store: dict[Key, Value], key: Key, value: Value, limit: int) -> None:
    # Out and in again, so that the order of the dictionary is the order of the last sight.
    store.pop(key, None)
    store[key] = value
    if len(store) > limit:
        del store[next(iter(store))]


def _holds(from_ms: int, until_ms: int, flow: FlowRecord) -> bool:
    return flow.start_ms < until_ms and flow.end_ms + SLACK_MS >= from_ms
