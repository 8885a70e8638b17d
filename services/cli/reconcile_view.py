"""What one lane's audit is about, and the two-sided sums that it has to bring into agreement."""

import dataclasses
from collections.abc import Mapping

from services.cli.reconcile_books import TwoSums

PARTS = ("charged", "free", "sponsored", "blocked", "not_charged")
"""What becomes of octets; the fields are called `<part>_octets`."""

PART_FIELDS = tuple((part, f"{part}_octets") for part in PARTS)

MAIN_BALANCE = "main"

BucketKey = tuple[str, str, str]
"""account_id, bucket_id, unit."""


@dataclasses.dataclass(frozen=True)
class LaneView:
    """Which stretch of the log the audit of one lane is about."""

    partition: int
    partitions: int
    firsts: Mapping[str, int]
    """First offset that each topic's partition still holds."""
    ends: Mapping[str, int]
    """Offset, per topic, at which reading ends."""
    settled: bool = True
    """The ends were taken while the lane wrote nothing: all topics are of one moment."""
    command_memory: int = 1
    """How many command ids an account's state remembers at least."""

    def whole(self, *topics: str) -> bool:
        """Whether the lane was settled and retention has removed nothing of these topics."""
        return self.settled and not any(self.firsts.get(topic, 0) for topic in topics)

    def unsettled(self) -> str:
        """Why checks over several topics are skipped where the view is not settled."""
        return f"lane {self.partition} went on writing while it was read"


class LaneSums:
    """The sums of one lane. Left is what came first: records, decisions, movements told; right is what became of it."""

    def __init__(self, opening: Mapping[BucketKey, int] | None) -> None:
        """`opening`: what the ledger's buckets add up to, where the usage topic no longer holds its beginning."""
        self.volume: TwoSums[str] = TwoSums()
        """Octets by subscriber: in its records, in its decisions."""
        self.parts: dict[str, TwoSums[str]] = {part: TwoSums() for part in ("records", *PARTS)}
        """Records and octets by account: decided, in rated usage."""
        self.money: TwoSums[tuple[str, str]] = TwoSums()
        """Micro-units by account and currency: decided, in rated usage."""
        self.draws: TwoSums[tuple[str, str]] = TwoSums()
        """Octets or ms by account and bucket: drawn by decisions, by rated usage."""
        self.sponsored: TwoSums[tuple[str, str]] = TwoSums()
        """Octets by account and campaign: paid for in decisions, in rated usage."""
        self.sponsored_connections: TwoSums[tuple[str, str]] = TwoSums()
        """Connections by account and campaign, of the same."""
        self.buckets: TwoSums[BucketKey] = TwoSums()
        """By account, bucket and unit: movements told, what the state holds with gathered draws put back."""
        self.buckets.left.update(opening or {})
        self.told: TwoSums[str] = TwoSums()
        """Notifications by account: in the topic, by the state's numbers."""
        self.updated: TwoSums[str] = TwoSums()
        """Enforcement updates by account: in the topic, by the state's numbers."""
