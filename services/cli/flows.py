"""`smartpipe flows`: make realistic traffic, and publish flow records from a file."""

import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from schemas.topics import FLOWS
from services.cli.lines import raw_lines
from services.cli.progress import Progress
from services.ingest.jsonlines import new_record, read_flows
from services.ingest.traffic import generate_traffic
from services.ingest.traffic_profile import TrafficProfile, make_subscribers
from services.runtime.log import NewRecord, Publisher
from services.runtime.settings import Settings, load_settings

app = typer.Typer(help="Generate flow records, or publish them to the log.", no_args_is_help=True)

PUBLISH_BATCH_RECORDS = 2_000

_PLMN = re.compile(r"[0-9]{5,6}")


@app.command()
def generate(
    *,
    records: Annotated[int, typer.Option(min=1, help="How many records.")] = 1_000,
    subscribers: Annotated[int, typer.Option(min=1, help="Over how many subscribers.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed and start give the same records.")] = 7,
    start_ms: Annotated[
        int | None, typer.Option(min=0, help="Event time of the first record, ms since 1970 UTC; now by default.")
    ] = None,
    duration_s: Annotated[int, typer.Option(min=1, help="Event time that the records cover, seconds.")] = 3_600,
    home_plmn: Annotated[
        str, typer.Option(metavar="MCCMNC", help="Serving network of who is at home; 00101 is that of test networks.")
    ] = "00101",
    roaming_plmn: Annotated[str, typer.Option(metavar="MCCMNC", help="Serving network of who roams.")] = "90170",
) -> None:
    """Write realistic flow records to standard output, one JSON object a line."""
    _check_plmn("--home-plmn", home_plmn)
    _check_plmn("--roaming-plmn", roaming_plmn)
    profile = TrafficProfile(
        subscribers=make_subscribers(subscribers),
        records=records,
        start_ms=time.time_ns() // 1_000_000 if start_ms is None else start_ms,
        duration_ms=duration_s * 1_000,
        # Broken records are no JSON lines; the demo makes them, a file cannot hold them.
        malformed_share=0,
        home_plmn=home_plmn,
        roaming_plmn=roaming_plmn,
    )
    for record in generate_traffic(profile, seed):
        sys.stdout.buffer.write(record.value + b"\n")
    sys.stdout.buffer.flush()


@app.command()
def publish(
    file: Annotated[
        str, typer.Argument(help="Flow records as JSON Lines, or these in gzip; `-` reads standard input.")
    ] = "-",
    *,
    kafka: Annotated[
        str | None, typer.Option("--kafka", metavar="HOST:PORT", help="Use this Kafka instead of the configured log.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder of the embedded log.")] = None,
) -> None:
    """Check flow records and publish each under its account's id. Stops at the first line that is no flow record."""
    from services.runtime.telemetry import configure_logging

    settings = load_settings(
        log="kafka" if kafka else None, kafka_bootstrap=kafka, data_dir=str(data_dir) if data_dir else None
    )
    configure_logging(settings)
    count = asyncio.run(_publish(file, settings))
    typer.echo(f"published {count} flow records to {FLOWS}")


def _check_plmn(option: str, plmn: str) -> None:
    if not _PLMN.fullmatch(plmn):
        raise typer.BadParameter(f"{option} is {plmn!r}; give MCC and MNC, five or six digits, such as 26201")


async def _publish(file: str, settings: Settings) -> int:
    from services.cli.processes import prepare_topics
    from services.runtime.open_log import open_log

    log = open_log(settings)
    try:
        await prepare_topics(log, settings)
        publisher = await log.publisher()
        try:
            return await publish_all(publisher, _records(file), progress=_telling())
        finally:
            await publisher.close()
    finally:
        await log.close()


async def publish_all(publisher: Publisher, records: Iterable[NewRecord], *, progress: object = None) -> int:
    """Publish `records` in batches, in order; the number of them. `progress` is called with the count so far."""
    count, batch = 0, list[NewRecord]()
    for record in records:
        batch.append(record)
        if len(batch) == PUBLISH_BATCH_RECORDS:
            await publisher.publish(batch)
            count, batch = count + len(batch), []
            if callable(progress):
                progress(count)
    if batch:
        await publisher.publish(batch)
    return count + len(batch)


def _records(file: str) -> Iterator[NewRecord]:
    now_ms = time.time_ns() // 1_000_000
    for flow in read_flows(raw_lines(file)):
        yield new_record(flow, published_ms=now_ms)


def _telling() -> Callable[[int], None]:
    progress = Progress()
    return lambda count: progress.at(f"{count} records published")
