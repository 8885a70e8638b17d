"""The command `smartpipe`: one sub-command per job, each importing only what it needs."""

import asyncio
import importlib.metadata
import sys
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from services.cli import correct, flows
from services.cli.catalogue import app as catalogue_app
from services.runtime.settings import Settings, load_settings

T = TypeVar("T")

app = typer.Typer(
    help="The open-source smart pipe: classify, tariff and charge OTT traffic, exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(flows.app, name="flows")
app.add_typer(catalogue_app, name="catalogue")
app.add_typer(correct.app, name="correct")

FlowsOption = Annotated[
    str | None,
    typer.Option(
        "--flows", metavar="FILE", help="Flow records as JSON Lines, or these in gzip; `-` is standard input."
    ),
]
TopicOption = Annotated[bool, typer.Option("--topic", help="Flows and commands of the configured log, read only.")]
AccountsOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="With --flows: recorded account commands as JSON Lines.")
]
SubscribeOption = Annotated[
    list[str] | None,
    typer.Option(metavar="OFFERING", help="What accounts without a command hold, from their first flow on."),
]
ZoneOption = Annotated[str, typer.Option(help="With --subscribe: the accounts' time zone.")]
CreditOption = Annotated[
    str, typer.Option("--credit", metavar="AMOUNT", help="With --subscribe: what each account's balance begins with.")
]
KafkaOption = Annotated[
    str | None, typer.Option("--kafka", metavar="HOST:PORT", help="Use this Kafka instead of the embedded log.")
]
DataOption = Annotated[
    Path | None, typer.Option("--data-dir", metavar="FOLDER", help="Folder of the embedded log and the ledger file.")
]
DatabaseOption = Annotated[
    str | None, typer.Option("--database-url", metavar="URL", help="SQLAlchemy URL of the ledger's database.")
]
FormatOption = Annotated[
    str, typer.Option("--format", help="`flow` for FlowRecord lines, `ndpi-labelled` for labelled nDPI flows.")
]
CatalogueOption = Annotated[
    Path | None, typer.Option("--catalogue", metavar="FOLDER", help="Catalogue files; the shipped ones by default.")
]


class Grouping(StrEnum):
    """What of an account's profile figures can be grouped by."""

    SEGMENT = "segment"
    AGE_BAND = "age_band"
    CONSUMPTION_LEVEL = "consumption_level"
    PAYMENT = "payment"


def main() -> None:
    """Entry point: runs the command; a known error ends it with one line and exit code 2, never a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); nothing is left to say.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        # Asked for only now: the list knows every service, and a worker that runs well should load only its own.
        from services.cli.errors import KNOWN_ERRORS

        if not isinstance(error, KNOWN_ERRORS):
            raise
        print(f"smartpipe: {_told(error)}", file=sys.stderr)
        sys.exit(2)


def _told(error: Exception) -> str:
    """What an error says, without the number that the operating system gives it."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


@app.command()
def demo(
    *,
    serve: Annotated[
        bool, typer.Option("--serve", help="Keep the services up and traffic flowing until Ctrl-C.")
    ] = False,
    kafka: KafkaOption = None,
    database_url: DatabaseOption = None,
    subscribers: Annotated[int, typer.Option(min=10, max=100_000, help="Subscribers to create.")] = 300,
    records: Annotated[int, typer.Option(min=100, max=5_000_000, help="Flow records to stream.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the traffic; the same seed gives the same records.")] = 7,
) -> None:
    """Run everything once, with a crash in the middle, and reconcile. Exit code 1 on a violation."""
    from services.cli.demo import DemoPlan, run_demo

    plan = DemoPlan(subscribers=subscribers, records=records, seed=seed, serve=serve)
    sys.exit(_run(run_demo(plan, kafka=kafka, database_url=database_url)))


@app.command()
def policy(*, kafka: KafkaOption = None, data_dir: DataOption = None) -> None:
    """Run the policy service until SIGTERM or Ctrl-C."""
    settings = _settings(kafka, data_dir)
    from services.cli.processes import run_policy

    _run(run_policy(settings))


@app.command()
def rating(*, kafka: KafkaOption = None, data_dir: DataOption = None, database_url: DatabaseOption = None) -> None:
    """Run the rating service (API, ledger, outbox) until SIGTERM or Ctrl-C."""
    settings = _settings(kafka, data_dir, database_url)
    from services.cli.rating_processes import run_rating

    _run(run_rating(settings))


@app.command()
def migrate(*, data_dir: DataOption = None, database_url: DatabaseOption = None) -> None:
    """Bring the ledger's database to the schema of this version; safe to repeat."""
    settings = _settings(None, data_dir, database_url)
    from services.rating.database import migrate as migrate_database
    from services.rating.database import open_database

    migrate_database(open_database(settings))
    typer.echo("the database is at the schema of this version")


@app.command()
def topics(*, kafka: KafkaOption = None, data_dir: DataOption = None) -> None:
    """Create the topics that are missing; refuses one whose partition count differs from the setting."""
    settings = _settings(kafka, data_dir)
    from services.cli.processes import create_topics

    for line in _run(create_topics(settings)):
        typer.echo(line)


@app.command()
def submit(
    file: Annotated[str, typer.Argument(help="Account commands as JSON Lines; `-` reads standard input.")] = "-",
    *,
    data_dir: DataOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """Order for accounts: create them, give them products, top them up. The rating service hands the commands on.

    A line is an account command. What it leaves out of version, command_id and issued_at_ms is filled in; a line that
    states all three can be submitted again without harm. If one command breaks a rule, none is stored.
    """
    settings = _settings(None, data_dir, database_url)
    from services.cli.submit import submit_file

    for sentence in submit_file(file, settings):
        typer.echo(sentence)


@app.command()
def classify(
    file: Annotated[str, typer.Argument(help="Flow records as JSON Lines; `-` reads standard input.")] = "-",
    *,
    format_: FormatOption = "flow",
    explained: Annotated[
        bool, typer.Option("--explain", help="For people: each verdict with what was weighed, and why.")
    ] = False,
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="Explain one name instead of a file: HTTP on port 80, else TLS.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="With --host: tcp, udp or an IANA protocol number.")] = "tcp",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="With --host: the far port.")] = 443,
    address: Annotated[str | None, typer.Option(metavar="IP", help="With --host: the far address.")] = None,
    system: Annotated[
        int | None, typer.Option("--as", min=0, max=2**32 - 1, help="With --host: the far side's autonomous system.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="With --host: print the classification as JSON.")] = False,
    catalogue: CatalogueOption = None,
) -> None:
    """Classify flow records: one classification per line out, in the order of the lines in.

    A line that is no flow record yields {"error": ...} in its place, and exit code 1 at the end.
    """
    from services.cli.classify import classify_host, classify_lines, ip_protocol_of

    if host is None:
        sys.exit(classify_lines(file, format_name=format_, catalogue_folder=catalogue, explained=explained))
    number = ip_protocol_of(protocol)
    classify_host(
        host, ip_protocol=number, port=port, address=address, system=system, catalogue_folder=catalogue, as_json=json_
    )


@app.command()
def unknowns(
    file: Annotated[
        str | None, typer.Argument(help="Flow records as JSON Lines; `-`, or nothing, reads standard input.")
    ] = None,
    *,
    live: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="Ask running workers at their operations ports instead of a file."),
    ] = None,
    format_: FormatOption = "flow",
    top: Annotated[int, typer.Option(min=1, max=10_000, help="Names to print of each exporter.")] = 10,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    catalogue: CatalogueOption = None,
) -> None:
    """Print the largest names that no application claims, per exporter: where the catalogue pays to be extended.

    Exit code 1 when a line of the file could not be read.
    """
    if live and file is not None:
        raise typer.BadParameter(f"--live and the file {file!r} are both given; give one")
    from services.cli.unknowns import run_unknowns

    sys.exit(run_unknowns(file, live or [], format_name=format_, catalogue_folder=catalogue, top=top, as_json=json_))


@app.command()
def simulate(
    *,
    catalogue: Annotated[Path, typer.Option(metavar="FOLDER", help="Catalogue files of the new tariff.")],
    against: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Today's tariff; by default the shipped one, with --topic the log's."),
    ] = None,
    flows_: FlowsOption = None,
    topic: TopicOption = False,
    accounts: AccountsOption = None,
    subscribe: SubscribeOption = None,
    time_zone: ZoneOption = "UTC",
    credit: CreditOption = "0",
    instead: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="Under the new tariff, holders of offering OLD have NEW."),
    ] = None,
    by: Annotated[Grouping, typer.Option(help="What of the profile the figures are grouped by.")] = Grouping.SEGMENT,
    top: Annotated[int, typer.Option(min=0, max=10_000, help="Accounts to name that win, and that lose.")] = 10,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    kafka: KafkaOption = None,
    data_dir: DataOption = None,
) -> None:
    """Run a new tariff beside today's over recorded traffic: revenue, volumes, who wins and who loses.

    Exit code 1 when a line of a file could not be read; it is named, left out and counted.
    """
    if topic == (flows_ is not None):
        raise typer.BadParameter("give one of --flows FILE and --topic")
    settings = _settings(kafka, data_dir)
    from services.cli.simulate import (
        Question,
        parse_instead,
        print_answer,
        simulate_files,
        simulate_topics,
        subscription_of,
    )

    question = Question(
        catalogue=catalogue, against=against, flows=flows_, accounts=accounts,
        subscription=subscription_of(subscribe or [], time_zone, credit), instead=parse_instead(instead or []),
        by=by.value, top=top,
    )  # fmt: skip
    answer = _run(simulate_topics(question, settings)) if topic else simulate_files(question, settings)
    sys.exit(print_answer(answer, as_json=json_))


@app.command("recommend")
def recommend_(
    *,
    flows_: FlowsOption = None,
    topic: TopicOption = False,
    accounts: AccountsOption = None,
    subscribe: SubscribeOption = None,
    time_zone: ZoneOption = "UTC",
    credit: CreditOption = "0",
    account: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this account; repeat for more. Default: all.")
    ] = None,
    steer_own: Annotated[
        bool, typer.Option("--steer-own", help="Prefer packages for the operator's own services; each says so.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the recommendations as JSON.")] = False,
    catalogue: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The tariff; by default the shipped one, with --topic the log's."),
    ] = None,
    kafka: KafkaOption = None,
    data_dir: DataOption = None,
) -> None:
    """Recommend at most three packages or plans per account, each with its reason and saving on recorded usage.

    Exit code 1 when a line of a file could not be read; it is named, left out and counted.
    """
    if topic == (flows_ is not None):
        raise typer.BadParameter("give one of --flows FILE and --topic")
    settings = _settings(kafka, data_dir)
    from services.cli.recommend import Request, print_recommendations, recommend_from_files, recommend_from_topics
    from services.cli.simulate import subscription_of

    request = Request(
        catalogue=catalogue, flows=flows_, accounts=accounts,
        subscription=subscription_of(subscribe or [], time_zone, credit), account_ids=frozenset(account or ()),
        steer_own=steer_own,
    )  # fmt: skip
    answer = _run(recommend_from_topics(request, settings)) if topic else recommend_from_files(request, settings)
    sys.exit(print_recommendations(answer, as_json=json_))


@app.command("explain")
def explain_(
    usage_id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="A row of the ledger, e.g. f-3-120-188-0, or a decision, 3-121."),
    ] = None,
    *,
    flows_: FlowsOption = None,
    record: Annotated[
        str | None, typer.Option(metavar="ID", help="With --flows: the flow record to explain; the last by default.")
    ] = None,
    accounts: AccountsOption = None,
    subscribe: SubscribeOption = None,
    time_zone: ZoneOption = "UTC",
    credit: CreditOption = "0",
    json_: Annotated[bool, typer.Option("--json", help="Print the explanation as JSON.")] = False,
    catalogue: CatalogueOption = None,
    data_dir: DataOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """Say why something was charged as it was: which rule, why not the others, who paid, and how it was rounded.

    By ID from the ledger, as the API does; or, with --flows, of a recorded flow under catalogue files, without any
    service: the records before it are played first. Exit code 1 when a line of a file could not be read.
    """
    if (usage_id is None) == (flows_ is None):
        raise typer.BadParameter("give one of ID, from the ledger, and --flows FILE")
    if usage_id is not None and (record or accounts or subscribe or catalogue):
        raise typer.BadParameter("--record, --accounts, --subscribe and --catalogue go with --flows FILE")
    settings = _settings(None, data_dir, database_url)
    from services.cli.explain import Question, explain_booked, explain_recorded, print_answer
    from services.cli.simulate import subscription_of

    if usage_id is not None:
        sys.exit(print_answer(explain_booked(usage_id, settings), as_json=json_))
    subscription = subscription_of(subscribe or [], time_zone, credit)
    question = Question(flows_ or "-", record, accounts, subscription, catalogue)
    sys.exit(print_answer(explain_recorded(question, settings), as_json=json_))


@app.command()
def verify(
    *,
    kafka: KafkaOption = None,
    data_dir: DataOption = None,
    database_url: DatabaseOption = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="A ledger that lags behind is a violation, too.")] = False,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for what is still in flight.")] = 0.0,
    live: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="Operations port of each running worker, to compare its live state."),
    ] = None,
) -> None:
    """Reconcile log and ledger: nothing lost, nothing charged twice. Exit code 1 on any violation."""
    settings = _settings(kafka, data_dir, database_url)
    from services.cli.rating_processes import run_verify

    sys.exit(_run(run_verify(settings, as_json=json_, strict=strict, wait_s=wait_s, workers=live or [])))


@app.command()
def settlement(
    *,
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="Date or RFC 3339, inclusive; UTC by itself.")],
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="The same, exclusive: 2026-07-01 is all of June.")],
    sponsor: Annotated[str | None, typer.Option(metavar="ID", help="Only this sponsor.")] = None,
    campaign: Annotated[str | None, typer.Option(metavar="ID", help="Only this campaign.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the statement as JSON.")] = False,
    data_dir: DataOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """State what sponsors owe for what their campaigns paid for: octets, connections, amounts, and what went back.

    A row of the ledger belongs to the period in which its usage ended, a refund to that of the usage that it takes
    back. Late usage and corrections change the statement of a period until its billing cycles are closed.
    """
    configured = _settings(None, data_dir, database_url)
    from services.cli.settlement import run_settlement

    run_settlement(since, until, configured, sponsor_id=sponsor, campaign_id=campaign, as_json=json_)


@app.command()
def settings() -> None:
    """List every setting: environment variable, present value, rule and meaning."""
    from services.cli.show_settings import show_settings

    show_settings(load_settings())


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"smartpipe {importlib.metadata.version('smartpipe')}")


def _settings(kafka: str | None, data_dir: Path | None, database_url: str | None = None) -> Settings:
    """The settings of a command with these options. What libraries have to say is written as the settings want it."""
    from services.runtime.telemetry import configure_logging

    settings = load_settings(
        log="kafka" if kafka else None,
        kafka_bootstrap=kafka,
        data_dir=str(data_dir) if data_dir else None,
        database_url=database_url,
    )
    configure_logging(settings)
    return settings


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on the fast event loop where there is one."""
    try:
        import uvloop
    except ImportError:  # not built for this platform
        return asyncio.run(work)
    return uvloop.run(work)


if __name__ == "__main__":
    main()
