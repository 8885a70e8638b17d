"""Flows that NFStream and nDPI wrote as JSON Lines, one flow per line, labels included; the labels are not read.

A capture stands for an exporter. Which side is the subscriber is not said, so it is worked out from the addresses and
ports; `src` is only who sent the first packet that was seen.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any

import msgspec

from schemas.flow import FlowRecord, check_flow

_NAME_FIELDS = {
    "tls_sni": "server_name", "quic_sni": "server_name", "other": "server_name", "http_host": "http_host",
    "dns_query": "dns_name", "stun_realm": "stun_realm",
}  # fmt: skip
"""`server_name_kind` to the field that holds the name."""

_SERVER_PORTS = frozenset((1194, 1935, 3074, 3478, 3479, 3480, 3481, 5060, 5061, 5222, 5223, 5228, 8080, 8443, 51820))
"""Ports above 1023 that a server, hardly ever a subscriber, listens on."""

_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
                 "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10")
)  # fmt: skip
"""Where subscribers have their addresses, carrier-grade NAT included (RFC 1918, RFC 6598, RFC 4193)."""

_decode = msgspec.json.Decoder().decode


def flow_of(line: bytes | Mapping[str, Any], number: int) -> FlowRecord:
    """The flow record of one line; `number` (from 0) makes its record id unique.

    Raises msgspec.DecodeError or msgspec.ValidationError, a ValueError, when the line is no such flow.
    """
    row = _decode(line) if isinstance(line, bytes) else line
    if not isinstance(row, Mapping):
        raise ValueError(f"line {number}: {type(row).__name__} is no flow; a line holds one JSON object")
    try:
        flow = msgspec.convert(_fields(row, number), FlowRecord)
    except KeyError as error:
        raise ValueError(f"line {number}: field {error.args[0]!r} is missing; see the data's own description") from None
    if problem := check_flow(flow):
        raise ValueError(f"line {number}: {problem}")
    return flow


def _fields(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    near, far = ("src", "dst") if _subscriber_is_source(row) else ("dst", "src")
    up, down = ("up", "down") if near == "src" else ("down", "up")
    capture = row.get("pcap") or "capture"
    return {
        "version": "1.0", "record_id": f"{number}:{capture}"[:128], "exporter_id": str(capture)[:128],
        "subscriber_id": f"{row[f'{near}_ip']}@{capture}"[:128], "ip_protocol": row["ip_protocol"],
        "start_ms": row["first_seen_ms"], "end_ms": row["last_seen_ms"],
        "subscriber_ip": row[f"{near}_ip"], "subscriber_port": row[f"{near}_port"],
        "remote_ip": row[f"{far}_ip"], "remote_port": row[f"{far}_port"],
        "octets_up": row[f"bytes_{up}"], "octets_down": row[f"bytes_{down}"],
        "packets_up": row[f"packets_{up}"], "packets_down": row[f"packets_{down}"],
        "ja4": row.get("client_fingerprint") or None, "http_user_agent": (row.get("user_agent") or "")[:512] or None,
        "http_content_type": (row.get("content_type") or "")[:255] or None, **_names(row),
    }  # fmt: skip


def _names(row: Mapping[str, Any]) -> dict[str, Any]:
    names: dict[str, Any] = {"dns_name": row.get("dns_answer_name") or None}
    kind, name = row.get("server_name_kind") or "", row.get("requested_server_name") or ""
    if kind == "dns_query":
        # The answers are not in the data; an empty list still says that this flow is a query.
        names["dns_answers"] = ()
    if name and kind:
        names[_NAME_FIELDS.get(kind, "server_name")] = name[:255]
    return names


def _subscriber_is_source(row: Mapping[str, Any]) -> bool:
    """The private side is the subscriber; else who does not use a server's port; else who spoke first."""
    source, destination = _is_private(row["src_ip"]), _is_private(row["dst_ip"])
    if source != destination:
        return source
    near, far = _is_server_port(row["src_port"]), _is_server_port(row["dst_port"])
    return far or not near


def _is_private(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in _PRIVATE if network.version == parsed.version)


def _is_server_port(port: int) -> bool:
    return 0 < port < 1024 or port in _SERVER_PORTS
