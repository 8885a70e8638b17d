"""FlowRecord: one interval of one flow, as every exporter's records look after ingest. Topic `ott.flows.v1`."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.fields import MAX_CONGESTION, EpochMs, HostName, Id, Octets, OptionalText, Port, RatType, Version

FLOW_MAJOR = "1"
FLOW_VERSION = "1.1"

EndReason = Literal["idle", "active", "end", "forced", "lack_of_resources", "reset", "no_answer"]


class DnsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One address of a DNS answer that the subscriber received."""

    address: Annotated[str, Meta(max_length=45, description="IPv4 or IPv6 address in text form.")]
    ttl_s: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Time to live, seconds (RFC 1035 section 3.2.1).")]


class FlowRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one exporter saw of one flow during one interval; counters are deltas of that interval.

    The Kafka key is the account id. Unknown fields are ignored; an unknown major version is a dead letter.
    `start_ms <= end_ms` is checked by `check_flow`, since no single-field rule can say it.
    """

    version: Annotated[Version, Meta(description="Contract version, major.minor; this is 1.1.")]
    record_id: Annotated[
        Id, Meta(description="Unique per exporter, flow and interval; a second record with it is never charged.")
    ]
    subscriber_id: Annotated[Id, Meta(description="The operator's pseudonymous subscriber id; never an MSISDN.")]
    exporter_id: Annotated[Id, Meta(description="The probe or gateway that measured the flow.")]
    start_ms: Annotated[EpochMs, Meta(description="Start of the interval, event time, ms since 1970 UTC (IPFIX 152).")]
    end_ms: Annotated[EpochMs, Meta(description="End of the interval, exclusive, ms since 1970 UTC (IPFIX 153).")]
    ip_protocol: Annotated[int, Meta(ge=0, le=255, description="IANA protocol number (IPFIX 4): 6 TCP, 17 UDP.")]
    subscriber_ip: Annotated[
        str, Meta(max_length=45, description="Address of the subscriber's side, IPv4 or IPv6 text.")
    ]
    subscriber_port: Annotated[Port, Meta(description="Transport port of the subscriber's side; 0 where none.")]
    remote_ip: Annotated[str, Meta(max_length=45, description="Address of the far side, IPv4 or IPv6 text.")]
    remote_port: Annotated[Port, Meta(description="Transport port of the far side; 0 where none.")]
    octets_up: Annotated[
        Octets, Meta(description="Octets from the subscriber in this interval, IP header included, before scaling.")
    ]
    octets_down: Annotated[
        Octets, Meta(description="Octets to the subscriber in this interval, IP header included, before scaling.")
    ]
    account_id: Annotated[
        Id | None, Meta(description="Who is charged; absent = the subscriber pays for itself. Equals the record's key.")
    ] = None
    packets_up: Annotated[Octets, Meta(description="Packets from the subscriber in this interval.")] = 0
    packets_down: Annotated[Octets, Meta(description="Packets to the subscriber in this interval.")] = 0
    server_name: Annotated[
        HostName | None, Meta(description="TLS or QUIC server name (SNI, RFC 6066 section 3), as sent.")
    ] = None
    http_host: Annotated[HostName | None, Meta(description="HTTP Host header or :authority; may carry a port.")] = None
    dns_name: Annotated[
        HostName | None,
        Meta(
            description="Name whose DNS answer gave the subscriber this remote address; in a DNS flow, the name asked."
        ),
    ] = None
    dns_answers: Annotated[
        Annotated[tuple[DnsAnswer, ...], Meta(max_length=64)] | None,
        Meta(description="In a DNS flow: the addresses answered."),
    ] = None
    stun_realm: Annotated[
        HostName | None, Meta(description="REALM attribute of STUN/TURN (RFC 8489 section 14.9).")
    ] = None
    ja4: Annotated[OptionalText | None, Meta(description="JA4 fingerprint of the TLS or QUIC client hello.")] = None
    http_content_type: Annotated[OptionalText | None, Meta(description="Content-Type of the HTTP answer.")] = None
    http_user_agent: Annotated[
        Annotated[str, Meta(max_length=512)] | None, Meta(description="User-Agent of the HTTP request.")
    ] = None
    exporter_application: Annotated[
        OptionalText | None, Meta(description="The exporter's own application id, e.g. `ndpi:TLS.WhatsApp` (IPFIX 95).")
    ] = None
    rat_type: Annotated[RatType | None, Meta(description="Radio access technology (TS 29.571 RatType).")] = None
    serving_plmn: Annotated[
        Annotated[str, Meta(pattern=r"^[0-9]{5,6}$")] | None,
        Meta(description="Serving network, MCC and MNC in digits (TS 23.003 clause 2.2)."),
    ] = None
    dnn: Annotated[OptionalText | None, Meta(description="Data network name, formerly APN (TS 23.003 clause 9A).")] = (
        None
    )
    end_reason: Annotated[
        EndReason | None,
        Meta(description="Why the exporter closed the interval (IPFIX 136, and reset / no_answer where it can tell)."),
    ] = None
    sampling_rate: Annotated[
        int, Meta(ge=1, le=1_000_000, description="1 in N packets was counted; octets and packets are scaled by it.")
    ] = 1
    remote_as: Annotated[
        Annotated[int, Meta(ge=0, le=2**32 - 1)] | None,
        Meta(
            description="Autonomous system of the far side (IPFIX 16 or 17: bgpSourceAsNumber, bgpDestinationAsNumber, "
            "whichever is the remote one); 0 = unknown."
        ),
    ] = None
    congestion_level: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_CONGESTION)] | None,
        Meta(
            description="Congestion of the user plane where the subscriber is, as the network reports it: 0 none, then "
            "rising (RUCI, TS 29.217 Congestion-Level-Value; or NWDAF user data congestion, TS 29.520)."
        ),
    ] = None


def account_of(flow: FlowRecord) -> str:
    """The account that pays: the record's account id, or the subscriber's own where it names none."""
    return flow.account_id or flow.subscriber_id


def octets_of(flow: FlowRecord) -> int:
    """Octets of the interval in both directions, scaled by the sampling rate; unbounded int."""
    return (flow.octets_up + flow.octets_down) * flow.sampling_rate


def check_flow(flow: FlowRecord) -> str | None:
    """The cross-field rule that `flow` breaks, as a sentence for people, or None.

    Single-field rules are checked while decoding; this adds the version and the order of the two times.
    """
    if not flow.version.startswith(FLOW_MAJOR + "."):
        return f"version: {flow.version!r} is not supported; this consumer reads {FLOW_MAJOR}.x"
    if flow.end_ms < flow.start_ms:
        return f"end_ms: {flow.end_ms} is before start_ms {flow.start_ms}; send the interval in order"
    return None
