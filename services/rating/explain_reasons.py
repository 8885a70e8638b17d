"""Why a rule did not apply, in sentences for people: the same words for a row, a decision and a trial."""

from collections.abc import Iterator

from schemas.catalogue import PccRule, SpendCondition, SubscriberCondition
from schemas.fields import MAX_CONGESTION
from schemas.units import format_micros
from services.rating.tmf_catalogue import scope_text

OF_EACH_FLOW = frozenset({"rat_type", "zone", "dnn"})
"""Conditions on what differs from flow to flow, so that a row of many flows cannot say which of them failed."""

_SCOPED = frozenset({"application", "category", "service"})


def precedence_text(rule: PccRule, winner: PccRule) -> str:
    """Of a rule that would have applied, had another not been asked first."""
    if rule.precedence == winner.precedence:
        return f"its precedence {rule.precedence} is that of {winner.id}, whose id comes first"
    return f"its precedence {rule.precedence} is higher than {winner.precedence}; the lowest wins"


def outside_text(rule: PccRule) -> str:
    """Of a rule that is about other traffic."""
    return f"it covers {scope_text(rule.scope)}, and this traffic is outside"


def may_have_failed(rule: PccRule) -> Iterator[tuple[str, str]]:
    """Conditions that a row of many flows cannot be held against, the likeliest first, with reason and text."""
    if rule.bucket:
        reason = f"bucket_not_{rule.bucket.state}"
        yield reason, condition_text(rule, reason)
    if rule.spend:
        yield "spend", condition_text(rule, "spend")
    if rule.subscribers:
        yield "subscriber", condition_text(rule, "subscriber")
    if rule.charging == "sponsored":
        yield "campaign_not_running", f"its campaign {rule.campaign} was not running, or its cap was reached"
    if rule.min_congestion or rule.max_congestion < MAX_CONGESTION:
        yield "congestion", condition_text(rule, "congestion")
    if rule.suspect == "only":
        yield "not_suspect", condition_text(rule, "not_suspect")
    yield "confidence", f"it needs a confidence of {rule.min_confidence} and no contradicting evidence"


def condition_text(rule: PccRule, reason: str) -> str:
    """What a rule asks for, by the reason for which a decision says that it lost."""
    if reason in _SCOPED or reason in OF_EACH_FLOW:
        return outside_text(rule) if reason in _SCOPED else f"it covers {scope_text(rule.scope)} only"
    if reason.startswith("bucket_not_") and rule.bucket is not None:
        percent = f" ({rule.bucket.percent} %)" if rule.bucket.percent else ""
        return f"it applies while {rule.bucket.allowance} is {rule.bucket.state}{percent}"
    if reason == "spend" and rule.spend is not None:
        return f"it applies while {_spend_text(rule.spend)} is spent in the billing cycle"
    if reason in ("subscriber", "tier", "plan") and rule.subscribers is not None:
        return f"it is for certain accounts only: {_subscribers_text(rule.subscribers)}"
    if reason == "time_window":
        times = ", ".join(f"{'/'.join(item.days) or 'daily'} {item.start}-{item.end}" for item in rule.scope.windows)
        return f"it applies at other times: {times}, by the subscriber's clock"
    return _OTHER.get(reason, "").format(rule=rule) or reason


_OTHER = {
    "campaign_not_running": "its campaign {rule.campaign} was not running",
    "congestion": "it applies at congestion levels {rule.min_congestion} to {rule.max_congestion}",
    "not_suspect": "it is for traffic whose evidence disagrees",
    "suspect": "the evidence of this traffic disagrees, so it gets nothing that is given away, nor this rule",
    "confidence": "it needs a confidence of {rule.min_confidence}, and a verdict that is believed if it gives away",
}


def _spend_text(spend: SpendCondition) -> str:
    parts = []
    if spend.at_least is not None:
        parts.append(f"at least {format_micros(spend.at_least)}")
    if spend.below is not None:
        parts.append(f"less than {format_micros(spend.below)}")
    return " and ".join(parts)


def _subscribers_text(condition: SubscriberCondition) -> str:
    lists = (
        ("segment", condition.segments), ("age band", condition.age_bands),
        ("consumption level", condition.consumption_levels), ("payment", condition.payments),
        ("tier", condition.tiers), ("holding", condition.offerings),
    )  # fmt: skip
    said = [f"{name} {' or '.join(values)}" for name, values in lists if values]
    if condition.min_tenure_days:
        said.append(f"{condition.min_tenure_days} days or more with us")
    return ", ".join(said)
