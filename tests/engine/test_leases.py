"""Leases, lane's side and owner's side, step by step; what they do together is in test_leases_together."""

from typing import Any

import pytest

from schemas.catalogue import Campaign
from schemas.command import GrantLease
from schemas.lease import LeaseRequest
from schemas.state import LeaseState
from services.engine.late import GRACE_MS
from services.engine.leases import (
    DAY_MS,
    Budget,
    LaneLease,
    Slicing,
    begins_ms,
    drawn,
    free_octets,
    granted,
    held_octets,
    limited,
    look_ms,
    next_kind,
    opened,
    recalled,
    released_octets,
    reply_to,
    requested,
)

NOW_MS = 1_772_474_400_000
IDLE_MS = 60_000
SLICING = Slicing(lanes=4, least_octets=10, most_octets=1_000, retry_ms=5_000)


def campaign(budget: dict[str, Any] | None = None, **fields: Any) -> Campaign:
    given = {"id": "c", "sponsor_id": "s", "budget": {"octets": 10_000} if budget is None else budget}
    return Campaign.model_validate({**given, **fields})


def lease(**fields: Any) -> LeaseState:
    return LeaseState(1, "c", **{"touched_ms": NOW_MS, **fields})


def answer(octets: int, *, sequence: int = 1, total: int | None = None, ask_again_ms: int = 0) -> GrantLease:
    return GrantLease(
        version="1.1", command_id="g", account_id="lane/0", issued_at_ms=NOW_MS, campaign_id="c", sequence=sequence,
        octets=octets, granted_octets=octets if total is None else total, ask_again_ms=ask_again_ms,
    )  # fmt: skip


def request(
    kind: str = "ask", *, sequence: int = 1, granted: int = 0, used: int = 0, returned: int = 0
) -> LeaseRequest:
    return LeaseRequest(
        version="1.0", request_id=f"c:0:{sequence}", campaign_id="c", partition=0, sequence=sequence,
        kind=kind, granted_octets=granted, used_octets=used, returned_octets=returned, at_ms=NOW_MS,  # type: ignore[arg-type]
    )  # fmt: skip


# -- the lane


def test_a_new_lane_asks_draws_and_asks_again_near_the_end_of_its_slice() -> None:
    fresh = opened("c", NOW_MS)
    assert next_kind(fresh, campaign(), now_ms=NOW_MS, idle_ms=IDLE_MS) == "ask"
    asking, said = requested(fresh, "ask", partition=3, now_ms=NOW_MS)
    assert (said.request_id, said.sequence, said.kind, said.granted_octets) == ("c:3:1", 1, "ask", 0)
    assert next_kind(asking, campaign(), now_ms=NOW_MS, idle_ms=IDLE_MS) is None
    full = granted(asking, answer(100))
    assert full is not None
    for part, kind in ((49, None), (1, "ask"), (50, "ask")):
        full = drawn(full, part, NOW_MS)
        assert next_kind(full, campaign(), now_ms=NOW_MS, idle_ms=IDLE_MS) == kind
    assert held_octets(full) == 0


def test_an_answer_counts_once_and_a_lost_one_comes_with_the_next() -> None:
    asking = lease(sequence=2, asked=2)
    once = granted(asking, answer(70, sequence=1))
    assert once is not None
    assert granted(once, answer(70, sequence=1)) is None
    after = granted(asking, answer(30, sequence=2, total=100))
    assert after is not None
    assert held_octets(after) == 100
    assert granted(after, answer(70, sequence=1)) is None


def test_an_answer_of_an_owner_that_knows_less_takes_nothing_away() -> None:
    held = lease(granted_octets=100, used_octets=90, sequence=2, asked=2, answered=1)
    after = granted(held, answer(0, sequence=2, total=60))
    assert after is not None
    assert (after.granted_octets, held_octets(after), after.answered) == (100, 10, 2)


def test_an_answer_to_no_ask_is_refused() -> None:
    with pytest.raises(ValueError, match="sequence: 4 answers no ask; the last one was 3"):
        granted(lease(sequence=5, asked=3), answer(1, sequence=4))


def test_drawing_more_than_is_held_is_a_bug() -> None:
    with pytest.raises(ValueError, match="11 octets of campaign c drawn; 10 are held"):
        drawn(lease(granted_octets=10), 11, NOW_MS)


def test_an_empty_answer_is_not_repeated_before_its_time() -> None:
    empty = granted(lease(sequence=1, asked=1), answer(0, ask_again_ms=NOW_MS + 5_000))
    assert empty is not None
    assert next_kind(empty, campaign(), now_ms=NOW_MS + 4_999, idle_ms=IDLE_MS) is None
    assert look_ms(empty, campaign(), now_ms=NOW_MS, idle_ms=IDLE_MS) == NOW_MS + 5_000
    assert next_kind(empty, campaign(), now_ms=NOW_MS + 5_000, idle_ms=IDLE_MS) == "ask"


def test_a_slice_that_nobody_touches_is_given_back_whole_and_not_asked_for_again() -> None:
    idle = lease(granted_octets=100, used_octets=30, slice_octets=100, sequence=1, asked=1, answered=1)
    assert next_kind(idle, campaign(), now_ms=NOW_MS + IDLE_MS - 1, idle_ms=IDLE_MS) is None
    assert look_ms(idle, campaign(), now_ms=NOW_MS, idle_ms=IDLE_MS) == NOW_MS + IDLE_MS
    assert next_kind(idle, campaign(), now_ms=NOW_MS + IDLE_MS, idle_ms=IDLE_MS) == "return"
    after, said = requested(idle, "return", partition=0, now_ms=NOW_MS + IDLE_MS)
    assert (said.returned_octets, said.used_octets, held_octets(after)) == (70, 30, 0)
    assert next_kind(after, campaign(), now_ms=NOW_MS + IDLE_MS, idle_ms=IDLE_MS) is None
    touched = drawn(after, 0, NOW_MS + 2 * IDLE_MS)
    assert next_kind(touched, campaign(), now_ms=NOW_MS + 2 * IDLE_MS, idle_ms=IDLE_MS) == "ask"


def test_what_is_held_goes_back_at_once_when_the_campaign_is_gone() -> None:
    held = lease(granted_octets=100)
    assert next_kind(held, None, now_ms=NOW_MS, idle_ms=IDLE_MS) == "return"
    assert next_kind(lease(), None, now_ms=NOW_MS, idle_ms=IDLE_MS) is None


def test_after_the_end_late_flows_may_draw_and_ask_for_a_day() -> None:
    over = campaign(valid_until_ms=NOW_MS)
    held = lease(granted_octets=100, slice_octets=100)
    assert next_kind(held, over, now_ms=NOW_MS, idle_ms=IDLE_MS) is None
    assert next_kind(lease(), over, now_ms=NOW_MS, idle_ms=IDLE_MS) == "ask"
    late_ms = NOW_MS + GRACE_MS
    busy = lease(granted_octets=100, slice_octets=100, touched_ms=late_ms)
    assert next_kind(busy, over, now_ms=late_ms, idle_ms=IDLE_MS) == "return"
    assert next_kind(lease(touched_ms=late_ms), over, now_ms=late_ms, idle_ms=IDLE_MS) is None


def test_the_first_slice_is_asked_for_when_the_campaign_begins_and_never_after_its_end() -> None:
    assert begins_ms(campaign(valid_from_ms=NOW_MS + 7), NOW_MS) == NOW_MS + 7
    assert begins_ms(campaign(valid_until_ms=NOW_MS), NOW_MS) is None


# -- the owner


def test_slices_shrink_towards_the_end_and_the_last_one_is_what_is_left() -> None:
    budget, lane, slices = Budget(), LaneLease(), []
    for number in range(1, 1_000):
        reply = reply_to(
            request(sequence=number), budget, lane, campaign({"octets": 10_005}), slicing=SLICING, now_ms=NOW_MS
        )
        assert reply is not None
        assert reply.octets is not None
        budget, lane = reply.budget, reply.lane
        if not reply.octets:
            break
        slices.append(reply.octets)
    assert slices[0] == 1_000
    assert slices == sorted(slices, reverse=True)
    assert slices[-2] == 10
    assert slices[-1] <= 10
    assert sum(slices) == 10_005 == budget.out_octets
    assert reply.ask_again_ms == NOW_MS + 5_000


def test_only_what_came_back_is_granted_again() -> None:
    full = Budget(10_000, 10_000, 0)
    lane = LaneLease(1, 10_000, 0, 0)
    back = reply_to(
        request("return", sequence=2, granted=10_000, used=9_940, returned=60), full, lane, campaign(),
        slicing=SLICING, now_ms=NOW_MS,
    )  # fmt: skip
    assert back is not None
    assert (back.octets, back.budget.out_octets, back.lane.used_octets) == (None, 9_940, 9_940)
    again = reply_to(request(sequence=1), back.budget, LaneLease(), campaign(), slicing=SLICING, now_ms=NOW_MS)
    assert again is not None
    assert again.octets == 10


def test_a_request_that_was_booked_before_changes_nothing() -> None:
    lane = LaneLease(4, 100, 0, 100)
    for sequence in (1, 4):
        reply = reply_to(
            request(sequence=sequence), Budget(10_000, 100, 0), lane, campaign(), slicing=SLICING, now_ms=NOW_MS
        )
        assert reply is None


def test_impossible_totals_are_refused() -> None:
    with pytest.raises(ValueError, match="granted_octets: 10 is less than used 9 and returned 2 together"):
        reply_to(
            request("return", granted=10, used=9, returned=2), Budget(), LaneLease(), campaign(),
            slicing=SLICING, now_ms=NOW_MS,
        )  # fmt: skip


def test_a_lane_that_knows_more_than_a_restored_database_is_believed() -> None:
    reply = reply_to(
        request(sequence=9, granted=9_995, used=9_990), Budget(), LaneLease(), campaign(), slicing=SLICING,
        now_ms=NOW_MS,
    )  # fmt: skip
    assert reply is not None
    assert (reply.octets, reply.budget.out_octets, reply.budget.limit_octets) == (5, 10_000, 10_000)


def test_an_answer_that_is_recalled_counts_once_and_is_never_beyond_the_limit() -> None:
    """What a lane lives on cannot be called back, whatever the limit was when the backup was made."""
    budget, lane = Budget(limit_octets=100, granted_octets=100), LaneLease(sequence=1, granted_octets=60, answered=1)
    for _ in range(2):
        budget, lane = recalled(answer(30, sequence=2, total=90), budget, lane)
        assert budget == Budget(limit_octets=130, granted_octets=130)
        assert (lane.granted_octets, lane.answered) == (90, 2)


@pytest.mark.parametrize("gone", [None, campaign().model_copy(update={"budget": None})])
def test_a_campaign_that_is_gone_or_has_no_budget_is_granted_nothing_and_answered(gone: Campaign | None) -> None:
    reply = reply_to(request(), Budget(10_000, 500, 0), LaneLease(), gone, slicing=SLICING, now_ms=NOW_MS)
    assert reply is not None
    assert (reply.octets, reply.ask_again_ms, reply.budget.limit_octets) == (0, NOW_MS + 5_000, 500)


def test_a_budget_that_is_lowered_grants_nothing_until_enough_came_back() -> None:
    lowered = campaign({"octets": 100})
    budget = limited(Budget(10_000, 900, 0), lowered)
    assert (budget.limit_octets, free_octets(budget, lowered, NOW_MS)) == (900, 0)
    budget = limited(budget._replace(returned_octets=850), lowered)
    assert (budget.limit_octets, free_octets(budget, lowered, NOW_MS)) == (100, 50)


# -- pacing


def paced(days: int, octets: int) -> Campaign:
    return campaign(
        {"octets": octets, "pacing": "even"}, valid_from_ms=NOW_MS, valid_until_ms=NOW_MS + days * DAY_MS - 1
    )


@pytest.mark.parametrize(
    ("after_ms", "released"),
    [(-1, 0), (0, 333), (DAY_MS - 1, 333), (DAY_MS, 666), (2 * DAY_MS, 1_000), (9 * DAY_MS, 1_000)],
)
def test_each_day_releases_the_same_share_and_the_last_one_the_rest(after_ms: int, released: int) -> None:
    assert released_octets(paced(3, 1_000), NOW_MS + after_ms) == released


def test_what_a_day_leaves_stays_for_the_next_ones() -> None:
    assert free_octets(Budget(1_000, 100, 0), paced(3, 1_000), NOW_MS + DAY_MS) == 566


def test_a_day_that_is_spent_says_to_ask_again_when_the_next_one_begins() -> None:
    spent, slicing = Budget(1_000, 333, 0), SLICING._replace(retry_ms=2 * DAY_MS)
    reply = reply_to(request(), spent, LaneLease(), paced(3, 1_000), slicing=slicing, now_ms=NOW_MS + 5)
    assert reply is not None
    assert (reply.octets, reply.ask_again_ms) == (0, NOW_MS + DAY_MS)
    early = reply_to(request(), Budget(), LaneLease(), paced(3, 1_000), slicing=slicing, now_ms=NOW_MS - 5)
    assert early is not None
    assert (early.octets, early.ask_again_ms) == (0, NOW_MS)
