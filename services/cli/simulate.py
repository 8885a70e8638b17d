"""`smartpipe simulate`: a new tariff beside the one of today, over recorded traffic."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from schemas.catalogue import Catalogue
from schemas.units import format_micros, parse_micros
from services.cli.progress import say
from services.cli.recorded import UNREADABLE, Recording, read_catalogue_topic, recorded_log
from services.cli.simulate_view import print_simulation
from services.engine.classify import Classifier
from services.engine.periods import is_time_zone
from services.engine.simulate import (
    GroupBy,
    Side,
    Simulation,
    SimulationError,
    Subscription,
    SubscriptionRefused,
)
from services.engine.simulate_report import SimulationReport, report_of
from services.engine.tariff import compile_tariff
from services.rating.catalogue_files import load_catalogue
from services.runtime.settings import Settings

NAME_CACHE_ENTRIES = 65_536


class Question(NamedTuple):
    """What to simulate."""

    catalogue: Path
    against: Path | None
    flows: str | None
    """A file of flow records; None plays the topics of the log."""
    accounts: Path | None
    subscription: Subscription | None
    instead: dict[str, str]
    by: GroupBy
    top: int


class Answer(NamedTuple):
    """What the simulation found, and which records it had to leave out, by cause."""

    report: SimulationReport
    refused: dict[str, int]


def print_answer(answer: Answer, *, as_json: bool) -> int:
    """Print the comparison as tables, or as one JSON document; the exit code, 1 where a line could not be read."""
    if as_json:
        print(json_of(answer))
    else:
        print_simulation(answer.report, answer.refused)
    return 1 if UNREADABLE in answer.refused else 0


def check(question: Question) -> None:
    """Refuse what cannot be answered. Raises SimulationError."""
    if question.flows is None and question.accounts is not None:
        raise SimulationError("--accounts goes with --flows FILE; --topic takes the commands from the log")
    if question.flows is not None and question.accounts is None and question.subscription is None:
        raise SimulationError(
            "nothing says what the accounts hold; give --accounts FILE with recorded account commands, or "
            "--subscribe OFFERING to put every subscriber on one plan"
        )


def simulate_files(question: Question, settings: Settings) -> Answer:
    """Over files; without `--against`, the catalogue of today is the shipped one.

    Not on an event loop, so that Ctrl-C ends it at once. Raises SimulationError, CatalogueFilesError, OSError.
    """
    check(question)
    simulation = _simulation(question, load_catalogue(question.against))
    recording = _recording(simulation, settings)
    with told_of_shipped(question.against, "today's tariff", "--against"):
        recording.play_files(question.flows or "-", question.accounts)
    return _answer(question, simulation, recording)


async def simulate_topics(question: Question, settings: Settings) -> Answer:
    """Over the log; without `--against`, the catalogue of today is the one published there.

    Raises SimulationError, RecordingError, CatalogueFilesError, LogError.
    """
    check(question)
    async with recorded_log(settings) as log:
        against = load_catalogue(question.against) if question.against else await read_catalogue_topic(log)
        simulation = _simulation(question, against)
        recording = _recording(simulation, settings)
        await recording.play_topics(log, max_record_octets=settings.max_record_octets)
    return _answer(question, simulation, recording)


@contextlib.contextmanager
def told_of_shipped(folder: Path | None, what: str, option: str) -> Iterator[None]:
    """Say of what goes wrong with `--subscribe` that the shipped catalogue may not be the one that was meant."""
    try:
        yield
    except SubscriptionRefused as error:
        if folder is not None:
            raise
        hint = f"{what} is the shipped catalogue where {option} FOLDER does not name another"
        raise SimulationError(f"{error} ({hint})") from None


def json_of(answer: Answer) -> str:
    """The answer as one JSON document; money as decimal strings."""
    body = {**msgspec.to_builtins(answer.report), "refused_records": answer.refused}
    return msgspec.json.format(msgspec.json.encode(body), indent=2).decode()


def parse_instead(texts: list[str]) -> dict[str, str]:
    """`OLD=NEW` options as a mapping. Raises SimulationError."""
    pairs = [text.split("=", 1) for text in texts]
    for text, pair in zip(texts, pairs, strict=True):
        if len(pair) != 2 or not all(pair):
            raise SimulationError(f"--instead is {text!r}; write OLD=NEW, the ids of two offerings")
    return dict(pairs)


def subscription_of(offering_ids: list[str], time_zone: str, credit: str = "0") -> Subscription | None:
    """`--subscribe` options as a plan; None without any. Raises SimulationError."""
    try:
        micros = parse_micros(credit)
    except ValueError as error:
        raise SimulationError(f"--credit: {error}") from None
    if micros < 0 or (micros and not offering_ids):
        raise SimulationError(f"--credit is {credit!r}; give an amount above 0, beside --subscribe OFFERING")
    if not is_time_zone(time_zone):
        raise SimulationError(f"--time-zone is {time_zone!r}; use an IANA zone such as Europe/Paris")
    return Subscription(tuple(offering_ids), time_zone, credit=format_micros(micros)) if offering_ids else None


def _simulation(question: Question, against: Catalogue) -> Simulation:
    wanted = load_catalogue(question.catalogue)
    _check_offerings(question, against, wanted)
    present, new = compile_tariff(against), compile_tariff(wanted)
    classifier = Classifier(against.applications, cache_entries=NAME_CACHE_ENTRIES)
    same = against.applications == wanted.applications
    other = classifier if same else Classifier(wanted.applications, cache_entries=NAME_CACHE_ENTRIES)
    return Simulation(
        Side(present, classifier),
        Side(new, other),
        by=question.by,
        subscription=question.subscription,
        instead=question.instead,
    )


def _check_offerings(question: Question, against: Catalogue, wanted: Catalogue) -> None:
    """Refuse names of offerings that are in neither catalogue: they would quietly change nothing."""
    old, new = ({offering.id for offering in item.offerings} for item in (against, wanted))
    for before, after in question.instead.items():
        if before not in old or after not in new:
            raise SimulationError(
                f"--instead {before}={after}: {before!r} has to be in catalogue {against.version} and {after!r} in "
                f"{wanted.version}; `smartpipe catalogue show` tells what they have"
            )


def _recording(simulation: Simulation, settings: Settings) -> Recording:
    return Recording(simulation, seen_records=settings.dedup_records_per_lane, say=say)


def _answer(question: Question, simulation: Simulation, recording: Recording) -> Answer:
    refused = dict(sorted(recording.refused.items()))
    if not simulation.flows:
        left_out = {**refused, "unknown_account": simulation.strangers}
        told = ", ".join(f"{count} {cause}" for cause, count in left_out.items() if count)
        raise SimulationError(
            f"no flow record could be charged ({told or 'there is none'}); give recorded traffic, and "
            "--subscribe OFFERING, or with --flows --accounts FILE, for accounts that nothing is known of"
        )
    simulation.close()
    return Answer(report_of(simulation, by=question.by, top=question.top), refused)
