"""What the counters of a UDP flow say about its content: media has a rhythm that other traffic lacks.

Packet counts and sizes are of one interval, sizes with the IP header. Integers only; a rate is compared by
multiplying out.
"""

from collections.abc import Callable

from schemas.catalogue import Behaviour
from schemas.flow import FlowRecord

UDP = 17
_MIN_PACKETS = 30
_MIN_RATE = 8
_MIN_OCTETS, _MAX_OCTETS = 50, 1_300
_MIN_VOICE_RATE = 15
_MIN_VOICE_OCTETS, _MAX_VOICE_OCTETS = 50, 300
_MAX_REPORT_OCTETS = 300
_MPEG_TS_OCTETS = 20 + 8 + 7 * 188
_RTP_OCTETS = 12
_IPV4_HEADERS, _IPV6_HEADERS = 40, 60
_VOICE_FRAMES = {
    # RTP payload octets -> packets per second, of codecs with a constant rate (RFC 3551 table 1, RFC 3952).
    160: 50, 80: 100, 240: 33, 320: 25,  # G.711 and G.722 in frames of 20, 10, 30 and 40 ms
    20: 50, 10: 100, 30: 33, 40: 25,  # G.729
    24: 33, 33: 50, 38: 50, 50: 33,  # G.723.1, GSM full rate, iLBC of 20 and 30 ms
}  # fmt: skip


def is_media(flow: FlowRecord) -> bool:
    """True when a UDP flow keeps the steady rate and the middling sizes of voice or video.

    At least 30 packets one way at 8 or more a second, with a mean size between 50 and 1300 octets: the slowest speech
    codecs fill 14 octets after 40 of headers (AMR at 4.75 kbit/s, RFC 4867), and less in a pause. Never DNS or HTTP/3.
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


def is_voice(flow: FlowRecord) -> bool:
    """True when a media flow looks like a conversation: small packets at a voice's rate, or video both ways.

    Games can look like this too: it is the weakest of all evidence, for flows that nothing else explains.
    """
    if not is_media(flow) or min(flow.remote_port, flow.subscriber_port) < 1024:
        return False
    up, down = (flow.packets_up, flow.octets_up), (flow.packets_down, flow.octets_down)
    lasted_ms = flow.end_ms - flow.start_ms
    busier, other = (up, down) if up[0] >= down[0] else (down, up)
    if busier[0] * 1000 < _MIN_VOICE_RATE * lasted_ms:
        return False
    small = _MIN_VOICE_OCTETS * busier[0] <= busier[1] <= _MAX_VOICE_OCTETS * busier[0]
    return small or (is_both_ways(flow) and _is_video(*busier) and _is_video(*other))


def is_both_ways(flow: FlowRecord) -> bool:
    """True when the quieter direction sends at least a third of the packets of the busier one."""
    return 3 * min(flow.packets_up, flow.packets_down) >= max(flow.packets_up, flow.packets_down)


def is_media_control(flow: FlowRecord) -> bool:
    """True when a UDP flow looks like the reports that the two ends of a media stream send each other.

    Odd ports at both ends, at least two packets each way, small ones, from one in ten seconds to two a second.
    Source: RFC 3550, sections 6.2 (interval) and 11 (RTCP uses the next higher, odd, port).
    """
    if flow.ip_protocol != UDP or not (flow.remote_port & flow.subscriber_port & 1):
        return False
    lasted_ms = flow.end_ms - flow.start_ms
    return all(
        packets >= 2
        and packets * 1000 <= 2 * lasted_ms <= 20_000 * packets
        and _MIN_OCTETS * packets <= octets <= _MAX_REPORT_OCTETS * packets
        for packets, octets in ((flow.packets_up, flow.octets_up), (flow.packets_down, flow.octets_down))
    )


def _is_video(packets: int, octets: int) -> bool:
    return _MAX_VOICE_OCTETS * packets <= octets <= _MAX_OCTETS * packets


def is_mpeg_ts(flow: FlowRecord) -> bool:
    """True when every packet down, or up, holds seven MPEG transport packets of 188 octets, with or without RTP.

    Source: ISO/IEC 13818-1 and RFC 2250; television over multicast is sent like this.
    """
    return any(
        packets >= 8 and octets in {packets * _MPEG_TS_OCTETS, packets * (_MPEG_TS_OCTETS + _RTP_OCTETS)}
        for packets, octets in ((flow.packets_up, flow.octets_up), (flow.packets_down, flow.octets_down))
    )


def _is_codec(packets: int, octets: int, headers: int, lasted_ms: int) -> bool:
    if packets < 8 or octets % packets:
        return False
    rate = _VOICE_FRAMES.get(octets // packets - headers)
    return rate is not None and 9 * rate * lasted_ms <= 10_000 * (packets - 1) <= 11 * rate * lasted_ms


BEHAVIOURS: tuple[tuple[Behaviour, Callable[[FlowRecord], bool], bool], ...] = (
    ("voice_codec", is_voice_codec, False),
    ("mpeg_ts", is_mpeg_ts, True),
    ("voice", is_voice, False),
)
"""Rhythms that a PFD may stand for, the surest first: name, test, whether it may go to a group of receivers."""
