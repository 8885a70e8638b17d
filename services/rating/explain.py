"""Why a row of the ledger is what it is: evidence, rule, losers, buckets, price, and where the records behind it are.

Pure: the row and the catalogue version that it names come in, a document for people and programs goes out.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic import Field

from schemas.catalogue import PccRule, ProductOffering, UsagePrice
from schemas.topics import DECISIONS, FLOWS, USAGE
from schemas.units import format_micros, format_octets
from services.engine.prices import curve_of
from services.engine.reclassify import CAUSE as RECLASSIFIED
from services.engine.tariff import BUILT_IN_RULE, CompiledPrice, Reach, Traffic
from services.rating.documents import Document, TmfModel, present, timestamp
from services.rating.explain_corrections import correction_notes
from services.rating.explain_reasons import OF_EACH_FLOW, may_have_failed, outside_text, precedence_text
from services.rating.published import Published
from services.rating.tmf_balance import bucket_names, quantity, value_text
from services.rating.tmf_catalogue import scope_text
from services.rating.tmf_usage import usage_sentence

Row = dict[str, Any]

ROUNDING = (
    "down to a whole millionth, once, over the cycle's out-of-bundle total; a flow costs the total after it less the "
    "total before it, so splitting a flow costs the same"
)

_EVIDENCE = {
    "pfd": "a packet flow description of the application",
    "server_name": "the server name of the TLS or QUIC handshake",
    "http_host": "the Host header",
    "dns_name": "the name that the subscriber had just resolved to this address",
    "stun_realm": "the realm of the STUN server",
    "exporter_application": "the application that the exporter named",
    "address": "the address of the far side",
    "asn": "the autonomous system of the far side",
    "media": "the shape of a media stream",
    "port": "the port",
    "content_type": "the content type",
    "user_agent": "the user agent",
    "ja4": "the JA4 fingerprint of the TLS client",
    "behaviour": "the behaviour of the flow",
}

_TREATMENTS = {
    "charged": "The account pays: from its buckets, and beyond them by the out-of-bundle price.",
    "free": "Nobody pays: the rule gives this traffic for free, or an exhausted pack lets it pass slowly.",
    "sponsored": "A sponsor pays; the account's buckets are not touched.",
    "blocked": "The traffic may not pass, so it costs nothing.",
    "not_charged": "The flows failed (reset or unanswered), so they cost nothing.",
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """Everything that an explanation is made of."""

    row: Row
    movements: Sequence[Row]
    published: Published | None
    """The catalogue version that the row names; None when it was not published here."""
    held: Sequence[str]
    """Offerings that the account held when the row was rated, in the order in which they began."""
    products: Mapping[str, str]
    """Offering per product id, of all products that the account ever had."""
    command: str | None
    """The command that caused a movement, as JSON."""
    booked_until_ms: int | None
    corrections: Sequence[Row] = ()
    """Rows of the ledger that correct this one, oldest first."""
    sponsorships: Sequence[Row] = ()
    """What campaigns paid for, or got back."""


class ExplainedOctets(TmfModel):
    """Octets by who paid for them; they add up to `total`."""

    total: int
    charged: int
    free: int
    sponsored: int
    blocked: int
    not_charged: int


class ExplainedTraffic(TmfModel):
    """What was transferred."""

    category: str | None = None
    application: str | None = None
    application_name: str | None = None
    own_service: bool | None = Field(None, description="True where the application is the operator's own service.")
    service: str | None = None
    flow_records: int
    octets: ExplainedOctets
    treatment: str
    meaning: str


class ExplainedEvidence(TmfModel):
    """What showed which application it was."""

    kind: str
    matched: str
    meaning: str


class ExplainedRule(TmfModel):
    """The PCC rule that won."""

    id: str
    why: str
    definition: dict[str, Any] | None = Field(None, description="As in the catalogue version that was used.")
    offering: str | None = Field(None, description="Offering of the account that brings the rule.")


class ExplainedLoser(TmfModel):
    """A rule that the account's products bring and that did not apply."""

    rule_id: str
    reason: str = Field(description="`precedence`, or the condition that failed or may have failed.")
    text: str


class ExplainedBucket(TmfModel):
    """A bucket before and after."""

    bucket_id: str
    name: str
    unit: str
    before: int | str
    change: int | str
    after: int | str
    text: str


class ExplainedCampaign(TmfModel):
    """A campaign that paid, or that got something back."""

    campaign_id: str
    name: str | None = None
    sponsor_id: str | None = None
    octets: int
    budget_octets: int = Field(description="Those of them that came from its budget.")
    connections: int = Field(description="Connections that ended while it paid for them.")
    text: str


class ExplainedInterval(TmfModel):
    """Out-of-bundle octets of the billing cycle before and after this usage."""

    octets_from: int
    octets_to: int


class ExplainedPrice(TmfModel):
    """How the money came about."""

    price_id: str | None = None
    amount: str = Field(description="Exact decimal string; negative = given back.")
    currency: str | None = None
    interval: ExplainedInterval | None = None
    definition: dict[str, Any] | None = None
    calculation: str
    rounding: str | None = None


class ExplainedSource(TmfModel):
    """Where the records behind the row are."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    ordinal: int
    decisions: str | None = Field(None, description="Where each flow's own decision is, with its losers.")
    usage_topic: str
    usage_partition: int
    usage_offset: int
    command_id: str | None = None
    command: str | None = Field(None, description="The command, as it was sent.")


class Explanation(TmfModel):
    """Why a row of the ledger is what it is."""

    usage_id: str
    kind: str
    summary: str
    account_id: str
    subscriber_id: str
    started_at: str
    ended_at: str
    rated_at: str
    booked_until: str | None = Field(None, description="Everything rated and emitted until then is in the ledger.")
    catalogue_version: str
    corrects: str | None = Field(None, description="The row, or the decision of the flow, that this row corrects.")
    corrected_by: tuple[str, ...] = Field((), description="Rows that correct this one, oldest first.")
    traffic: ExplainedTraffic | None = None
    evidence: ExplainedEvidence | None = None
    rule: ExplainedRule | None = None
    losers: tuple[ExplainedLoser, ...] = ()
    buckets: tuple[ExplainedBucket, ...] = ()
    campaigns: tuple[ExplainedCampaign, ...] = ()
    price: ExplainedPrice | None = None
    source: ExplainedSource
    notes: tuple[str, ...] = ()


def explain(facts: Facts) -> Document:
    """The explanation of `facts.row`, in the shape of `Explanation`."""
    row = facts.row
    is_usage = row["kind"] == "usage"
    return present(
        {
            "usageId": row["usage_id"],
            "kind": row["kind"],
            "summary": _summary(facts),
            "accountId": row["account_id"],
            "subscriberId": row["subscriber_id"],
            "startedAt": timestamp(row["start_ms"]),
            "endedAt": timestamp(row["end_ms"]),
            "ratedAt": timestamp(row["rated_at_ms"]),
            "bookedUntil": None if facts.booked_until_ms is None else timestamp(facts.booked_until_ms),
            "catalogueVersion": row["catalogue_version"],
            "corrects": row["corrects"],
            "correctedBy": [correction["usage_id"] for correction in facts.corrections],
            "traffic": _traffic(facts) if is_usage or row["octets"] else None,
            "evidence": _evidence(row),
            "rule": _rule(facts) if row["rule_id"] else None,
            "losers": list(_losers(facts)) if row["rule_id"] else [],
            "buckets": [_bucket(facts, movement) for movement in facts.movements],
            "campaigns": [_campaign(facts, paid) for paid in facts.sponsorships],
            "price": _price(facts),
            "source": _source(facts),
            "notes": list(_notes(facts)),
        }
    )


def _summary(facts: Facts) -> str:
    row = facts.row
    sentence = usage_sentence(row)
    if _is_own(facts):
        sentence += ", of the operator's own service"
    if row["rule_id"]:
        sentence += f", by rule {row['rule_id']}"
    if facts.movements:
        sentence += "; " + ", ".join(_movement_text(facts, movement) for movement in facts.movements)
    return f"{sentence}."


def _traffic(facts: Facts) -> Document:
    row = facts.row
    application = facts.published.applications.get(row["application"]) if facts.published else None
    return present(
        {
            "category": row["category"],
            "application": row["application"],
            "applicationName": application.name if application else None,
            "ownService": _is_own(facts) or None,
            "service": row["service"],
            "flowRecords": row["record_count"],
            "octets": {
                "total": row["octets"],
                "charged": row["charged_octets"],
                "free": row["free_octets"],
                "sponsored": row["sponsored_octets"],
                "blocked": row["blocked_octets"],
                "notCharged": row["not_charged_octets"],
            },
            "treatment": row["treatment"] or "charged",
            "meaning": _TREATMENTS.get(row["treatment"], "Rated."),
        }
    )


def _is_own(facts: Facts) -> bool:
    application = facts.published.applications.get(facts.row["application"]) if facts.published else None
    return application is not None and application.own


def _evidence(row: Row) -> Document | None:
    if not row["evidence"]:
        return None
    kind, _, matched = row["evidence"].partition(":")
    seen = _EVIDENCE.get(kind, kind)
    if row["application"] is None:
        meaning = f"{seen} was {matched!r}, which fits no application of the catalogue, or was not believed"
    else:
        meaning = f"{seen} matched {matched!r} in the catalogue"
    return {"kind": kind, "matched": matched, "meaning": meaning}


def _rule(facts: Facts) -> Document:
    rule_id = facts.row["rule_id"]
    rule = _find_rule(facts.published, rule_id)
    if rule is None:
        why = f"rule {rule_id} is not in the stored catalogue version {facts.row['catalogue_version']}"
        return {"id": rule_id, "why": why}
    bringer = next((offering.id for offering in _held(facts) if rule_id in offering.rules), None)
    return present(
        {
            "id": rule_id,
            "why": _why(rule, bringer),
            "definition": rule.model_dump(mode="json", exclude_defaults=True),
            "offering": bringer,
        }
    )


def _why(rule: PccRule, bringer: str | None) -> str:
    if rule.id == BUILT_IN_RULE.id:
        return "no other rule of the account applied, so the built-in rule for general data did"
    return (
        f"it covers {scope_text(rule.scope)}, its conditions held, and its precedence {rule.precedence} is the lowest "
        f"among the rules that applied{f'; the product {bringer} brings it' if bringer else ''}"
    )


def _losers(facts: Facts) -> Iterator[Document]:
    winner = _find_rule(facts.published, facts.row["rule_id"])
    if facts.published is None or winner is None:
        return
    ids = dict.fromkeys(rule_id for offering in _held(facts) for rule_id in offering.rules)
    rules = [facts.published.rules[rule_id] for rule_id in ids if rule_id != winner.id]
    for rule in sorted(rules, key=lambda rule: (rule.precedence, rule.id)):
        reason, text = _why_not(rule, winner, facts.row)
        yield {"ruleId": rule.id, "reason": reason, "text": text}


def _why_not(rule: PccRule, winner: PccRule, row: Row) -> tuple[str, str]:
    traffic = Traffic(row["application"], row["category"] or "other", row["service"], None)
    missed = Reach.of(rule.scope).miss(traffic)
    if missed and missed not in OF_EACH_FLOW:
        return missed, outside_text(rule)
    if rule.precedence > winner.precedence:
        return "precedence", precedence_text(rule, winner)
    if missed:
        return missed, f"it covers {scope_text(rule.scope)} only"
    return next(may_have_failed(rule))


def _bucket(facts: Facts, movement: Row) -> Document:
    before = movement["remaining"] - movement["amount"]
    unit, currency = movement["unit"], facts.row["currency"]
    amounts = {"before": before, "change": movement["amount"], "after": movement["remaining"]}
    name, _ = bucket_names(movement, _granting(facts, movement))
    return {
        "bucketId": movement["bucket_id"],
        "name": name,
        "unit": quantity(0, unit, currency)["units"],
        **{key: quantity(amount, unit, currency)["amount"] for key, amount in amounts.items()},
        "text": _movement_text(facts, movement),
    }


def _campaign(facts: Facts, paid: Row) -> Document:
    campaign = facts.published.campaigns.get(paid["campaign_id"]) if facts.published else None
    sponsor = f" of {campaign.sponsor_id}" if campaign else ""
    done = "got back" if facts.row["kind"] == "refund" else "paid for"
    of_budget = f", {format_octets(paid['budget_octets'])} of them from its budget" if paid["budget_octets"] else ""
    ended, volume = paid["connections"], format_octets(paid["octets"])
    counted = f", and {ended} connection{'' if ended == 1 else 's'}" if ended else ""
    return present(
        {
            "campaignId": paid["campaign_id"],
            "name": campaign.name or None if campaign else None,
            "sponsorId": campaign.sponsor_id if campaign else None,
            "octets": paid["octets"],
            "budgetOctets": paid["budget_octets"],
            "connections": ended,
            "text": f"campaign {paid['campaign_id']}{sponsor} {done} {volume}{of_budget}{counted}",
        }
    )


def _movement_text(facts: Facts, movement: Row) -> str:
    name, _ = bucket_names(movement, _granting(facts, movement))
    unit, currency, amount = movement["unit"], facts.row["currency"], movement["amount"]
    change = value_text(abs(amount), unit, currency)
    before = value_text(movement["remaining"] - amount, unit, currency)
    after = value_text(movement["remaining"], unit, currency)
    return f"{change} {'put into' if amount > 0 else 'taken from'} {name} ({before} before, {after} after)"


def _granting(facts: Facts, movement: Row) -> ProductOffering | None:
    """The offering behind a bucket: that of the row, or that of the product in the bucket's id."""
    product_id = movement["bucket_id"].rpartition("/")[0]
    offering_id = facts.row["offering_id"] or facts.products.get(product_id, "")
    return facts.published.offerings.get(offering_id) if facts.published else None


def _price(facts: Facts) -> Document | None:
    row = facts.row
    if row["price_id"] is None and not row["amount_micros"]:
        return None
    document: Document = {
        "priceId": row["price_id"],
        "amount": format_micros(row["amount_micros"]),
        "currency": row["currency"],
    }
    if row["price_id"] is None:
        return present(document) | {"calculation": f"a {row['kind']} of this amount"}
    price = _find_price(facts)
    if row["price_octets_from"] is not None and row["price_octets_to"] is not None:
        document["interval"] = {"octetsFrom": row["price_octets_from"], "octetsTo": row["price_octets_to"]}
    document["definition"] = price.model_dump(mode="json", exclude_defaults=True) if price else None
    document["calculation"] = _calculation(row, price)
    document["rounding"] = _rounding(row["price_octets_to"], price)
    return present(document)


def _calculation(row: Row, price: UsagePrice | None) -> str:
    start, end = row["price_octets_from"], row["price_octets_to"]
    if price is None or start is None or end is None:
        return (
            "the price of the cycle's out-of-bundle octets after each flow less that before it, summed over the flows"
        )
    connections = price.unit == "connection"
    counted = "connections" if connections else "octets"
    unit = f"{price.per_connections} connections" if connections else format_octets(price.per_octets)
    compiled = CompiledPrice(price, Reach.of(price.scope), "")
    before, after = compiled.amount_up_to(start), compiled.amount_up_to(end)
    text = (
        f"price({end} {counted}) − price({start} {counted}) = {format_micros(after)} − {format_micros(before)} = "
        f"{format_micros(after - before)}, at {format_micros(price.amount)} per {unit}"
    )
    if price.cap is not None:
        text += f", at most {format_micros(price.cap)} a cycle unless the subscriber raised it"
    if after - before != row["amount_micros"]:
        text += (
            f"; {format_micros(row['amount_micros'])} of it is this usage, "
            "since other traffic of the account was priced in between"
        )
    return text


def _rounding(end: int | None, price: UsagePrice | None) -> str:
    """The rule, and what it did to the cycle's total here."""
    if end is None or price is None:
        return ROUNDING
    curve = curve_of(price)
    micros, rest = divmod(curve.shares(end), curve.unit_octets)
    if not rest:
        return f"{ROUNDING}; here nothing had to be rounded"
    # Twelve places: micro-units, and six more.
    exact = Decimal(curve.shares(end) * 10**6 // curve.unit_octets).scaleb(-12)
    dots = "..." if curve.shares(end) * 10**6 % curve.unit_octets else ""
    return f"{ROUNDING}; here the total {exact.normalize():f}{dots} became {format_micros(micros)}"


def _source(facts: Facts) -> Document:
    row = facts.row
    from_flows = row["kind"] == "usage" and row["source_topic"] == FLOWS
    decisions = (
        f"{DECISIONS}, partition {row['source_partition']}: decisions {row['source_partition']}-{row['first_offset']} "
        f"to {row['source_partition']}-{row['last_offset']} of this account"
    )
    return present(
        {
            "topic": row["source_topic"],
            "partition": row["source_partition"],
            "firstOffset": row["first_offset"],
            "lastOffset": row["last_offset"],
            "ordinal": row["ordinal"],
            "decisions": decisions if from_flows else None,
            "usageTopic": USAGE,
            "usagePartition": row["log_partition"],
            "usageOffset": row["log_offset"],
            "commandId": None if row["cause"] == RECLASSIFIED else row["cause"],
            "command": facts.command,
        }
    )


def _notes(facts: Facts) -> Iterator[str]:
    if facts.published is None:
        yield f"catalogue version {facts.row['catalogue_version']} is not stored here, so definitions are left out"
    if facts.row["rule_id"]:
        yield (
            "losers are worked out from the products held and the catalogue; the radio access, network, bucket state "
            "and confidence of each single flow are in its decision"
        )
    if facts.row["evidence"] and facts.row["record_count"] > 1:
        yield "the evidence is that of the last flow record; each decision has its own"
    yield from correction_notes(facts.row, facts.corrections)


def _held(facts: Facts) -> list[ProductOffering]:
    offerings: Mapping[str, ProductOffering] = facts.published.offerings if facts.published else {}
    return [offerings[offering_id] for offering_id in facts.held if offering_id in offerings]


def _find_rule(published: Published | None, rule_id: str) -> PccRule | None:
    if rule_id == BUILT_IN_RULE.id:
        return BUILT_IN_RULE
    return published.rules.get(rule_id) if published else None


def _find_price(facts: Facts) -> UsagePrice | None:
    offerings = [*_held(facts), *(facts.published.offerings.values() if facts.published else ())]
    prices = (price for offering in offerings for price in offering.usage_prices)
    return next((price for price in prices if price.id == facts.row["price_id"]), None)
