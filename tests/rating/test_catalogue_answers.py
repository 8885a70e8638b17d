"""What the shipped catalogue answers: names and flows that anybody knows, typed from knowledge of the applications."""

import pytest

from schemas.flow import FlowRecord
from services.engine.classify import Classifier, SubscriberMemory
from services.rating.catalogue_files import load_catalogue

NAMES = {
    "voip_im": """
        e1.whatsapp.net crashlogs.whatsapp.net wa.me dit.whatsapp.net graph.whatsapp.com mqtt-mini.facebook.com
        b-mqtt.facebook.com mqtt.c10r.facebook.com edge-chat.messenger.com dl-media.viber.com
        content.cdn.viber.com cdn.signal.org turn3.voip.signal.org uptime.signal.org telegram.me
        cdn4.telegram-cdn.org ui.skype.com edge.skype.com dsn4.d.skype.net login.skype.com swx.cdn.skype.com
        avatar.skype.com go.trouter.io teams.microsoft.com northeurope.notifications.teams.microsoft.com
        api3.usea-02.conv.skype.com teams.cloud.microsoft zoom.us us04web.zoom.us zoom.com.cn webex.com
        idbroker.webex.com mercury-connection-a.wbx2.com slack.com a.slack-edge.com slack-imgs.com slackb.com
        cdn.discordapp.com discord.gg russia1234.discord.media discordapp.com latency.discord.media
        gd2u.line.naver.jp d.line-scdn.net crs.line.me stickershop.line-scdn.net talk-loco.kakao.com
        kakaocdn.net up-m.talk.kakao.com katalk.kakao.com extshort.weixin.qq.com wx.qlogo.cn mmbiz.qpic.cn
        wechat.com webpush.web.wechat.com vweixinf.tc.qq.com web.qq.com w.qq.com ptlogin2.qq.com dingtalk.com
        oapi.dingtalk.com h5.dingtalk.com meet.google.com hangouts.google.com duo.google.com
        duo-pa.googleapis.com chat.google.com safe-1.threema.ch api.imo.im cdn.imoim.net imoim.net warp.imo.im
        wire.com prod-nginz-https.wire.com global.gotomeeting.com www.paltalk.com icq.com vonage.com
        adobeconnect.com bluejeans.com jitsi.org talky.io whereby.com kik-live.com bbm.com zalo.me zaloapp.com
        rocket.chat vector.im keybase.io getsession.org olvid.io teamspeak.com voip.ms voipbuster.com rebtel.com
        eitaa.com rubika.ir gap.im tamtam.chat feishu.cn larkoffice.com meeting.tencent.com
    """,
    "social": """
        www.facebook.com graph.facebook.com fbsbx.com upload.facebook.com edge-chat.instagram.com
        b.i.instagram.com telegraph-ash.instagram.com threads.net threads.com bsky.network mastodon.online
        pbs.twimg.com abs.twimg.com x.com upload.twitter.com cards-dev.twitter.com analytics.twitter.com
        twttr.com periscope.tv snapchat.com app.snapchat.com gcp.api.snapchat.com feelinsonice-hrd.appspot.com
        app-analytics.snapchat.com sc-static.net bolt-gcdn.sc-cdn.net tr.snapchat.com feelinsonice.com
        tiktok.com log.tiktokv.com api16-core-c-useast1a.tiktokv.com p16-tiktokcdn-com.akamaized.net
        log2.musical.ly tiktokcdn-us.com ibytedtos.com pull-flv-l1-mus.pstatp.com tiktokv.us api2.musical.ly
        sgsnssdk.com ttwstatic.com ttlivecdn.com ttoverseaus.net www.linkedin.com media.licdn.com lnkd.in
        px.ads.linkedin.com dms.licdn.com api.vk.com sun9-1.userapi.com vk-cdn.net userapi.com vkontakte.ru
        vk-apps.com ok.ru okcdn.ru api.weibo.cn sinaimg.cn sinajs.cn img.t.sinajs.cn pinterest.com
        www.pinterest.com pinimg.com api.pinterest.com trk.pinterest.com ct.pinterest.com reddit.com i.redd.it
        gql.reddit.com redd.it reddituploads.com a.thumbs.redditmedia.com tumblr.com api.tumblr.com
        eu1.badoo.com api.gotinder.com bumble.com grindr.mobi okcupid.com meetic.com happn.com lovoo.com
        tantanapp.com likee.video like.video kwai.com xiaohongshu.com zhihu.com quora.com bereal.com parler.com
        minds.com lemon8-app.com vero.co myspace.com staticflickr.com live.staticflickr.com 9gag.com i.imgur.com
        douyin.com taringa.net tagged.com viadeo.com ameba.jp
    """,
    "streaming": """
        youtu.be www.youtube-nocookie.com suggestqueries.youtube.com netflix.com nflxvideo.net nflxext.com
        push.prod.netflix.com spotify.com audio-fa.scdn.co scdn.co apresolve.spotify.com heads-fa.scdn.co
        pscdn.co spotilocal.com twitch.tv static-cdn.jtvnw.net gql.twitch.tv jtvnw.net live-video.net
        atv-ext.amazon.com atv-ps.amazon.com aiv-cdn.net avodmp4s3ww-a.akamaihd.net amazonvideo.com
        avoddashs3ww-a.akamaihd.net disneyplus.com disney.api.edge.bamgrid.com
        vod-bgc-eu-west-1.media.dssott.com disneystreaming.com hulu.com play.hulu.com
        http-e-darwin.hulustream.com home.hulu.com hulu.playback.edge.bamgrid.com play-edge.itunes.apple.com
        np-edge.itunes.apple.com linear.tv.apple.com itunes.apple.com radio.itunes.apple.com
        aodp-ssl.itunes.apple.com api.deezer.com live.deezer.com cdnt-stream.dzcdn.net cdn-content.deezer.com
        soundcloud.com cf-hls-media.sndcdn.com sndcdn.com i1.sndcdn.com resources.tidal.com
        audio-dc6-t1-1-v4v6.pandora.com tuner.pandora.com ws.audioscrobbler.com radiotime.com
        tunein.streamguys1.com iheart.com siriusxm.com player.siriusxm.com images2.vudu.com showtime.com sho.com
        www.sho.com showtimeanytime.com directvstream.com indazn.com intercept.dazn.com kick.com files.kick.com
        rumble.com trovo.live cache.video.iqiyi.com 71.am.com pps.tv v.qq.com kuwo.cn mmstat.youku.com ykimg.com
        bilibili.com hdslb.com mgtv.com le.com pptv.com douyu.com movetv.com cbs.com tubitv.com crunchyroll.com
        zee5.com altbalaji.com mxplay.com nowtv.com skygo.sky.com raiplay.it zdf.de arte.tv mycanal.fr
        molotov.tv mitele.es globoplay.globo.com viki.com tv2.dk npo.nl videoland.com rtbf.be orf.at smotrim.ru
        more.tv hd.kinopoisk.ru music-http-ws.sonos.com qobuz.com rhapsody.com anghami.com boomplay.com
        stitcher.com libsyn.com showmax.com osn.com beinsports.com naver.tv tving.com wavve.com coupangplay.com
        melon.com music-flo.com abema.io dmm.com paravi.jp 1tv.ru ntv.ru strem.io video.ibm.com jwpcdn.com
        jwpltx.com kaltura.com fast.wistia.net ooyala.com cdn.theplatform.com
    """,
    "other": """
        mtalk.google.com play-fe.googleapis.com fcm.googleapis.com accounts.google.com gateway.icloud.com
        p34-buy.icloud.com 1-courier.push.apple.com guzzoni.apple.com updates.cdn-apple.com
        configuration.apple.com appldnld.apple.com ocsp.apple.com onedrive.live.com
        v10.events.data.microsoft.com sharepoint.com msftconnecttest.com client.wns.windows.com
        store-images.s-microsoft.com odc.officeapps.live.com amazon.com ebay.com taobao.com shein.com
        mercadolibre.com wish.com alicdn.com amazonaws.com alexa.amazon.com dropboxstatic.com box.com
        notify.dropbox.com weather.com crashlytics.com appsflyer.com flurry.com data.flurry.com segment.io
        steampowered.com steamcommunity.com steamstatic.com epicgames.com riotgames.com leagueoflegends.com
        activision.com nvidia.com pathofexile.com gaijin.net nianticlabs.com zynga.com boosteroid.com
        blacknut.com guildwars2.com arena.net nexon.com dofus.com i3d.net surfshark.com ultrasurf.us
        torproject.org cloudflareclient.com cactusvpn.com avastsecureline.com teamviewer.com splashtop.com
        parsec.app vnc.com logmein.com disk.yandex.ru market.yandex.ru naver.com rambler.ru 163.com samsung.com
        heytap.com lge.com tuyaeu.com meethue.com ring.com sonoff.cc avg.com bitdefender.com malwarebytes.com
        speedtest.net ntop.org cloudflare-dns.com doh.cleanbrowsing.org debian.org fedoraproject.org
        archlinux.org launchpad.net ocsp.digicert.com digicert.com ocsp.pki.goog symcd.com booking.com
        fitbit.com garmin.com zendesk.com chatgpt.com notion.so canva.com grammarly.com cdn.taboola.com
        casalemedia.com amazon-adsystem.com mopub.com
    """,
}
"""Names of applications by their category, separated by blanks."""

SOMEWHERE = "203.0.113.9"
GROUP = "239.1.2.3"
TALK = {"packets_up": 500, "octets_up": 80_000, "packets_down": 480, "octets_down": 72_000}
VIDEO = {"packets_up": 900, "octets_up": 810_000, "packets_down": 950, "octets_down": 902_500}
FEW = {"packets_up": 3, "octets_up": 300, "packets_down": 2, "octets_down": 200}
TELEVISION = {"packets_down": 1_000, "octets_down": 1_344_000}


@pytest.fixture(scope="module")
def shipped():
    return Classifier(load_catalogue().applications, cache_entries=10_000)


def flow(protocol=6, remote_ip=SOMEWHERE, remote_port=443, **fields):
    base = {
        "version": "1.0", "record_id": "r-1", "subscriber_id": "s-1", "exporter_id": "e-1", "start_ms": 1_000_000,
        "end_ms": 1_010_000, "ip_protocol": protocol, "subscriber_ip": "10.0.0.1", "subscriber_port": 40_000,
        "remote_ip": remote_ip, "remote_port": remote_port, "octets_up": 900, "octets_down": 9_000, "packets_up": 9,
        "packets_down": 9,
    }  # fmt: skip
    return FlowRecord(**(base | fields))


@pytest.mark.parametrize("category", NAMES)
def test_a_name_that_anybody_knows_is_of_its_category(shipped, category):
    answers = {name: shipped.classify(flow(server_name=name)) for name in NAMES[category].split()}
    assert {name: answer.category for name, answer in answers.items() if answer.category != category} == {}
    assert [name for name, answer in answers.items() if answer.suspect] == []


@pytest.mark.parametrize(
    ("address", "port", "packets"),
    [
        ("31.13.86.51", 3478, FEW), ("157.240.20.51", 45_395, FEW), ("31.13.86.51", 40_002, TALK),
        ("149.154.167.51", 1400, FEW), ("91.108.12.3", 599, TALK), ("52.114.250.10", 3480, FEW),
        ("142.250.82.10", 19_305, FEW), ("74.125.250.129", 19_302, FEW), (SOMEWHERE, 3479, FEW), (SOMEWHERE, 5349, FEW),
        (SOMEWHERE, 7985, TALK), (SOMEWHERE, 8801, TALK), (SOMEWHERE, 10_000, TALK), (SOMEWHERE, 16_384, TALK),
        (SOMEWHERE, 5004, TALK), (SOMEWHERE, 31_002, TALK), (SOMEWHERE, 31_002, VIDEO), (SOMEWHERE, 50_010, TALK),
    ],
)  # fmt: skip
def test_a_call_needs_no_name(shipped, address, port, packets):
    answer = shipped.classify(flow(17, address, port, **packets))
    assert (answer.category, answer.service) == ("voip_im", "call")


@pytest.mark.parametrize(
    ("category", "protocol", "ports"),
    [
        ("voip_im", 6, (1720, 1863, 2000, 3478, 4244, 5061, 5190, 5222, 5242, 5269, 6667, 6697, 12_350)),
        ("voip_im", 17, (2427, 2944, 4569, 5060, 40_031)),
        ("streaming", 6, (554, 1755, 1935, 4070)),
        ("streaming", 17, (57_621,)),
        ("other", 6, (21, 22, 23, 25, 80, 102, 443, 502, 853, 993, 1723, 1883, 2404, 3306, 3389, 4662, 4840, 5223, 5228,
                      5900, 5938, 6881, 9001, 44_818)),
        ("other", 17, (53, 69, 123, 137, 443, 500, 3868, 5683, 47_808)),
    ],
)  # fmt: skip
def test_a_well_known_port_is_of_its_category(shipped, category, protocol, ports):
    answers = {port: shipped.classify(flow(protocol, remote_port=port, **FEW)).category for port in ports}
    assert answers == dict.fromkeys(ports, category)


@pytest.mark.parametrize("packets", [TALK, VIDEO], ids=["small packets", "large packets"])
@pytest.mark.parametrize(
    "port",
    [1194, 1701, 2152, 3074, 4500, 5200, 6881, 7200, 19_132, 22_023, 25_565, 27_015, 28_015, 49_005, 51_413, 51_820],
)  # fmt: skip
def test_games_tunnels_and_file_sharing_are_no_calls_though_their_rhythm_is_one(shipped, port, packets):
    assert shipped.classify(flow(17, remote_port=port, **packets)).category == "other"


@pytest.mark.parametrize("protocol", [1, 2, 47, 50, 58, 89, 132])
def test_a_protocol_without_ports_is_of_nobodys_category(shipped, protocol):
    assert shipped.classify(flow(protocol, remote_port=0, subscriber_port=0)).category == "other"


def test_television_goes_to_a_group(shipped):
    answer = shipped.classify(flow(17, GROUP, 1234, **TELEVISION))
    assert (answer.category, answer.service) == ("streaming", "live")


@pytest.mark.parametrize(
    ("name", "application"),
    [
        ("chat.signal.org", "signal"), ("chat.viber.com", "viber"), ("legy-jp.line-apps.com", "line"),
        ("talk-loco.kakao.com", "kakaotalk"), ("g.whatsapp.net", "whatsapp"), ("gateway.discord.gg", "discord"),
        ("api.imo.im", "imo"), ("teams.microsoft.com", "teams"),
    ],
)  # fmt: skip
def test_media_and_its_reports_follow_the_messenger_used_just_before(shipped, name, application):
    memory = SubscriberMemory()
    shipped.classify(flow(server_name=name, remote_ip="192.0.2.80"), memory)
    reports = {"packets_up": 3, "octets_up": 300, "packets_down": 3, "octets_down": 300}
    media = shipped.classify(flow(17, "198.51.100.4", 23_044, subscriber_port=41_000, **TALK), memory)
    control = shipped.classify(flow(17, "198.51.100.77", 23_045, subscriber_port=41_001, **reports), memory)
    assert [(answer.application, answer.service) for answer in (media, control)] == [(application, "call")] * 2


@pytest.mark.parametrize(
    ("agent", "application"),
    [
        ("MicroMessenger Client", "wechat"), ("Instagram 7.1.1 Android (19/4.4.2; 480dpi)", "instagram"),
        ("[FBAN/FB4A;FBAV/38.0;]", "facebook"), ("[FBAN/Orca-Android;FBAV/38.0;]", "facebook_messenger"),
        ("com.google.android.youtube/17.1", "youtube"), ("Spotify/8.6 Android/29", "spotify"),
        ("iTunes/12.9", "apple_itunes"), ("Deezer/6.0 (Android)", "deezer"),
        ("WhatsApp/2.22 A", "whatsapp"), ("Mozilla/5.0 (X11; Linux)", None),
    ],
)  # fmt: skip
def test_an_application_that_names_itself_is_known_where_nothing_else_is(shipped, agent, application):
    assert shipped.classify(flow(remote_port=80, http_user_agent=agent)).application == application
    named = flow(remote_port=80, http_host="www.netflix.com", http_user_agent=agent)
    assert shipped.classify(named).application == "netflix"
