"""`smartpipe flows`: make realistic traffic, and publish flow records from a file."""

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from schemas.topics import FLOWS
from services.ingest.jsonlines import new_record, read_flows
from services.ingest.traffic import generate_traffic
from services.ingest.traffic_profile import TrafficProfile, make_subscribers
from services.runtime.log import NewRecord, Publisher
from services.runtime.settings import Settings, load_settings

app = typer.Typer(help="Generate flow records, or publish them to the log.", no_args_is_help=True)

PUBLISH_BATCH_RECORDS = 2_000
PROGRESS_EVERY_RECORDS = 100_000


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
) -> None:
    """Write realistic flow records to standard output, one JSON object a line."""
    profile = TrafficProfile(
        subscribers=make_subscribers(subscribers),
        records=records,
        start_ms=time.time_ns() // 1_000_000 if start_ms is None else start_ms,
        duration_ms=duration_s * 1_000,
        # Broken records are no JSON lines; the demo makes them, a file cannot hold them.
        malformed_share=0,
    )
    for record in generate_traffic(profile, seed):
        sys.stdout.buffer.write(record.value + b"\n")
    sys.stdout.buffer.flush()


@app.command()
def publish(
    file: Annotated[str, typer.Argument(help="Flow records as JSON Lines; `-` reads standard input.")] = "-",
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
    with open_lines(file) as lines:
        count = asyncio.run(_publish(lines, settings))
    typer.echo(f"published {count} flow records to {FLOWS}")


def open_lines(file: str) -> BinaryIO:
    """The file named, or standard input for `-`; to be closed by the caller."""
    return sys.stdin.buffer if file == "-" else Path(file).open("rb")


async def _publish(lines: Iterable[bytes], settings: Settings) -> int:
    from services.cli.processes import prepare_topics
    from services.runtime.open_log import open_log

    log = open_log(settings)
    try:
        await prepare_topics(log, settings)
        publisher = await log.publisher()
        try:
            return await publish_all(publisher, _records(lines), progress=_say_progress)
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


def _records(lines: Iterable[bytes]) -> Iterator[NewRecord]:
    now_ms = time.time_ns() // 1_000_000
    for flow in read_flows(lines):
        yield new_record(flow, published_ms=now_ms)


def _say_progress(count: int) -> None:
    if count % PROGRESS_EVERY_RECORDS == 0:
        print(f"{count} records published", file=sys.stderr)
