"""A lane's leases: asked for before flows come, drawn by them, kept in the changelog, given back when idle."""

from typing import Any

import msgspec
import pytest

from schemas import topics
from schemas.command import lane_name
from schemas.state import LeaseState
from services.policy import transaction as module
from services.policy.leases import CALM_MS, IDLE_MS, Leases
from services.policy.restore import _rebuild
from services.policy.transaction import LaneState
from services.runtime.settings import Settings
from tests.policy.lanes import NOW_MS, ListLane, books, lane_state, run
from tests.policy.records import Record, command_value, flow_record

PLAN = {"id": "plan", "name": "Plan", "kind": "base_plan", "rules": ["paid"],
        "allowances": [{"id": "data", "octets": "1 MB"}]}  # fmt: skip
RULE = {
    "id": "paid",
    "precedence": 10,
    "charging": "sponsored",
    "campaign": "cup",
    "scope": {"applications": ["player"]},
}


def sponsored(version: str = "v1", **campaign: Any) -> Any:
    given = {"id": "cup", "sponsor_id": "tube", "budget": {"octets": "1 GB"}, **campaign}
    return books(version=version, offerings=[PLAN], rules=[RULE], campaigns=[given])


BOOKS = sponsored()


@pytest.fixture
def lane() -> ListLane:
    return ListLane()


@pytest.fixture
def state(lane: ListLane) -> LaneState:
    """A lane with a subscriber that has asked for its first slice."""
    fresh = lane_state()
    commands = [
        command_value("change_profile", subscriber_ids=["sub-1"]),
        command_value("activate_product", command_id="c-2", product_id="p1", offering_id="plan"),
    ]
    run(lane, fresh, {topics.COMMANDS: [Record(b"sub-1", value, at, NOW_MS) for at, value in enumerate(commands)]},
        by=BOOKS)  # fmt: skip
    assert lane.causes() == []
    return fresh


def grant(octets: int, *, sequence: int = 1, total: int | None = None, lane: int = 0, **fields: Any) -> Record:
    value = command_value(
        "grant_lease", account_id=lane_name(lane), command_id=f"g-{sequence}", campaign_id="cup", sequence=sequence,
        octets=octets, granted_octets=octets if total is None else total, **fields,
    )  # fmt: skip
    return Record(lane_name(lane).encode(), value, 10 + sequence, NOW_MS)


def flow(number: int = 0, **changes: Any) -> Record:
    times = {"start_ms": NOW_MS, "end_ms": NOW_MS + 1_000}
    return flow_record(offset=number, **{"record_id": f"r-{number}", **times, **changes})


def asked(lane: ListLane) -> list[tuple[int, str, int, int, int]]:
    return [
        (item["sequence"], item["kind"], item["granted_octets"], item["used_octets"], item["returned_octets"])
        for item in lane.read(topics.LEASE_REQUESTS)
    ]


def kept(lane: ListLane) -> dict[bytes, bytes]:
    """What a successor would find in the changelog."""
    return {key: value for key, value in lane.out[topics.STATE] if key is not None and value is not None}


def test_a_lane_asks_for_its_first_slice_before_any_flow_comes(lane: ListLane, state: LaneState) -> None:
    assert asked(lane) == [(1, "ask", 0, 0, 0)]
    (key, _), *_ = lane.out[topics.LEASE_REQUESTS]
    assert key == b"cup"
    run(lane, state, {}, by=BOOKS)
    assert len(asked(lane)) == 1


def test_flows_draw_from_the_slice_and_the_one_that_passes_its_end_is_split(lane: ListLane, state: LaneState) -> None:
    run(lane, state, {topics.COMMANDS: [grant(25_000)], topics.FLOWS: [flow(0), flow(1), flow(2), flow(3)]}, by=BOOKS)
    parts = [(item.get("sponsored_octets", 0), item.get("charged_octets", 0)) for item in lane.read(topics.DECISIONS)]
    assert parts == [(10_000, 0), (10_000, 0), (5_000, 5_000), (0, 10_000)]
    notes = [item.get("note") for item in lane.read(topics.DECISIONS)]
    assert notes[:2] == [None, None]
    assert notes[2] == "the budget of campaign cup is used up here; the next source pays for 5000 octets"
    assert asked(lane)[1:] == [(2, "ask", 25_000, 25_000, 0)]


def test_the_next_slice_is_asked_for_in_the_transaction_that_comes_near_the_end(
    lane: ListLane, state: LaneState
) -> None:
    run(lane, state, {topics.COMMANDS: [grant(40_000)], topics.FLOWS: [flow(0)]}, by=BOOKS)
    assert len(asked(lane)) == 1
    run(lane, state, {topics.FLOWS: [flow(1)]}, by=BOOKS)
    assert asked(lane)[1:] == [(2, "ask", 40_000, 20_000, 0)]
    run(lane, state, {topics.FLOWS: [flow(2)]}, by=BOOKS)
    assert len(asked(lane)) == 2


def test_a_grant_that_comes_twice_counts_once(lane: ListLane, state: LaneState) -> None:
    transaction = run(lane, state, {topics.COMMANDS: [grant(5_000), grant(5_000)]}, by=BOOKS)
    assert state.leases.states()["cup"].granted_octets == 5_000
    assert transaction.tally.commands["grant_lease", "applied"] == 2
    assert lane.causes() == []


@pytest.mark.parametrize(
    ("record", "cause", "said"),
    [
        (grant(5, lane=3), "misrouted", "'lane/3' is not 'lane/0'"),
        (grant(5, sequence=2), "refused_command", "unknown_ask: sequence: 2 answers no ask"),
        (grant(5, ask_again_ms=-1), "invalid_field", "ask_again_ms"),
        (Record(b"lane/1", grant(5).value), "key_mismatch", "'lane/1' is not the record's account"),
    ],
)
def test_a_grant_that_is_not_for_this_lane_is_a_dead_letter(
    lane: ListLane, state: LaneState, record: Record, cause: str, said: str
) -> None:
    run(lane, state, {topics.COMMANDS: [record]}, by=BOOKS)
    (letter,) = lane.read(topics.DEAD_LETTERS)
    assert letter["cause"] == cause
    assert said in letter["detail"]
    assert state.leases.states()["cup"].granted_octets == 0


async def test_a_successor_holds_exactly_what_the_lane_held(lane: ListLane, state: LaneState) -> None:
    run(lane, state, {topics.COMMANDS: [grant(40_000)], topics.FLOWS: [flow(0), flow(1)]}, by=BOOKS)
    restored = await _rebuild(dict(kept(lane)), Settings())
    assert restored.leases.states() == state.leases.states()
    again, other = ListLane(), ListLane()
    for where, who in ((again, restored), (other, state)):
        run(where, who, {topics.FLOWS: [flow(2), flow(3), flow(4)]}, by=BOOKS)
    assert again.read(topics.DECISIONS) == other.read(topics.DECISIONS)
    assert again.read(topics.DECISIONS)[-1]["charged_octets"] == 10_000
    assert asked(again) == asked(other)


def test_an_idle_slice_is_given_back_once_and_the_next_flow_asks_anew(lane: ListLane, state: LaneState) -> None:
    run(lane, state, {topics.COMMANDS: [grant(40_000)], topics.FLOWS: [flow(0)]}, by=BOOKS)
    for later_ms in (IDLE_MS - 1, IDLE_MS, IDLE_MS + 1):
        run(lane, state, {}, by=BOOKS, now_ms=NOW_MS + later_ms)
    assert asked(lane)[1:] == [(2, "return", 40_000, 10_000, 30_000)]
    run(lane, state, {topics.FLOWS: [flow(1)]}, by=BOOKS, now_ms=NOW_MS + 2 * IDLE_MS)
    assert lane.read(topics.DECISIONS)[-1]["sponsorships"] == [
        {"campaign_id": "cup", "octets": 0, "budget_octets": 0, "connections": 0}
    ]
    assert asked(lane)[2:] == [(3, "ask", 40_000, 10_000, 30_000)]


def test_an_empty_answer_is_asked_again_at_its_time_without_a_flow(lane: ListLane, state: LaneState) -> None:
    run(lane, state, {topics.COMMANDS: [grant(0, ask_again_ms=NOW_MS + 5_000)]}, by=BOOKS)
    run(lane, state, {topics.FLOWS: [flow(0)]}, by=BOOKS)
    assert len(asked(lane)) == 1
    run(lane, state, {}, by=BOOKS, now_ms=NOW_MS + 5_000)
    assert asked(lane)[1:] == [(2, "ask", 0, 0, 0)]


def test_a_campaign_that_loses_its_budget_gives_back_what_is_held_and_pays_on(lane: ListLane, state: LaneState) -> None:
    run(lane, state, {topics.COMMANDS: [grant(40_000)]}, by=BOOKS)
    run(lane, state, {topics.FLOWS: [flow(0)]}, by=sponsored("v2", budget=None))
    assert asked(lane)[1:] == [(2, "return", 40_000, 0, 40_000)]
    assert lane.read(topics.DECISIONS)[-1]["sponsored_octets"] == 10_000


def test_a_campaign_that_begins_later_is_asked_for_when_it_begins(lane: ListLane) -> None:
    later, fresh = sponsored(valid_from_ms=NOW_MS + 100), lane_state()
    for at_ms in (0, 99, 100, 101):
        run(lane, fresh, {}, by=later, now_ms=NOW_MS + at_ms)
    assert [item["at_ms"] for item in lane.read(topics.LEASE_REQUESTS)] == [NOW_MS + 100]


def test_without_a_budget_nothing_is_asked_and_nothing_is_kept(lane: ListLane) -> None:
    fresh = lane_state()
    run(lane, fresh, {}, by=sponsored(budget=None))
    assert asked(lane) == []
    assert Leases().begin(sponsored(budget=None).tariff) is None


def test_only_what_changed_goes_into_the_changelog(lane: ListLane, state: LaneState) -> None:
    lane.out.clear()
    run(lane, state, {}, by=BOOKS)
    assert lane.out == {}
    run(lane, state, {topics.COMMANDS: [grant(40_000)]}, by=BOOKS)
    found = msgspec.msgpack.decode(kept(lane)[b"l/cup"], type=LeaseState)
    assert (found.granted_octets, found.answered) == (40_000, 1)


# -- gateways hear of a budget's end

BLOCKING = sponsored(budget={"octets": "1 GB", "on_empty": "block"})
FANS = [f"fan-{number}" for number in range(7)]
RETRY_MS = 5_000


def crowd(lane: ListLane) -> LaneState:
    """A lane with some subscribers of the plan and one without it, that has asked for its first slice."""
    fresh = lane_state()
    for name in (*FANS, "stranger"):
        made = command_value("change_profile", account_id=name, subscriber_ids=[name])
        run(lane, fresh, {topics.COMMANDS: [Record(name.encode(), made, 0, NOW_MS)]}, by=BLOCKING)
        if name != "stranger":
            subscribe(lane, fresh, name)
    assert lane.causes() == []
    told(lane)
    return fresh


def subscribe(lane: ListLane, state: LaneState, name: str, *, now_ms: int = NOW_MS) -> None:
    order = command_value("activate_product", account_id=name, command_id="c-2", product_id="p1", offering_id="plan")
    run(lane, state, {topics.COMMANDS: [Record(name.encode(), order, 1, NOW_MS)]}, by=BLOCKING, now_ms=now_ms)


def told(lane: ListLane) -> list[tuple[str, str, str, str | None]]:
    """What gateways have been told of the sponsored rule since the last look."""
    found = [
        (item["account_id"], item["gate_status"], item["cause"], item.get("sponsor_id"))
        for item in lane.read(topics.ENFORCEMENT)
        if item["rule_id"] == "paid"
    ]
    lane.out.pop(topics.ENFORCEMENT, None)
    return sorted(found)


def nothing(sequence: int = 1, *, at_ms: int = NOW_MS) -> Record:
    return grant(0, sequence=sequence, ask_again_ms=at_ms + RETRY_MS)


def test_all_subscribers_hear_of_a_budget_s_end_and_of_its_return_without_any_flow(lane: ListLane) -> None:
    state = crowd(lane)
    run(lane, state, {topics.COMMANDS: [nothing()]}, by=BLOCKING)
    assert told(lane) == [(name, "closed", "budget", None) for name in FANS]
    run(lane, state, {}, by=BLOCKING, now_ms=NOW_MS + RETRY_MS)
    later_ms = NOW_MS + CALM_MS
    run(lane, state, {topics.COMMANDS: [grant(40_000, sequence=2)]}, by=BLOCKING, now_ms=later_ms)
    assert told(lane) == [(name, "open", "budget", "tube") for name in FANS]
    run(lane, state, {}, by=BLOCKING, now_ms=later_ms + 1)
    assert told(lane) == []


def test_a_slice_that_ends_while_an_answer_is_on_its_way_is_no_end_of_the_budget(lane: ListLane) -> None:
    state = crowd(lane)
    draw = flow_record(key=b"fan-0", record_id="r", subscriber_id="fan-0", start_ms=NOW_MS, end_ms=NOW_MS + 1)
    run(lane, state, {topics.COMMANDS: [grant(10_000)], topics.FLOWS: [draw]}, by=BLOCKING)
    assert state.leases.states()["cup"].used_octets == 10_000
    assert told(lane) == []
    run(lane, state, {topics.COMMANDS: [nothing(2)]}, by=BLOCKING)
    assert {gate for _, gate, _, _ in told(lane)} == {"closed"}


def test_a_crowd_is_told_in_steps(lane: ListLane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TIMERS", 3)
    state = crowd(lane)
    while state.to_adopt:
        run(lane, state, {}, by=BLOCKING)
    told(lane)
    steps = []
    run(lane, state, {topics.COMMANDS: [nothing()]}, by=BLOCKING)
    while True:
        steps.append(told(lane))
        if not state.to_adopt:
            break
        run(lane, state, {}, by=BLOCKING)
    assert max(map(len, steps)) <= 3
    assert sorted(account for step in steps for account, *_ in step) == FANS


def test_a_budget_that_comes_and_goes_is_told_once_in_a_while(lane: ListLane) -> None:
    state = crowd(lane)
    run(lane, state, {topics.COMMANDS: [nothing()]}, by=BLOCKING)
    assert len(told(lane)) == len(FANS)
    run(lane, state, {}, by=BLOCKING, now_ms=NOW_MS + RETRY_MS)
    run(lane, state, {topics.COMMANDS: [grant(40_000, sequence=2)]}, by=BLOCKING, now_ms=NOW_MS + RETRY_MS)
    assert told(lane) == []
    run(lane, state, {}, by=BLOCKING, now_ms=NOW_MS + CALM_MS)
    assert {gate for _, gate, _, _ in told(lane)} == {"open"}


def test_who_buys_the_product_after_the_budget_s_end_hears_of_it_at_once(lane: ListLane) -> None:
    state = crowd(lane)
    run(lane, state, {topics.COMMANDS: [nothing()]}, by=BLOCKING)
    told(lane)
    subscribe(lane, state, "stranger", now_ms=NOW_MS + 1)
    assert [(gate, cause) for _, gate, cause, _ in told(lane)] == [("closed", "budget"), ("open", "activated")]
    assert not state.to_adopt


async def test_a_successor_tells_nothing_twice_and_what_was_left_to_tell(
    lane: ListLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = crowd(lane)
    with monkeypatch.context() as patch:
        patch.setattr(module, "MAX_TIMERS", 4)
        run(lane, state, {topics.COMMANDS: [nothing()]}, by=BLOCKING)
    first = told(lane)
    assert 0 < len(first) < len(FANS)
    restored = await _rebuild(dict(kept(lane)), Settings())
    run(lane, restored, {}, by=BLOCKING, now_ms=NOW_MS + 1)
    assert sorted(first + told(lane)) == [(name, "closed", "budget", None) for name in FANS]


async def test_a_successor_opens_the_gates_that_were_left_closed(
    lane: ListLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = crowd(lane)
    run(lane, state, {topics.COMMANDS: [nothing()]}, by=BLOCKING)
    run(lane, state, {}, by=BLOCKING, now_ms=NOW_MS + RETRY_MS)
    told(lane)
    with monkeypatch.context() as patch:
        patch.setattr(module, "MAX_TIMERS", 4)
        run(lane, state, {topics.COMMANDS: [grant(40_000, sequence=2)]}, by=BLOCKING, now_ms=NOW_MS + CALM_MS)
    first = told(lane)
    assert 0 < len(first) < len(FANS)
    restored = await _rebuild(dict(kept(lane)), Settings())
    run(lane, restored, {}, by=BLOCKING, now_ms=NOW_MS + CALM_MS + 1)
    assert sorted(first + told(lane)) == [(name, "open", "budget", "tube") for name in FANS]
    assert not restored.to_adopt


def test_behind_closed_gates_the_lane_goes_on_asking_slowly_and_at_once_when_the_budget_changes(lane: ListLane) -> None:
    state = crowd(lane)
    run(lane, state, {topics.COMMANDS: [nothing()]}, by=BLOCKING)
    asked_at = []
    for at_ms in range(NOW_MS, NOW_MS + 2 * IDLE_MS + RETRY_MS, RETRY_MS):
        before = len(asked(lane))
        run(lane, state, {}, by=BLOCKING, now_ms=at_ms)
        if len(asked(lane)) > before:
            asked_at.append(at_ms - NOW_MS)
            run(lane, state, {topics.COMMANDS: [nothing(asked(lane)[-1][0], at_ms=at_ms)]}, by=BLOCKING, now_ms=at_ms)
    quick = [at_ms for at_ms in asked_at if at_ms < IDLE_MS]
    assert quick == list(range(RETRY_MS, IDLE_MS, RETRY_MS))
    slow = [at_ms for at_ms in asked_at if at_ms >= IDLE_MS]
    assert slow == [quick[-1] + RETRY_MS + IDLE_MS]
    raised = sponsored("v2", budget={"octets": "2 GB", "on_empty": "block"})
    before = len(asked(lane))
    run(lane, state, {}, by=raised, now_ms=NOW_MS + 2 * IDLE_MS + 1)
    assert len(asked(lane)) == before + 1


def test_a_campaign_that_loses_its_budget_opens_the_gates(lane: ListLane) -> None:
    state = crowd(lane)
    run(lane, state, {topics.COMMANDS: [nothing()]}, by=BLOCKING)
    told(lane)
    run(lane, state, {}, by=sponsored("v2", budget=None), now_ms=NOW_MS + CALM_MS)
    assert {(gate, sponsor) for _, gate, _, sponsor in told(lane)} == {("open", "tube")}
