import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.classify_media import is_media, is_media_control, is_mpeg_ts, is_voice, is_voice_codec
from tests.engine.classify_world import classifier, flow

UDP = 17


def udp(**fields):
    defaults = {"ip_protocol": UDP, "remote_port": 40_000, "packets_up": 0, "octets_up": 0, "packets_down": 0,
                "octets_down": 0}  # fmt: skip
    return flow(**(defaults | fields))


@pytest.mark.parametrize(
    ("fields", "media"),
    [
        ({"packets_up": 500, "octets_up": 100_000}, True),
        ({"packets_down": 500, "octets_down": 100_000}, True),
        ({"packets_up": 500, "octets_up": 100_000, "remote_port": 443}, False),
        ({"packets_up": 500, "octets_up": 100_000, "remote_port": 53}, False),
        ({"packets_up": 500, "octets_up": 100_000, "ip_protocol": 6}, False),
        ({"packets_up": 20, "octets_up": 4_000}, False),
        ({"packets_up": 79, "octets_up": 16_000}, False),
        ({"packets_up": 500, "octets_up": 500 * 54}, True),
        ({"packets_up": 500, "octets_up": 500 * 40}, False),
        ({"packets_up": 500, "octets_up": 500 * 1_400}, False),
        ({}, False),
    ],
)
def test_media_is_steady_and_middling(fields, media):
    assert is_media(udp(**fields)) is media


@pytest.mark.parametrize(
    ("fields", "voice"),
    [
        ({"packets_up": 500, "octets_up": 100_000, "packets_down": 300, "octets_down": 50_000}, True),
        ({"packets_up": 500, "octets_up": 400_000, "packets_down": 480, "octets_down": 400_000}, True),
        ({"packets_up": 500, "octets_up": 400_000, "packets_down": 100, "octets_down": 6_000}, False),
        ({"packets_up": 500, "octets_up": 27_000}, True),
        ({"packets_up": 100, "octets_up": 20_000}, False),
        ({"packets_up": 500, "octets_up": 100_000, "remote_port": 500}, False),
    ],
    ids=["voice", "video both ways", "download", "slow codec", "slow", "system port"],
)
def test_conversation_has_small_packets_or_video_both_ways(fields, voice):
    assert is_voice(udp(**fields)) is voice


@pytest.mark.parametrize(
    ("packets", "size", "lasted_ms", "codec"),
    [
        (50, 200, 1_000, True),  # G.711 in frames of 20 ms
        (50, 60, 1_000, True),  # G.729 in frames of 20 ms
        (33, 64, 1_000, True),  # G.723.1
        (50, 201, 1_000, False),
        (50, 200, 2_000, False),
        (7, 200, 120, False),
    ],
)
def test_voice_codec_has_one_size_at_one_rate(packets, size, lasted_ms, codec):
    one = udp(packets_down=packets, octets_down=packets * size, end_ms=1_000_000 + lasted_ms)
    assert is_voice_codec(one) is codec


def test_voice_codec_over_ipv6_has_larger_headers():
    one = udp(packets_up=50, octets_up=50 * 220, end_ms=1_001_000, remote_ip="2001:db8::7")
    assert is_voice_codec(one)


@pytest.mark.parametrize(("size", "television"), [(1_344, True), (1_356, True), (1_345, False)])
def test_television_sends_seven_transport_packets_at_a_time(size, television):
    assert is_mpeg_ts(udp(packets_down=100, octets_down=100 * size)) is television


@pytest.mark.parametrize(
    ("fields", "application", "service"),
    [
        ({"packets_up": 50, "octets_up": 10_000, "end_ms": 1_001_000}, "rtp", "call"),
        ({"packets_up": 500, "octets_up": 110_500}, "rtp", "call"),
        ({"packets_down": 100, "octets_down": 134_400, "remote_ip": "239.1.1.1"}, "television", "live"),
        ({"packets_up": 500, "octets_up": 110_500, "remote_ip": "239.1.1.1"}, None, None),
        ({"packets_up": 500, "octets_up": 110_500, "server_name": "unlisted.example"}, None, None),
    ],
    ids=["codec", "conversation", "television", "nobody converses with a group", "a name is no silence"],
)
def test_rhythm_decides_only_where_nothing_else_speaks(fields, application, service):
    verdict = classifier().classify(udp(**fields))
    assert (verdict.application, verdict.service) == (application, service)
    assert verdict.confidence <= 20


counts = st.integers(0, 2**63 - 1)


@given(counts, counts, counts, counts, st.integers(0, 10**13))
def test_no_counter_is_too_odd(packets_up, octets_up, packets_down, octets_down, lasted_ms):
    one = udp(
        packets_up=packets_up, octets_up=octets_up, packets_down=packets_down, octets_down=octets_down,
        end_ms=1_000_000 + lasted_ms,
    )  # fmt: skip
    for shows in (is_media, is_voice, is_voice_codec, is_mpeg_ts):
        assert shows(one) in {True, False}


REPORTS = {"remote_port": 40_001, "subscriber_port": 50_001, "packets_up": 4, "octets_up": 480, "packets_down": 3,
           "octets_down": 300, "end_ms": 1_020_000}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "control"),
    [
        ({}, True),
        ({"packets_up": 2, "octets_up": 200, "packets_down": 2, "octets_down": 200}, True),
        ({"remote_port": 40_000}, False),
        ({"subscriber_port": 50_000}, False),
        ({"packets_down": 0, "octets_down": 0}, False),
        ({"packets_up": 1, "octets_up": 120}, False),
        ({"octets_up": 4 * 301}, False),
        ({"octets_down": 3 * 49}, False),
        ({"packets_up": 41, "octets_up": 41 * 100}, False),
        ({"end_ms": 1_031_000}, False),
        ({"ip_protocol": 6}, False),
    ],
    ids=["reports", "few", "even far", "even near", "one way", "one", "large", "empty", "fast", "slow", "tcp"],
)
def test_reports_of_a_stream_are_few_small_and_between_odd_ports(fields, control):
    assert is_media_control(udp(**(REPORTS | fields))) is control
