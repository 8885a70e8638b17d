from hypothesis import given
from hypothesis import strategies as st

from schemas.state import SeenRecords
from services.policy.seen import SLOT_DIGESTS, SeenIds


def test_second_record_with_the_same_id_is_known() -> None:
    seen = SeenIds(10_000)
    assert seen.add("a")
    assert not seen.add("a")
    assert seen.add("b")


def test_memory_stays_within_its_capacity() -> None:
    seen = SeenIds(4 * SLOT_DIGESTS)
    for number in range(20 * SLOT_DIGESTS):
        seen.add(str(number))
        assert len(seen) <= 5 * SLOT_DIGESTS


def test_id_is_remembered_for_the_whole_horizon() -> None:
    seen = SeenIds(4 * SLOT_DIGESTS)
    seen.add("first")
    for number in range(4 * SLOT_DIGESTS - 1):
        seen.add(str(number))
    assert not seen.add("first")


def test_capacity_zero_turns_the_memory_off() -> None:
    seen = SeenIds(0)
    assert seen.add("a")
    assert seen.add("a")
    assert list(seen.changed_slots()) == []


def test_nothing_is_written_when_nothing_was_added() -> None:
    seen = SeenIds(10_000)
    seen.add("a")
    assert len(list(seen.changed_slots())) == 1
    assert list(seen.changed_slots()) == []


@given(st.integers(0, 12 * SLOT_DIGESTS), st.integers(1, 700))
def test_memory_restored_from_its_slots_knows_the_same_ids(count: int, batch: int) -> None:
    capacity = 3 * SLOT_DIGESTS
    seen, changelog = SeenIds(capacity), dict[str, SeenRecords]()
    for number in range(count):
        seen.add(str(number))
        if number % batch == 0:
            changelog.update(seen.changed_slots())
    changelog.update(seen.changed_slots())

    restored = SeenIds(capacity)
    restored.restore(changelog.values())

    assert len(restored) == len(seen)
    for number in range(max(0, count - capacity), count):
        assert not restored.add(str(number))
    assert restored.add("new") == seen.add("new")
    assert dict(restored.changed_slots()) == dict(seen.changed_slots())
