"""`smartpipe explain`: why something was charged as it was, from the ledger or under catalogue files.

Of a recorded flow, the records before it are played first, through the same classification, rules and charging that
a lane uses, so that buckets, totals and rules are as they would have been when it came.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from schemas.classification import Classification
from schemas.command import AccountCommand
from schemas.flow import FlowRecord, account_of
from schemas.state import AccountState
from schemas.topics import FLOWS
from services.cli.explain_view import print_explanation
from services.cli.progress import say
from services.cli.recorded import UNREADABLE, Recording
from services.cli.simulate import NAME_CACHE_ENTRIES, told_of_shipped
from services.engine.classify import Classifier, SubscriberMemory
from services.engine.classify_explain import explain as explain_verdict
from services.engine.outcome import Outcome, Position, Refusal
from services.engine.reasons import met
from services.engine.simulate import Run, SimulationError, Subscription
from services.engine.tariff import Tariff, compile_tariff
from services.rating.catalogue_files import load_catalogue
from services.rating.database import open_migrated, reading
from services.rating.documents import Document
from services.rating.explain import explain
from services.rating.explain_facts import facts_of, row_called, rows_around
from services.rating.explain_flow import Decided, explain_flow, published_of
from services.rating.published import PublishedVersions
from services.rating.tmf_usage import usage_sentence
from services.runtime.settings import Settings

_DECISION = re.compile(r"([0-9]{1,9})-([0-9]{1,18})")


class Question(NamedTuple):
    """Which flow to explain, and under what."""

    flows: str
    record_id: str | None
    """None for the last one of the file."""
    accounts: Path | None
    subscription: Subscription | None
    catalogue: Path | None


class Answer(NamedTuple):
    """The explanation, and how the traffic was recognised (a label and a sentence, several times)."""

    document: Document
    recognised: tuple[tuple[str, str], ...]
    unreadable: int


def explain_booked(name: str, settings: Settings) -> Answer:
    """The explanation of a row of the ledger, by its id or that of a decision in it; the same as the API's.

    Raises SimulationError where there is none, or several; SchemaOutdated, DatabaseDown.
    """
    if not settings.database_url and not Path(settings.data_dir).exists():
        raise SimulationError(
            f"there is no ledger in {settings.data_dir}; give --data-dir FOLDER or --database-url URL, or "
            "explain a flow by --flows FILE"
        )
    engine = open_migrated(settings)
    with reading(engine) as connection:
        row = row_called(connection, name)
        if row is None:
            rows = rows_around(connection, *_decision_of(name))
            if not rows:
                raise SimulationError(f"the ledger holds no usage {name!r}; {_WHERE}")
            if len(rows) > 1:
                listed = "\n".join(
                    f"  {item['usage_id']}  {item['account_id']}  {usage_sentence(item)}" for item in rows
                )
                raise SimulationError(f"decision {name} lies in the range of several rows; name one of them:\n{listed}")
            [row] = rows
        return Answer(explain(facts_of(connection, PublishedVersions(), row)), (), 0)


def explain_recorded(question: Question, settings: Settings) -> Answer:
    """The explanation of a recorded flow under catalogue files.

    Raises SimulationError, CatalogueFilesError, OSError.
    """
    if question.accounts is None and question.subscription is None:
        raise SimulationError(
            "nothing says what the account holds; give --accounts FILE with recorded account commands, or "
            "--subscribe OFFERING"
        )
    catalogue = load_catalogue(question.catalogue)
    classifier = Classifier(catalogue.applications, cache_entries=NAME_CACHE_ENTRIES)
    tariff = compile_tariff(catalogue)
    subscription = question.subscription.fitted(tariff) if question.subscription else None
    search = _Search(Run(tariff, subscription=subscription), classifier, question.record_id)
    recording = Recording(search, seen_records=settings.dedup_records_per_lane, say=say)
    with told_of_shipped(question.catalogue, "the tariff", "--catalogue"):
        recording.play_files(question.flows, question.accounts)
    found = search.result(recording.refused)
    verdict = explain_verdict(
        found.flow,
        found.seen,
        classifier=classifier,
        applications={item.id: item for item in catalogue.applications},
        catalogue_version=catalogue.version,
    )
    document = explain_flow(found.decided(tariff), published_of(catalogue))
    if search.refusals:
        document["refusedCommands"] = search.refusals
    return Answer(document, tuple(verdict.told()), recording.refused[UNREADABLE])


def print_answer(answer: Answer, *, as_json: bool) -> int:
    """Print the explanation for people, or as one JSON document; the exit code, 1 where a line could not be read."""
    if as_json:
        print(json.dumps(answer.document, indent=2, ensure_ascii=False))
    else:
        print_explanation(answer.document, answer.recognised)
    return 1 if answer.unreadable else 0


class _Found(NamedTuple):
    """The flow that is asked for, as it came and went."""

    flow: FlowRecord
    seen: Classification
    account: AccountState
    """Before it."""
    outcome: Outcome
    arrived_ms: int
    leases: Mapping[str, int] | None

    def decided(self, tariff: Tariff) -> Decided:
        """The same with what it met, worked out again."""
        at, now_ms = Position(FLOWS, 0, 0), self.arrived_ms
        before = met(self.flow, self.seen, self.account, tariff, at=at, now_ms=now_ms)
        return Decided(self.flow, before, self.outcome, now_ms, tariff, self.leases)


class _Search:
    """Plays a recording to one tariff and keeps the flow that is asked for, with what it met."""

    def __init__(self, run: Run, classifier: Classifier, record_id: str | None) -> None:
        self.refusals: list[str] = []
        """Commands for the account of the flow that were refused, and why."""
        self._run = run
        self._classifier = classifier
        self._wanted = record_id
        self._found: _Found | None = None
        self._stranger: str | None = None
        self._refused: dict[str, list[str]] = {}
        self.next_lane()

    def next_lane(self) -> None:
        self._memory = SubscriberMemory()

    def command(self, command: AccountCommand, *, arrived_ms: int) -> None:
        refusal = self._run.command(command, now_ms=arrived_ms)
        if isinstance(refusal, Refusal):
            told = f"{type(command).__name__} {command.command_id}: {refusal.detail}"
            self._refused.setdefault(command.account_id, []).append(told)

    def flow(self, flow: FlowRecord, *, arrived_ms: int) -> None:
        seen = self._classifier.classify(flow, self._memory)
        account = self._run.account_for(flow, now_ms=arrived_ms)
        wanted = self._wanted in (None, flow.record_id)
        if account is None:
            self._stranger = account_of(flow) if wanted else self._stranger
            return
        leases = self._run.budgets_left(arrived_ms)
        outcome = self._run.flow(flow, seen, now_ms=arrived_ms)
        if not wanted or outcome is None:
            return
        self._found = _Found(flow, seen, account, outcome, arrived_ms, leases)

    def result(self, refused: dict[str, int]) -> "_Found":
        """What was asked for. Raises SimulationError where the recording does not have it."""
        if self._found is None:
            which = "flow record" if self._wanted is None else f"flow record {self._wanted!r}"
            if self._stranger is not None:
                raise SimulationError(
                    f"nothing is known of account {self._stranger!r}; give --accounts FILE with its commands, or "
                    "--subscribe OFFERING"
                )
            told = ", ".join(f"{count} {cause}" for cause, count in sorted(refused.items())) or "none"
            raise SimulationError(f"there is no {which} in the recording (left out: {told})")
        self.refusals = self._refused.get(account_of(self._found.flow), [])
        return self._found


def _decision_of(name: str) -> tuple[int, int]:
    match = _DECISION.fullmatch(name)
    if match is None:
        raise SimulationError(f"the ledger holds no usage {name!r}; {_WHERE}")
    return int(match[1]), int(match[2])


_WHERE = (
    "give the id of a row, such as f-3-120-188-0, as GET /ott-policy/v1/accounts/<account id>/usage lists them, or of "
    "a decision, such as 3-121; usage still gathered is not booked yet"
)
