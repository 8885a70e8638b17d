import json

import pytest

from services.ingest.ndpi_labelled import flow_of

ROW = {
    "pcap": "some.pcap", "flow_index": 7, "src_ip": "192.168.1.5", "src_port": 50_000, "dst_ip": "198.51.100.9",
    "dst_port": 443, "ip_protocol": 6, "first_seen_ms": 1_000, "last_seen_ms": 2_000,
    "bytes_up": 100, "bytes_down": 900,
    "packets_up": 3, "packets_down": 4, "requested_server_name": "www.example.com", "server_name_kind": "tls_sni",
    "dns_answer_name": "", "user_agent": "", "content_type": "", "client_fingerprint": "", "client_ja3": "",
    "label_app": "TLS.WhatsApp", "label_category": "Chat", "label_confidence": "dpi", "expected_app": "TLS.WhatsApp",
    "expected_category": "Chat", "expected_confidence": "DPI", "labels_agree": True,
}  # fmt: skip


def read(**fields):
    return flow_of(json.dumps(ROW | fields).encode(), 12)


def test_line_becomes_a_flow_of_the_subscriber():
    flow = read()
    assert (flow.subscriber_ip, flow.subscriber_port) == ("192.168.1.5", 50_000)
    assert (flow.remote_ip, flow.remote_port) == ("198.51.100.9", 443)
    assert (flow.octets_up, flow.octets_down, flow.packets_up, flow.packets_down) == (100, 900, 3, 4)
    assert (flow.start_ms, flow.end_ms, flow.server_name) == (1_000, 2_000, "www.example.com")
    assert flow.subscriber_id == "192.168.1.5@some.pcap"
    assert flow_of(ROW, 12) == flow


def test_labels_are_not_read():
    bare = {key: value for key, value in ROW.items() if not key.startswith(("label", "expected"))}
    assert flow_of(bare, 12) == read()
    assert read().exporter_application is None


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("tls_sni", "server_name"), ("quic_sni", "server_name"), ("other", "server_name"), ("http_host", "http_host"),
        ("dns_query", "dns_name"), ("stun_realm", "stun_realm"),
    ],
)  # fmt: skip
def test_kind_says_which_field_holds_the_name(kind, field):
    flow = read(server_name_kind=kind)
    held = {name for name in ("server_name", "http_host", "dns_name", "stun_realm") if getattr(flow, name)}
    assert held == {field}


def test_query_is_marked_as_one():
    assert read(server_name_kind="dns_query").dns_answers == ()
    assert read().dns_answers is None


def test_answered_name_is_the_dns_name():
    assert read(dns_answer_name="cdn.example.com").dns_name == "cdn.example.com"


@pytest.mark.parametrize(
    ("src", "dst", "subscriber"),
    [
        (("192.168.1.5", 50_000), ("198.51.100.9", 443), "192.168.1.5"),
        (("198.51.100.9", 443), ("192.168.1.5", 50_000), "192.168.1.5"),
        (("198.51.100.9", 50_000), ("192.168.1.5", 443), "192.168.1.5"),
        (("198.51.100.9", 443), ("203.0.113.1", 50_000), "203.0.113.1"),
        (("198.51.100.9", 3478), ("203.0.113.1", 50_000), "203.0.113.1"),
        (("198.51.100.9", 40_000), ("203.0.113.1", 50_000), "198.51.100.9"),
        (("198.51.100.9", 53), ("203.0.113.1", 53), "198.51.100.9"),
        (("203.0.113.1", 50_000), ("255.255.255.255", 1_947), "203.0.113.1"),
        (("203.0.113.1", 50_000), ("ff02::1", 5_355), "203.0.113.1"),
        (("100.64.1.1", 68), ("255.255.255.255", 67), "100.64.1.1"),
        (("fe80::1", 546), ("2001:4860:4860::8888", 547), "fe80::1"),
    ],
)
def test_subscriber_is_the_private_side_or_the_one_without_a_servers_port(src, dst, subscriber):
    flow = read(src_ip=src[0], src_port=src[1], dst_ip=dst[0], dst_port=dst[1])
    assert flow.subscriber_ip == subscriber
    assert {flow.subscriber_ip, flow.remote_ip} == {src[0], dst[0]}
    assert (flow.octets_up, flow.octets_down) == ((100, 900) if subscriber == src[0] else (900, 100))


def test_each_line_has_its_own_record_id():
    assert flow_of(ROW, 1).record_id != flow_of(ROW, 2).record_id


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"not json", "JSON"),
        (b"[]", "no flow"),
        (b"{}", "missing"),
        (json.dumps(ROW | {"src_ip": "nowhere"}).encode(), "nowhere"),
        (json.dumps(ROW | {"bytes_up": -1}).encode(), "octets_up"),
        (json.dumps(ROW | {"bytes_up": "1"}).encode(), "octets_up"),
        (json.dumps(ROW | {"last_seen_ms": 1}).encode(), "end_ms"),
    ],
)
def test_line_that_is_no_flow_is_refused_by_name(line, message):
    with pytest.raises(ValueError, match=message):
        flow_of(line, 3)
