"""Reconciles the corrections of one lane: what is charged again was taken back first, and once."""

from collections import defaultdict

from schemas.usage import RatedUsage
from services.cli.reconcile import Findings
from services.engine.reclassify import CAUSE


class CorrectionAudit:
    """The rows that correct others. Order of use: take, then finish."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._taken: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._again: defaultdict[tuple[str, str], int] = defaultdict(int)

    def take(self, row: RatedUsage) -> None:
        """A row that says what it corrects."""
        side = self._taken if row.kind == "refund" else self._again
        side[row.corrects or "", row.cause or ""] += row.octets

    def finish(self, *, whole: bool) -> None:
        """Compare both sides. `whole`: retention has removed nothing of the usage topic."""
        findings = self._findings
        findings.looked("corrections_once", len(self._taken))
        charged_by: dict[str, str] = {}
        for corrected, cause in self._again:
            if charged_by.setdefault(corrected, cause) != cause:
                findings.violated(
                    "corrections_once", f"{corrected!r} was charged again by {charged_by[corrected]!r} and {cause!r}"
                )
        for corrected, cause in self._taken:
            if charged_by.get(corrected, cause) != cause:
                findings.violated("corrections_once", f"{corrected!r} was charged again, and refunded by {cause!r}")
        if not whole:
            findings.skipped("corrections_even", "retention has removed the beginning of the usage topic")
            return
        findings.looked("corrections_even", len(self._taken))
        for key in self._taken.keys() | self._again.keys():
            self._compare(*key)

    def _compare(self, corrected: str, cause: str) -> None:
        taken, again = self._taken.get((corrected, cause), 0), self._again.get((corrected, cause))
        if again is None and cause != CAUSE:
            return  # A refund that charges nothing again.
        if again != taken and (again or taken):
            self._findings.violated(
                "corrections_even",
                f"{cause!r} took back {taken} octets of {corrected!r} and charged {again or 0} again",
            )
