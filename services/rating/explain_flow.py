"""Why one flow was decided as it was, and what is near its end: an explanation of a decision, without any ledger.

Pure: what the engine found comes in, a document comes out. Its members are those of `services.rating.explain`, where
both say the same thing, in the same words; a single flow can say more than a row of many.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.catalogue import Catalogue, PccRule
from schemas.decision import PolicyDecision, Qos
from schemas.flow import FlowRecord
from schemas.notification import Notification
from schemas.units import parse_micros
from services.engine.ends import End, asleep_of, ends_of
from services.engine.outcome import Outcome
from services.engine.reasons import Met, Weighed, met_by
from services.engine.tariff import BUILT_IN_RULE, Tariff
from services.rating.documents import Document, present
from services.rating.explain import ROUNDING, Facts, explain
from services.rating.explain_reasons import condition_text, precedence_text
from services.rating.published import Published
from services.rating.repositories.catalogue import StoredVersion
from services.rating.tmf_balance import MAIN_BALANCE, bucket_names, quantity, value_text

Row = dict[str, Any]

_FOR_LEDGER = ("usageId", "bookedUntil", "source")
"""Members that are about a row of the ledger."""


@dataclasses.dataclass(frozen=True)
class Decided:
    """One flow, what it met, and what came of it."""

    flow: FlowRecord
    before: Met
    outcome: Outcome
    decided_at_ms: int
    tariff: Tariff
    leases: Mapping[str, int] | None
    """What was left of campaigns' budgets before the flow; None where there are none."""


def published_of(catalogue: Catalogue) -> Published:
    """A catalogue that is read from files, as explanations look at published ones."""
    stored = StoredVersion(0, catalogue.version, catalogue.currency, "", 0, catalogue.min_confidence)
    parts = (catalogue.applications, catalogue.offerings, catalogue.rules, catalogue.campaigns)
    applications, offerings, rules, campaigns = ({item.id: item for item in part} for part in parts)
    return Published(stored, applications, offerings, rules, campaigns)  # type: ignore[arg-type]


def explain_flow(decided: Decided, published: Published) -> Document:
    """The explanation of a decision: members as in `Explanation`, and those that only a single flow can have."""
    decision = _decision(decided)
    facts = _facts(decided, decision, published)
    found = {name: value for name, value in explain(facts).items() if name not in _FOR_LEDGER}
    after = met_by(decided.flow, decision.classification, decided.outcome.account, decided.tariff)
    return present(
        {
            "decisionId": decision.decision_id,
            "recordId": decision.record_id,
            **found,
            "kind": "decision",
            "rule": found["rule"] | _effects(decision),
            "losers": list(_losers(decided, decision)),
            "connection": _connection(decision),
            "limits": [_limit(end, facts) for end in _ends(decided, after)],
            "gateway": [f"{item.action} {item.rule_id}: {item.cause}" for item in decided.outcome.updates],
            "told": [_told(note) for note in decided.outcome.notifications],
            "notes": [*_notes(decided, decision, after), *_asleep(decided, facts)],
        }
    )  # fmt: skip


def _decision(decided: Decided) -> PolicyDecision:
    if decided.outcome.decision is None:
        raise RuntimeError(f"flow {decided.flow.record_id} has no decision; this is a bug")
    return decided.outcome.decision


def _facts(decided: Decided, decision: PolicyDecision, published: Published) -> Facts:
    account = decided.before.account
    return Facts(
        row=_row(decision),
        movements=list(_movements(decided, decision)),
        published=published,
        held=[product.offering_id for product in account.products if product.status == "active"],
        products={product.product_id: product.offering_id for product in account.products},
        command=None,
        booked_until_ms=None,
        sponsorships=[
            {
                "campaign_id": item.campaign_id,
                "octets": item.octets,
                "budget_octets": item.budget_octets,
                "connections": item.connections,
            }
            for item in decision.sponsorships
        ],
    )


def _row(decision: PolicyDecision) -> Row:
    """The decision as a row of one flow record. Its connection, a row of its own there, is told apart."""
    seen, price = decision.classification, decision.price
    evidence = seen.evidence[0] if seen.evidence else None
    names = ("account_id", "subscriber_id", "start_ms", "end_ms", "rule_id", "catalogue_version", "treatment", "octets",
             "charged_octets", "free_octets", "sponsored_octets", "blocked_octets", "not_charged_octets")  # fmt: skip
    return {
        **{name: getattr(decision, name) for name in names},
        "usage_id": decision.decision_id,
        "kind": "usage",
        "rated_at_ms": decision.decided_at_ms,
        "application": seen.application,
        "category": seen.category,
        "service": seen.service,
        "evidence": f"{evidence.kind}:{evidence.matched or evidence.value}" if evidence else None,
        "record_count": 1,
        "connections": 0,
        "amount_micros": parse_micros(price.amount) if price else 0,
        "credit_micros": sum(parse_micros(item.amount) for item in decision.payments) if price else 0,
        "currency": price.currency if price else None,
        "price_id": price.price_id if price else None,
        "price_octets_from": price.octets_from if price else None,
        "price_octets_to": price.octets_to if price else None,
        **dict.fromkeys(("cause", "corrects", "offering_id", "product_id", "source_topic")),
        **dict.fromkeys(("source_partition", "first_offset", "last_offset", "ordinal"), 0),
        **dict.fromkeys(("log_partition", "log_offset"), 0),
    }


def _movements(decided: Decided, decision: PolicyDecision) -> Iterator[Row]:
    for draw in decision.draws:
        unit = "octets" if draw.drawn_ms is None else "ms"
        yield {"bucket_id": draw.bucket_id, "unit": unit, "amount": -draw.amount, "remaining": draw.left}
    for paid in decision.payments:
        amount, remaining = -parse_micros(paid.amount), parse_micros(paid.remaining)
        yield {"bucket_id": paid.bucket_id, "unit": "micros", "amount": amount, "remaining": remaining}
    if decided.outcome.account.payment == "prepaid":
        priced = [item for item in (decision.price, decision.connection) if item is not None]
        paid_micros = sum(parse_micros(item.amount) for item in priced)
        own = paid_micros - sum(parse_micros(item.amount) for item in decision.payments)
        if own:
            remaining = decided.outcome.account.balance_micros
            yield {"bucket_id": MAIN_BALANCE, "unit": "micros", "amount": -own, "remaining": remaining}


def _effects(decision: PolicyDecision) -> Document:
    """What the rule does besides the charge."""
    qos = decision.qos
    return present(
        {
            "gateStatus": decision.gate_status,
            "ratingGroup": decision.rating_group,
            "qos": _qos_text(qos) if qos else None,
            "redirectUrl": decision.redirect_url,
            "steering": decision.steering,
            "sponsorId": decision.sponsor_id,
        }
    )


def _qos_text(qos: Qos) -> str:
    parts = (
        ("5QI", qos.five_qi, ""), ("ARP", qos.arp, ""), ("at most", qos.mbr_up_bps, " bit/s up"),
        ("at most", qos.mbr_down_bps, " bit/s down"), ("guaranteed", qos.gbr_up_bps, " bit/s up"),
        ("guaranteed", qos.gbr_down_bps, " bit/s down"),
    )  # fmt: skip
    return ", ".join(f"{name} {value}{unit}" for name, value, unit in parts if value is not None)


def _losers(decided: Decided, decision: PolicyDecision) -> Iterator[Document]:
    for item in decided.before.weighed:
        if item.rule.rule.id not in {decision.rule_id, BUILT_IN_RULE.id}:
            yield _loser(item, decided)


def _loser(item: Weighed, decided: Decided) -> Document:
    rule, winner = item.rule.rule, decided.before.selection.rule.rule
    if item.reason is None:
        return {"ruleId": rule.id, "reason": "precedence", "text": precedence_text(rule, winner)}
    return {"ruleId": rule.id, "reason": item.reason, "text": _why_not(rule, item.reason, decided)}


def _why_not(rule: PccRule, reason: str, decided: Decided) -> str:
    """What the rule asks for, and what the flow or the account had instead."""
    traffic, account = decided.before.traffic, decided.before.account
    doubted = f"{max(traffic.confidence, 0)}; the catalogue believes from {decided.tariff.min_confidence} on"
    had = {
        "rat_type": f"this flow was on {decided.flow.rat_type or 'no stated radio access'}",
        "zone": f"this flow was in {traffic.zone or 'no zone of the catalogue'}",
        "dnn": f"this flow was in {decided.flow.dnn or 'no stated data network'}",
        "congestion": f"the network reported {decided.flow.congestion_level or 0}",
        "confidence": f"the verdict has {doubted}",
        "subscriber": f"this account is {account.segment}, {account.payment}"
        + "".join(f", {value}" for value in (account.age_band, account.consumption_level) if value),
        "tier": f"this account's tier is {account.tier or 'not stated'}",
        "plan": f"this account holds {', '.join(item.offering_id for item in account.products) or 'nothing'}",
    }
    return f"{condition_text(rule, reason)}{f'; {had[reason]}' if reason in had else ''}"


def _connection(decision: PolicyDecision) -> Document | None:
    ended = decision.connection
    if ended is None:
        return None
    return {
        "priceId": ended.price_id,
        "amount": ended.amount,
        "currency": ended.currency,
        "calculation": f"price({ended.connections_to} connections) − price({ended.connections_from} connections) = "
        f"{ended.amount}",
        "rounding": ROUNDING.replace("out-of-bundle total", "total of connections"),
    }


def _ends(decided: Decided, after: Met) -> tuple[End, ...]:
    """The ends of what was met, and of what a flow of this kind meets from now on, as they stand after it."""
    taken = {item.campaign_id: item.budget_octets for item in _decision(decided).sponsorships}
    left = None if decided.leases is None else {
        name: octets - taken.get(name, 0) for name, octets in decided.leases.items()
    }  # fmt: skip
    same = after._replace(selection=decided.before.selection)
    subscriber_id, now_ms = decided.flow.subscriber_id, decided.decided_at_ms
    found = [ends_of(item, subscriber_id, decided.tariff, now_ms=now_ms, leases=left) for item in (same, after)]
    return tuple(dict.fromkeys(found[0] + found[1]))


_ENDS = {
    "bucket": "bucket {name}", "share": "own share of {name}", "cap": "cap of price {name}",
    "spending_limit": "the subscriber's spending limit", "balance": "main balance",
    "campaign": "campaign {name}, for this subscriber", "budget": "budget of campaign {name}",
}  # fmt: skip


def _limit(end: End, facts: Facts) -> Document:
    published = facts.published
    currency = published.stored.currency if published else None
    name = _bucket_name(end.name, facts) if end.kind in ("bucket", "share") else end.name
    told = f"{value_text(end.left, end.unit, currency)} left"
    percent = end.used * 100 // end.most if end.most else None
    if end.most is not None:
        of = value_text(end.most, end.unit, currency)
        told = f"{value_text(end.used, end.unit, currency)} of {of} used ({percent or 0} %), {told}"
    return present(
        {
            "kind": end.kind,
            "id": end.name or None,
            "unit": quantity(0, end.unit, currency)["units"],
            "used": None if end.most is None else quantity(end.used, end.unit, currency)["amount"],
            "most": None if end.most is None else quantity(end.most, end.unit, currency)["amount"],
            "left": quantity(end.left, end.unit, currency)["amount"],
            "near": end.is_near,
            "text": f"{_ENDS[end.kind].format(name=name)}: {told}",
        }
    )


def _asleep(decided: Decided, facts: Facts) -> Iterator[str]:
    for bucket_id in asleep_of(decided.before, decided.tariff):
        name = _bucket_name(bucket_id, facts)
        yield f"bucket {name} is for such traffic, and serves nothing now: not its time, or its product is suspended"


def _bucket_name(bucket_id: str, facts: Facts) -> str:
    offerings = facts.published.offerings if facts.published else {}
    offering = offerings.get(facts.products.get(bucket_id.rpartition("/")[0], ""))
    return bucket_names({"bucket_id": bucket_id}, offering)[0]


def _told(note: Notification) -> str:
    return f"{note.kind}: {note.detail}" if note.detail else note.kind


def _notes(decided: Decided, decision: PolicyDecision, after: Met) -> Iterator[str]:
    if decision.note:
        yield decision.note
    if decision.price is not None and decision.price.capped:
        yield "the cycle's cap cut the amount"
    if decided.before.selection.doubted:
        yield "the verdict is not believed, so the flow was charged at the general rate; a later record may clear it up"
    if decided.flow.sampling_rate > 1:
        yield f"octets are those counted times the sampling rate {decided.flow.sampling_rate}"
    following = after.selection.rule.rule.id
    if following != decision.rule_id and decision.treatment != "not_charged":
        yield f"a next flow of this kind meets rule {following}"
    if decision.own_service and decision.treatment in ("free", "sponsored"):
        yield "the operator's own service is given away here; the neutrality report names the rule"
