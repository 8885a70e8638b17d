"""Publishing past the log port: any octets, in any partition, as a careless exporter can."""

import random
from collections.abc import Mapping
from typing import NamedTuple, Self

from aiokafka import AIOKafkaProducer

from schemas import topics
from services.cli.stage import Stage, now_ms
from services.runtime import embedded_file
from services.runtime.partitioning import partition_of


class Raw(NamedTuple):
    """What is published. Without a `partition` the key decides, and without a key chance does."""

    key: bytes | None
    value: bytes | None
    partition: int | None = None


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class RawPublisher:
    """Publishes raw records one by one and remembers by what name each is known."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._chance = random.Random(1)
        self._producer: AIOKafkaProducer | None = None
        self.names: dict[Place, str] = {}

    async def __aenter__(self) -> Self:
        settings = self._stage.settings
        if settings.log == "kafka":
            self._producer = AIOKafkaProducer(
                bootstrap_servers=settings.kafka_bootstrap, max_request_size=topics.MAX_INPUT_OCTETS
            )
            await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def publish(self, topic: str, records: Mapping[str, Raw]) -> None:
        """Store `records`, by name, in this order."""
        for name, raw in records.items():
            partition = self._partition(raw)
            put = self._put_embedded if self._producer is None else self._put_kafka
            self.names[Place(topic, partition, await put(topic, partition, raw))] = name

    def _partition(self, raw: Raw) -> int:
        if raw.partition is not None:
            return raw.partition
        count = self._stage.settings.partitions
        return self._chance.randrange(count) if raw.key is None else partition_of(raw.key, count)

    async def _put_kafka(self, topic: str, partition: int, raw: Raw) -> int:
        assert self._producer is not None
        sent = await self._producer.send_and_wait(topic, raw.value, raw.key, partition, now_ms())
        return int(sent.offset)

    async def _put_embedded(self, topic: str, partition: int, raw: Raw) -> int:
        file = self._stage.log._opened()  # type: ignore[attr-defined]
        found = await file.topic(topic)
        _, end = await file.read(lambda connection: embedded_file.bounds(connection, found.part(partition)))
        rows = {(found, partition): [(now_ms(), raw.key, raw.value)]}
        await file.write(lambda connection: embedded_file.append(connection, rows), written=rows)
        return int(end)
