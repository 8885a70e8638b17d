"""What the counters of a UDP flow say about its content: media has a rhythm that other traffic lacks.

Packet counts and sizes are of one interval, sizes with the IP header. Integers only; a rate is compared by
multiplying out.
"""

from schemas.flow import FlowRecord

UDP = 17
_MIN_PACKETS = 30
_MIN_RATE = 8
_MIN_OCTETS, _MAX_OCTETS = 60, 1_300
_IPV4_HEADERS, _IPV6_HEADERS = 40, 60
_VOICE_FRAMES = {
    # RTP payload octets -> packets per second, of codecs with a constant rate (RFC 3551 table 1, RFC 3952).
    160: 50, 80: 100, 240: 33, 320: 25,  # G.711 and G.722 in frames of 20, 10, 30 and 40 ms
    20: 50, 10: 100, 30: 33, 40: 25,  # G.729
    24: 33, 33: 50, 38: 50, 50: 33,  # G.723.1, GSM full rate, iLBC of 20 and 30 ms
}  # fmt: skip


def is_media(flow: FlowRecord) -> bool:
    """True when a UDP flow keeps the steady rate and the middling sizes of voice or video.

    At least 30 packets one way at 8 or more a second, with a mean size between 60 and 1300 octets. Never DNS or HTTP/3.
    """
    if flow.ip_protocol != UDP or flow.remote_port in {53, 443}:
        return False
    up = flow.packets_up >= flow.packets_down
    packets, octets = (flow.packets_up, flow.octets_up) if up else (flow.packets_down, flow.octets_down)
    lasted_ms = flow.end_ms - flow.start_ms
    steady = packets >= _MIN_PACKETS and packets * 1000 >= _MIN_RATE * lasted_ms
    return steady and _MIN_OCTETS * packets <= octets <= _MAX_OCTETS * packets


def is_voice_codec(flow: FlowRecord) -> bool:
    """True when one direction holds packets of one size at the very rate of a constant-rate voice codec over RTP."""
    if flow.ip_protocol != UDP or min(flow.remote_port, flow.subscriber_port) < 1024:
        return False
    headers = _IPV6_HEADERS if ":" in flow.remote_ip else _IPV4_HEADERS
    lasted_ms = flow.end_ms - flow.start_ms
    return _is_codec(flow.packets_up, flow.octets_up, headers, lasted_ms) or _is_codec(
        flow.packets_down, flow.octets_down, headers, lasted_ms
    )


def _is_codec(packets: int, octets: int, headers: int, lasted_ms: int) -> bool:
    if packets < 8 or octets % packets:
        return False
    rate = _VOICE_FRAMES.get(octets // packets - headers)
    return rate is not None and 9 * rate * lasted_ms <= 10_000 * (packets - 1) <= 11 * rate * lasted_ms
