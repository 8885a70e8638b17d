"""What a catalogue tells apart of how traffic comes: radio access, place, data network, congestion, confidence.

It matters for the traffic that a scope can reach at all: where only calls are treated otherwise over 3G, nothing else
needs to say over what it came.
"""

from collections.abc import Iterable
from typing import NamedTuple

from schemas.catalogue import PccRule
from schemas.catalogue_scopes import Scope
from schemas.fields import MAX_CONGESTION
from services.engine.surroundings import network_identifier

MAX_REMEMBERED = 10_000


class Told(NamedTuple):
    """What is told apart of one kind of traffic."""

    rat_types: frozenset[str] = frozenset()
    zones: bool = False
    dnns: frozenset[str] = frozenset()
    """Network identifiers."""
    levels: frozenset[int] = frozenset()
    """Congestion levels at which a rule turns."""
    confidences: tuple[int, ...] = ()
    """Confidences at which a rule turns, 0 first; empty where no rule asks how sure a verdict is."""

    @property
    def anything(self) -> bool:
        """Whether there is anything."""
        return self != _NOTHING


_NOTHING = Told()


class _Concern(NamedTuple):
    """One scope, or one rule, that looks at how traffic comes; empty lists of kinds mean any."""

    applications: frozenset[str]
    categories: frozenset[str]
    services: frozenset[str]
    rat_types: frozenset[str]
    zones: bool
    dnns: frozenset[str]
    levels: frozenset[int] = frozenset()
    confidence: int | None = None
    """From which confidence on; None where it is not asked for."""

    @property
    def looks(self) -> bool:
        """Whether it tells anything apart."""
        return bool(self.rat_types or self.zones or self.dnns or self.levels or self.confidence is not None)

    def reaches(self, application: str | None, category: str, service: str | None) -> bool:
        """Whether traffic of this kind can be in the scope."""
        kinds = ((self.applications, application), (self.categories, category), (self.services, service))
        return all(not wanted or seen in wanted for wanted, seen in kinds)


class Concerns:
    """What rules, and scopes of allowances and prices, tell apart, by the kind of traffic."""

    def __init__(self, rules: Iterable[PccRule], scopes: Iterable[Scope], *, min_confidence: int = 0) -> None:
        found = {*map(_of_rule, rules), *map(_of_scope, scopes)}
        self._concerns = tuple(concern for concern in found if concern.looks)
        self._min_confidence = min_confidence
        self._told: dict[tuple[str | None, str, str | None], Told] = {}

    def of(self, application: str | None, category: str, service: str | None) -> Told:
        """What is told apart of traffic that was taken for this."""
        kind = application, category, service
        told = self._told.get(kind)
        if told is None:
            if len(self._told) >= MAX_REMEMBERED:
                self._told.clear()
            told = self._told[kind] = self._look(kind)
        return told

    def _look(self, kind: tuple[str | None, str, str | None]) -> Told:
        mine = [concern for concern in self._concerns if concern.reaches(*kind)]
        confidences = {concern.confidence for concern in mine if concern.confidence is not None}
        return Told(
            frozenset().union(*(concern.rat_types for concern in mine)),
            any(concern.zones for concern in mine),
            frozenset().union(*(concern.dnns for concern in mine)),
            frozenset().union(*(concern.levels for concern in mine)),
            tuple(sorted({0, self._min_confidence, *confidences})) if confidences else (),
        )


def _of_rule(rule: PccRule) -> _Concern:
    asks = rule.min_confidence > 0 or rule.suspect != "any"
    return _of_scope(rule.scope)._replace(
        levels=frozenset({rule.min_congestion, rule.max_congestion + 1} - {0, MAX_CONGESTION + 1}),
        confidence=rule.min_confidence if asks else None,
    )


def _of_scope(scope: Scope) -> _Concern:
    return _Concern(
        frozenset(scope.applications), frozenset(scope.categories), frozenset(scope.services),
        frozenset(scope.rat_types), bool(scope.zones), frozenset(map(network_identifier, scope.dnns)),
    )  # fmt: skip
