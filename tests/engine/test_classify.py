import pytest

from schemas.catalogue import Application, Pfd
from schemas.flow import FlowRecord
from services.engine.classify import Classifier

APPLICATIONS = [
    Application(
        id="whatsapp", name="WhatsApp", provider="Meta", category="voip_im", media_service="call",
        exporter_ids=("ndpi:WhatsApp",),
        pfds=(
            Pfd(pfd_id="names", domain_names=("whatsapp.com", "whatsapp.net")),
            Pfd(pfd_id="files", service="files", domain_names=("mmg.whatsapp.net",)),
            Pfd(
                pfd_id="chat", service="chat",
                flow_descriptions=("permit out tcp from 157.240.0.0/16 5222 to assigned",),
            ),
            Pfd(pfd_id="call", service="call", exporter_ids=("ndpi:WhatsAppCall",)),
        ),
    ),
    Application(
        id="facebook", name="Facebook", provider="Meta", category="social",
        pfds=(Pfd(pfd_id="names", domain_names=("facebook.com",)), Pfd(pfd_id="net", prefixes=("157.240.0.0/16",))),
    ),
    Application(
        id="telegram", name="Telegram", provider="Telegram", category="voip_im", media_service="call",
        pfds=(
            Pfd(pfd_id="names", domain_names=("telegram.org", "t.me")),
            Pfd(pfd_id="net", prefixes=("91.108.4.0/22", "2001:67c:4e8::/48")),
        ),
    ),
    Application(
        id="netflix", name="Netflix", provider="Netflix", category="streaming", ja4=("t13d1516h2_netflix",),
        pfds=(
            Pfd(pfd_id="names", domain_names=("netflix.com", "nflxvideo.net")),
            Pfd(pfd_id="cdn", domain_names=("tenant.cloudfront.example",), shared=True),
        ),
    ),
    Application(
        id="cloudfront", name="CloudFront", category="other", subcategory="cdn",
        pfds=(Pfd(pfd_id="names", domain_names=("cloudfront.net",), shared=True),),
    ),
    Application(
        id="ech", name="ECH outer names", category="other", subcategory="protocol",
        pfds=(Pfd(pfd_id="names", domain_names=("cloudflare-ech.com",), public_name=True),),
    ),
    Application(
        id="dns", name="DNS", category="other", subcategory="protocol",
        pfds=(Pfd(pfd_id="ports", ports=("udp/53", "tcp/53")),),
    ),
    Application(
        id="stun", name="STUN", category="voip_im", subcategory="media_plane",
        pfds=(Pfd(pfd_id="ports", service="call", ports=("udp/3478-3481",)),),
    ),
    Application(
        id="sip", name="SIP", category="voip_im", subcategory="protocol",
        pfds=(Pfd(pfd_id="ports", ports=("udp/5060", "tcp/5060")),),
    ),
]  # fmt: skip


def flow(**fields):
    base = {
        "version": "1.0", "record_id": "r-1", "subscriber_id": "s-1", "exporter_id": "e-1", "start_ms": 1_000_000,
        "end_ms": 1_010_000, "ip_protocol": 6, "subscriber_ip": "10.0.0.1", "subscriber_port": 50_000,
        "remote_ip": "198.51.100.9", "remote_port": 443, "octets_up": 1_000, "octets_down": 9_000,
        "packets_up": 10, "packets_down": 12,
    }  # fmt: skip
    return FlowRecord(**(base | fields))


@pytest.fixture
def classifier():
    return Classifier(APPLICATIONS, cache_entries=1_000)


@pytest.mark.parametrize(
    ("fields", "application", "category", "kind"),
    [
        ({"server_name": "WEB.WhatsApp.com."}, "whatsapp", "voip_im", "server_name"),
        ({"http_host": "www.netflix.com:80"}, "netflix", "streaming", "http_host"),
        ({"dns_name": "www.telegram.org"}, "telegram", "voip_im", "dns_name"),
        ({"exporter_application": "ndpi:TLS.WhatsApp"}, "whatsapp", "voip_im", "exporter_application"),
        ({"remote_ip": "91.108.4.20", "remote_port": 8888}, "telegram", "voip_im", "address"),
        ({"remote_ip": "2001:67C:4e8:f002::a", "remote_port": 8888}, "telegram", "voip_im", "address"),
        ({"remote_ip": "157.240.3.1", "remote_port": 5222}, "whatsapp", "voip_im", "pfd"),
        ({"ip_protocol": 17, "remote_port": 5060}, "sip", "voip_im", "port"),
        ({"stun_realm": "telegram.org", "ip_protocol": 17}, "telegram", "voip_im", "stun_realm"),
    ],
)
def test_each_kind_of_evidence_decides_where_nothing_stronger_speaks(classifier, fields, application, category, kind):
    verdict = classifier.classify(flow(**fields))
    assert (verdict.application, verdict.category, verdict.evidence[0].kind) == (application, category, kind)
    assert not verdict.suspect
