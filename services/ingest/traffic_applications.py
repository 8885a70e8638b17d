"""What the traffic generator knows of well-known applications: their names on the wire, their ports, their usual size.

It stands for the internet, not for the catalogue: nothing here is read by classification, and the names are what
handsets really ask for, so that the catalogue is tried against them.
"""

import dataclasses

from schemas.fields import Category


@dataclasses.dataclass(frozen=True)
class Network:
    """Where servers of a provider live: a /16 of IPv4 and a /48 of IPv6, as text up to the host part."""

    ipv4: str
    ipv6: str


META = Network("157.240", "2a03:2880:f1ff")
GOOGLE = Network("142.250", "2a00:1450:4001")
APPLE = Network("17.253", "2620:149:a44")
MICROSOFT = Network("52.112", "2603:1063:10")
AMAZON = Network("52.85", "2600:9000:2156")
NETFLIX = Network("45.57", "2a00:86c0:2060")
TELEGRAM = Network("149.154", "2001:67c:4e8")
BYTEDANCE = Network("71.18", "2605:340:cd51")
TWITTER = Network("104.244", "2606:1f80:f000")
TENCENT = Network("129.226", "2402:4e00:1430")
AKAMAI = Network("23.50", "2a02:26f0:3500")
CLOUDFLARE = Network("104.18", "2606:4700:10")
FASTLY = Network("151.101", "2a04:4e42:600")


@dataclasses.dataclass(frozen=True)
class TrafficApplication:
    """How one application looks to a probe. Shares are per mille of its flows; what is left is TLS over TCP."""

    app_id: str
    """Name for people and tests; the catalogue may call it differently."""
    category: Category
    names: tuple[str, ...]
    """Server names, the most frequent first."""
    mean_octets: int
    """Mean size of one flow, both directions."""
    network: Network
    quic: int = 300
    plain_http: int = 0
    call: int = 0
    """Flows that are a call: STUN, then media over UDP to the same server."""
    tcp_port: int = 443
    media_ports: tuple[int, int] = (3478, 3481)
    """First and last UDP port of its media relays."""
    stun_realm: str | None = None
    exporter_application: str | None = None
    """What an exporter with its own inspection calls it."""


_App = TrafficApplication

APPLICATIONS: tuple[TrafficApplication, ...] = (
    _App("youtube", "streaming", ("rr3---sn-4g5e6nsz.googlevideo.com", "rr1---sn-h0jeened.googlevideo.com",
         "www.youtube.com", "i.ytimg.com", "youtubei.googleapis.com"), 9_000_000, GOOGLE, quic=800,
         exporter_application="ndpi:QUIC.YouTube"),
    _App("whatsapp", "voip_im", ("g.whatsapp.net", "mmg.whatsapp.net", "media-fra3-1.cdn.whatsapp.net",
         "web.whatsapp.com", "static.whatsapp.net"), 180_000, META, quic=100, call=60,
         stun_realm="turn.whatsapp.net", exporter_application="ndpi:TLS.WhatsApp"),
    _App("instagram", "social", ("i.instagram.com", "scontent-fra5-1.cdninstagram.com", "graph.instagram.com",
         "www.instagram.com"), 1_400_000, META, quic=600, exporter_application="ndpi:TLS.Instagram"),
    _App("tiktok", "social", ("v16-webapp-prime.tiktok.com", "api16-normal-c-useast1a.tiktokv.com",
         "p16-sign-va.tiktokcdn.com", "www.tiktok.com", "mon-va.byteoversea.com"), 3_200_000, BYTEDANCE, quic=350,
         exporter_application="ndpi:TLS.TikTok"),
    _App("facebook", "social", ("graph.facebook.com", "scontent-fra3-2.xx.fbcdn.net", "www.facebook.com",
         "edge-mqtt.facebook.com", "static.xx.fbcdn.net"), 800_000, META, quic=500,
         exporter_application="ndpi:TLS.Facebook"),
    _App("google", "other", ("www.google.com", "www.gstatic.com", "android.clients.google.com", "play.googleapis.com",
         "fonts.gstatic.com"), 120_000, GOOGLE, quic=650, exporter_application="ndpi:TLS.Google"),
    _App("netflix", "streaming", ("ipv4-c012-fra001-ix.1.oca.nflxvideo.net", "occ-0-2773-769.1.nflxso.net",
         "www.netflix.com", "api-global.netflix.com"), 14_000_000, NETFLIX, quic=0,
         exporter_application="ndpi:TLS.NetFlix"),
    _App("telegram", "voip_im", ("venus.web.telegram.org", "web.telegram.org", "t.me", "telegram.org"),
         240_000, TELEGRAM, quic=0, call=40, media_ports=(596, 599), exporter_application="ndpi:Telegram"),
    _App("apple", "other", ("gateway.icloud.com", "init.itunes.apple.com", "gs-loc.apple.com", "swcdn.apple.com",
         "configuration.apple.com"), 300_000, APPLE, quic=150, exporter_application="ndpi:TLS.Apple"),
    _App("spotify", "streaming", ("apresolve.spotify.com", "audio-fa.scdn.co", "spclient.wg.spotify.com",
         "i.scdn.co"), 3_600_000, FASTLY, quic=0, exporter_application="ndpi:TLS.Spotify"),
    _App("messenger", "voip_im", ("edge-chat.messenger.com", "www.messenger.com", "edge-chat.facebook.com"),
         90_000, META, quic=300, call=50, stun_realm="turn.facebook.com", exporter_application="ndpi:TLS.Messenger"),
    _App("x", "social", ("api.twitter.com", "pbs.twimg.com", "video.twimg.com", "abs.twimg.com", "x.com"),
         700_000, TWITTER, quic=50, exporter_application="ndpi:TLS.Twitter"),
    _App("snapchat", "social", ("app.snapchat.com", "gcp.api.snapchat.com", "cf-st.sc-cdn.net",
         "us-east1-aws.api.snapchat.com"), 900_000, GOOGLE, quic=450, exporter_application="ndpi:TLS.Snapchat"),
    _App("amazon", "other", ("www.amazon.de", "m.media-amazon.com", "fls-eu.amazon.de"), 260_000, AMAZON, quic=50,
         exporter_application="ndpi:TLS.Amazon"),
    _App("prime_video", "streaming", ("atv-ps-eu.amazon.com", "s3-iad-ww.cf.videorolls.row.aiv-cdn.net",
         "api.eu-west-1.aiv-delivery.net"), 11_000_000, AMAZON, quic=0, exporter_application="ndpi:TLS.AmazonVideo"),
    _App("disney_plus", "streaming", ("disney.api.edge.bamgrid.com", "vod-akc-eu-central-1.media.dssott.com",
         "www.disneyplus.com"), 12_000_000, AKAMAI, quic=0, exporter_application="ndpi:TLS.DisneyPlus"),
    _App("facetime", "voip_im", ("facetime.apple.com", "init.ess.apple.com"), 70_000, APPLE, quic=0, call=350,
         exporter_application="ndpi:STUN.FaceTime"),
    _App("teams", "voip_im", ("teams.microsoft.com", "eu-api.asm.skype.com", "presence.teams.microsoft.com"),
         150_000, MICROSOFT, quic=0, call=120, stun_realm="rtcmedia", exporter_application="ndpi:TLS.Teams"),
    _App("zoom", "voip_im", ("us04web.zoom.us", "zoomfrn99mmr.fra.zoom.us", "log-gateway.zoom.us"),
         160_000, AMAZON, quic=0, call=250, media_ports=(8801, 8810), exporter_application="ndpi:TLS.Zoom"),
    _App("twitch", "streaming", ("video-weaver.fra05.hls.ttvnw.net", "gql.twitch.tv", "static-cdn.jtvnw.net",
         "www.twitch.tv"), 8_500_000, FASTLY, quic=0, exporter_application="ndpi:TLS.Twitch"),
    _App("reddit", "social", ("gateway.reddit.com", "i.redd.it", "v.redd.it", "www.reddit.com"), 900_000, FASTLY,
         quic=100, exporter_application="ndpi:TLS.Reddit"),
    _App("pinterest", "social", ("api.pinterest.com", "i.pinimg.com", "v1.pinimg.com"), 600_000, FASTLY, quic=150,
         exporter_application="ndpi:TLS.Pinterest"),
    _App("viber", "voip_im", ("secure-api.viber.com", "media.cdn.viber.com", "aloha.viber.com"), 110_000, AMAZON,
         quic=0, call=110, media_ports=(7985, 7987), exporter_application="ndpi:Viber"),
    _App("signal", "voip_im", ("chat.signal.org", "cdn.signal.org", "storage.signal.org", "sfu.voip.signal.org"),
         100_000, AMAZON, quic=0, call=80, stun_realm="turn.voip.signal.org", media_ports=(10_000, 10_010),
         exporter_application="ndpi:TLS.Signal"),
    _App("discord", "voip_im", ("gateway.discord.gg", "discord.com", "cdn.discordapp.com", "media.discordapp.net"),
         210_000, CLOUDFLARE, quic=50, call=70, media_ports=(50_000, 50_020), exporter_application="ndpi:TLS.Discord"),
    _App("skype", "voip_im", ("edge.skype.com", "api.asm.skype.com", "config.edge.skype.com"), 90_000, MICROSOFT,
         quic=0, call=140, stun_realm="skype.com", exporter_application="ndpi:TLS.Skype_Teams"),
    _App("wechat", "voip_im", ("szextshort.weixin.qq.com", "dns.weixin.qq.com", "wx.qlogo.cn"), 160_000, TENCENT,
         quic=0, plain_http=150, call=40, media_ports=(8000, 8002), exporter_application="ndpi:WeChat"),
    _App("linkedin", "social", ("www.linkedin.com", "media.licdn.com", "static.licdn.com"), 350_000, MICROSOFT,
         quic=0, exporter_application="ndpi:TLS.LinkedIn"),
    _App("line", "voip_im", ("gd2.line.naver.jp", "obs.line-apps.com", "legy-jp.line-apps.com"), 120_000, AKAMAI,
         quic=0, call=60, exporter_application="ndpi:TLS.Line"),
    _App("deezer", "streaming", ("api.deezer.com", "e-cdns-proxy-4.dzcdn.net", "live.deezer.com"), 3_200_000, AKAMAI,
         quic=0, exporter_application="ndpi:TLS.Deezer"),
    _App("soundcloud", "streaming", ("api-v2.soundcloud.com", "cf-hls-media.sndcdn.com"), 2_800_000, AMAZON, quic=0,
         exporter_application="ndpi:TLS.SoundCloud"),
    _App("apple_music", "streaming", ("amp-api.music.apple.com", "aod.itunes.apple.com", "play.itunes.apple.com"),
         3_400_000, APPLE, quic=200, exporter_application="ndpi:TLS.AppleiTunes"),
    _App("dazn", "streaming", ("dcblivedazn.akamaized.net", "api.playback.indazn.com", "www.dazn.com"), 12_000_000,
         AKAMAI, quic=0),
    _App("vimeo", "streaming", ("player.vimeo.com", "vod-adaptive-ak.vimeocdn.com"), 6_000_000, FASTLY, quic=100,
         exporter_application="ndpi:TLS.Vimeo"),
    _App("threads", "social", ("www.threads.net", "i.threads.net"), 500_000, META, quic=600),
    _App("tumblr", "social", ("www.tumblr.com", "64.media.tumblr.com"), 600_000, FASTLY, quic=50,
         exporter_application="ndpi:TLS.Tumblr"),
    _App("wikipedia", "other", ("de.wikipedia.org", "upload.wikimedia.org", "en.m.wikipedia.org"), 90_000, FASTLY,
         quic=0, exporter_application="ndpi:TLS.Wikipedia"),
    _App("microsoft", "other", ("outlook.office365.com", "login.microsoftonline.com",
         "settings-win.data.microsoft.com"), 220_000, MICROSOFT, quic=0, exporter_application="ndpi:TLS.Microsoft365"),
    _App("windows_update", "other", ("au.download.windowsupdate.com", "dl.delivery.mp.microsoft.com"), 6_000_000,
         AKAMAI, quic=0, plain_http=900, exporter_application="ndpi:HTTP.WindowsUpdate"),
    _App("steam", "other", ("cache1-fra1.steamcontent.com", "api.steampowered.com"), 9_000_000, AKAMAI, quic=0,
         plain_http=500, exporter_application="ndpi:HTTP.Steam"),
    _App("radio", "streaming", ("stream.antenne.de", "icecast.ndr.de"), 4_000_000, AKAMAI, quic=0, plain_http=600),
    _App("news", "other", ("www.spiegel.de", "www.bbc.co.uk", "www.tagesschau.de"), 400_000, FASTLY, quic=150,
         plain_http=40),
)  # fmt: skip
"""Ordered by popularity: the generator's Zipf law runs over the positions."""
