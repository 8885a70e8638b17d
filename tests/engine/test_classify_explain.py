import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import Application, Pfd
from schemas.flow import DnsAnswer
from services.engine.classify import SubscriberMemory
from services.engine.classify_explain import NO_ADDRESS, asked_flow, explain, told_flow
from tests.engine.classify_world import APPLICATIONS, classifier, flow

JUDGE = classifier()
BY_ID = {item.id: item for item in APPLICATIONS}


def explained(record, verdict=None):
    return explain(
        record,
        verdict or JUDGE.classify(record),
        classifier=JUDGE,
        applications=BY_ID,
        catalogue_version="v1",
    )


def told(record):
    return [f"{label}: {text}" for label, text in explained(record).told()]


def test_the_decider_is_named_with_its_entry_and_confidence():
    assert told(flow(server_name="WWW.Netflix.com.")) == [
        "verdict: streaming / netflix (Netflix), confidence 90",
        "decided: server name 'www.netflix.com' (netflix.com): netflix, 90",
        "in vain: address '198.51.100.9' lies in no listed prefix",
        "in vain: port tcp/443 is no application's own",
        "catalogue: v1",
    ]


def test_losers_and_those_who_agree_are_told_apart():
    record = flow(
        server_name="mmg.whatsapp.net", http_host="whatsapp.com", remote_ip="157.240.1.1", http_user_agent="VLC/3"
    )
    assert [item.role for item in explained(record).weighed] == ["decided", "agrees", "outweighed", "outweighed"]
    assert "agrees: HTTP host 'whatsapp.com': whatsapp, 88" in told(record)
    assert "outweighed: address '157.240.1.1' (157.240.0.0/16): facebook, 60" in told(record)


def test_a_suspect_verdict_says_who_contradicts():
    record = flow(server_name="netflix.com", dns_name="www.telegram.org", remote_ip="91.108.4.7")
    lines = told(record)
    assert "contradicts: DNS name 'www.telegram.org' (telegram.org): telegram, 75" in lines
    assert (
        "suspect: DNS name 'www.telegram.org' points at telegram (Telegram); "
        "address '91.108.4.7' points at telegram (Telegram): 50 % of the confidence is left"
    ) in lines


def test_an_address_that_was_not_counted_can_still_contradict():
    pfd = Pfd(pfd_id="net", prefixes=("203.0.113.0/24",), shared=True)
    hosted = Application(id="hosted", name="Hosted", provider="Host", category="social", pfds=(pfd,))
    judge, applications = classifier(hosted), {**BY_ID, "hosted": hosted}
    record = flow(server_name="netflix.com", remote_ip="203.0.113.5")
    verdict = judge.classify(record)
    found = explain(record, verdict, classifier=judge, applications=applications, catalogue_version="v1")
    assert verdict.suspect
    assert found.disputes == ("address '203.0.113.5' lies in 203.0.113.0/24 of hosted (Host)",)


def test_a_system_that_contradicts_is_told():
    owned = Application(
        id="owned", name="Owned", provider="Owner", category="other", pfds=(Pfd(pfd_id="as", as_numbers=(2906,)),)
    )
    judge, applications = classifier(owned), {**BY_ID, "owned": owned}

    def lines(**fields):
        record = flow(**fields)
        verdict = judge.classify(record)
        found = explain(record, verdict, classifier=judge, applications=applications, catalogue_version="v1")
        return [f"{label}: {text}" for label, text in found.told()]

    spoofed = lines(server_name="netflix.com", remote_as=2906)
    assert "outweighed: autonomous system 'AS2906': owned, 52" in spoofed
    assert "suspect: address '198.51.100.9' lies in AS2906 of owned (Owner): 50 % of the confidence is left" in spoofed
    assert "in vain: address '198.51.100.9' lies in AS2906 of owned, not enough alone" in lines(remote_as=2906)
    assert "in vain: autonomous system 'AS64500' is not in the catalogue" in lines(remote_as=64500)


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({}, {"verdict: other, no application: nothing in the record points anywhere"}),
        ({"server_name": "two words"}, {"no say: server name 'two words' is no host name"}),
        ({"server_name": ""}, {"in vain: server name '' is empty"}),
        ({"server_name": "site.example"}, {"no say: server name 'site.example' is not listed"}),
        (
            {"server_name": "d1.cloudfront.net"},
            {"no say: server name 'd1.cloudfront.net' is covered by cloudfront.net, which does not decide alone"},
        ),
        (
            {"server_name": "cloudflare-ech.com"},
            {"verdict: other, no application: the client hello is encrypted; only its outer name was seen"},
        ),
        ({"http_host": "192.0.2.1:80"}, {"in vain: HTTP host '192.0.2.1:80' is no name; the address says more"}),
        (
            {"exporter_application": "ndpi:Nobody", "ja4": "t13d"},
            {
                "in vain: exporter's application 'ndpi:Nobody' is not in the catalogue",
                "in vain: JA4 't13d' only backs a shared name",
            },
        ),
        (
            {"remote_ip": "157.240.1.1"},
            {"in vain: address '157.240.1.1' lies in 157.240.0.0/16 of facebook, not enough alone"},
        ),
        (
            {"remote_port": 53, "ip_protocol": 17, "dns_name": "netflix.com", "dns_answers": ()},
            {
                "verdict: other / dns (DNS), service dns, confidence 30",
                "no say: DNS name 'netflix.com' is covered by netflix.com of netflix",
                "in vain: a DNS query counts as DNS, whoever is asked for",
            },
        ),
    ],
)  # fmt: skip
def test_what_says_nothing_says_why(fields, lines):
    assert lines <= set(told(flow(**fields)))


def test_a_backed_shared_name_is_told_once():
    record = flow(server_name="tenant.cloudfront.example", ja4="t13d1516h2_netflix")
    assert [item.role for item in explained(record).weighed] == ["decided"]


def test_the_recent_past_is_told():
    memory = SubscriberMemory()
    answer = (DnsAnswer(address="203.0.113.5", ttl_s=300),)
    JUDGE.classify(flow(remote_port=53, dns_name="netflix.com", dns_answers=answer), memory)
    record = flow(remote_ip="203.0.113.5")
    lines = [text for _, text in explained(record, JUDGE.classify(record, memory)).told()]
    assert "DNS name 'netflix.com': netflix, 75" in lines


@pytest.mark.parametrize("text", ["\x1b[2Jevil", "a\nb", "名前!", "x" * 255])
def test_no_text_from_outside_reaches_the_terminal_as_it_is(text):
    lines = told(flow(server_name=text, http_user_agent=text))
    assert all(line.isprintable() and line.isascii() and len(line) < 200 for line in lines)


NAMES = st.sampled_from(
    [None, "netflix.com", "www.whatsapp.com", "t.me", "d1.cloudfront.net", "tenant.cloudfront.example", "site.example",
     "cloudflare-ech.com", "192.0.2.1", ""]
)  # fmt: skip


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "server_name": NAMES, "http_host": NAMES, "dns_name": NAMES,
            "remote_ip": st.sampled_from(["157.240.1.1", "91.108.4.7", "192.0.2.7", "198.51.100.9", "nonsense"]),
            "remote_port": st.sampled_from([80, 443, 5222, 3478]), "ip_protocol": st.sampled_from([1, 6, 17]),
            "exporter_application": st.sampled_from([None, "ndpi:WhatsApp", "facebook"]),
        }
    )
)  # fmt: skip
def test_a_verdict_is_suspect_exactly_when_the_explanation_says_who_contradicts(fields):
    record = flow(**fields)
    found = explained(record)
    assert bool(found.disputes) == found.classification.suspect
    roles = [item.role for item in found.weighed]
    assert roles.count("decided") == (found.classification.application is not None)
    assert {item.evidence for item in found.weighed} <= set(found.classification.evidence)
    assert {(item.kind, item.value) for item in found.classification.evidence} == {
        (item.evidence.kind, item.evidence.value) for item in found.weighed
    }


def test_a_question_holds_nothing_but_what_was_asked():
    record = asked_flow(server_name="netflix.com")
    assert (record.remote_ip, record.remote_port, record.ip_protocol) == (NO_ADDRESS, 443, 6)
    assert JUDGE.classify(record).application == "netflix"
    assert not any("address" in line for line in told(record))


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"remote_ip": "192.0.2.1"}, "tcp to 192.0.2.1:443"),
        ({"remote_ip": "2001:db8::1", "ip_protocol": 17}, "udp to [2001:db8::1]:443"),
        ({"ip_protocol": 50, "remote_port": 0}, "protocol 50 to port 0"),
    ],
)
def test_the_far_side_is_told_in_short(asked, text):
    assert told_flow(asked_flow(**asked)) == text
