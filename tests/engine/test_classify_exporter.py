import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import Application, Pfd
from services.engine.classify import Classifier
from services.engine.classify_exporter import exported
from services.engine.classify_table import Tables
from services.rating.catalogue_files import load_catalogue
from tests.engine.classify_world import APPLICATIONS, flow

TCP, UDP = 6, 17
SHIPPED = Classifier(load_catalogue().applications, cache_entries=1_000)

TABLES = Tables(
    [
        *APPLICATIONS,
        Application(
            id="video", name="Video", category="streaming", exporter_ids=("nbar:Video", "ipfix:13:82", "ipfix:20:9:77"),
        ),
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "ip_protocol", "application", "confidence"),
    [
        ("ndpi:WhatsApp", TCP, "whatsapp", 70),
        ("ndpi:TLS.WhatsApp", TCP, "whatsapp", 70),
        ("NBAR:video", TCP, "video", 70),
        ("ipfix:13:82", TCP, "video", 70),
        ("ipfix:20:9:77", TCP, "video", 70),
        ("ipfix:3:5060", UDP, "sip", 30),
        ("ipfix:1:1", 1, "icmp", 68),
    ],
)
def test_an_id_is_trusted_as_far_as_what_it_was_made_of(text, ip_protocol, application, confidence):
    trust, _, target = exported(TABLES, text, ip_protocol)
    assert (target.application, trust) == (application, confidence)


@pytest.mark.parametrize(
    "text",
    ["", ":", ".", "ndpi:", "ndpi:TLS", "whatsapp", "suricata:whatsapp", "ipfix:3:", "ipfix:3:x", "ipfix:3:-1",
     "ipfix:3:99999", "ipfix:3:5060:1", "ipfix:3:٥٠٦٠", "ipfix:1:999", "ipfix:13:83", "ipfix:4:5060",
     "ipfix:3:" + "9" * 200],
)  # fmt: skip
def test_an_id_that_nobody_listed_says_nothing(text):
    assert exported(TABLES, text, UDP) is None


@given(st.text(max_size=60) | st.from_regex(r"(ipfix:[0-9]{1,2}:[0-9:]{0,9}|ndpi:[A-Za-z.]{0,20})", fullmatch=True))
def test_any_text_has_an_answer(text):
    exported(TABLES, text, UDP)


GENERIC = (
    "ndpi:TLS", "ndpi:QUIC", "ndpi:HTTP", "ndpi:HTTP2", "ndpi:DTLS", "ndpi:Unknown", "ndpi:TLS.Unknown", "suricata:tls",
    "suricata:http", "suricata:http2", "suricata:quic", "suricata:failed", "suricata:unknown", "suricata:websocket",
    "nbar:ssl", "nbar:http", "nbar:unknown", "ipfix:3:80", "ipfix:3:443", "ipfix:1:6", "ipfix:1:17", "ipfix:13:1",
)  # fmt: skip


@pytest.mark.parametrize("text", GENERIC)
def test_a_carrier_decides_no_application(text):
    verdict = SHIPPED.classify(flow(exporter_application=text))
    assert (verdict.application, verdict.reason) == (None, "no_evidence")


@pytest.mark.parametrize("text", GENERIC)
def test_a_carrier_contradicts_no_name(text):
    verdict = SHIPPED.classify(flow(server_name="www.netflix.com", exporter_application=text))
    assert (verdict.application, verdict.suspect, verdict.confidence) == ("netflix", False, 90)


@pytest.mark.parametrize(
    ("text", "application", "category"),
    [
        ("ndpi:TLS.WhatsApp", "whatsapp", "voip_im"),
        ("ndpi:QUIC.YouTube", "youtube", "streaming"),
        ("ndpi:TLS.TikTok", "tiktok", "social"),
        ("ndpi:STUN.Zoom", "zoom", "voip_im"),
        ("suricata:sip", "sip", "voip_im"),
        ("suricata:irc", "irc", "voip_im"),
        ("suricata:bittorrent-dht", "bittorrent", "other"),
        ("nbar:youtube", "youtube", "streaming"),
        ("nbar:ms-teams-audio", "teams", "voip_im"),
        ("ipfix:13:82", "youtube", "streaming"),
        ("ipfix:3:5060", "sip", "voip_im"),
        ("ipfix:3:1935", "rtmp", "streaming"),
        ("ipfix:1:50", "ipsec", "other"),
    ],
)
def test_the_shipped_catalogue_knows_what_exporters_call_things(text, application, category):
    verdict = SHIPPED.classify(flow(exporter_application=text))
    assert (verdict.application, verdict.category) == (application, category)


def test_a_port_in_an_id_contradicts_no_name():
    verdict = SHIPPED.classify(flow(server_name="www.netflix.com", exporter_application="ipfix:3:5060"))
    assert (verdict.application, verdict.suspect) == ("netflix", False)


def test_an_entry_of_the_catalogue_goes_before_the_port():
    listed = Application(
        id="mine", name="Mine", category="other", pfds=(Pfd(pfd_id="n", exporter_ids=("ipfix:3:5060",)),)
    )
    trust, _, target = exported(Tables([*APPLICATIONS, listed]), "ipfix:3:5060", UDP)
    assert (target.application, trust) == ("mine", 70)
