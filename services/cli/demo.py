"""`smartpipe demo`: everything once, in one place, with a crash in the middle and the books checked at the end."""

import asyncio
import contextlib
import dataclasses
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from schemas.topics import FLOWS
from services.cli.demo_people import orders
from services.cli.stage import Stage, now_ms, open_stage, stage_settings
from services.cli.summary import print_report, print_summary
from services.cli.tables import plain_console
from services.ingest.traffic import GeneratedRecord, generate_traffic
from services.ingest.traffic_profile import (
    MIN_RECORDS_WITH_MALFORMED,
    TrafficProfile,
    TrafficSubscriber,
    make_subscribers,
)
from services.runtime.ports import free_port
from services.runtime.settings import load_settings
from services.runtime.telemetry import configure_logging

HALF_AN_HOUR_MS = 1_800_000
SERVE_RECORDS_PER_S = 50
INTERRUPTED = 130
"""Exit code of what Ctrl-C ended, as shells have it."""


@dataclasses.dataclass(frozen=True)
class DemoPlan:
    """How large the demo is."""

    subscribers: int
    records: int
    seed: int
    serve: bool


async def run_demo(plan: DemoPlan, *, kafka: str | None, database_url: str | None) -> int:
    """Run the demo; 0 if the reconciliation found nothing, 1 if it did, INTERRUPTED after Ctrl-C or SIGTERM."""
    demo = _Demo(plan, plain_console())
    try:
        with tempfile.TemporaryDirectory(prefix="smartpipe-demo-") as folder:
            demo.end_on_signals()
            settings = stage_settings(
                Path(folder),
                log="kafka" if kafka else None,
                kafka_bootstrap=kafka,
                # A Kafka outlives the demo: its topics are as the services will want them.
                **({"partitions": load_settings().partitions} if kafka else {}),
                database_url=database_url,
                **(_known_ports() if plan.serve else {}),
            )
            configure_logging(settings)
            demo.say(f"Smartpipe demo: log {kafka or 'embedded'}, data in {folder}")
            async with open_stage(settings) as stage:
                return 0 if await demo.run(stage) else 1
    except asyncio.CancelledError:
        demo.say("interrupted: everything is stopped, and the demo's data removed")
        return INTERRUPTED


def _known_ports() -> dict[str, int]:
    """The ports of the settings, where a browser or a Prometheus looks for them; free ones for those that are taken."""
    wanted = load_settings()
    names = ("http_port", "policy_ops_port", "rating_ops_port")
    return {name: free_port(getattr(wanted, name)) for name in names}


class _Demo:
    """The acts of the play, in order."""

    def __init__(self, plan: DemoPlan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._serving = False
        self._stopping = asyncio.Event()

    def end_on_signals(self) -> None:
        """Have Ctrl-C and SIGTERM end what goes on for ever in good order, and anything else at once."""
        play = asyncio.current_task()
        if play is None:
            raise RuntimeError("the demo is played by a task")
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._end, play)

    def _end(self, play: asyncio.Task[Any]) -> None:
        if self._serving and not self._stopping.is_set():
            self._stopping.set()
        else:
            play.cancel()

    async def run(self, stage: Stage) -> bool:
        """All acts; whether the books were right at the end."""
        began = time.monotonic()
        await self._subscribe(stage)
        await self._stream(stage)
        found = await stage.survey()
        print_summary(found.summary, console=self._console, elapsed_s=time.monotonic() - began)
        print_report(found.report, console=self._console)
        if not (self._plan.serve and found.report.ok):
            return found.report.ok
        await self._serve(stage)
        report = (await stage.survey()).report
        print_report(report, console=self._console)
        return report.ok

    async def _subscribe(self, stage: Stage) -> None:
        commands = list(orders(self._people(), stage.catalogue, seed=self._plan.seed, now_ms=now_ms()))
        self.say(
            f"catalogue {stage.catalogue.version}: {len(stage.catalogue.applications)} applications, "
            f"{len(stage.catalogue.offerings)} offerings, {len(stage.catalogue.rules)} rules"
        )
        await stage.order(commands)
        self.say(f"{self._plan.subscribers} subscribers are customers now, by {len(commands)} commands")

    async def _stream(self, stage: Stage) -> None:
        """Publish the traffic, kill the worker in the middle of its work, and let another take over."""
        traffic = list(self._traffic(self._plan.records, self._plan.seed, HALF_AN_HOUR_MS))
        half = len(traffic) // 2
        await stage.publish(traffic[:half])
        await stage.until_decided(half // 3)
        if stage.worker is not None:
            await stage.worker.kill()
            self.say(
                f"{half} flow records published to {FLOWS}; worker {stage.worker.pid} killed while it decides them"
            )
        await stage.publish(traffic[half:])
        worker = await stage.start_worker()
        self.say(f"worker {worker.pid} takes over from the last commit; {len(traffic)} flow records published in all")
        await stage.until_decided()
        self.say("every flow record has a decision or a dead letter; the ledger books the rest, then all is reconciled")

    async def _serve(self, stage: Stage) -> None:
        """Keep traffic flowing until Ctrl-C, then let everything come to rest."""
        self._serving = True
        self._print_addresses(stage)
        seed = self._plan.seed
        while not self._stopping.is_set():
            seed += 1
            await stage.publish(list(self._traffic(SERVE_RECORDS_PER_S, seed, 1_000)))
            stage.check_worker()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1.0)
        self.say("stopping: the records in flight are decided and booked first")
        await stage.until_decided()

    def _print_addresses(self, stage: Stage) -> None:
        api, ops = f"http://127.0.0.1:{stage.rating.http_port}", "http://127.0.0.1"
        row = next(row for row in stage.ledger.rows() if row[2] == "usage")
        usage_id, account_id = row[0], row[1]
        for label, url in (
            ("API documentation", f"{api}/docs"),
            ("offerings", f"{api}/tmf-api/productCatalogManagement/v4/productOffering?limit=5"),
            ("buckets of one account", f"{api}/ott-policy/v1/accounts/{account_id}/buckets"),
            ("usage of that account", f"{api}/ott-policy/v1/accounts/{account_id}/usage"),
            ("why it was charged so", f"{api}/ott-policy/v1/usage/{usage_id}/explanation"),
            ("metrics, policy service", f"{ops}:{stage.settings.policy_ops_port}/metrics"),
            ("metrics, rating service", f"{ops}:{stage.rating.ops_port}/metrics"),
        ):
            self._console.print(f"  {label:<24} {url}", soft_wrap=True, highlight=False)
        self.say(f"traffic keeps flowing, {SERVE_RECORDS_PER_S} records/s; Ctrl-C ends it and reconciles once more")

    def _traffic(self, records: int, seed: int, duration_ms: int) -> Iterator[GeneratedRecord]:
        """Traffic of the last `duration_ms`: event times end now, as they do when exporters report what was."""
        profile = TrafficProfile(
            subscribers=self._people(),
            records=records,
            start_ms=now_ms() - duration_ms,
            duration_ms=duration_ms,
            malformed_share=0.001 if records > MIN_RECORDS_WITH_MALFORMED else 0,
        )
        return generate_traffic(profile, seed)

    def _people(self) -> tuple[TrafficSubscriber, ...]:
        return make_subscribers(self._plan.subscribers)

    def say(self, text: str) -> None:
        """One line of progress."""
        self._console.print(f"{time.strftime('%H:%M:%S')}  {text}", soft_wrap=True, highlight=False)
