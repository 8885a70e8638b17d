"""Samples of every topic's records: one evening of one account, told through the models.

The example files and the AsyncAPI document are written from here, so they cannot say what the models refuse.
`sub-7f3a` of account `acc-41c9` watches a film until the video pass and the plan run dry, is refused a call on 3G, and
uses a social application that its owner sponsors.
"""

from collections.abc import Mapping

import msgspec
from pydantic import BaseModel

from schemas import topics
from schemas.catalogue import (
    CATALOGUE_VERSION,
    Application,
    Campaign,
    CampaignBudget,
    CatalogueEntry,
    FlatPrice,
    PccRule,
    Pfd,
    ProductOffering,
    SettlementTerms,
    UsagePrice,
    VersionMarker,
)
from schemas.catalogue_allowances import Allowance
from schemas.catalogue_scopes import Scope, Zone
from schemas.classification import Classification, Evidence
from schemas.command import (
    COMMAND_VERSION,
    ActivateProduct,
    CancelProduct,
    ChangeProfile,
    ConfirmProduct,
    CorrectedUsage,
    Credit,
    Debit,
    EmitUsage,
    GrantLease,
    PastBucket,
    PastPeriod,
    PastTotal,
    RaiseCap,
    RefundUsage,
    ReleaseLate,
    RerateUsage,
    Reserve,
    SetRenewal,
    SetSpendingLimit,
    VoidUsage,
)
from schemas.dead_letter import DEAD_LETTER_VERSION, DeadLetter
from schemas.decision import (
    DECISION_VERSION,
    UPDATE_VERSION,
    Draw,
    Loser,
    PolicyDecision,
    PolicyUpdate,
    Price,
    Qos,
    Sponsorship,
)
from schemas.flow import FLOW_VERSION, DnsAnswer, FlowRecord
from schemas.lease import LEASE_REQUEST_VERSION, LeaseRequest
from schemas.notification import NOTIFICATION_VERSION, Notification
from schemas.state import (
    STATE_VERSION,
    AccountState,
    Bucket,
    Counter,
    LeaseState,
    PendingDraw,
    PendingUsage,
    Product,
    Reservation,
    SeenRecords,
)
from schemas.usage import USAGE_VERSION, Movement, RatedUsage

ACCOUNT = "acc-41c9"
SUBSCRIBER = "sub-7f3a"
CATALOGUE_NOW = "2026-03-01.1"

EVENING_MS = 1_772_474_400_000
"""2026-03-02T18:00:00Z."""

MONTH_START_MS = 1_772_319_600_000
"""2026-03-01T00:00 in Berlin."""

MONTH_END_MS = 1_774_994_400_000
"""2026-04-01T00:00 in Berlin, summer time by then."""

FLOWS = (
    FlowRecord(
        version=FLOW_VERSION, record_id="upf-3/9c41e7/0004", subscriber_id=SUBSCRIBER, account_id=ACCOUNT,
        exporter_id="upf-3", start_ms=EVENING_MS, end_ms=EVENING_MS + 60_000, ip_protocol=17,
        subscriber_ip="10.64.7.21", subscriber_port=51_244, remote_ip="203.0.113.40", remote_port=443,
        octets_up=1_240_000, octets_down=60_760_000, packets_up=9_800, packets_down=47_300,
        server_name="rr4---sn-4g5e6nsz.googlevideo.com", ja4="q13d0310h3_55b375c5d22e_cd85d2d88918",
        exporter_application="ndpi:QUIC.YouTube", rat_type="NR", serving_plmn="26201", dnn="internet",
        end_reason="active", congestion_level=2,
    ),
    FlowRecord(
        version=FLOW_VERSION, record_id="upf-3/9c4210/0001", subscriber_id=SUBSCRIBER, account_id=ACCOUNT,
        exporter_id="upf-3", start_ms=EVENING_MS - 1_500, end_ms=EVENING_MS - 1_480, ip_protocol=17,
        subscriber_ip="10.64.7.21", subscriber_port=40_112, remote_ip="198.51.100.53", remote_port=53,
        octets_up=74, octets_down=106, packets_up=1, packets_down=1, dns_name="media.fra5-1.cdn.whatsapp.net",
        dns_answers=(DnsAnswer(address="203.0.113.61", ttl_s=60), DnsAnswer(address="2001:db8::61", ttl_s=60)),
        rat_type="UTRA", end_reason="end",
    ),
    FlowRecord(
        version=FLOW_VERSION, record_id="probe-1:77:3", subscriber_id="sub-0b12", exporter_id="probe-1",
        start_ms=EVENING_MS, end_ms=EVENING_MS + 300_000, ip_protocol=6,
        subscriber_ip="2001:db8:7::15", subscriber_port=55_320, remote_ip="2001:db8:ffff::9", remote_port=8_443,
        octets_up=52_000, octets_down=948_000,
    ),
)  # fmt: skip

CORRECTED = CorrectedUsage(
    usage_id="f-5-120934-120940-0", subscriber_id=SUBSCRIBER, start_ms=EVENING_MS, end_ms=EVENING_MS + 120_000,
    category="streaming", application="youtube", service="video", catalogue_version=CATALOGUE_NOW, rule_id="video",
    rating_group=20, treatment="charged", record_count=2, charged_octets=63_000_000, amount="0.03",
    price_id="extra-mb",
    movements=(
        Movement(bucket_id="p-2/video", unit="octets", amount="-50000000", remaining="0"),
        Movement(bucket_id="p-1/general", unit="octets", amount="-10000000", remaining="0"),
    ),
    evidence="server_name:googlevideo.com",
)  # fmt: skip

COMMANDS = (
    ChangeProfile(
        version=COMMAND_VERSION, command_id="cmd-1001", account_id=ACCOUNT, issued_at_ms=MONTH_START_MS,
        subscriber_ids=(SUBSCRIBER, "sub-90aa"), segment="group", age_band="26-40", consumption_level="high",
        payment="postpaid", currency="EUR", time_zone="Europe/Berlin", cycle_day=1,
        tier="gold",
    ),
    ActivateProduct(
        version=COMMAND_VERSION, command_id="cmd-1002", account_id=ACCOUNT, issued_at_ms=MONTH_START_MS,
        product_id="p-2", offering_id="video-pass",
    ),
    CancelProduct(
        version=COMMAND_VERSION, command_id="cmd-1003", account_id=ACCOUNT, issued_at_ms=EVENING_MS,
        product_id="p-2", reason="too expensive",
    ),
    Credit(
        version=COMMAND_VERSION, command_id="cmd-1004", account_id="acc-77d0", issued_at_ms=EVENING_MS,
        amount="15", reason="top-up",
    ),
    Debit(
        version=COMMAND_VERSION, command_id="cmd-1005", account_id="acc-77d0", issued_at_ms=EVENING_MS,
        amount="2.99", reason="sticker pack",
    ),
    Reserve(
        version=COMMAND_VERSION, command_id="cmd-1006", account_id="acc-77d0", issued_at_ms=EVENING_MS,
        reservation_id="rsv-5", amount="9.99", action="hold",
    ),
    ConfirmProduct(
        version=COMMAND_VERSION, command_id="cmd-1008", account_id=ACCOUNT, issued_at_ms=EVENING_MS, product_id="p-3",
    ),
    SetRenewal(
        version=COMMAND_VERSION, command_id="cmd-1016", account_id=ACCOUNT, issued_at_ms=EVENING_MS, product_id="p-2",
        renews=False,
    ),
    SetSpendingLimit(
        version=COMMAND_VERSION, command_id="cmd-1009", account_id=ACCOUNT, issued_at_ms=EVENING_MS, amount="15",
    ),
    RaiseCap(
        version=COMMAND_VERSION, command_id="cmd-1010", account_id=ACCOUNT, issued_at_ms=EVENING_MS,
        price_id="extra-mb", amount="40",
    ),
    EmitUsage(version=COMMAND_VERSION, command_id="cmd-1007", account_id=ACCOUNT, issued_at_ms=EVENING_MS),
    RefundUsage(
        version=COMMAND_VERSION, command_id="cmd-1011", account_id=ACCOUNT, issued_at_ms=EVENING_MS + 600_000,
        line=CORRECTED, amount="0.01", octets=10_000_000, reason="goodwill",
    ),
    VoidUsage(
        version=COMMAND_VERSION, command_id="cmd-1012", account_id=ACCOUNT, issued_at_ms=EVENING_MS + 600_000,
        line=CORRECTED, reclassified=0, reason="wrong subscriber",
    ),
    RerateUsage(
        version=COMMAND_VERSION, command_id="cmd-1013", account_id=ACCOUNT, issued_at_ms=EVENING_MS + 600_000,
        lines=(CORRECTED,), reclassified=0, reason="the new catalogue is valid from the first",
    ),
    ReleaseLate(
        version=COMMAND_VERSION, command_id="cmd-1014", account_id=ACCOUNT, issued_at_ms=EVENING_MS + 600_000,
        line=CorrectedUsage(
            usage_id="f-5-91-91-0", subscriber_id=SUBSCRIBER, start_ms=EVENING_MS - 40 * topics.DAY_MS,
            end_ms=EVENING_MS - 40 * topics.DAY_MS + 9_000, category="streaming", catalogue_version=CATALOGUE_NOW,
            application="youtube", rule_id="video", treatment="not_charged", not_charged_octets=1_000_000,
        ),
        period="past",
        past=PastPeriod(
            products=(("p-1", "basic"),),
            buckets=(
                PastBucket(
                    bucket_id="p-1/data", offering_id="basic", unit="octets", remaining=4_000_000, granted=10**9,
                    valid_from_ms=EVENING_MS - 60 * topics.DAY_MS, valid_until_ms=EVENING_MS - 30 * topics.DAY_MS,
                ),
            ),
            totals=(PastTotal(counter_id="price:basic/extra-mb", octets=2_000_000, amount="0.02"),),
        ),
        reason="the probe was cut off for two days",
    ),
    GrantLease(
        version=COMMAND_VERSION, command_id="lease:social-spring:5:4", account_id="lane/5",
        issued_at_ms=EVENING_MS + 151_300, campaign_id="social-spring", sequence=4, octets=10**9,
        granted_octets=4 * 10**9,
    ),
)  # fmt: skip


def _entry(kind: str, key: str, body: BaseModel) -> CatalogueEntry:
    values = {"version": CATALOGUE_VERSION, "entry_key": key, "kind": kind}
    return msgspec.convert({**values, "body": body.model_dump(mode="json", exclude_defaults=True)}, CatalogueEntry)


CATALOGUE = (
    _entry("application", "application/youtube", Application(
        id="youtube", name="YouTube", provider="Google", category="streaming",
        pfds=(Pfd(pfd_id="video", service="video", domain_names=("googlevideo.com",)),),
        exporter_ids=("ndpi:YouTube",),
    )),
    _entry("application", "application/instagram", Application(
        id="instagram", name="Instagram", provider="Meta", category="social",
        pfds=(Pfd(pfd_id="names", domain_names=("instagram.com", "cdninstagram.com")),),
    )),
    _entry("offering", "offering/video-pass", ProductOffering(
        id="video-pass", name="Video pass", description="10 GB for video each month.", kind="add_on",
        prices=(FlatPrice(id="video-pass-month", type="recurring", amount=4_990_000),),
        usage_prices=(
            UsagePrice(id="extra-mb", amount=10_000, scope=Scope(categories=("streaming",)), cap=20_000_000),
        ),
        allowances=(Allowance(id="video", octets=10 * 10**9, scope=Scope(categories=("streaming",))),),
        rules=("video",),
    )),
    _entry("rule", "rule/video", PccRule(
        id="video", name="Video, charged", precedence=200, scope=Scope(categories=("streaming",)), rating_group=20,
    )),
    _entry("rule", "rule/social-sponsored", PccRule(
        id="social-sponsored", precedence=100, scope=Scope(applications=("instagram",)), charging="sponsored",
        campaign="social-spring", rating_group=30,
    )),
    _entry("campaign", "campaign/social-spring", Campaign(
        id="social-spring", name="Spring", sponsor_id="sponsor-12", asp_id="asp-4", per_subscriber_octets=2 * 10**9,
        valid_from_ms=MONTH_START_MS, valid_until_ms=MONTH_END_MS,
        budget=CampaignBudget(amount=5_000_000_000, amount_per_gb=500_000, pacing="even"),
        settlement=SettlementTerms(amount_per_gb=500_000, amount_per_connections=100_000, per_connections=1_000),
    )),
    _entry("zone", "zone/neighbours", Zone(id="neighbours", name="Like at home", plmns=("208", "23201"))),
    _entry("version", "version", VersionMarker(
        version=CATALOGUE_NOW, currency="EUR",
        digest="bbda1c95bfa86b780b89ab2e89f4b37f1136e0667c13aa2ddfdfeb6fbe67f253",
    )),
)  # fmt: skip

DECISIONS = (
    PolicyDecision(
        version=DECISION_VERSION, decision_id="5-120934", record_id="upf-3/9c41e7/0004", subscriber_id=SUBSCRIBER,
        account_id=ACCOUNT, start_ms=EVENING_MS, end_ms=EVENING_MS + 60_000, octets=62_000_000,
        classification=Classification(
            category="streaming", application="youtube", service="video", confidence=95,
            evidence=(
                Evidence(kind="server_name", value="rr4---sn-4g5e6nsz.googlevideo.com", matched="googlevideo.com",
                         application="youtube", confidence=95),
                Evidence(kind="exporter_application", value="ndpi:QUIC.YouTube", matched="ndpi:YouTube",
                         application="youtube", confidence=80),
            ),
        ),
        rule_id="video", precedence=200, rating_group=20, treatment="charged", gate_status="open",
        decided_at_ms=EVENING_MS + 61_200, catalogue_version=CATALOGUE_NOW, charged_octets=62_000_000,
        draws=(
            Draw(bucket_id="p-2/video", octets=50_000_000, remaining_octets=0),
            Draw(bucket_id="p-1/general", octets=10_000_000, remaining_octets=0),
        ),
        price=Price(price_id="extra-mb", currency="EUR", amount="0.02", octets_from=0, octets_to=2_000_000),
        losers=(Loser(rule_id="default", reason="precedence"),),
    ),
    PolicyDecision(
        version=DECISION_VERSION, decision_id="5-120950", record_id="upf-3/9c42aa/0001", subscriber_id=SUBSCRIBER,
        account_id=ACCOUNT, start_ms=EVENING_MS + 70_000, end_ms=EVENING_MS + 72_000, octets=18_400,
        classification=Classification(
            category="voip_im", application="whatsapp", service="call", confidence=90,
            evidence=(Evidence(kind="address", value="203.0.113.61", matched="203.0.113.0/24",
                               application="whatsapp", confidence=90),),
        ),
        rule_id="no-voip-on-3g", precedence=50, rating_group=10, treatment="blocked", gate_status="closed",
        decided_at_ms=EVENING_MS + 73_100, catalogue_version=CATALOGUE_NOW, blocked_octets=18_400,
        losers=(Loser(rule_id="default", reason="precedence"),),
        note="Calls over 3G need the add-on voip-3g.",
    ),
    PolicyDecision(
        version=DECISION_VERSION, decision_id="5-120977", record_id="upf-3/9c42f1/0002", subscriber_id=SUBSCRIBER,
        account_id=ACCOUNT, start_ms=EVENING_MS + 90_000, end_ms=EVENING_MS + 150_000, octets=7_300_000,
        classification=Classification(
            category="social", application="instagram", service=None, confidence=95,
            evidence=(Evidence(kind="server_name", value="scontent.cdninstagram.com", matched="cdninstagram.com",
                               application="instagram", confidence=95),),
        ),
        rule_id="social-sponsored", precedence=100, rating_group=30, treatment="sponsored", gate_status="open",
        decided_at_ms=EVENING_MS + 151_000, catalogue_version=CATALOGUE_NOW, sponsored_octets=7_300_000,
        qos=Qos(five_qi=9, mbr_down_bps=20_000_000), sponsor_id="sponsor-12",
        sponsorships=(
            Sponsorship(campaign_id="social-spring", octets=7_300_000, budget_octets=7_300_000, connections=1),
        ),
    ),
    PolicyDecision(
        version=DECISION_VERSION, decision_id="5-121004", record_id="upf-3/9c43b0/0001", subscriber_id=SUBSCRIBER,
        account_id=ACCOUNT, start_ms=EVENING_MS + 200_000, end_ms=EVENING_MS + 800_000, octets=6_000_000,
        classification=Classification(
            category="voip_im", application="whatsapp", service="call", confidence=90,
            evidence=(Evidence(kind="address", value="203.0.113.61", matched="203.0.113.0/24",
                               application="whatsapp", confidence=90),),
        ),
        rule_id="default", precedence=100_000, rating_group=1, treatment="charged", gate_status="open",
        decided_at_ms=EVENING_MS + 801_100, catalogue_version=CATALOGUE_NOW, charged_octets=6_000_000,
        draws=(
            Draw(bucket_id="p-4/minutes", octets=4_500_000, remaining_octets=0, drawn_ms=450_000, remaining_ms=0),
            Draw(bucket_id="p-1/general", octets=1_500_000, remaining_octets=3_000_000),
        ),
    ),
)  # fmt: skip

ENFORCEMENT = (
    PolicyUpdate(
        version=UPDATE_VERSION, update_id=f"{ACCOUNT}:0", account_id=ACCOUNT, subscriber_ids=(SUBSCRIBER, "sub-90aa"),
        action="install", rule_id="video", at_ms=MONTH_START_MS, cause="activated", catalogue_version=CATALOGUE_NOW,
        precedence=200, rating_group=20, gate_status="open", categories=("streaming",),
        qos=Qos(five_qi=8, arp=9, mbr_up_bps=5_000_000, mbr_down_bps=25_000_000),
    ),
    PolicyUpdate(
        version=UPDATE_VERSION, update_id=f"{ACCOUNT}:1", account_id=ACCOUNT, subscriber_ids=(SUBSCRIBER, "sub-90aa"),
        action="modify", rule_id="video", at_ms=EVENING_MS + 60_000, cause="exhausted",
        catalogue_version=CATALOGUE_NOW, precedence=200, rating_group=20, gate_status="open",
        categories=("streaming",), qos=Qos(five_qi=9, mbr_down_bps=1_000_000),
    ),
    PolicyUpdate(
        version=UPDATE_VERSION, update_id=f"{ACCOUNT}:2", account_id=ACCOUNT, subscriber_ids=(SUBSCRIBER, "sub-90aa"),
        action="remove", rule_id="video", at_ms=EVENING_MS + 600_000, cause="cancelled",
        catalogue_version=CATALOGUE_NOW,
    ),
    PolicyUpdate(
        version=UPDATE_VERSION, update_id=f"{ACCOUNT}:3", account_id=ACCOUNT, subscriber_ids=(SUBSCRIBER, "sub-90aa"),
        action="modify", rule_id="default", at_ms=EVENING_MS + 660_000, cause="exhausted",
        catalogue_version=CATALOGUE_NOW, precedence=100_000, rating_group=1, gate_status="closed",
        quota_octets=18_400_000, quota_bucket_id="prod-1/data", quota_rule_ids=("default",),
    ),
    PolicyUpdate(
        version=UPDATE_VERSION, update_id=f"{ACCOUNT}:4", account_id=ACCOUNT, subscriber_ids=(SUBSCRIBER, "sub-90aa"),
        action="modify", rule_id="default", at_ms=EVENING_MS + 960_000, cause="balance",
        catalogue_version=CATALOGUE_NOW, precedence=100_000, rating_group=1, gate_status="closed",
        quota_octets=5_200_000, quota_limit_id="balance", quota_rule_ids=("default", "video"),
    ),
)  # fmt: skip

USAGE = (
    RatedUsage(
        version=USAGE_VERSION, usage_id="f-5-120934-120940-0", kind="usage", account_id=ACCOUNT,
        subscriber_id=SUBSCRIBER, source_topic=topics.FLOWS, partition=5, first_offset=120_934, last_offset=120_940,
        ordinal=0, start_ms=EVENING_MS, end_ms=EVENING_MS + 120_000, rated_at_ms=EVENING_MS + 121_000,
        catalogue_version=CATALOGUE_NOW, category="streaming", application="youtube", service="video",
        rule_id="video", rating_group=20, treatment="charged", record_count=2, octets=63_000_000,
        charged_octets=63_000_000, currency="EUR", amount="0.03", price_id="extra-mb", price_octets_from=0,
        price_octets_to=3_000_000,
        movements=(
            Movement(bucket_id="p-2/video", unit="octets", amount="-50000000", remaining="0"),
            Movement(bucket_id="p-1/general", unit="octets", amount="-10000000", remaining="0"),
        ),
        evidence="server_name:googlevideo.com",
    ),
    RatedUsage(
        version=USAGE_VERSION, usage_id="c-5-311-311-0", kind="grant", account_id=ACCOUNT, subscriber_id=ACCOUNT,
        source_topic=topics.COMMANDS, partition=5, first_offset=311, last_offset=311, ordinal=0,
        start_ms=MONTH_START_MS, end_ms=MONTH_START_MS, rated_at_ms=MONTH_START_MS + 40,
        catalogue_version=CATALOGUE_NOW, product_id="p-2", offering_id="video-pass",
        movements=(
            Movement(bucket_id="p-2/video", unit="octets", amount="10000000000", remaining="10000000000",
                     valid_from_ms=MONTH_START_MS, valid_until_ms=MONTH_END_MS),
        ),
        cause="cmd-1002",
    ),
    RatedUsage(
        version=USAGE_VERSION, usage_id="c-2-87-87-0", kind="credit", account_id="acc-77d0", subscriber_id="acc-77d0",
        source_topic=topics.COMMANDS, partition=2, first_offset=87, last_offset=87, ordinal=0,
        start_ms=EVENING_MS, end_ms=EVENING_MS, rated_at_ms=EVENING_MS + 35, catalogue_version=CATALOGUE_NOW,
        currency="EUR", amount="-15",
        movements=(Movement(bucket_id="main", unit="micros", amount="15000000", remaining="18250000"),),
        cause="cmd-1004",
    ),
)  # fmt: skip

LEASE_REQUESTS = (
    LeaseRequest(
        version=LEASE_REQUEST_VERSION, request_id="social-spring:5:4", campaign_id="social-spring", partition=5,
        sequence=4, kind="ask", granted_octets=3 * 10**9, used_octets=1_207_300_000, returned_octets=10**9,
        at_ms=EVENING_MS + 151_000,
    ),
    LeaseRequest(
        version=LEASE_REQUEST_VERSION, request_id="social-spring:2:9", campaign_id="social-spring", partition=2,
        sequence=9, kind="return", granted_octets=10**9, used_octets=0, returned_octets=10**9, at_ms=EVENING_MS,
    ),
)  # fmt: skip

NOTIFICATIONS = (
    Notification(
        version=NOTIFICATION_VERSION, notification_id=f"{ACCOUNT}:0", account_id=ACCOUNT, subscriber_id=SUBSCRIBER,
        kind="threshold", at_ms=EVENING_MS - 3_600_000, product_id="p-2", offering_id="video-pass",
        bucket_id="p-2/video", percent=80, detail="2.0 GB of 10.0 GB are left until 2026-04-01.",
    ),
    Notification(
        version=NOTIFICATION_VERSION, notification_id=f"{ACCOUNT}:1", account_id=ACCOUNT, subscriber_id=SUBSCRIBER,
        kind="blocked", at_ms=EVENING_MS + 70_000,
        detail="Calls over 3G are not part of your plan; the add-on voip-3g opens them.",
    ),
)  # fmt: skip

STATE = (
    AccountState(
        version=STATE_VERSION, account_id=ACCOUNT, subscriber_ids=(SUBSCRIBER, "sub-90aa"), currency="EUR",
        payment="postpaid", time_zone="Europe/Berlin", cycle_day=1, segment="group", age_band="26-40",
        consumption_level="high", cycle_start_ms=MONTH_START_MS, cycle_end_ms=MONTH_END_MS, balance_micros=0,
        products=(
            Product(product_id="p-1", offering_id="plan-basic", start_ms=MONTH_START_MS, end_ms=None),
            Product(product_id="p-2", offering_id="video-pass", start_ms=MONTH_START_MS, end_ms=None),
        ),
        buckets=(
            Bucket(bucket_id="p-2/video", product_id="p-2", offering_id="video-pass", allowance_id="video",
                   remaining=0, granted=10 * 10**9, valid_from_ms=MONTH_START_MS,
                   valid_until_ms=MONTH_END_MS, notified_percent=100),
            Bucket(bucket_id="p-1/general", product_id="p-1", offering_id="plan-basic", allowance_id="general",
                   remaining=0, granted=5 * 10**9, valid_from_ms=MONTH_START_MS,
                   valid_until_ms=MONTH_END_MS, notified_percent=100),
        ),
        counters=(
            Counter(counter_id="price:extra-mb", octets=3_000_000, micros=30_000),
            Counter(counter_id=f"campaign:social-spring:{SUBSCRIBER}", octets=7_300_000),
        ),
        reservations=(Reservation(reservation_id="rsv-5", micros=9_990_000),),
        pending=(
            PendingUsage(
                subscriber_id=SUBSCRIBER, rule_id="video", application="youtube", service="video",
                category="streaming", treatment="charged", rating_group=20, sponsor_id=None, price_id="extra-mb",
                catalogue_version=CATALOGUE_NOW, first_offset=120_934, last_offset=120_940, start_ms=EVENING_MS,
                end_ms=EVENING_MS + 120_000, record_count=2, charged_octets=63_000_000, free_octets=0,
                sponsored_octets=0, blocked_octets=0, not_charged_octets=0, micros=30_000,
                draws=(PendingDraw(bucket_id="p-2/video", octets=50_000_000),),
                evidence="server_name:googlevideo.com", price_octets_from=0, price_octets_to=3_000_000,
            ),
        ),
        pending_since_ms=EVENING_MS + 61_200, installed_rules=("default#5b1e0c", "video#c40a77"),
        recent_commands=("cmd-1001", "cmd-1002"), next_update=2, next_notification=2,
        told_blocked=("no-voip-on-3g",), catalogue_version=CATALOGUE_NOW,
    ),
    LeaseState(
        version=STATE_VERSION, campaign_id="social-spring", granted_octets=3 * 10**9, used_octets=1_207_300_000,
        returned_octets=10**9, slice_octets=2 * 10**9, sequence=4, asked=4, answered=3, touched_ms=EVENING_MS + 151_000,
    ),
    SeenRecords(version=1, sequence=17, digests=bytes.fromhex("3f9a11c0d2e845777ab03c5519e2f004")),
)  # fmt: skip

DEAD_LETTERS = (
    DeadLetter(
        version=DEAD_LETTER_VERSION, dead_letter_id=f"{topics.FLOWS}-5-120941", source_topic=topics.FLOWS,
        partition=5, offset=120_941, cause="not_json",
        detail="the value is no JSON: expected a double quote at octet 12; send one JSON object per record",
        at_ms=EVENING_MS + 62_000, key=ACCOUNT.encode(), value=b'{"version": 1.0', value_octets=15,
    ),
    DeadLetter(
        version=DEAD_LETTER_VERSION, dead_letter_id=f"{topics.FLOWS}-5-120942", source_topic=topics.FLOWS,
        partition=5, offset=120_942, cause="null_value",
        detail="the record has no value; flow records are never deleted, send the record",
        at_ms=EVENING_MS + 62_000, key=None, value=None, value_octets=0,
    ),
)  # fmt: skip

SAMPLES: Mapping[str, tuple[msgspec.Struct, ...]] = {
    topics.FLOWS: FLOWS,
    topics.COMMANDS: COMMANDS,
    topics.CATALOGUE: CATALOGUE,
    topics.DECISIONS: DECISIONS,
    topics.ENFORCEMENT: ENFORCEMENT,
    topics.USAGE: USAGE,
    topics.LEASE_REQUESTS: LEASE_REQUESTS,
    topics.NOTIFICATIONS: NOTIFICATIONS,
    topics.STATE: STATE,
    topics.DEAD_LETTERS: DEAD_LETTERS,
}
"""Per topic, records that its model accepts; the first one is the typical one."""
