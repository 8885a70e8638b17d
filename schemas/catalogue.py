"""The catalogue: applications, offerings, PCC rules, campaigns, zones. Pydantic, since people write these files.

Topic `ott.catalogue.v1` carries one `CatalogueEntry` per object and one version marker; see `services.engine.feed`.
Names follow TMF620 (offering, price), TS 29.122/29.251 (PFD) and TS 23.503 (PCC rule).
"""

from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import Field, model_validator

from schemas.catalogue_allowances import Allowance, MoneyAllowance
from schemas.catalogue_amounts import (
    MAX_AMOUNT_OCTETS,
    AsNumber,
    CatalogueId,
    MoneyAmount,
    OctetAmount,
)
from schemas.catalogue_references import problems_of
from schemas.catalogue_scopes import CatalogueModel, Scope, Zone
from schemas.fields import MAX_CONGESTION, Category, GateStatus, Steering
from schemas.flow_description import parse_flow_description, parse_ports, parse_prefix

CATALOGUE_VERSION = "1.5"

DEFAULT_MIN_CONFIDENCE = 31
"""Just above what a port or a rhythm of packets is trusted: a catalogue that says nothing believes neither of them."""


Behaviour = Literal["voice_codec", "voice", "mpeg_ts"]
"""Rhythms of UDP packets: a constant-rate voice codec's, one like a conversation, seven transport packets each."""


class Pfd(CatalogueModel):
    """Packet flow description: what an application's traffic looks like (TS 29.122 clause 5.11.2.1.4).

    At least one detector is needed; detectors are alternatives. A domain name covers itself and every name below it,
    and is looked for in the TLS or QUIC server name, HTTP host, DNS name and STUN realm alike.
    """

    pfd_id: str = Field(min_length=1, max_length=64, description="Unique within the application.")
    service: str | None = Field(
        None, max_length=32, description="Service inside the application: chat, call, video, upload, live ..."
    )
    category: Category | None = Field(
        None, description="Where this service is rated elsewhere than its application: a call in a social app."
    )
    domain_names: tuple[str, ...] = Field((), description="Domain suffixes; `=name` for this exact name only.")
    urls: tuple[str, ...] = Field((), description="URL patterns (TS 29.122); only their host part can be seen.")
    shared: bool = Field(False, description="The names serve other applications too: they never decide alone.")
    public_name: bool = Field(
        False, description="The names are outer names of encrypted client hellos (ECH): no evidence at all."
    )
    flow_descriptions: tuple[str, ...] = Field((), description="Flow descriptions, IPFilterRule form (RFC 6733 4.3.1).")
    prefixes: tuple[str, ...] = Field((), description="Address prefixes owned by this application alone.")
    as_numbers: tuple[AsNumber, ...] = Field(
        (), description="Autonomous systems owned by this application alone; weaker than prefixes."
    )
    ports: tuple[str, ...] = Field(
        (), description="`udp/3478`, `tcp/5222` or a range `udp/19302-19309`; weak evidence."
    )
    ip_protocols: tuple[Annotated[int, Field(ge=0, le=255)], ...] = Field(
        (), description="IANA protocol numbers that belong to it whatever the ports: 50 = ESP."
    )
    stun_realms: tuple[str, ...] = Field((), description="STUN/TURN realms that are no domain name of it.")
    user_agents: tuple[str, ...] = Field((), description="Beginnings of HTTP User-Agent headers, e.g. `WhatsApp/`.")
    content_types: tuple[str, ...] = Field((), description="Beginnings of HTTP Content-Type headers; weak evidence.")
    exporter_ids: tuple[str, ...] = Field((), description="Exporters' names of this service: `ndpi:WhatsAppCall`.")
    behaviours: tuple[Behaviour, ...] = Field(
        (), description="Rhythms of packets that it stands for when nothing else speaks."
    )
    source: str | None = Field(None, max_length=120, description="Where the entries come from: partner, list, person.")

    @model_validator(mode="after")
    def _entries_can_be_read(self) -> Self:
        try:
            for text in self.flow_descriptions:
                parse_flow_description(text)
            for text in self.prefixes:
                parse_prefix(text)
            for text in self.ports:
                parse_ports(text)
        except ValueError as error:
            raise ValueError(f"pfd {self.pfd_id!r}: {error}") from None
        return self

    @model_validator(mode="after")
    def _has_a_detector(self) -> Self:
        if not any(getattr(self, name) for name in DETECTORS):
            raise ValueError(f"pfd {self.pfd_id!r} detects nothing; give one of {', '.join(DETECTORS)}")
        return self


DETECTORS = (
    "domain_names", "urls", "flow_descriptions", "prefixes", "as_numbers", "ports", "ip_protocols", "stun_realms",
    "user_agents", "content_types", "exporter_ids", "behaviours",
)  # fmt: skip
"""The fields of a Pfd that detect something; the others qualify what was detected."""


class Application(CatalogueModel):
    """An OTT application that traffic can belong to (TS 29.251 application identifier)."""

    id: CatalogueId = Field(description="Unique among applications.")
    name: str = Field(min_length=1, max_length=80, description="Name for people.")
    provider: str = Field(
        "", max_length=80, description="Company that runs it; its applications share addresses without suspicion."
    )
    category: Category = Field(description="OTT category that its traffic belongs to.")
    subcategory: str | None = Field(
        None, max_length=40, description="Finer kind: short_video, music, games, vpn, cdn, protocol ..."
    )
    pfds: tuple[Pfd, ...] = Field((), description="What its traffic looks like; any one is enough.")
    exporter_ids: tuple[str, ...] = Field((), description="Names that exporters use for it, e.g. `ndpi:WhatsApp`.")
    ja4: tuple[str, ...] = Field((), description="JA4 fingerprints; a tie-break, never decisive.")
    media_service: str | None = Field(
        None, max_length=32,
        description="Service that nameless UDP media belongs to when the subscriber used the application just before.",
    )  # fmt: skip
    own: bool = Field(False, description="The operator's own service; every decision and explanation says so.")
    media_category: Category | None = Field(
        None, description="Category of that media where it differs: a call inside a social application is voip_im."
    )


class PriceTier(CatalogueModel):
    """Where a usage price changes within a cycle: from the first octet, or connection, above `above`."""

    above: OctetAmount = Field(
        gt=0, description="Out-of-bundle octets, or connections, of the cycle that the tiers before it cover."
    )
    amount: MoneyAmount = Field(description="Price of one unit from there on.")


class UsagePrice(CatalogueModel):
    """Usage price (TMF620 ProductOfferingPrice of type usage): per octets beyond the buckets, or per connection."""

    id: CatalogueId = Field(description="Names the price in decisions, usage and its running total.")
    amount: MoneyAmount = Field(description="Price of one unit; with tiers, in the first of them.")
    unit: Literal["octets", "connection"] = Field(
        "octets",
        description="What it prices: octets beyond the buckets, or connections, whoever pays for their octets.",
    )
    per_octets: OctetAmount = Field(10**6, description="Octets in one unit.")
    per_connections: int = Field(1, ge=1, le=10**9, description="Connections in one unit, for unit `connection`.")
    whole_units: bool = Field(False, description="Each unit that is begun in a cycle is charged whole (package price).")
    tiers: tuple[PriceTier, ...] = Field((), max_length=16, description="Further tiers, in ascending order.")
    tier_mode: Literal["graduated", "volume"] = Field(
        "graduated", description="Each octet costs what its own tier says, or all cost what the tier reached says."
    )
    scope: Scope = Field(Scope(), description="Which traffic it prices.")
    cap: MoneyAmount | None = Field(None, description="Cap per billing cycle; null = none.")
    on_cap: Literal["block", "free"] = Field("block", description="What traffic meets once the cap is reached.")
    overshoot_tolerance_octets: OctetAmount | None = Field(
        None,
        gt=0,
        description="Most that may pass beyond a blocking cap, a spending limit or a prepaid balance before a gateway "
        "acts, which is told ahead; null = no bound.",
    )
    reporting_interval_s: int = Field(
        60, ge=1, le=3_600, description="With a tolerance: how late usage is told at most, the exporters' timeout."
    )

    @model_validator(mode="after")
    def _unit_is_not_empty(self) -> Self:
        if self.per_octets < 1:
            raise ValueError(f"price {self.id!r}: per_octets is {self.per_octets}; a unit has at least 1 octet")
        return self

    @model_validator(mode="after")
    def _unit_is_one(self) -> Self:
        other = "per_octets" if self.unit == "connection" else "per_connections"
        if getattr(self, other) != type(self).model_fields[other].default:
            raise ValueError(f"price {self.id!r}: {other} says nothing where the unit is {self.unit}; remove it")
        return self

    @model_validator(mode="after")
    def _only_octets_are_told_ahead(self) -> Self:
        if self.unit == "connection" and self.overshoot_tolerance_octets is not None:
            raise ValueError(f"price {self.id!r}: overshoot_tolerance_octets is for unit 'octets'; remove it")
        return self

    @model_validator(mode="after")
    def _tiers_ascend(self) -> Self:
        starts = [tier.above for tier in self.tiers]
        if starts != sorted(set(starts)):
            raise ValueError(f"price {self.id!r}: tiers begin above {starts}; write them once each, in ascending order")
        return self


class FlatPrice(CatalogueModel):
    """A recurring or one-time price of an offering (TMF620 ProductOfferingPrice)."""

    id: CatalogueId = Field(description="Unique in the offering.")
    type: Literal["recurring", "one_time"] = Field(description="Every billing cycle, or once at activation.")
    amount: MoneyAmount = Field(description="Amount per cycle, or once.")
    proration: Literal["none", "daily"] = Field(
        "none", description="For a recurring price and a part of a cycle: charged whole, or by its local days."
    )
    refund: Literal["none", "daily"] = Field(
        "none", description="What a cancellation gives back of a recurring price: nothing, or the days after it."
    )

    @model_validator(mode="after")
    def _only_cycles_are_divided(self) -> Self:
        if self.type == "one_time" and (self.proration, self.refund) != ("none", "none"):
            raise ValueError(f"price {self.id!r}: proration and refund are for type 'recurring'; remove them")
        return self


class QosProfile(CatalogueModel):
    """QoS that a rule authorises (TS 23.503 table 6.3.1); absent values keep the session's default."""

    five_qi: int | None = Field(None, ge=1, le=255, description="5QI (TS 23.501 table 5.7.4-1).")
    arp: int | None = Field(None, ge=1, le=15, description="Allocation and retention priority; 1 is highest.")
    mbr_up_bps: int | None = Field(None, ge=0, description="Maximum bit rate up, bit/s.")
    mbr_down_bps: int | None = Field(None, ge=0, description="Maximum bit rate down, bit/s.")
    gbr_up_bps: int | None = Field(None, ge=0, description="Guaranteed bit rate up, bit/s.")
    gbr_down_bps: int | None = Field(None, ge=0, description="Guaranteed bit rate down, bit/s.")


class SubscriberCondition(CatalogueModel):
    """Which accounts something is for. An empty list means any; all lists must agree."""

    segments: tuple[str, ...] = Field((), description="Segments, e.g. `individual`, `group`.")
    age_bands: tuple[str, ...] = Field((), description="Age bands, e.g. `18-25`.")
    consumption_levels: tuple[Literal["low", "middle", "high", "potential_high"], ...] = Field(
        (), description="Consumption levels."
    )
    payments: tuple[Literal["prepaid", "postpaid"], ...] = Field((), description="Ways of paying.")
    min_tenure_days: int = Field(0, ge=0, le=36_500, description="Local days that the account has existed for.")
    tiers: tuple[str, ...] = Field((), description="The operator's own grading: loyalty or business value, e.g. gold.")
    offerings: tuple[CatalogueId, ...] = Field((), description="Offerings, one of which is active in the account.")


class BucketCondition(CatalogueModel):
    """A condition on the state of one allowance of the product that brings the rule."""

    allowance: CatalogueId = Field(description="Allowance of the same product.")
    state: Literal["available", "exhausted", "fresh", "used"] = Field(
        description="What its bucket has to be: something or nothing left; less, or at least, `percent` of it used."
    )
    percent: int | None = Field(
        None, ge=1, le=99, description="For `fresh` and `used`, of what was granted; null with `fresh` = untouched."
    )

    @model_validator(mode="after")
    def _percent_goes_with_its_state(self) -> Self:
        if self.state == "used" and self.percent is None:
            raise ValueError(f"allowance {self.allowance!r}: state 'used' needs a percent, e.g. 80")
        if self.state in ("available", "exhausted") and self.percent is not None:
            raise ValueError(f"allowance {self.allowance!r}: percent goes with 'fresh' and 'used'; remove it")
        return self


class SpendCondition(CatalogueModel):
    """A condition on what the account's usage prices have come to in the billing cycle; fees do not count."""

    at_least: MoneyAmount | None = Field(None, gt=0, description="Holds from this amount on; null = from nothing.")
    below: MoneyAmount | None = Field(None, gt=0, description="Holds below this amount; null = without end.")

    @model_validator(mode="after")
    def _some_amount_is_between(self) -> Self:
        if self.at_least is None and self.below is None:
            raise ValueError("spend asks for nothing; give at_least, below or both")
        if self.at_least is not None and self.below is not None and self.at_least >= self.below:
            raise ValueError("spend: at_least is not less than below; no amount is both")
        return self


class PccRule(CatalogueModel):
    """A policy and charging control rule (TS 23.503 clause 6.3.1). The lowest precedence that matches wins."""

    id: CatalogueId = Field(description="Unique among rules.")
    name: str = Field("", max_length=120, description="Name for people.")
    precedence: int = Field(ge=0, le=100_000, description="Lower wins; unique among rules one account can hold.")
    scope: Scope = Field(Scope(), description="Which traffic it is about.")
    bucket: BucketCondition | None = Field(None, description="Applies only in this state of a bucket; null = always.")
    subscribers: SubscriberCondition | None = Field(None, description="Accounts that it applies to; null = all.")
    spend: SpendCondition | None = Field(None, description="Applies while this much is spent; null = always.")
    min_confidence: int = Field(0, ge=0, le=100, description="Below it, or when suspect, the rule does not apply.")
    suspect: Literal["any", "never", "only"] = Field(
        "any", description="Traffic whose evidence disagrees: as any other, not for this rule, or for this rule alone."
    )
    min_congestion: int = Field(
        0, ge=0, le=MAX_CONGESTION, description="Least congestion level that the network reports; not reported = 0."
    )
    max_congestion: int = Field(MAX_CONGESTION, ge=0, le=MAX_CONGESTION, description="Most, inclusive.")
    gate_status: GateStatus = Field("open", description="Whether the traffic may pass.")
    charging: Literal["charge", "free", "sponsored"] = Field(
        "charge", description="Who pays: the subscriber, nobody, or the campaign's sponsor."
    )
    campaign: CatalogueId | None = Field(None, description="The campaign that pays, for charging = sponsored.")
    rating_group: int = Field(1, ge=0, le=2**32 - 1, description="Charging key (TS 32.299 Rating-Group).")
    service_identifier: int | None = Field(
        None, ge=0, le=2**32 - 1, description="TS 32.299 Service-Identifier, or null."
    )
    qos: QosProfile | None = Field(
        None, description="QoS that it authorises; a throttle is its maximum bit rate; null = the session's default."
    )
    redirect_url: str | None = Field(
        None, max_length=512, pattern=r"^https?://[^\s/?#]+[^\s]*$",
        description="Where web requests are sent instead (TS 29.512 RedirectInformation); who pays is `charging`.",
    )  # fmt: skip
    steering: Steering | None = Field(
        None, description="The access that devices should use (ATSSS, TS 23.503 clause 6.3.1); null = as they like."
    )

    @model_validator(mode="after")
    def _sponsored_names_its_campaign(self) -> Self:
        if (self.charging == "sponsored") != (self.campaign is not None):
            raise ValueError(f"rule {self.id!r}: charging 'sponsored' and campaign go together; give both or neither")
        return self

    @model_validator(mode="after")
    def _some_traffic_can_meet_it(self) -> Self:
        if self.suspect == "only" and self.min_confidence:
            raise ValueError(f"rule {self.id!r}: suspect traffic has confidence 0; remove min_confidence")
        if self.min_congestion > self.max_congestion:
            raise ValueError(f"rule {self.id!r}: min_congestion is above max_congestion; no level is both")
        return self


OCTETS_PER_GB = 10**9


class CampaignBudget(CatalogueModel):
    """What a sponsor pays for in all, shared by everybody whom the campaign is for."""

    octets: OctetAmount | None = Field(None, gt=0, description="Volume; null = `amount` and `amount_per_gb` say it.")
    amount: MoneyAmount | None = Field(None, gt=0, description="Money, of which each GB takes `amount_per_gb`.")
    amount_per_gb: MoneyAmount | None = Field(None, gt=0, description="What the sponsor pays for 10^9 octets.")
    pacing: Literal["none", "even"] = Field(
        "none", description="`even`: each day of the campaign, in UTC, frees the same share; what a day leaves stays."
    )
    on_empty: Literal["charge", "block"] = Field(
        "charge", description="What traffic meets once it is used up: the subscriber's own sources, or a closed gate."
    )

    @model_validator(mode="after")
    def _has_one_limit(self) -> Self:
        money = (self.amount, self.amount_per_gb)
        if self.octets is not None and money == (None, None):
            return self
        if self.octets is None and None not in money:
            return self
        raise ValueError("budget: give either octets, or amount together with amount_per_gb")

    def limit_octets(self) -> int:
        """The budget in whole octets; money buys as many as it covers, and at most MAX_AMOUNT_OCTETS."""
        if self.octets is not None:
            return self.octets
        return min((self.amount or 0) * OCTETS_PER_GB // (self.amount_per_gb or 1), MAX_AMOUNT_OCTETS)


class SettlementTerms(CatalogueModel):
    """What a sponsor owes for what its campaign paid for: by volume, by connections, or by both.

    Octets and connections of a period are summed and priced in proportion; an amount is rounded once, half to even.
    """

    amount_per_gb: MoneyAmount | None = Field(
        None, gt=0, description="Money for 10^9 octets; null = volume is not billed."
    )
    amount_per_connections: MoneyAmount | None = Field(
        None, gt=0, description="Money for `per_connections` connections; null = connections are not billed."
    )
    per_connections: int = Field(1, ge=1, le=10**9, description="Connections that `amount_per_connections` is for.")

    @model_validator(mode="after")
    def _bills_something(self) -> Self:
        if self.amount_per_gb is None and self.amount_per_connections is None:
            raise ValueError("give amount_per_gb, amount_per_connections, or both; or remove the terms")
        if self.amount_per_connections is None and self.per_connections != 1:
            raise ValueError(
                f"per_connections is {self.per_connections}, and amount_per_connections, which it is for, is not "
                "given; give that, or remove it"
            )
        return self


class Campaign(CatalogueModel):
    """Sponsored data connectivity (TS 23.503 clause 6.2.1.5): a partner pays for its application's traffic."""

    id: CatalogueId = Field(description="Unique among campaigns.")
    name: str = Field("", max_length=80, description="Name for people.")
    sponsor_id: str = Field(min_length=1, max_length=64, description="Who pays (TS 29.214 Sponsor-Identity).")
    asp_id: str = Field("", max_length=64, description="Application service provider (TS 29.214).")
    per_subscriber_octets: OctetAmount | None = Field(None, description="Cap per subscriber and cycle; null = none.")
    valid_from_ms: int = Field(0, ge=0, description="Start, inclusive, ms since 1970 UTC.")
    valid_until_ms: int | None = Field(None, ge=0, description="Exclusive; null = open.")
    budget: CampaignBudget | None = Field(None, description="What the sponsor pays for in all; null = no limit.")
    overshoot_tolerance_octets: OctetAmount | None = Field(
        None,
        gt=0,
        description="Most that may pass beyond `per_subscriber_octets` before a gateway acts, which is told ahead; "
        "null = no bound.",
    )
    reporting_interval_s: int = Field(
        60, ge=1, le=3_600, description="With a tolerance: how late usage is told at most, the exporters' timeout."
    )

    settlement: SettlementTerms | None = Field(
        None, description="What the sponsor is billed; null = by `amount_per_gb` of the budget, where that has one."
    )

    def terms(self) -> SettlementTerms | None:
        """What the sponsor is billed: its settlement, else what its budget is counted by; None without either."""
        if self.settlement is not None or self.budget is None or self.budget.amount_per_gb is None:
            return self.settlement
        return SettlementTerms(amount_per_gb=self.budget.amount_per_gb)

    @model_validator(mode="after")
    def _tolerance_has_an_end(self) -> Self:
        if self.overshoot_tolerance_octets is not None and self.per_subscriber_octets is None:
            raise ValueError(
                f"campaign {self.id!r}: overshoot_tolerance_octets is about per_subscriber_octets, which is not given; "
                "give that, or remove it"
            )
        return self

    @model_validator(mode="after")
    def _pacing_has_days(self) -> Self:
        if self.budget is None or self.budget.pacing == "none":
            return self
        if self.valid_until_ms is None or not 0 < self.valid_from_ms < self.valid_until_ms:
            raise ValueError(
                f"campaign {self.id!r}: pacing 'even' spreads the budget over the campaign's days; "
                "give valid_from_ms and a later valid_until_ms"
            )
        return self


class ProductOffering(CatalogueModel):
    """Something a subscriber can hold (TMF620 ProductOffering)."""

    id: CatalogueId = Field(description="Unique among offerings.")
    name: str = Field(min_length=1, max_length=120, description="Name for people.")
    description: str = Field("", max_length=1000, description="What a subscriber reads before buying.")
    version: str = Field(
        "1.0", max_length=16, description="Version of the offering itself, set by the product manager."
    )
    kind: Literal["base_plan", "add_on", "pass"] = Field(
        description="A plan to stand on, an addition to one, or a one-off pass."
    )
    lifecycle_status: Literal["in_study", "active", "retired"] = Field(
        "active", description="Only an active offering can be ordered."
    )
    valid_from_ms: int = Field(0, ge=0, description="Start of sale, inclusive, ms since 1970 UTC.")
    valid_until_ms: int | None = Field(None, ge=0, description="Exclusive; null = open.")
    prices: tuple[FlatPrice, ...] = Field((), description="Recurring and one-time prices.")
    usage_prices: tuple[UsagePrice, ...] = Field((), description="Out-of-bundle prices.")
    allowances: tuple[Allowance, ...] = Field((), description="Volume and time granted per cycle or once.")
    money_allowances: tuple[MoneyAllowance, ...] = Field((), description="Money granted per cycle or once.")
    rules: tuple[CatalogueId, ...] = Field((), description="PCC rules that the product brings.")
    eligibility: SubscriberCondition | None = Field(None, description="Accounts that may order it; null = all.")
    requires: tuple[CatalogueId, ...] = Field((), description="Offerings, one of which the account must hold.")
    excludes: tuple[CatalogueId, ...] = Field((), description="Offerings that the account must not hold.")
    term_days: int | None = Field(None, ge=1, le=3660, description="Life in days; null = until cancelled.")
    anchor: Literal["activation", "calendar"] = Field(
        "activation",
        description="Where its term, and the `valid_days` of what it grants, end: at the time of day when they began, "
        "or at local midnight, the day on which they began being the first.",
    )
    renewal: Literal["none", "automatic"] = Field(
        "none",
        description="At the end of a term: the product ends, or begins another one unless the subscriber says no.",
    )
    renewal_reminder_days: int = Field(
        1, ge=0, le=30, description="The subscriber is reminded so many days before a renewal; 0 = not."
    )
    trial_days: int | None = Field(
        None, ge=1, le=366, description="Days free of charge; then it ends unless it was confirmed. null = no trial."
    )
    trial_reminder_days: int = Field(
        2, ge=0, le=30, description="The subscriber is reminded so many days before the trial's end; 0 = not again."
    )
    minimum_rent: MoneyAmount = Field(
        0, description="Of a base plan: least that a cycle costs, fees and usage together; the rest is charged."
    )
    max_held: int | None = Field(
        None, ge=1, le=64, description="Most products of this offering that an account holds at a time; null = any."
    )

    @model_validator(mode="after")
    def _is_on_sale_for_some_time(self) -> Self:
        if self.valid_until_ms is not None and self.valid_until_ms <= self.valid_from_ms:
            detail = f"valid_until_ms {self.valid_until_ms} is not after valid_from_ms {self.valid_from_ms}"
            raise ValueError(f"offering {self.id!r}: {detail}; put the two in order")
        return self

    @model_validator(mode="after")
    def _money_has_names_of_its_own(self) -> Self:
        ids = [item.id for item in self.allowances] + [item.id for item in self.money_allowances]
        for item in self.money_allowances:
            if ids.count(item.id) > 1:
                raise ValueError(f"offering {self.id!r}: two allowances are called {item.id!r}; rename one")
        return self

    @model_validator(mode="after")
    def _only_terms_are_renewed(self) -> Self:
        if self.renewal == "automatic" and self.term_days is None:
            raise ValueError(f"offering {self.id!r}: renewal is for the end of a term; give term_days, or remove it")
        for item in self.allowances:
            if item.rollover is not None and item.validity == "once" and self.renewal == "none":
                raise ValueError(
                    f"allowance {item.id!r}: rollover is for validity 'cycle', or for an offering with renewal "
                    "'automatic'; remove one of the two"
                )
        return self

    @model_validator(mode="after")
    def _an_anchor_has_days(self) -> Self:
        lives = [self.term_days, *(item.valid_days for item in self.allowances)]
        lives += [item.valid_days for item in self.money_allowances]
        if self.anchor == "calendar" and not any(lives):
            raise ValueError(
                f"offering {self.id!r}: anchor is for the end of term_days or valid_days; give one of them"
            )
        return self

    @model_validator(mode="after")
    def _rent_is_a_plans(self) -> Self:
        if self.minimum_rent and self.kind != "base_plan":
            raise ValueError(f"offering {self.id!r}: minimum_rent is for a base_plan; this is a {self.kind}")
        return self


class Catalogue(CatalogueModel):
    """One version of everything; references are checked here, so that a worker never meets a dangling one."""

    version: str = Field(min_length=1, max_length=64)
    currency: str = Field("EUR", pattern=r"^[A-Z]{3}$")
    min_confidence: int = Field(DEFAULT_MIN_CONFIDENCE, ge=0, le=100)
    """Below it, and whenever its evidence disagrees, a verdict is not believed: the flow is charged at the general
    rate, by nothing that looks at applications, categories or services; closed gates keep to their own threshold."""
    applications: tuple[Application, ...] = ()
    offerings: tuple[ProductOffering, ...] = ()
    rules: tuple[PccRule, ...] = ()
    campaigns: tuple[Campaign, ...] = ()
    zones: tuple[Zone, ...] = ()

    @model_validator(mode="after")
    def _references_hold(self) -> Self:
        problems = list(problems_of(self))
        if problems:
            raise ValueError("; ".join(problems[:20]))
        return self


class VersionMarker(CatalogueModel):
    """The last record of a published version: it makes the entries that add up to `digest` effective."""

    version: str = Field(min_length=1, max_length=64, description="Version of the catalogue.")
    currency: str = Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code of every amount in the catalogue.")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 over the entries, in the order of their keys.")
    min_confidence: int = Field(
        DEFAULT_MIN_CONFIDENCE, ge=0, le=100, description="Below it a verdict is not believed: general rate."
    )


class CatalogueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One record of `ott.catalogue.v1`: an object of the catalogue, or the marker that makes a version effective."""

    version: Annotated[str, msgspec.Meta(description="Contract version; this is 1.5.")]
    entry_key: Annotated[str, msgspec.Meta(description="`<kind>/<id>`, the record's key; the marker is `version`.")]
    kind: Annotated[
        Literal["application", "offering", "rule", "campaign", "zone", "version"],
        msgspec.Meta(description="What body is."),
    ]
    body: Annotated[dict[str, Any], msgspec.Meta(description="The object as in the catalogue files, or the marker.")]
