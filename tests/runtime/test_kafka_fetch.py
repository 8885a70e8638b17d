"""What a fetch hands over, without a broker: aiokafka's own decoder over batches as a broker sends them."""

import itertools
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from services.runtime import kafka_log

PLACE = TopicPartition("flows", 3)


def batch(values: list[bytes], *, base_offset: int = 0, producer: int = -1) -> bytes:
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=int(producer >= 0), producer_id=producer, producer_epoch=0, base_sequence=0,
        batch_size=10**6,
    )  # fmt: skip
    for index, value in enumerate(values):
        builder.append(index, 1_700_000_000_000 + index, b"key", value, [])
    raw = bytearray(builder.build())
    raw[:8] = base_offset.to_bytes(8, "big")
    return bytes(raw)


def fetched(raw: bytes, *, offset: int = 0, aborted: list[tuple[int, int]] | None = None) -> Any:
    committed_only = fetcher.READ_COMMITTED
    return fetcher.PartitionRecords(PLACE, MemoryRecords(raw), aborted or [], offset, None, None, True, committed_only)


def test_a_fetch_gives_plain_records_with_all_that_a_lane_reads() -> None:
    records = list(fetched(batch([b"a", b"b"], base_offset=40)))
    assert [(r.offset, r.timestamp, r.key, r.value) for r in records] == [
        (40, 1_700_000_000_000, b"key", b"a"),
        (41, 1_700_000_000_001, b"key", b"b"),
    ]
    assert not any(isinstance(record, ConsumerRecord) for record in records)
    assert fetcher.PartitionRecords is kafka_log._PlainRecords


def test_a_fetch_taken_in_parts_goes_on_where_it_stopped() -> None:
    found = fetched(batch([b"a", b"b", b"c"]) + batch([b"d"], base_offset=3))
    assert [record.value for record in itertools.islice(found, 2)] == [b"a", b"b"]
    assert found.next_fetch_offset == 2
    assert [record.value for record in found] == [b"c", b"d"]
    assert found.next_fetch_offset == 4


def test_a_fetch_begins_at_its_offset_and_leaves_out_what_was_aborted() -> None:
    raw = batch([b"a", b"b"]) + batch([b"never"], base_offset=2, producer=7) + batch([b"c"], base_offset=3)
    assert [record.value for record in fetched(raw, offset=1, aborted=[(7, 2)])] == [b"b", b"c"]


def test_a_damaged_batch_is_refused() -> None:
    raw = bytearray(batch([b"value"]))
    raw[-3] ^= 1
    with pytest.raises(CorruptRecordException):
        list(fetched(bytes(raw)))
