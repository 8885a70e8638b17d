"""Reconciles the changelog of one lane: it is what a rebuilt worker would know."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from schemas.state import STATE_VERSION, AccountState
from schemas.topics import STATE
from services.cli.reconcile import Findings
from services.cli.reconcile_commands import CommandAudit
from services.cli.reconcile_view import MAIN_BALANCE, PART_FIELDS, LaneSums, LaneView
from services.runtime.log import LogRecord
from services.runtime.partitioning import partition_of

ACCOUNT_PREFIX = b"a/"

_decode_account: Callable[[bytes], AccountState] = msgspec.msgpack.Decoder(AccountState).decode
_encode_account = msgspec.msgpack.Encoder().encode


class StateAudit:
    """The states of one lane's accounts. Order of use: `take`, then `close`."""

    def __init__(self, view: LaneView, findings: Findings, sums: LaneSums, commands: CommandAudit) -> None:
        self.known: set[str] = set()
        """Accounts that have a state."""
        self.removed: set[str] = set()
        """Accounts that had a tombstone, now or earlier."""
        self._view, self._findings, self._sums, self._commands = view, findings, sums, commands
        self._newest: dict[bytes, bytes | None] = {}

    def take(self, records: Sequence[LogRecord]) -> None:
        """The changelog: the newest value of each key counts, None removes the key."""
        newest = self._newest
        for record in records:
            if record.key is not None and record.key.startswith(ACCOUNT_PREFIX):
                newest[record.key] = record.value
                if record.value is None:
                    self.removed.add(_account_of(record.key))

    def close(
        self,
        live: Mapping[str, bytes | AccountState] | None = None,
        tell: Callable[[AccountState], None] | None = None,
    ) -> None:
        """The changelog is read. `live`: what the running workers hold; `tell`: is shown every account."""
        if live is not None:
            self._compare_live(live)
        while self._newest:
            key, raw = self._newest.popitem()
            if raw is None:
                self._commands.removed(_account_of(key))
            elif (account := self._account(key, raw)) is not None and tell is not None:
                tell(account)

    def _compare_live(self, live: Mapping[str, bytes | AccountState]) -> None:
        name = "changelog_is_live_state"
        replayed = {_account_of(key): raw for key, raw in self._newest.items() if raw is not None}
        mine = {
            account for account in live if partition_of(account.encode(), self._view.partitions) == self._view.partition
        }
        self._findings.looked(name, len(mine | replayed.keys()))
        for account in sorted(mine | replayed.keys()):
            there = live.get(account)
            if (there if isinstance(there, bytes | None) else _encode_account(there)) != replayed.get(account):
                self._findings.violated(name, f"account {account!r} differs between the worker and the changelog")

    def _account(self, key: bytes, raw: bytes) -> AccountState | None:
        try:
            account = _decode_account(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._findings.violated("outputs_readable", f"{STATE}: state of {key!r}: {error}")
            return None
        if account.version != STATE_VERSION or key != ACCOUNT_PREFIX + account.account_id.encode():
            self._findings.violated("one_writer", f"{STATE}: the value of {key!r} is of account {account.account_id!r}")
        self.known.add(account.account_id)
        self._commands.remembered(account)
        self._sums.told.right[account.account_id] = account.next_notification
        self._sums.updated.right[account.account_id] = account.next_update
        self._remaining(account)
        self._pending(account)
        return account

    def _remaining(self, account: AccountState) -> None:
        """What the buckets hold now."""
        remaining = self._sums.buckets.right
        self._findings.looked("no_bucket_negative", len(account.buckets) + 1)
        for bucket in account.buckets:
            remaining[account.account_id, bucket.bucket_id, bucket.unit] += bucket.remaining
            if bucket.remaining < 0:
                report_negative(self._findings, account.account_id, bucket.bucket_id, bucket.remaining)
        for purse in account.purses:
            remaining[account.account_id, purse.bucket_id, "micros"] += purse.remaining_micros
            if purse.remaining_micros < 0:
                report_negative(self._findings, account.account_id, purse.bucket_id, purse.remaining_micros)
        remaining[account.account_id, MAIN_BALANCE, "micros"] += account.balance_micros
        if account.payment == "prepaid" and account.balance_micros < 0:
            report_negative(self._findings, account.account_id, MAIN_BALANCE, account.balance_micros)

    def _pending(self, account: AccountState) -> None:
        """Usage that is gathered and not yet told: it counts as told, and its draws as not yet made."""
        name = account.account_id
        for usage in account.pending:
            self._sums.parts["records"].right[name] += usage.record_count
            for part, field in PART_FIELDS:
                self._sums.parts[part].right[name] += getattr(usage, field)
            if usage.micros:
                self._sums.money.right[name, account.currency] += usage.micros
            self._sums.buckets.right[name, MAIN_BALANCE, "micros"] += usage.money
            for paid in usage.sponsorships:
                self._sums.sponsored.right[name, paid.campaign_id] += paid.octets
                self._sums.sponsored_connections.right[name, paid.campaign_id] += paid.connections
            for payment in usage.payments:
                self._sums.buckets.right[name, payment.bucket_id, "micros"] += payment.micros
            for draw in usage.draws:
                self._sums.draws.right[name, draw.bucket_id] += draw.amount
                self._sums.buckets.right[name, draw.bucket_id, draw.unit] += draw.amount


def report_negative(findings: Findings, account_id: str, bucket_id: str, remaining: int) -> None:
    """A bucket, or a prepaid balance, holds less than nothing."""
    findings.violated("no_bucket_negative", f"bucket {bucket_id!r} of account {account_id!r} holds {remaining}")


def _account_of(key: bytes) -> str:
    return key[len(ACCOUNT_PREFIX) :].decode(errors="replace")
