"""How far out-of-bundle money goes: a price's cap, the subscriber's own limit, a prepaid balance; and what raises them.

A cap and a limit hold for a cycle, and so does what the subscriber has raised them to.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from msgspec.structs import replace

from schemas.state import AccountState, Counter
from services.engine.purses import PAID
from services.engine.tariff import CompiledPrice, Tariff

SPENDING_LIMIT = "spending_limit"
"""The name of the subscriber's own limit among what can be raised."""

LIFTED = -1
"""What a cap is raised to that holds no more in this cycle."""

NEARING_PERCENT = 80
"""Of a cap or limit: from here on the subscriber is told that it comes near (Regulation (EU) 2022/612, article 14)."""

Bound = Literal["cap", "limit", "balance", "count"]


class Room(NamedTuple):
    """The cycle's total that a price can go to, and what ends it there."""

    octets: int
    bound: Bound


class Means(NamedTuple):
    """What else there is to a price's room than cap, limit and balance."""

    reserve_micros: int = 0
    """Of limit and balance, kept for something else: the end of the connection."""
    credit_micros: int = 0
    """In purses that pay before the balance, and do not count for the limit."""


def room_of(price: CompiledPrice, account: AccountState, means: Means = Means()) -> Room:  # noqa: B008 - immutable
    """How far `price` can go in this cycle as things stand. Where two bounds coincide, the cap comes first."""
    rooms = [Room(price.most_octets, "count")]
    cap, limit = cap_of(price, account), limit_of(account)
    if cap is not None or limit is not None or account.payment == "prepaid":
        used = used_of(price.counter_id, account.counters)
        charged = price.amount_up_to(used.octets)
        if cap is not None:
            rooms.append(_room(price, used, charged + _under(cap, used), "cap"))
        if limit is not None:
            rooms.append(_room(price, used, charged + _beyond(limit - spent_micros(account.counters), means), "limit"))
        if account.payment == "prepaid":
            rooms.append(_room(price, used, charged + _beyond(account.balance_micros, means), "balance"))
    return min(rooms, key=lambda room: (room.octets, _ORDER.index(room.bound)))


def octets_under_cap(price: CompiledPrice, account: AccountState) -> int | None:
    """The cycle's total that the price's cap lets it go to; None where no cap ends it."""
    cap, used = cap_of(price, account), used_of(price.counter_id, account.counters)
    return None if cap is None else price.octets_within(price.amount_up_to(used.octets) + _under(cap, used))


def _under(cap: int, used: Counter) -> int:
    # What was spent counts, not what it would come to at a price that has changed since.
    return max(0, cap - used.micros)


def _beyond(own_micros: int, means: Means) -> int:
    return max(0, means.credit_micros + max(0, own_micros) - means.reserve_micros)


def reserve_of(connection: CompiledPrice | None, account: AccountState) -> int:
    """Micros that limit and balance must still hold when a connection ends; 0 where it costs nothing."""
    if connection is None or _is_free(connection, account):
        return 0
    number = used_of(connection.counter_id, account.counters).octets
    charged = connection.amount_up_to(number)
    micros = connection.amount_up_to(number + 1) - charged
    covered = connection.octets_within(charged + micros)
    # What rounding gives away is no reason to let more pass: the exact price has to be covered.
    return micros if covered is None or covered > number else micros + 1


def _is_free(price: CompiledPrice, account: AccountState) -> bool:
    room = room_of(price, account)
    reached = used_of(price.counter_id, account.counters).octets >= room.octets
    return reached and room.bound == "cap" and price.price.on_cap == "free"


def can_pay(price: CompiledPrice, account: AccountState, means: Means = Means()) -> bool:  # noqa: B008 - immutable
    """Whether `price` is open: not at a cap that blocks, nor at the end of limit or balance.

    What is too large to be counted is blocked flow by flow, and closes no gate.
    """
    room = room_of(price, account, means)
    if room.bound == "count" or used_of(price.counter_id, account.counters).octets < room.octets:
        return True
    return room.bound == "cap" and price.price.on_cap == "free"


def cap_of(price: CompiledPrice, account: AccountState) -> int | None:
    """The price's cap in this cycle; None without one."""
    return _raised(price.counter_id, price.price.cap, account.counters)


def limit_of(account: AccountState) -> int | None:
    """The subscriber's own limit in this cycle; None without one."""
    return _raised(SPENDING_LIMIT, account.spending_limit_micros, account.counters)


def spent_micros(counters: Iterable[Counter]) -> int:
    """What all usage prices have come to for the subscriber; what purses paid is not the subscriber's."""
    totals = list(counters)
    return (
        sum(counter.micros for counter in totals if counter.counter_id.startswith("price:"))
        - used_of(PAID, totals).micros
    )


def used_of(counter_id: str, counters: Iterable[Counter]) -> Counter:
    """A total of the cycle; zero where nothing was counted."""
    return next((counter for counter in counters if counter.counter_id == counter_id), Counter(counter_id, 0, 0))


def recounted(account: AccountState, tariff: Tariff) -> AccountState:
    """The account under a new catalogue: a price that has another unit now has counted none of those.

    The money that was spent at it stays, since caps and limits are about that.
    """

    def counted(total: Counter) -> Counter:
        unit = _unit_of(total, tariff)
        return replace(total, octets=0, unit=unit) if total.unit and total.unit != unit else total

    counters = tuple(map(counted, account.counters))
    if counters != account.counters:
        # What was seen of the pace went by the totals that were.
        account = replace(account, counters=counters, watches=())
    return replace(account, past_counters=tuple(map(counted, account.past_counters)))


def _unit_of(total: Counter, tariff: Tariff) -> str:
    """What the price of a total counts now; what it did count where there is no such price any more."""
    offering = tariff.offerings.get(total.counter_id.removeprefix("price:").partition("/")[0])
    prices = offering.prices if offering else ()
    return next((item.price.unit for item in prices if item.counter_id == total.counter_id), total.unit)


def campaign_counter(campaign_id: str, subscriber_id: str) -> str:
    """The counter of what a campaign has paid for one subscriber in the cycle."""
    return f"campaign:{campaign_id}:{subscriber_id}"


def raised_id(name: str) -> str:
    """The counter that holds what `name`, a price's counter or the spending limit, was raised to."""
    return f"raised:{name}"


def marks_of(name: str) -> tuple[str, str]:
    """In `AccountState.told_blocked`: that the cap or limit `name` comes near, and that it is reached."""
    return f"near:{name}", f"cap:{name}"


def _room(price: CompiledPrice, used: Counter, micros: int, bound: Bound) -> Room:
    octets = price.octets_within(micros)
    if octets is None:
        return Room(price.most_octets, "count")
    # What rounding gave away is used, too: a bound that is reached lies here and not before.
    return Room(max(octets, used.octets), bound)


_ORDER: tuple[Bound, ...] = ("cap", "limit", "balance", "count")


def _raised(name: str, declared: int | None, counters: Iterable[Counter]) -> int | None:
    if declared is None:
        return None
    raised = [counter.micros for counter in counters if counter.counter_id == raised_id(name)]
    if not raised:
        return declared
    return None if raised[0] == LIFTED else raised[0]
