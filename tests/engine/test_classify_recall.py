import pytest

from services.engine.classify import Classifier, SubscriberMemory
from tests.engine.classify_world import APPLICATIONS, answers, flow, last

UDP = 17
STREAM = {"packets_up": 500, "octets_up": 100_000, "packets_down": 450, "octets_down": 90_000}


def udp(**fields):
    return flow(**({"ip_protocol": UDP, "remote_port": 45_000, "remote_ip": "203.0.113.50"} | fields))


def stun(**fields):
    return udp(**({"remote_port": 3478, "remote_ip": "203.0.113.9"} | fields))


CHAT = flow(server_name="chat.whatsapp.net", remote_ip="157.240.3.1")


def test_stun_without_a_past_is_somebodys_call():
    verdict = last(stun())
    assert (verdict.category, verdict.application, verdict.service) == ("voip_im", "stun", "call")


def test_stun_belongs_to_the_messenger_used_just_before():
    verdict = last(CHAT, stun())
    assert (verdict.application, verdict.service, verdict.evidence[0].kind) == ("whatsapp", "call", "media")


@pytest.mark.parametrize("port", [3478, 1400, 61_000])
def test_a_realm_that_nobody_lists_is_somebodys_call_at_any_port(port):
    asked = udp(remote_port=port, stun_realm="realm")
    assert (last(asked).application, last(asked).category, last(asked).service) == ("stun", "voip_im", "call")
    assert (last(CHAT, asked).application, last(CHAT, asked).service) == ("whatsapp", "call")


def test_a_realm_over_tcp_is_a_relay_too():
    verdict = last(flow(remote_port=443, stun_realm="realm"))
    assert (verdict.application, verdict.service, verdict.confidence) == ("stun", "call", 30)


def test_a_listed_realm_decides_whose_relay_it_is():
    verdict = last(udp(remote_port=1400, stun_realm="telegram.org"))
    assert [(item.application, item.confidence) for item in verdict.evidence] == [("telegram", 85), ("stun", 30)]


def test_stun_goes_to_who_uses_the_same_network():
    telegram = flow(server_name="t.me", remote_ip="203.0.1.1")
    verdict = last(telegram, CHAT, stun())
    assert (verdict.application, verdict.evidence[0].matched) == ("telegram", "same network")


def test_call_over_the_applications_own_addresses_is_told_from_chat():
    voice = udp(remote_ip="91.108.4.9", **STREAM)
    probe = udp(remote_ip="91.108.4.9", packets_up=9, octets_up=700)
    assert last(voice).service == "call"
    assert (last(probe).application, last(probe).service) == ("telegram", None)


def test_peer_to_peer_media_is_known_by_its_port():
    verdict = last(CHAT, stun(subscriber_port=40_123), udp(subscriber_port=40_123))
    assert (verdict.application, verdict.service, verdict.evidence[0].matched) == ("whatsapp", "call", "same port")


def test_same_port_tells_more_than_a_port_that_a_peer_happens_to_use():
    verdict = last(CHAT, stun(subscriber_port=40_123), udp(subscriber_port=40_123, remote_port=5060))
    assert verdict.application == "whatsapp"


def test_long_call_stays_known_from_interval_to_interval():
    intervals = [
        udp(subscriber_port=40_123, start_ms=1_000_000 + 60_000 * n, end_ms=1_060_000 + 60_000 * n) for n in range(30)
    ]
    verdicts = answers(CHAT, stun(subscriber_port=40_123), *intervals)
    assert {(verdict.application, verdict.service) for verdict in verdicts[1:]} == {("whatsapp", "call")}


def test_small_flow_during_a_call_is_weakly_part_of_it():
    verdict = last(CHAT, stun(subscriber_port=40_123), udp(subscriber_port=41_000, packets_up=2, octets_up=200))
    assert (verdict.application, verdict.evidence[0].matched, verdict.confidence) == ("whatsapp", "during a call", 25)


def test_guess_during_a_call_does_not_feed_itself():
    guessed = [
        udp(subscriber_port=41_000 + n, start_ms=1_010_000 + 20_000 * n, end_ms=1_020_000 + 20_000 * n, packets_up=1)
        for n in range(5)
    ]
    verdicts = answers(CHAT, stun(subscriber_port=40_123), *guessed)
    assert [verdict.application for verdict in verdicts[2:]] == ["whatsapp", "whatsapp", None, None, None]


def test_media_follows_a_messenger_but_not_a_social_application_that_chatters():
    assert last(CHAT, udp(**STREAM)).application == "whatsapp"
    assert last(flow(server_name="www.snapchat.com"), udp(**STREAM)).application == "rtp"


def test_slow_conversation_follows_a_messenger_and_means_nothing_alone():
    slow = {"packets_up": 110, "octets_up": 20_000, "packets_down": 100, "octets_down": 18_000}
    assert (last(CHAT, udp(**slow)).application, last(CHAT, udp(**slow)).service) == ("whatsapp", "call")
    assert last(CHAT, udp(**(slow | {"packets_down": 30}))).application is None
    assert last(udp(**slow)).application is None


def test_reports_of_a_stream_follow_a_messenger_and_mean_nothing_alone():
    reports = udp(
        remote_port=45_001, subscriber_port=40_101, end_ms=1_020_000, packets_up=4, octets_up=480, packets_down=4,
        octets_down=480,
    )  # fmt: skip
    verdict = last(CHAT, reports)
    assert (verdict.application, verdict.service, verdict.confidence) == ("whatsapp", "call", 25)
    assert verdict.evidence[0].matched == "control"
    assert last(reports).application is None
    assert last(flow(server_name="www.snapchat.com"), reports).application is None


def test_media_of_a_social_application_in_its_own_network_is_a_call():
    verdict = last(flow(server_name="www.snapchat.com", remote_ip="203.0.113.1"), udp(**STREAM))
    assert (verdict.application, verdict.category, verdict.service) == ("snapchat", "voip_im", "call")


def test_media_after_sip_is_a_call_by_sip():
    verdict = last(udp(remote_port=5060, remote_ip="192.0.2.200"), udp(**STREAM))
    assert (verdict.application, verdict.service) == ("sip", "call")


def test_signalling_is_forgotten_after_two_minutes():
    late = stun(start_ms=1_010_000 + 121_000, end_ms=1_140_000)
    assert last(CHAT, late).application == "stun"


def test_same_flow_without_its_name_in_a_later_interval_is_the_same_application():
    named = flow(server_name="www.netflix.com", subscriber_port=50_001)
    verdict = last(named, flow(subscriber_port=50_001, start_ms=1_060_000, end_ms=1_070_000))
    assert (verdict.application, verdict.evidence[0].matched) == ("netflix", "same flow")


def test_another_nameless_web_flow_to_the_same_server_is_not():
    assert last(flow(server_name="www.netflix.com"), flow(subscriber_port=50_002)).application is None


def test_other_ports_of_the_server_are():
    verdict = last(flow(server_name="www.netflix.com"), flow(subscriber_port=50_002, remote_port=9_000))
    assert (verdict.application, verdict.evidence[0].matched) == ("netflix", "same server")


def test_server_that_also_serves_something_else_says_nothing_more():
    verdict = last(
        flow(server_name="www.youtube.com"),
        flow(server_name="www.google.com"),
        flow(subscriber_port=50_002, remote_port=9_000),
    )
    assert verdict.reason == "no_evidence"


def test_group_address_is_nobodys_peer():
    assert last(CHAT, stun(), udp(remote_ip="239.255.255.250")).application is None


def test_another_subscriber_is_another_story():
    assert last(CHAT, stun(subscriber_id="s-2")).application == "stun"


def test_after_a_restart_a_call_is_still_a_call_but_nobodys():
    before, after = answers(CHAT, stun())[-1], last(stun())
    assert (before.application, after.application) == ("whatsapp", "stun")
    assert before.category == after.category == "voip_im"
    assert before.service == after.service == "call"
    assert after.confidence < before.confidence


def rated_as(category, *, without=None):
    changed = [item.model_copy(update={"category": category}) for item in APPLICATIONS if item.id != without]
    return Classifier(changed, cache_entries=1_000)


def test_new_version_of_the_catalogue_takes_the_trail_over():
    memory = SubscriberMemory()
    answers(CHAT, stun(subscriber_port=40_123), memory=memory)
    verdict = rated_as("other").classify(udp(subscriber_port=40_123), memory)
    assert (verdict.application, verdict.service, verdict.category) == ("whatsapp", "call", "other")


def test_application_that_the_new_version_dropped_is_forgotten():
    memory = SubscriberMemory()
    answers(CHAT, stun(subscriber_port=40_123), memory=memory)
    judge = rated_as("voip_im", without="whatsapp")
    seen = [judge.classify(udp(subscriber_port=port), memory) for port in (40_123, 40_124)]
    seen += [judge.classify(flow(remote_ip=CHAT.remote_ip, subscriber_port=CHAT.subscriber_port), memory)]
    assert {verdict.application for verdict in seen} == {None}


@pytest.mark.parametrize("bound", ["names", "servers", "ports", "applications"])
def test_memory_without_room_is_refused(bound):
    with pytest.raises(ValueError, match=bound):
        SubscriberMemory(**{bound: 0})


def test_one_subscribers_trail_is_bounded():
    memory = SubscriberMemory(names=3, servers=3, ports=3, applications=1)
    answers(
        *(flow(server_name="t.me", remote_ip=f"203.0.113.{n}") for n in range(20)),
        *(stun(subscriber_port=40_000 + n) for n in range(20)),
        CHAT,
        memory=memory,
    )
    trail = memory.trail_of("s-1")
    assert (len(trail.servers), len(trail._ports), len(trail._signals)) == (3, 3, 1)
    assert "203.0.113.0" not in trail.servers
