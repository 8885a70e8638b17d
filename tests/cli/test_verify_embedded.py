"""Verify over the real embedded log and the real ledger, with both services at work."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from schemas import topics
from services.cli.rating_processes import run_verify
from services.cli.verify import survey
from services.engine.feed import entries_of
from services.ingest.traffic import generate_traffic
from services.ingest.traffic_profile import TrafficProfile, make_subscribers, members_of
from services.policy.service import PolicyService
from services.rating.catalogue_files import load_catalogue
from services.rating.database import SchemaOutdated, migrate, open_database
from services.rating.ledger import Ledger
from services.rating.ledger_view import SqlLedgerView
from services.rating.metrics import RatingMetrics
from services.runtime.log import Log, NewRecord
from services.runtime.open_log import open_log
from services.runtime.settings import Settings
from services.runtime.telemetry import new_registry
from tests.cli.orders import orders

START_MS = 1_767_225_600_000
PARTITIONS = 2
DEADLINE_S = 60.0


async def publish_everything(log: Log) -> None:
    catalogue, subscribers = load_catalogue(), make_subscribers(30)
    profile = TrafficProfile(
        subscribers=subscribers, records=1_500, start_ms=START_MS + 1_000, duration_ms=600_000, malformed_share=0.02
    )
    publisher = await log.publisher()
    await publisher.publish(
        [
            NewRecord(topics.CATALOGUE, entry.entry_key.encode(), msgspec.json.encode(entry), START_MS)
            for entry in entries_of(catalogue)
        ]
    )
    await publisher.publish(
        [
            NewRecord(topics.COMMANDS, key, value, START_MS)
            for key, value in orders(catalogue, members_of(subscribers), START_MS)
        ]
    )
    await publisher.publish(
        [
            NewRecord(topics.FLOWS, record.key, record.value, record.timestamp_ms)
            for record in generate_traffic(profile, 5)
        ]
    )
    await publisher.close()


async def test_running_services_reconcile_with_nothing_waiting(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path), partitions=PARTITIONS, policy_ops_port=0, usage_interval_ms=200)
    log, engine = open_log(settings), open_database(settings)
    migrate(engine)
    await log.start()
    await log.ensure_topics(topics.ALL, partitions=PARTITIONS)
    await publish_everything(log)
    policy = PolicyService(settings, open_log(settings), new_registry())
    ledger = Ledger(engine=engine, log=log, settings=settings, metrics=RatingMetrics(new_registry()))
    booking = asyncio.create_task(ledger.run())
    await policy.start()
    try:
        found = await survey(log, SqlLedgerView(engine), strict=True, wait_s=DEADLINE_S)
    finally:
        await policy.stop()
        ledger.stop()
        await booking
        await log.close()
        engine.dispose()
    assert found.report.ok, found.report.violated()
    assert found.report.counts["flows"] == 1_500
    assert found.report.counts["ledger_rows"] == found.report.counts["usage"] > 0
    skipped = [check.name for check in found.report.checks if check.status == "skipped"]
    assert skipped == ["changelog_is_live_state"]


def test_a_database_without_tables_is_told_and_not_taken_for_an_empty_ledger(tmp_path: Path) -> None:
    with pytest.raises(SchemaOutdated, match="run `smartpipe migrate`"):
        asyncio.run(run_verify(Settings(data_dir=str(tmp_path)), as_json=True, strict=False, wait_s=0, workers=()))
