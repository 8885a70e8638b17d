"""A gateway that obeys what it is told, quotas included, and tells what has passed only at the end of an interval."""

import copy
from collections.abc import Iterable
from typing import Any

from schemas.decision import PolicyUpdate
from tests.engine.world import World

INTERVAL_MS = 60_000


class Gateway:
    """Passes the traffic of one account, each flow under the rule that a test names for it."""

    def __init__(self, world: World) -> None:
        self.passed = 0
        """Octets, ever."""
        self._world = world
        self._heard = 0
        self._unreported: list[tuple[str, int]] = []
        self._gates: dict[str, str] = {}
        self._quotas: dict[str, int] = {}
        """What may still pass until an end comes, by its id."""
        self._users: dict[str, tuple[str, ...]] = {}
        self._closing: dict[str, set[str]] = {}
        """Rules whose gates an end closes."""
        self.listen()

    def passes(self, rule_id: str, wanted: int) -> int:
        """How much of `wanted` octets pass under a rule."""
        if self._gates.get(rule_id) != "open":
            return 0
        holding = [end for end, rules in self._closing.items() if rule_id in rules]
        volume = min([wanted, *(max(0, self._quotas[end]) for end in holding)])
        self._use(rule_id, volume)
        self._unreported.append((rule_id, volume))
        self.passed += volume
        return volume

    def report(self, flows: Iterable[tuple[str | None, int]], at_ms: int, **fields: Any) -> None:
        """Tell of flows, by application and octets, in the interval that ends at `at_ms`; hear what comes of each."""
        for app, volume in flows:
            if volume:
                self._world.flow(volume, app, at=at_ms - INTERVAL_MS, end_ms=at_ms, **fields)
                rule_id = self._world.decisions[-1].rule_id
                self._unreported.remove((rule_id, volume))
            self.listen()

    def awaits(self, rule_id: str) -> bool:
        """Whether a quota will close the rule's gate, if it is not closed already."""
        closing = any(rule_id in rules for rules in self._closing.values())
        return closing or self._gates.get(rule_id) == "closed"

    def copy(self) -> "Gateway":
        """Another one that knows the same."""
        twin = copy.copy(self)
        twin._quotas, twin._unreported = dict(self._quotas), list(self._unreported)
        return twin

    def listen(self) -> None:
        """Obey what was told since."""
        for update in self._world.updates[self._heard :]:
            self._obey(update)
        self._heard = len(self._world.updates)

    def _obey(self, update: PolicyUpdate) -> None:
        rule_id, end = update.rule_id, update.quota_bucket_id or update.quota_limit_id
        if update.quota_octets is None or end is None:
            self._gates[rule_id] = update.gate_status or "closed"
            for rules in self._closing.values():
                rules.discard(rule_id)
            return
        self._closing.setdefault(end, set()).discard(rule_id)
        if update.gate_status == "closed" or update.action == "remove":
            self._closing[end].add(rule_id)
        self._users[end] = update.quota_rule_ids
        # What has passed and was in no record yet counts.
        self._quotas[end] = update.quota_octets - sum(
            volume for user, volume in self._unreported if user in update.quota_rule_ids
        )

    def _use(self, rule_id: str, volume: int) -> None:
        for end, users in self._users.items():
            if rule_id in users:
                self._quotas[end] -= volume


def within(volumes: Iterable[int], most: int) -> list[int]:
    """The volumes, cut where together they are more than `most`."""
    kept = []
    for volume in volumes:
        kept.append(min(volume, most))
        most -= kept[-1]
    return [volume for volume in kept if volume]
