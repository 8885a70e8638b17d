"""PolicyDecision (one per flow, the charging data record) and PolicyUpdate (enforcement)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.classification import Classification
from schemas.fields import MAX_CONGESTION, Currency, Decimal, EpochMs, GateStatus, Id, Steering, Treatment, Version

DECISION_VERSION = "1.5"
UPDATE_VERSION = "1.4"


class Qos(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Quality of service that a rule authorises (TS 23.503 table 6.3.1). Absent = the session's default."""

    five_qi: Annotated[
        Annotated[int, Meta(ge=1, le=255)] | None, Meta(description="5QI (TS 23.501 table 5.7.4-1).")
    ] = None
    arp: Annotated[
        Annotated[int, Meta(ge=1, le=15)] | None, Meta(description="Allocation and retention priority; 1 is highest.")
    ] = None
    mbr_up_bps: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="Maximum bit rate up, bit/s.")] = None
    mbr_down_bps: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="Maximum bit rate down, bit/s.")] = None
    gbr_up_bps: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="Guaranteed bit rate up, bit/s.")] = None
    gbr_down_bps: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="Guaranteed bit rate down, bit/s.")] = (
        None
    )


class Loser(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A rule that could have applied and did not."""

    rule_id: Annotated[str, Meta(description="PccRule that lost.")]
    reason: Annotated[str, Meta(description="Why: `precedence`, or the condition that failed, e.g. `rat_type`.")]


class Draw(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What one bucket paid for of this flow. The octets of all draws and of the price add up to charged_octets."""

    bucket_id: Annotated[str, Meta(description="Bucket of the account: `<product id>/<allowance id>`.")]
    octets: Annotated[
        int, Meta(ge=0, description="Octets that it paid for; from a bucket of volume, as many are drawn.")
    ]
    remaining_octets: Annotated[int, Meta(ge=0, description="Octets left after the draw; of a bucket of time, 0.")]
    drawn_ms: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="From a bucket of time: milliseconds drawn; null = volume.")
    ] = None
    remaining_ms: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="Milliseconds left after the draw; null = volume.")
    ] = None

    @property
    def amount(self) -> int:
        """What was drawn, in the bucket's unit."""
        return self.octets if self.drawn_ms is None else self.drawn_ms

    @property
    def left(self) -> int:
        """What the bucket held after it, in its unit."""
        return self.remaining_octets if self.remaining_ms is None else self.remaining_ms


class Sponsorship(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one campaign paid for."""

    campaign_id: Annotated[str, Meta(description="The campaign.")]
    octets: Annotated[
        int, Meta(ge=0, description="Octets that it paid for; 0 in a decision when its budget was used up here.")
    ]
    budget_octets: Annotated[
        int, Meta(ge=0, description="Those of them that were drawn from its budget; 0 when it has none.")
    ] = 0
    connections: Annotated[
        int, Meta(ge=0, description="Connections that ended while it paid for them; in a decision 0 or 1.")
    ] = 0


class Price(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The out-of-bundle price of this flow: price(to) - price(from), so that splitting a flow costs the same."""

    price_id: Annotated[str, Meta(description="ProductOfferingPrice that was used.")]
    currency: Annotated[Currency, Meta(description="ISO 4217 code.")]
    amount: Annotated[Decimal, Meta(description="Amount charged, decimal string, at most six places.")]
    octets_from: Annotated[int, Meta(ge=0, description="Out-of-bundle octets of the cycle before this flow.")]
    octets_to: Annotated[int, Meta(ge=0, description="Out-of-bundle octets of the cycle after this flow.")]
    capped: Annotated[bool, Meta(description="True when the cycle's cap cut the amount.")] = False


class Payment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one money bucket paid of this flow's prices."""

    bucket_id: Annotated[str, Meta(description="Bucket of the account: `<product id>/<money allowance id>`.")]
    amount: Annotated[Decimal, Meta(description="Amount paid, decimal string.")]
    remaining: Annotated[Decimal, Meta(description="What the bucket held after it, decimal string.")]


class ConnectionPrice(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The price of one connection: price(to) - price(from), in connections of the cycle."""

    price_id: Annotated[str, Meta(description="ProductOfferingPrice that was used.")]
    currency: Annotated[Currency, Meta(description="ISO 4217 code.")]
    amount: Annotated[Decimal, Meta(description="Amount charged, decimal string, at most six places.")]
    connections_from: Annotated[int, Meta(ge=0, description="Connections of the cycle before this one.")]
    connections_to: Annotated[
        int, Meta(ge=0, description="Connections of the cycle after it; the same where it is free beyond the cap.")
    ]


class PolicyDecision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What was decided for one flow record and why. Topic `ott.decisions.v1`, key = account id."""

    version: Annotated[Version, Meta(description="Contract version; this is 1.5.")]
    decision_id: Annotated[Id, Meta(description="`<partition>-<offset>` of the flow record in `ott.flows.v1`.")]
    record_id: Annotated[Id, Meta(description="The flow record's id.")]
    subscriber_id: Annotated[Id, Meta(description="Whose traffic it was.")]
    account_id: Annotated[Id, Meta(description="Who is charged.")]
    start_ms: Annotated[EpochMs, Meta(description="Start of the flow interval, event time.")]
    end_ms: Annotated[EpochMs, Meta(description="End of the flow interval, event time.")]
    octets: Annotated[int, Meta(ge=0, description="Octets up and down, scaled by the sampling rate.")]
    classification: Annotated[Classification, Meta(description="What the flow was taken for.")]
    rule_id: Annotated[str, Meta(description="The PCC rule that applied.")]
    precedence: Annotated[int, Meta(description="Its precedence; the lowest matching one wins (TS 23.503).")]
    rating_group: Annotated[int, Meta(ge=0, description="Charging key (TS 32.299 Rating-Group).")]
    treatment: Annotated[Treatment, Meta(description="Who pays: the one word for the whole flow.")]
    gate_status: Annotated[GateStatus, Meta(description="Whether the traffic may pass.")]
    decided_at_ms: Annotated[EpochMs, Meta(description="Wall clock, read once per transaction.")]
    catalogue_version: Annotated[str, Meta(description="The one catalogue version that this decision used.")]
    charged_octets: Annotated[int, Meta(ge=0, description="Octets paid from buckets or by price.")] = 0
    free_octets: Annotated[int, Meta(ge=0, description="Octets free of charge.")] = 0
    sponsored_octets: Annotated[int, Meta(ge=0, description="Octets paid by a sponsor.")] = 0
    blocked_octets: Annotated[int, Meta(ge=0, description="Octets of traffic that the rule blocks.")] = 0
    not_charged_octets: Annotated[int, Meta(ge=0, description="Octets of a failed flow.")] = 0
    qos: Annotated[Qos | None, Meta(description="QoS that the rule authorises, or null for the default.")] = None
    sponsor_id: Annotated[str | None, Meta(description="Sponsor of the flow (TS 29.214 Sponsor-Identity).")] = None
    service_identifier: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="TS 32.299 Service-Identifier.")
    ] = None
    draws: Annotated[tuple[Draw, ...], Meta(description="Bucket draws, in order.")] = ()
    price: Annotated[Price | None, Meta(description="Out-of-bundle price, or null.")] = None
    losers: Annotated[tuple[Loser, ...], Meta(description="Rules that did not apply, and why.")] = ()
    note: Annotated[str | None, Meta(description="One sentence for people where the outcome needs one.")] = None
    redirect_url: Annotated[str | None, Meta(description="Where web requests of the rule are sent, or null.")] = None
    steering: Annotated[Steering | None, Meta(description="The access that the rule asks for, or null.")] = None
    own_service: Annotated[bool, Meta(description="The application is the operator's own service.")] = False
    connection: Annotated[
        ConnectionPrice | None, Meta(description="Price of the connection that ended with this record, or null.")
    ] = None
    payments: Annotated[
        tuple[Payment, ...], Meta(description="Money buckets that paid a part of price and connection.")
    ] = ()
    sponsorships: Annotated[
        tuple[Sponsorship, ...], Meta(description="Campaigns asked to pay, in order; they add up to sponsored_octets.")
    ] = ()


class PolicyUpdate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A change of the PCC rules in force for an account. Topic `ott.enforcement.v1`, key = account id."""

    version: Annotated[Version, Meta(description="Contract version; this is 1.4.")]
    update_id: Annotated[Id, Meta(description="Unique: `<account id>:<update number of the account>`.")]
    account_id: Annotated[Id, Meta(description="The account whose rules change.")]
    subscriber_ids: Annotated[tuple[str, ...], Meta(description="The subscribers that the rule applies to.")]
    action: Annotated[Literal["install", "modify", "remove"], Meta(description="What the gateway has to do.")]
    rule_id: Annotated[str, Meta(description="The PCC rule.")]
    at_ms: Annotated[EpochMs, Meta(description="When the change takes effect.")]
    cause: Annotated[str, Meta(description="What changed it: activated, cancelled, exhausted, reset, expired ...")]
    catalogue_version: Annotated[str, Meta(description="Catalogue version of the rule.")]
    precedence: Annotated[int | None, Meta(description="Precedence; null on remove.")] = None
    rating_group: Annotated[int | None, Meta(description="Charging key; null on remove.")] = None
    gate_status: Annotated[GateStatus | None, Meta(description="Gate; null on remove.")] = None
    applications: Annotated[
        tuple[str, ...], Meta(description="Application ids (TS 29.251 application identifier).")
    ] = ()
    categories: Annotated[tuple[str, ...], Meta(description="OTT categories that the rule covers.")] = ()
    qos: Annotated[Qos | None, Meta(description="QoS of the rule; null = default.")] = None
    sponsor_id: Annotated[str | None, Meta(description="Sponsor, where there is one.")] = None
    services: Annotated[tuple[str, ...], Meta(description="Services inside the applications; empty = any.")] = ()
    rat_types: Annotated[tuple[str, ...], Meta(description="Radio access technologies; empty = any.")] = ()
    plmns: Annotated[
        tuple[str, ...],
        Meta(
            description="Serving networks: MCC and MNC, MCC alone, or `*` for all others; empty = all. Of the entries "
            "here and in `except_plmns` the longest that fits decides."
        ),
    ] = ()
    except_plmns: Annotated[tuple[str, ...], Meta(description="Serving networks that are not meant.")] = ()
    dnns: Annotated[tuple[str, ...], Meta(description="Data networks (network identifiers); empty = any.")] = ()
    min_congestion: Annotated[
        int, Meta(ge=0, le=MAX_CONGESTION, description="The rule applies from this congestion level on; 0 = always.")
    ] = 0
    max_congestion: Annotated[
        int, Meta(ge=0, le=MAX_CONGESTION, description="The rule applies up to this congestion level, inclusive.")
    ] = MAX_CONGESTION
    suspect: Annotated[
        Literal["any", "never", "only"],
        Meta(
            description="Traffic whose evidence disagrees: as any other, not for the rule, or for it alone. A gateway "
            "that cannot tell leaves out a rule with `only` and takes `never` for `any`."
        ),
    ] = "any"
    redirect_url: Annotated[
        str | None, Meta(description="Where web requests are sent instead (TS 29.512 RedirectInformation).")
    ] = None
    steering: Annotated[
        Steering | None, Meta(description="The access that the traffic should use (ATSSS, TS 23.503 clause 6.3.1).")
    ] = None
    quota_octets: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="Told ahead: the change takes effect once so many more octets have passed under "
            "`quota_rule_ids` to `quota_subscriber_ids` together, those included that passed but are in no flow record "
            "yet (PFCP volume quota, TS 29.244). Until then, and whenever the rule is told without a quota, what is "
            "told without one holds. Quotas of different ends stand beside each other, and the first that is used up "
            "counts; a newer one of the same end replaces it. null = at once."
        ),
    ] = None
    quota_bucket_id: Annotated[
        str | None,
        Meta(description="Bucket whose end it is (monitoring key, TS 29.512); null where it is none's."),
    ] = None
    quota_rule_ids: Annotated[tuple[str, ...], Meta(description="Rules whose traffic uses the quota up.")] = ()
    quota_limit_id: Annotated[
        str | None,
        Meta(
            description="End of money whose quota it is: `price:<offering id>/<price id>` (its cap), `spending_limit` "
            "or `balance`, with `behind:` before it where buckets are drawn first; "
            "`campaign:<campaign id>:<subscriber id>`, or a member's share of a bucket, "
            "`member:<bucket id>:<subscriber id>`; null where it is a bucket's."
        ),
    ] = None
    quota_subscriber_ids: Annotated[
        tuple[str, ...], Meta(description="Whose traffic uses the quota up; empty = all subscribers of the account.")
    ] = ()
