import pytest

from schemas.command import Credit
from schemas.flow import FlowRecord
from services.policy.intake import Refused, read_command, read_flow
from tests.policy.records import Record, command_value, flow_record, flow_value

LIMIT = 262_144

REFUSED = [
    pytest.param(Record(None, flow_value()), "null_key", "account id", id="null key"),
    pytest.param(Record(b"sub-1", None), "null_value", "tombstones", id="null value"),
    pytest.param(Record(b"sub-1", b"x" * 5_000_000), "too_large", "5000000 octets", id="5 MB"),
    pytest.param(Record(b"sub-1", flow_value().replace(b"media", b"m\xff\xfe")), "bad_utf8", "UTF-8", id="bad UTF-8"),
    pytest.param(Record(b"sub-1", b"\x00\x01"), "not_json", "JSON", id="binary"),
    pytest.param(Record(b"sub-1", b'{"version": "1.0", '), "not_json", "JSON", id="cut off"),
    pytest.param(Record(b"sub-1", b""), "not_json", "JSON", id="empty"),
    pytest.param(Record(b"sub-1", b'{"x":' + b"[" * 100_000), "not_json", "JSON", id="nested too deep"),
    pytest.param(Record(b"sub-1", b"[]"), "invalid_field", "object", id="an array"),
    pytest.param(flow_record(octets_up="many"), "invalid_field", "octets_up", id="wrong type"),
    pytest.param(flow_record(octets_up=1.5), "invalid_field", "octets_up", id="a float of octets"),
    pytest.param(flow_record(octets_down=...), "invalid_field", "octets_down", id="missing field"),
    pytest.param(flow_record(octets_down=-1), "invalid_field", "octets_down", id="negative octets"),
    pytest.param(flow_record(octets_up=2**70), "invalid_field", "octets_up", id="2^70 octets"),
    pytest.param(flow_record(start_ms=1_470_104_373_025_000), "invalid_field", "start_ms", id="microseconds"),
    pytest.param(flow_record(rat_type="6G"), "invalid_field", "rat_type", id="unknown enum value"),
    pytest.param(flow_record(record_id=""), "invalid_field", "record_id", id="empty id"),
    pytest.param(flow_record(sampling_rate=0), "invalid_field", "sampling_rate", id="sampling rate 0"),
    pytest.param(flow_record(version="2.0"), "unknown_version", "'2.0'", id="unknown version"),
    pytest.param(flow_record(version="2.0", octets_up=...), "unknown_version", "'2.0'", id="version of other fields"),
    pytest.param(flow_record(version="10.0"), "unknown_version", "'10.0'", id="ten is not one"),
    pytest.param(flow_record(start_ms=3_000), "end_before_start", "2000", id="end before start"),
    pytest.param(flow_record(key=b"sub-2"), "key_mismatch", "sub-2", id="key of another"),
    pytest.param(flow_record(account_id="family-1"), "key_mismatch", "family-1", id="key of the member"),
    pytest.param(flow_record(key=b"\xff\xfe"), "key_mismatch", "xff", id="key that is no text"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "cause", "told"), REFUSED)
def test_malformed_flow_is_refused_with_its_cause(record: Record, cause: str, told: str) -> None:
    refused = read_flow(record, LIMIT)
    assert isinstance(refused, Refused)
    assert refused.cause == cause
    assert told in refused.detail


def test_refusal_keeps_the_record_id_where_it_can_be_read() -> None:
    refused = read_flow(flow_record(octets_up=-5), LIMIT)
    assert isinstance(refused, Refused)
    assert refused.record_id == "probe-1:42:0"


def test_unknown_fields_are_tolerated() -> None:
    flow = read_flow(flow_record(colour="blue"), LIMIT)
    assert isinstance(flow, FlowRecord)
    assert flow.octets_down == 9_000


def test_later_minor_version_is_read() -> None:
    assert isinstance(read_flow(flow_record(version="1.7"), LIMIT), FlowRecord)


def test_key_may_be_the_account_of_a_family() -> None:
    assert isinstance(read_flow(flow_record(key=b"family-1", account_id="family-1"), LIMIT), FlowRecord)


def test_empty_interval_is_accepted() -> None:
    assert isinstance(read_flow(flow_record(start_ms=2_000), LIMIT), FlowRecord)


REFUSED_COMMANDS = [
    pytest.param(Record(None, command_value("credit", amount="1")), "null_key", id="null key"),
    pytest.param(Record(b"sub-1", command_value("explode")), "unknown_command", id="unknown type"),
    pytest.param(Record(b"sub-1", command_value("credit")), "invalid_field", id="missing amount"),
    pytest.param(Record(b"sub-1", command_value("credit", amount="1e9")), "invalid_field", id="exponent"),
    pytest.param(Record(b"sub-1", command_value("credit", amount=5)), "invalid_field", id="money as a number"),
    pytest.param(Record(b"sub-1", command_value("credit", amount="1", version="3.1")), "unknown_version", id="version"),
    pytest.param(Record(b"sub-2", command_value("credit", amount="1")), "key_mismatch", id="key of another"),
    pytest.param(Record(b"sub-1", b"{}"), "invalid_field", id="empty object"),
]


@pytest.mark.parametrize(("record", "cause"), REFUSED_COMMANDS)
def test_malformed_command_is_refused_with_its_cause(record: Record, cause: str) -> None:
    refused = read_command(record, LIMIT)
    assert isinstance(refused, Refused)
    assert refused.cause == cause


def test_command_is_told_by_its_type() -> None:
    command = read_command(Record(b"sub-1", command_value("credit", amount="12.50")), LIMIT)
    assert isinstance(command, Credit)
    assert command.amount == "12.50"
