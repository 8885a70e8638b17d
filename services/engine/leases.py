"""Leases: how a budget that is wider than an account is spent by many lanes at once and never passed.

Two parties, each the only writer of its own side. The *lane* draws from what it was granted, asks for the next slice
before that ends, and gives back what it has not touched for a while. The *owner* grants slices that become smaller as
the budget does, and grants again only what came back. Both count totals that never fall, so a message that comes twice
or late changes nothing; no clock takes anything away from a lane, so nothing can be spent twice.
"""

from typing import NamedTuple

from msgspec.structs import replace

from schemas.catalogue import Campaign
from schemas.command import GrantLease
from schemas.lease import LEASE_REQUEST_VERSION, LeaseRequest, RequestKind
from schemas.state import STATE_VERSION, LeaseState
from services.engine.late import GRACE_MS

DAY_MS = 86_400_000


# -- the lane's side


def opened(campaign_id: str, now_ms: int) -> LeaseState:
    """A lane's first thought of a campaign; it holds nothing."""
    return LeaseState(STATE_VERSION, campaign_id, touched_ms=now_ms)


def held_octets(lease: LeaseState) -> int:
    """What flows may still draw here."""
    return lease.granted_octets - lease.used_octets - lease.returned_octets


def drawn(lease: LeaseState, octets: int, now_ms: int) -> LeaseState:
    """The lease after a flow drew `octets`, 0 if it found nothing. Raises ValueError beyond what is held, a bug."""
    if not 0 <= octets <= held_octets(lease):
        raise ValueError(f"{octets} octets of campaign {lease.campaign_id} drawn; {held_octets(lease)} are held")
    return replace(lease, used_octets=lease.used_octets + octets, touched_ms=now_ms)


def granted(lease: LeaseState, grant: GrantLease) -> LeaseState | None:
    """The lease after the answer to its ask; None when that ask was answered before, and nothing is to be done.

    The total counts, not the slice: so a lost answer would come with the next one. Raises ValueError for an answer to
    an ask that was never made.
    """
    if grant.sequence > lease.asked:
        raise ValueError(f"sequence: {grant.sequence} answers no ask; the last one was {lease.asked}")
    if grant.sequence <= lease.answered:
        return None
    return replace(
        lease,
        granted_octets=max(lease.granted_octets, grant.granted_octets),
        slice_octets=grant.octets or lease.slice_octets,
        answered=grant.sequence,
        ask_again_ms=grant.ask_again_ms,
    )


def is_empty(lease: LeaseState) -> bool:
    """Whether the budget is used up as far as the lane can know: it holds nothing, and its last ask brought nothing."""
    return lease.ask_again_ms > 0 and held_octets(lease) == 0


def renewed(lease: LeaseState) -> LeaseState:
    """The lease after its campaign's budget has changed: what an ask brought before says nothing any more."""
    return replace(lease, ask_again_ms=1) if lease.ask_again_ms else lease


def next_kind(lease: LeaseState, campaign: Campaign | None, *, now_ms: int, idle_ms: int) -> RequestKind | None:
    """What the lane has to say now, if anything. `campaign` is None when it is gone, or has no budget any more."""
    if held_octets(lease) and now_ms >= _return_ms(lease, campaign, idle_ms):
        return "return"
    if _wants(lease, campaign, now_ms, idle_ms) and now_ms >= _ask_ms(lease, now_ms, idle_ms):
        return "ask"
    return None


def look_ms(lease: LeaseState, campaign: Campaign | None, *, now_ms: int, idle_ms: int) -> int | None:
    """When time alone may give the lane something to say; None when only a flow or an answer can."""
    times = [_return_ms(lease, campaign, idle_ms)] if held_octets(lease) else []
    if _wants(lease, campaign, now_ms, idle_ms):
        times.append(_ask_ms(lease, now_ms, idle_ms))
    return min(times, default=None)


def begins_ms(campaign: Campaign, now_ms: int) -> int | None:
    """When a lane that has never heard of the campaign should ask for its first slice; None once it is over."""
    return None if _is_over(campaign, now_ms, 0) else campaign.valid_from_ms


def requested(lease: LeaseState, kind: RequestKind, *, partition: int, now_ms: int) -> tuple[LeaseState, LeaseRequest]:
    """The lease after saying it, and what goes into the log in the same transaction."""
    number = lease.sequence + 1
    if kind == "ask":
        lease = replace(lease, sequence=number, asked=number)
    else:
        back = lease.returned_octets + held_octets(lease)
        lease = replace(lease, sequence=number, returned_octets=back, slice_octets=0)
    request = LeaseRequest(
        version=LEASE_REQUEST_VERSION,
        request_id=f"{lease.campaign_id}:{partition}:{number}",
        campaign_id=lease.campaign_id,
        partition=partition,
        sequence=number,
        kind=kind,
        granted_octets=lease.granted_octets,
        used_octets=lease.used_octets,
        returned_octets=lease.returned_octets,
        at_ms=now_ms,
    )
    return lease, request


def _wants(lease: LeaseState, campaign: Campaign | None, now_ms: int, idle_ms: int) -> bool:
    """Whether the lane is near the end of its slice, has no ask on its way, and flows have come lately.

    One that found the budget used up goes on asking: no flow comes where a gate is closed until the budget is back.
    """
    if campaign is None or lease.asked > lease.answered or _is_over(campaign, now_ms, GRACE_MS):
        return False
    if is_empty(lease):
        return True
    return now_ms < lease.touched_ms + idle_ms and 2 * held_octets(lease) <= lease.slice_octets


def _ask_ms(lease: LeaseState, now_ms: int, idle_ms: int) -> int:
    """When the next ask is worth its while; without flows it comes at the pace of idle slices."""
    is_idle = lease.ask_again_ms > 1 and now_ms >= lease.touched_ms + idle_ms
    return lease.ask_again_ms + (idle_ms if is_idle else 0)


def _return_ms(lease: LeaseState, campaign: Campaign | None, idle_ms: int) -> int:
    if campaign is None:
        return 0
    idle_from_ms = lease.touched_ms + idle_ms
    # Late flows may still draw for a while after the end.
    return idle_from_ms if campaign.valid_until_ms is None else min(idle_from_ms, campaign.valid_until_ms + GRACE_MS)


def _is_over(campaign: Campaign, now_ms: int, grace_ms: int) -> bool:
    return campaign.valid_until_ms is not None and now_ms >= campaign.valid_until_ms + grace_ms


# -- the owner's side


class Budget(NamedTuple):
    """What the owner knows of one campaign's budget. `granted - returned` never passes `limit`."""

    limit_octets: int = 0
    granted_octets: int = 0
    returned_octets: int = 0

    @property
    def out_octets(self) -> int:
        """Used, or held by lanes."""
        return self.granted_octets - self.returned_octets


class LaneLease(NamedTuple):
    """What the owner knows of one lane's slices, as of the last request that it has booked."""

    sequence: int = 0
    granted_octets: int = 0
    returned_octets: int = 0
    used_octets: int = 0
    answered: int = 0
    """Number of the last ask that was answered."""


class Slicing(NamedTuple):
    """How large slices are, and how soon an ask that found nothing is worth repeating."""

    lanes: int
    least_octets: int
    most_octets: int
    retry_ms: int


class Reply(NamedTuple):
    """The owner after one request. `octets` is the slice, None when nothing is to be answered."""

    budget: Budget
    lane: LaneLease
    octets: int | None = None
    ask_again_ms: int = 0


def reply_to(
    request: LeaseRequest, budget: Budget, lane: LaneLease, campaign: Campaign | None, *, slicing: Slicing, now_ms: int
) -> Reply | None:
    """Book one request and answer it; None for one that was booked before.

    `campaign` is the one in force, or None. A lane that knows of grants which the owner does not is believed. An ask
    that an answer in the log is for (`recalled`) is booked and not answered again. Raises ValueError for a request
    whose totals cannot be, which changes nothing.
    """
    if request.used_octets + request.returned_octets > request.granted_octets:
        raise ValueError(
            f"granted_octets: {request.granted_octets} is less than used {request.used_octets} and returned "
            f"{request.returned_octets} together; rebuild the lane from its changelog"
        )
    if request.sequence <= lane.sequence:
        return None
    budget, lane = _booked(request, budget, lane)
    budget = limited(budget, campaign)
    if request.kind == "return" or request.sequence <= lane.answered:
        return Reply(budget, lane)
    octets = _slice(free_octets(budget, campaign, now_ms), slicing)
    again_ms = 0 if octets else _ask_again_ms(budget, campaign, slicing, now_ms)
    budget = budget._replace(granted_octets=budget.granted_octets + octets)
    lane = lane._replace(granted_octets=lane.granted_octets + octets, answered=request.sequence)
    return Reply(budget, lane, octets, again_ms)


def recalled(grant: GrantLease, budget: Budget, lane: LaneLease) -> tuple[Budget, LaneLease]:
    """What the owner knows after it has found its own answer in the log; the same where it knew of it.

    An owner whose database has gone back to an older backup has forgotten answers that lanes live on. With all of them
    recalled, and the requests since then booked again, nothing is granted twice; until these are booked, what came back
    since is counted as out, so less is granted and never more.
    """
    granted_octets = max(lane.granted_octets, grant.granted_octets)
    budget = budget._replace(granted_octets=budget.granted_octets + granted_octets - lane.granted_octets)
    budget = budget._replace(limit_octets=max(budget.limit_octets, budget.out_octets))
    return budget, lane._replace(granted_octets=granted_octets, answered=max(lane.answered, grant.sequence))


def limited(budget: Budget, campaign: Campaign | None) -> Budget:
    """`budget` with the limit in force. What is out already is never below it: it cannot be called back."""
    limit = campaign.budget.limit_octets() if campaign is not None and campaign.budget is not None else 0
    return budget._replace(limit_octets=max(limit, budget.out_octets))


def free_octets(budget: Budget, campaign: Campaign | None, now_ms: int) -> int:
    """What could be granted now: what the calendar has released of the budget, less what is out."""
    if campaign is None or campaign.budget is None:
        return 0
    return max(0, min(released_octets(campaign, now_ms), budget.limit_octets) - budget.out_octets)


def released_octets(campaign: Campaign, now_ms: int) -> int:
    """How much of the budget may be out at `now_ms`: all of it, or the share of the days begun."""
    if campaign.budget is None:
        return 0
    limit = campaign.budget.limit_octets()
    if campaign.budget.pacing == "none" or campaign.valid_until_ms is None:
        return limit
    days = -(-(campaign.valid_until_ms - campaign.valid_from_ms) // DAY_MS)
    begun = (now_ms - campaign.valid_from_ms) // DAY_MS + 1
    return limit * max(0, min(begun, days)) // days


def _booked(request: LeaseRequest, budget: Budget, lane: LaneLease) -> tuple[Budget, LaneLease]:
    after = LaneLease(
        request.sequence,
        max(lane.granted_octets, request.granted_octets),
        max(lane.returned_octets, request.returned_octets),
        max(lane.used_octets, request.used_octets),
        lane.answered,
    )
    budget = budget._replace(
        granted_octets=budget.granted_octets + after.granted_octets - lane.granted_octets,
        returned_octets=budget.returned_octets + after.returned_octets - lane.returned_octets,
    )
    return budget, after


def _slice(free: int, slicing: Slicing) -> int:
    """A part of what is free, the smaller the less there is, so that no lane sits on the end of a budget."""
    wanted = max(slicing.least_octets, min(free // (2 * slicing.lanes), slicing.most_octets))
    return min(wanted, free)


def _ask_again_ms(budget: Budget, campaign: Campaign | None, slicing: Slicing, now_ms: int) -> int:
    """Soon, since other lanes may give something back; at the latest when the calendar releases more."""
    soon_ms = now_ms + slicing.retry_ms
    if campaign is None or released_octets(campaign, now_ms) >= budget.limit_octets:
        return soon_ms
    days_begun = max(0, (now_ms - campaign.valid_from_ms) // DAY_MS + 1)
    return min(soon_ms, campaign.valid_from_ms + days_begun * DAY_MS)
