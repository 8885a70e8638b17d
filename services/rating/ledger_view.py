"""The ledger as the reconciliation sees it: read-only, streamed, from any process."""

from collections.abc import Iterator

from services.rating.database import Engine, reading
from services.rating.ledger import booked_offsets
from services.rating.repositories import catalogue as shelf
from services.rating.repositories import leases
from services.rating.repositories import ledger as books
from services.rating.repositories.ledger import BookedRow, BucketSum

__all__ = ["SqlLedgerView"]


class SqlLedgerView:
    """Readings of the ledger database; each is one snapshot, two of them need not be the same one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def booked_offsets(self) -> dict[int, int]:
        """Next offset of `ott.usage.v1` to be booked, per partition."""
        return booked_offsets(self._engine)

    def rows(self) -> Iterator[BookedRow]:
        """Every booked row, streamed, in no order."""
        with reading(self._engine) as connection:
            yield from books.booked_rows(connection)

    def movement_totals(self) -> Iterator[BucketSum]:
        """Σ movements per account, bucket and unit."""
        with reading(self._engine) as connection:
            yield from books.bucket_sums(connection)

    def balances(self) -> Iterator[BucketSum]:
        """The running balance per account, bucket and unit, which the API serves."""
        with reading(self._engine) as connection:
            yield from books.bucket_balances(connection)

    def sponsored_totals(self) -> list[tuple[str, int, int, int]]:
        """What each campaign has to pay for, how much of that from its budget, and its connections; refunds are off."""
        with reading(self._engine) as connection:
            sums = books.sponsored_sums(connection)
        return [(paid.campaign_id, paid.octets, paid.budget_octets, paid.connections) for paid in sums]

    def budgets(self) -> list[tuple[str, int, int, int]]:
        """Campaign, budget, granted and returned octets."""
        with reading(self._engine) as connection:
            return [totals[:4] for totals in leases.campaign_totals(connection)]

    def lane_leases(self) -> list[tuple[str, int, int, int, int, int]]:
        """Campaign, lane, number of its last request booked, granted, returned and used octets."""
        with reading(self._engine) as connection:
            return [(*key, *lease[:4]) for key, lease in sorted(leases.lane_leases(connection).items())]

    def catalogue_versions(self) -> list[str]:
        """Every catalogue version ever published, oldest first."""
        with reading(self._engine) as connection:
            return shelf.version_names(connection)

    def refused_counts(self) -> dict[str, int]:
        """Usage records that were refused and kept, by cause."""
        with reading(self._engine) as connection:
            return books.refused_counts(connection)
