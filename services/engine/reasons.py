"""What a flow met: the account as it stood then, and what every rule of its products said to it.

For explanations only. A decision names eight losers and the account's state is gone with the next flow; here both are
worked out again, by the same functions that decided.
"""

from typing import NamedTuple

from schemas.classification import Classification
from schemas.flow import FlowRecord
from schemas.state import AccountState
from services.engine.decide import in_our_time
from services.engine.late import is_present, view_of
from services.engine.outcome import Position
from services.engine.packed import unpacked
from services.engine.reclassify import reclassify
from services.engine.select import Selection, plan_of, select, traffic_of, weigh
from services.engine.standing import standing_for
from services.engine.tariff import CompiledRule, Tariff, Traffic
from services.engine.timers import advance


class Weighed(NamedTuple):
    """A rule of the account's products; `reason` says why it does not apply to the flow, None that it would."""

    rule: CompiledRule
    reason: str | None


class Met(NamedTuple):
    """What a flow meets at its first octet."""

    account: AccountState
    """As the flow finds it: what was due by then has happened. For a late flow, as it stood then."""
    traffic: Traffic
    """What of the flow conditions look at."""
    selection: Selection
    weighed: tuple[Weighed, ...]
    """By precedence, the built-in rule last; the first without a reason wins."""
    asleep: frozenset[str]
    """Buckets that serve nothing now: outside their windows, suspended, or gone from the catalogue."""


def met(
    flow: FlowRecord,
    classification: Classification,
    account: AccountState,
    tariff: Tariff,
    *,
    at: Position,
    now_ms: int,
) -> Met:
    """What `decide` would find for `flow`, with these arguments, before any of it is charged."""
    flow = in_our_time(flow, now_ms)
    account, at_ms = unpacked(account), flow.start_ms
    if at_ms >= account.due_ms or account.catalogue_version != tariff.version:
        account = unpacked(advance(account, tariff, partition=at.partition, until_ms=at_ms, now_ms=now_ms).account)
    if at_ms < account.settled_ms and not is_present(account, at_ms):
        return met_by(flow, classification, view_of(account, tariff, at_ms), tariff)
    if account.provisional:
        corrected = reclassify(account, flow, classification, tariff, at=at, now_ms=now_ms)
        account = account if corrected is None else unpacked(corrected.account)
    return met_by(flow, classification, account, tariff)


def met_by(flow: FlowRecord, classification: Classification, account: AccountState, tariff: Tariff) -> Met:
    """What a flow of this kind meets in `account` as it stands."""
    standing = standing_for(account, flow.subscriber_id)
    traffic = traffic_of(classification, flow, tariff)
    weighed = tuple(Weighed(*found) for found in weigh(standing, traffic, tariff))
    slots = zip(account.buckets, plan_of(standing, tariff).slots, strict=True)
    asleep = frozenset(bucket.bucket_id for bucket, slot in slots if slot.allowance is None)
    return Met(account, traffic, select(standing, classification, flow, tariff), weighed, asleep)
