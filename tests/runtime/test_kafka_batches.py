"""Batches on both sides of a Kafka lane, without a broker; aiokafka's own batch builder stands in for the producer."""

from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.embedded_file import EmbeddedRecord
from services.runtime.kafka_batches import (
    BATCH_OCTETS,
    QUEUE_CHUNKS,
    REQUEST_OCTETS,
    Intake,
    OutputBatches,
    TopicFacts,
    requests_of,
)
from services.runtime.log import RecordTooLarge


class Builders:
    """What `create_batch` of a transactional producer gives."""

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(BATCH_OCTETS, 0, is_transactional=1)


def outputs(*, max_octets: int = 1_048_588, compacted: bool = False) -> OutputBatches:
    return OutputBatches("topic", TopicFacts(1, max_octets, compacted), Builders())


def chunk(start: int, count: int) -> list[Any]:
    return [EmbeddedRecord(offset, 0, None, b"") for offset in range(start, start + count)]


def offsets(taken: dict[str, list[Any]]) -> dict[str, list[int]]:
    return {topic: [record.offset for record in records] for topic, records in taken.items()}


def test_an_intake_gives_each_input_in_order_and_no_more_than_asked_for() -> None:
    intake = Intake({"flows": 0}, {"flows": 0})
    intake.put("flows", chunk(0, 3))
    intake.put("flows", chunk(3, 4))
    assert intake.waiting() == 7
    assert offsets(intake.take(2)) == {"flows": [0, 1]}
    assert offsets(intake.take(3)) == {"flows": [2, 3, 4]}
    assert offsets(intake.take(100)) == {"flows": [5, 6]}
    assert intake.take(100) == {}
    assert intake.positions == {"flows": 7}


def both(**ends: int) -> Intake:
    return Intake({"commands": 0, "flows": 0}, {"commands": 0, "flows": 0, **ends})


def test_an_input_waits_while_one_before_it_has_more() -> None:
    intake = both()
    for topic in ("flows", "commands"):
        intake.put(topic, chunk(0, 4))
    assert offsets(intake.take(3)) == {"commands": [0, 1, 2]}
    assert offsets(intake.take(3)) == {"commands": [3], "flows": [0, 1]}


def test_an_input_waits_for_what_one_before_it_held_at_the_opening() -> None:
    intake = both(commands=3)
    intake.put("flows", chunk(0, 1))
    assert intake.take(10) == {}
    intake.put("commands", chunk(0, 2))
    assert offsets(intake.take(10)) == {"commands": [0, 1]}
    intake.read_to("commands", 2)
    assert intake.take(10) == {}
    # The third record was a control record, which only the position tells.
    intake.read_to("commands", 3)
    assert offsets(intake.take(10)) == {"flows": [0]}


def test_a_full_input_is_not_wanted_until_it_has_been_taken_from() -> None:
    intake = both()
    for number in range(QUEUE_CHUNKS):
        assert "flows" in set(intake.wanted())
        intake.put("flows", chunk(number, 1))
    assert set(intake.wanted()) == {"commands"}
    intake.take(1)
    assert set(intake.wanted()) == {"flows", "commands"}


def test_a_record_that_does_not_fit_its_topic_is_refused_and_leaves_the_batches_as_they_were() -> None:
    output = outputs(max_octets=10_000)
    output.append(b"k", b"v", 1)
    with pytest.raises(RecordTooLarge, match="topic"):
        output.append(b"k", bytes(10_000), 1)
    assert output.records == 1
    assert [batch.record_count() for batch in output.batches] == [1]


def test_a_record_without_a_key_is_refused_by_a_compacted_topic() -> None:
    with pytest.raises(ValueError, match="no key"):
        outputs(compacted=True).append(None, b"v", 1)
    outputs().append(None, b"v", 1)


@given(
    st.lists(st.tuples(st.none() | st.binary(max_size=40), st.none() | st.integers(0, 4_000)), max_size=60),
    st.integers(5_000, 20_000),
    st.integers(0, 2**45),
)
def test_no_batch_is_ever_larger_than_its_topic_takes_or_than_was_counted(
    records: list[tuple[bytes | None, int | None]], max_octets: int, timestamp_ms: int
) -> None:
    output = outputs(max_octets=max_octets)
    for number, (key, size) in enumerate(records):
        # Timestamps jump about, so that their differences take the most room that they can.
        output.append(key, None if size is None else bytes(size), timestamp_ms if number % 2 else 0)
    assert sum(batch.record_count() for batch in output.batches) == len(records)
    for batch, counted in zip(output.batches, output.octets, strict=True):
        assert batch.size() <= counted <= max_octets


@given(
    st.lists(st.tuples(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=3_000)), max_size=40),
    st.integers(5_000, 20_000),
)
def test_many_at_once_make_the_batches_that_one_by_one_would(
    records: list[tuple[bytes | None, bytes | None]], max_octets: int
) -> None:
    together, single = outputs(max_octets=max_octets), outputs(max_octets=max_octets)
    together.extend(records[:7], 5)
    together.extend(records[7:], 5)
    for key, value in records:
        single.append(key, value, 5)
    assert together.octets == single.octets
    assert [bytes(batch._build()) for batch in together.batches] == [bytes(batch._build()) for batch in single.batches]


def test_many_at_once_keep_what_came_before_one_that_is_too_large() -> None:
    output = outputs(max_octets=10_000)
    with pytest.raises(RecordTooLarge, match="topic"):
        output.extend([(b"k", b"v"), (b"k", bytes(10_000)), (b"k", b"never")], 1)
    assert output.records == 1


def test_a_large_record_gets_a_batch_of_its_own() -> None:
    output = outputs(max_octets=8_388_608)
    for size in (10, 8_000_000, 10):
        output.append(b"k", bytes(size), 1)
    assert [batch.record_count() for batch in output.batches] == [1, 1, 1]
    assert output.batches[1].size() > 8_000_000


def test_requests_keep_the_order_of_each_partition_and_their_size() -> None:
    found = []
    for partition in range(3):
        output = outputs(max_octets=8_388_608)
        for _ in range(4):
            output.append(b"k", bytes(8_000_000), 1)
        found.append(("topic", partition, output))
    portions = list(requests_of(found))
    sent = [
        (topic, partition, batch) for portion in portions for topic, partition, batches in portion for batch in batches
    ]
    assert sent == [(topic, partition, batch) for topic, partition, output in found for batch in output.batches]
    assert all(
        sum(batch.size() for _, _, batches in portion for batch in batches) <= REQUEST_OCTETS for portion in portions
    )
    assert len(portions) == 3


def test_a_request_of_nothing_is_none() -> None:
    assert list(requests_of([])) == []
