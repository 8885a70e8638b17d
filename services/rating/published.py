"""Published catalogue versions, parsed once: a version never changes, so what was read of it is never stale."""

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Mapping

from schemas.catalogue import Application, Campaign, PccRule, ProductOffering
from services.engine.feed import KINDS
from services.rating.database import Connection
from services.rating.repositories import catalogue as shelf
from services.rating.repositories.catalogue import StoredVersion

MAX_VERSIONS = 8
"""Versions kept in memory; the one that was used longest ago leaves first."""


@dataclasses.dataclass(frozen=True)
class Published:
    """One version by ids."""

    stored: StoredVersion
    applications: Mapping[str, Application]
    offerings: Mapping[str, ProductOffering]
    rules: Mapping[str, PccRule]
    campaigns: Mapping[str, Campaign]


class PublishedVersions:
    """Reads versions through a cache; safe to share among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Published] = OrderedDict()

    def current(self, connection: Connection) -> Published | None:
        """The version in force, or None before the first publication."""
        stored = shelf.current(connection)
        return None if stored is None else self._get(connection, stored)

    def version(self, connection: Connection, name: str) -> Published | None:
        """The version called `name`, or None."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        stored = shelf.version(connection, name)
        return None if stored is None else self._get(connection, stored)

    def _get(self, connection: Connection, stored: StoredVersion) -> Published:
        with self._lock:
            kept = self._kept.get(stored.version)
        if kept is None:
            kept = _read(connection, stored)
        with self._lock:
            self._kept[stored.version] = kept
            self._kept.move_to_end(stored.version)
            while len(self._kept) > MAX_VERSIONS:
                self._kept.popitem(last=False)
        return kept


def _read(connection: Connection, stored: StoredVersion) -> Published:
    bodies: dict[str, list[object]] = {kind: [] for kind in KINDS}
    for item in shelf.objects(connection, stored.version):
        bodies[item.kind].append(item.body)
    return Published(
        stored,
        {item.id: item for item in map(Application.model_validate, bodies["application"])},
        {item.id: item for item in map(ProductOffering.model_validate, bodies["offering"])},
        {item.id: item for item in map(PccRule.model_validate, bodies["rule"])},
        {item.id: item for item in map(Campaign.model_validate, bodies["campaign"])},
    )
