"""What commands and timers do to an account, written down as it happens: state, rows, notifications, updates.

One Journal is one cause (a command, or a due time). It emits gathered usage before it moves anything, so the ledger
sees every movement in the order in which the state made it.
"""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from schemas.catalogue_allowances import Rollover
from schemas.decision import PolicyUpdate
from schemas.notification import Notification
from schemas.state import AccountState, Bucket, Product
from schemas.units import Unit, format_micros
from schemas.usage import USAGE_VERSION, Movement, RatedUsage
from services.engine.cycles import part_of
from services.engine.identity import short
from services.engine.installed import settle
from services.engine.late import lapse
from services.engine.notices import notify
from services.engine.outcome import Outcome, Position
from services.engine.overshoot import first_look
from services.engine.periods import end_of_days
from services.engine.tariff import CompiledAllowance, CompiledPurse, Tariff
from services.engine.usage import MAIN_BALANCE, gathered_rows, movement, without_gathered


class Source:
    """Where the rows of a journal come from: their ids, and the cause written into each."""

    __slots__ = ("cause", "first_offset", "first_ordinal", "last_offset", "partition", "prefix", "topic")

    def __init__(
        self, topic: str, partition: int, number: int, prefix: str, cause: str, *, first_ordinal: int = 0
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.first_offset = self.last_offset = number
        self.prefix = prefix
        self.cause = cause
        self.first_ordinal = first_ordinal

    @property
    def is_timer(self) -> bool:
        """Whether they come from a due time."""
        return self.prefix.startswith("t-")

    @classmethod
    def command(cls, at: Position, command_id: str) -> "Source":
        """Rows of a command: `c-<partition>-<offset>-<offset>-<ordinal>`."""
        prefix = f"c-{at.partition}-{at.offset}-{at.offset}"
        return cls(at.topic, at.partition, at.offset, prefix, command_id)

    @classmethod
    def flow(cls, at: Position, cause: str) -> "Source":
        """Rows that a flow brings about beside its own, which has the ordinal 0: `f-<p>-<offset>-<offset>-<n>`."""
        return cls(
            at.topic, at.partition, at.offset, f"f-{at.partition}-{at.offset}-{at.offset}", cause, first_ordinal=1
        )

    @classmethod
    def timer(cls, account_id: str, partition: int, due_ms: int) -> "Source":
        """Rows of a due time: `t-<partition>-<account id>-<due time>-<ordinal>`; it comes once in an account's life."""
        name = short(account_id)
        return cls(f"timer:{name}", partition, due_ms, f"t-{partition}-{name}-{due_ms}", f"timer:{due_ms}")


class Journal:
    """The account as it changes, and all that has to be told about it, in order."""

    def __init__(self, account: AccountState, tariff: Tariff, source: Source, *, at_ms: int, now_ms: int) -> None:
        self.account = account
        self.tariff = tariff
        self.at_ms = at_ms
        self._source = source
        self._now_ms = now_ms
        self._ordinal = source.first_ordinal
        self._usage: list[RatedUsage] = []
        self._notifications: list[Notification] = []
        self._updates: list[PolicyUpdate] = []

    @property
    def by_itself(self) -> bool:
        """Whether the passing of time brings this about, and no record."""
        return self._source.is_timer

    @property
    def position(self) -> Position:
        """Where the cause stood."""
        return Position(self._source.topic, self._source.partition, self._source.first_offset)

    @property
    def now_ms(self) -> int:
        """The wall clock of the transaction."""
        return self._now_ms

    def outcome(self) -> Outcome:
        """What has been written so far."""
        return Outcome(self.account, None, tuple(self._updates), tuple(self._notifications), tuple(self._usage))

    def emit_gathered(self) -> None:
        """Emit the usage gathered so far: nothing may overtake it."""
        self._usage += gathered_rows(self.account, partition=self._source.partition, now_ms=self._now_ms)
        if self.account.pending:
            self.account = without_gathered(self.account)

    def settle(self, cause: str) -> None:
        """Bring standing, due time and installed rules in order."""
        self.account, updates = settle(self.account, self.tariff, at_ms=self.at_ms, cause=cause)
        self._updates += updates

    def take(self, account: AccountState, notifications: tuple[Notification, ...] = ()) -> None:
        """Take a state, and what was told on the way to it."""
        self.account = account
        self._notifications += notifications

    def add(self, row: RatedUsage) -> None:
        """Write a row that was made elsewhere, under an id of this journal."""
        source = self._source
        self._usage.append(
            replace(
                row,
                usage_id=f"{source.prefix}-{self._ordinal}",
                source_topic=source.topic,
                partition=source.partition,
                first_offset=source.first_offset,
                last_offset=source.last_offset,
                ordinal=self._ordinal,
                rated_at_ms=self._now_ms,
                cause=source.cause,
            )
        )
        self._ordinal += 1

    def update(self, account: AccountState, updates: tuple[PolicyUpdate, ...]) -> None:
        """Take a state and the updates that led to it."""
        self.account = account
        self._updates += updates

    def tell(self, kind: str, detail: str, *, product: Product | None = None, **more: Any) -> None:
        """Write a notification to the account's first member, who stands for it."""
        self.account, notification = notify(
            self.account,
            kind,
            detail,
            at_ms=self.at_ms,
            product_id=product.product_id if product else None,
            offering_id=product.offering_id if product else None,
            **more,
        )
        self._notifications.append(notification)

    def grant(self, product: Product, allowances: list[CompiledAllowance], *, days: tuple[int, int]) -> None:
        """Fill a new bucket for each of `allowances`; `days` of the cycle that is served, and of all of it."""
        movements = []
        for compiled in allowances:
            bucket = first_look(self._bucket(product, compiled, days), compiled, at_ms=self.at_ms)
            self.account = replace(self.account, buckets=(*self.account.buckets, bucket))
            movements.append(_granted(bucket, self.left(bucket.bucket_id, bucket.unit)))
        if movements:
            self.book("grant", product=product, movements=tuple(movements))

    def expire(self, buckets: list[Bucket]) -> None:
        """Take what is left out of `buckets` and remove them; what late flows may still draw from is kept apart."""
        gone = {id(bucket) for bucket in buckets}
        self.account = replace(
            self.account,
            buckets=tuple(bucket for bucket in self.account.buckets if id(bucket) not in gone),
            lapsed=(*self.account.lapsed, *(lapse(bucket, self.at_ms) for bucket in buckets)),
        )
        for index, bucket in enumerate(buckets):
            if bucket.remaining:
                # Several buckets of one allowance can go at once; each movement says what was left after it.
                left = self.left(bucket.bucket_id, bucket.unit, beside=buckets[index + 1 :])
                taken = movement(bucket.bucket_id, bucket.unit, -bucket.remaining, left)
                self.book("expiry", product=Product(bucket.product_id, bucket.offering_id, 0, None), movements=(taken,))

    def roll_over(self, bucket: Bucket, rollover: Rollover, until_ms: int) -> None:
        """Keep of a bucket that ends what its allowance lets stay; the rest expires."""
        account = self.account
        kept_before = sum(
            other.remaining
            for other in account.buckets
            if other.rolled and (other.bucket_id, other.unit) == (bucket.bucket_id, bucket.unit)
        )
        keep = bucket.remaining * rollover.percent // 100
        if rollover.most is not None:
            keep = max(0, min(keep, rollover.most - kept_before))
        # The two parts are together what was granted, as late flows of the time before will find them.
        rest = replace(bucket, remaining=bucket.remaining - keep, granted=bucket.granted - keep)
        stays = replace(
            bucket, remaining=keep, granted=keep, valid_until_ms=until_ms, notified_percent=100,
            notice_at=0, rolled=True, quota_octets=0,
        )  # fmt: skip
        if compiled := self.tariff.allowance(bucket.offering_id, bucket.allowance_id):
            stays = first_look(stays, compiled, at_ms=self.at_ms)
        others = tuple(other for other in account.buckets if other is not bucket)
        self.account = replace(account, buckets=(*others, *((stays,) if keep else ()), rest))
        self.expire([rest])

    def put(self, product: Product) -> None:
        """Replace a product that is held by what it has become."""
        products = tuple(product if held.product_id == product.product_id else held for held in self.account.products)
        self.account = replace(self.account, products=products)

    def move_money(self, micros: int) -> Movement:
        """Change the main balance; the movement goes into the row that explains it."""
        balance = self.account.balance_micros + micros
        self.account = replace(self.account, balance_micros=balance)
        return movement(MAIN_BALANCE, "micros", micros, balance)

    def book(
        self, kind: str, *, product: Product | None = None, amount: int = 0, price_id: str | None = None,
        movements: tuple[Movement, ...] = (), span: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        """Write one row of the ledger; `span` is the time that it is about, where that is not the moment."""
        account, source = self.account, self._source
        self._usage.append(
            RatedUsage(
                version=USAGE_VERSION,
                usage_id=f"{source.prefix}-{self._ordinal}",
                kind=kind,  # type: ignore[arg-type]
                account_id=account.account_id,
                subscriber_id=account.account_id,
                source_topic=source.topic,
                partition=source.partition,
                first_offset=source.first_offset,
                last_offset=source.last_offset,
                ordinal=self._ordinal,
                start_ms=span[0] if span else self.at_ms,
                end_ms=span[1] if span else self.at_ms,
                rated_at_ms=self._now_ms,
                catalogue_version=self.tariff.version,
                product_id=product.product_id if product else None,
                offering_id=product.offering_id if product else None,
                currency=account.currency if amount or _has_money(movements) else None,
                amount=format_micros(amount),
                price_id=price_id,
                movements=movements,
                cause=source.cause,
            )
        )
        self._ordinal += 1

    def left(self, bucket_id: str, unit: Unit, *, beside: Sequence[Bucket] = ()) -> int:
        """What is left under a bucket id, of one unit."""
        held = (*self.account.buckets, *beside)
        return sum(bucket.remaining for bucket in held if bucket.bucket_id == bucket_id and bucket.unit == unit)

    def granted_until_ms(self, product: Product, compiled: CompiledAllowance | CompiledPurse) -> int | None:
        """When what a product grants now ends: with it, with the cycle, or after its own days; None for never."""
        allowance, account = compiled.allowance, self.account
        ends = [product.end_ms]
        if allowance.validity == "cycle":
            ends.append(account.cycle_end_ms)
        elif allowance.valid_days is not None:
            anchor = self.tariff.offerings[compiled.offering_id].offering.anchor
            ends.append(end_of_days(self.at_ms, allowance.valid_days, time_zone=account.time_zone, anchor=anchor))
        return min((end for end in ends if end is not None), default=None)

    def _bucket(self, product: Product, compiled: CompiledAllowance, days: tuple[int, int]) -> Bucket:
        allowance, account = compiled.allowance, self.account
        amount = allowance.amount
        if allowance.proration == "daily":
            amount = amount * days[0] // days[1]
        elif allowance.validity == "cycle":
            amount = part_of(amount, account)
        return Bucket(
            f"{product.product_id}/{allowance.id}",
            product.product_id,
            product.offering_id,
            allowance.id,
            amount,
            amount,
            self.at_ms,
            self.granted_until_ms(product, compiled),
            0,
            compiled.notice_at(amount, 0),
            timed=allowance.unit == "ms",
        )


def _granted(bucket: Bucket, remaining: int) -> Movement:
    put_in = movement(bucket.bucket_id, bucket.unit, bucket.granted, remaining)
    return replace(put_in, valid_from_ms=bucket.valid_from_ms, valid_until_ms=bucket.valid_until_ms)


def _has_money(movements: tuple[Movement, ...]) -> bool:
    return any(moved.unit == "micros" for moved in movements)
