import base64

import msgspec
import pytest

from schemas import topics
from schemas.state import AccountState
from services.policy.limits import MAX_ACCOUNT_OCTETS
from services.policy.seen import SLOT_DIGESTS
from services.policy.transaction import LaneState
from tests.policy.lanes import CATALOGUE, NOW_MS, ListLane, books, lane_state, run
from tests.policy.records import Record, command_value, flow_record, flow_value


def subscribed(*, offset: int = 0) -> list[Record]:
    """Commands that make sub-1 a subscriber of the plan."""
    activate = command_value("activate_product", command_id="c-2", product_id="p1", offering_id="plan")
    return [
        Record(b"sub-1", command_value("change_profile", subscriber_ids=["sub-1"]), offset, NOW_MS),
        Record(b"sub-1", activate, offset + 1, NOW_MS),
    ]


@pytest.fixture
def lane() -> ListLane:
    return ListLane()


@pytest.fixture
def state(lane: ListLane) -> LaneState:
    fresh = lane_state()
    run(lane, fresh, {topics.COMMANDS: subscribed()})
    assert lane.causes() == []
    lane.out.clear()
    return fresh


def flow(number: int = 0, **changes: object) -> Record:
    times = {"start_ms": NOW_MS, "end_ms": NOW_MS + 1_000}
    return flow_record(offset=number, **{"record_id": f"r-{number}", **times, **changes})


def test_flow_of_a_subscriber_is_decided_and_explained(lane: ListLane, state: LaneState) -> None:
    transaction = run(lane, state, {topics.FLOWS: [flow(7)]})
    (decision,) = lane.read(topics.DECISIONS)
    assert decision["decision_id"] == "0-7"
    assert decision["classification"]["application"] == "player"
    assert decision["draws"] == [{"bucket_id": "p1/data", "octets": 10_000, "remaining_octets": 990_000}]
    assert decision["catalogue_version"] == "v1"
    assert transaction.next_offsets == {topics.FLOWS: 8}


def test_flow_of_an_unknown_account_is_a_dead_letter(lane: ListLane) -> None:
    run(lane, lane_state(), {topics.FLOWS: [flow()]})
    (letter,) = lane.read(topics.DEAD_LETTERS)
    assert letter["cause"] == "unknown_account"
    assert "change_profile" in letter["detail"]
    assert letter["dead_letter_id"] == "ott.flows.v1-0-0"


def test_malformed_record_disturbs_no_other(lane: ListLane, state: LaneState) -> None:
    broken = [Record(b"sub-1", b"{", 1), Record(None, flow_value(), 3), flow(5, octets_up=-1)]
    run(lane, state, {topics.FLOWS: [flow(0), broken[0], flow(2), broken[1], flow(4), broken[2]]})
    assert [decision["record_id"] for decision in lane.read(topics.DECISIONS)] == ["r-0", "r-2", "r-4"]
    assert lane.causes() == ["not_json", "null_key", "invalid_field"]


def test_dead_letter_keeps_at_most_the_stated_octets(lane: ListLane, state: LaneState) -> None:
    run(lane, state, {topics.FLOWS: [Record(b"k" * 5_000, b"x" * 5_000_000, 0)]})
    (letter,) = lane.read(topics.DEAD_LETTERS)
    assert letter["value_octets"] == 5_000_000
    assert len(lane.out[topics.DEAD_LETTERS][0][1] or b"") < 20_000


def test_case_10_a_duplicate_is_charged_once(lane: ListLane, state: LaneState) -> None:
    run(lane, state, {topics.FLOWS: [flow(0), flow(1, record_id="r-0")]})
    run(lane, state, {topics.FLOWS: [flow(2, record_id="r-0")]})
    assert len(lane.read(topics.DECISIONS)) == 1
    assert lane.causes() == ["duplicate", "duplicate"]
    assert data_left(state) == 990_000


def test_case_10_a_duplicate_is_charged_again_only_beyond_the_stated_horizon(lane: ListLane) -> None:
    """Of `SMARTPIPE_DEDUP_RECORDS_PER_LANE` ids none is forgotten; what is older may be, a slot at a time."""
    state = lane_state(dedup_records=SLOT_DIGESTS)
    run(lane, state, {topics.COMMANDS: subscribed()})
    run(lane, state, {topics.FLOWS: [flow(0), *(empty(n) for n in range(1, SLOT_DIGESTS))]})
    run(lane, state, {topics.FLOWS: [flow(SLOT_DIGESTS, record_id="r-0")]})
    assert (lane.causes(), data_left(state)) == (["duplicate"], 990_000)
    run(lane, state, {topics.FLOWS: [empty(9_000 + n) for n in range(SLOT_DIGESTS)]})
    run(lane, state, {topics.FLOWS: [flow(12_000, record_id="r-0")]})
    assert (lane.causes(), data_left(state)) == (["duplicate"], 980_000)


def test_case_11_a_duplicate_with_other_properties_is_told_and_draws_nothing(lane: ListLane, state: LaneState) -> None:
    run(lane, state, {topics.FLOWS: [flow(0), flow(1, record_id="r-0", octets_down=70_000)]})
    (letter,) = lane.read(topics.DEAD_LETTERS)
    assert (letter["cause"], b"70000" in base64.b64decode(letter["value"])) == ("duplicate", True)
    assert data_left(state) == 990_000


def empty(number: int) -> Record:
    return flow(number, octets_up=0, octets_down=0)


def data_left(state: LaneState) -> int:
    account = state.accounts.get("sub-1")
    assert account is not None
    return account.buckets[0].remaining


def test_refused_duplicate_id_stays_free_for_a_valid_record(lane: ListLane, state: LaneState) -> None:
    run(lane, state, {topics.FLOWS: [flow(0, octets_up=-1), flow(1, record_id="r-0")]})
    assert [decision["record_id"] for decision in lane.read(topics.DECISIONS)] == ["r-0"]


def test_record_in_the_wrong_partition_is_named_as_such(lane: ListLane) -> None:
    strangers = [flow(number, subscriber_id=f"s-{number}") for number in range(40)]
    records = [Record(f"s-{number}".encode(), record.value, number) for number, record in enumerate(strangers)]
    run(lane, lane_state(), {topics.FLOWS: records}, partitions=4)
    causes = lane.causes()
    assert set(causes) == {"misrouted", "unknown_account"}
    assert causes.count("misrouted") > causes.count("unknown_account")


def test_misrouted_command_creates_no_account(lane: ListLane) -> None:
    state = lane_state()
    wrong = ListLane(partition=next(number for number in (0, 1) if number != _partition_of_sub_1()))
    run(wrong, state, {topics.COMMANDS: subscribed()}, partitions=2)
    assert wrong.causes() == ["misrouted", "misrouted"]
    assert len(state.accounts) == 0


def test_changed_state_is_in_the_same_transaction(lane: ListLane, state: LaneState) -> None:
    run(lane, state, {topics.FLOWS: [flow(0), flow(1)]})
    accounts = [value for key, value in lane.out[topics.STATE] if key == b"a/sub-1"]
    assert len(accounts) == 1
    changed = msgspec.msgpack.decode(accounts[0], type=AccountState)
    assert changed.buckets[0].remaining == 980_000


def test_usage_is_gathered_until_its_interval_ends(lane: ListLane, state: LaneState) -> None:
    run(lane, state, {topics.FLOWS: [flow(0), flow(1)]})
    assert lane.read(topics.USAGE) == []
    run(lane, state, {}, now_ms=NOW_MS + 9_999)
    assert lane.read(topics.USAGE) == []
    run(lane, state, {}, now_ms=NOW_MS + 10_000)
    (usage,) = lane.read(topics.USAGE)
    assert (usage["record_count"], usage["charged_octets"]) == (2, 20_000)
    run(lane, state, {}, now_ms=NOW_MS + 30_000)
    assert len(lane.read(topics.USAGE)) == 1


def test_gathered_usage_is_told_once_when_the_profile_changes(lane: ListLane, state: LaneState) -> None:
    run(lane, state, {topics.FLOWS: [flow(0)]})
    change = command_value("change_profile", command_id="c-7", segment="group")
    run(lane, state, {topics.COMMANDS: [Record(b"sub-1", change, 2)]})
    run(lane, state, {}, now_ms=NOW_MS + 60_000)
    rows = [row for row in lane.read(topics.USAGE) if row["kind"] == "usage"]
    assert [row["usage_id"] for row in rows] == ["f-0-0-0-0"]


def test_calendar_rests_while_records_wait(lane: ListLane, state: LaneState) -> None:
    account = state.accounts.get("sub-1")
    assert account is not None
    over_ms = account.cycle_end_ms + 1
    run(lane, state, {}, now_ms=over_ms, caught_up=False)
    assert state.accounts.get("sub-1") == account
    run(lane, state, {}, now_ms=over_ms)
    renewed = state.accounts.get("sub-1")
    assert renewed is not None
    assert renewed.cycle_end_ms > over_ms


def test_idle_transaction_writes_nothing(lane: ListLane, state: LaneState) -> None:
    transaction = run(lane, state, {})
    assert lane.out == {}
    assert transaction.next_offsets == {}


def test_refused_command_is_a_dead_letter_with_its_rule(lane: ListLane, state: LaneState) -> None:
    order = command_value("activate_product", command_id="c-9", product_id="p2", offering_id="nothing")
    run(lane, state, {topics.COMMANDS: [Record(b"sub-1", order, 2)]})
    (letter,) = lane.read(topics.DEAD_LETTERS)
    assert letter["cause"] == "refused_command"
    assert "nothing" in letter["detail"]


ESCAPED = "\x7f" * 250_000
"""A text that takes five times its octets once it is quoted in a sentence and the sentence in JSON."""

QUOTED = {
    "version of a flow": (topics.FLOWS, Record(b"sub-1", flow_value(version=ESCAPED)), "unknown_version"),
    "id of a broken flow": (topics.FLOWS, Record(b"sub-1", flow_value(record_id=ESCAPED)), "invalid_field"),
    "type of a command": (topics.COMMANDS, Record(b"sub-1", command_value(ESCAPED)), "unknown_command"),
    "time zone of a profile": (
        topics.COMMANDS,
        Record(b"sub-1", command_value("change_profile", command_id="c-9", time_zone=ESCAPED)),
        "refused_command",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", QUOTED)
def test_a_text_as_long_as_a_record_is_cut_in_the_dead_letter(lane: ListLane, state: LaneState, case: str) -> None:
    topic, record, cause = QUOTED[case]
    # Not every writer escapes it, as Python's own does.
    value = (record.value or b"").replace(b"\\u007f", b"\x7f")
    run(lane, state, {topic: [Record(record.key, value)]}, max_record_octets=262_144)
    (letter,) = lane.read(topics.DEAD_LETTERS)
    assert (letter["cause"], letter["value_octets"]) == (cause, len(value))
    assert len(letter["detail"]) + len(letter["record_id"]) < 5_000


def test_a_command_that_makes_an_account_too_large_is_refused_whole(lane: ListLane, state: LaneState) -> None:
    before = state.accounts.raw()
    order = command_value("change_profile", command_id="c-9", segment="x" * 2_000_000, tier="gold")
    transaction = run(lane, state, {topics.COMMANDS: [Record(b"sub-1", order, 2)]}, max_record_octets=8_000_000)
    (letter,) = lane.read(topics.DEAD_LETTERS)
    assert (letter["cause"], letter["record_id"]) == ("output_too_large", "c-9")
    assert "the limit is 262144" in letter["detail"]
    assert state.accounts.raw() == before
    assert set(lane.out) == {topics.DEAD_LETTERS}
    assert transaction.tally.commands == {("change_profile", "refused"): 1}


def test_an_account_full_of_ended_products_takes_no_more_and_still_flows_and_cancellations(
    lane: ListLane, state: LaneState
) -> None:
    offers = [*CATALOGUE["offerings"], {"id": "pack", "kind": "add_on", "allowances": [{"id": "data", "octets": 1}]}]
    by = books(offerings=[{"name": "One", **offer} for offer in offers])

    def command(kind: str, number: int, **fields: object) -> Record:
        common = {"command_id": f"{kind}-{number}", "product_id": f"{number:060}", "issued_at_ms": NOW_MS}
        return Record(b"sub-1", command_value(kind, **common, **fields), 2 * number + 10, NOW_MS)

    orders = [
        record
        for number in range(1_200)
        for record in (command("activate_product", number, offering_id="pack"), command("cancel_product", number))
    ]
    run(lane, state, {topics.COMMANDS: orders}, by=by)
    letters = lane.read(topics.DEAD_LETTERS)
    full = next(letter["record_id"] for letter in letters if letter["cause"] == "output_too_large")
    assert full.startswith("activate_product-")
    assert MAX_ACCOUNT_OCTETS - 1_000 < len(state.accounts.raw()["sub-1"]) < MAX_ACCOUNT_OCTETS + 1_000
    lane.out.clear()
    last = Record(b"sub-1", command_value("cancel_product", command_id="end", product_id="p1"), 9_000, NOW_MS)
    run(lane, state, {topics.FLOWS: [flow(7, octets_down=2**30)], topics.COMMANDS: [last]}, by=by)
    assert lane.causes() == []
    assert len(lane.read(topics.DECISIONS)) == 1


def test_command_delivered_twice_is_applied_once(lane: ListLane, state: LaneState) -> None:
    top_up = command_value("credit", command_id="c-5", amount="10")
    run(lane, state, {topics.COMMANDS: [Record(b"sub-1", top_up, 2), Record(b"sub-1", top_up, 3)]})
    account = state.accounts.get("sub-1")
    assert account is not None
    assert account.balance_micros == 10_000_000


def test_new_catalogue_reaches_accounts_without_traffic(lane: ListLane, state: LaneState) -> None:
    run(lane, state, {}, by=books(version="v2"), now_ms=NOW_MS + 1)
    account = state.accounts.get("sub-1")
    assert account is not None
    assert account.catalogue_version == "v2"


def test_transaction_replayed_from_the_same_state_writes_the_same(lane: ListLane) -> None:
    records = {topics.COMMANDS: subscribed(), topics.FLOWS: [flow(number, octets_down=300_000) for number in range(6)]}
    again = ListLane()
    run(lane, lane_state(), records)
    run(again, lane_state(), records)
    assert again.out == lane.out


def _partition_of_sub_1() -> int:
    from services.runtime.partitioning import partition_of

    return partition_of(b"sub-1", 2)
