"""The rating service as a whole: it starts, tells its health, survives outages, stops in time."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from schemas.topics import CATALOGUE, USAGE
from services.rating import service as module
from services.rating.catalogue_store import publish_catalogue
from services.rating.database import migrate, open_database
from services.rating.service import RatingService
from services.runtime.log import OffsetOutOfRange
from services.runtime.settings import Settings
from services.runtime.telemetry import new_registry
from tests.rating.catalogues import catalogue
from tests.rating.fakes import FakeLog
from tests.rating.usage_records import encoded, rated
from tests.waiting import wait_until, wait_until_async

DEADLINE_S = 100


async def _get(port, path):
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{port}{path}")


async def _ready(service):
    return (await _get(service.ops_port, "/healthz/ready")).status_code == 200


async def _becomes_ready(service):
    await wait_until_async(lambda: _ready(service), DEADLINE_S, "readiness")


async def test_a_started_service_publishes_books_and_serves(settings):
    log = FakeLog()
    service = RatingService(settings, log, new_registry())
    await service.start()
    try:
        await _becomes_ready(service)
        await asyncio.to_thread(publish_catalogue, service.engine, catalogue())
        log.add(USAGE, b"acc-1", encoded(rated()))

        async def booked():
            return (await _get(service.http_port, "/ott-policy/v1/usage/f-0-0-0-0/explanation")).status_code == 200

        await wait_until_async(booked, DEADLINE_S, "the explanation")
        await wait_until_async(lambda: any(log.lists(CATALOGUE)), DEADLINE_S, "the catalogue in the log")
        metrics = (await _get(service.ops_port, "/metrics")).text
        assert 'ott_rating_ledger_rows_total{kind="usage"} 1.0' in metrics
        assert 'route="/ott-policy/v1/usage/{usage_id}/explanation"' in metrics
        assert (await _get(service.http_port, "/healthz/ready")).json()["checks"].keys() == {
            "database", "schema", "log", "ledger", "leases", "refusals", "outbox",
        }  # fmt: skip
    finally:
        await service.stop()
    assert log.closed
    with pytest.raises(httpx.ConnectError):
        await _get(service.http_port, "/healthz/live")


async def test_a_log_that_is_away_turns_readiness_red_while_the_api_goes_on(settings):
    log = FakeLog()
    log.down = True
    service = RatingService(settings, log, new_registry())
    await service.start()
    try:

        async def red():
            body = (await _get(service.ops_port, "/healthz/ready")).json()
            return body["checks"]["log"]["detail"] == "LogUnavailable: the fake log is down"

        await wait_until_async(red, DEADLINE_S, "red readiness")
        assert (await _get(service.ops_port, "/healthz/live")).status_code == 200
        assert (
            await _get(service.http_port, "/tmf-api/productCatalogManagement/v4/productOffering")
        ).status_code == 200
        log.down = False
        await _becomes_ready(service)
    finally:
        await service.stop()


async def test_an_embedded_database_is_migrated_by_the_service_itself(tmp_path):
    settings = Settings(data_dir=str(tmp_path), http_port=0, rating_ops_port=0)
    service = RatingService(settings, FakeLog(), new_registry())
    await service.start()
    try:
        await _becomes_ready(service)
    finally:
        await service.stop()


async def test_any_other_database_is_waited_for_until_its_schema_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SCHEMA_POLL_S", 0.02)
    url = f"sqlite:///{tmp_path}/other.sqlite3"
    settings = Settings(data_dir=str(tmp_path), database_url=url, http_port=0, rating_ops_port=0)
    service = RatingService(settings, FakeLog(), new_registry())
    await service.start()
    try:

        async def named():
            body = (await _get(service.ops_port, "/healthz/ready")).json()
            return "run `smartpipe migrate`" in body["checks"]["schema"]["detail"]

        await wait_until_async(named, DEADLINE_S, "the schema to be missed")
        engine = open_database(settings)
        await asyncio.to_thread(migrate, engine)
        engine.dispose()
        await _becomes_ready(service)
    finally:
        await service.stop()


async def test_usage_that_retention_took_ends_the_service_with_its_cause(settings):
    log = FakeLog()
    for number in range(2):
        log.add(USAGE, b"acc-1", encoded(rated(number)), partition=0)
    first = RatingService(settings, log, new_registry())
    await first.start()
    await wait_until_async(lambda: first.ledger.lag_records() == 0, DEADLINE_S, "the ledger")
    await first.stop()
    for number in range(2, 5):
        log.add(USAGE, b"acc-1", encoded(rated(number)), partition=0)
    log.forget(USAGE, 0, 4)
    second = RatingService(settings, log, new_registry())
    await second.start()
    try:
        with pytest.raises(OffsetOutOfRange):
            await asyncio.wait_for(second.wait(), DEADLINE_S)
        assert not await _ready(second)
    finally:
        await second.stop()


async def test_a_taken_port_is_told_at_once(settings):
    first = RatingService(settings, FakeLog(), new_registry())
    await first.start()
    second = RatingService(settings.model_copy(update={"http_port": first.http_port}), FakeLog(), new_registry())
    try:
        with pytest.raises(OSError, match=f"API port cannot listen on 127.0.0.1:{first.http_port}"):
            await second.start()
    finally:
        await second.stop()
        await first.stop()


SCRIPT = """
import asyncio, sys
from services.rating.service import RatingService
from services.runtime.settings import load_settings
from services.runtime.telemetry import configure_logging, new_registry
from tests.rating.fakes import FakeLog

async def main():
    settings = load_settings()
    configure_logging(settings)
    await RatingService(settings, FakeLog(), new_registry()).run_until_signal()

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly_within_ten_seconds(tmp_path, number):
    log_file = tmp_path / "log"
    environment = {
        "PATH": os.environ["PATH"], "SMARTPIPE_DATA_DIR": str(tmp_path), "SMARTPIPE_HTTP_PORT": "0",
        "SMARTPIPE_RATING_OPS_PORT": "0", "SMARTPIPE_LOG_FORMAT": "json",
    }  # fmt: skip
    root = Path(__file__).parents[2]
    with log_file.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment, cwd=root, stderr=output)
    try:
        wait_until(lambda: '"resumed"' in log_file.read_text(), DEADLINE_S, "the ledger at work")
        process.send_signal(number)
        assert process.wait(timeout=10) == 0, log_file.read_text()
    finally:
        process.kill()
        process.wait()
    assert '"stopped"' in log_file.read_text()
    assert "traceback" not in log_file.read_text()
