"""The lane's slices of campaigns' budgets: drawn by its flows, asked for and given back in its own transactions.

Part of the lane's state, in the changelog beside the accounts; the lane drops it as a whole after any failure. What is
decided when is pure (`services.engine.leases`); here is only what has to be remembered.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from schemas.catalogue import Campaign
from schemas.command import GrantLease
from schemas.decision import Sponsorship
from schemas.lease import LeaseRequest
from schemas.state import LeaseState
from services.engine.leases import (
    begins_ms,
    drawn,
    granted,
    held_octets,
    is_empty,
    look_ms,
    next_kind,
    opened,
    renewed,
    requested,
)
from services.engine.tariff import Tariff

KEY_PREFIX = b"l/"

IDLE_MS = 600_000

CALM_MS = 30_000
"""Gateways are not told more often than this that a budget has ended or is back: a turn is told for every account that
the campaign is for, while the last octets of a budget may come and go by the second."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(LeaseState).decode


class Leases:
    """One lane's leases, by campaign.

    Order of use in a transaction: `begin`, draws and grants as they come, `empty`, `requests`, `changed`.
    """

    def __init__(self, idle_ms: int = IDLE_MS) -> None:
        self._idle_ms = idle_ms
        self._leases: dict[str, LeaseState] = {}
        self._left: dict[str, int] = {}
        self._budgets: Mapping[str, Campaign] = {}
        self._version: str | None = None
        self._touched: set[str] = set()
        self._changed: set[str] = set()
        self._look_ms: int | None = None
        self._empty: frozenset[str] = frozenset()
        self._turned_ms: dict[str, int] = {}
        self._may_turn = False

    def begin(self, tariff: Tariff) -> Mapping[str, int] | None:
        """What flows under `tariff` may draw, in octets by campaign; None when no campaign has a budget.

        The mapping follows every draw and grant.
        """
        if tariff.version != self._version:
            self._version = tariff.version
            before = self._budgets
            self._budgets = {name: item for name, item in tariff.campaigns.items() if item.budget is not None}
            for name in self._leases.keys() & before.keys():
                if self._budgets.get(name) != before[name]:
                    self._keep(renewed(self._leases[name]))
            self._touched.update(self._leases, self._budgets)
            self._may_turn = True
        return self._left if self._budgets else None

    def draw(self, sponsorships: Iterable[Sponsorship], now_ms: int) -> None:
        """A flow was paid for by these campaigns, or found the budget of one used up."""
        for paid in sponsorships:
            if paid.budget_octets or not paid.octets:
                lease = self._leases.get(paid.campaign_id) or opened(paid.campaign_id, now_ms)
                self._keep(drawn(lease, paid.budget_octets, now_ms))

    def grant(self, command: GrantLease, now_ms: int) -> None:
        """Take the answer to an ask, once. Raises ValueError for an answer to an ask that this lane never made."""
        lease = granted(self._leases.get(command.campaign_id) or opened(command.campaign_id, now_ms), command)
        if lease is not None:
            self._keep(lease)

    def empty(self, now_ms: int) -> frozenset[str]:
        """Campaigns whose budget is used up here, as gateways should know it at `now_ms`."""
        if self._may_turn:
            self._may_turn = False
            for name in [name for name in self._leases if self._is_empty(name) != (name in self._empty)]:
                if now_ms < self._turned_ms.get(name, -CALM_MS) + CALM_MS:
                    self._may_turn = True
                else:
                    self._turned_ms[name] = now_ms
                    self._empty ^= {name}
        return self._empty

    def requests(self, *, partition: int, now_ms: int) -> list[LeaseRequest]:
        """What the lane has to say at the end of a transaction. Nearly always nothing, and then it costs nothing."""
        if self._look_ms is not None and now_ms >= self._look_ms:
            self._touched.update(self._leases, self._budgets)
        if not self._touched:
            return []
        found = [self._request(name, partition, now_ms) for name in sorted(self._touched)]
        self._touched.clear()
        self._look_ms = min(self._looks(now_ms), default=None)
        return [request for request in found if request is not None]

    def changed(self) -> Iterator[tuple[bytes, bytes]]:
        """(changelog key, value) of every lease that changed since the last call, as it is now."""
        for name in sorted(self._changed):
            yield KEY_PREFIX + name.encode(), _encode(self._leases[name])
        self._changed = set()

    def restore(self, raw: bytes) -> None:
        """Take one lease from the changelog."""
        lease = _decode(raw)
        self._leases[lease.campaign_id] = lease
        self._left[lease.campaign_id] = held_octets(lease)
        self._touched.add(lease.campaign_id)
        self._may_turn = True

    def states(self) -> Mapping[str, LeaseState]:
        """Every lease, by campaign."""
        return self._leases

    def _keep(self, lease: LeaseState) -> None:
        name = lease.campaign_id
        self._leases[name] = lease
        self._left[name] = held_octets(lease)
        self._changed.add(name)
        self._touched.add(name)
        self._may_turn = True

    def _is_empty(self, name: str) -> bool:
        return name in self._budgets and is_empty(self._leases[name])

    def _request(self, name: str, partition: int, now_ms: int) -> LeaseRequest | None:
        campaign, lease = self._budgets.get(name), self._leases.get(name)
        if lease is None:
            # The first slice is asked for before any flow comes, so that none finds the budget empty.
            begins = None if campaign is None else begins_ms(campaign, now_ms)
            if begins is None or now_ms < begins:
                return None
            lease = opened(name, now_ms)
        kind = next_kind(lease, campaign, now_ms=now_ms, idle_ms=self._idle_ms)
        if kind is None:
            return None
        lease, request = requested(lease, kind, partition=partition, now_ms=now_ms)
        self._keep(lease)
        return request

    def _looks(self, now_ms: int) -> Iterator[int]:
        """Times at which the passing of time alone gives something to say."""
        for name in {*self._leases, *self._budgets}:
            campaign, lease = self._budgets.get(name), self._leases.get(name)
            if lease is not None:
                at_ms = look_ms(lease, campaign, now_ms=now_ms, idle_ms=self._idle_ms)
            else:
                at_ms = None if campaign is None else begins_ms(campaign, now_ms)
            if at_ms is not None:
                yield at_ms
