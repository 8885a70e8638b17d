"""Step 4 of 5: charge. Who pays for each octet of a flow: sponsor, bucket, subscriber, or nobody.

The waterfall: sponsored, application buckets, category buckets, general buckets, out of bundle. It goes octet by octet
in meaning and part by part in work: when a bucket ends in the middle of a flow, the rest meets what a flow arriving
just then would meet. So a flow in two records is charged as it would be in one.
"""

from typing import Any, NamedTuple

from msgspec.structs import replace

from schemas.catalogue import Campaign
from schemas.decision import Draw, Sponsorship
from schemas.notification import Notification
from schemas.state import AccountState, Bucket, Counter, Purse
from schemas.units import format_amount, format_micros
from services.engine.caps import (
    NEARING_PERCENT,
    SPENDING_LIMIT,
    Means,
    Room,
    campaign_counter,
    can_pay,
    cap_of,
    limit_of,
    marks_of,
    reserve_of,
    room_of,
    spent_micros,
    used_of,
)
from services.engine.case import Case, Connection
from services.engine.marks import octets_until_spend, until_mark
from services.engine.money_ends import declares
from services.engine.notices import notify
from services.engine.overshoot import bound_of, kept_in_sight, leads_to_money, look
from services.engine.purses import PAID, Paid, credit_of, paid_from
from services.engine.select import Selection, plan_of, select
from services.engine.shares import share_id
from services.engine.spans import Span
from services.engine.standing import standing_for, with_standing
from services.engine.tariff import CompiledAllowance, CompiledPrice, Tariff

BALANCE_MARK = "balance"
"""In `AccountState.told_blocked`: that the prepaid balance is used up; a credit takes it out."""


class Charged(NamedTuple):
    """An account after a flow, and what has to be told. What became of the octets is in the Case."""

    account: AccountState
    notifications: tuple[Notification, ...]
    cause: str | None
    """Why the rules in force may have changed and the ledger should hear at once.

    One of exhausted, share (a member's, of a bucket), threshold, spend, cap_reached, limit_reached, balance,
    campaign_cap (what a campaign pays for the subscriber is used up), quota (a bucket's end is near).
    """


def charge(case: Case, account: AccountState, tariff: Tariff) -> Charged:
    """Charge the octets of a flow that did not fail. Its parts add up; no bucket and no balance goes below 0.

    The account's calendar must have been brought to the event time. The standing of the result is up to date; its
    installed rules and due time are not where `cause` is given.
    """
    session = _Session(case, account, tariff)
    session.spend()
    case.dominate()
    return Charged(session.account, tuple(session.notifications), session.cause)


def charge_connection(case: Case, account: AccountState, tariff: Tariff) -> Charged:
    """Charge a connection that ended and nothing else; what it cost is in the Case, None where it cost nothing."""
    session = _Session(case, account, tariff)
    session.connect()
    return Charged(session.account, tuple(session.notifications), session.cause)


class _Session:
    """One flow on its way down the waterfall."""

    def __init__(self, case: Case, account: AccountState, tariff: Tariff) -> None:
        self.account = account
        self.notifications: list[Notification] = []
        self.cause: str | None = None
        self._case = case
        self._tariff = tariff
        self._selection = case.selection
        self._span = case.span or Span(case.octets, case.flow.end_ms - case.flow.start_ms if case.octets else 0)
        self._reached_ms = 0
        """How far into the flow's time buckets of time have paid."""

    def spend(self) -> None:
        """Find a payer for all octets of the flow."""
        selection, left = self._selection, self._next_part(self._case.octets, self._selection)
        while left:
            if self._selection is selection:
                raise RuntimeError(f"rule {selection.rule.rule.id} leaves {left} octets without a payer; this is a bug")
            selection, left = self._selection, self._next_part(left, self._selection)
        if self._case.flow.end_reason != "active":
            self.connect()

    def connect(self) -> None:
        """Charge the connection of the flow, where connections have a price."""
        if self._selection.connection is not None:
            self._connect(self._selection, self._selection.connection)

    def _next_part(self, left: int, selection: Selection) -> int:
        """Let the next payer take its part of `left` octets; returns what is left after it."""
        if selection.treatment == "blocked":
            return self._block(left, f"rule {selection.rule.rule.id} closes the gate")
        if selection.treatment == "free":
            return self._free(left)
        if selection.treatment == "sponsored":
            left = self._sponsor(left, selection)
        return self._charge(left, selection) if left else 0

    def _charge(self, left: int, selection: Selection) -> int:
        if selection.connection is not None and not can_pay(
            selection.connection, self.account, self._credit(selection)
        ):
            return self._refuse(left, selection.connection)
        if selection.bucket_index >= 0:
            return self._draw(left, selection.bucket_index)
        if selection.beyond == "free":
            return self._free(left)
        if selection.beyond == "blocked":
            bucket_id = self.account.buckets[selection.beyond_index].bucket_id
            return self._block(left, f"bucket {bucket_id} is empty and blocks what is beyond it")
        return self._sell(left, selection.price)

    def _free(self, left: int) -> int:
        self._case.free += left
        return 0

    def _block(self, left: int, note: str) -> int:
        self._case.blocked += left
        self._case.note = note
        rule_id = self._case.selection.rule.rule.id
        self._tell_once(rule_id, "blocked", f"{note}; traffic of this kind does not pass")
        return 0

    def _sponsor(self, left: int, selection: Selection) -> int:
        """Let the rule's campaign pay, as far as its cap for the subscriber and what is left here of its budget go."""
        campaign = selection.rule.campaign
        if campaign is None:
            return left
        counter_id = campaign_counter(campaign.id, self._case.flow.subscriber_id)
        # A record without octets can still be the end of a connection: for the one octet that it might have had.
        wanted = self._within(campaign.per_subscriber_octets, counter_id, left or 1)
        part = self._within_budget(wanted, campaign)
        ended = self._ended(campaign) if part > 0 else 0
        if not left:
            wanted, part = 0, 0
        if wanted or ended:
            self._case.sponsored += part
            drawn = part if campaign.budget is not None and self._case.leases is not None else 0
            paid = Sponsorship(campaign_id=campaign.id, octets=part, budget_octets=drawn, connections=ended)
            self._case.sponsorships = (*self._case.sponsorships, paid)
        if part and campaign.per_subscriber_octets is not None:
            used = self._use(counter_id, part)
            if used >= campaign.per_subscriber_octets:
                self.cause = self.cause or "campaign_cap"
        if part < wanted:
            return self._beyond_budget(left - part, campaign)
        if part < left:
            self._case.note = f"campaign {campaign.id} pays {campaign.per_subscriber_octets} octets a cycle, all used"
        return left - part

    def _ended(self, campaign: Campaign) -> int:
        """1 where the flow ends with this record, and the campaign has not counted it yet."""
        if self._case.flow.end_reason == "active":
            return 0
        return 0 if any(paid.campaign_id == campaign.id for paid in self._case.sponsorships if paid.connections) else 1

    def _within(self, most: int | None, counter_id: str, wanted: int) -> int:
        """What of `wanted` a limit per cycle, of which a counter holds what is used, still allows; None is no limit."""
        return wanted if most is None else max(0, min(wanted, most - self._counter(counter_id).octets))

    def _use(self, counter_id: str, amount: int) -> int:
        """Count what was used of such a limit; returns all that is used."""
        used = self._counter(counter_id).octets + amount
        self._count(Counter(counter_id, used, 0))
        return used

    def _within_budget(self, wanted: int, campaign: Campaign) -> int:
        leases = self._case.leases
        if campaign.budget is None or leases is None:
            return wanted
        taken = sum(paid.budget_octets for paid in self._case.sponsorships if paid.campaign_id == campaign.id)
        return min(wanted, leases.get(campaign.id, 0) - taken)

    def _beyond_budget(self, rest: int, campaign: Campaign) -> int:
        """What the octets meet that the campaign would have paid for, had its budget not ended here."""
        used_up = f"the budget of campaign {campaign.id} is used up here"
        if campaign.budget is not None and campaign.budget.on_empty == "block":
            return self._block(rest, used_up)
        self._case.note = f"{used_up}; the next source pays for {rest} octets"
        return rest

    def _draw(self, left: int, index: int) -> int:
        """Draw from a bucket until it, a member's share, or what a rule asks for, comes to an end."""
        bucket, share = self.account.buckets[index], self._selection.share
        until = until_mark(bucket, self.account, self._tariff)
        most = bucket.remaining if until is None else min(until, bucket.remaining)
        counter_id = share_id(bucket.bucket_id, self._case.flow.subscriber_id)
        most = self._within(share, counter_id, most)
        amount, part = self._pass(left, most) if bucket.timed else (min(left, most), min(left, most))
        if share is not None:
            self._tell_share(bucket, share, self._use(counter_id, amount))
        after = replace(bucket, remaining=bucket.remaining - amount)
        self._case.charged += part
        self._note_draw(bucket, amount, part)
        if after.remaining <= after.notice_at:
            after = self._passed(after)
        buckets = self.account.buckets
        self.account = replace(self.account, buckets=(*buckets[:index], after, *buckets[index + 1 :]))
        if not after.remaining:
            self.cause = "exhausted"
        elif amount == until:
            self.cause = self.cause or "threshold"
        if not after.remaining or share is not None or until is not None:
            self._look_again()
        return left - part

    def _pass(self, left: int, most_ms: int) -> tuple[int, int]:
        """Let a bucket of time pay: the milliseconds that it takes from here on, and the octets that pass in them."""
        span, from_octets = self._span, self._span.octets - left
        ms, octets = span.part(from_octets=from_octets, from_ms=self._reached_ms, most_ms=most_ms)
        self._reached_ms = span.start_ms(from_octets, self._reached_ms) + ms
        return ms, octets

    def _note_draw(self, bucket: Bucket, amount: int, octets: int) -> None:
        left = bucket.remaining - amount
        draws = self._case.draws
        if draws and _goes_on(draws[-1], bucket):
            # A mark divided the draw, not the bucket's end.
            amount, octets, draws = amount + draws[-1].amount, octets + draws[-1].octets, draws[:-1]
        draw = Draw(bucket_id=bucket.bucket_id, octets=octets, remaining_octets=0 if bucket.timed else left)
        self._case.draws = (*draws, replace(draw, drawn_ms=amount, remaining_ms=left) if bucket.timed else draw)

    def _tell_share(self, bucket: Bucket, share: int, used: int) -> None:
        if used == share:
            mine = f"your share of {format_amount(share, bucket.unit)} of {bucket.bucket_id}"
            self._tell("exhausted", f"{mine} is used; the next source pays", bucket=bucket, percent=100)
            self.cause = self.cause or "share"

    def _look_again(self) -> None:
        """The rest of the flow meets what a flow arriving now would meet."""
        self.account = with_standing(self.account, self._tariff)
        flow = self._case.flow
        standing = standing_for(self.account, flow.subscriber_id)
        self._selection = select(standing, self._case.classification, flow, self._tariff)

    def _passed(self, bucket: Bucket) -> Bucket:
        """Tell the highest threshold that the bucket has passed, or its end; returns it with the next one set.

        A bucket may be here for nothing but a look at its pace: then nothing is told to people.
        """
        compiled = self._tariff.allowance(bucket.offering_id, bucket.allowance_id)
        if compiled is None:
            return bucket
        if not bucket.remaining:
            if not self._has_sibling(bucket):
                self._tell_end(bucket, compiled)
            # A correction may put octets back: then the end has to be looked for again.
            bound = bound_of(compiled, plan_of(self.account.standing, self._tariff).prices)
            return replace(bucket, notified_percent=100, notice_at=bound.tolerance_octets if bound else 0)
        used = bucket.granted - bucket.remaining
        passed = (p for p in compiled.percents if p * bucket.granted <= used * 100)
        percent = max(passed, default=0)
        if percent > bucket.notified_percent:
            granted, left = (format_amount(amount, bucket.unit) for amount in (bucket.granted, bucket.remaining))
            detail = f"{percent} % of {granted} are used; {left} are left"
            self._tell("threshold", detail, bucket=bucket, percent=percent)
        percent = max(percent, bucket.notified_percent)
        notice_at = compiled.notice_at(bucket.granted, percent)
        return self._looked_at(replace(bucket, notified_percent=percent, notice_at=notice_at), compiled)

    def _looked_at(self, bucket: Bucket, compiled: CompiledAllowance) -> Bucket:
        prices = plan_of(self.account.standing, self._tariff).prices
        after = look(bucket, bound_of(compiled, prices), self._case.flow, at_ms=self._case.at_ms)
        if after.quota_octets != bucket.quota_octets:
            self.cause = self.cause or "quota"
        return kept_in_sight(after) if leads_to_money(compiled) and declares(prices) else after

    def _has_sibling(self, bucket: Bucket) -> bool:
        """Whether the same allowance has octets left in another bucket: kept from a cycle before, or granted since."""
        return any(
            other.bucket_id == bucket.bucket_id and other.valid_from_ms != bucket.valid_from_ms and other.remaining
            for other in self.account.buckets
        )

    def _tell_end(self, bucket: Bucket, compiled: CompiledAllowance) -> None:
        allowance = compiled.allowance
        used_up = f"all {format_amount(bucket.granted, bucket.unit)} of {bucket.bucket_id} are used"
        if allowance.on_exhausted == "throttle":
            self._tell("throttled", f"{used_up}; the rest is free at a low rate", bucket=bucket, percent=100)
        elif 100 in allowance.notify_percents:
            beyond = "the gate is closed for the rest" if allowance.on_exhausted == "block" else "the next source pays"
            self._tell("exhausted", f"{used_up}; {beyond}", bucket=bucket, percent=100)

    def _sell(self, left: int, price: CompiledPrice | None) -> int:
        """Charge out of bundle, until money reaches a mark where rules turn."""
        if price is None:
            return self._block(left, "no bucket has octets left and no product has a price for this traffic")
        until = octets_until_spend(
            price, self.account, self._tariff, credit_micros=credit_of(self.account, self._selection.purses)
        )
        if until is None or until > left:
            return self._sell_part(left, price)
        sold_to = self._counter(price.counter_id).octets + until
        self._sell_part(until, price)
        if self._counter(price.counter_id).octets < sold_to:
            # A cap or the balance ended it before the mark; the rest meets the same.
            return self._sell_part(left - until, price) if left > until else 0
        self.cause = self.cause or "spend"
        self._look_again()
        return left - until

    def _sell_part(self, left: int, price: CompiledPrice) -> int:
        """Charge the interval of the cycle's total that this part is, up to cap and balance."""
        used_octets = self._counter(price.counter_id).octets
        room = self._room(price, self._selection)
        part = max(0, min(left, room.octets - used_octets))
        self._pay(price, used_octets, part)
        rest = left - part
        if used_octets + part < room.octets:
            self._near(price, part)
        elif room.bound != "count":
            self._end(room, part, rest, price)
        elif rest:
            return self._block(rest, f"price {price.price.id} has reached {price.most_octets} octets, all it can count")
        return 0

    def _end(self, room: Room, part: int, rest: int, price: CompiledPrice) -> None:
        """Cap, limit or balance are at their end, after `part`; `rest` is beyond."""
        if room.bound == "cap":
            self._capped(part, rest, price)
        elif room.bound == "limit":
            self._limited(part, rest)
        else:
            self._broke(part, rest)

    def _refuse(self, left: int, price: CompiledPrice) -> int:
        """Block what belongs to a connection that nothing could pay for at its end."""
        self._end(room_of(price, self.account, self._credit(self._selection)), 0, left, price)
        return 0

    def _connect(self, selection: Selection, price: CompiledPrice) -> None:
        """Charge the connection that ends with this flow, if one octet more of it would still pass."""
        if not self._is_open(selection) or not can_pay(price, self.account, self._credit(selection)):
            return
        number = self._counter(price.counter_id)
        room = room_of(price, self.account, self._credit(selection))
        if number.octets >= room.octets:
            at = number.octets
            self._case.connection = Connection(price.price.id, 0, 0, at, at)
            return
        micros, was_open = (
            price.amount_up_to(number.octets + 1) - price.amount_up_to(number.octets),
            can_pay(price, self.account),
        )
        self._count(Counter(price.counter_id, number.octets + 1, number.micros + micros, price.price.unit))
        money, paid = self._take(micros)
        at = number.octets
        self._case.connection = Connection(price.price.id, micros, money, at, at + 1, paid, price.counter_id)
        self._turn_by_spend()
        if can_pay(price, self.account) != was_open:
            # A tier has turned for traffic that granted money does not pay for.
            self.cause = self.cause or "balance"
        room = room_of(price, self.account, self._credit(selection))
        if number.octets + 1 >= room.octets and room.bound != "count":
            self._end(room, 1, 0, price)
        elif selection.bucket_index < 0 and not self._is_open(selection) and selection.price is not None:
            # The connection took what the next octet would have cost.
            self._end(self._room(selection.price, selection), 1, 0, selection.price)
        else:
            self._near(price, 1)

    def _turn_by_spend(self) -> None:
        """Rules may turn with the money that a connection cost."""
        held = (self._tariff.offerings.get(product.offering_id) for product in self.account.products)
        if not any(offering.spends for offering in held if offering):
            return
        before = self.account.standing
        self._look_again()
        if self.account.standing != before:
            self.cause = self.cause or "spend"

    def _is_open(self, selection: Selection) -> bool:
        """Whether one octet more of such traffic would pass."""
        if selection.bucket_index >= 0 or selection.beyond == "free":
            return True
        if selection.beyond == "blocked" or selection.price is None:
            return False
        return can_pay(selection.price, self.account, self._means(selection))

    def _room(self, price: CompiledPrice, selection: Selection) -> Room:
        return room_of(price, self.account, self._means(selection))

    def _credit(self, selection: Selection) -> Means:
        return Means(0, credit_of(self.account, selection.purses))

    def _means(self, selection: Selection) -> Means:
        return Means(reserve_of(selection.connection, self.account), credit_of(self.account, selection.purses))

    def _pay(self, price: CompiledPrice, used_octets: int, part: int) -> None:
        micros = price.amount_up_to(used_octets + part) - price.amount_up_to(used_octets)
        case = self._case
        case.charged += part
        case.micros += micros
        start = used_octets if case.price_from is None else case.price_from
        case.price_id, case.price_from, case.price_to = price.price.id, start, used_octets + part
        case.counter_id = price.counter_id
        if part:
            spent = self._counter(price.counter_id).micros + micros
            self._count(Counter(price.counter_id, used_octets + part, spent, price.price.unit))
        if micros:
            money, paid = self._take(micros)
            case.money += money
            case.payments += paid

    def _take(self, micros: int) -> tuple[int, tuple[Paid, ...]]:
        """Take money from purses first, then from a prepaid balance; returns what that gave, and what purses did."""
        self.account, paid = paid_from(self.account, self._selection.purses, micros)
        given = sum(item.micros for item in paid)
        if given:
            self._count(Counter(PAID, 0, self._counter(PAID).micros + given))
        for item in paid:
            if not item.purse.remaining_micros:
                self._tell_spent(item.purse)
        money = micros - given if self.account.payment == "prepaid" else 0
        self.account = replace(self.account, balance_micros=self.account.balance_micros - money)
        return money, tuple(paid)

    def _tell_spent(self, purse: Purse) -> None:
        detail = f"all {self._money(purse.granted_micros)} of {purse.bucket_id} are spent; the next source pays"
        self._tell("exhausted", detail, bucket=purse, percent=100)
        self.cause = self.cause or "exhausted"

    def _near(self, price: CompiledPrice, part: int) -> None:
        """Tell once that the cap, or the subscriber's own limit, comes near."""
        if not part:
            return
        cap = cap_of(price, self.account) if price.price.on_cap == "block" else None
        spent = self._counter(price.counter_id).micros
        self._tell_near(price.counter_id, "cap_nearing", spent, cap, price)
        self._tell_near(SPENDING_LIMIT, "limit_nearing", spent_micros(self.account.counters), limit_of(self.account))

    def _tell_near(
        self, name: str, kind: str, spent: int, most: int | None, price: CompiledPrice | None = None
    ) -> None:
        if most is None or spent * 100 < most * NEARING_PERCENT:
            return
        what = f"the cap of price {price.price.id}" if price else "your limit"
        spent_text = f"{format_micros(spent)} of {self._money(most)} are spent"
        detail = f"{spent_text}, {what}; beyond it nothing passes until you raise it"
        of_price = {"price_id": price.price.id, "offering_id": price.offering_id} if price else {}
        self._tell_once(marks_of(name)[0], kind, detail, percent=NEARING_PERCENT, asks_for="raise_cap", **of_price)

    def _capped(self, part: int, rest: int, price: CompiledPrice) -> None:
        cap, free = cap_of(price, self.account) or 0, price.price.on_cap == "free"
        beyond = "free of charge" if free else "blocked"
        note = f"the cap of {self._money(cap)} of price {price.price.id} is reached; the rest is {beyond}"
        detail = f"{note} until the next cycle{'' if free else ', or until you raise the cap'}"
        told = self._tell_once(
            marks_of(price.counter_id)[1], "cap_reached", detail, percent=100, price_id=price.price.id,
            offering_id=price.offering_id, asks_for=None if free else "raise_cap",
        )  # fmt: skip
        if told or part:
            self.cause = "cap_reached"
        if rest:
            self._case.price_capped, self._case.note = True, note
            if free:
                self._case.free += rest
            else:
                self._case.blocked += rest

    def _limited(self, part: int, rest: int) -> None:
        note = f"your limit of {self._money(limit_of(self.account) or 0)} a cycle is reached; the rest is blocked"
        detail = f"{note} until the next cycle, or until you raise it"
        told = self._tell_once(marks_of(SPENDING_LIMIT)[1], "limit_reached", detail, percent=100, asks_for="raise_cap")
        if told or part:
            self.cause = "limit_reached"
        if rest:
            self._case.blocked += rest
            self._case.note = note

    def _money(self, micros: int) -> str:
        return f"{format_micros(micros)} {self._tariff.currency}"

    def _broke(self, part: int, rest: int) -> None:
        balance = format_micros(self.account.balance_micros)
        note = f"the balance of {balance} {self._tariff.currency} does not pay for more; top it up"
        # A released hold can bring some money back without a credit; its end is an end again, though told already.
        if self._tell_once(BALANCE_MARK, "blocked", note) or part:
            self.cause = "balance"
        if rest:
            self._case.blocked += rest
            self._case.note = note

    def _counter(self, counter_id: str) -> Counter:
        return used_of(counter_id, self.account.counters)

    def _count(self, total: Counter) -> None:
        others = [counter for counter in self.account.counters if counter.counter_id != total.counter_id]
        self.account = replace(self.account, counters=(*others, total))

    def _tell_once(self, mark: str, kind: str, detail: str, **more: Any) -> bool:
        if mark in self.account.told_blocked:
            return False
        self.account = replace(self.account, told_blocked=(*self.account.told_blocked, mark))
        self._tell(kind, detail, **more)
        return True

    def _tell(self, kind: str, detail: str, *, bucket: Bucket | Purse | None = None, **more: Any) -> None:
        about: dict[str, Any] = {} if bucket is None else {
            "product_id": bucket.product_id, "offering_id": bucket.offering_id, "bucket_id": bucket.bucket_id,
        }  # fmt: skip
        subscriber_id = self._case.flow.subscriber_id
        self.account, notification = notify(
            self.account, kind, detail, at_ms=self._case.at_ms, subscriber_id=subscriber_id, **about, **more
        )
        self.notifications.append(notification)


def _goes_on(draw: Draw, bucket: Bucket) -> bool:
    """Whether a draw ended where the bucket stands now."""
    return (draw.bucket_id, draw.left) == (bucket.bucket_id, bucket.remaining)
