import gc
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import Application, Pfd
from schemas.flow import DnsAnswer
from services.engine.classify import Classifier, SubscriberMemory
from services.engine.unknowns import UnknownNames
from tests.engine.classify_world import APPLICATIONS, classifier, flow, last

UDP = 17


@pytest.mark.parametrize(
    ("fields", "application", "category", "kind"),
    [
        ({"server_name": "WEB.WhatsApp.com."}, "whatsapp", "voip_im", "server_name"),
        ({"http_host": "www.netflix.com:80"}, "netflix", "streaming", "http_host"),
        ({"dns_name": "www.telegram.org"}, "telegram", "voip_im", "dns_name"),
        ({"exporter_application": "ndpi:TLS.WhatsApp"}, "whatsapp", "voip_im", "exporter_application"),
        ({"exporter_application": "NDPI:whatsapp"}, "whatsapp", "voip_im", "exporter_application"),
        ({"remote_ip": "91.108.4.20", "remote_port": 8888}, "telegram", "voip_im", "address"),
        ({"remote_ip": "2001:67C:4e8:f002::a", "remote_port": 8888}, "telegram", "voip_im", "address"),
        ({"remote_ip": "::ffff:91.108.4.20", "remote_port": 8888}, "telegram", "voip_im", "address"),
        ({"remote_ip": "157.240.3.1", "remote_port": 5222}, "whatsapp", "voip_im", "pfd"),
        ({"remote_ip": "192.0.2.7"}, "partner", "streaming", "pfd"),
        ({"ip_protocol": UDP, "remote_port": 5060}, "sip", "voip_im", "port"),
        ({"ip_protocol": UDP, "remote_port": 40_000, "subscriber_port": 5060}, "sip", "voip_im", "port"),
        ({"ip_protocol": 1, "remote_port": 0, "subscriber_port": 0}, "icmp", "other", "port"),
        ({"stun_realm": "telegram.org", "ip_protocol": UDP}, "telegram", "voip_im", "stun_realm"),
        ({"http_content_type": "Video/MP4", "remote_port": 80}, "media", "streaming", "content_type"),
        ({"http_user_agent": "VLC/3.0.20 LibVLC", "remote_port": 80}, "media", "streaming", "user_agent"),
    ],
)
def test_each_kind_of_evidence_decides_where_nothing_stronger_speaks(fields, application, category, kind):
    verdict = classifier().classify(flow(**fields))
    assert (verdict.application, verdict.category, verdict.evidence[0].kind) == (application, category, kind)
    assert not verdict.suspect


def test_evidence_is_kept_strongest_first():
    verdict = classifier().classify(
        flow(server_name="t.me", dns_name="t.me", exporter_application="ndpi:WhatsApp", remote_ip="91.108.4.1")
    )
    kinds = [evidence.kind for evidence in verdict.evidence]
    confidences = [evidence.confidence for evidence in verdict.evidence]
    assert kinds == ["server_name", "dns_name", "exporter_application", "address"]
    assert confidences == sorted(confidences, reverse=True)


@pytest.mark.parametrize(
    ("name", "application"),
    [
        ("whatsapp.com", "whatsapp"),
        ("notwhatsapp.com", None),
        ("whatsapp.com.evil.example", None),
        ("mmg.whatsapp.net", "whatsapp"),
    ],
)
def test_names_match_on_label_boundaries(name, application):
    assert classifier().classify(flow(server_name=name)).application == application


def test_longest_name_gives_the_service():
    assert classifier().classify(flow(server_name="x.mmg.whatsapp.net")).service == "files"
    assert classifier().classify(flow(server_name="web.whatsapp.net")).service is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "no_evidence"),
        ({"server_name": "www.unlisted.example"}, "name_not_listed"),
        ({"server_name": "two words"}, "name_not_listed"),
        ({"server_name": "d1.cloudfront.net"}, "shared_cdn"),
        ({"server_name": "x.tenant.cloudfront.example"}, "shared_cdn"),
        ({"server_name": "cloudflare-ech.com"}, "encrypted_client_hello"),
        ({"server_name": "198.51.100.9"}, "no_evidence"),
    ],
)
def test_unknown_is_other_and_says_why(fields, reason):
    verdict = classifier().classify(flow(**fields))
    assert (verdict.category, verdict.application, verdict.confidence, verdict.reason) == ("other", None, 0, reason)


def test_silent_names_stay_in_the_explanation():
    verdict = classifier().classify(flow(server_name="d1.cloudfront.net"))
    assert [(item.value, item.matched, item.confidence) for item in verdict.evidence] == [
        ("d1.cloudfront.net", "cloudfront.net", 0)
    ]


class TestSharedNames:
    @pytest.mark.parametrize(
        "beside",
        [
            {"dns_name": "www.netflix.com"},
            {"ja4": "t13d1516h2_netflix"},
        ],
    )
    def test_shared_name_counts_beside_something_else_of_the_application(self, beside):
        verdict = classifier().classify(flow(server_name="tenant.cloudfront.example", **beside))
        assert verdict.application == "netflix"

    def test_shared_name_counts_when_the_application_was_used_just_before(self):
        verdict = last(
            flow(server_name="api.netflix.com"),
            flow(server_name="tenant.cloudfront.example", remote_ip="198.51.100.77"),
        )
        assert (verdict.application, verdict.confidence) == ("netflix", 50)

    def test_ja4_of_another_application_backs_nothing(self):
        verdict = classifier().classify(flow(server_name="tenant.cloudfront.example", ja4="t13d1516h2_other"))
        assert verdict.application is None

    def test_ja4_alone_never_decides(self):
        assert classifier().classify(flow(ja4="t13d1516h2_netflix")).application is None

    def test_delivery_network_is_never_backed(self):
        assert (
            classifier().classify(flow(server_name="d1.cloudfront.net", dns_name="d1.cloudfront.net")).application
            is None
        )

    def test_url_with_a_path_counts_like_a_shared_name(self):
        free = Application(
            id="free", name="Free", category="streaming",
            pfds=(Pfd(pfd_id="urls", urls=("https://www.free.example/video/",)),),
        )  # fmt: skip
        assert classifier(free).classify(flow(server_name="www.free.example")).reason == "shared_cdn"


class TestSuspicion:
    @pytest.mark.parametrize(
        "fields",
        [
            {"server_name": "www.whatsapp.com", "remote_ip": "91.108.4.9"},
            {"server_name": "www.whatsapp.com", "dns_name": "www.netflix.com"},
            {"server_name": "www.whatsapp.com", "http_host": "www.netflix.com"},
            {"server_name": "www.netflix.com", "exporter_application": "ndpi:WhatsApp"},
            {"server_name": "www.netflix.com", "remote_ip": "192.0.2.9"},
        ],
        ids=["address", "dns", "fronting", "exporter", "provided"],
    )
    def test_contradiction_is_suspect_and_halves_the_confidence(self, fields):
        verdict = classifier().classify(flow(**fields))
        assert verdict.suspect
        assert verdict.confidence == verdict.evidence[0].confidence // 2

    @pytest.mark.parametrize(
        "fields",
        [
            {"server_name": "www.whatsapp.com", "remote_ip": "157.240.3.1"},
            {"server_name": "www.whatsapp.com", "dns_name": "www.facebook.com"},
            {"server_name": "www.netflix.com", "dns_name": "d1.cloudfront.net"},
            {"server_name": "www.netflix.com", "dns_name": "unlisted.example"},
            {"server_name": "www.whatsapp.com", "ip_protocol": UDP, "remote_port": 5060},
        ],
        ids=["same company's address", "same company's name", "delivery network", "unlisted", "weak"],
    )
    def test_what_goes_together_is_not_suspect(self, fields):
        assert not classifier().classify(flow(**fields)).suspect

    def test_suspect_flow_teaches_nothing(self):
        cheat = flow(server_name="www.whatsapp.com", remote_ip="91.108.4.9", ip_protocol=UDP, remote_port=4000)
        assert last(cheat, flow(remote_ip="91.108.4.9", ip_protocol=UDP, remote_port=4000)).application == "telegram"


class TestAddresses:
    def test_nameless_web_flow_is_not_decided_by_its_address(self):
        verdict = classifier().classify(flow(remote_ip="157.240.3.1", remote_port=443))
        assert (verdict.application, verdict.reason) == (None, "no_evidence")

    def test_address_decides_where_the_name_is_only_unlisted(self):
        verdict = classifier().classify(flow(remote_ip="157.240.3.1", server_name="edge.unlisted.example"))
        assert verdict.application == "facebook"

    def test_rule_for_a_protocol_and_port_needs_both(self):
        judge = classifier()
        assert judge.classify(flow(remote_ip="157.240.3.1", remote_port=5223)).application == "facebook"
        udp = flow(remote_ip="157.240.3.1", remote_port=5222, ip_protocol=UDP)
        assert judge.classify(udp).application == "facebook"

    def test_bad_address_is_no_evidence(self):
        assert classifier().classify(flow(remote_ip="not an address")).reason == "no_evidence"


class TestSystems:
    """Autonomous systems: as prefixes, and weaker."""

    OWNED = Application(
        id="owned", name="Owned", provider="Owner", category="streaming",
        pfds=(Pfd(pfd_id="systems", as_numbers=(2906, 4_200_000_001)),),
    )  # fmt: skip
    HOSTING = Application(
        id="hosting", name="Hosting", provider="Host", category="social",
        pfds=(
            Pfd(pfd_id="names", domain_names=("hosting.example",)),
            Pfd(pfd_id="systems", as_numbers=(15169,), shared=True),
        ),
    )  # fmt: skip

    def verdict(self, **fields):
        return classifier(self.OWNED, self.HOSTING).classify(flow(**fields))

    @pytest.mark.parametrize("number", [2906, 4_200_000_001])
    def test_a_system_decides_where_nothing_stronger_speaks(self, number):
        verdict = self.verdict(remote_as=number, remote_port=8888)
        evidence = verdict.evidence[0]
        assert (verdict.application, evidence.kind, evidence.value) == ("owned", "asn", f"AS{number}")
        assert 30 < verdict.confidence < 60

    @pytest.mark.parametrize("number", [None, 0, 1, 15169])
    def test_an_unknown_or_shared_system_decides_nothing(self, number):
        assert self.verdict(remote_as=number, remote_port=8888).reason == "no_evidence"

    def test_a_nameless_web_flow_is_not_decided_by_its_system(self):
        assert self.verdict(remote_as=2906, remote_port=443).reason == "no_evidence"
        assert self.verdict(remote_as=2906, server_name="edge.unlisted.example").application == "owned"

    def test_a_prefix_and_every_name_go_before_the_system(self):
        assert self.verdict(remote_as=2906, remote_ip="91.108.4.20", remote_port=8888).application == "telegram"
        assert self.verdict(remote_as=2906, dns_name="t.me").application == "telegram"

    def test_a_port_comes_after_the_system(self):
        assert self.verdict(remote_as=2906, ip_protocol=UDP, remote_port=5060).application == "owned"

    def test_a_name_of_another_company_is_suspect(self):
        verdict = self.verdict(remote_as=2906, server_name="www.whatsapp.com")
        assert (verdict.application, verdict.suspect, verdict.confidence) == ("whatsapp", True, 45)

    def test_a_shared_system_contradicts_nobody_and_backs_its_own(self):
        assert not self.verdict(remote_as=15169, server_name="www.whatsapp.com").suspect
        backed = self.verdict(remote_as=15169, dns_name="hosting.example")
        assert [(item.kind, item.confidence) for item in backed.evidence] == [("dns_name", 75), ("asn", 50)]

    def test_the_prefix_says_whose_address_it_is_where_both_are_known(self):
        verdict = self.verdict(remote_as=2906, remote_ip="91.108.4.20", server_name="t.me")
        assert not verdict.suspect

    def test_the_verdict_of_one_system_is_not_kept_for_another(self):
        judge = classifier(self.OWNED)
        answers = [
            judge.classify(flow(remote_as=number, remote_port=8888)).application for number in (1, 2906, 2, 2906)
        ]
        assert answers == [None, "owned", None, "owned"]


class TestDnsFlows:
    def query(self, name, *answers, ttl_s=300, **fields):
        found = tuple(DnsAnswer(address=address, ttl_s=ttl_s) for address in answers)
        times = {"start_ms": 1_000_000, "end_ms": 1_000_000} | fields
        return flow(ip_protocol=UDP, remote_port=53, dns_name=name, dns_answers=found, **times)

    def test_query_is_dns_whoever_was_asked_for(self):
        verdict = classifier().classify(self.query("www.whatsapp.com"))
        assert (verdict.category, verdict.application, verdict.service) == ("other", "dns", "dns")
        assert verdict.evidence[-1].application == "whatsapp"

    def test_answers_over_another_port_are_dns_too(self):
        verdict = classifier().classify(flow(remote_port=853, dns_name="www.whatsapp.com", dns_answers=()))
        assert verdict.service == "dns"

    @pytest.mark.parametrize("address", ["203.0.113.5", "2001:DB8::5"])
    def test_answer_names_the_flows_that_follow(self, address):
        verdict = last(self.query("www.netflix.com", address), flow(remote_ip=address.lower(), start_ms=1_000_500))
        assert (verdict.application, verdict.evidence[0].kind) == ("netflix", "dns_name")

    @pytest.mark.parametrize(
        ("ttl_s", "later_ms", "application"),
        [(300, 299_000, "netflix"), (300, 301_000, None), (1, 59_000, "netflix"), (1, 61_000, None),
         (86_400, 3_599_000, "netflix"), (86_400, 3_601_000, None)],
    )  # fmt: skip
    def test_answer_lives_as_long_as_its_ttl_between_a_minute_and_an_hour(self, ttl_s, later_ms, application):
        late = flow(remote_ip="203.0.113.5", start_ms=1_000_000 + later_ms, end_ms=1_000_000 + later_ms)
        assert last(self.query("www.netflix.com", "203.0.113.5", ttl_s=ttl_s), late).application == application

    def test_newest_answer_wins(self):
        verdict = last(
            self.query("www.netflix.com", "203.0.113.5"),
            self.query("t.me", "203.0.113.5"),
            flow(remote_ip="203.0.113.5"),
        )
        assert verdict.application == "telegram"

    def test_answer_from_the_future_is_not_believed(self):
        early = flow(remote_ip="203.0.113.5", start_ms=100_000, end_ms=200_000)
        assert last(self.query("www.netflix.com", "203.0.113.5"), early).application is None

    def test_another_subscriber_learns_nothing(self):
        other = flow(remote_ip="203.0.113.5", subscriber_id="s-2")
        assert last(self.query("www.netflix.com", "203.0.113.5"), other).application is None

    def test_lost_memory_costs_the_evidence_not_the_verdict(self):
        asked, named = self.query("www.netflix.com", "203.0.113.5"), flow(remote_ip="203.0.113.5")
        judge, memory = classifier(), SubscriberMemory()
        judge.classify(asked, memory)
        assert judge.classify(named, memory).application == "netflix"
        assert judge.classify(named, SubscriberMemory()).reason == "no_evidence"

    def test_lost_memory_lets_a_false_name_pass_that_only_it_would_have_contradicted(self):
        asked = self.query("www.netflix.com", "203.0.113.5")
        false = flow(server_name="www.whatsapp.com", remote_ip="203.0.113.5")
        assert last(asked, false).suspect
        assert not last(false).suspect

    @given(
        st.lists(
            st.tuples(st.sampled_from(["t.me", "x.example", "\0"]), st.text(max_size=12) | st.ip_addresses().map(str),
                      st.integers(0, 2**31 - 1), st.integers(0, 10**9)),
            max_size=40,
        )
    )  # fmt: skip
    def test_any_answers_are_taken_in_and_the_trail_stays_bounded(self, answered):
        judge, memory = classifier(), SubscriberMemory(names=4)
        for name, address, ttl_s, start_ms in answered:
            asked = self.query(name, address[:45], ttl_s=ttl_s, start_ms=start_ms, end_ms=start_ms + 5)
            assert judge.classify(asked, memory).service == "dns"
        assert len(memory.trail_of("s-1").names) <= 4


class TestServices:
    def test_upload_is_known_by_name_or_by_its_counters(self):
        judge = classifier()
        assert judge.classify(flow(server_name="upload.youtube.com")).service == "upload"
        sent = flow(server_name="www.youtube.com", octets_up=5_000_000, octets_down=100_000)
        assert judge.classify(sent).service == "upload"
        assert judge.classify(flow(server_name="www.youtube.com", octets_down=5_000_000)).service is None

    def test_call_inside_a_social_application_is_voip(self):
        verdict = classifier().classify(flow(server_name="str1.addlive.io"))
        assert (verdict.application, verdict.category, verdict.service) == ("snapchat", "voip_im", "call")


@given(st.permutations(APPLICATIONS))
def test_order_of_the_catalogue_never_matters(applications):
    flows = [
        flow(server_name="www.whatsapp.com"), flow(remote_ip="157.240.3.1", remote_port=5222),
        flow(ip_protocol=UDP, remote_port=3478), flow(remote_ip="91.108.4.1", server_name="www.netflix.com"),
    ]  # fmt: skip
    judge = Classifier(applications, cache_entries=10)
    assert [judge.classify(item) for item in flows] == [classifier().classify(item) for item in flows]


def test_a_description_without_an_address_is_a_port_whoever_provides_it():
    greedy = Application(
        id="greedy", name="Greedy", category="other",
        pfds=(Pfd(pfd_id="f", source="partner", flow_descriptions=("permit out tcp from any 443 to assigned",)),),
    )  # fmt: skip
    verdict = classifier(greedy).classify(flow())
    assert (verdict.application, verdict.confidence) == ("greedy", 30)
    assert classifier(greedy).classify(flow(server_name="www.netflix.com")).application == "netflix"


def test_equal_entries_go_to_the_provided_one():
    twin = Application(id="aaa", name="Aaa", category="other", pfds=(Pfd(pfd_id="n", domain_names=("twin.example",)),))
    mine = Application(
        id="zzz", name="Zzz", category="social",
        pfds=(Pfd(pfd_id="n", domain_names=("twin.example",), source="operator"),),
    )  # fmt: skip
    assert classifier(twin, mine).classify(flow(server_name="twin.example")).application == "zzz"


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "server_name": st.sampled_from(["www.whatsapp.com", "unlisted.example", "d1.cloudfront.net", "", "\0"]),
            "http_host": st.sampled_from(["www.netflix.com:80", "198.51.100.9", "[2001:db8::1]:80"]),
            "dns_name": st.sampled_from(["t.me", "unlisted.example"]),
            "stun_realm": st.sampled_from(["telegram.org", "realm"]),
            "remote_ip": st.sampled_from(["157.240.3.1", "91.108.4.1", "224.0.0.1", "2001:db8::1", "bad"]),
            "remote_port": st.sampled_from([0, 53, 80, 443, 3478, 5060, 40_000]),
            "subscriber_port": st.sampled_from([0, 53, 5060, 50_000]),
            "ip_protocol": st.sampled_from([1, 6, 17, 255]),
            "packets_up": st.integers(0, 2**63 - 1),
            "octets_up": st.integers(0, 2**63 - 1),
            "end_ms": st.integers(1_000_000, 10**12),
        },
    )
)
def test_cached_verdict_is_the_verdict(fields):
    one, judge, memory = flow(**fields), classifier(), SubscriberMemory()
    fresh = judge.classify(one, memory)
    assert judge.classify(one, SubscriberMemory()) == fresh
    assert 0 <= fresh.confidence <= 100
    assert (fresh.application is None) == (fresh.reason is not None)


def test_random_names_and_addresses_do_not_grow_the_process():
    judge, numbers = Classifier(APPLICATIONS, cache_entries=100), random.Random(7)
    memory = SubscriberMemory(subscribers=10, names=4, servers=4, ports=4, applications=2)
    for turn in range(5_000):
        octets = numbers.randbytes(3)
        name = octets.hex()
        judge.classify(
            flow(
                subscriber_id=f"s-{turn % 97}", server_name=f"{name}.whatsapp.com", http_user_agent=name,
                remote_ip=f"203.{octets[0]}.{octets[1]}.{octets[2]}", subscriber_port=turn,
            ),
            memory,
        )  # fmt: skip
    for cache in (judge._names, judge._addresses, judge._records, judge._hints):
        assert cache.total() <= 100
    assert memory.total() <= 10


def test_memory_stands_still_after_the_caches_are_full():
    """However many names follow: what a lane holds after twice eight fillings is what it held after eight."""
    judge, numbers, unknown = Classifier(APPLICATIONS, cache_entries=200), random.Random(7), UnknownNames(64)
    memory = SubscriberMemory(subscribers=20, names=4, servers=4, ports=4, applications=2)

    def flood(count):
        for _ in range(count):
            octets = numbers.randbytes(24)
            name = f"{octets.hex()}.{numbers.choice(['whatsapp.com', 'example'])}"
            address = f"203.{octets[0]}.{octets[1]}.{octets[2]}"
            answer = (DnsAnswer(address=address, ttl_s=60),)
            fields = {"subscriber_id": octets.hex()[:8], "remote_ip": address}
            judge.classify(flow(dns_name=name, dns_answers=answer, remote_port=53, **fields), memory)
            one = flow(server_name=name, http_user_agent=name, stun_realm=name, ip_protocol=UDP, remote_as=7, **fields)
            unknown.add("e", judge.classify(one, memory), 1)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        held = [flood(1_600) for _ in range(4)]
    finally:
        tracemalloc.stop()
    assert max(held[1:]) < 1.1 * held[0]


@pytest.mark.parametrize("entries", [-1, 0, 1])
def test_cache_without_room_is_refused(entries):
    with pytest.raises(ValueError, match="at least 2"):
        Classifier(APPLICATIONS, cache_entries=entries)
