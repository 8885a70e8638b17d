"""JSON Lines: what goes out comes back, and a bad line says what to mend."""

import pytest

from schemas.flow import FlowRecord
from services.ingest.jsonlines import JsonLinesError, decode_flow, encode_flow, new_record, read_flows

GOOD = (
    b'{"version":"1.0","record_id":"r-1","subscriber_id":"s-1","exporter_id":"probe-1","start_ms":1000,"end_ms":2000,'
    b'"ip_protocol":6,"subscriber_ip":"100.64.0.1","subscriber_port":40000,"remote_ip":"192.0.2.1",'
    b'"remote_port":443,"octets_up":10,"octets_down":20,"account_id":"fam-1"}'
)


def test_a_flow_survives_the_way_out_and_back() -> None:
    flow = decode_flow(GOOD, 1)
    assert type(flow) is FlowRecord
    assert encode_flow(flow) == GOOD.replace(b',"account_id":"fam-1"', b"").replace(
        b'"octets_down":20', b'"octets_down":20,"account_id":"fam-1"'
    )
    assert decode_flow(encode_flow(flow), 1) == flow


def test_blank_lines_are_passed_over_and_still_counted() -> None:
    lines = [GOOD + b"\n", b"\n", b"  \r\n", GOOD, b"nonsense"]
    found = read_flows(lines)
    assert [next(found).record_id, next(found).record_id] == ["r-1", "r-1"]
    with pytest.raises(JsonLinesError, match=r"^line 5: 'nonsense' is not JSON"):
        next(found)


def test_a_new_record_is_keyed_by_its_account_and_dated_by_its_publishing() -> None:
    record = new_record(decode_flow(GOOD, 1), published_ms=9_000)
    assert (record.topic, record.key, record.timestamp_ms) == ("ott.flows.v1", b"fam-1", 9_000)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"octets_up":10', b'"octets_up":-10', r"octets_up: -10 is refused: expected `int` >= 0"),
        (b'"octets_up":10', b'"octets_up":"ten"', r'octets_up: "ten" is refused: expected `int`, got `str`'),
        (b'"octets_up":10', b'"octets_up":%d' % 2**70, r"octets_up: 1180591620717411303424 is refused"),
        (b'"record_id":"r-1",', b"", r"missing required field `record_id`"),
        (b'"record_id":"r-1"', b'"record_id":"%s"' % (b"r" * 300), r"record_id: \"r{59}\.\.\. is refused"),
        (b'"end_ms":2000', b'"end_ms":500', r"end_ms: 500 is before start_ms 1000"),
        (b'"version":"1.0"', b'"version":"2.0"', r"version: '2.0' is not supported"),
        (b'"account_id":"fam-1"', b'"dns_answers":[{"address":"::","ttl_s":-4}]', r"dns_answers\[0\]\.ttl_s: -4"),
        (b'"r-1"', b'"\xff"', r"octet 30 is not UTF-8"),
        (b"{", b"[{", r"is not JSON"),
        (b'"octets_up":10', b'"octets_up":-10}{', r"is not JSON"),
        (GOOD, b"[]", r"expected `object`, got `array`; the contract of ott.flows.v1"),
        (GOOD, b"[" * 100_000, r"is not JSON"),
    ],
)
def test_a_bad_line_is_refused_with_field_value_rule_and_next_step(old: bytes, new: bytes, message: str) -> None:
    with pytest.raises(JsonLinesError, match=message) as caught:
        decode_flow(GOOD.replace(old, new, 1), 17)
    assert str(caught.value).startswith("line 17: ")
    assert caught.value.line_number == 17
