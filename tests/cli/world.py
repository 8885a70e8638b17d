"""A small world whose books are right: flows and commands in, and everything that a lane would have made of them.

It is a model of the bookkeeping, not of the tariff: which flow is free or blocked is chosen by the caller.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from schemas import topics
from schemas.classification import Classification
from schemas.command import AccountCommand, ActivateProduct, ChangeProfile, Credit, EmitUsage, GrantLease, lane_name
from schemas.dead_letter import DeadLetter, DeadLetterCause
from schemas.decision import Draw, PolicyDecision, PolicyUpdate, Price, Sponsorship
from schemas.flow import FlowRecord
from schemas.lease import LeaseRequest, RequestKind
from schemas.notification import Notification
from schemas.state import AccountState, Bucket, LeaseState, PendingDraw, PendingSponsorship, PendingUsage, Product
from schemas.units import format_micros, parse_micros
from schemas.usage import Movement, RatedUsage
from services.engine.feed import MARKER_KEY
from services.runtime.partitioning import partition_of
from tests.cli.fakes import FakeLedger, FakeLog

Treatment = Literal["charged", "free", "sponsored", "blocked", "not_charged"]
T0 = 1_767_225_600_000
GRANT = 1_000
CAMPAIGN, BUDGET = "cup", 10**12
CATALOGUE_VERSION = "2026-01-01.1"

encode = msgspec.json.encode


@dataclasses.dataclass
class Account:
    """What the model knows of one account."""

    account_id: str
    partition: int
    payment: str = "postpaid"
    buckets: dict[str, int] = dataclasses.field(default_factory=dict)
    balance: int = 0
    sold: int = 0
    products: list[str] = dataclasses.field(default_factory=list)
    pending: list[PendingUsage] = dataclasses.field(default_factory=list)
    recent: list[str] = dataclasses.field(default_factory=list)
    updates: int = 0
    notifications: int = 0
    untold: dict[str, int] = dataclasses.field(default_factory=collections.Counter)


class World:
    """Feed it flows and commands; then `log`, `ledger` and `live` are what services would have left."""

    def __init__(self, partitions: int = 2) -> None:
        self.log = FakeLog(partitions)
        self.partitions = partitions
        self.accounts: dict[str, Account] = {}
        self.leases = [LeaseState(1, CAMPAIGN) for _ in range(partitions)]
        self.afterwards: list[Callable[[], object]] = []
        self._records = 0
        self._commands = 0
        self.publish_catalogue(CATALOGUE_VERSION)

    # --- inputs -------------------------------------------------------------------------------------------------

    def publish_catalogue(self, version: str) -> None:
        body = {"version": version, "currency": "EUR", "digest": "0" * 64}
        entry = {"version": "1.0", "entry_key": MARKER_KEY, "kind": "version", "body": body}
        self.append(topics.CATALOGUE, 0, MARKER_KEY.encode(), entry)

    def subscribe(self, account_id: str, *, payment: str = "postpaid") -> Account:
        """An account with a product of one bucket."""
        account = Account(account_id, partition_of(account_id.encode(), self.partitions), payment)
        self.accounts[account_id] = account
        self.command(account, ChangeProfile, payment=payment)
        offset = self.command(account, ActivateProduct, product_id="p1", offering_id="basic")
        account.buckets["p1/data"] = GRANT
        account.products.append("p1")
        moved = Movement(bucket_id="p1/data", unit="octets", amount=str(GRANT), remaining=str(GRANT))
        self._row(account, offset, "grant", (moved,), offering_id="basic", product_id="p1")
        self._notify(account, "activated")
        self._update(account)
        return account

    def credit(self, account: Account, amount: str) -> None:
        offset = self.command(account, Credit, amount=amount)
        account.balance += parse_micros(amount)
        moved = Movement(
            bucket_id="main",
            unit="micros",
            amount=str(parse_micros(amount)),
            remaining=str(self._told_balance(account)),
        )
        self._row(account, offset, "credit", (moved,), amount=f"-{amount}", currency="EUR")

    def flow(self, account: Account, octets: int, treatment: Treatment = "charged", **fields: Any) -> int:
        """One flow and its decision; the flow's offset."""
        flow = self.flow_record(account, octets, **fields)
        offset = self.append(topics.FLOWS, account.partition, account.account_id.encode(), flow)
        self._decide(account, flow, offset, octets * flow.sampling_rate, treatment)
        return offset

    def flow_record(self, account: Account, octets: int, **fields: Any) -> FlowRecord:
        self._records += 1
        given = {
            "version": "1.0", "record_id": f"r-{self._records}", "subscriber_id": f"{account.account_id}.s",
            "account_id": account.account_id, "exporter_id": "probe", "start_ms": T0, "end_ms": T0 + 1,
            "ip_protocol": 6, "subscriber_ip": "100.64.0.1", "subscriber_port": 1, "remote_ip": "192.0.2.1",
            "remote_port": 443, "octets_up": octets // 3, "octets_down": octets - octets // 3,
        }  # fmt: skip
        return FlowRecord(**{**given, **fields})

    def correct(self, account: Account, offset: int, *, again: int | None = None) -> None:
        """The flow at `offset`, which drew ten octets, was something free: a refund, and its usage once more."""
        self.emit(account)
        account.buckets["p1/data"] += 10
        moved = Movement(bucket_id="p1/data", unit="octets", amount="10", remaining=str(account.buckets["p1/data"]))
        flow = f"{account.partition}-{offset}"
        for ordinal, kind, parts, movements in (
            (1, "refund", {"octets": 10, "charged_octets": 10}, (moved,)),
            (2, "usage", {"octets": again or 10, "free_octets": again or 10}, ()),
        ):
            row = RatedUsage(
                version="1.1", usage_id=f"f-{flow}-{offset}-{ordinal}", kind=kind,  # type: ignore[arg-type]
                account_id=account.account_id, subscriber_id=f"{account.account_id}.s", source_topic=topics.FLOWS,
                partition=account.partition, first_offset=offset, last_offset=offset, ordinal=ordinal, start_ms=T0,
                end_ms=T0 + 1, rated_at_ms=T0, catalogue_version=CATALOGUE_VERSION, record_count=1,
                movements=movements, cause="reclassified", corrects=flow, **parts,  # type: ignore[arg-type]
            )  # fmt: skip
            self.append(topics.USAGE, account.partition, account.account_id.encode(), row)

    def refuse(self, account: Account, cause: DeadLetterCause, record_id: str | None = None) -> int:
        """A flow record that ended as a dead letter."""
        offset = self.append(topics.FLOWS, account.partition, account.account_id.encode(), {"not": "a flow"})
        self.dead_letter(topics.FLOWS, account.partition, offset, cause, record_id)
        return offset

    def command(self, account: Account, kind: type[Any], **fields: Any) -> int:
        """A command that is applied; its offset. Its movements are the caller's business."""
        offset = self.publish_command(account, kind, **fields)
        account.recent = [*account.recent, self.last_command_id][-16:]
        if kind is EmitUsage or kind is ActivateProduct:
            self.emit(account)
        return offset

    def publish_command(self, account: Account, kind: type[Any], **fields: Any) -> int:
        """A command of which nobody has taken note."""
        self._commands += 1
        self.last_command_id = f"c-{self._commands}"
        command: AccountCommand = kind(
            version="1.0", command_id=self.last_command_id, account_id=account.account_id, issued_at_ms=T0, **fields
        )
        return self.append(topics.COMMANDS, account.partition, account.account_id.encode(), command)

    def lease(self, partition: int, octets: int) -> None:
        """A lane asks for a slice of the campaign's budget and is granted it."""
        lease = self.leases[partition]
        number = lease.sequence + 1
        self._request(lease, partition, "ask")
        lease = msgspec.structs.replace(
            lease, granted_octets=lease.granted_octets + octets, sequence=number, asked=number, answered=number
        )
        grant = GrantLease(
            version="1.1", command_id=f"lease:{partition}:{number}", account_id=lane_name(partition), issued_at_ms=T0,
            campaign_id=CAMPAIGN, sequence=number, octets=octets, granted_octets=lease.granted_octets,
        )  # fmt: skip
        self.append(topics.COMMANDS, partition, grant.account_id.encode(), grant)
        self.leases[partition] = lease

    def give_back(self, partition: int, octets: int) -> None:
        """A lane gives octets of the budget back."""
        lease = self.leases[partition]
        lease = msgspec.structs.replace(lease, returned_octets=lease.returned_octets + octets)
        self._request(lease, partition, "return")
        self.leases[partition] = msgspec.structs.replace(lease, sequence=lease.sequence + 1)

    def emit(self, account: Account) -> None:
        """Tell the ledger what is gathered."""
        for usage in account.pending:
            self._tell(account, usage)
        account.pending = []

    # --- what is left at the end --------------------------------------------------------------------------------

    def close(self) -> "World":
        """Write every account's state, as the last transaction would have done; then do what waits in `afterwards`."""
        for account in self.accounts.values():
            key = f"a/{account.account_id}".encode()
            self.log.topics[topics.STATE].append(account.partition, key, msgspec.msgpack.encode(self.state(account)))
        for partition, lease in enumerate(self.leases):
            if lease.sequence:
                key = f"l/{CAMPAIGN}".encode()
                self.log.topics[topics.STATE].append(partition, key, msgspec.msgpack.encode(lease))
        for step in self.afterwards:
            step()
        return self

    def state(self, account: Account) -> AccountState:
        return AccountState(
            1, account.account_id, (f"{account.account_id}.s",),
            payment=account.payment, balance_micros=account.balance,
            products=tuple(Product(name, "basic", T0, None) for name in account.products),
            buckets=tuple(Bucket(name, "p1", "basic", "data", left, GRANT, T0, None)
                          for name, left in account.buckets.items()),
            pending=tuple(account.pending), recent_commands=tuple(account.recent),
            next_update=account.updates, next_notification=account.notifications,
        )  # fmt: skip

    def live(self) -> dict[str, bytes | AccountState]:
        """What the running worker holds."""
        return {name: msgspec.msgpack.encode(self.state(account)) for name, account in self.accounts.items()}

    def ledger(self, *, behind: int = 0) -> FakeLedger:
        """A ledger that has booked all but the last `behind` rows of each partition."""
        ledger = FakeLedger(versions=[CATALOGUE_VERSION])
        totals: collections.Counter[tuple[str, str, str]] = collections.Counter()
        for partition, records in enumerate(self.log.topics[topics.USAGE].records):
            booked = records[: len(records) - behind]
            ledger.booked[partition] = self.log.topics[topics.USAGE].firsts[partition] + len(booked)
            for record in booked:
                row = msgspec.json.decode(record.value or b"", type=RatedUsage)
                if any("." in moved.amount for moved in row.movements):
                    continue  # a ledger refuses such a row
                ledger.held.append((
                    row.usage_id, row.account_id, row.kind, row.charged_octets, row.free_octets, row.sponsored_octets,
                    row.blocked_octets, row.not_charged_octets, parse_micros(row.amount), row.currency,
                ))  # fmt: skip
                for moved in row.movements:
                    totals[row.account_id, moved.bucket_id, moved.unit] += int(moved.amount)
        ledger.paid = self._booked_sponsorships(behind)
        ledger.leases = [
            (CAMPAIGN, lane, lease.sequence, lease.granted_octets, lease.returned_octets, lease.used_octets)
            for lane, lease in enumerate(self.leases) if lease.sequence
        ]  # fmt: skip
        granted, returned = (sum(lease[at] for lease in ledger.leases) for at in (3, 4))
        ledger.limits = [(CAMPAIGN, BUDGET, granted, returned)] if ledger.leases else []
        ledger.totals = [(*key, amount) for key, amount in totals.items()]
        ledger.served = list(ledger.totals)
        return ledger

    def _booked_sponsorships(self, behind: int) -> list[tuple[str, int, int, int]]:
        paid: dict[str, list[int]] = {}
        for records in self.log.topics[topics.USAGE].records:
            for record in records[: len(records) - behind]:
                for item in msgspec.json.decode(record.value or b"").get("sponsorships", ()):
                    sums = paid.setdefault(item["campaign_id"], [0, 0, 0])
                    sums[0] += item["octets"]
                    sums[1] += item.get("budget_octets", 0)
                    sums[2] += item.get("connections", 0)
        return [(name, octets, drawn, connections) for name, (octets, drawn, connections) in paid.items()]

    # --- reaching in --------------------------------------------------------------------------------------------

    def append(self, topic: str, partition: int, key: bytes | None, message: object) -> int:
        value = message if isinstance(message, bytes) else encode(message)
        return self.log.topics[topic].append(partition, key, value)

    def dead_letter(
        self, topic: str, partition: int, offset: int, cause: DeadLetterCause, record_id: str | None = None
    ) -> None:
        letter = DeadLetter(
            version="1.0", dead_letter_id=f"{topic}-{partition}-{offset}", source_topic=topic, partition=partition,
            offset=offset, cause=cause, detail="", at_ms=T0, key=None, value=None, value_octets=0, record_id=record_id,
        )  # fmt: skip
        self.append(topics.DEAD_LETTERS, partition, b"k", letter)

    def find(self, topic: str, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> tuple[int, int]:
        """(partition, index) of the last record of `topic` whose fields satisfy `wanted`."""
        *_, found = self._matches(topic, wanted)
        return found

    def change(self, topic: str, wanted: Callable[[dict[str, Any]], bool] = lambda _: True, **fields: Any) -> None:
        """Rewrite fields of the last record of `topic` that satisfies `wanted`."""
        partition, index = self.find(topic, wanted)
        records = self.log.topics[topic].records[partition]
        value = msgspec.json.decode(records[index].value or b"")
        records[index] = records[index]._replace(value=encode({**value, **fields}))

    def repeat(self, topic: str, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> None:
        """Append the last such record once more."""
        partition, index = self.find(topic, wanted)
        record = self.log.topics[topic].records[partition][index]
        self.log.topics[topic].append(partition, record.key, record.value)

    def remove(self, topic: str, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> None:
        """Lose the last such record; its offset stays empty."""
        partition, index = self.find(topic, wanted)
        del self.log.topics[topic].records[partition][index]

    def change_state(self, account: Account, **fields: Any) -> None:
        """Append another state of the account."""
        state = msgspec.structs.replace(self.state(account), **fields)
        key = f"a/{account.account_id}".encode()
        self.log.topics[topics.STATE].append(account.partition, key, msgspec.msgpack.encode(state))

    def _matches(self, topic: str, wanted: Callable[[dict[str, Any]], bool]) -> Iterator[tuple[int, int]]:
        for partition, records in enumerate(self.log.topics[topic].records):
            for index, record in enumerate(records):
                if wanted(msgspec.json.decode(record.value or b"{}")):
                    yield partition, index

    # --- the lane -----------------------------------------------------------------------------------------------

    def _decide(self, account: Account, flow: FlowRecord, offset: int, octets: int, treatment: Treatment) -> None:
        drawn = min(octets, account.buckets.get("p1/data", 0)) if treatment == "charged" else 0
        sold = octets - drawn if treatment == "charged" else 0
        draws: tuple[Draw, ...] = ()
        if drawn:
            account.buckets["p1/data"] -= drawn
            draws = (Draw(bucket_id="p1/data", octets=drawn, remaining_octets=account.buckets["p1/data"]),)
        price = None
        if sold:
            price = Price(
                price_id="oob", currency="EUR", amount=format_micros(sold),
                octets_from=account.sold, octets_to=account.sold + sold,
            )  # fmt: skip
            account.sold += sold
            if account.payment == "prepaid":
                account.balance -= sold
        sponsored = octets if treatment == "sponsored" else 0
        if sponsored:
            lease = self.leases[account.partition]
            if lease.granted_octets - lease.used_octets - lease.returned_octets < sponsored:
                self.lease(account.partition, sponsored)
                lease = self.leases[account.partition]
            used = lease.used_octets + sponsored
            self.leases[account.partition] = msgspec.structs.replace(lease, used_octets=used)
        decision = PolicyDecision(
            version="1.1", decision_id=f"{account.partition}-{offset}", record_id=flow.record_id,
            subscriber_id=flow.subscriber_id, account_id=account.account_id, start_ms=T0, end_ms=T0 + 1, octets=octets,
            classification=Classification(category="social", application="app", service=None, confidence=90,
                                          evidence=()),
            rule_id="rule", precedence=1, rating_group=1, treatment=treatment, gate_status="open",
            decided_at_ms=T0 + 5, catalogue_version=CATALOGUE_VERSION, draws=draws, price=price,
            sponsorships=(Sponsorship(campaign_id=CAMPAIGN, octets=sponsored, budget_octets=sponsored, connections=1),)
            if sponsored else (),
            **{f"{treatment}_octets": octets},
        )  # fmt: skip
        self.append(topics.DECISIONS, account.partition, account.account_id.encode(), decision)
        money = sold if account.payment == "prepaid" else 0
        parts = [octets if treatment == part else 0
                 for part in ("charged", "free", "sponsored", "blocked", "not_charged")]  # fmt: skip
        account.pending.append(
            PendingUsage(
                flow.subscriber_id, "rule", "app", None, "social", treatment, 1, None, "oob" if sold else None,
                CATALOGUE_VERSION, offset, offset, T0, T0 + 1, 1, *parts, sold,
                tuple(PendingDraw(draw.bucket_id, draw.octets) for draw in draws), money,
                sponsorships=(PendingSponsorship(CAMPAIGN, sponsored, sponsored, 1),) if sponsored else (),
            )
        )  # fmt: skip

    def _tell(self, account: Account, usage: PendingUsage) -> None:
        movements = []
        for draw in usage.draws:
            left = account.buckets[draw.bucket_id] + self._gathered(account, draw.bucket_id, after=usage)
            movements.append(
                Movement(bucket_id=draw.bucket_id, unit="octets", amount=str(-draw.octets), remaining=str(left))
            )
        if usage.money:
            left = account.balance + sum(later.money for later in self._after(account, usage))
            movements.append(Movement(bucket_id="main", unit="micros", amount=str(-usage.money), remaining=str(left)))
        row = RatedUsage(
            version="1.0", usage_id=f"f-{account.partition}-{usage.first_offset}-{usage.last_offset}-0", kind="usage",
            account_id=account.account_id, subscriber_id=usage.subscriber_id, source_topic=topics.FLOWS,
            partition=account.partition, first_offset=usage.first_offset, last_offset=usage.last_offset, ordinal=0,
            start_ms=T0, end_ms=T0 + 1, rated_at_ms=T0, catalogue_version=CATALOGUE_VERSION, category="social",
            application="app", treatment=usage.treatment,  # type: ignore[arg-type]
            record_count=usage.record_count,
            octets=usage.charged_octets + usage.free_octets + usage.sponsored_octets + usage.blocked_octets
            + usage.not_charged_octets,
            charged_octets=usage.charged_octets, free_octets=usage.free_octets, sponsored_octets=usage.sponsored_octets,
            blocked_octets=usage.blocked_octets, not_charged_octets=usage.not_charged_octets,
            currency="EUR" if usage.micros else None, amount=format_micros(usage.micros), price_id=usage.price_id,
            movements=tuple(movements),
            sponsorships=tuple(Sponsorship(campaign_id=paid.campaign_id, octets=paid.octets,
                                           budget_octets=paid.budget_octets, connections=paid.connections)
                               for paid in usage.sponsorships),
        )  # fmt: skip
        self.append(topics.USAGE, account.partition, account.account_id.encode(), row)

    def _after(self, account: Account, usage: PendingUsage) -> list[PendingUsage]:
        at = next(index for index, item in enumerate(account.pending) if item is usage)
        return account.pending[at + 1 :]

    def _gathered(self, account: Account, bucket_id: str, *, after: PendingUsage) -> int:
        return sum(draw.octets for later in self._after(account, after)
                   for draw in later.draws if draw.bucket_id == bucket_id)  # fmt: skip

    def _told_balance(self, account: Account) -> int:
        return account.balance + sum(usage.money for usage in account.pending)

    def _row(self, account: Account, offset: int, kind: Any, movements: tuple[Movement, ...], **fields: Any) -> None:
        row = RatedUsage(
            version="1.0", usage_id=f"c-{account.partition}-{offset}-{offset}-0", kind=kind,
            account_id=account.account_id, subscriber_id=account.account_id, source_topic=topics.COMMANDS,
            partition=account.partition, first_offset=offset, last_offset=offset, ordinal=0, start_ms=T0, end_ms=T0,
            rated_at_ms=T0, catalogue_version=CATALOGUE_VERSION, movements=movements, cause=self.last_command_id,
            **fields,
        )  # fmt: skip
        self.append(topics.USAGE, account.partition, account.account_id.encode(), row)

    def _request(self, lease: LeaseState, partition: int, kind: RequestKind) -> None:
        number = lease.sequence + 1
        request = LeaseRequest(
            version="1.0", request_id=f"{CAMPAIGN}:{partition}:{number}", campaign_id=CAMPAIGN, partition=partition,
            sequence=number, kind=kind, granted_octets=lease.granted_octets, used_octets=lease.used_octets,
            returned_octets=lease.returned_octets, at_ms=T0,
        )  # fmt: skip
        self.append(topics.LEASE_REQUESTS, partition, CAMPAIGN.encode(), request)

    def _notify(self, account: Account, kind: Any) -> None:
        notification = Notification(
            version="1.0", notification_id=f"{account.account_id}:{account.notifications}",
            account_id=account.account_id, subscriber_id=account.account_id, kind=kind, at_ms=T0,
        )  # fmt: skip
        account.notifications += 1
        self.append(topics.NOTIFICATIONS, account.partition, account.account_id.encode(), notification)

    def _update(self, account: Account) -> None:
        update = PolicyUpdate(
            version="1.0", update_id=f"{account.account_id}:{account.updates}", account_id=account.account_id,
            subscriber_ids=(f"{account.account_id}.s",), action="install", rule_id="rule", at_ms=T0, cause="activated",
            catalogue_version=CATALOGUE_VERSION,
        )  # fmt: skip
        account.updates += 1
        self.append(topics.ENFORCEMENT, account.partition, account.account_id.encode(), update)
