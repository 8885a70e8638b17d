"""A catalogue small enough to read, and flows to vary, for the tests of classification."""

from schemas.catalogue import Application, Pfd
from schemas.flow import FlowRecord
from services.engine.classify import Classifier, SubscriberMemory

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
        id="youtube", name="YouTube", provider="Google", category="streaming",
        pfds=(
            Pfd(pfd_id="names", domain_names=("youtube.com",)),
            Pfd(pfd_id="upload", service="upload", domain_names=("upload.youtube.com",)),
        ),
    ),
    Application(
        id="google", name="Google", provider="Google", category="other",
        pfds=(Pfd(pfd_id="names", domain_names=("google.com",)),),
    ),
    Application(
        id="media", name="Media over HTTP", category="streaming", subcategory="media_protocol",
        pfds=(Pfd(pfd_id="content", content_types=("video/",), user_agents=("VLC/",)),),
    ),
    Application(
        id="rtp", name="RTP", category="voip_im", subcategory="media_plane",
        pfds=(Pfd(pfd_id="voice", service="call", behaviours=("voice_codec", "voice")),),
    ),
    Application(
        id="television", name="Multicast television", category="streaming",
        pfds=(Pfd(pfd_id="ts", service="live", behaviours=("mpeg_ts",)),),
    ),
    Application(
        id="snapchat", name="Snapchat", provider="Snap", category="social", media_service="call",
        media_category="voip_im",
        pfds=(
            Pfd(pfd_id="names", domain_names=("snapchat.com",)),
            Pfd(pfd_id="call", service="call", category="voip_im", domain_names=("addlive.io",)),
        ),
    ),
    Application(
        id="icmp", name="ICMP", category="other", subcategory="protocol",
        pfds=(Pfd(pfd_id="protocol", ip_protocols=(1,)),),
    ),
    Application(
        id="partner", name="Partner", provider="Partner", category="streaming",
        pfds=(
            Pfd(
                pfd_id="flows", source="partner: agreed 2026",
                flow_descriptions=("permit out tcp from 192.0.2.0/24 443 to assigned",),
            ),
        ),
    ),
    Application(
        id="sip", name="SIP", category="voip_im", subcategory="signalling", media_service="call",
        pfds=(Pfd(pfd_id="ports", ports=("udp/5060", "tcp/5060")),),
    ),
]  # fmt: skip


def flow(**fields):
    """A nameless TCP flow of subscriber s-1 to port 443, unless told otherwise."""
    base = {
        "version": "1.0", "record_id": "r-1", "subscriber_id": "s-1", "exporter_id": "e-1", "start_ms": 1_000_000,
        "end_ms": 1_010_000, "ip_protocol": 6, "subscriber_ip": "10.0.0.1", "subscriber_port": 50_000,
        "remote_ip": "198.51.100.9", "remote_port": 443, "octets_up": 1_000, "octets_down": 9_000,
        "packets_up": 10, "packets_down": 12,
    }  # fmt: skip
    return FlowRecord(**(base | fields))


def classifier(*more):
    """A classifier over the small catalogue and `more` applications."""
    return Classifier([*APPLICATIONS, *more], cache_entries=1_000)


def answers(*flows, memory=None):
    """The verdicts over a subscriber's flows, one after the other."""
    judge, memory = classifier(), memory or SubscriberMemory()
    return [judge.classify(item, memory) for item in flows]


def last(*flows):
    """The verdict over the last of a subscriber's flows."""
    return answers(*flows)[-1]
