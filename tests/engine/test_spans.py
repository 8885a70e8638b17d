"""Octets and time of a flow, in whole numbers: parts add up, and nothing is counted twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.spans import Span

SPANS = st.tuples(st.integers(1, 10**12), st.integers(0, 10**9)).map(lambda given: Span(*given))


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


def test_usage_that_is_charged_again_keeps_the_pace_of_what_was_paid_for_by_time() -> None:
    span = Span(1_000, 90_000, knee_octets=400, knee_ms=60_000)
    assert [span.octets_after(ms) for ms in (30_000, 60_000, 75_000, 90_000)] == [200, 400, 700, 1_000]
    assert [span.ms_for(octets) for octets in (200, 400, 700, 1_000)] == [30_000, 60_000, 75_000, 90_000]
    assert span.part(from_octets=0, from_ms=0, most_ms=60_000) == (60_000, 400)
