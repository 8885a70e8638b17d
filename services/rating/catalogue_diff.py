"""What differs between two catalogues, item by item and, inside applications, entry by entry."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from schemas.catalogue import DETECTORS, Application, Catalogue
from schemas.units import OCTETS_PER_UNIT
from services.rating.catalogue_files import PARTS


class Change(NamedTuple):
    """One difference: an item is there or not, a field has another value, an entry came, went or changed hands."""

    kind: Literal["added", "removed", "changed", "moved"]
    part: str
    item_id: str
    what: str
    """The field or entry; empty when it is the whole item."""

    before: str
    after: str

    def __str__(self) -> str:
        sign = {"added": "+", "removed": "-", "changed": "~", "moved": ">"}[self.kind]
        subject = f"{sign} {self.part.removesuffix('s')} {self.item_id}" + (f": {self.what}" if self.what else "")
        return f"{subject}: {self.before} -> {self.after}" if self.kind in {"changed", "moved"} else subject


class _Difference(NamedTuple):
    kind: Literal["added", "removed", "changed"]
    what: str
    before: str = ""
    after: str = ""


_UNSTATED: Any = object()
"""A field inside an item that is left at its default."""


def diff_catalogues(old: Catalogue, new: Catalogue) -> tuple[Change, ...]:
    """Changes from `old` to `new`, by part and id; an entry that goes from one application to another is moved."""
    changes = list(_settings(old, new))
    for part in PARTS:
        before = {item.id: item for item in getattr(old, part)}
        after = {item.id: item for item in getattr(new, part)}
        changes += (Change("removed", part, item_id, "", "", "") for item_id in sorted(before.keys() - after.keys()))
        changes += (Change("added", part, item_id, "", "", "") for item_id in sorted(after.keys() - before.keys()))
        for item_id in sorted(before.keys() & after.keys()):
            changes += _fields(part, item_id, _plain(before[item_id]), _plain(after[item_id]))
    return (*changes, *_entries(old, new))


def _settings(old: Catalogue, new: Catalogue) -> Iterator[Change]:
    for name in ("version", "currency", "min_confidence"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield Change("changed", "catalogue", name, "", str(before), str(after))


def _plain(item: Any) -> dict[str, Any]:
    """Every field of an item; inside them only what was stated, so that a difference is not lost among defaults."""
    left_out = {"pfds"} if isinstance(item, Application) else None
    body: dict[str, Any] = item.model_dump(mode="json", exclude=left_out)
    stated: dict[str, Any] = item.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
    return body | stated


def _fields(part: str, item_id: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for field in before:
        for kind, what, *values in _inside(field, before[field], after[field]):
            yield Change(kind, part, item_id, what, *values)


def _inside(what: str, before: Any, after: Any) -> Iterator[_Difference]:
    """Where in a value the difference is: parts of lists by their id, fields by their name, names by themselves."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from _inside(f"{what}.{name}", before.get(name, _UNSTATED), after.get(name, _UNSTATED))
    elif (mine := _named(before)) is not None and (theirs := _named(after)) is not None and mine != theirs:
        yield from (_Difference("removed", f"{what}[{name}]") for name in mine if name not in theirs)
        yield from (_Difference("added", f"{what}[{name}]") for name in theirs if name not in mine)
        for name in mine:
            if name in theirs:
                yield from _inside(f"{what}[{name}]", mine[name], theirs[name])
    else:
        yield _Difference("changed", what, _shown(what, before), _shown(what, after))


def _named(values: Any) -> dict[str, Any] | None:
    """A list of parts by their ids, or of plain words by themselves; None where it is neither, or has one twice."""
    if not isinstance(values, list):
        return None
    if all(isinstance(value, str) for value in values):
        found = {value: value for value in values}
    elif all(isinstance(value, dict) and "id" in value for value in values):
        found = {value["id"]: value for value in values}
    else:
        return None
    return found if len(found) == len(values) else None


def _shown(what: str, value: Any) -> str:
    """A value as the files write it: volumes in the largest unit that is exact."""
    if value is _UNSTATED:
        return "(not stated)"
    if isinstance(value, int) and value and not isinstance(value, bool) and what.endswith(("octets", ".above")):
        units = sorted(OCTETS_PER_UNIT.items(), key=lambda item: -item[1])
        name, size = next((name, size) for name, size in units if value % size == 0 and "i" not in name)
        return f"{value // size} {name}" if size > 1 else str(value)
    return repr(value)


def _entries(old: Catalogue, new: Catalogue) -> Iterator[Change]:
    """Entries of the applications that both have, and the ones that changed hands."""
    before, after = _owners(old), _owners(new)
    both = {item.id for item in old.applications} & {item.id for item in new.applications}
    for entry in sorted(before.keys() | after.keys()):
        went, came = before.get(entry, {}), after.get(entry, {})
        losers, winners = sorted(went.keys() - came.keys()), sorted(came.keys() - went.keys())
        if losers and winners:
            yield Change("moved", "applications", winners[0], " ".join(entry), losers[0], winners[0])
            continue
        yield from (Change("removed", "applications", item, " ".join(entry), "", "") for item in losers if item in both)
        yield from (Change("added", "applications", item, " ".join(entry), "", "") for item in winners if item in both)
        for item in sorted(went.keys() & came.keys()):
            if went[item] != came[item]:
                yield Change("changed", "applications", item, " ".join(entry), went[item], came[item])


def _owners(catalogue: Catalogue) -> dict[tuple[str, str], dict[str, str]]:
    """(field, value) -> application -> what its PFD says beside."""
    owners: dict[tuple[str, str], dict[str, str]] = {}
    for item in catalogue.applications:
        for pfd in item.pfds:
            qualities = pfd.model_dump(mode="json", exclude=set(DETECTORS), exclude_defaults=True)
            says = ", ".join(f"{name} {value}" for name, value in qualities.items())
            for field in DETECTORS:
                for value in getattr(pfd, field):
                    owners.setdefault((field, str(value)), {})[item.id] = says
    return owners
