"""Offsets, ids and sums: the bookkeeping under the checks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.reconcile_books import DECIDED, READ, REFUSED, IdBook, OffsetMarks, Place, TwoSums


def test_a_mark_is_new_once() -> None:
    marks = OffsetMarks(10, 20)
    assert marks.mark(10, READ)
    assert marks.mark(10, DECIDED)
    assert not marks.mark(10, DECIDED)
    assert marks.of(10) == READ | DECIDED
    assert marks.of(9) == marks.of(20) == 0


@pytest.mark.parametrize("offset", [9, 20, 10**15, -1])
def test_an_offset_outside_the_partition_is_refused_and_costs_no_memory(offset: int) -> None:
    with pytest.raises(IndexError):
        OffsetMarks(10, 20).mark(offset, READ)


def test_what_is_behind_the_last_outcome_is_still_open() -> None:
    marks = OffsetMarks(10, 20)
    assert marks.next_open() == 10
    for offset in range(10, 16):
        marks.mark(offset, READ)
    marks.mark(11, DECIDED)
    marks.mark(13, REFUSED)
    assert marks.next_open() == 14
    assert list(marks.offsets(READ)) == [10, 12, 14, 15]
    assert list(marks.offsets(READ, start=11, below=15)) == [12, 14]
    assert marks.count(READ, start=14) == 2
    assert marks.count(READ | DECIDED) == 1


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([READ, DECIDED, REFUSED]))))
def test_marks_agree_with_a_plain_dictionary(steps: list[tuple[int, int]]) -> None:
    marks, plain = OffsetMarks(0, 31), dict.fromkeys(range(31), 0)
    for offset, mark in steps:
        assert marks.mark(offset, mark) == (not plain[offset] & mark)
        plain[offset] |= mark
    for wanted in range(8):
        assert list(marks.offsets(wanted)) == [offset for offset, found in plain.items() if found == wanted]
        assert marks.count(wanted) == len(list(marks.offsets(wanted)))
    outcomes = [offset for offset, found in plain.items() if found & (DECIDED | REFUSED)]
    assert marks.next_open() == max(outcomes, default=-1) + 1


def test_a_repeated_id_is_found_with_both_places() -> None:
    book = IdBook()
    for number in range(1_000):
        book.add(f"id-{number}", 3, number)
    book.add("id-17", 5, 2**40)
    assert [(found.first, found.later) for found in book.repeats()] == [(Place(3, 17), Place(5, 2**40))]
    assert len(book) == 1_001


@given(st.lists(st.text(max_size=3), unique=True), st.lists(st.text(max_size=3)))
def test_missing_ids_are_those_that_the_other_book_does_not_have(mine: list[str], others: list[str]) -> None:
    book, other = IdBook(), IdBook()
    for number, name in enumerate(mine):
        book.add(name, 0, number)
    for number, name in enumerate(others):
        other.add(name, 0, number)
    missing = {mine[found.place.offset] for found in book.missing_from(other)}
    assert missing == set(mine) - set(others)


def test_sums_differ_only_where_they_differ() -> None:
    sums: TwoSums[str] = TwoSums()
    sums.left.update({"same": 5, "less": 1, "zero": 0, "only-left": 3})
    sums.right.update({"same": 5, "less": 2, "nought": 0, "only-right": 2**80})
    assert sorted(sums.differences()) == [("less", 1, 2), ("only-left", 3, 0), ("only-right", 0, 2**80)]
    assert sums.keys() == {"same", "less", "zero", "nought", "only-left", "only-right"}
