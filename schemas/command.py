"""What the rating service asks a lane to do. Topic `ott.account-commands.v1`.

An AccountCommand is for one account and lies where its key says. A GrantLease is for a lane itself: it is published to
the lane's partition by number.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.decision import Sponsorship
from schemas.fields import Category, Currency, Decimal, EpochMs, Id, RatType, Treatment, Version
from schemas.units import Unit
from schemas.usage import Movement

COMMAND_MAJOR = "1"
COMMAND_VERSION = "1.5"

MAX_LINES = 1_000
"""Most rows of usage that one command corrects."""


TakesEffect = Literal["now", "cycle_end"]
"""When an order takes effect: as it is issued, or at the end of the billing cycle in which it is."""


class _Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", gc=False):
    """What every command carries. A command id is applied once per account, however often it arrives."""

    version: Annotated[Version, Meta(description="Contract version; this is 1.5.")]
    command_id: Annotated[Id, Meta(description="Unique; the lane applies it once.")]
    account_id: Annotated[Id, Meta(description="The account; equals the record's key.")]
    issued_at_ms: Annotated[EpochMs, Meta(description="When it was ordered; the effective time unless one is given.")]


class ChangeProfile(_Command, frozen=True, kw_only=True, tag="change_profile"):
    """Create the account or change its profile. Fields left null keep their value."""

    subscriber_ids: Annotated[
        tuple[Id, ...] | None, Meta(description="All members of the account; null keeps them.")
    ] = None
    segment: Annotated[str | None, Meta(description="Segment, e.g. `individual`, `group`; null keeps it.")] = None
    age_band: Annotated[str | None, Meta(description="Age band, e.g. `18-25`; null keeps it.")] = None
    consumption_level: Annotated[
        str | None, Meta(description="low, middle, high or potential_high; null keeps it.")
    ] = None
    payment: Annotated[str | None, Meta(description="prepaid or postpaid; null keeps it.")] = None
    currency: Annotated[Currency | None, Meta(description="ISO 4217 code of the account; null keeps it.")] = None
    time_zone: Annotated[str | None, Meta(description="IANA zone of the subscriber; null keeps it.")] = None
    cycle_day: Annotated[
        Annotated[int, Meta(ge=1, le=31)] | None,
        Meta(description="Day of month on which the billing cycle begins; null keeps it."),
    ] = None
    tier: Annotated[
        Annotated[str, Meta(max_length=64)] | None,
        Meta(description="The operator's own grading, e.g. `gold`; empty = none; null keeps it."),
    ] = None


class ActivateProduct(_Command, frozen=True, kw_only=True, tag="activate_product"):
    """Activate a product: grant its buckets, book its one-time price."""

    product_id: Annotated[Id, Meta(description="The new product's id, unique in the account (TMF637).")]
    offering_id: Annotated[Id, Meta(description="ProductOffering (TMF620).")]
    start_ms: Annotated[EpochMs | None, Meta(description="Start; null = when issued.")] = None
    renews: Annotated[
        bool | None, Meta(description="Whether it begins another term at the end of each; null = as its offering says.")
    ] = None
    takes_effect: Annotated[
        TakesEffect, Meta(description="`cycle_end` = it begins with the next billing cycle, and `start_ms` is null.")
    ] = "now"
    replaces: Annotated[
        Id | None, Meta(description="Product whose place it takes: that one ends when this one begins; null = none.")
    ] = None


class CancelProduct(_Command, frozen=True, kw_only=True, tag="cancel_product"):
    """Cancel a product, at once or when the cycle ends: its buckets expire, nothing is charged after it."""

    product_id: Annotated[Id, Meta(description="The product to end.")]
    reason: Annotated[str | None, Meta(description="The subscriber's reason, or null.")] = None
    takes_effect: Annotated[
        TakesEffect, Meta(description="`cycle_end` = with the billing cycle, or its term where that ends before.")
    ] = "now"


class Credit(_Command, frozen=True, kw_only=True, tag="credit"):
    """Put money into the account's main balance (top-up, refund)."""

    amount: Annotated[Decimal, Meta(description="Positive decimal string in the account's currency.")]
    reason: Annotated[str | None, Meta(description="Why, or null.")] = None


class Debit(_Command, frozen=True, kw_only=True, tag="debit"):
    """Take money from the account's main balance (a purchase)."""

    amount: Annotated[Decimal, Meta(description="Positive decimal string in the account's currency.")]
    reason: Annotated[str | None, Meta(description="Why, or null.")] = None


class Reserve(_Command, frozen=True, kw_only=True, tag="reserve"):
    """Hold money of the main balance for a purchase; ended by commit or release of the same reservation."""

    reservation_id: Annotated[Id, Meta(description="The hold's id, unique in the account.")]
    amount: Annotated[Decimal, Meta(description="Positive decimal string; ignored on commit and release.")]
    action: Annotated[str, Meta(pattern=r"^(hold|commit|release)$", description="hold, commit or release.")] = "hold"


class EmitUsage(_Command, frozen=True, kw_only=True, tag="emit_usage"):
    """Emit the usage gathered so far, without waiting for the interval's end."""


class ConfirmProduct(_Command, frozen=True, kw_only=True, tag="confirm_product"):
    """Keep a product beyond its trial: it is charged from the trial's end. Without this it ends there."""

    product_id: Annotated[Id, Meta(description="The product on trial.")]


class SetRenewal(_Command, frozen=True, kw_only=True, tag="set_renewal"):
    """Whether a product begins another term at the end of this one: the subscriber's word, as often as they like."""

    product_id: Annotated[Id, Meta(description="The product, of an offering that is renewed.")]
    renews: Annotated[bool, Meta(description="false = it ends with its present term.")]


class SetSpendingLimit(_Command, frozen=True, kw_only=True, tag="set_spending_limit"):
    """The subscriber's own limit: what usage may cost in a cycle, over all prices, this cycle included."""

    amount: Annotated[Decimal | None, Meta(description="Decimal string, 0 or more; null = no limit any more.")] = None


class RaiseCap(_Command, frozen=True, kw_only=True, tag="raise_cap"):
    """Go on beyond a price's cap, or beyond the own spending limit, until the cycle ends: the answer to being asked."""

    price_id: Annotated[Id | None, Meta(description="The price whose cap is meant; null = the spending limit.")] = None
    amount: Annotated[
        Decimal | None, Meta(description="The new cap for this cycle, above the present one; null = none this cycle.")
    ] = None
    offering_id: Annotated[
        Id | None,
        Meta(description="Offering that has the price; needed where several held ones have one so named."),
    ] = None


class GrantLease(_Command, frozen=True, kw_only=True, tag="grant_lease"):
    """Answer a lane's ask for a slice of a campaign's budget. Published to the lane's partition, whatever the key."""

    account_id: Annotated[Id, Meta(description="The lane's own name, `lane/<partition>`; equals the record's key.")]
    campaign_id: Annotated[Id, Meta(description="Whose budget.")]
    sequence: Annotated[Annotated[int, Meta(ge=1)], Meta(description="Number of the ask that this answers.")]
    octets: Annotated[int, Meta(ge=0, description="The slice; 0 = nothing is free now.")]
    granted_octets: Annotated[
        Annotated[int, Meta(ge=0, le=2**63 - 1)],
        Meta(description="All that the lane was ever granted, this slice included."),
    ]
    ask_again_ms: Annotated[EpochMs, Meta(description="Before this time another ask would bring nothing.")] = 0


class CorrectedUsage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A row of the ledger that is to be corrected, as far as the lane needs it; see RatedUsage for the fields."""

    usage_id: Annotated[Id, Meta(description="The row.")]
    subscriber_id: Annotated[Id, Meta(description="Whose usage it was.")]
    start_ms: Annotated[EpochMs, Meta(description="Earliest event time; the usage is charged again as of then.")]
    end_ms: Annotated[EpochMs, Meta(description="Latest event time.")]
    category: Annotated[Category, Meta(description="OTT category.")]
    catalogue_version: Annotated[str, Meta(description="Catalogue version of the rating.")]
    application: Annotated[str | None, Meta(description="Application id, or null.")] = None
    service: Annotated[str | None, Meta(description="Service inside the application, or null.")] = None
    rat_type: Annotated[RatType | None, Meta(description="Radio access, where it is known.")] = None
    rule_id: Annotated[str | None, Meta(description="PCC rule.")] = None
    rating_group: Annotated[int | None, Meta(description="Charging key.")] = None
    treatment: Annotated[Treatment | None, Meta(description="Who paid.")] = None
    sponsor_id: Annotated[str | None, Meta(description="Sponsor, or null.")] = None
    record_count: Annotated[int, Meta(ge=0, description="Flow records.")] = 0
    charged_octets: Annotated[int, Meta(ge=0, description="Octets paid from buckets or by price.")] = 0
    free_octets: Annotated[int, Meta(ge=0, description="Octets free of charge.")] = 0
    sponsored_octets: Annotated[int, Meta(ge=0, description="Octets paid by a sponsor.")] = 0
    amount: Annotated[Decimal, Meta(description="Money charged.")] = "0"
    price_id: Annotated[str | None, Meta(description="ProductOfferingPrice used, or null.")] = None
    movements: Annotated[tuple[Movement, ...], Meta(description="Bucket movements behind the row.")] = ()
    evidence: Annotated[str | None, Meta(description="What decided the application.")] = None
    sponsorships: Annotated[
        tuple[Sponsorship, ...], Meta(description="Campaigns that paid, and may pay again when it is rated again.")
    ] = ()
    timed_octets: Annotated[int, Meta(ge=0, description="Part of charged_octets that buckets of time paid for.")] = 0
    circumstances: Annotated[str | None, Meta(description="What the catalogue told apart of it, or null.")] = None
    price_offering_id: Annotated[str | None, Meta(description="Offering that has the price, or null.")] = None
    connections: Annotated[int, Meta(ge=0, description="Connections that were priced.")] = 0
    blocked_octets: Annotated[int, Meta(ge=0, description="Octets that did not pass.")] = 0
    not_charged_octets: Annotated[int, Meta(ge=0, description="Octets that nobody was charged for.")] = 0


class RefundUsage(_Command, frozen=True, kw_only=True, tag="refund_usage"):
    """Give back what a row was charged: money, octets or time of buckets, its sponsors' part. The usage stays."""

    line: Annotated[CorrectedUsage, Meta(description="The row.")]
    amount: Annotated[Decimal, Meta(description="Money to give back, decimal string, 0 or more.")] = "0"
    octets: Annotated[int, Meta(ge=0, description="Drawn octets to put back into their buckets.")] = 0
    sponsored: Annotated[
        bool, Meta(description="Whether the campaigns of the row get back all that they paid for in it.")
    ] = False
    ms: Annotated[int, Meta(ge=0, description="Drawn milliseconds to put back into their buckets of time.")] = 0
    reason: Annotated[str | None, Meta(description="Why, or null.")] = None


class VoidUsage(_Command, frozen=True, kw_only=True, tag="void_usage"):
    """Take back all that a row of usage was charged, as if it had not been: octets, money, totals of the cycle."""

    line: Annotated[CorrectedUsage, Meta(description="The row.")]
    reclassified: Annotated[
        int, Meta(ge=0, description="Corrections by the lane itself that the ledger knew; with others it is refused.")
    ]
    reason: Annotated[str | None, Meta(description="Why, or null.")] = None


class RerateUsage(_Command, frozen=True, kw_only=True, tag="rerate_usage"):
    """Take back what rows of usage were charged, all first, and charge them again under the present catalogue."""

    lines: Annotated[
        tuple[CorrectedUsage, ...], Meta(min_length=1, max_length=MAX_LINES, description="The rows, of one account.")
    ]
    reclassified: Annotated[int, Meta(ge=0, description="As in void_usage.")]
    reason: Annotated[str | None, Meta(description="Why, or null.")] = None


class PastBucket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A bucket of a closed period, with what expired of it."""

    bucket_id: Annotated[Id, Meta(description="`<product id>/<allowance id>`.")]
    offering_id: Annotated[Id, Meta(description="Offering of the product.")]
    unit: Annotated[Unit, Meta(description="What its amounts are: octets, or ms in a bucket of time.")]
    remaining: Annotated[int, Meta(ge=0, description="What expired, less what late usage has drawn of it since.")]
    granted: Annotated[int, Meta(ge=0, description="What was granted.")]
    valid_from_ms: Annotated[EpochMs, Meta(description="Start, inclusive.")]
    valid_until_ms: Annotated[EpochMs, Meta(description="End, exclusive.")]


class PastTotal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A running total of a closed period, as it came to by the ledger; see Counter in the state."""

    counter_id: Annotated[str, Meta(description="The counter.")]
    octets: Annotated[int, Meta(ge=0, description="Octets, connections, or ms.")]
    amount: Annotated[Decimal, Meta(description="Money charged.")] = "0"


class PastPeriod(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an account had in a closed period, by the ledger: the lane does not remember it."""

    products: Annotated[tuple[tuple[Id, Id], ...], Meta(description="Products held then: product id, offering id.")]
    buckets: Annotated[tuple[PastBucket, ...], Meta(description="Buckets that have ended since.")] = ()
    totals: Annotated[tuple[PastTotal, ...], Meta(description="Running totals of the period.")] = ()


class ReleaseLate(_Command, frozen=True, kw_only=True, tag="release_late"):
    """Settle usage that came after the grace of its period: charge it, in one period or the other, or waive it."""

    line: Annotated[CorrectedUsage, Meta(description="The row that lists it.")]
    period: Annotated[
        Literal["past", "present", "none"],
        Meta(description="Where it is charged: when it happened (with `past`), now, or nowhere."),
    ]
    past: Annotated[PastPeriod | None, Meta(description="The period when it happened; null for the others.")] = None
    reason: Annotated[str | None, Meta(description="Why, or null.")] = None


AccountCommand = (
    ChangeProfile
    | ActivateProduct
    | CancelProduct
    | Credit
    | Debit
    | Reserve
    | EmitUsage
    | ConfirmProduct
    | SetRenewal
    | SetSpendingLimit
    | RaiseCap
    | RefundUsage
    | VoidUsage
    | RerateUsage
    | ReleaseLate
)
"""Told apart by the field `type`."""

Command = AccountCommand | GrantLease
"""All that the topic holds."""


def lane_name(partition: int) -> str:
    """What a lane is called where a command names its account."""
    return f"lane/{partition}"
