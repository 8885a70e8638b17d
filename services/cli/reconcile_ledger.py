"""Reconciles the ledger with the rated usage that it was told."""

from collections.abc import Mapping
from typing import Any

from schemas.usage import RatedUsage
from services.cli.ledger_view import LedgerRow, LedgerView
from services.cli.reconcile import OFFENDERS_KEPT, Findings
from services.cli.reconcile_books import IdBook, Place, TwoSums
from services.cli.reconcile_view import PART_FIELDS, PARTS, BucketKey


class LedgerAudit:
    """Both sides of the ledger: `expect` each row of the usage topic below the booked offsets, then `compare`."""

    def __init__(self, booked: Mapping[int, int]) -> None:
        self.booked = booked
        self._told = IdBook()
        self._held = IdBook()
        self._octets: TwoSums[tuple[str, str]] = TwoSums()
        self._money: TwoSums[tuple[str, str]] = TwoSums()
        self._movements: TwoSums[BucketKey] = TwoSums()
        self._balances: TwoSums[BucketKey] = TwoSums()
        self._sponsored: TwoSums[tuple[str]] = TwoSums()
        self._connections: TwoSums[tuple[str]] = TwoSums()

    def is_booked(self, partition: int, offset: int) -> bool:
        """Whether the ledger has passed this row of the usage topic."""
        return offset < self.booked.get(partition, 0)

    def expect(self, row: RatedUsage, place: Place, micros: int) -> None:
        """The ledger has passed this row, so it has to hold it; `micros` is its amount."""
        self._told.add(row.usage_id, *place)
        octets, account = self._octets.left, row.account_id
        for part, field in PART_FIELDS:
            if amount := getattr(row, field):
                octets[account, part] += amount
        self._money.left[account, row.currency or ""] += micros
        for paid in row.sponsorships:
            sign = -1 if row.kind == "refund" else 1
            self._sponsored.left[(paid.campaign_id,)] += sign * paid.octets
            self._connections.left[(paid.campaign_id,)] += sign * paid.connections
        for movement in row.movements:
            self._movements.left[account, movement.bucket_id, movement.unit] += int(movement.amount)

    def read(self, view: LedgerView) -> None:
        """Take the ledger's side. Reads every row."""
        for number, row in enumerate(view.rows()):
            self._hold(number, row)
        for account_id, bucket_id, unit, amount in view.movement_totals():
            self._movements.right[account_id, bucket_id, unit] += amount
            self._balances.left[account_id, bucket_id, unit] += amount
        for campaign_id, octets, _, connections in view.sponsored_totals():
            self._sponsored.right[(campaign_id,)] += octets
            self._connections.right[(campaign_id,)] += connections
        for account_id, bucket_id, unit, amount in view.balances():
            self._balances.right[account_id, bucket_id, unit] += amount

    def compare(self, findings: Findings, view: LedgerView, *, whole: bool) -> None:
        """Report every difference. `whole`: the usage topic still holds its beginning."""
        findings.counts["ledger_rows"] += len(self._held)
        findings.looked("ledger_holds_usage_once", len(self._held))
        self._compare_rows(findings, view, whole=whole)
        _compare_sums(findings, "ledger_balances", self._balances, "moved", "served")
        if not whole:
            for name in ("ledger_by_account", "ledger_by_bucket", "ledger_by_campaign"):
                findings.skipped(name, "retention has removed the beginning of the usage topic")
            return
        _compare_sums(findings, "ledger_by_account", self._octets, "octets told", "in the ledger")
        _compare_sums(findings, "ledger_by_account", self._money, "micro-units told", "in the ledger")
        _compare_sums(findings, "ledger_by_bucket", self._movements, "told", "in the ledger")
        _compare_sums(findings, "ledger_by_campaign", self._sponsored, "octets told", "in the ledger")
        _compare_sums(findings, "ledger_by_campaign", self._connections, "connections told", "in the ledger")

    def _hold(self, number: int, row: LedgerRow) -> None:
        usage_id, account_id, _, *octets = row[:8]
        amount, currency = row[8], row[9]
        self._held.add(usage_id, 0, number)
        for part, count in zip(PARTS, octets, strict=True):
            if count:
                self._octets.right[account_id, part] += count
        self._money.right[account_id, currency or ""] += amount

    def _compare_rows(self, findings: Findings, view: LedgerView, *, whole: bool) -> None:
        name = "ledger_holds_usage_once"
        for _, place in self._told.missing_from(self._held):
            findings.violated(name, f"the usage row at {place} is booked by its offset and not in the ledger")
        _report_rows(findings, view, [found.digest for found in self._held.repeats()], "is in the ledger twice")
        if whole:
            invented = [found.digest for found in self._held.missing_from(self._told)]
            _report_rows(findings, view, invented, "is in the ledger and was never told by the usage topic")


def _report_rows(findings: Findings, view: LedgerView, digests: list[int], problem: str) -> None:
    """Report rows by the hashes of their ids. The rows are read again, since only offenders are worth their names."""
    wanted = set(digests[:OFFENDERS_KEPT])
    if wanted:
        for row in view.rows():
            if hash(row[0]) in wanted:
                wanted.discard(hash(row[0]))
                findings.violated("ledger_holds_usage_once", f"{row[0]!r} of account {row[1]!r} {problem}")
    if (surplus := len(digests) - OFFENDERS_KEPT) > 0:
        findings.violated("ledger_holds_usage_once", f"and {surplus} more", surplus)


def _compare_sums(findings: Findings, name: str, sums: TwoSums[Any], left: str, right: str) -> None:
    findings.looked(name, len(sums.keys()))
    for key, told, held in sums.differences():
        findings.violated(name, f"{' / '.join(key)}: {told} {left}, {held} {right}")
