"""Wires the commands that need the ledger's database: the rating service and the reconciliation."""

from collections.abc import Sequence
from functools import partial

from services.cli.live_state import ask_workers
from services.cli.processes import prepare_topics
from services.cli.summary import print_report, report_json
from services.cli.verify import verify
from services.rating.database import open_migrated
from services.rating.ledger_view import SqlLedgerView
from services.rating.service import RatingService
from services.runtime.open_log import open_log
from services.runtime.settings import Settings
from services.runtime.telemetry import configure_logging, new_registry


async def run_rating(settings: Settings) -> None:
    """The rating service until SIGTERM."""
    configure_logging(settings)
    log = open_log(settings)
    await prepare_topics(log, settings)
    await RatingService(settings, log, new_registry()).run_until_signal()


async def run_verify(settings: Settings, *, as_json: bool, strict: bool, wait_s: float, workers: Sequence[str]) -> int:
    """Reconcile log and ledger, and the live state of `workers` if any are given; print the report; the exit code."""
    view, log = SqlLedgerView(open_migrated(settings)), open_log(settings)
    try:
        await log.start()
        live = partial(ask_workers, workers) if workers else None
        report = await verify(log, view, live_state=live, strict=strict, wait_s=wait_s)
    finally:
        await log.close()
    if as_json:
        print(report_json(report))
    else:
        print_report(report)
    return 0 if report.ok else 1
