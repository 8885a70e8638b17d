"""The ledger on a real PostgreSQL, with everything else around it at work."""

import asyncio
from pathlib import Path

import psycopg
import pytest

from services.ingest.traffic_profile import make_subscribers
from tests.pipeline.flows import flow
from tests.pipeline.stages import PEOPLE, Where, assert_clean, playing, rated_usage, subscribe, traffic
from tests.waiting import wait_until_async

pytestmark = pytest.mark.postgres

DEADLINE_S = 120.0
EMBEDDED = Where()
STRANGE = ("a\u0000b", "\U0001f4f1" * 32, "'; DROP TABLE usage; --", "\u202e", " ")
"""Subscriber ids that JSON can say and a database may stumble over."""


async def test_the_ledger_on_postgresql_agrees_with_the_log_after_a_crash(postgres_url: str, tmp_path: Path) -> None:
    async with playing(EMBEDDED, tmp_path, database_url=postgres_url) as stage:
        await subscribe(stage)
        await stage.publish(traffic(2_000, seed=1, malformed_share=0.01))
        await stage.until_decided(500)
        assert stage.worker is not None
        await stage.worker.kill()
        await stage.start_worker()
        await stage.until_decided()
        found = await stage.survey()
        refused = stage.ledger.refused_counts()
    assert_clean(found, published=2_000)
    assert found.report.counts["ledger_rows"] == found.report.counts["usage"] > 0
    assert refused == {}


async def test_no_text_in_a_flow_record_stops_the_ledger(postgres_url: str, tmp_path: Path) -> None:
    account = make_subscribers(PEOPLE)[-1].account_id
    async with playing(EMBEDDED, tmp_path, database_url=postgres_url) as stage:
        await subscribe(stage)
        await stage.publish([flow(account, subscriber_id=text, server_name=text) for text in STRANGE])
        await stage.until_decided()
        await stage.publish(traffic(200, seed=2))
        await stage.until_decided()
        found = await stage.survey()
    assert_clean(found, published=stage.published)


async def test_a_locked_ledger_holds_up_no_decision_and_catches_up_once(postgres_url: str, tmp_path: Path) -> None:
    async with playing(EMBEDDED, tmp_path, database_url=postgres_url) as stage:
        await subscribe(stage)
        await stage.survey()
        booked = sum(stage.ledger.booked_offsets().values())
        async with await psycopg.AsyncConnection.connect(plain(postgres_url)) as blocker:
            await blocker.execute("LOCK TABLE usage IN ACCESS EXCLUSIVE MODE")
            await stage.publish(traffic(1_000, seed=3))
            await stage.until_decided()

            async def told() -> bool:
                return len(await rated_usage(stage.log)) > booked

            await wait_until_async(told, DEADLINE_S, "usage of the new traffic to be told")
            assert await asyncio.to_thread(offsets_in, postgres_url) == booked
        found = await stage.survey()
    assert_clean(found, published=1_000)
    assert found.report.counts["ledger_rows"] == found.report.counts["usage"] > booked


def plain(url: str) -> str:
    """A SQLAlchemy URL as libpq writes it."""
    return url.replace("postgresql+psycopg://", "postgresql://")


def offsets_in(url: str) -> int:
    """How far the ledger has booked, over all partitions, asked past the service."""
    with psycopg.connect(plain(url)) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(next_offset), 0) FROM ledger_offsets WHERE topic = 'ott.usage.v1'"
        ).fetchone()
    assert row is not None
    return int(row[0])
