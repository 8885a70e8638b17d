"""Both logs as fixtures: a test that asks for `store` runs on each of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from services.runtime.log import Log
from services.runtime.open_log import open_log
from tests.runtime.lane_tools import Names, Store, test_settings


class EmbeddedStore:
    """A folder."""

    name = "embedded"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._logs: list[Log] = []

    async def log(self, **settings: object) -> Log:
        log = open_log(test_settings(log="embedded", data_dir=str(self.folder), **settings))
        await log.start()
        self._logs.append(log)
        return log

    async def drop_before(self, topic: str, partition: int, offset: int) -> None:
        from services.runtime.embedded_file import drop_before

        log = await self.log()
        found = await log._opened().topic(topic)  # type: ignore[attr-defined]
        await log._opened().write(  # type: ignore[attr-defined]
            lambda connection: drop_before(connection, (found, partition), offset)
        )

    async def close(self) -> None:
        for log in self._logs:
            await log.close()


class KafkaStore:
    """The session's broker."""

    name = "kafka"

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._logs: list[Log] = []

    async def log(self, **settings: object) -> Log:
        log = open_log(test_settings(log="kafka", kafka_bootstrap=self.bootstrap, **settings))
        await log.start()
        self._logs.append(log)
        return log

    async def drop_before(self, topic: str, partition: int, offset: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin._client._wait_on_metadata(topic)
            await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)})
        finally:
            await admin.close()

    async def close(self) -> None:
        for log in self._logs:
            await log.close()


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty embedded log, or names of one's own on the session's Kafka."""
    found: EmbeddedStore | KafkaStore
    found = EmbeddedStore(tmp_path) if request.param == "embedded" else KafkaStore(request.getfixturevalue("kafka"))
    yield found
    await found.close()


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    """An empty embedded log."""
    found = EmbeddedStore(tmp_path)
    yield found
    await found.close()


@pytest.fixture
async def kafka_store(kafka: str) -> AsyncIterator[KafkaStore]:
    """The session's Kafka."""
    found = KafkaStore(kafka)
    yield found
    await found.close()


@pytest.fixture
def names() -> Names:
    """Names that no other test uses."""
    return Names()
