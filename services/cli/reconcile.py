"""What the reconciliation claims, and how it reports: one named check per claim.

A check counts what it looked at and what broke it, keeps the first few offenders by name, and says in one sentence
what a violation means. The looking is done by `reconcile_lane` (one lane of the log) and `reconcile_ledger`.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple

OFFENDERS_KEPT = 5

CheckStatus = Literal["ok", "violated", "skipped"]


class Claim(NamedTuple):
    """What a check claims when all is well, and what it means when it is not so."""

    claim: str
    meaning: str


CHECKS: Mapping[str, Claim] = {
    "outputs_readable": Claim(
        "every output keeps its contract",
        "An output breaks its own contract: some consumer cannot read it."),
    "flows_accounted": Claim(
        "every flow record has one decision or one dead letter",
        "A flow record was lost, was both decided and refused, or has an outcome and is not there."),
    "decision_ids_once": Claim(
        "no flow record is decided twice",
        "A flow record was decided twice: its usage is charged twice."),
    "record_ids_once": Claim(
        "no record id is decided twice",
        "Two decisions carry one record id: a repeated record was charged again."),
    "duplicates_decided": Claim(
        "every refused duplicate was decided elsewhere",
        "A record was refused as a duplicate although its id was never decided: its usage is lost."),
    "dead_letter_ids_once": Claim(
        "no record is refused twice",
        "One record has two dead letters: whoever mends dead letters would replay it twice."),
    "decisions_in_order": Claim(
        "each lane decides in the order of its records",
        "A lane decided out of order: buckets were drawn by the wrong flow, or two workers owned the lane."),
    "one_writer": Claim(
        "each account has one lane, and every output its key",
        "An output carries the wrong key, partition or lane: an account had two writers."),
    "commands_accounted": Claim(
        "every command is applied or refused",
        "A command left no trace: something was ordered and not carried out."),
    "commands_applied_once": Claim(
        "no command moves a balance twice",
        "A command moved balances twice, or moved them although it was refused."),
    "decision_parts": Claim(
        "a decision's parts add up to its octets",
        "Volume appeared or vanished inside a decision."),
    "charges_explained": Claim(
        "charged octets = draws from buckets + octets sold",
        "A decision charges octets that neither a bucket nor a price accounts for."),
    "sponsors_named": Claim(
        "sponsored octets = what the named campaigns paid for",
        "A decision has octets sponsored by nobody, or a campaign paid for more than it says."),
    "volume_by_subscriber": Claim(
        "volume in = charged + free + sponsored + blocked + not charged",
        "The octets decided for a subscriber are not the octets that its records brought."),
    "usage_by_account": Claim(
        "rated usage, told and gathered, = what was decided",
        "Between decision and rated usage octets or records were lost or doubled."),
    "money_by_account": Claim(
        "money of rated usage = money of the decisions",
        "Between decision and rated usage money was lost or doubled."),
    "sponsored_by_campaign": Claim(
        "what campaigns paid for in rated usage = in the decisions",
        "Between decision and rated usage a campaign's octets were lost or doubled: its partner gets a wrong bill."),
    "draws_by_bucket": Claim(
        "draws of rated usage = draws of the decisions",
        "What decisions drew from a bucket is not what rated usage took out of it."),
    "corrections_even": Claim(
        "a correction charges again what it took back",
        "A correction took back other octets than it charged again: usage was lost or doubled."),
    "corrections_once": Claim(
        "nothing is corrected twice",
        "A row or flow that was charged again was corrected once more: somebody was refunded or charged twice."),
    "usage_ids_once": Claim(
        "no row of rated usage is told twice",
        "A row of rated usage was told twice: the ledger has to refuse it."),
    "movements_add_up": Claim(
        "each movement leaves what the movements so far add up to",
        "A movement's remainder does not follow from the movements before it: one is missing or doubled."),
    "buckets_in_state": Claim(
        "a bucket's movements lead to what the state holds",
        "Buckets or main balance of a lane's state are not what the ledger was told."),
    "no_bucket_negative": Claim(
        "no bucket, and no prepaid balance, is negative",
        "More was taken out of a bucket than it held."),
    "state_of_every_account": Claim(
        "every account with outcomes has a state",
        "The changelog is incomplete: a rebuilt worker would not know an account that was served."),
    "changelog_is_live_state": Claim(
        "the replayed changelog is the live state",
        "A worker rebuilt from the changelog would decide otherwise than the one that runs."),
    "notification_ids_once": Claim(
        "no notification is told twice",
        "A person is told the same thing twice."),
    "notifications_complete": Claim(
        "every numbered notification is there",
        "A notification is missing, or one too many is there."),
    "update_ids_once": Claim(
        "no enforcement update is told twice",
        "A gateway is told the same change twice."),
    "updates_complete": Claim(
        "every numbered enforcement update is there",
        "An enforcement update is missing, or one too many is there: gateways enforce something else than decided."),
    "catalogue_known": Claim(
        "each decision names one known catalogue version",
        "A decision names no catalogue version, or one that was never published: it cannot be explained."),
    "ledger_holds_usage_once": Claim(
        "the ledger holds each row of rated usage once",
        "A row is missing from the ledger, is in it twice, or was never told."),
    "ledger_by_account": Claim(
        "ledger = rated usage, per account",
        "The ledger's octets or money of an account are not those of its rated usage."),
    "ledger_by_bucket": Claim(
        "ledger = bucket movements, per bucket",
        "The ledger's movements of a bucket are not those of the rated usage."),
    "ledger_by_campaign": Claim(
        "ledger = what campaigns paid for in rated usage",
        "The ledger's octets of a campaign are not those of the rated usage."),
    "ledger_balances": Claim(
        "the balances that the ledger serves = its movements",
        "A balance shown to people is not the sum of the movements behind it."),
    "leases_drawn": Claim(
        "what flows drew from a budget = what the lane's lease says",
        "A lane's slice of a budget was drawn twice, or not at all: the sponsor pays for the wrong volume."),
    "lease_requests_once": Claim(
        "each lane's requests for slices follow each other without gap",
        "A request was lost or said twice: an ask without an answer, or a slice that nobody counts."),
    "budgets_kept": Claim(
        "sponsored by the ledger <= granted and not returned <= budget",
        "A sponsor pays for more than its budget."),
    "leases_granted": Claim(
        "granted - returned - used = held by the lanes",
        "The owner of a budget and its lanes do not agree on what is out: octets are lost, or can be spent twice."),
    "nothing_waiting": Claim(
        "nothing is waiting",
        "Work is still waiting: records undecided or usage unbooked. Wait, then verify again."),
}  # fmt: skip
"""Every check, in the order of the report."""


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """The outcome of one check."""

    name: str
    status: CheckStatus
    checked: int
    """Things looked at: records, accounts, buckets."""
    violations: int
    offenders: tuple[str, ...]
    """The first few, each one sentence with its place and its numbers."""
    claim: str
    meaning: str
    skipped: str | None = None
    """Why the check, or a part of it, could not be made; null if it was made whole."""


@dataclasses.dataclass(frozen=True)
class Report:
    """The outcome of a reconciliation."""

    checks: tuple[CheckResult, ...]
    counts: Mapping[str, int]
    """What was read: flows, decisions, dead_letters, commands, usage, notifications, updates, accounts ..."""
    waiting: Mapping[str, int]
    """What is still on its way: flows and commands not yet processed, usage not yet booked, who has not stood still."""
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True when no check was violated; skipped checks do not count against it."""
        return not self.violated()

    def violated(self) -> tuple[CheckResult, ...]:
        """The checks that found something."""
        return tuple(check for check in self.checks if check.status == "violated")

    def check(self, name: str) -> CheckResult:
        """The check of this name. Raises KeyError."""
        return next((check for check in self.checks if check.name == name), None) or _no_check(name)


class Findings:
    """Gathers what the checks see; one object for a whole reconciliation."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()
        self.remarks: list[str] = []
        self._checked: Counter[str] = Counter()
        self._violations: Counter[str] = Counter()
        self._offenders: dict[str, list[str]] = {}
        self._skipped: dict[str, list[str]] = {}

    def looked(self, name: str, count: int = 1) -> None:
        """The check looked at so many things."""
        self._checked[name] += count

    def violated(self, name: str, offender: str, count: int = 1) -> None:
        """The check found `count` violations, one of which is described."""
        self._violations[name] += count
        kept = self._offenders.setdefault(name, [])
        if len(kept) < OFFENDERS_KEPT:
            kept.append(offender)

    def found(self, name: str) -> bool:
        """Whether the check has found a violation so far."""
        return self._violations[name] > 0

    def skipped(self, name: str, reason: str) -> None:
        """The check could not be made here."""
        reasons = self._skipped.setdefault(name, [])
        if reason not in reasons:
            reasons.append(reason)

    def report(self, *, strict: bool = False) -> Report:
        """Everything found. `strict` turns what is still waiting into a violation."""
        waiting = {name: count for name, count in self.waiting.items() if count}
        if strict or not waiting:
            self.looked("nothing_waiting", len(self.waiting))
            for name, count in waiting.items():
                self.violated("nothing_waiting", f"{name}: {count} not yet done", count)
        else:
            self.skipped("nothing_waiting", "asked for by --strict only")
        return Report(
            checks=tuple(self._result(name) for name in CHECKS),
            counts=dict(self.counts),
            waiting=waiting,
            remarks=tuple(self.remarks),
        )

    def _result(self, name: str) -> CheckResult:
        violations, reasons = self._violations[name], self._skipped.get(name)
        status: CheckStatus = "violated" if violations else "ok"
        if not violations and reasons and not self._checked[name]:
            status = "skipped"
        return CheckResult(
            name=name,
            status=status,
            checked=self._checked[name],
            violations=violations,
            offenders=tuple(self._offenders.get(name, ())),
            claim=CHECKS[name].claim,
            meaning=CHECKS[name].meaning,
            skipped="; ".join(reasons) if reasons else None,
        )


def _no_check(name: str) -> CheckResult:
    raise KeyError(f"{name!r} is no check; known are {', '.join(CHECKS)}")
