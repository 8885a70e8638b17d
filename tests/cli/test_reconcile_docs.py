"""The page about the reconciliation names every check, with its claim and what its violation means."""

from pathlib import Path

from services.cli.reconcile import CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "reconciliation.md"


def test_the_page_has_one_row_for_each_check_in_the_order_of_the_report() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}` | {claim.claim} | {claim.meaning} |" for name, claim in CHECKS.items()]
