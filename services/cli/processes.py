"""Wires the long-running commands: settings in, services up, signals obeyed."""

from schemas import topics
from services.cli.reconcile import Report
from services.cli.summary import print_report, report_json
from services.cli.verify import verify
from services.policy.service import PolicyService
from services.rating.database import open_database
from services.rating.ledger_view import SqlLedgerView
from services.rating.service import RatingService
from services.runtime.log import Log
from services.runtime.open_log import open_log
from services.runtime.settings import Settings
from services.runtime.telemetry import configure_logging, new_registry


async def run_policy(settings: Settings) -> None:
    """The policy service until SIGTERM."""
    configure_logging(settings)
    log = open_log(settings)
    await prepare_topics(log, settings)
    await PolicyService(settings, log, new_registry()).run_until_signal()


async def run_rating(settings: Settings) -> None:
    """The rating service until SIGTERM."""
    configure_logging(settings)
    log = open_log(settings)
    await prepare_topics(log, settings)
    await RatingService(settings, log, new_registry()).run_until_signal()


async def create_topics(settings: Settings) -> list[str]:
    """Create what is missing; one line a topic."""
    log = open_log(settings)
    try:
        await prepare_topics(log, settings)
        return [f"{topic.name}: {await log.partitions_of(topic.name)} partitions" for topic in topics.ALL]
    finally:
        await log.close()


async def run_verify(settings: Settings, *, as_json: bool, strict: bool) -> int:
    """Reconcile and print; the exit code."""
    log = open_log(settings)
    await log.start()
    try:
        report = await reconcile(log, settings, strict=strict)
    finally:
        await log.close()
    if as_json:
        print(report_json(report))
    else:
        print_report(report)
    return 0 if report.ok else 1


async def reconcile(log: Log, settings: Settings, *, strict: bool) -> Report:
    """The reconciliation of this log with the ledger that the settings name."""
    return await verify(log, SqlLedgerView(open_database(settings)), strict=strict)


async def prepare_topics(log: Log, settings: Settings) -> None:
    """Reach the log and make sure that every topic is there."""
    await log.start()
    await log.ensure_topics(topics.ALL, partitions=settings.partitions)
