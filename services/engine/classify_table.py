"""The catalogue's applications, compiled into tables for look-up. Immutable once built; the order given never matters.

Reloading a catalogue builds new tables aside and swaps one reference, so no decision ever mixes two versions.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from schemas.catalogue import Application, Pfd
from schemas.fields import Category
from schemas.flow_description import FlowDescription, parse_flow_description, parse_ports, parse_prefix
from services.engine.classify_addresses import PrefixTable
from services.engine.classify_patterns import entry_of_domain, entry_of_url
from services.engine.hostnames import SuffixTable

NEUTRAL = frozenset(("cdn", "cloud", "protocol", "media_plane"))
"""Subcategories whose address or name says nothing against another application: everybody's traffic runs there."""

MEDIA_PLANE = "media_plane"
"""Subcategory of STUN, TURN, RTP and the like: they carry somebody's media, and that somebody is asked for first."""

SIGNALLING = "signalling"
"""Subcategory of SIP, H.323 and the like: their port alone tells that media to the same host is a call."""

CDN = "cdn"
"""Subcategory whose names hide any number of applications; alone they leave the application open."""

_MAX_EXPANDED_PORTS = 2_048
_PROVIDED = ("partner", "operator")

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What one PFD points at: an application, perhaps one service of it, and how far the PFD is to be trusted."""

    application: str
    provider: str
    category: Category
    service: str | None
    subcategory: str | None
    shared: bool
    public_name: bool
    provided: bool
    media: "Target | None"
    """What the application's nameless UDP media counts as, None where it has none."""

    made_for_calls: bool
    """True when calls and messages are what the application is for, not one of its features."""

    neutral: bool
    """True for infrastructure that everybody's traffic runs over."""

    carries_media: bool
    """True for protocols that carry the media of an application that is still to be found."""

    def agrees(self, other: "Target") -> bool:
        """True when both may be seen on one flow without suspicion: one company's, or infrastructure."""
        same = self.application == other.application or (self.provider == other.provider and self.provider != "")
        return same or self.neutral or other.neutral


class Rule(NamedTuple):
    """A compiled flow description."""

    text: str
    description: FlowDescription
    target: Target

    def matches(self, ip_protocol: int, port: int) -> bool:
        """True when the protocol and the far port fit; the address was matched by the look-up."""
        protocol, _, ports = self.description
        fits = protocol is None or protocol == ip_protocol
        return fits and (not ports or any(low <= port <= high for low, high in ports))


class UnusableEntryError(ValueError):
    """An entry of the catalogue that no table can hold: which one, the rule it breaks and what to write instead."""


class Tables:
    """One look-up table for each kind of evidence; values are (what matched, target)."""

    def __init__(self, applications: Sequence[Application]) -> None:
        """Compile. Raises UnusableEntryError, a ValueError."""
        pairs = list(_targets(applications))
        try:
            self.names: SuffixTable[Target] = SuffixTable(_domain_names(pairs))
        except ValueError as error:
            raise UnusableEntryError(str(error)) from None
        self.realms = _first((realm.lower(), target) for pfd, target in pairs for realm in pfd.stun_realms)
        self.exporter_ids = _first((name.lower(), target) for pfd, target in pairs for name in pfd.exporter_ids)
        self.exporter_ids |= {
            key: value for key, value in _application_ids(applications).items() if key not in self.exporter_ids
        }
        self.prefixes: PrefixTable[tuple[str, Target]] = PrefixTable(
            (parse_prefix(text), (text, target)) for pfd, target in pairs for text in pfd.prefixes
        )
        self.as_numbers = {
            number: (f"AS{number}", target)
            for number, (_, target) in _first(
                (item, target) for pfd, target in pairs for item in pfd.as_numbers
            ).items()
        }
        rules = [
            Rule(text, parse_flow_description(text), target) for pfd, target in pairs for text in pfd.flow_descriptions
        ]
        self.rules_at: PrefixTable[Rule] = PrefixTable(
            (rule.description.network, rule) for rule in rules if rule.description.network is not None
        )
        self.rules_anywhere = tuple(rule for rule in rules if rule.description.network is None)
        self.ports, self._wide_ports = _ports(pairs)
        self.ip_protocols = _first((number, target) for pfd, target in pairs for number in pfd.ip_protocols)
        self.user_agents = _longest_first((text, target) for pfd, target in pairs for text in pfd.user_agents)
        self.content_types = _longest_first((text, target) for pfd, target in pairs for text in pfd.content_types)
        self.behaviours = _first((name, target) for pfd, target in pairs for name in pfd.behaviours)
        self.ja4 = frozenset((fingerprint, item.id) for item in applications for fingerprint in item.ja4)
        self._by_service = _by_service(pairs)

    def successor(self, target: Target) -> Target | None:
        """What stands in these tables for a target of an earlier version; None when it is gone."""
        return self._by_service.get((target.application, target.service))

    def port(self, ip_protocol: int, number: int) -> tuple[str, Target] | None:
        """The entry for a transport port; a narrow range wins over a wide one."""
        hit = self.ports.get(ip_protocol << 16 | number)
        if hit is None and self._wide_ports:
            for protocol, low, high, found in self._wide_ports:
                if protocol == ip_protocol and low <= number <= high:
                    return found
        return hit


def _targets(applications: Sequence[Application]) -> Iterator[tuple[Pfd, Target]]:
    """Every PFD with its target; what a partner or the operator provided comes first, then by id."""
    pairs = [(item, pfd) for item in applications for pfd in item.pfds]
    pairs.sort(key=lambda pair: (not _is_provided(pair[1]), pair[0].id, pair[1].pfd_id))
    for item, pfd in pairs:
        yield pfd, _target(item, pfd)


def _by_service(pairs: list[tuple[Pfd, Target]]) -> dict[tuple[str, str | None], Target]:
    table: dict[tuple[str, str | None], Target] = {}
    for _, target in pairs:
        table.setdefault((target.application, target.service), target)
    for _, target in pairs:
        if target.media is not None:
            table.setdefault((target.application, target.media.service), target.media)
    return table


def _is_provided(pfd: Pfd) -> bool:
    return pfd.source is not None and pfd.source.startswith(_PROVIDED)


def _target(item: Application, pfd: Pfd | None) -> Target:
    media = None
    if item.media_service is not None:
        media = _target_of(item, None, item.media_category or item.category, item.media_service, None)
    category, service = (pfd.category or item.category, pfd.service) if pfd else (item.category, None)
    return _target_of(item, pfd, category, service, media)


def _target_of(
    item: Application, pfd: Pfd | None, category: Category, service: str | None, media: Target | None
) -> Target:
    return Target(
        application=item.id, provider=item.provider, category=category, service=service,
        subcategory=item.subcategory, shared=pfd is not None and pfd.shared,
        public_name=pfd is not None and pfd.public_name, provided=pfd is not None and _is_provided(pfd), media=media,
        made_for_calls=item.category == "voip_im", neutral=item.subcategory in NEUTRAL,
        carries_media=item.subcategory == MEDIA_PLANE,
    )  # fmt: skip


def _domain_names(pairs: list[tuple[Pfd, Target]]) -> Iterator[tuple[str, Target]]:
    for pfd, target in pairs:
        for name in pfd.domain_names:
            yield entry_of_domain(name), target
        for url in pfd.urls:
            entry, whole_host = entry_of_url(url)
            # The rest of the host may be anything, so a path's host never decides alone.
            yield entry, target if whole_host else replace(target, shared=True)


def _application_ids(applications: Iterable[Application]) -> dict[str, tuple[str, Target]]:
    ordered = sorted(applications, key=lambda item: item.id)
    return _first((name.lower(), _target(item, None)) for item in ordered for name in item.exporter_ids)


def _first(pairs: Iterable[tuple[Item, Target]]) -> dict[Item, tuple[str, Target]]:
    table: dict[Item, tuple[str, Target]] = {}
    for key, target in pairs:
        table.setdefault(key, (str(key), target))
    return table


def _longest_first(pairs: Iterable[tuple[str, Target]]) -> tuple[tuple[str, Target], ...]:
    return tuple(sorted(((text.lower(), target) for text, target in pairs), key=lambda pair: (-len(pair[0]), pair[0])))


def _ports(
    pairs: list[tuple[Pfd, Target]],
) -> tuple[dict[int, tuple[str, Target]], tuple[tuple[int, int, int, tuple[str, Target]], ...]]:
    ranges = sorted(
        ((high - low, protocol, low, high, (text, target))
         for pfd, target in pairs for text in pfd.ports for protocol, (low, high) in [parse_ports(text)]),
        key=lambda item: item[0],
    )  # fmt: skip
    table: dict[int, tuple[str, Target]] = {}
    for width, protocol, low, high, found in ranges:
        if width < _MAX_EXPANDED_PORTS:
            for port in range(low, high + 1):
                table.setdefault(protocol << 16 | port, found)
    wide = tuple(item[1:] for item in ranges if item[0] >= _MAX_EXPANDED_PORTS)
    return table, wide
