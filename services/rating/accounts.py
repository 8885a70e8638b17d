"""The front desk: checks account commands, stores what they order, and sends them to the lanes through the outbox.

All commands of one call are taken together or not at all. What only the lane knows, such as the balance, it checks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from schemas.catalogue import ProductOffering
from schemas.command import (
    AccountCommand,
    ActivateProduct,
    CancelProduct,
    ChangeProfile,
    ConfirmProduct,
    Credit,
    Debit,
    RefundUsage,
    ReleaseLate,
    RerateUsage,
    Reserve,
    SetRenewal,
    VoidUsage,
)
from schemas.topics import COMMANDS
from schemas.units import parse_micros
from services.engine.commands import MAX_START_AHEAD_DAYS
from services.engine.periods import DAY_MS, Anchor, cycle_at, days_between, end_of_days, is_time_zone
from services.rating.clock import Clock, wall_clock_ms
from services.rating.database import Connection, Engine, again_after_collision, writing
from services.rating.repositories import accounts as files
from services.rating.repositories import catalogue as shelf
from services.rating.repositories import outbox
from services.rating.repositories.accounts import PROFILE, Row
from services.rating.repositories.outbox import OutboxRecord

MAX_COMMANDS = 20_000
"""Most commands of one call: they share one transaction."""

MAX_MEMBERS = 64
MAX_PRODUCT_ID = 63
"""As the lanes have them: `<product id>/<allowance id>` must fit into 128 characters."""

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(AccountCommand).decode


class CommandRefused(Exception):  # noqa: N818 - a state of affairs
    """A command breaks a rule; nothing of the call was stored. The message names field, value, rule, next step."""

    def __init__(self, command: AccountCommand, field: str, detail: str) -> None:
        super().__init__(f"command {command.command_id!r}: {field}: {detail}")
        self.command_id = command.command_id
        self.field = field


def submit(engine: Engine, commands: Sequence[AccountCommand], *, clock: Clock = wall_clock_ms) -> int:
    """Take commands, in this order; returns how many are new. A command id that is stored already does nothing.

    The account of the first ChangeProfile is created. Raises CommandRefused for the first command that breaks a rule,
    ValueError for more than MAX_COMMANDS, DatabaseDown.
    """
    if len(commands) > MAX_COMMANDS:
        raise ValueError(f"{len(commands)} commands are too many for one call; send at most {MAX_COMMANDS} at a time")
    checked = [_checked(command) for command in commands]
    taken = again_after_collision(lambda: _take(engine, checked, clock()))
    if taken:
        outbox.ring(engine)
    return taken


def _take(engine: Engine, commands: Sequence[AccountCommand], at_ms: int) -> int:
    with writing(engine) as connection:
        fresh = _unknown(connection, commands)
        if not fresh:
            return 0
        desk = _Desk(connection, fresh, at_ms=at_ms)
        for command in fresh:
            desk.take(command)
        desk.save()
        records = [OutboxRecord(COMMANDS, command.account_id.encode(), _encode(command)) for command in fresh]
        outbox.put(connection, records, at_ms=at_ms)
    return len(fresh)


def _checked(command: AccountCommand) -> AccountCommand:
    """The command as the lane will read it: bounds and patterns of the contract are checked here, not there."""
    for name in command.__struct_fields__:
        if _has_nul(getattr(command, name)):
            raise CommandRefused(command, name, "holds a NUL character, which no database keeps; send printable text")
    try:
        return _decode(_encode(command))  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise CommandRefused(command, "contract", f"{error}; see schemas/command.py") from None


def _has_nul(value: object) -> bool:
    return "\x00" in value if isinstance(value, str) else isinstance(value, tuple) and any(map(_has_nul, value))


def _unknown(connection: Connection, commands: Sequence[AccountCommand]) -> list[AccountCommand]:
    stored = files.commands_by_id(connection, {command.command_id for command in commands})
    fresh = []
    for command in commands:
        body = _encode(command).decode()
        if command.command_id not in stored:
            stored[command.command_id] = body
            fresh.append(command)
        elif stored[command.command_id] != body:
            raise CommandRefused(command, "command_id", "was used for another command; give this one an id of its own")
    return fresh


class _Desk:
    """The accounts that a set of commands is about, as the commands change them one by one."""

    def __init__(self, connection: Connection, commands: Sequence[AccountCommand], *, at_ms: int) -> None:
        ids = {command.account_id for command in commands}
        self.at_ms = at_ms
        self._connection = connection
        self._accounts = files.lock(connection, ids, at_ms=at_ms)
        self._members = {account_id: list(found) for account_id, found in files.members(connection, ids).items()}
        self._products = files.products_of(connection, ids)
        self._owners = files.owners(connection, _subscribers(commands))
        self._version = shelf.current(connection)
        self._offerings = _offerings(connection, self._version.version) if self._version else {}
        self._changed_profiles: dict[str, None] = {}
        self._changed_products: list[Row] = []
        self._commands: list[Row] = []

    def take(self, command: AccountCommand) -> None:
        """Check one command and note what it changes. Raises CommandRefused."""
        account = self._accounts[command.account_id]
        if account["created"] and not isinstance(command, ChangeProfile):
            raise CommandRefused(
                command, "account_id", f"{command.account_id!r} does not exist; create it with change_profile first"
            )
        if step := _STEPS.get(type(command)):
            step(self, command)
        self._commands.append(
            {
                "command_id": command.command_id,
                "account_id": command.account_id,
                "type": command.__struct_config__.tag,
                "body": _encode(command).decode(),
                "issued_at_ms": command.issued_at_ms,
            }
        )

    def save(self) -> None:
        """Store everything that the commands changed."""
        changed = list(self._changed_profiles)
        files.save(
            self._connection,
            profiles=[_columns(self._accounts[account_id]) for account_id in changed],
            member_lists={account_id: self._members[account_id] for account_id in changed},
            product_rows=self._changed_products,
            command_rows=self._commands,
        )

    def change_profile(self, command: ChangeProfile) -> None:
        """Create or change the account."""
        self._check_profile(command)
        account = self._accounts[command.account_id]
        account.update({name: value for name in PROFILE if (value := getattr(command, name)) is not None})
        account.update(created=False, changed_at_ms=self.at_ms)
        wanted = command.subscriber_ids or self._members.get(command.account_id) or (command.account_id,)
        self._change_members(command, list(dict.fromkeys(wanted)))
        self._changed_profiles[command.account_id] = None

    def _check_profile(self, command: ChangeProfile) -> None:
        if command.payment not in {None, "prepaid", "postpaid"}:
            raise CommandRefused(command, "payment", f"{command.payment!r} is unknown; use prepaid or postpaid")
        if command.time_zone is not None and not is_time_zone(command.time_zone):
            raise CommandRefused(
                command, "time_zone", f"{command.time_zone!r} is no IANA zone; use one such as Europe/Paris"
            )
        if command.consumption_level not in {None, "low", "middle", "high", "potential_high"}:
            raise CommandRefused(
                command, "consumption_level", f"{command.consumption_level!r}: use low, middle, high or potential_high"
            )
        if command.subscriber_ids is not None and not 1 <= len(command.subscriber_ids) <= MAX_MEMBERS:
            raise CommandRefused(
                command, "subscriber_ids", f"{len(command.subscriber_ids)} given; an account has 1 to {MAX_MEMBERS}"
            )
        if self._version and command.currency not in {None, self._version.currency}:
            raise CommandRefused(
                command, "currency", f"{command.currency!r} is not the catalogue's {self._version.currency!r}; use that"
            )

    def _change_members(self, command: ChangeProfile, wanted: list[str]) -> None:
        for subscriber_id in wanted:
            owner = self._owners.setdefault(subscriber_id, command.account_id)
            if owner != command.account_id:
                raise CommandRefused(
                    command,
                    "subscriber_ids",
                    f"{subscriber_id!r} belongs to account {owner!r}; take it out there first",
                )
        for subscriber_id in set(self._members.get(command.account_id, ())) - set(wanted):
            self._owners.pop(subscriber_id, None)
        self._members[command.account_id] = wanted

    def activate(self, command: ActivateProduct) -> None:
        """Order a product."""
        offering = self._on_sale(command)
        mine = self._products.setdefault(command.account_id, [])
        if len(command.product_id) > MAX_PRODUCT_ID or "/" in command.product_id:
            raise CommandRefused(
                command, "product_id", f"{command.product_id!r}: use at most {MAX_PRODUCT_ID} characters and no slash"
            )
        if any(product["product_id"] == command.product_id for product in mine):
            raise CommandRefused(command, "product_id", f"{command.product_id!r} was used before; use a new id")
        start_ms = self._start_ms(command)
        replaced = self._replaced(command)
        self._check_company(command, offering, start_ms)
        if start_ms > self.at_ms + MAX_START_AHEAD_DAYS * DAY_MS:
            detail = f"{start_ms} is more than {MAX_START_AHEAD_DAYS} days ahead; give ms since 1970 UTC"
            raise CommandRefused(command, "start_ms", detail)
        row = {
            "account_id": command.account_id,
            "product_id": command.product_id,
            "offering_id": offering.id,
            "catalogue_version": self._version.version if self._version else "",
            "start_ms": start_ms,
            "end_ms": self._end_ms(command.account_id, offering, start_ms, renews=command.renews is not False),
            "ordered_by": command.command_id,
            "cancelled_by": None,
        }
        if replaced is not None:
            self._end(replaced, start_ms, command)
        mine.append(row)
        self._changed_products.append(row)
        if replaced is not None:
            self._end_dependents(command, replaced["offering_id"], start_ms)

    def _start_ms(self, command: ActivateProduct) -> int:
        if command.takes_effect == "now":
            return command.start_ms if command.start_ms is not None else command.issued_at_ms
        if command.start_ms is not None:
            detail = f"{command.start_ms} is given, and takes_effect is cycle_end; give one of them"
            raise CommandRefused(command, "start_ms", detail)
        return self._cycle_end_ms(command)

    def _cycle_end_ms(self, command: ActivateProduct | CancelProduct) -> int:
        account = self._accounts[command.account_id]
        zone, day = account["time_zone"] or "UTC", account["cycle_day"] or 1
        return cycle_at(command.issued_at_ms, time_zone=zone, cycle_day=day)[1]

    def _replaced(self, command: ActivateProduct) -> Row | None:
        if command.replaces is None:
            return None
        mine = self._products[command.account_id]
        product = next((item for item in mine if item["product_id"] == command.replaces), None)
        if product is None or (product["end_ms"] is not None and product["end_ms"] <= command.issued_at_ms):
            state = "was never ordered" if product is None else "has ended"
            raise CommandRefused(command, "replaces", f"{command.replaces!r} {state}; name a product that is in use")
        return product

    def _end(self, product: Row, end_ms: int, command: AccountCommand) -> None:
        product.update(end_ms=end_ms, cancelled_by=command.command_id)
        self._changed_products.append(product)

    def _end_dependents(self, command: AccountCommand, gone: str, at_ms: int) -> None:
        """What requires an offering that ends, and has nothing else to stand on, ends with it."""
        running = [item for item in self._products[command.account_id] if _is_running(item, at_ms)]
        held = {item["offering_id"] for item in running}
        for product in running:
            offering = self._offerings.get(product["offering_id"])
            if offering and gone in offering.requires and not held & set(offering.requires):
                self._end(product, at_ms, command)
                self._end_dependents(command, offering.id, at_ms)

    def _on_sale(self, command: ActivateProduct) -> ProductOffering:
        offering = self._offerings.get(command.offering_id)
        if offering is None:
            version = f"catalogue {self._version.version!r}" if self._version else "the catalogue, which is empty"
            raise CommandRefused(
                command, "offering_id", f"{command.offering_id!r} is not in {version}; publish it or mend the id"
            )
        if offering.lifecycle_status != "active":
            raise CommandRefused(
                command,
                "offering_id",
                f"{offering.id!r} is {offering.lifecycle_status}; only an active one can be ordered",
            )
        at_ms, until_ms = command.issued_at_ms, offering.valid_until_ms
        if at_ms < offering.valid_from_ms or (until_ms is not None and at_ms >= until_ms):
            raise CommandRefused(
                command, "offering_id", f"{offering.id!r} is on sale from {offering.valid_from_ms} until {until_ms} ms"
            )
        return offering

    def _check_company(self, command: ActivateProduct, wanted: ProductOffering, start_ms: int) -> None:
        """What has ended when it begins, or ends for it, is not in its way and is nothing to stand on."""
        begins_ms = max(start_ms, command.issued_at_ms)
        running = [
            product["offering_id"]
            for product in self._products[command.account_id]
            if _is_running(product, begins_ms) and product["product_id"] != command.replaces
        ]
        held = set(running)
        if wanted.max_held is not None and running.count(wanted.id) >= wanted.max_held:
            raise CommandRefused(
                command, "offering_id", f"{wanted.id!r} can be held {wanted.max_held} times, and is; cancel one first"
            )
        if wanted.requires and not held & set(wanted.requires):
            raise CommandRefused(
                command, "offering_id", f"{wanted.id!r} requires one of {', '.join(wanted.requires)}; order that first"
            )
        for other in sorted(held):
            offering = self._offerings.get(other)
            if other in wanted.excludes or (offering and wanted.id in offering.excludes):
                raise CommandRefused(
                    command, "offering_id", f"{wanted.id!r} and {other!r} exclude each other; cancel that first"
                )
            if offering and wanted.kind == offering.kind == "base_plan":
                raise CommandRefused(
                    command, "offering_id", f"base plan {other!r} is held; cancel it before {wanted.id!r}"
                )

    def _end_ms(self, account_id: str, offering: ProductOffering, start_ms: int, *, renews: bool) -> int | None:
        """When an ordered product ends by itself: with its trial, until that is confirmed, else with its last term."""
        tried = any(product["offering_id"] == offering.id for product in self._products[account_id])
        if offering.trial_days is not None and not tried:
            return self._after(account_id, start_ms, offering.trial_days)
        if offering.term_days is None or (offering.renewal == "automatic" and renews):
            return None
        return self._after(account_id, start_ms, offering.term_days, offering.anchor)

    def _after(self, account_id: str, start_ms: int, days: int, anchor: Anchor = "activation") -> int:
        zone = self._accounts[account_id]["time_zone"] or "UTC"
        return end_of_days(start_ms, days, time_zone=zone, anchor=anchor)

    def confirm(self, command: ConfirmProduct) -> None:
        """Keep a product beyond its trial; whether it is on one now, the lane knows."""
        mine = self._products.get(command.account_id, ())
        product = next((item for item in mine if item["product_id"] == command.product_id), None)
        if product is None:
            raise CommandRefused(command, "product_id", f"{command.product_id!r} was never ordered; mend the id")
        offering = self._offerings.get(product["offering_id"])
        if offering is None or offering.trial_days is None:
            raise CommandRefused(
                command, "product_id", f"{command.product_id!r} has no trial; there is nothing to confirm"
            )
        trial_end_ms = self._after(command.account_id, product["start_ms"], offering.trial_days)
        if product["end_ms"] == trial_end_ms > command.issued_at_ms:
            term = None if offering.renewal == "automatic" else offering.term_days
            end_ms = None if term is None else self._after(command.account_id, trial_end_ms, term, offering.anchor)
            product.update(end_ms=end_ms)
            self._changed_products.append(product)

    def set_renewal(self, command: SetRenewal) -> None:
        """Note whether a product ends with its present term; the lane knows whether it is still held."""
        mine = self._products.get(command.account_id, ())
        product = next((item for item in mine if item["product_id"] == command.product_id), None)
        if product is None:
            raise CommandRefused(command, "product_id", f"{command.product_id!r} was never ordered; mend the id")
        offering = self._offerings.get(product["offering_id"])
        if offering is None or offering.renewal == "none" or offering.term_days is None:
            raise CommandRefused(command, "product_id", f"{command.product_id!r} is never renewed; order it again")
        if product["end_ms"] is not None and product["end_ms"] <= command.issued_at_ms:
            raise CommandRefused(command, "product_id", f"{command.product_id!r} has ended; order it again instead")
        first_ms = self._first_term_ms(command.account_id, product, offering)
        if product["end_ms"] == first_ms:
            return  # A trial that is not confirmed ends with it, whatever comes after.
        product["end_ms"] = None if command.renews else self._term_end_ms(command, first_ms, offering)
        self._changed_products.append(product)

    def _first_term_ms(self, account_id: str, product: Row, offering: ProductOffering) -> int:
        """When the first term began: after the trial, which the first product of an offering has."""
        start_ms = int(product["start_ms"])
        mine = [item for item in self._products[account_id] if item["offering_id"] == offering.id]
        if offering.trial_days is None or any(item["start_ms"] < start_ms for item in mine):
            return start_ms
        return self._after(account_id, start_ms, offering.trial_days)

    def _term_end_ms(self, command: SetRenewal, first_ms: int, offering: ProductOffering) -> int:
        """The end of the term that the product is in when the command is issued."""
        zone = self._accounts[command.account_id]["time_zone"] or "UTC"
        days, anchor = offering.term_days or 1, offering.anchor
        terms = days_between(first_ms, command.issued_at_ms, time_zone=zone) // days
        end_ms = self._after(command.account_id, first_ms, terms * days, anchor)
        if end_ms > command.issued_at_ms:
            return end_ms
        return self._after(command.account_id, first_ms, (terms + 1) * days, anchor)

    def cancel(self, command: CancelProduct) -> None:
        """End a product."""
        mine = self._products.get(command.account_id, ())
        product = next((item for item in mine if item["product_id"] == command.product_id), None)
        if product is None:
            raise CommandRefused(command, "product_id", f"{command.product_id!r} was never ordered; mend the id")
        if product["end_ms"] is not None and product["end_ms"] <= command.issued_at_ms:
            raise CommandRefused(command, "product_id", f"{command.product_id!r} has ended; there is nothing to cancel")
        has_begun = product["start_ms"] <= command.issued_at_ms
        if not has_begun:
            self._call_off(command.account_id, product)
        later = command.takes_effect == "cycle_end" and has_begun
        end_ms = self._cycle_end_ms(command) if later else command.issued_at_ms
        if product["end_ms"] is not None:
            end_ms = min(end_ms, product["end_ms"])
        self._end(product, end_ms, command)
        self._end_dependents(command, product["offering_id"], end_ms)

    def _call_off(self, account_id: str, product: Row) -> None:
        """A product that was to be replaced by one that never begins goes on, until it ends by itself."""
        for other in self._products[account_id]:
            offering = self._offerings.get(other["offering_id"])
            if other["cancelled_by"] == product["ordered_by"] and offering is not None:
                end_ms = self._end_ms(account_id, offering, other["start_ms"], renews=True)
                other.update(end_ms=end_ms, cancelled_by=None)
                self._changed_products.append(other)

    def refuse_correction(self, command: RefundUsage | VoidUsage | RerateUsage | ReleaseLate) -> None:
        """A correction is made from the ledger, which knows what was paid and what was corrected before."""
        raise CommandRefused(command, "type", "corrections are ordered by `smartpipe correct`, which reads the ledger")

    def move_money(self, command: Credit | Debit | Reserve) -> None:
        """Check an amount of money; the balance is the lane's."""
        if isinstance(command, Reserve) and command.action != "hold":
            return
        try:
            micros = parse_micros(command.amount)
        except ValueError as error:
            raise CommandRefused(command, "amount", str(error)) from None
        if micros <= 0:
            raise CommandRefused(
                command, "amount", f"{command.amount!r} is not positive; give the sum, its direction is the command's"
            )


_STEPS: dict[type, Callable[[_Desk, Any], None]] = {
    RefundUsage: _Desk.refuse_correction,
    VoidUsage: _Desk.refuse_correction,
    RerateUsage: _Desk.refuse_correction,
    ReleaseLate: _Desk.refuse_correction,
    ChangeProfile: _Desk.change_profile,
    ActivateProduct: _Desk.activate,
    CancelProduct: _Desk.cancel,
    ConfirmProduct: _Desk.confirm,
    SetRenewal: _Desk.set_renewal,
    Credit: _Desk.move_money,
    Debit: _Desk.move_money,
    Reserve: _Desk.move_money,
}


def _is_running(product: Row, at_ms: int) -> bool:
    return product["end_ms"] is None or product["end_ms"] > at_ms


def _subscribers(commands: Sequence[AccountCommand]) -> set[str]:
    profiles = [command for command in commands if isinstance(command, ChangeProfile)]
    return {
        subscriber_id for command in profiles for subscriber_id in (*(command.subscriber_ids or ()), command.account_id)
    }


def _offerings(connection: Connection, version: str) -> dict[str, ProductOffering]:
    found = shelf.objects(connection, version, "offering")
    return {item.object_id: ProductOffering.model_validate(item.body) for item in found}


def _columns(account: Row) -> Row:
    return {name: account[name] for name in ("account_id", *PROFILE, "created_at_ms", "changed_at_ms")}
