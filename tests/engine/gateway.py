"""A gateway that obeys what it is told, quotas included, and tells what has passed only at the end of an interval."""

import copy
from collections.abc import Iterable
from typing import Any

from schemas.decision import PolicyUpdate
from tests.engine.world import World

INTERVAL_MS = 60_000


class Gateway:
    """Passes the traffic of one account, each flow of a member under the rule that a test names for it."""

    def __init__(self, world: World) -> None:
        self.passed = 0
        """Octets, ever."""
        self._world = world
        self._heard = 0
        self._unreported: list[tuple[str, str, int]] = []
        self._gates: dict[tuple[str, str], str] = {}
        """By member and rule."""
        self._quotas: dict[str, int] = {}
        """What may still pass until an end comes, by its id."""
        self._users: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        """Whose octets count: of which rules, of which members; none: of all."""
        self._closing: dict[str, set[tuple[str, str]]] = {}
        """Rules whose gates an end closes, for whom."""
        self.listen()

    def passes(self, rule_id: str, wanted: int, member: str = "a1") -> int:
        """How much of `wanted` octets of a member pass under a rule."""
        if self._gates.get((member, rule_id)) != "open":
            return 0
        holding = [end for end, closing in self._closing.items() if (member, rule_id) in closing]
        volume = min([wanted, *(max(0, self._quotas[end]) for end in holding)])
        for end in self._users:
            if self._counts(end, member, rule_id):
                self._quotas[end] -= volume
        self._unreported.append((member, rule_id, volume))
        self.passed += volume
        return volume

    def report(self, flows: Iterable[tuple[str | None, int]], at_ms: int, *, member: str = "a1", **fields: Any) -> None:
        """Tell of a member's flows, by application and octets, in the interval that ends at `at_ms`; hear of each."""
        for app, volume in flows:
            if volume:
                self._world.flow(volume, app, at=at_ms - INTERVAL_MS, end_ms=at_ms, subscriber_id=member, **fields)
                rule_id = self._world.decisions[-1].rule_id
                self._unreported.remove((member, rule_id, volume))
            self.listen()

    def unreported(self) -> list[tuple[str, int]]:
        """Members and octets of the flows that passed and are in no record yet."""
        return [(member, volume) for member, _, volume in self._unreported]

    def awaits(self, rule_id: str, member: str = "a1") -> bool:
        """Whether a quota will close the rule's gate, if it is not closed already."""
        key = (member, rule_id)
        return any(key in closing for closing in self._closing.values()) or self._gates.get(key) == "closed"

    def copy(self) -> "Gateway":
        """Another one that knows the same."""
        twin = copy.copy(self)
        twin._quotas, twin._unreported = dict(self._quotas), list(self._unreported)
        return twin

    def listen(self) -> None:
        """Obey what was told since."""
        for update in self._world.updates[self._heard :]:
            end = update.quota_bucket_id or update.quota_limit_id
            for member in update.subscriber_ids:
                self._obey(update, (member, update.rule_id), end)
            if update.quota_octets is not None and end is not None:
                self._set(end, update, update.quota_octets)
        self._heard = len(self._world.updates)

    def _obey(self, update: PolicyUpdate, key: tuple[str, str], end: str | None) -> None:
        if update.quota_octets is None or end is None:
            self._gates[key] = update.gate_status or "closed"
            for closing in self._closing.values():
                closing.discard(key)
            return
        self._closing.setdefault(end, set()).discard(key)
        if update.gate_status == "closed" or update.action == "remove":
            self._closing[end].add(key)

    def _set(self, end: str, update: PolicyUpdate, quota_octets: int) -> None:
        self._users[end] = update.quota_rule_ids, update.quota_subscriber_ids
        # What has passed and was in no record yet counts.
        self._quotas[end] = quota_octets - sum(
            volume for member, rule_id, volume in self._unreported if self._counts(end, member, rule_id)
        )

    def _counts(self, end: str, member: str, rule_id: str) -> bool:
        rule_ids, members = self._users[end]
        return rule_id in rule_ids and (not members or member in members)


def within(volumes: Iterable[int], most: int) -> list[int]:
    """The volumes, cut where together they are more than `most`."""
    kept = []
    for volume in volumes:
        kept.append(min(volume, most))
        most -= kept[-1]
    return [volume for volume in kept if volume]
