"""Reconciles budgets: what campaigns paid for, what lanes hold of them, and what their owner has granted.

Over all lanes: fed each lane's changelog, requests and decisions, then compared with the owner's books.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from schemas.decision import Sponsorship
from schemas.lease import LeaseRequest
from schemas.state import LeaseState
from schemas.topics import LEASE_REQUESTS, STATE
from services.cli.ledger_view import LedgerView
from services.cli.reconcile import Findings
from services.engine.leases import held_octets
from services.runtime.log import LogRecord

LEASE_PREFIX = b"l/"

BUDGET_CHECKS = ("budgets_kept", "leases_granted")

_decode_state: Callable[[bytes], LeaseState] = msgspec.msgpack.Decoder(LeaseState).decode
_decode_request: Callable[[bytes], LeaseRequest] = msgspec.json.Decoder(LeaseRequest).decode


class _Lane(NamedTuple):
    """A lane as the audit met it: whether its topics are of one moment, and whether they hold their beginnings."""

    settled: bool
    decisions_whole: bool
    requests_first: int


class LeaseAudit:
    """Both sides of every lease. Order of use: per lane `begin`, `state`, `request`, `drawn`; at the end `compare`."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._lanes: dict[int, _Lane] = {}
        self._leases: dict[tuple[str, int], LeaseState] = {}
        self._said: dict[tuple[str, int], int] = {}
        self._drawn: Counter[tuple[str, int]] = Counter()

    def begin(self, partition: int, *, settled: bool, decisions_whole: bool, requests_first: int) -> None:
        """The audit comes to a lane."""
        self._lanes[partition] = _Lane(settled, decisions_whole, requests_first)

    def state(self, partition: int, records: Sequence[LogRecord]) -> None:
        """The changelog: the newest value of each key counts."""
        for record in records:
            if record.key is None or record.value is None or not record.key.startswith(LEASE_PREFIX):
                continue
            try:
                lease = _decode_state(record.value)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._findings.violated("outputs_readable", f"{STATE}: lease {record.key!r}: {error}")
                continue
            self._leases[lease.campaign_id, partition] = lease

    def answered(self, partition: int) -> dict[str, int]:
        """The number of the last ask of each campaign that the lane has an answer to."""
        return {name: lease.answered for (name, lane), lease in self._leases.items() if lane == partition}

    def requests(self, partition: int, records: Sequence[LogRecord]) -> None:
        """What the lane has said: its numbers follow each other."""
        self._findings.counts["lease_requests"] += len(records)
        for record in records:
            try:
                request = _decode_request(record.value or b"")
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                place = f"partition {partition} offset {record.offset}"
                self._findings.violated("outputs_readable", f"{LEASE_REQUESTS}: {place}: {error}")
                continue
            self._say(partition, request)

    def drawn(self, partition: int, sponsorships: Iterable[Sponsorship]) -> None:
        """A decision of the lane drew from budgets."""
        for paid in sponsorships:
            if paid.budget_octets:
                self._drawn[paid.campaign_id, partition] += paid.budget_octets

    def compare(self, view: LedgerView | None) -> None:
        """Report every difference."""
        for key in sorted(self._leases.keys() | self._drawn.keys() | self._said.keys()):
            self._compare_lane(key)
        if view is None:
            for name in BUDGET_CHECKS:
                self._findings.skipped(name, "no ledger was given")
            return
        self._compare_budgets(view)
        self._compare_owner(view)

    def _say(self, partition: int, request: LeaseRequest) -> None:
        name = "lease_requests_once"
        self._findings.looked(name)
        key = (request.campaign_id, partition)
        before = self._said.get(key)
        whole = not self._lanes[partition].requests_first
        expected = before + 1 if before is not None else 1 if whole else request.sequence
        if request.partition != partition or request.sequence != expected:
            self._findings.violated(
                name, f"{request.request_id!r} stands in partition {partition}; number {expected} is due there"
            )
        self._said[key] = request.sequence

    def _compare_lane(self, key: tuple[str, int]) -> None:
        campaign, partition = key
        lane, lease = self._lanes[partition], self._leases.get(key)
        shown = f"campaign {campaign!r}, lane {partition}"
        used, number, held = (lease.used_octets, lease.sequence, held_octets(lease)) if lease else (0, 0, 0)
        self._findings.looked("leases_drawn")
        if held < 0:
            self._findings.violated("leases_drawn", f"{shown}: {held} octets are held")
        if not lane.settled or not lane.decisions_whole:
            self._findings.skipped("leases_drawn", f"lane {partition} is not read whole, or went on writing")
        elif self._drawn[key] != used:
            self._findings.violated(
                "leases_drawn", f"{shown}: decisions drew {self._drawn[key]} octets, the lease says {used}"
            )
        if lane.settled and key in self._said and self._said[key] != number:
            self._findings.violated(
                "lease_requests_once", f"{shown}: the last request is {self._said[key]}, the lease says {number}"
            )

    def _compare_budgets(self, view: LedgerView) -> None:
        paid = {name: octets for name, _, octets, _ in view.sponsored_totals() if octets}
        budgets = {name: (limit, granted - returned) for name, limit, granted, returned in view.budgets()}
        for name in sorted(paid.keys() | budgets.keys()):
            self._findings.looked("budgets_kept")
            limit, out = budgets.get(name, (0, 0))
            if not paid.get(name, 0) <= out <= limit:
                self._findings.violated(
                    "budgets_kept",
                    f"campaign {name!r}: {paid.get(name, 0)} octets in the ledger, {out} granted and not returned, "
                    f"{limit} in the budget",
                )

    def _compare_owner(self, view: LedgerView) -> None:
        name = "leases_granted"
        owned = {(campaign, lane): tuple(rest) for campaign, lane, *rest in view.lane_leases()}
        for key in sorted(owned.keys() | self._leases.keys()):
            partition = key[1]
            if partition not in self._lanes or not self._lanes[partition].settled:
                self._findings.skipped(name, f"lane {partition} went on writing while it was read")
                continue
            self._findings.looked(name)
            self._compare_lease(key, owned.get(key, (0, 0, 0, 0)))

    def _compare_lease(self, key: tuple[str, int], owned: tuple[int, ...]) -> None:
        """Granted - returned - used = held, once the owner has heard all and the lane has taken all."""
        lease = self._leases.get(key) or LeaseState(1, key[0])
        number, granted, returned, used = owned
        said = f"campaign {key[0]!r}, lane {key[1]}"
        if lease.granted_octets > granted:
            self._findings.violated(
                "leases_granted", f"{said}: was granted {lease.granted_octets} octets, by its owner only {granted}"
            )
        elif number != lease.sequence or granted != lease.granted_octets:
            self._findings.waiting["leases"] += 1
        elif returned != lease.returned_octets or used > lease.used_octets:
            self._findings.violated(
                "leases_granted",
                f"{said}: {granted} octets granted, {returned} returned and {used} used by the owner's books; "
                f"the lane returned {lease.returned_octets} and used {lease.used_octets}",
            )
