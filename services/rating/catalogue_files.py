"""Catalogue files: readable YAML in, one checked `Catalogue` out, and for each part of it the line it came from.

A file holds any of the keys `applications`, `offerings`, `rules`, `campaigns`, `zones`, `additional_pfds`, `currency`
and `version`; all files of a folder and of the folders in it make one catalogue.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from schemas.catalogue import Application, Campaign, Catalogue, PccRule, Pfd, ProductOffering
from schemas.catalogue_amounts import CatalogueId
from schemas.catalogue_scopes import Zone
from services.rating.catalogue_keys import unknown_key
from services.rating.catalogue_yaml import KeyPath, Location, Problem, YamlTree, dotted, parse_yaml


class AdditionalPfds(BaseModel):
    """PFDs of an application that another file defines, so that what a partner or a list says stays in its own file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    application: CatalogueId
    pfds: tuple[Pfd, ...] = Field(min_length=1)


PARTS: Mapping[str, type[BaseModel]] = {
    "applications": Application,
    "offerings": ProductOffering,
    "rules": PccRule,
    "campaigns": Campaign,
    "zones": Zone,
}
"""The lists of a catalogue, and what each of their items is."""

ADDITIONS = "additional_pfds"

MONEY_KEYS = frozenset(
    {"amount", "at_least", "below", "cap", "minimum_rent", "amount_per_gb", "amount_per_connections"}
)
"""Keys whose value is money: `5` in a file means five units of the currency, never five micro-units."""

DEFAULT_CURRENCY = "EUR"

_SETTINGS = {"currency": str, "version": str, "min_confidence": int}
"""The settings of a whole catalogue, and what each of them is."""

_MODELS: Mapping[str, type[BaseModel]] = {**PARTS, ADDITIONS: AdditionalPfds}
_KNOWN_KEYS = ", ".join((*_MODELS, *_SETTINGS))
_HOLDER = re.compile(r"(application|offering|rule|campaign|zone) '([^']+)'")
_NAMES = re.compile(r" names (?:application|offering|rule|campaign|zone) '([^']+)'")
_BETWEEN_HOLDERS = re.compile(r"; (?=(?:application|offering|rule|campaign|zone) ')")
_NEXT_STEPS = {
    "missing": "add the key",
    "literal_error": "choose one of these",
    "string_type": "put it in quotes",
    "tuple_type": "write a list: [a, b]",
    "value_error": "",
}


class CatalogueFilesError(ValueError):
    """The files do not make a catalogue. `problems` holds every one found, each with file and line."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclasses.dataclass(frozen=True, slots=True)
class CatalogueSource:
    """A catalogue and where its parts stand in the files."""

    catalogue: Catalogue
    locations: Mapping[tuple[str, str], Mapping[KeyPath, Location]] = dataclasses.field(default_factory=dict)
    """(part, id) -> path inside the item, e.g. ("pfds", 0, "ports", 3) -> where it stands; () is the beginning."""

    def locate(self, part: str, item_id: str, path: KeyPath = ()) -> Location:
        """Where the value at `path` inside an item stands, or the nearest thing around it that has a line."""
        return _nearest(self.locations.get((part, item_id), {}), path)


def load_catalogue(folder: Path | Traversable | None = None, *, version: str | None = None) -> Catalogue:
    """The catalogue of all `*.yaml` files under `folder`; the shipped one when no folder is given.

    `version` wins over a `version:` key in the files; without either it is a digest of the content, so that the same
    content has the same version whatever its layout or comments. Raises CatalogueFilesError naming every problem.
    """
    return read_catalogue(folder, version=version).catalogue


def read_catalogue(folder: Path | Traversable | None = None, *, version: str | None = None) -> CatalogueSource:
    """As `load_catalogue`, with the line of every part: for lint, and for whatever points people at a file."""
    reader = _Reader()
    for name, file in _yaml_files(folder if folder is not None else shipped_folder(), ""):
        reader.read(name, file)
    return reader.finish(version)


def shipped_folder() -> Traversable:
    """The folder of catalogue files that comes with the package, also when that is a zipped wheel."""
    return files("services.rating").joinpath("catalogue")


def content_version(catalogue: Catalogue) -> str:
    """Twelve hexadecimal digits of a SHA-256 over the content, whatever the version and the order of its items."""
    body = catalogue.model_dump(mode="json", exclude_defaults=True, exclude={"version", "currency"})
    settings = [catalogue.currency, *([body.pop("min_confidence")] if "min_confidence" in body else [])]
    ordered = {part: sorted(items, key=lambda item: str(item["id"])) for part, items in body.items()}
    text = json.dumps([*settings, ordered], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _yaml_files(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    if not folder.is_dir():
        told = "this is a file" if folder.is_file() else "there is no such folder"
        step = "name a folder of *.yaml files"
        raise CatalogueFilesError((Problem(Location(str(folder), 0), "", None, told, step),))
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _yaml_files(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith((".yaml", ".yml")):
            yield f"{prefix}{entry.name}", entry


class _Reader:
    """Gathers items and problems file by file; `finish` makes the catalogue or raises."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._items: dict[str, list[Any]] = {part: [] for part in PARTS}
        self._additions: list[tuple[AdditionalPfds, dict[KeyPath, Location]]] = []
        self._locations: dict[tuple[str, str], dict[KeyPath, Location]] = {}
        self._settings: dict[str, tuple[Any, Location]] = {}

    def read(self, name: str, file: Traversable) -> None:
        if name.endswith(".yml"):
            self._report(Location(name, 0), "file name", name, "catalogue files end in .yaml", "rename it")
            return
        try:
            text = file.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            where = f"octet {error.start}"
            self._report(Location(name, 0), "encoding", where, "catalogue files are UTF-8", "save the file as UTF-8")
            return
        tree = parse_yaml(name, text)
        self._problems += tree.problems
        if isinstance(tree.value, dict):
            self._read_file(name, tree)
        elif tree.value is not None:
            rule = f"a catalogue file is a mapping with the keys {_KNOWN_KEYS}"
            self._report(Location(name, 1), "file", tree.value, rule, "begin with `applications:`, for instance")

    def finish(self, version: str | None) -> CatalogueSource:
        for addition, locations in self._additions:
            self._add_pfds(addition, locations)
        self._stop_on_problems()
        settings = {key: value for key, (value, _) in self._settings.items()}
        stated = version if version is not None else settings.get("version")
        content = {"currency": DEFAULT_CURRENCY, **self._items, **settings}
        try:
            catalogue = Catalogue.model_validate({**content, "version": stated if stated is not None else "unstated"})
        except ValidationError as error:
            self._problems += [problem for detail in error.errors() for problem in self._blame(detail)]
            raise CatalogueFilesError(tuple(self._problems)) from None
        if stated is None:
            catalogue = catalogue.model_copy(update={"version": content_version(catalogue)})
        return CatalogueSource(catalogue, self._locations)

    def _read_file(self, name: str, tree: YamlTree) -> None:
        for key, value in tree.value.items():
            location = Location(name, tree.lines[(key,)])
            if key in _MODELS and isinstance(value, list):
                self._read_part(name, tree, key)
            elif key in _MODELS and value is not None:
                self._report(location, key, value, f"{key} is a list", "begin each item with `- id: ...`")
            elif key in _SETTINGS:
                self._read_setting(location, key, value)
            elif key not in _MODELS:
                rule = f"the keys of a catalogue file are {_KNOWN_KEYS}"
                self._report(location, "key", key, rule, "remove it or mend its spelling")

    def _read_setting(self, location: Location, key: str, value: object) -> None:
        if type(value) is not _SETTINGS[key]:
            rule, step = ("text", "put it in quotes") if _SETTINGS[key] is str else ("a whole number", "write digits")
            self._report(location, key, value, f"{key} is {rule}", step)
            return
        stated, elsewhere = self._settings.setdefault(key, (value, location))
        if stated != value:
            rule = f"{elsewhere} states {stated!r}, and a catalogue has one {key}"
            self._report(location, key, value, rule, "keep one")

    def _read_part(self, name: str, tree: YamlTree, part: str) -> None:
        locations: list[dict[KeyPath, Location]] = [{} for _ in tree.value[part]]
        for path, line in tree.lines.items():
            if len(path) > 1 and path[0] == part:
                locations[int(path[1])][path[2:]] = Location(name, line)
        for data, places in zip(tree.value[part], locations, strict=True):
            self._read_item(part, data, places)

    def _read_item(self, part: str, data: object, locations: dict[KeyPath, Location]) -> None:
        try:
            item: Any = _MODELS[part].model_validate(_money_as_text(data))
        except ValidationError as error:
            subject = _subject(part, data)
            self._problems += [_explain(detail, subject, part, locations, data) for detail in error.errors()]
            return
        if part == ADDITIONS:
            self._additions.append((item, locations))
            return
        first = self._locations.setdefault((part, item.id), locations)
        if first is not locations:
            kind = part.removesuffix("s")
            rule = f"{first[()]} defines this {kind} already"
            self._report(locations[()], f"{kind} id", item.id, rule, "keep one, or choose another id")
            return
        self._items[part].append(item)

    def _add_pfds(self, addition: AdditionalPfds, locations: Mapping[KeyPath, Location]) -> None:
        applications = self._items["applications"]
        place = next((index for index, item in enumerate(applications) if item.id == addition.application), None)
        if place is None:
            rule = "no file defines this application"
            self._report(
                locations[()], f"{ADDITIONS} application", addition.application, rule, "define it or mend the id"
            )
            return
        held: tuple[Pfd, ...] = applications[place].pfds
        for path, location in locations.items():
            if path[:1] == ("pfds",) and len(path) > 1:
                self._locations[("applications", addition.application)][
                    ("pfds", len(held) + int(path[1]), *path[2:])
                ] = location
        applications[place] = applications[place].model_copy(update={"pfds": held + addition.pfds})

    def _blame(self, detail: ErrorDetails) -> Iterator[Problem]:
        """Problems that show only in the whole: a setting out of bounds, or references that lead nowhere."""
        if detail["loc"]:
            _, location = self._settings.get(str(detail["loc"][0]), ("", Location("", 0)))
            yield Problem(location, dotted(detail["loc"]), detail["input"], detail["msg"], "mend the value")
            return
        for message in _BETWEEN_HOLDERS.split(str(detail.get("ctx", {}).get("error", detail["msg"]))):
            holder = _HOLDER.match(message)
            key = (f"{holder[1]}s", holder[2]) if holder else ("", "")
            yield Problem(self._line_of(key, message), "", None, message, "")

    def _line_of(self, key: tuple[str, str], message: str) -> Location:
        """Where the item stands, or inside it the reference that the message is about."""
        locations = self._locations.get(key, {})
        named = _NAMES.search(message)
        item = next((item for item in self._items.get(key[0], ()) if item.id == key[1]), None)
        path = None if named is None or item is None else _path_of(item, named[1])
        return _nearest(locations, path or ())

    def _report(self, location: Location, field: str, value: object, rule: str, next_step: str) -> None:
        self._problems.append(Problem(location, field, value, rule, next_step))

    def _stop_on_problems(self) -> None:
        if self._problems:
            raise CatalogueFilesError(tuple(self._problems))


def _money_as_text(data: Any) -> Any:
    """The same data with whole numbers of money as text, since the model takes a bare int for micro-units."""
    if isinstance(data, list):
        return [_money_as_text(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {
        key: str(value) if key in MONEY_KEYS and type(value) is int else _money_as_text(value)
        for key, value in data.items()
    }


def _explain(
    detail: ErrorDetails, subject: str, part: str, locations: Mapping[KeyPath, Location], data: object
) -> Problem:
    path: KeyPath = detail["loc"]
    rule = str(detail.get("ctx", {}).get("error", detail["msg"]))
    if isinstance(detail["input"], dict) and detail["type"] == "value_error":
        # The parts of it do not go together: the sentence names them, and all of it would say nothing more.
        place = f"{subject}: {dotted(path)}" if path else subject
        told = rule if rule.startswith(place) else f"{place}: {rule}"
        return Problem(_nearest(locations, path), "", None, told, _NEXT_STEPS["value_error"])
    value = None if detail["type"] == "missing" else _written(data, path, detail["input"])
    field = f"{subject}: {dotted(path)}" if path else subject
    step = _NEXT_STEPS.get(detail["type"], "mend the value")
    if detail["type"] == "extra_forbidden":
        rule, step = unknown_key(_MODELS[part], path)
    return Problem(_nearest(locations, path), field, value, rule, step)


def _written(data: object, path: KeyPath, otherwise: object) -> object:
    """The value at `path` as the file has it, money in units of the currency."""
    for key in path:
        try:
            data = data[key]  # type: ignore[index]
        except (LookupError, TypeError):
            return otherwise
    return data


def _path_of(model: BaseModel, name: str, path: KeyPath = ()) -> KeyPath | None:
    """Where a part of the model refers to `name`; its own id and texts for people are no references."""
    for field in type(model).model_fields:
        value = getattr(model, field)
        if value == name and field not in {"id", "name", "description"}:
            return (*path, field)
        for place, item in enumerate(value if isinstance(value, tuple) else (value,)):
            where = (*path, field, place) if isinstance(value, tuple) else (*path, field)
            found = where if item == name and isinstance(value, tuple) else None
            found = _path_of(item, name, where) if isinstance(item, BaseModel) else found
            if found is not None:
                return found
    return None


def _subject(part: str, data: object) -> str:
    item_id = data.get("id", data.get("application")) if isinstance(data, dict) else None
    kind = part.removesuffix("s")
    return f"{kind} {item_id!r}" if isinstance(item_id, str) else kind


def _nearest(locations: Mapping[KeyPath, Location], path: KeyPath) -> Location:
    for length in range(len(path), -1, -1):
        if path[:length] in locations:
            return locations[path[:length]]
    return Location("", 0)
