"""Entries from elsewhere into a catalogue: with their source, without what contradicts it, and a report of both.

Readers (`catalogue_pfds`, `catalogue_lists`) yield entries and refusals; `merge` sorts the entries into what is known,
what is new and what another application has already. Longest match decides between names, so only an equal entry of
another application is kept out; one that lies inside another application's entry comes in and is reported.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from schemas.catalogue import Application, Catalogue, Pfd
from schemas.fields import Category
from schemas.flow_description import Network, parse_prefix
from services.rating.catalogue_files import ADDITIONS, AdditionalPfds
from services.rating.catalogue_yaml import Location, format_yaml

EntryField = Literal["domain_names", "urls", "flow_descriptions", "prefixes", "ports"]
"""The lists of a PFD that can be exchanged."""

MAX_PFD_ID_CHARACTERS = 64


class Entry(NamedTuple):
    """One value of one PFD list, as a reader found it."""

    application: str
    """The application's id in the catalogue, or its name in the source; see `merge`."""

    pfd_id: str
    field: EntryField
    value: str
    location: Location
    shared: bool = False
    """True when strangers use the name, too."""


class Refusal(NamedTuple):
    """What a reader could not take: where, the text, the rule, and the next step."""

    location: Location
    text: str
    rule: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.location}: {self.text!r} {self.rule}; {self.next_step}"


class Reading(NamedTuple):
    """What a reader found, in the order of the text."""

    entries: tuple[Entry, ...]
    refusals: tuple[Refusal, ...]


class Conflict(NamedTuple):
    """An entry that another application has (`taken`, left out) or surrounds (`inside`, brought in)."""

    entry: Entry
    kind: Literal["taken", "inside"]
    owner: str
    owner_value: str

    def __str__(self) -> str:
        done = "left out" if self.kind == "taken" else "brought in; the longer match wins"
        relation = "is an entry of" if self.kind == "taken" else f"lies inside {self.owner_value!r} of"
        return f"{self.entry.location}: {self.entry.value!r} {relation} {self.owner!r}: {done}"


@dataclasses.dataclass(frozen=True, slots=True)
class Merged:
    """The outcome of `merge`."""

    catalogue: Catalogue
    """The base with everything that came in. Its version is still the base's."""

    applications: tuple[Application, ...]
    """Applications that the base does not have."""

    additions: tuple[AdditionalPfds, ...]
    """New PFDs of applications that it has."""

    known: int
    """Entries that were there already, for the same application."""

    conflicts: tuple[Conflict, ...]

    def to_yaml(self, comment: str) -> str:
        """What came in as a catalogue file of its own: new applications, and PFDs beside those that others define."""
        body = {
            "applications": [_body(item) for item in self.applications],
            ADDITIONS: [_body(item) for item in self.additions],
        }
        return format_yaml({key: value for key, value in body.items() if value} or None, comment=comment)

    def brought_in(self) -> int:
        """Entries that came in."""
        pfds = [pfd for item in self.applications for pfd in item.pfds]
        pfds += [pfd for item in self.additions for pfd in item.pfds]
        return sum(len(getattr(pfd, field)) for pfd in pfds for field in _FIELDS)


class Target(NamedTuple):
    """What a source's name stands for in the catalogue."""

    application: str
    service: str | None = None


_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_FIELDS: tuple[EntryField, ...] = ("domain_names", "urls", "flow_descriptions", "prefixes", "ports")


def merge(
    base: Catalogue,
    entries: Iterable[Entry],
    *,
    source: str,
    category: Category = "other",
    provider: str = "",
    names: Mapping[str, Target] | None = None,
) -> Merged:
    """Bring `entries` into `base`.

    `source` is written into every new PFD; one that begins with `partner` or `operator` makes its entries strong
    evidence. `names` says what a source's names stand for (see `exporter_names`); any other name is taken for an
    application id. `category` and `provider` are those of applications that the base does not have.
    """
    ledger = _Ledger(base)
    resolve = names or {}
    fresh: dict[str, dict[tuple[str, str | None, bool], list[Entry]]] = {}
    for entry in entries:
        target = resolve.get(entry.application.lower(), Target(application_id(entry.application)))
        if ledger.admits(entry, target.application):
            fresh.setdefault(target.application, {}).setdefault(
                (entry.pfd_id, target.service, entry.shared), []
            ).append(entry)
    held = {item.id: item for item in base.applications}
    pfds = {item_id: tuple(_pfds(held.get(item_id), groups, source)) for item_id, groups in fresh.items()}
    created = tuple(
        Application(id=item_id, name=_readable(item_id), provider=provider, category=category, pfds=pfds[item_id])
        for item_id in pfds
        if item_id not in held
    )
    grown = tuple(item.model_copy(update={"pfds": item.pfds + pfds.get(item.id, ())}) for item in base.applications)
    return Merged(
        catalogue=base.model_copy(update={"applications": grown + created}),
        applications=created,
        additions=tuple(AdditionalPfds(application=item, pfds=pfds[item]) for item in pfds if item in held),
        known=ledger.known,
        conflicts=tuple(ledger.conflicts),
    )


def exporter_names(catalogue: Catalogue, exporter: str) -> dict[str, Target]:
    """What an exporter's names stand for, in lower case: `whatsappcall` -> (whatsapp, call) for `ndpi:WhatsAppCall`."""
    prefix = f"{exporter}:"
    found: dict[str, Target] = {}
    for item in catalogue.applications:
        for pfd in item.pfds:
            found |= {name.lower(): Target(item.id, pfd.service) for name in _without(prefix, pfd.exporter_ids)}
        found |= {name.lower(): Target(item.id) for name in _without(prefix, item.exporter_ids)}
    return found


def application_id(name: str) -> str:
    """The id for a source's name: the name itself where it is one, else in lower case with `_` for what cannot stand.

    Raises ValueError when nothing is left.
    """
    if _ID.fullmatch(name):
        return name
    text = re.sub(r"[^a-z0-9.-]+", "_", name.lower()).strip("_.-")[:64]
    if not text:
        raise ValueError(f"application name {name!r} has no letter or digit that an id could begin with; give another")
    return text


class _Ledger:
    """Who owns which entry, and what became of the entries that were asked about."""

    def __init__(self, base: Catalogue) -> None:
        self.known = 0
        self.conflicts: list[Conflict] = []
        self._owners: dict[tuple[EntryField, str], str] = {}
        for item in base.applications:
            for pfd in item.pfds:
                for field in _FIELDS:
                    for value in getattr(pfd, field):
                        self._owners.setdefault((field, value.lower()), item.id)

    def admits(self, entry: Entry, application: str) -> bool:
        """True when the entry is new and nobody else's; it is the application's from now on."""
        key = (entry.field, entry.value.lower())
        owner = self._owners.get(key)
        if owner == application:
            self.known += 1
            return False
        if owner is not None:
            self.conflicts.append(Conflict(entry, "taken", owner, entry.value))
            return False
        around = next(((self._owners[place], place[1]) for place in _around(entry) if place in self._owners), None)
        if around is not None and around[0] != application:
            self.conflicts.append(Conflict(entry, "inside", *around))
        self._owners[key] = application
        return True


def _around(entry: Entry) -> Iterator[tuple[EntryField, str]]:
    """The entries that would surround this one, from the nearest."""
    if entry.field == "domain_names":
        rest = entry.value.lower().removeprefix("=")
        if rest == entry.value.lower():
            rest = rest.partition(".")[2]
        while rest:
            yield "domain_names", rest
            rest = rest.partition(".")[2]
    elif entry.field == "prefixes":
        network: Network = parse_prefix(entry.value)
        while network.prefixlen > 0:
            network = network.supernet()
            yield "prefixes", str(network)


def _pfds(
    held: Application | None, groups: Mapping[tuple[str, str | None, bool], Sequence[Entry]], source: str
) -> Iterator[Pfd]:
    taken = {pfd.pfd_id for pfd in held.pfds} if held else set()
    likes = {pfd.pfd_id: pfd for pfd in held.pfds} if held else {}
    for (pfd_id, service, shared), entries in groups.items():
        like = likes.get(pfd_id)
        own_id = _free(f"{pfd_id}-shared" if shared else pfd_id, taken)
        taken.add(own_id)
        lists: dict[str, Any] = {}
        for entry in entries:
            lists.setdefault(entry.field, []).append(entry.value)
        yield Pfd(
            pfd_id=own_id, source=source, shared=shared, service=service or (like.service if like else None),
            category=like.category if like else None, **{field: tuple(values) for field, values in lists.items()},
        )  # fmt: skip


def _free(wanted: str, taken: set[str]) -> str:
    """`wanted`, or with the lowest number that makes it unused."""
    candidate, number = wanted[:MAX_PFD_ID_CHARACTERS], 1
    while candidate in taken:
        number += 1
        candidate = f"{wanted[: MAX_PFD_ID_CHARACTERS - 8]}-{number}"
    return candidate


def _body(item: BaseModel) -> dict[str, Any]:
    return item.model_dump(mode="json", exclude_defaults=True)


def _readable(item_id: str) -> str:
    return item_id.replace("_", " ").title()


def _without(prefix: str, names: Iterable[str]) -> Iterator[str]:
    return (name[len(prefix) :] for name in names if name.lower().startswith(prefix))
