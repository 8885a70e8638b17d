"""A whole policy service in the test's own process, without Kafka."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from schemas import topics
from schemas.catalogue import Catalogue
from services.engine.feed import entries_of
from services.policy.service import PolicyService
from services.runtime.log import NewRecord
from services.runtime.open_log import open_log
from services.runtime.settings import Settings
from services.runtime.telemetry import new_registry
from tests.policy.lanes import CATALOGUE, NOW_MS


@contextlib.asynccontextmanager
async def worker(folder: Path, *records: NewRecord) -> AsyncIterator[PolicyService]:
    """A policy service on an embedded log of its own that holds the small catalogue, and `records` after it."""
    settings = Settings(data_dir=str(folder), partitions=2, policy_ops_port=0)
    log = open_log(settings)
    await log.start()
    await log.ensure_topics(topics.ALL, partitions=2)
    publisher = await log.publisher()
    entries = entries_of(Catalogue.model_validate(CATALOGUE))
    told = [NewRecord(topics.CATALOGUE, item.entry_key.encode(), msgspec.json.encode(item), NOW_MS) for item in entries]
    await publisher.publish([*told, *records])
    service = PolicyService(settings, open_log(settings), new_registry())
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
        await publisher.close()
        await log.close()
