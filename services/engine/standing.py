"""An account's standing: in one text, all that rule selection depends on besides the flow.

It names the offerings held, the buckets in the order they are drawn and which of them are empty, which rules are for
such an account, the campaigns that run and the time windows that are open. It changes only when something of the
account does, and accounts that stand alike share what was worked out for it.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from schemas.catalogue import Campaign
from schemas.state import AccountState, Bucket
from services.engine.eligibility import unmet_by
from services.engine.marks import marks_of, with_notices
from services.engine.periods import holds, is_open
from services.engine.shares import share_id
from services.engine.tariff import CompiledOffering, Tariff

_REASONS = {"tiers": "tier", "offerings": "plan"}
"""Reasons of a rule that is not for an account, by the part of its condition; all others are `subscriber`."""

ASLEEP = "~"
"""The sign of a bucket that keeps what it holds and serves nothing: its product is suspended, or its allowance has
another unit now."""


def with_standing(account: AccountState, tariff: Tariff) -> AccountState:
    """`account` with its standing, and those of members who have used up their share, brought up to date.

    Buckets must be in the order they are drawn. The time is that of the last change, `settled_ms`.
    """
    account = with_notices(account, tariff)
    return replace(account, standing=standing_of(account, tariff), member_standings=_member_standings(account, tariff))


def standing_for(account: AccountState, subscriber_id: str) -> str:
    """The standing that one member meets: a bucket whose share it has used up is empty to it."""
    for member, standing in account.member_standings:
        if member == subscriber_id:
            return standing
    return account.standing


def standing_of(account: AccountState, tariff: Tariff, used_up: frozenset[str] = frozenset()) -> str:
    """The standing's text; buckets in `used_up` count as empty."""
    held = list(dict.fromkeys(product.offering_id for product in account.products if product.status == "active"))
    asleep = {product.product_id for product in account.products if product.status != "active"}
    buckets = [
        f"{bucket.offering_id}/{bucket.allowance_id}{_sign(bucket, asleep, used_up, tariff)}"
        for bucket in account.buckets
    ]
    offerings = [tariff.offerings[offering_id] for offering_id in held if offering_id in tariff.offerings]
    running, opened = _times(account, offerings)
    # Marks are the account's: a member whose share is used up meets the same ones.
    marks = [f"{name}{'+' if reached else '-'}" for name, reached in marks_of(account, offerings, tariff)]
    parts = (held, buckets, _conditions(account, offerings) + marks, running, opened)
    return "|".join(map(",".join, parts))


def _sign(bucket: Bucket, asleep: set[str], used_up: frozenset[str], tariff: Tariff) -> str:
    if bucket.product_id in asleep or tariff.has_changed_unit(bucket):
        return ASLEEP
    return "+" if bucket.remaining and bucket.bucket_id not in used_up else "-"


def _conditions(account: AccountState, offerings: list[CompiledOffering]) -> list[str]:
    """Rules that are not for every account, and whether they are for this one; where not, why."""
    found = {name: item for offering in offerings for name, item in offering.conditions.items()}
    return [f"{name}{_verdict(unmet_by(item, account, account.settled_ms))}" for name, item in sorted(found.items())]


def _verdict(missed: str | None) -> str:
    return "+" if missed is None else f"!{_REASONS[missed]}-" if missed in _REASONS else "-"


def _times(account: AccountState, offerings: list[CompiledOffering]) -> tuple[list[str], list[str]]:
    """Campaigns that may begin or end, and time windows, each with its state at `settled_ms`."""
    at_ms, zone = account.settled_ms, account.time_zone
    campaigns = {campaign.id: campaign for offering in offerings for campaign in offering.campaigns}
    windows = {key: value for offering in offerings for key, value in offering.windows.items()}
    running = [f"{name}{'+' if _runs(item, at_ms) else '-'}" for name, item in sorted(campaigns.items()) if _ends(item)]
    opened = [f"{key}{'+' if is_open(item, at_ms, time_zone=zone) else '-'}" for key, item in sorted(windows.items())]
    return running, opened


def draw_order(bucket: Bucket, tariff: Tariff) -> tuple[object, ...]:
    """The narrowest first; then by priority, by earliest end, the oldest, the id."""
    compiled = tariff.allowance(bucket.offering_id, bucket.allowance_id)
    narrow, priority = (compiled.reach.order(), compiled.allowance.priority) if compiled else ((0, 0), 0)
    end = float("inf") if bucket.valid_until_ms is None else bucket.valid_until_ms
    return narrow, priority, end, bucket.valid_from_ms, bucket.bucket_id


class Facts(NamedTuple):
    """A standing, taken apart."""

    held: tuple[str, ...]
    """Offerings."""
    buckets: tuple[str, ...]
    """`<offering>/<allowance>` and its sign, in the order of drawing."""
    available: frozenset[str]
    """Allowances with octets left."""
    strangers: Mapping[str, str]
    """Rules that are not for this account, and why."""
    reached: frozenset[str]
    """Marks of use and money that are reached; see `services.engine.marks`."""
    idle: frozenset[str]
    """Campaigns that do not run."""
    opened: frozenset[str]
    """Time windows that are open."""


def facts_of(standing: str) -> Facts:
    """Take a standing apart."""
    held, buckets, conditions, campaigns, windows = (
        tuple(filter(None, part.split(","))) for part in standing.split("|")
    )
    unmet = (text.partition("!") for text in _marked(conditions, "-") if "@" not in text)
    strangers = {name: reason or "subscriber" for name, _, reason in unmet}
    reached = frozenset(text for text in _marked(conditions, "+") if "@" in text)
    available, idle, opened = _marked(buckets, "+"), _marked(campaigns, "-"), _marked(windows, "+")
    return Facts(held, buckets, available, strangers, reached, idle, opened)


def _marked(texts: Iterable[str], sign: str) -> frozenset[str]:
    return frozenset(text[:-1] for text in texts if text[-1] == sign)


def _member_standings(account: AccountState, tariff: Tariff) -> tuple[tuple[str, str], ...]:
    used_up: dict[str, set[str]] = {}
    for bucket in account.buckets:
        compiled = tariff.allowance(bucket.offering_id, bucket.allowance_id)
        share = compiled.allowance.share if compiled else None
        if share is None:
            continue
        prefix = share_id(bucket.bucket_id, "")
        for counter in account.counters:
            if counter.counter_id.startswith(prefix) and counter.octets >= share:
                used_up.setdefault(counter.counter_id.removeprefix(prefix), set()).add(bucket.bucket_id)
    return tuple((member, standing_of(account, tariff, frozenset(gone))) for member, gone in sorted(used_up.items()))


def _ends(campaign: Campaign) -> bool:
    return campaign.valid_from_ms > 0 or campaign.valid_until_ms is not None


def _runs(campaign: Campaign, at_ms: int) -> bool:
    return holds(campaign.valid_from_ms, campaign.valid_until_ms, at_ms)
