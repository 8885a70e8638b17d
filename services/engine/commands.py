"""What an account is told to do: the commands of `ott.account-commands.v1`, applied once each.

A command takes effect at the time when it was issued, or, where the account has already gone on, at the time of the
account's last change: nothing is ever put in front of what has been decided.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from schemas.catalogue_amounts import MAX_AMOUNT_MICROS
from schemas.command import (
    AccountCommand,
    ActivateProduct,
    CancelProduct,
    ChangeProfile,
    ConfirmProduct,
    Credit,
    Debit,
    EmitUsage,
    RaiseCap,
    RefundUsage,
    ReleaseLate,
    RerateUsage,
    Reserve,
    SetRenewal,
    SetSpendingLimit,
    VoidUsage,
)
from schemas.state import STATE_VERSION, AccountState, Counter, Product, Reservation
from schemas.units import format_micros, parse_micros
from services.engine.caps import LIFTED, SPENDING_LIMIT, cap_of, limit_of, marks_of, raised_id
from services.engine.charge import BALANCE_MARK
from services.engine.correction_commands import correct
from services.engine.fees import is_on_trial
from services.engine.installed import hand_over
from services.engine.journal import Journal, Source
from services.engine.late_release import release
from services.engine.leaving import end_by_order, end_dependents, end_with_cycle
from services.engine.outcome import Outcome, Position, Refusal
from services.engine.periods import DAY_MS, add_days, end_of_days, is_time_zone
from services.engine.renewal import term_end_ms
from services.engine.sale import ineligible, misfit, off_sale
from services.engine.tariff import MAX_TOTAL_MICROS, CompiledOffering, Tariff
from services.engine.timers import advance, event_time_ms, joined, resume_suspended, start_product

RECENT_COMMANDS = 16
"""How many of an account's last command ids are remembered: the horizon within which a repeated one does nothing."""

MAX_START_AHEAD_DAYS = 3_660
"""How far ahead a product can be ordered; a time beyond is a mistake of unit, and calendars end in the year 9999."""

MAX_PRODUCTS = 64
MAX_RESERVATIONS = 64
MAX_MEMBERS = 64
MAX_PRODUCT_ID = 63
"""Characters of a product id, so that `<product id>/<allowance id>` fits into 128."""


class _RefusedError(Exception):
    """Leaves a command's steps with its refusal; the journal is dropped, so nothing has happened."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(cause, detail)


def apply_command(
    command: AccountCommand, account: AccountState | None, tariff: Tariff, *, at: Position, now_ms: int
) -> Outcome | Refusal:
    """Apply `command` to `account`; None is an account that does not exist yet, which ChangeProfile creates.

    A command id among the account's recent ones gives the account back as it is, with no outputs. A Refusal changes
    nothing: its detail names the value, the rule and the next step.
    """
    if account is not None and command.command_id in account.recent_commands:
        return Outcome(account)
    issued_ms = event_time_ms(command.issued_at_ms, now_ms)
    try:
        before = Outcome(_created(command, tariff) if account is None else account)
        before = joined(
            before, advance(before.account, tariff, partition=at.partition, until_ms=issued_ms, now_ms=now_ms)
        )
        journal = Journal(
            before.account, tariff, Source.command(at, command.command_id),
            at_ms=max(issued_ms, before.account.settled_ms), now_ms=now_ms,
        )  # fmt: skip
        _STEPS[type(command)](journal, command)
    except _RefusedError as refused:
        return refused.refusal
    recent = (*journal.account.recent_commands, command.command_id)[-RECENT_COMMANDS:]
    journal.account = replace(journal.account, recent_commands=recent)
    return joined(before, journal.outcome())


def _created(command: AccountCommand, tariff: Tariff) -> AccountState:
    """The account that a profile describes; its first cycle opens when time first passes for it."""
    if not isinstance(command, ChangeProfile):
        detail = f"account_id: {command.account_id!r} does not exist; create it with change_profile first"
        raise _RefusedError("unknown_account", detail)
    _check_profile(command, tariff)
    return _profile(command, AccountState(STATE_VERSION, command.account_id, (command.account_id,), tariff.currency))


def _change_profile(journal: Journal, command: ChangeProfile) -> None:
    _check_profile(command, journal.tariff)
    before = journal.account
    if command.payment == "prepaid" and before.balance_micros < 0:
        owed = f"{format_micros(-before.balance_micros)} {journal.tariff.currency}"
        raise _RefusedError("payment", f"payment: the account owes {owed}, and prepaid never owes; credit it first")
    journal.emit_gathered()
    after = _profile(command, journal.account)
    # One after the other: who joins has none of the rules yet that a change of the profile modifies.
    journal.account = replace(after, subscriber_ids=before.subscriber_ids)
    resume_suspended(journal)
    journal.settle("profile")
    if after.subscriber_ids != before.subscriber_ids:
        journal.account = replace(journal.account, subscriber_ids=after.subscriber_ids)
        _change_members(journal, before)
        journal.settle("profile")


def _profile(command: ChangeProfile, account: AccountState) -> AccountState:
    given: dict[str, Any] = {
        name: value for name in _PROFILE if (value := getattr(command, name)) is not None
    }  # fmt: skip
    if command.subscriber_ids is not None:
        given["subscriber_ids"] = tuple(dict.fromkeys(command.subscriber_ids))
    return replace(account, **given)


_PROFILE = ("segment", "age_band", "consumption_level", "payment", "currency", "time_zone", "cycle_day", "tier")


def _check_profile(command: ChangeProfile, tariff: Tariff) -> None:
    if command.currency not in (None, tariff.currency):
        detail = f"currency: {command.currency!r} is not the catalogue's {tariff.currency!r}; use that"
        raise _RefusedError("currency", detail)
    if command.payment not in (None, "prepaid", "postpaid"):
        raise _RefusedError("payment", f"payment: {command.payment!r} is unknown; use prepaid or postpaid")
    if command.time_zone is not None and not is_time_zone(command.time_zone):
        detail = f"time_zone: {command.time_zone!r} is no IANA zone; use one such as Europe/Paris"
        raise _RefusedError("time_zone", detail)
    members = command.subscriber_ids
    if members is not None and not 1 <= len(members) <= MAX_MEMBERS:
        detail = f"subscriber_ids: {len(members)} given; an account has 1 to {MAX_MEMBERS} members"
        raise _RefusedError("subscriber_ids", detail)


def _change_members(journal: Journal, before: AccountState) -> None:
    """Give the rules in force to those who joined, take them from those who left."""
    members = journal.account.subscriber_ids
    joined_ids = tuple(member for member in members if member not in before.subscriber_ids)
    left_ids = tuple(member for member in before.subscriber_ids if member not in members)
    journal.update(*hand_over(journal.account, journal.tariff, joined_ids, left_ids, at_ms=journal.at_ms))


def _activate(journal: Journal, command: ActivateProduct) -> None:
    start_ms = _start_of(journal, command)
    replaced = _replaced(journal.account, command)
    offering = _orderable(journal, command, start_ms)
    if start_ms > journal.now_ms + MAX_START_AHEAD_DAYS * DAY_MS:
        detail = f"start_ms: {start_ms} is more than {MAX_START_AHEAD_DAYS} days ahead; state it in ms since 1970 UTC"
        raise _RefusedError("start_ms", detail)
    waits = start_ms > journal.at_ms
    product = _ordered(journal.account, command, offering, start_ms)
    if waits:
        product = replace(product, status="pending_active", follows=command.replaces or "")
    first_end_ms = product.trial_end_ms or product.end_ms
    if first_end_ms is not None and first_end_ms <= journal.at_ms:
        days = offering.offering.trial_days if product.trial else offering.offering.term_days
        raise _RefusedError("ended", f"start_ms: {start_ms} + {days} days is over already; order it from now")
    journal.emit_gathered()
    if replaced is not None and not waits:
        why = "has ended, for another takes its place"
        end_by_order(journal, replaced, ordered_ms=command.issued_at_ms, why=why)
    journal.account = replace(journal.account, products=(*journal.account.products, product))
    if not waits:
        _begin(journal, product, offering)
        end_dependents(journal, ordered_ms=command.issued_at_ms)
    journal.settle("activated")


def _start_of(journal: Journal, command: ActivateProduct) -> int:
    """When the product begins; what was ordered for the end of a cycle that is over by now begins with the present."""
    account = journal.account
    if command.takes_effect == "now":
        return max(command.start_ms or journal.at_ms, account.cycle_start_ms)
    if command.start_ms is not None:
        detail = f"start_ms: {command.start_ms} is given, and takes_effect is cycle_end; give one of them"
        raise _RefusedError("start_ms", detail)
    return account.cycle_start_ms if _came_after_the_cycle(journal, command) else account.cycle_end_ms


def _came_after_the_cycle(journal: Journal, command: ActivateProduct | CancelProduct) -> bool:
    """Whether the cycle at whose end it takes effect was over before it came."""
    return command.issued_at_ms < journal.account.cycle_start_ms


def _replaced(account: AccountState, command: ActivateProduct) -> Product | None:
    if command.replaces is None:
        return None
    product = next((item for item in account.products if item.product_id == command.replaces), None)
    if product is None or product.status == "pending_active":
        state = "is not held" if product is None else "has not begun"
        raise _RefusedError("replaces", f"replaces: {command.replaces!r} {state}; name a product that is in use")
    return product


def _ordered(
    account: AccountState, command: ActivateProduct, offering: CompiledOffering, start_ms: int
) -> Product:  # fmt: skip
    """The product as it begins; its term follows its trial."""
    sold, zone = offering.offering, account.time_zone
    product = Product(command.product_id, command.offering_id, start_ms, None)
    begins_ms = start_ms
    tried = {*account.tried, *(held.offering_id for held in account.products if held.trial)}
    if sold.trial_days is not None and sold.id not in tried:
        begins_ms = add_days(start_ms, sold.trial_days, time_zone=zone)
        product = replace(product, trial="running", trial_end_ms=begins_ms)
    if sold.term_days is not None:
        end_ms = end_of_days(begins_ms, sold.term_days, time_zone=zone, anchor=sold.anchor)
        product = replace(product, end_ms=end_ms)
    return replace(product, renews=sold.renewal == "automatic" and command.renews is not False)


def _begin(journal: Journal, product: Product, offering: CompiledOffering) -> None:
    micros = start_product(journal, product)
    if micros is None:
        detail = (
            f"balance {format_micros(journal.account.balance_micros)} does not cover "
            f"{offering.price_text(journal.tariff.currency)} for {product.offering_id}; top it up first"
        )
        raise _RefusedError("insufficient_balance", detail)
    journal.tell("activated", f"{offering.offering.name} is active", product=product)
    if micros:
        journal.tell("receipt", f"{format_micros(micros)} {journal.tariff.currency} charged", product=product)


def _orderable(journal: Journal, command: ActivateProduct, start_ms: int) -> CompiledOffering:
    """The offering, if the account may hold it from its start on."""
    offering = journal.tariff.offerings.get(command.offering_id)
    if offering is None:
        detail = f"offering_id: {command.offering_id!r} is not in catalogue {journal.tariff.version}; publish it first"
        raise _RefusedError("unknown_offering", detail)
    _refuse(off_sale(offering, journal.at_ms) or ineligible(offering, journal.account, journal.at_ms))
    _check_product(journal.account, command, offering)
    at_ms = max(start_ms, journal.at_ms)
    _refuse(misfit(offering, journal.account, journal.tariff, at_ms=at_ms, replaced_id=command.replaces))
    return offering


def _refuse(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise _RefusedError(*refusal)


def _check_product(account: AccountState, command: ActivateProduct, offering: CompiledOffering) -> None:
    if len(command.product_id) > MAX_PRODUCT_ID or "/" in command.product_id:
        detail = f"product_id: {command.product_id!r}; use at most {MAX_PRODUCT_ID} characters and no slash"
        raise _RefusedError("product_id", detail)
    # An id that comes again would mix up two products in what is kept for late flows.
    if any(product.product_id == command.product_id for product in (*account.products, *account.ended)):
        raise _RefusedError("product_exists", f"product_id: {command.product_id!r} was used already; use a new id")
    if len(account.products) >= MAX_PRODUCTS:
        detail = f"products: {MAX_PRODUCTS} are held, which is the limit; cancel one first"
        raise _RefusedError("too_many_products", detail)
    most = offering.offering.max_held
    others = [product for product in account.products if product.product_id != command.replaces]
    if most is not None and sum(product.offering_id == command.offering_id for product in others) >= most:
        detail = f"offering_id: {command.offering_id!r} can be held {most} times, and is; cancel one first"
        raise _RefusedError("max_held", detail)


def _cancel(journal: Journal, command: CancelProduct) -> None:
    product = next((item for item in journal.account.products if item.product_id == command.product_id), None)
    if product is None:
        raise _RefusedError("unknown_product", f"product_id: {command.product_id!r} is not held; nothing to cancel")
    journal.emit_gathered()
    # What has not begun, or is suspended, serves nothing until the cycle's end; and an end that is over is now.
    if (
        command.takes_effect == "cycle_end"
        and product.status == "active"
        and not _came_after_the_cycle(journal, command)
    ):
        end_with_cycle(journal, product)
    else:
        end_by_order(journal, product, ordered_ms=command.issued_at_ms)
        end_dependents(journal, ordered_ms=command.issued_at_ms)
    journal.settle("cancelled")


def _confirm(journal: Journal, command: ConfirmProduct) -> None:
    product = next((item for item in journal.account.products if item.product_id == command.product_id), None)
    if product is None or not is_on_trial(product):
        detail = f"product_id: {command.product_id!r} is not on trial; only a trial is confirmed"
        raise _RefusedError("not_on_trial", detail)
    if product.trial == "confirmed":
        return
    journal.put(replace(product, trial="confirmed"))
    offering = journal.tariff.offerings.get(product.offering_id)
    price = offering.price_text(journal.tariff.currency) if offering else "what it costs then"
    journal.tell("receipt", f"{product.offering_id} goes on after its trial, for {price}", product=product)
    journal.settle("confirmed")


def _credit(journal: Journal, command: Credit) -> None:
    micros = _amount(command.amount)
    _check_balance(journal.account.balance_micros + micros)
    journal.emit_gathered()
    # A top-up is no charge and no refund: its movement alone says what came in.
    journal.book("credit", movements=(journal.move_money(micros),))
    told = tuple(mark for mark in journal.account.told_blocked if mark != BALANCE_MARK)
    journal.account = replace(journal.account, told_blocked=told)
    resume_suspended(journal)
    journal.tell("receipt", f"{command.amount} {journal.tariff.currency} credited")
    journal.settle("credited")


def _set_renewal(journal: Journal, command: SetRenewal) -> None:
    product = next((item for item in journal.account.products if item.product_id == command.product_id), None)
    offering = journal.tariff.offerings.get(product.offering_id) if product else None
    if product is None or (command.renews and (offering is None or offering.offering.renewal == "none")):
        detail = f"product_id: {command.product_id!r} is no product that is renewed; order it again when it has ended"
        raise _RefusedError("no_renewal", detail)
    if product.renews == command.renews:
        return
    if product.first_ms and command.issued_at_ms < product.start_ms:
        # It was switched off before the present term began, which should not have begun.
        journal.emit_gathered()
        end_by_order(journal, product, ordered_ms=command.issued_at_ms)
        end_dependents(journal, ordered_ms=command.issued_at_ms)
        journal.settle("cancelled")
        return
    after = replace(product, renews=command.renews)
    if offering is not None and command.renews and product.end_ms == journal.account.cycle_end_ms:
        # A cancellation for the cycle's end is taken back with it: the term ends where it would have.
        end_ms = term_end_ms(product, offering, journal.account)
        after = replace(after, end_ms=max(product.end_ms, end_ms or 0))
    journal.put(after)
    beyond = "is renewed at the end of its term" if command.renews else "ends with its term and is not renewed"
    journal.tell("receipt", f"{product.offering_id} {beyond}", product=product)
    journal.settle("renewal")


def _set_limit(journal: Journal, command: SetSpendingLimit) -> None:
    micros = None if command.amount is None else _amount(command.amount, least=0)
    journal.emit_gathered()
    journal.account = replace(journal.account, spending_limit_micros=micros)
    _raise(journal, SPENDING_LIMIT, None)
    limit = "no limit" if micros is None else f"{format_micros(micros)} {journal.tariff.currency}"
    journal.tell("receipt", f"what usage may cost in a cycle: {limit}")
    journal.settle("limit")


def _raise_cap(journal: Journal, command: RaiseCap) -> None:
    micros = LIFTED if command.amount is None else _amount(command.amount)
    present = _present_caps(journal, command)
    if not present:
        what = (
            "there is no spending limit" if command.price_id is None else f"no cap of {command.price_id!r} blocks now"
        )
        raise _RefusedError("no_cap", f"price_id: {what}; there is nothing to raise")
    if len(present) > 1:
        names = ", ".join(name.removeprefix("price:").partition("/")[0] for name in present)
        detail = f"offering_id: null, and each of {names} has a cap of price {command.price_id!r}; name one of them"
        raise _RefusedError("ambiguous_cap", detail)
    [(name, cap)] = present.items()
    if micros != LIFTED and micros <= cap:
        detail = f"amount: {command.amount} is not above the present cap of {format_micros(cap)}; give more"
        raise _RefusedError("amount", detail)
    journal.emit_gathered()
    _raise(journal, name, micros)
    what = "your limit" if command.price_id is None else f"the cap of price {command.price_id}"
    most = "lifted" if micros == LIFTED else f"{format_micros(micros)} {journal.tariff.currency}"
    journal.tell("receipt", f"{what} is {most} until the cycle ends")
    journal.settle("cap_raised")


def _present_caps(journal: Journal, command: RaiseCap) -> dict[str, int]:
    """What can be raised under this name, and where it stands: the own limit, or caps that block, of products held."""
    account = journal.account
    if command.price_id is None:
        if command.offering_id is not None:
            detail = f"offering_id: {command.offering_id!r} is given without a price_id; name its price"
            raise _RefusedError("price_id", detail)
        limit = limit_of(account)
        return {} if limit is None else {SPENDING_LIMIT: limit}
    held = {product.offering_id for product in account.products}
    wanted = held if command.offering_id is None else held & {command.offering_id}
    offerings = [journal.tariff.offerings.get(offering_id) for offering_id in sorted(wanted)]
    prices = [
        price for offering in offerings if offering for price in offering.prices if price.price.id == command.price_id
    ]
    caps = {price.counter_id: cap_of(price, account) for price in prices if price.price.on_cap == "block"}
    return {name: cap for name, cap in caps.items() if cap is not None}


def _raise(journal: Journal, name: str, micros: int | None) -> None:
    """Remember what a cap is raised to, None for not at all; it will be told anew when it comes near and is reached."""
    account = journal.account
    counters = tuple(counter for counter in account.counters if counter.counter_id != raised_id(name))
    if micros is not None:
        counters = (*counters, Counter(raised_id(name), 0, micros))
    told = tuple(mark for mark in account.told_blocked if mark not in marks_of(name))
    journal.account = replace(account, counters=counters, told_blocked=told)


def _debit(journal: Journal, command: Debit) -> None:
    micros = _affordable(journal, command.amount)
    journal.emit_gathered()
    journal.book("debit", amount=micros, movements=(journal.move_money(-micros),))
    journal.tell("receipt", f"{command.amount} {journal.tariff.currency} debited")
    journal.settle("debited")


def _reserve(journal: Journal, command: Reserve) -> None:
    held = next((item for item in journal.account.reservations if item.reservation_id == command.reservation_id), None)
    if command.action == "hold":
        _hold(journal, command, held)
    elif held is None:
        detail = f"reservation_id: {command.reservation_id!r} is not held; it was committed or released, or never made"
        raise _RefusedError("unknown_reservation", detail)
    else:
        journal.emit_gathered()
        others = tuple(item for item in journal.account.reservations if item is not held)
        journal.account = replace(journal.account, reservations=others)
        if command.action == "release":
            journal.book("release", movements=(journal.move_money(held.micros),))
        else:
            # The money left the balance when it was held; now it is spent.
            journal.book("debit", amount=held.micros)
    journal.settle("reserved")


def _hold(journal: Journal, command: Reserve, held: Reservation | None) -> None:
    if held is not None:
        detail = f"reservation_id: {command.reservation_id!r} is held already; use a new id"
        raise _RefusedError("reservation_exists", detail)
    if len(journal.account.reservations) >= MAX_RESERVATIONS:
        detail = f"reservations: {MAX_RESERVATIONS} are held, which is the limit; commit or release one first"
        raise _RefusedError("too_many_reservations", detail)
    micros = _affordable(journal, command.amount)
    journal.emit_gathered()
    journal.book("reserve", movements=(journal.move_money(-micros),))
    reservations = (*journal.account.reservations, Reservation(command.reservation_id, micros))
    journal.account = replace(journal.account, reservations=reservations)


def _emit(journal: Journal, _command: EmitUsage) -> None:
    journal.emit_gathered()


def _release(journal: Journal, command: ReleaseLate) -> None:
    refusal = release(journal, command)
    if refusal is not None:
        raise _RefusedError(*refusal)


def _correct(journal: Journal, command: RefundUsage | VoidUsage | RerateUsage) -> None:
    _refuse(correct(journal, command))


def _affordable(journal: Journal, amount: str) -> int:
    micros = _amount(amount)
    if journal.account.payment == "prepaid" and micros > journal.account.balance_micros:
        detail = (
            f"amount: {amount} is more than the balance of {format_micros(journal.account.balance_micros)} "
            f"{journal.tariff.currency}; top it up first"
        )
        raise _RefusedError("insufficient_balance", detail)
    _check_balance(journal.account.balance_micros - micros)
    return micros


def _check_balance(micros: int) -> None:
    if abs(micros) > MAX_TOTAL_MICROS:
        limit = format_micros(MAX_TOTAL_MICROS)
        raise _RefusedError("balance_limit", f"balance: {format_micros(micros)} would pass the limit of {limit}")


def _amount(amount: str, *, least: int = 1) -> int:
    try:
        micros = parse_micros(amount)
    except ValueError as error:
        raise _RefusedError("amount", f"amount: {error}") from None
    if micros > MAX_AMOUNT_MICROS:
        limit = format_micros(MAX_AMOUNT_MICROS)
        raise _RefusedError("amount", f"amount: {amount} is more than {limit}, the most of one command; split it")
    if micros < least:
        raise _RefusedError("amount", f"amount: {amount} is not positive; give the sum, its direction is the command's")
    return micros


_STEPS: dict[type, Callable[[Journal, Any], None]] = {
    ChangeProfile: _change_profile,
    ActivateProduct: _activate,
    CancelProduct: _cancel,
    ConfirmProduct: _confirm,
    Credit: _credit,
    Debit: _debit,
    Reserve: _reserve,
    SetRenewal: _set_renewal,
    SetSpendingLimit: _set_limit,
    RaiseCap: _raise_cap,
    EmitUsage: _emit,
    RefundUsage: _correct,
    VoidUsage: _correct,
    RerateUsage: _correct,
    ReleaseLate: _release,
}
