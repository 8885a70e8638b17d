"""AccountState: what a lane knows of one account. Topic `ott.state.v1`, MessagePack, fields by position.

The key `a/<account id>` holds an AccountState, `s/<slot>` a SeenRecords, `l/<campaign id>` a LeaseState.

Fields may be added at the end with a default, never moved or removed within a major version. Values are immutable:
a decision makes a new state, so a transaction that fails leaves the old one as it was.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.units import Unit

STATE_VERSION = 1


class Bucket(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is left of one grant of volume or of time (TMF654 Bucket). Its amounts are octets, or milliseconds."""

    bucket_id: Annotated[str, Meta(description="`<product id>/<allowance id>`.")]
    product_id: Annotated[str, Meta(description="Product that granted it.")]
    offering_id: Annotated[str, Meta(description="Its offering.")]
    allowance_id: Annotated[str, Meta(description="Allowance of the offering.")]
    # The published names are from when there was nothing but volume.
    remaining: Annotated[int, Meta(description="What is left; ms in a bucket of time.")] = msgspec.field(
        name="remaining_octets"
    )
    granted: Annotated[int, Meta(description="What was granted; ms in a bucket of time.")] = msgspec.field(
        name="granted_octets"
    )
    valid_from_ms: Annotated[int, Meta(description="Start, inclusive.")]
    valid_until_ms: Annotated[int | None, Meta(description="End, exclusive; null = open.")]
    notified_percent: Annotated[int, Meta(description="Highest threshold already told, per cent used.")] = 0
    notice_at: Annotated[
        int,
        Meta(description="At or below this remainder something has to be told; 0 = at the bucket's end."),
    ] = msgspec.field(default=0, name="notice_at_octets")
    rolled: Annotated[bool, Meta(description="Kept from an earlier cycle or term.")] = False
    looked_ms: Annotated[int, Meta(description="When its pace was last looked at; 0 = never.")] = 0
    looked_octets: Annotated[int, Meta(description="Octets left then.")] = 0
    quota_octets: Annotated[
        int, Meta(description="Remainder that the gateway was given as a quota, together with what follows; 0 = none.")
    ] = 0
    timed: Annotated[bool, Meta(description="Of time: its amounts are milliseconds, not octets.")] = False
    before_octets: Annotated[int, Meta(description="Octets left at a look one interval or more before the last.")] = 0

    @property
    def unit(self) -> Unit:
        """What its amounts are."""
        return "ms" if self.timed else "octets"


class Purse(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is left of one grant of money (TMF654 Bucket): it pays usage prices before the main balance."""

    bucket_id: Annotated[str, Meta(description="`<product id>/<money allowance id>`.")]
    product_id: Annotated[str, Meta(description="Product that granted it.")]
    offering_id: Annotated[str, Meta(description="Its offering.")]
    allowance_id: Annotated[str, Meta(description="Money allowance of the offering.")]
    remaining_micros: Annotated[int, Meta(description="Micro-units left.")]
    granted_micros: Annotated[int, Meta(description="Micro-units granted.")]
    valid_from_ms: Annotated[int, Meta(description="Start, inclusive.")]
    valid_until_ms: Annotated[int | None, Meta(description="End, exclusive; null = open.")]


class PaidFee(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A recurring price that was paid for a cycle, or for the rest of one, and can be told by the day."""

    price_id: Annotated[str, Meta(description="The price.")]
    micros: Annotated[int, Meta(description="What was paid, micro-units.")]
    from_ms: Annotated[int, Meta(description="A time on the first local day that it pays for.")]
    until_ms: Annotated[int, Meta(description="End of what it pays for, exclusive.")]
    gives_back: Annotated[bool, Meta(description="Whether a cancellation gives back the days to come.")]


class Product(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A product that the account holds (TMF637)."""

    product_id: Annotated[str, Meta(description="Unique in the account.")]
    offering_id: Annotated[str, Meta(description="ProductOffering.")]
    start_ms: Annotated[int, Meta(description="Start, inclusive.")]
    end_ms: Annotated[int | None, Meta(description="End, exclusive; null = open.")]
    status: Annotated[
        str, Meta(description="TMF637 status: active, pending_active (starts later) or suspended (fee not paid).")
    ] = "active"
    trial: Annotated[
        str, Meta(description="running, confirmed (goes on at its end), over (charged since), or empty: no trial.")
    ] = ""
    trial_end_ms: Annotated[int, Meta(description="End of the trial, exclusive; 0 = none.")] = 0
    paid: Annotated[tuple[PaidFee, ...], Meta(description="Prices paid for the present cycle, by the day.")] = ()
    renews: Annotated[bool, Meta(description="Begins another term at the end, where its offering is renewed.")] = False
    first_ms: Annotated[
        int, Meta(description="Begin of the first of its terms, which they are counted from; 0 = this is the first.")
    ] = 0
    follows: Annotated[
        str, Meta(description="Product that ends when this one begins; empty = none, or this one has begun.")
    ] = ""
    minimum_micros: Annotated[
        int | None,
        Meta(description="Minimum rent of a cycle, as it was when its part of the cycle began; null = none."),
    ] = None


class Counter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A running total of the billing cycle: use of a price, of a campaign, of a share."""

    counter_id: Annotated[
        str,
        Meta(
            description="`price:<offering id>/<price id>`, `campaign:<campaign id>:<subscriber id>`, "
            "`member:<bucket id>:<subscriber id>`, `until:<end, ms>:member:<bucket id>:<subscriber id>` of a term that "
            "is over, under a minimum rent `rent` (owed) and `fees` (charged), "
            "`purses` (paid by them), or "
            "`raised:<price counter or spending_limit>`: a cap that the subscriber has raised (-1 = lifted)."
        ),
    ]
    octets: Annotated[
        int,
        Meta(description="Octets counted in this cycle; of a price per connection, connections; of time, ms."),
    ]
    micros: Annotated[int, Meta(description="Money charged in this cycle, micro-units.")] = 0
    unit: Annotated[
        str, Meta(description="Of a price, what it counts: `octets` or `connection`; empty = as the price has it now.")
    ] = ""


class PendingDraw(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one bucket paid for and is not yet emitted to the ledger."""

    bucket_id: Annotated[str, Meta(description="The bucket.")]
    octets: Annotated[int, Meta(description="Octets that it paid for since the last emission.")]
    ms: Annotated[int | None, Meta(description="Of a bucket of time: the ms drawn for them; null = octets.")] = None

    @property
    def unit(self) -> Unit:
        """What the bucket holds."""
        return "octets" if self.ms is None else "ms"

    @property
    def amount(self) -> int:
        """What was drawn, in that unit."""
        return self.octets if self.ms is None else self.ms


class PendingSponsorship(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Octets that one campaign paid for and that are not yet emitted to the ledger."""

    campaign_id: Annotated[str, Meta(description="The campaign.")]
    octets: Annotated[int, Meta(description="Octets paid for since the last emission.")]
    budget_octets: Annotated[int, Meta(description="Those of them that were drawn from its budget.")] = 0
    connections: Annotated[int, Meta(description="Connections that ended while it paid for them.")] = 0


class PendingPayment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Money that one purse paid and that is not yet emitted to the ledger."""

    bucket_id: Annotated[str, Meta(description="The purse.")]
    micros: Annotated[int, Meta(description="Micro-units since the last emission.")]


class PendingUsage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Rated usage of one rating key that is gathered until the interval ends."""

    subscriber_id: Annotated[str, Meta(description="Whose usage.")]
    rule_id: Annotated[str, Meta(description="PCC rule.")]
    application: Annotated[str | None, Meta(description="Application id.")]
    service: Annotated[str | None, Meta(description="Service inside it.")]
    category: Annotated[str, Meta(description="OTT category.")]
    treatment: Annotated[str, Meta(description="Who pays.")]
    rating_group: Annotated[int, Meta(description="Charging key.")]
    sponsor_id: Annotated[str | None, Meta(description="Sponsor.")]
    price_id: Annotated[str | None, Meta(description="Price used.")]
    catalogue_version: Annotated[str, Meta(description="Catalogue version.")]
    first_offset: Annotated[int, Meta(description="First contributing flow offset.")]
    last_offset: Annotated[int, Meta(description="Last contributing flow offset.")]
    start_ms: Annotated[int, Meta(description="Earliest event time.")]
    end_ms: Annotated[int, Meta(description="Latest event time.")]
    record_count: Annotated[int, Meta(description="Flow records.")]
    charged_octets: Annotated[int, Meta(description="Paid from buckets or by price.")]
    free_octets: Annotated[int, Meta(description="Free.")]
    sponsored_octets: Annotated[int, Meta(description="Sponsored.")]
    blocked_octets: Annotated[int, Meta(description="Blocked.")]
    not_charged_octets: Annotated[int, Meta(description="Failed flows.")]
    micros: Annotated[int, Meta(description="Money charged, micro-units.")]
    draws: Annotated[tuple[PendingDraw, ...], Meta(description="Bucket draws.")]
    money: Annotated[int, Meta(description="Micros taken from the main balance (prepaid).")] = 0
    evidence: Annotated[str | None, Meta(description="`<kind>:<matched>` of the last record.")] = None
    price_octets_from: Annotated[
        int | None, Meta(description="Out-of-bundle octets of the cycle before the first priced flow.")
    ] = None
    price_octets_to: Annotated[int | None, Meta(description="The same after the last priced flow.")] = None
    connections: Annotated[
        int, Meta(description="Connections priced; such an entry holds no octets, and counts them as price octets.")
    ] = 0
    payments: Annotated[tuple[PendingPayment, ...], Meta(description="What purses paid of the money charged.")] = ()
    sponsorships: Annotated[tuple[PendingSponsorship, ...], Meta(description="Campaigns that paid.")] = ()
    circumstances: Annotated[str, Meta(description="How the traffic was met; see RatedUsage.")] = ""
    counter_id: Annotated[str | None, Meta(description="Counter of the price used.")] = None


class Reservation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Money of the main balance held for a purchase."""

    reservation_id: Annotated[str, Meta(description="Unique in the account.")]
    micros: Annotated[int, Meta(description="Held amount.")]


class Provisional(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A flow that was charged at the general rate because its verdict was not believed; it may be corrected once."""

    flow: Annotated[bytes, Meta(description="Digest (BLAKE2b, eight octets) of protocol, addresses and ports.")]
    subscriber_id: Annotated[str, Meta(description="Whose flow.")]
    offset: Annotated[int, Meta(description="Offset of the flow record.")]
    start_ms: Annotated[int, Meta(description="Start of its interval.")]
    end_ms: Annotated[int, Meta(description="End of its interval.")]
    rat_type: Annotated[str | None, Meta(description="Radio access technology.")]
    serving_plmn: Annotated[str | None, Meta(description="Serving network.")]
    congestion_level: Annotated[int | None, Meta(description="Congestion level.")]
    rule_id: Annotated[str, Meta(description="PCC rule that applied.")]
    treatment: Annotated[str, Meta(description="Who paid.")]
    rating_group: Annotated[int, Meta(description="Charging key.")]
    catalogue_version: Annotated[str, Meta(description="Catalogue version of the rating.")]
    charged_octets: Annotated[int, Meta(description="Paid from buckets or by price.")]
    free_octets: Annotated[int, Meta(description="Free.")]
    draws: Annotated[tuple[PendingDraw, ...], Meta(description="Bucket draws.")] = ()
    counter_id: Annotated[str | None, Meta(description="Counter of the price used.")] = None
    micros: Annotated[int, Meta(description="Money charged, micro-units.")] = 0
    money: Annotated[int, Meta(description="Micros of it taken from the main balance (prepaid).")] = 0
    payments: Annotated[tuple[PendingPayment, ...], Meta(description="What purses paid of it.")] = ()
    blocked_octets: Annotated[int, Meta(description="What nothing could pay for.")] = 0


class Watch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An end of money, or of what a campaign pays, that gateways hear of ahead, and the pace at which it comes near."""

    limit_id: Annotated[
        str,
        Meta(
            description="`price:<offering id>/<price id>` (its cap), `spending_limit`, `balance` or "
            "`campaign:<campaign id>:<subscriber id>`."
        ),
    ]
    looked_ms: Annotated[int, Meta(description="A time in the last reporting intervals.")]
    looked_octets: Annotated[
        int, Meta(description="Octets sold in the cycle, at all prices, or paid by the campaign, by then.")
    ]
    before_octets: Annotated[int, Meta(description="The same at a time at least one interval before that.")]
    near_octets: Annotated[int, Meta(description="Most that flowed in the interval before the last sale.")] = 0
    ends_at_octets: Annotated[int, Meta(description="Octets sold at which the end, or the quota's, may come.")] = 0
    tolerance_octets: Annotated[int, Meta(description="The tolerance that it goes by.")] = 0
    interval_ms: Annotated[int, Meta(description="The reporting interval that it goes by.")] = 0
    quota_octets: Annotated[
        int, Meta(description="What the gateway was given as a quota, together with what follows; 0 = none.")
    ] = 0
    quota_from_octets: Annotated[int, Meta(description="Octets sold in the cycle when it was.")] = 0


class AccountState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything that decisions about one account depend on."""

    version: Annotated[int, Meta(description="State version; this is 1.")]
    account_id: Annotated[str, Meta(description="The account.")]
    subscriber_ids: Annotated[tuple[str, ...], Meta(description="Members; the account itself when alone.")]
    currency: Annotated[str, Meta(description="ISO 4217 code.")] = "EUR"
    payment: Annotated[str, Meta(description="prepaid or postpaid.")] = "postpaid"
    time_zone: Annotated[str, Meta(description="IANA zone of billing periods.")] = "UTC"
    cycle_day: Annotated[int, Meta(description="Day of month on which the cycle begins.")] = 1
    segment: Annotated[str, Meta(description="Segment.")] = "individual"
    age_band: Annotated[str, Meta(description="Age band.")] = ""
    consumption_level: Annotated[str, Meta(description="low, middle, high, potential_high.")] = ""
    cycle_start_ms: Annotated[int, Meta(description="Start of the present billing cycle.")] = 0
    cycle_end_ms: Annotated[int, Meta(description="Its end, exclusive; 0 = no cycle yet.")] = 0
    balance_micros: Annotated[
        int, Meta(description="Main balance that can be spent, micro-units, holds already off; < 0 only on postpaid.")
    ] = 0
    products: Annotated[tuple[Product, ...], Meta(description="Products held.")] = ()
    buckets: Annotated[tuple[Bucket, ...], Meta(description="Buckets, in the order they are drawn.")] = ()
    counters: Annotated[tuple[Counter, ...], Meta(description="Totals of the cycle.")] = ()
    reservations: Annotated[tuple[Reservation, ...], Meta(description="Holds on the main balance.")] = ()
    pending: Annotated[tuple[PendingUsage, ...], Meta(description="Rated usage not yet emitted.")] = ()
    pending_since_ms: Annotated[int, Meta(description="Wall clock of the oldest pending usage; 0 = none.")] = 0
    installed_rules: Annotated[
        tuple[str, ...], Meta(description="PCC rules last told to the gateway, each `<rule id>#<digest>`.")
    ] = ()
    recent_commands: Annotated[tuple[str, ...], Meta(description="Last command ids applied, newest last.")] = ()
    next_update: Annotated[int, Meta(description="Number of the next enforcement update.")] = 0
    next_notification: Annotated[int, Meta(description="Number of the next notification.")] = 0
    told_blocked: Annotated[tuple[str, ...], Meta(description="Rules whose block was told in this cycle.")] = ()
    catalogue_version: Annotated[str, Meta(description="Catalogue of the installed rules.")] = ""
    due_ms: Annotated[int, Meta(description="Earliest time at which something begins or ends; 0 = not yet known.")] = 0
    settled_ms: Annotated[int, Meta(description="Time of the last change of products, buckets or rules.")] = 0
    standing: Annotated[
        str, Meta(description="All that rule selection depends on: offerings held, buckets in order, which are empty.")
    ] = ""
    created_ms: Annotated[int, Meta(description="When the account's first cycle was opened.")] = 0
    lapsed: Annotated[
        tuple[Bucket, ...], Meta(description="Buckets that have expired, kept for late flows until the grace is over.")
    ] = ()
    ended: Annotated[tuple[Product, ...], Meta(description="Products that have ended, kept likewise.")] = ()
    past_start_ms: Annotated[int, Meta(description="Start of the cycle before, kept likewise; 0 = none.")] = 0
    past_counters: Annotated[tuple[Counter, ...], Meta(description="Its totals.")] = ()
    member_standings: Annotated[
        tuple[tuple[str, str], ...], Meta(description="Standings of members who have used up their share of a bucket.")
    ] = ()
    tried: Annotated[tuple[str, ...], Meta(description="Offerings whose trial the account has had, newest last.")] = ()
    tier: Annotated[str, Meta(description="The operator's own grading of the account.")] = ""
    foretold: Annotated[
        tuple[str, ...],
        Meta(
            description="What gateways were told for an end, each `<bucket>@<start>|<rule>#<digest>:<digest>`, or "
            "`<limit id>|<rule>#<digest>:<digest>`: of the rule, and of whose traffic brings it; with `:<members>`, "
            "in hexadecimal digits, where they alone were told."
        ),
    ] = ()
    spending_limit_micros: Annotated[
        int | None, Meta(description="Most that the subscriber wants usage to cost in a cycle; null = no limit.")
    ] = None
    provisional: Annotated[
        tuple[Provisional, ...], Meta(description="Flows that a better verdict may still correct, newest last.")
    ] = ()
    reclassified: Annotated[int, Meta(description="Flows that were corrected so, ever.")] = 0
    purses: Annotated[tuple[Purse, ...], Meta(description="Money granted by products.")] = ()
    empty_campaigns: Annotated[
        tuple[str, ...], Meta(description="Campaigns of its products that gateways were told to have no budget left.")
    ] = ()
    watches: Annotated[
        tuple[Watch, ...], Meta(description="Ends of money that are told ahead, where a price declares a tolerance.")
    ] = ()
    member_rules: Annotated[
        tuple[tuple[str, tuple[str, ...]], ...],
        Meta(description="Of members who were told other PCC rules than `installed_rules`: those, likewise."),
    ] = ()
    whole_cycle_days: Annotated[
        int, Meta(description="Local days of a whole cycle, where the present one is a part of it; 0 = it is whole.")
    ] = 0


class SeenRecords(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One slot of the lane's memory of record ids: eight octets per id (BLAKE2b), newest slot overwrites the oldest."""

    version: Annotated[int, Meta(description="State version; this is 1.")]
    sequence: Annotated[int, Meta(description="Rising number; the slot is its remainder.")]
    digests: Annotated[bytes, Meta(description="Digests of eight octets each, in arrival order.")]


class LeaseState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The lane's slices of one campaign's budget. It holds what was granted and neither used nor given back."""

    version: Annotated[int, Meta(description="State version; this is 1.")]
    campaign_id: Annotated[str, Meta(description="The campaign.")]
    granted_octets: Annotated[int, Meta(description="All that the lane was ever granted.")] = 0
    used_octets: Annotated[int, Meta(description="All that flows ever drew.")] = 0
    returned_octets: Annotated[int, Meta(description="All that was ever given back.")] = 0
    slice_octets: Annotated[int, Meta(description="The slice granted last.")] = 0
    sequence: Annotated[int, Meta(description="Number of the last request; 0 = none yet.")] = 0
    asked: Annotated[int, Meta(description="Number of the last request that was an ask.")] = 0
    answered: Annotated[int, Meta(description="Number of the last ask that was answered.")] = 0
    touched_ms: Annotated[int, Meta(description="Wall clock when a flow last drew or would have drawn.")] = 0
    ask_again_ms: Annotated[int, Meta(description="Before this time another ask would bring nothing.")] = 0
