"""RatedUsage: the ledger's input. Topic `ott.usage.v1`, key = account id."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.decision import Sponsorship
from schemas.fields import Category, Currency, Decimal, EpochMs, Id, Treatment, Version

USAGE_VERSION = "1.5"

UsageKind = Literal["usage", "grant", "expiry", "fee", "credit", "debit", "reserve", "release", "refund"]


class Movement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A change of one bucket: positive puts in (grant, credit), negative takes out (draw, expiry, debit)."""

    bucket_id: Annotated[Id, Meta(description="Bucket of the account: `<product id>/<allowance id>`, or `main`.")]
    unit: Annotated[
        Literal["octets", "micros", "ms"],
        Meta(description="What the bucket holds; micros = micro-units of money, ms = milliseconds of time."),
    ]
    amount: Annotated[Decimal, Meta(description="Signed change as a decimal string of whole octets, micros or ms.")]
    remaining: Annotated[Decimal, Meta(description="What the bucket held after it, same unit.")]
    valid_from_ms: Annotated[EpochMs | None, Meta(description="For a grant: start of the bucket, inclusive.")] = None
    valid_until_ms: Annotated[
        EpochMs | None, Meta(description="For a grant: end of the bucket, exclusive; null = open or not a grant.")
    ] = None


class RatedUsage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Rated usage of one account and one rating key over an interval, or one balance movement by a command.

    (source_topic, partition, first_offset, last_offset, ordinal) is unique: the ledger refuses a second one.
    """

    version: Annotated[Version, Meta(description="Contract version; this is 1.5.")]
    usage_id: Annotated[
        Id, Meta(description="`<f|c|t>-<partition>-<first offset>-<last offset>-<ordinal>`: flows, commands or timer.")
    ]
    kind: Annotated[UsageKind, Meta(description="What moved: usage by flows, or a movement by a command or a timer.")]
    account_id: Annotated[Id, Meta(description="Who is charged.")]
    subscriber_id: Annotated[Id, Meta(description="Whose usage it was; the account id for movements of the account.")]
    source_topic: Annotated[str, Meta(description="Input topic of the offsets: flows or account commands.")]
    partition: Annotated[int, Meta(ge=0, description="Input partition.")]
    first_offset: Annotated[int, Meta(ge=0, description="First input offset that contributed.")]
    last_offset: Annotated[int, Meta(ge=0, description="Last input offset that contributed.")]
    ordinal: Annotated[int, Meta(ge=0, description="Number among the rows with the same offsets.")]
    start_ms: Annotated[EpochMs, Meta(description="Earliest event time that contributed.")]
    end_ms: Annotated[EpochMs, Meta(description="Latest event time that contributed.")]
    rated_at_ms: Annotated[EpochMs, Meta(description="Wall clock when the row was emitted.")]
    catalogue_version: Annotated[str, Meta(description="Catalogue version of the rating.")]
    category: Annotated[Category | None, Meta(description="OTT category; null for movements.")] = None
    application: Annotated[str | None, Meta(description="Application id, or null.")] = None
    service: Annotated[str | None, Meta(description="Service inside the application, or null.")] = None
    rule_id: Annotated[str | None, Meta(description="PCC rule; null for movements.")] = None
    rating_group: Annotated[int | None, Meta(description="Charging key; null for movements.")] = None
    treatment: Annotated[Treatment | None, Meta(description="Who pays; null for movements.")] = None
    product_id: Annotated[str | None, Meta(description="Product that a movement belongs to, or null.")] = None
    offering_id: Annotated[str | None, Meta(description="Its offering, or null.")] = None
    sponsor_id: Annotated[str | None, Meta(description="Sponsor, or null.")] = None
    record_count: Annotated[int, Meta(ge=0, description="Flow records that contributed.")] = 0
    octets: Annotated[int, Meta(ge=0, description="Octets of these records, all treatments.")] = 0
    charged_octets: Annotated[int, Meta(ge=0, description="Octets paid from buckets or by price.")] = 0
    free_octets: Annotated[int, Meta(ge=0, description="Octets free of charge.")] = 0
    sponsored_octets: Annotated[int, Meta(ge=0, description="Octets paid by a sponsor.")] = 0
    blocked_octets: Annotated[int, Meta(ge=0, description="Octets blocked.")] = 0
    not_charged_octets: Annotated[int, Meta(ge=0, description="Octets of failed flows.")] = 0
    currency: Annotated[Currency | None, Meta(description="ISO 4217 code, where money is involved.")] = None
    amount: Annotated[Decimal, Meta(description="Money charged (positive) or given back (negative).")] = "0"
    price_id: Annotated[str | None, Meta(description="ProductOfferingPrice used, or null.")] = None
    price_octets_from: Annotated[
        int | None, Meta(description="Out-of-bundle octets, or connections, of the cycle before the first priced flow.")
    ] = None
    price_octets_to: Annotated[
        int | None, Meta(description="Out-of-bundle octets, or connections, of the cycle after the last priced flow.")
    ] = None
    movements: Annotated[tuple[Movement, ...], Meta(description="Bucket movements behind the row.")] = ()
    evidence: Annotated[
        str | None, Meta(description="What decided the application of the last record: `<kind>:<matched>`.")
    ] = None
    cause: Annotated[
        str | None, Meta(description="For movements: the command id or timer that caused it; `reclassified`; `late`.")
    ] = None
    corrects: Annotated[
        str | None,
        Meta(
            description="In a correction: the usage id of the row that was wrong, or the decision id of the flow. "
            "A `refund` takes its octets back, a `usage` charges them again."
        ),
    ] = None
    connections: Annotated[
        int, Meta(ge=0, description="Connections that were priced; such a row has no octets and no records of its own.")
    ] = 0
    credit_amount: Annotated[
        Decimal, Meta(description="Part of the amount that money buckets paid; the rest is the subscriber's to pay.")
    ] = "0"
    sponsorships: Annotated[
        tuple[Sponsorship, ...],
        Meta(description="Campaigns that paid, or in a `refund` get back; they add up to sponsored_octets."),
    ] = ()
    timed_octets: Annotated[
        int, Meta(ge=0, description="Part of charged_octets that buckets of time paid for; their movements are in ms.")
    ] = 0
    circumstances: Annotated[
        str | None,
        Meta(
            description="How the traffic was met, as far as the catalogue tells that apart: `<radio access>|<zone>|"
            "<data network>|<congestion level>|<confidence>`, each empty where it is one that no scope names or where "
            "no rule asks. The confidence may be `suspect`, or `doubted`: not believed. null = nothing is told apart."
        ),
    ] = None
    price_offering_id: Annotated[str | None, Meta(description="Offering that has the price, or null.")] = None
