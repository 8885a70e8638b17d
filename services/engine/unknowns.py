"""The largest unlisted names: where a catalogue pays to be extended. A bounded sketch, however many names come."""

from collections.abc import Iterable
from typing import NamedTuple

from schemas.classification import Classification
from services.engine.hostnames import is_public_suffix

NAME_KINDS = frozenset(("server_name", "http_host", "dns_name"))


class UnknownName(NamedTuple):
    """Octets of flows whose name was not listed, by exporter and registered domain.

    The true amount lies between `octets` and `octets + missed_octets`.
    """

    exporter_id: str
    domain: str
    octets: int
    missed_octets: int


class UnknownNames:
    """Counts octets of unlisted domains, keeping the largest; at most twice `entries` pairs at any time."""

    def __init__(self, entries: int) -> None:
        """`entries`: how many pairs of exporter and domain survive a clean-up; at least 1."""
        if entries < 1:
            raise ValueError(f"entries is {entries}; a sketch keeps at least 1")
        self._entries = entries
        self._octets: dict[tuple[str, str], int] = {}
        self._missed: dict[tuple[str, str], int] = {}
        self._floor = 0

    def __len__(self) -> int:
        return len(self._octets)

    def add(self, exporter_id: str, classification: Classification, octets: int) -> None:
        """Count a flow if its name was not listed; any other flow is none of the sketch's business."""
        if classification.reason != "name_not_listed":
            return
        name = next((item.value for item in classification.evidence if item.kind in NAME_KINDS), None)
        if name is None:
            return
        key = (exporter_id, registered_domain(name))
        known = self._octets.get(key)
        if known is not None:
            self._octets[key] = known + octets
            return
        # A newcomer may have been dropped before, but never with more than the floor.
        self._octets[key], self._missed[key] = octets, self._floor
        if len(self._octets) > 2 * self._entries:
            self._clean()

    def top(self, count: int) -> list[UnknownName]:
        """The `count` largest, largest first; equal ones by exporter and domain."""
        ranked = sorted(self._octets.items(), key=lambda item: (-item[1], item[0]))
        return [UnknownName(*key, octets, self._missed[key]) for key, octets in ranked[:count]]

    def merge(self, others: Iterable["UnknownNames"]) -> None:
        """Take in what other lanes counted."""
        for other in others:
            keys = self._octets.keys() | other._octets.keys()
            missed = {key: self._missed.get(key, self._floor) + other._missed.get(key, other._floor) for key in keys}
            self._octets = {key: self._octets.get(key, 0) + other._octets.get(key, 0) for key in sorted(keys)}
            self._missed = missed
            self._floor += other._floor
            if len(self._octets) > 2 * self._entries:
                self._clean()

    def _clean(self) -> None:
        ranked = sorted(self._octets.items(), key=lambda item: (-item[1], item[0]))
        kept, dropped = ranked[: self._entries], ranked[self._entries :]
        self._floor = max([self._floor, *(octets + self._missed[key] for key, octets in dropped)])
        self._octets = dict(kept)
        self._missed = {key: self._missed[key] for key, _ in kept}


def registered_domain(name: str) -> str:
    """The part of a normalised name that somebody registered, as far as its shape tells: `www.a.co.uk` -> `a.co.uk`."""
    labels = name.split(".")
    keep = 3 if len(labels) > 2 and is_public_suffix(".".join(labels[-2:])) else 2
    return ".".join(labels[-keep:])
