"""One policy worker on a real Kafka, exactly once, 8 partitions: throughput, latency, restore, memory.

The worker is pinned to one core; the broker, the load generator and this script share the other. Its CPU time is the
kernel's count for the process, so that what is divided by is what the worker really used.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import msgspec

from deploy.dev.kafka import DevKafka
from schemas import topics
from schemas.command import ActivateProduct, ChangeProfile
from services.cli.flows import publish_all
from services.cli.stage import now_ms
from services.cli.worker_process import WorkerProcess
from services.engine.feed import entries_of
from services.ingest.traffic_bench import bench_accounts, bench_traffic
from services.rating.catalogue_files import load_catalogue
from services.runtime.log import Log, NewRecord
from services.runtime.open_log import open_log
from services.runtime.ports import free_port
from services.runtime.settings import Settings, load_settings

PARTITIONS = 8
BASE_PLAN = "smart-general"
ADD_ONS = ("social-free-facebook", "video-netflix", "stream-boost", "tiktok-week")
"""What the accounts hold besides their base plan: none to all four, so that states differ as they do in life."""

WORKER_CORE, OTHER_CORE = 0, 1
DEADLINE_S = 900.0
POLL_EVERY_S = 1.0
"""How often a condition is looked at; each look costs the worker a page of metrics."""

PUBLISHERS = 4
SLICE_MS = 10

encode = msgspec.json.Encoder().encode


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of the pipeline."""
    _pin(os.getpid(), OTHER_CORE)
    with tempfile.TemporaryDirectory(prefix="smartpipe-bench-") as folder:
        async with _kafka(arguments) as bootstrap:
            bench = _Bench(arguments, bootstrap, Path(folder))
            return await bench.run()


class _Bench:
    """One run; the steps are in `run`, in order."""

    def __init__(self, arguments: argparse.Namespace, bootstrap: str, folder: Path) -> None:
        self.arguments = arguments
        self.folder = folder
        self.settings = load_settings(
            {}, log="kafka", kafka_bootstrap=bootstrap, partitions=PARTITIONS, policy_ops_port=free_port(),
            log_format="json",
        )  # fmt: skip
        self.log: Log = open_log(self.settings)

    async def run(self) -> dict[str, Any]:
        await self.log.start()
        await self.log.ensure_topics(topics.ALL, partitions=PARTITIONS)
        await self._publish_catalogue()
        empty_octets = await self._resident_octets_when_empty()
        await self._subscribe()
        memory = await self._memory(empty_octets)
        throughput = await self._throughput()
        restore = await self._restore()
        latency = await self._latency(int(throughput["records_per_second_per_core"]) // 2)
        await self.log.close()
        return {"settings": _stated(self.settings, self.arguments), **throughput, **restore, **latency, **memory}

    async def _publish_catalogue(self) -> None:
        published_ms = now_ms()
        await self._publish(
            NewRecord(topics.CATALOGUE, entry.entry_key.encode(), encode(entry), published_ms)
            for entry in entries_of(load_catalogue())
        )

    async def _resident_octets_when_empty(self) -> int:
        worker = await self._start()
        await self._until(lambda: self._metric("ott_policy_assigned_lanes") == PARTITIONS, "lanes are up")
        resident = self._metric("process_resident_memory_bytes")
        await worker.stop()
        return int(resident)

    async def _subscribe(self) -> None:
        accounts = bench_accounts(self.arguments.accounts)
        print(f"subscribing {len(accounts)} accounts", flush=True)
        worker = await self._start()
        count = await self._publish(_commands(accounts))
        await self._until(lambda: self._metric("ott_policy_commands_total") >= count, "commands are applied")
        refused = self._metric("ott_policy_dead_letters_total")
        if refused:
            raise RuntimeError(f"{refused:.0f} commands were refused; see ott.flows.dlq.v1")
        # Pending usage rows of the activations go out with the first interval; an idle subscriber has none.
        await worker.stop()

    async def _memory(self, empty_octets: int) -> dict[str, Any]:
        worker = await self._start()
        await self._until(
            lambda: self._metric("ott_policy_accounts") >= self.arguments.accounts, "all accounts are restored"
        )
        resident = int(self._metric("process_resident_memory_bytes"))
        await worker.stop()
        return {"state_bytes_per_subscriber": round((resident - empty_octets) / self.arguments.accounts)}

    async def _throughput(self) -> dict[str, Any]:
        """Catching up with a full topic; the first and last tenth are left out."""
        records = self.arguments.records
        print(f"publishing {records} flow records", flush=True)
        await self._publish(_flows(self.arguments, records, seed=1))
        worker = await self._start()
        _pin(worker.pid, WORKER_CORE)
        begin = await self._reach(records // 10)
        end = await self._reach(records * 9 // 10)
        await self._reach(records)
        await worker.stop()
        wall_s, cpu_s, done = (after - before for before, after in zip(begin, end, strict=True))
        return {
            "records_per_second_per_core": round(done / max(wall_s, cpu_s)),
            "cpu_us_per_record": round(cpu_s / done * 1e6, 2),
            "worker_cpu_share": round(cpu_s / wall_s, 3),
        }

    async def _reach(self, records: int) -> tuple[float, float, float]:
        """(wall clock, CPU seconds, records) when the worker has decided at least `records`."""
        await self._until(lambda: self._metric("ott_policy_records_total") >= records, f"{records} records decided")
        text = self._scrape()
        return time.monotonic(), _sum(text, "process_cpu_seconds_total"), _sum(text, "ott_policy_records_total")

    async def _restore(self) -> dict[str, Any]:
        """Kill the worker, let a successor rebuild all lanes from the changelog."""
        worker = await self._start()
        await self._until(lambda: self._metric("ott_policy_assigned_lanes") == PARTITIONS, "lanes are up")
        await worker.kill()
        log_file = self.folder / "restore.log"
        successor = await self._start(log_file)
        _pin(successor.pid, WORKER_CORE)
        await self._until(lambda: self._metric("ott_policy_assigned_lanes") == PARTITIONS, "lanes are restored")
        await successor.stop()
        events = [json.loads(line) for line in log_file.read_text().splitlines() if '"lane_restored"' in line]
        seconds = max(event["ended_s"] for event in events) - min(event["began_s"] for event in events)
        records = sum(event["records"] for event in events)
        return {
            "restore_records_per_second": round(records / seconds),
            "restore_records": records,
            "restore_seconds": round(seconds, 3),
        }

    async def _latency(self, records_per_s: int) -> dict[str, Any]:
        print(f"latency at {records_per_s} records/s", flush=True)
        worker = await self._start()
        _pin(worker.pid, WORKER_CORE)
        await self._until(lambda: self._metric("ott_policy_assigned_lanes") == PARTITIONS, "lanes are up")
        reader = await self.log.reader(topics.DECISIONS)
        await reader.seek(await reader.end_offsets())
        seen: list[int] = []
        watch = asyncio.create_task(_watch(reader, seen))
        await self._pace(records_per_s)
        wanted = records_per_s * self.arguments.latency_seconds
        await self._until(lambda: _watched(watch) >= wanted, "all decisions are read", watch)
        watch.cancel()
        await reader.close()
        await worker.stop()
        settled = sorted(seen[len(seen) // 5 :])
        return {
            "latency_ms": {
                "p50": settled[len(settled) // 2],
                "p99": settled[len(settled) * 99 // 100],
                "records_per_second": records_per_s,
            }
        }

    async def _pace(self, records_per_s: int) -> None:
        """Publish at a fixed rate, in slices of 10 ms; a late slice keeps the time at which it was due."""
        total = records_per_s * self.arguments.latency_seconds
        slices: asyncio.Queue[list[NewRecord] | None] = asyncio.Queue()
        # Several publishers, so that one slow answer of the broker does not hold up the next slices.
        publishers = [asyncio.create_task(self._publish_slices(slices)) for _ in range(PUBLISHERS)]
        start_ms = now_ms() + 500
        batch: list[NewRecord] = []
        due_ms = start_ms
        for record in bench_traffic(
            accounts=self.arguments.accounts, records=total, seed=2, start_ms=start_ms, records_per_s=records_per_s
        ):
            if record.timestamp_ms - due_ms >= SLICE_MS:
                await _sleep_until(record.timestamp_ms)
                slices.put_nowait(batch)
                batch, due_ms = [], record.timestamp_ms
            batch.append(NewRecord(topics.FLOWS, record.key, record.value, record.timestamp_ms))
        slices.put_nowait(batch)
        for _ in publishers:
            slices.put_nowait(None)
        await asyncio.gather(*publishers)

    async def _publish_slices(self, slices: asyncio.Queue[list[NewRecord] | None]) -> None:
        publisher = await self.log.publisher()
        while (batch := await slices.get()) is not None:
            await publisher.publish(batch)
        await publisher.close()

    async def _publish(self, records: Iterable[NewRecord]) -> int:
        publisher = await self.log.publisher()
        try:
            return await publish_all(publisher, records)
        finally:
            await publisher.close()

    async def _start(self, log_file: Path | None = None) -> WorkerProcess:
        worker = await WorkerProcess.start(self.settings, log_file or self.folder / "worker.log")
        self._worker = worker
        await self._until(self._answers, "the worker answers")
        return worker

    def _answers(self) -> bool:
        try:
            return bool(self._scrape())
        except OSError:
            return False

    def _scrape(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.settings.policy_ops_port}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    def _metric(self, name: str) -> float:
        return _sum(self._scrape(), name)

    async def _until(self, condition: Any, what: str, *tasks: asyncio.Task[Any]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not await asyncio.to_thread(condition):
            for task in tasks:
                if task.done():
                    task.result()
            if not self._worker.running():
                raise RuntimeError(f"the worker ended while waiting until {what}:\n{self._worker.last_words()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {DEADLINE_S} s: {what}")
            await asyncio.sleep(POLL_EVERY_S)


async def _watch(reader: Any, seen: list[int]) -> None:
    """Note, for each decision read, the time since its flow's end, which is when it was published."""
    end_ms = re.compile(rb'"end_ms":(\d+)').findall
    task = asyncio.current_task()
    while True:
        for records in (await reader.poll(max_records=20_000, max_wait_ms=20)).values():
            read_ms = now_ms()
            seen.extend(read_ms - int(end_ms(record.value)[0]) for record in records)
        task.decisions = len(seen)  # type: ignore[union-attr]


def _watched(task: asyncio.Task[Any]) -> int:
    return getattr(task, "decisions", 0)


def _commands(accounts: list[str]) -> Iterable[NewRecord]:
    rng, issued_ms = random.Random(3), now_ms()
    for account in accounts:
        common: dict[str, Any] = {"version": "1.0", "account_id": account, "issued_at_ms": issued_ms}
        offerings = [BASE_PLAN, *rng.sample(ADD_ONS, rng.randrange(5))]
        commands: list[Any] = [ChangeProfile(command_id=f"{account}-0", subscriber_ids=(account,), **common)]
        commands += [
            ActivateProduct(command_id=f"{account}-{at}", product_id=f"p{at}", offering_id=offering, **common)
            for at, offering in enumerate(offerings, start=1)
        ]
        for command in commands:
            yield NewRecord(topics.COMMANDS, account.encode(), encode(command), issued_ms)


def _flows(arguments: argparse.Namespace, records: int, *, seed: int) -> Iterable[NewRecord]:
    traffic = bench_traffic(accounts=arguments.accounts, records=records, seed=seed, start_ms=now_ms())
    for record in traffic:
        yield NewRecord(topics.FLOWS, record.key, record.value, record.timestamp_ms)


@contextlib.asynccontextmanager
async def _kafka(arguments: argparse.Namespace) -> AsyncIterator[str]:
    if arguments.kafka:
        yield arguments.kafka
        return
    broker = DevKafka()
    broker.start()
    try:
        _pin(broker.pid, OTHER_CORE)
        yield broker.bootstrap
    finally:
        broker.stop()


def _stated(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("partitions", "transaction_max_records", "transaction_max_wait_ms", "usage_interval_ms")
    return {**{name: getattr(settings, name) for name in names}, "accounts": arguments.accounts}


def _sum(exposition: str, name: str) -> float:
    found = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", exposition, re.MULTILINE)
    return sum(float(value) for value in found)


def _pin(pid: int, core: int) -> None:
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


async def _sleep_until(at_ms: int) -> None:
    left_ms = at_ms - now_ms()
    if left_ms > 0:
        await asyncio.sleep(left_ms / 1_000)
