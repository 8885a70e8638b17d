"""Octets and time of a flow, in whole numbers: parts add up, and nothing is counted twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.spans import Span

WHOLE = st.tuples(st.integers(1, 10**12), st.integers(0, 10**9)).map(lambda given: Span(*given))
SPANS = st.tuples(WHOLE, st.integers(1, 100)).map(lambda given: given[0].first(-(-given[0].octets * given[1] // 100)))


@pytest.mark.parametrize(
    ("span", "ms", "octets"),
    [(Span(1000, 10), 0, 0), (Span(1000, 10), 3, 300), (Span(10, 3), 1, 3), (Span(10, 3), 3, 10), (Span(7, 0), 0, 7)],
)
def test_octets_pass_evenly_and_are_cut_to_whole_ones(span: Span, ms: int, octets: int) -> None:
    assert span.octets_after(ms) == octets


@pytest.mark.parametrize(
    ("span", "octets", "ms"),
    [
        (Span(1000, 10), 0, 0),
        (Span(1000, 10), 300, 3),
        (Span(1000, 10), 301, 4),
        (Span(10, 3), 10, 3),
        (Span(7, 0), 3, 0),
    ],
)
def test_octets_take_up_the_millisecond_that_they_end_in(span: Span, octets: int, ms: int) -> None:
    assert span.ms_for(octets) == ms


@given(span=SPANS, share=st.integers(0, 100))
def test_the_time_that_octets_take_up_is_the_first_after_which_they_have_passed(span: Span, share: int) -> None:
    octets = span.octets * share // 100
    ms = span.ms_for(octets)
    assert ms <= span.ms
    assert span.octets_after(ms) >= octets
    assert not ms or span.octets_after(ms - 1) < octets


@given(span=SPANS, mosts=st.lists(st.integers(1, 10**7), max_size=6))
def test_payers_by_time_take_all_octets_and_all_time_between_them(span: Span, mosts: list[int]) -> None:
    octets = reached = drawn = 0
    for most in [*mosts, span.ms + 1]:
        ms, part = span.part(from_octets=octets, from_ms=reached, most_ms=most)
        octets, reached, drawn = octets + part, span.start_ms(octets, reached) + ms, drawn + ms
    assert (octets, drawn) == (span.octets, span.ms)


@given(span=SPANS, share=st.integers(0, 100), most=st.integers(1, 10**9))
def test_what_pays_after_volume_begins_where_that_ended(span: Span, share: int, most: int) -> None:
    octets = span.octets * share // 100
    ms, part = span.part(from_octets=octets, from_ms=0, most_ms=most)
    assert 0 <= ms <= min(most, span.ms - span.ms_for(octets))
    assert 0 <= part <= span.octets - octets


def test_the_first_octets_of_a_flow_keep_its_pace() -> None:
    span = Span(1_000, 90_000).first(400)
    assert (span.octets, span.ms) == (400, 36_000)
    assert [span.octets_after(ms) for ms in (9_000, 18_000, 36_000, 90_000)] == [100, 200, 400, 400]
    assert span.part(from_octets=100, from_ms=0, most_ms=60_000) == (27_000, 300)


def test_the_first_octets_end_in_a_millisecond_of_the_flow() -> None:
    assert Span(3, 10).first(1) == Span(1, 4, flow_octets=3, flow_ms=10)
    assert Span(3, 10).first(1).octets_after(3) == 0
    assert Span(3, 10).first(3).ms == 10
