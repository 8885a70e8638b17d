"""What the reconciliation has to see of a ledger; the rating service's `SqlLedgerView` keeps this shape."""

from collections.abc import Iterable, Mapping
from typing import Protocol

LedgerRow = tuple[str, str, str, int, int, int, int, int, int, str | None]
"""usage_id, account_id, kind, octets charged, free, sponsored, blocked, not charged, amount in micro-units, currency.

A NamedTuple with these ten fields in this order is one, too.
"""

MovementTotal = tuple[str, str, str, int]
"""account_id, bucket_id, unit (`octets` or `micros`), sum of all movements; money in micro-units."""


class LedgerView(Protocol):
    """The rating service's database as it can be read from outside. Synchronous: the caller runs it in a thread.

    The readings need not be one snapshot: the offsets are read before and after, and must not have moved.
    """

    def booked_offsets(self) -> Mapping[int, int]:
        """Next offset of `ott.usage.v1` to be booked, per partition; a partition never booked may be left out."""

    def rows(self) -> Iterable[LedgerRow]:
        """Every booked row, in any order, streamed."""

    def movement_totals(self) -> Iterable[MovementTotal]:
        """One sum per account, bucket and unit."""

    def balances(self) -> Iterable[MovementTotal]:
        """What the ledger serves as the balance of each account, bucket and unit."""

    def sponsored_totals(self) -> Iterable[tuple[str, int, int, int]]:
        """Campaign, octets that it has to pay for, those drawn from its budget, and connections; refunds are off."""

    def budgets(self) -> Iterable[tuple[str, int, int, int]]:
        """Campaign, budget, granted and returned octets by the owner's books."""

    def lane_leases(self) -> Iterable[tuple[str, int, int, int, int, int]]:
        """Campaign, lane, number of its last request booked, granted, returned and used octets."""

    def catalogue_versions(self) -> Iterable[str]:
        """Every catalogue version ever published, the newest among them."""
