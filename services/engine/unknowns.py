"""The largest names that no application claims: where a catalogue pays to be extended.

A bounded sketch, however many names and exporters come. It counts in the manner of Space-Saving (Metwally, Agrawal and
El Abbadi 2005): what is not kept shares one bound, the floor, and a name that comes, or comes back, starts with the
floor as its possible error. Instead of replacing the smallest name for each newcomer, the small ones leave together
when twice the kept number is reached. The floor never passes the counted octets divided by the names kept, so every
name above that share of the volume is in the list.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import msgspec

from schemas.classification import Classification, Evidence, UnknownReason
from services.engine.hostnames import is_public_suffix

MAX_NAMES = 4_096
"""Most pairs of exporter and name that one lane holds at any time, some 2 MB; half of them survive a clean-up."""

MAX_REPORTED = 1_000
"""Most names of one report."""

NAME_KINDS = frozenset(("server_name", "http_host", "dns_name"))
"""Evidence that holds the name of a server."""

NO_HOST_NAME = "(no host name)"
"""Stands for all texts in the place of a name that are none, so that what a stranger sends is never shown."""

_NAMED = frozenset(("name_not_listed", "shared_cdn"))
_HOST = re.compile(r"[a-z0-9_.-]+")


class Volume(msgspec.Struct, frozen=True, gc=False):
    """How much was seen: flow records, and their octets in both directions, scaled by the sampling rate."""

    flows: int = 0
    octets: int = 0


NOTHING = Volume()
"""No flow, no octet."""


class UnknownName(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was counted of one name at one exporter.

    The true volume lies between `octets` and `octets + error_octets`: the name may have been seen, dropped and seen
    again. `flows` are those counted, so they may be too few where there is an error.
    """

    exporter_id: str
    name: str
    reason: UnknownReason
    flows: int
    octets: int
    error_octets: int = 0


class UnknownsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What lanes counted since `since_ms` (wall clock; 0 = not known): the names largest first, and exact totals."""

    catalogue_versions: tuple[str, ...] = ()
    since_ms: int = 0
    totals: Mapping[UnknownReason, Volume] = {}
    """All flows without an application, by the reason; nameless ones included. Exact."""

    missing_octets: int = 0
    """The most that a pair of exporter and name which is not in `names` can have."""

    names: tuple[UnknownName, ...] = ()

    @property
    def octets(self) -> int:
        """All octets without an application."""
        return sum(volume.octets for volume in self.totals.values())


class _Count(msgspec.Struct, gc=False):
    reason: UnknownReason
    error_octets: int
    flows: int = 0
    octets: int = 0


class UnknownNames:
    """Counts flows without an application under one version of the catalogue; at most `max_names` names at any time."""

    def __init__(self, max_names: int = MAX_NAMES, *, catalogue_version: str = "", since_ms: int = 0) -> None:
        """`max_names`: an even number, at least 2; half of it are kept for sure. Raises ValueError."""
        if max_names < 2 or max_names % 2:
            raise ValueError(f"max_names is {max_names}; give an even number of at least 2")
        self.catalogue_version = catalogue_version
        self._since_ms = since_ms
        self._max_names = max_names
        self._counts: dict[tuple[str, str], _Count] = {}
        self._recent: dict[tuple[str, str], _Count] = {}
        """Whole names that came lately, to the count that they are folded into: folding costs a microsecond."""

        self._totals: dict[UnknownReason, _Count] = {}
        self._floor = 0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, exporter_id: str, classification: Classification, octets: int) -> None:
        """Count one flow record; one that has an application is none of the sketch's business."""
        reason = classification.reason
        if reason is None:
            return
        total = self._totals.get(reason)
        if total is None:
            total = self._totals[reason] = _Count(reason, 0)
        total.flows += 1
        total.octets += octets
        if reason in _NAMED:
            for item in classification.evidence:
                if item.kind in NAME_KINDS:
                    count = self._recent.get((exporter_id, item.value)) or self._look_up(exporter_id, item)
                    count.flows += 1
                    count.octets += octets
                    return

    def totals(self) -> dict[UnknownReason, Volume]:
        """All flows without an application until now, by the reason; nameless ones included. Exact."""
        return {reason: Volume(total.flows, total.octets) for reason, total in self._totals.items()}

    def report(self, max_names: int = MAX_REPORTED) -> UnknownsReport:
        """What was counted until now: the `max_names` largest names."""
        names, missing_octets = _largest(_names(self._counts), max_names, self._floor)
        return UnknownsReport(
            catalogue_versions=(self.catalogue_version,) if self.catalogue_version else (),
            since_ms=self._since_ms,
            totals=self.totals(),
            missing_octets=missing_octets,
            names=tuple(names),
        )

    def _look_up(self, exporter_id: str, item: Evidence) -> _Count:
        key = exporter_id, folded(item.value, item.matched)
        count = self._counts.get(key) or self._newcomer(key, item.matched)
        if len(self._recent) >= self._max_names:
            self._recent.clear()
        self._recent[exporter_id, item.value] = count
        return count

    def _newcomer(self, key: tuple[str, str], matched: str | None) -> _Count:
        if not _HOST.fullmatch(key[1]):
            key = key[0], NO_HOST_NAME
            if key in self._counts:
                return self._counts[key]
        if len(self._counts) >= self._max_names:
            self._clean()
        # It may have been here before, but it was never dropped with more than the floor.
        count = _Count("name_not_listed" if matched is None else "shared_cdn", self._floor)
        self._counts[key] = count
        return count

    def _clean(self) -> None:
        """Keep at most the larger half; the largest of the rest is the new floor, and what equals it goes, too."""
        ranked = sorted([count.octets + count.error_octets for count in self._counts.values()], reverse=True)
        floor = self._floor = ranked[self._max_names // 2]
        self._counts = {
            key: count for key, count in self._counts.items() if count.octets + count.error_octets > floor
        }  # fmt: skip
        self._recent.clear()


def merge_reports(reports: Sequence[UnknownsReport], *, max_names: int = MAX_REPORTED) -> UnknownsReport:
    """What several lanes, or workers, counted together: the `max_names` largest names.

    A name that one of them does not list may have had what that one has dropped, so its error grows by that.
    """
    counts: dict[tuple[str, str], _Count] = {}
    missing = sum(report.missing_octets for report in reports)
    for report in reports:
        for item in report.names:
            count = counts.setdefault((item.exporter_id, item.name), _Count(item.reason, missing))
            count.flows += item.flows
            count.octets += item.octets
            count.error_octets += item.error_octets - report.missing_octets
    names, missing = _largest(_names(counts), max_names, missing)
    return UnknownsReport(
        catalogue_versions=tuple(sorted(set(chain.from_iterable(report.catalogue_versions for report in reports)))),
        since_ms=min([report.since_ms for report in reports if report.since_ms], default=0),
        totals=_sum_totals(reports),
        missing_octets=missing,
        names=tuple(names),
    )


def folded(name: str, matched: str | None) -> str:
    """What a name is counted as, so that neither a large site nor random labels fill the sketch.

    Below a shared entry of the catalogue (`matched`), the tenant: one label more than the entry, or what a star or an
    exact entry stands for. Otherwise the part that somebody registered.
    """
    if matched is None:
        return registered_domain(name)
    if matched.startswith("="):
        return name
    keep = matched.count(".") + (1 if "*" in matched else 2)
    return ".".join(name.split(".")[-keep:])


def registered_domain(name: str) -> str:
    """The part of a normalised name that somebody registered, as far as its shape tells: `www.a.co.uk` -> `a.co.uk`.

    The shapes are those of `is_public_suffix`. A registry of another shape (`bj.cn`) stands for all below it.
    """
    rest, _, top = name.rpartition(".")
    before, _, second = rest.rpartition(".")
    domain = f"{second}.{top}" if second else name
    # Registries have labels of their own only below countries' codes, which are two letters long.
    if before and len(top) == 2 and is_public_suffix(domain):
        return f"{before.rpartition('.')[2]}.{domain}"
    return domain


def _names(counts: Mapping[tuple[str, str], _Count]) -> list[UnknownName]:
    return [
        UnknownName(
            exporter_id=exporter_id, name=name, reason=count.reason, flows=count.flows, octets=count.octets,
            error_octets=count.error_octets,
        )
        for (exporter_id, name), count in counts.items()
    ]  # fmt: skip


def _largest(names: list[UnknownName], max_names: int, missing_octets: int) -> tuple[list[UnknownName], int]:
    """The largest names, largest first, and the most that any other can have."""
    names.sort(key=lambda item: (-item.octets, item.exporter_id, item.name))
    left_out = [item.octets + item.error_octets for item in names[max_names:]]
    return names[:max_names], max([missing_octets, *left_out])


def _sum_totals(reports: Iterable[UnknownsReport]) -> dict[UnknownReason, Volume]:
    totals: dict[UnknownReason, Volume] = {}
    for report in reports:
        for reason, volume in report.totals.items():
            total = totals.get(reason, NOTHING)
            totals[reason] = Volume(total.flows + volume.flows, total.octets + volume.octets)
    return totals
