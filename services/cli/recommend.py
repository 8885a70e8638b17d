"""`smartpipe recommend`: at most three packages for each account, each with its reason, from recorded traffic."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console

from schemas.catalogue import Catalogue
from schemas.command import AccountCommand
from schemas.flow import FlowRecord, account_of
from services.cli.progress import Progress, say
from services.cli.recorded import UNREADABLE, Recording, read_catalogue_topic, recorded_log
from services.cli.simulate import NAME_CACHE_ENTRIES, told_of_shipped
from services.cli.tables import new_table, plain_console
from services.engine.classify import Classifier, SubscriberMemory
from services.engine.recommend import Arrived, History, Recommendation, recommend
from services.engine.simulate import SimulationError, Subscription
from services.engine.tariff import compile_tariff
from services.rating.catalogue_files import load_catalogue
from services.runtime.settings import Settings

MAX_KEPT_FLOWS = 200_000
"""Flow records that are kept to be run again, about a kilobyte each. With more, accounts have to be named."""


class Request(NamedTuple):
    """For whom to recommend, and from what."""

    catalogue: Path | None
    flows: str | None
    """A file of flow records; None plays the topics of the log."""
    accounts: Path | None
    subscription: Subscription | None
    account_ids: frozenset[str]
    """Empty for all accounts."""
    steer_own: bool


class Answer(NamedTuple):
    """The recommendations, and which records had to be left out, by cause."""

    found: list[Recommendation]
    refused: dict[str, int]


class Gathered:
    """What a recording holds of the wanted accounts; all of it is classified, since flows explain each other."""

    def __init__(self, classifier: Classifier, wanted: frozenset[str]) -> None:
        self.commands: dict[str, list[tuple[AccountCommand, int]]] = {}
        self.flows: dict[str, list[Arrived]] = {}
        self._classifier = classifier
        self._wanted = wanted
        self._kept = 0
        self.next_lane()

    def next_lane(self) -> None:
        """Forget what was remembered of subscribers' last minutes."""
        self._memory = SubscriberMemory()

    def command(self, command: AccountCommand, *, arrived_ms: int) -> None:
        """Keep a command of a wanted account."""
        if self._wants(command.account_id):
            self.commands.setdefault(command.account_id, []).append((command, arrived_ms))

    def flow(self, flow: FlowRecord, *, arrived_ms: int) -> None:
        """Keep a flow of a wanted account. Raises SimulationError when they are too many."""
        account_id = account_of(flow)
        if not self._wants(account_id):
            return
        if self._kept == MAX_KEPT_FLOWS:
            raise SimulationError(
                f"the recording has more than {MAX_KEPT_FLOWS} flow records to keep; name accounts with --account ID"
            )
        self._kept += 1
        seen = self._classifier.classify(flow, self._memory)
        self.flows.setdefault(account_id, []).append(Arrived(flow, seen, arrived_ms))

    def histories(self) -> Iterator[History]:
        """The accounts that have flows, by id."""
        for account_id, flows in sorted(self.flows.items()):
            yield History(account_id, self.commands.get(account_id, ()), flows)

    def _wants(self, account_id: str) -> bool:
        return not self._wanted or account_id in self._wanted


def recommend_from_files(request: Request, settings: Settings) -> Answer:
    """From files. Raises SimulationError, CatalogueFilesError, OSError."""
    if request.accounts is None and request.subscription is None:
        raise SimulationError(
            "nothing says what the accounts hold; give --accounts FILE with recorded account commands, or "
            "--subscribe OFFERING to put every subscriber on one plan"
        )
    catalogue = load_catalogue(request.catalogue)
    gathered = _gathered(catalogue, request)
    recording = _recording(gathered, settings)
    recording.play_files(request.flows or "-", request.accounts)
    with told_of_shipped(request.catalogue, "the tariff", "--catalogue"):
        return _answer(gathered, recording, catalogue, request)


async def recommend_from_topics(request: Request, settings: Settings) -> Answer:
    """From the log, by its own catalogue unless one is given. Raises SimulationError, RecordingError, LogError."""
    if request.accounts is not None:
        raise SimulationError("--accounts goes with --flows FILE; --topic takes the commands from the log")
    async with recorded_log(settings) as log:
        catalogue = load_catalogue(request.catalogue) if request.catalogue else await read_catalogue_topic(log)
        gathered = _gathered(catalogue, request)
        recording = _recording(gathered, settings)
        await recording.play_topics(log, max_record_octets=settings.max_record_octets)
    return _answer(gathered, recording, catalogue, request)


def print_recommendations(answer: Answer, *, as_json: bool) -> int:
    """Print the recommendations as a table, or as one JSON document; money as decimal strings.

    The exit code: 1 where a line could not be read.
    """
    if as_json:
        body = {"recommendations": answer.found, "refused_records": answer.refused}
        print(msgspec.json.format(msgspec.json.encode(body), indent=2).decode())
    else:
        _print_table(answer.found)
    return 1 if UNREADABLE in answer.refused else 0


def _print_table(found: list[Recommendation], console: Console | None = None) -> None:
    console = console or plain_console()
    if not found:
        console.print("No package and no other plan would have saved anybody anything.")
        return
    table = new_table("Recommended packages and plans", "account", "offering", "reason", "saving", "because", words=3)
    for item in found:
        reason = item.reason.replace("_", " ")
        table.add_row(item.account_id, item.name, reason, f"{item.saving} {item.currency}", item.text)
    table.columns[-1].justify = "left"
    console.print(table)


def _gathered(catalogue: Catalogue, request: Request) -> Gathered:
    return Gathered(Classifier(catalogue.applications, cache_entries=NAME_CACHE_ENTRIES), request.account_ids)


def _recording(gathered: Gathered, settings: Settings) -> Recording:
    return Recording(gathered, seen_records=settings.dedup_records_per_lane, say=say)


def _answer(gathered: Gathered, recording: Recording, catalogue: Catalogue, request: Request) -> Answer:
    """Raises SimulationError where there is nothing to recommend from."""
    missing = sorted(request.account_ids - gathered.flows.keys())
    if missing:
        say(f"no flow record of account {', '.join(map(repr, missing))} is in the recording")
    if not gathered.flows:
        told = ", ".join(f"{count} {cause}" for cause, count in recording.refused.items()) or "none"
        whose = " of the named accounts" if request.account_ids else ""
        raise SimulationError(f"no flow record{whose} to recommend from (left out: {told}); give recorded traffic")
    return Answer(list(_recommended(gathered, catalogue, request)), dict(sorted(recording.refused.items())))


def _recommended(gathered: Gathered, catalogue: Catalogue, request: Request) -> Iterator[Recommendation]:
    tariff = compile_tariff(catalogue)
    applications = {item.id: item for item in catalogue.applications}
    progress, subscription = Progress(), request.subscription.fitted(tariff) if request.subscription else None
    for done, history in enumerate(gathered.histories()):
        progress.at(f"{done} of {len(gathered.flows)} accounts are compared with every offering")
        yield from recommend(history, tariff, applications, subscription=subscription, steer_own=request.steer_own)
