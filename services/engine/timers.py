"""What happens to an account by the passing of time alone: cycles renew, products begin and end, buckets run out.

Time passes for an account in two ways that end in the same place: a flow or command whose event time lies past
something due brings it about first (`advance`), and where no record comes, a timer does, by the wall clock.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from schemas.catalogue_allowances import Rollover
from schemas.state import AccountState, Bucket, Product
from schemas.units import format_micros
from services.engine.caps import recounted
from services.engine.credits import expire_money, grant_money
from services.engine.cycles import days_of_cycle, renewed
from services.engine.due import reminder_ms, renewal_reminder_ms
from services.engine.fees import charge_fees, close_rent, is_on_trial, owe_rent
from services.engine.journal import Journal, Source
from services.engine.late import grace_is_over, swept
from services.engine.leaving import end_dependents, end_product, end_replaced
from services.engine.outcome import Outcome
from services.engine.periods import cycle_at, end_of_days
from services.engine.renewal import (
    Ending,
    ending_of,
    fresh_shares,
    in_order,
    is_renewed,
    keep,
    kept_in_cycles,
    next_term,
    refusal_of,
)
from services.engine.tariff import CompiledOffering, Tariff

MAX_AHEAD_MS = 86_400_000
"""How far an event time may lie ahead of the wall clock and still move an account's calendar: a day. A clock that is
further off must not bring about renewals that are not due; its flows count as happening now."""

MAX_TRIED = 64
"""How many offerings an account is remembered to have tried, so that nobody lives on trials."""


def next_due_ms(account: AccountState) -> int | None:
    """The earliest time at which something of the account begins or ends; None before its first event."""
    return account.due_ms or None


def on_timer(account: AccountState, tariff: Tariff, *, partition: int, now_ms: int) -> Outcome:
    """Bring about all that is due at `now_ms`: renewals with their grants and fees, ends, and changes of rules.

    Calling it again at the same time does nothing. It also takes over a new catalogue version.
    """
    return advance(account, tariff, partition=partition, until_ms=now_ms, now_ms=now_ms)


def advance(account: AccountState, tariff: Tariff, *, partition: int, until_ms: int, now_ms: int) -> Outcome:
    """`account` with everything done that is due up to and including `until_ms`, each thing at its own time."""
    done = Outcome(account)
    if not account.cycle_end_ms:
        done = _open(account, tariff, partition, until_ms, now_ms)
    elif account.catalogue_version != tariff.version:
        done = _adopt(account, tariff, partition, until_ms, now_ms)
    while done.account.due_ms <= until_ms:
        done = joined(done, _step(done.account, tariff, partition, now_ms))
    return done


def joined(first: Outcome, then: Outcome) -> Outcome:
    """Two outcomes of the same account, one after the other, as one."""
    return Outcome(
        then.account,
        then.decision or first.decision,
        first.updates + then.updates,
        first.notifications + then.notifications,
        first.usage + then.usage,
    )


def event_time_ms(stated_ms: int, now_ms: int) -> int:
    """The time to go by: the event's own, unless its clock is more than MAX_AHEAD_MS ahead of ours."""
    return stated_ms if stated_ms <= now_ms + MAX_AHEAD_MS else now_ms


def start_product(journal: Journal, product: Product) -> int | None:
    """Fees and grants of a product that begins; returns the micros charged.

    None, and nothing done, when a prepaid balance does not cover them. An offering that the catalogue no longer has
    brings nothing and costs nothing; a trial costs nothing yet.
    """
    offering = journal.tariff.offerings.get(product.offering_id)
    if offering is None:
        return 0
    types = () if is_on_trial(product) else ("one_time", "recurring")
    micros = charge_fees(journal, product, offering, types, from_ms=product.start_ms)
    if micros is None:
        return None
    if is_on_trial(product):
        _begin_trial(journal, product, offering)
    days = days_of_cycle(journal.account, product, product.start_ms)
    journal.grant(product, list(offering.allowances.values()), days=days)
    grant_money(journal, product, offering, ("cycle", "once"))
    return micros


def resume_suspended(journal: Journal) -> bool:
    """Renew suspended products that the balance now covers; whether there was one."""
    resumed = False
    for product in journal.account.products:
        if product.status == "suspended" and _renew(journal, product):
            resumed = True
    return resumed


def _begin_terms(journal: Journal, endings: Iterable[Ending]) -> bool:
    """Renew what comes to the end of a term and is to go on; whether something was."""
    renewed = [_begin_term(journal, ending) for ending in in_order(endings)]
    return any(renewed)


def _begin_term(journal: Journal, ending: Ending) -> bool:
    product = next_term(ending.product, ending.offering, journal.account, journal.at_ms)
    refusal = refusal_of(journal, ending, product)
    if refusal is None:
        before = journal.account
        journal.account = replace(before, products=(*before.products, product))
        if (micros := start_product(journal, product)) is not None:
            journal.account = fresh_shares(journal.account, ending.offering, product)
            keep(journal, ending, product)
            days, costs = ending.offering.offering.term_days, format_micros(micros)
            detail = f"{product.offering_id} is renewed for {days} days, for {costs} {journal.tariff.currency}"
            journal.tell("renewed", detail, product=product)
            return True
        journal.account = before
        refusal = f"the balance of {format_micros(before.balance_micros)} {journal.tariff.currency} does not cover it"
    journal.expire(list(ending.kept))
    journal.tell("refused", f"{product.offering_id} ends and is not renewed: {refusal}", product=ending.product)
    return False


def _begin_trial(journal: Journal, product: Product, offering: CompiledOffering) -> None:
    tried = (*journal.account.tried, product.offering_id)[-MAX_TRIED:]
    journal.account = replace(journal.account, tried=tried)
    detail = (
        f"{offering.offering.name} is free of charge for {offering.offering.trial_days} days and ends then; "
        f"confirm it to keep it for {offering.price_text(journal.tariff.currency)}"
    )
    journal.tell("trial_started", detail, product=product)


def _open(account: AccountState, tariff: Tariff, partition: int, at_ms: int, now_ms: int) -> Outcome:
    start, end = cycle_at(at_ms, time_zone=account.time_zone, cycle_day=account.cycle_day)
    account = replace(account, cycle_start_ms=start, cycle_end_ms=end, created_ms=at_ms)
    journal = _journal(account, tariff, partition, at_ms, now_ms)
    journal.settle("created")
    return journal.outcome()


def _adopt(account: AccountState, tariff: Tariff, partition: int, until_ms: int, now_ms: int) -> Outcome:
    # Whatever is already due happens afterwards, and under the new version.
    at_ms = min(until_ms, max(account.due_ms - 1, account.settled_ms))
    journal = _journal(account, tariff, partition, at_ms, now_ms)
    journal.emit_gathered()
    journal.account = recounted(journal.account, tariff)
    journal.settle("catalogue")
    return journal.outcome()


def _step(account: AccountState, tariff: Tariff, partition: int, now_ms: int) -> Outcome:
    journal = _journal(account, tariff, partition, account.due_ms, now_ms)
    journal.emit_gathered()
    if grace_is_over(journal.account, journal.at_ms):
        close_rent(journal)
    journal.account = swept(journal.account, journal.at_ms)
    replaced = end_replaced(journal)
    ended, endings = _end_products(journal)
    ended += _end_trials(journal) + replaced
    # What will be renewed at this moment, or be left without its plan, is not charged for another cycle first.
    ended += end_dependents(journal, staying={ending.product.offering_id for ending in endings})
    causes = ["expired"] if ended + _end_buckets(journal, endings) else []
    if _renew_cycle(journal):
        causes = ["reset"]
    if _begin_terms(journal, endings):
        causes = causes if causes == ["reset"] else ["renewed"]
    _charge_trials(journal)
    _remind_of_trials(journal)
    _remind_of_renewals(journal)
    if _start_products(journal):
        causes.append("activated")
    if end_dependents(journal):
        causes.append("expired")
    journal.settle(causes[0] if causes else "calendar")
    return journal.outcome()


def _journal(account: AccountState, tariff: Tariff, partition: int, at_ms: int, now_ms: int) -> Journal:
    source = Source.timer(account.account_id, partition, at_ms)
    return Journal(account, tariff, source, at_ms=at_ms, now_ms=now_ms)


def _end_products(journal: Journal) -> tuple[int, list[Ending]]:
    """End what has come to its end; how many products that were, and those of them that are to be renewed."""
    over = [item for item in journal.account.products if item.end_ms is not None and item.end_ms <= journal.at_ms]
    endings = [ending_of(journal, product) for product in over if is_renewed(product, journal.tariff)]
    for ending in endings:
        end_product(journal, ending.product, kept=ending.kept)
    for product in over:
        if not is_renewed(product, journal.tariff):
            end_product(journal, product)
            journal.tell("expired", f"product {product.product_id} ({product.offering_id}) has ended", product=product)
    return len(over), endings


def _end_trials(journal: Journal) -> int:
    over = [item for item in _trials(journal, "running") if item.trial_end_ms <= journal.at_ms]
    for product in over:
        end_product(journal, product)
        detail = f"the trial of {product.offering_id} has ended; nothing was charged for it"
        journal.tell("expired", detail, product=product)
    return len(over)


def _charge_trials(journal: Journal) -> None:
    """Charge what was confirmed from the trial's end on; what the balance does not cover ends."""
    for product in _trials(journal, "confirmed"):
        offering = journal.tariff.offerings.get(product.offering_id)
        if product.trial_end_ms > journal.at_ms:
            continue
        charged = replace(product, trial="over")
        journal.put(charged)
        types = ("one_time", "recurring")
        if offering is None or charge_fees(journal, charged, offering, types, from_ms=journal.at_ms) is not None:
            journal.tell(
                "receipt", f"the trial of {product.offering_id} is over; it goes on as confirmed", product=product
            )
        else:
            end_product(journal, charged)
            journal.tell("refused", f"{product.offering_id} ends: the balance does not cover it", product=product)


def _remind_of_trials(journal: Journal) -> None:
    for product in _trials(journal, "running"):
        offering = journal.tariff.offerings.get(product.offering_id)
        if offering and reminder_ms(product, offering, journal.account) == journal.at_ms:
            detail = (
                f"the trial of {offering.offering.name} ends in {offering.offering.trial_reminder_days} days, and so "
                f"does the product; confirm it to keep it for {offering.price_text(journal.tariff.currency)}"
            )
            journal.tell("trial_ending", detail, product=product)


def _remind_of_renewals(journal: Journal) -> None:
    for product in journal.account.products:
        offering = journal.tariff.offerings.get(product.offering_id)
        if offering and renewal_reminder_ms(product, offering, journal.account) == journal.at_ms:
            detail = (
                f"{offering.offering.name} is renewed in {offering.offering.renewal_reminder_days} days for "
                f"{offering.price_text(journal.tariff.currency)}, unless you switch the renewal off"
            )
            journal.tell("renewal_nearing", detail, product=product, asks_for="set_renewal")


def _trials(journal: Journal, trial: str) -> list[Product]:
    return [item for item in journal.account.products if item.trial == trial and item.status == "active"]


def _end_buckets(journal: Journal, endings: Iterable[Ending]) -> int:
    waiting = [bucket for ending in endings for bucket in ending.kept]
    over = [item for item in _over(journal) if item not in waiting and _rollover(journal, item) is None]
    journal.expire(over)
    spent = [
        purse
        for purse in journal.account.purses
        if purse.valid_until_ms is not None and purse.valid_until_ms <= journal.at_ms
    ]
    expire_money(journal, spent)
    return len(over) + len(spent)


def _over(journal: Journal) -> list[Bucket]:
    return [
        bucket
        for bucket in journal.account.buckets
        if bucket.valid_until_ms is not None and bucket.valid_until_ms <= journal.at_ms
    ]


def _rollover(journal: Journal, bucket: Bucket) -> Rollover | None:
    """What may be kept of a bucket that ends; None outside a cycle's end, and for what was kept once already."""
    compiled = journal.tariff.allowance(bucket.offering_id, bucket.allowance_id)
    if compiled is None or bucket.rolled or journal.account.cycle_end_ms > journal.at_ms:
        return None
    if journal.tariff.has_changed_unit(bucket):
        return None
    return compiled.allowance.rollover


def _renew_cycle(journal: Journal) -> bool:
    account = journal.account
    if account.cycle_end_ms > journal.at_ms:
        return False
    for product in account.products:
        owe_rent(journal, product, account.cycle_end_ms)
    account = journal.account
    rolling = [(bucket, rollover) for bucket in _over(journal) if (rollover := _rollover(journal, bucket))]
    journal.account = renewed(account)
    for product in account.products:
        mine = [pair for pair in rolling if pair[0].product_id == product.product_id]
        if product.status != "pending_active" and not _renew(journal, product, mine):
            _suspend(journal, product)
            journal.expire([bucket for bucket, _ in mine])
    return True


def _renew(journal: Journal, product: Product, rolling: Iterable[tuple[Bucket, Rollover]] = ()) -> bool:
    if product.follows:
        return _begin_after_all(journal, product)
    offering = journal.tariff.offerings.get(product.offering_id)
    types = () if is_on_trial(product) else ("recurring",)
    if offering is not None and charge_fees(journal, product, offering, types, from_ms=journal.at_ms) is None:
        return False
    if product.status != "active":
        _set_status(journal, product, "active")
    if offering is None and product.minimum_micros:
        journal.put(replace(product, minimum_micros=0))
    for bucket, rollover in rolling:
        journal.roll_over(bucket, rollover, kept_in_cycles(journal.account, product, rollover.cycles))
    if offering is not None:
        renewed = [item for item in offering.allowances.values() if item.allowance.validity == "cycle"]
        journal.grant(product, renewed, days=days_of_cycle(journal.account, product, journal.at_ms))
        grant_money(journal, product, offering, ("cycle",))
    return True


def _begin_after_all(journal: Journal, product: Product) -> bool:
    """Begin a product that took another's place when the balance did not cover it; its term is counted from now."""
    offering = journal.tariff.offerings.get(product.offering_id)
    begun = replace(product, status="active", start_ms=journal.at_ms, follows="")
    sold, zone = offering.offering if offering else None, journal.account.time_zone
    if sold is not None and sold.term_days is not None:
        begun = replace(begun, end_ms=end_of_days(journal.at_ms, sold.term_days, time_zone=zone, anchor=sold.anchor))
    before = journal.account
    journal.put(begun)
    if start_product(journal, begun) is None:
        journal.account = before
        return False
    journal.tell("activated", f"product {product.product_id} ({product.offering_id}) begins", product=begun)
    return True


def _suspend(journal: Journal, product: Product) -> None:
    _set_status(journal, product, "suspended")
    offering = journal.tariff.offerings[product.offering_id]
    detail = (
        f"{product.offering_id} costs {format_micros(offering.recurring_micros)} {journal.tariff.currency} a cycle "
        f"and the balance is {format_micros(journal.account.balance_micros)} {journal.tariff.currency}; "
        "it waits for a top-up"
    )
    journal.tell("refused", detail, product=product)


def _start_products(journal: Journal) -> bool:
    waiting = [
        product
        for product in journal.account.products
        if product.status == "pending_active" and product.start_ms <= journal.at_ms
    ]
    for product in waiting:
        begun = replace(product, status="active", follows="")
        journal.put(begun)
        if start_product(journal, begun) is not None:
            journal.tell("activated", f"product {product.product_id} ({product.offering_id}) begins", product=product)
        elif product.follows:
            # Whoever changed a plan is not left without one: it waits, as a plan does that cannot be renewed.
            journal.put(product)
            _suspend(journal, product)
        else:
            end_product(journal, begun)
            journal.tell("refused", f"product {product.product_id}: the balance does not cover it", product=product)
    return bool(waiting)


def _set_status(journal: Journal, product: Product, status: str) -> None:
    held = next(item for item in journal.account.products if item.product_id == product.product_id)
    journal.put(replace(held, status=status))
