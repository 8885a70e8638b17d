"""What is reconciled over all lanes at once: ids that are unique everywhere, and catalogue versions."""

from collections import Counter
from collections.abc import Collection

from schemas.topics import DECISIONS, ENFORCEMENT, NOTIFICATIONS, USAGE
from services.cli.reconcile import Findings
from services.cli.reconcile_books import IdBook


class LogBooks:
    """Ids with their places, and how many decisions name each catalogue version."""

    def __init__(self) -> None:
        self.record_ids = IdBook()
        self.duplicates = IdBook()
        self.usage_ids = IdBook()
        self.notification_ids = IdBook()
        self.update_ids = IdBook()
        self.versions: Counter[str] = Counter()

    def finish(self, findings: Findings, *, known_versions: Collection[str] | None, whole: bool) -> None:
        """Report repeated ids, duplicates that are none, and unknown versions. `whole`: decisions hold their start."""
        for name, topic, book in (
            ("record_ids_once", DECISIONS, self.record_ids),
            ("usage_ids_once", USAGE, self.usage_ids),
            ("notification_ids_once", NOTIFICATIONS, self.notification_ids),
            ("update_ids_once", ENFORCEMENT, self.update_ids),
        ):
            findings.looked(name, len(book))
            for _, first, later in book.repeats():
                findings.violated(name, f"{topic}: the id at {first} stands again at {later}")
        self._finish_duplicates(findings, whole=whole)
        self._finish_versions(findings, known_versions)

    def _finish_duplicates(self, findings: Findings, *, whole: bool) -> None:
        if not whole:
            findings.skipped("duplicates_decided", "retention has removed the beginning of the decisions")
            return
        findings.looked("duplicates_decided", len(self.duplicates))
        for _, place in self.duplicates.missing_from(self.record_ids):
            findings.violated(
                "duplicates_decided",
                f"the flow record at {place} was refused as a duplicate, and no decision has its record id",
            )

    def _finish_versions(self, findings: Findings, known_versions: Collection[str] | None) -> None:
        findings.looked("catalogue_known", sum(self.versions.values()))
        for version, count in self.versions.items():
            if not version:
                findings.violated("catalogue_known", f"{count} decisions name no catalogue version", count)
            elif known_versions is not None and version not in known_versions:
                findings.violated(
                    "catalogue_known", f"{count} decisions name version {version!r}, which was never published", count
                )
