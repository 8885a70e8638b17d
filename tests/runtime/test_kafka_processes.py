"""Worker processes on a real Kafka that are stopped, killed or asleep, and the lanes that they leave behind."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runtime.conftest import KafkaStore
from tests.runtime.contract_tools import numbered
from tests.runtime.lane_tools import (
    DEADLINE_S,
    Echo,
    Names,
    each_once,
    publish,
    running,
    test_settings,
    values,
    wait_for_values,
)

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.kafka


@contextlib.contextmanager
def worker(
    log_settings: dict[str, object], *, group: str, source: str, output: str, hold: bool = False
) -> Iterator[subprocess.Popen[str]]:
    job = {"settings": log_settings, "group": group, "source": source, "output": output, "hold": hold}
    command = [sys.executable, "-m", "tests.runtime.lane_process", json.dumps(job)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def says(process: subprocess.Popen[str], what: Callable[[str], bool]) -> str:
    """The next line of the worker that fits."""
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        while line := await asyncio.to_thread(process.stdout.readline):
            if what(line):
                return line
    raise AssertionError("the worker ended without saying it")


async def test_a_worker_that_was_stopped_and_wakes_up_after_its_session_commits_nothing(
    kafka_store: KafkaStore, names: Names
) -> None:
    log = await kafka_store.log(session_timeout_ms=3_000)
    source, output = names.topic(), names.topic()
    await log.ensure_topics([source, output], partitions=1)
    await publish(log, source.name, numbered(100))
    group = names.group()
    settings = test_settings(log="kafka", kafka_bootstrap=kafka_store.bootstrap, session_timeout_ms=3_000)
    with worker(settings.model_dump(), group=group, source=source.name, output=output.name, hold=True) as zombie:
        await says(zombie, lambda line: line == "took\n")
        zombie.send_signal(signal.SIGSTOP)
        async with running(log.lanes(group=group, inputs=[source.name]), Echo(output.name)):
            await wait_for_values(log, output.name, 100)
            zombie.send_signal(signal.SIGCONT)
            assert zombie.stdin is not None
            zombie.stdin.write("go\n")
            assert (await says(zombie, lambda line: "Lane" in line)).startswith(("LaneFenced", "LaneLost"))
            await publish(log, source.name, numbered(100))
            await wait_for_values(log, output.name, 200)
    assert each_once(await values(log, output.name))


async def test_a_worker_drains_on_sigterm_and_its_successor_processes_nothing_again(
    kafka_store: KafkaStore, names: Names
) -> None:
    log = await kafka_store.log()
    source, output = names.topic(), names.topic()
    await log.ensure_topics([source, output], partitions=4)
    await publish(log, source.name, numbered(20_000))
    group = names.group()
    settings = test_settings(log="kafka", kafka_bootstrap=kafka_store.bootstrap).model_dump()
    with worker(settings, group=group, source=source.name, output=output.name) as process:
        await says(process, lambda line: line == "took\n")
        process.send_signal(signal.SIGTERM)
        line = await says(process, lambda line: line.startswith("ended"))
        assert await asyncio.to_thread(process.wait, DEADLINE_S) == 0
    assert line.endswith(", 0 not\n")
    done = int(line.split()[1])
    successor = Echo(output.name)
    async with running(log.lanes(group=group, inputs=[source.name]), successor):
        await wait_for_values(log, output.name, 20_000)
    assert sum(successor.taken.values()) == 20_000 - done
    assert each_once(await values(log, output.name))


async def test_a_worker_killed_at_any_moment_leaves_every_record_processed_once(
    kafka_store: KafkaStore, names: Names
) -> None:
    log = await kafka_store.log(session_timeout_ms=2_000)
    source, output = names.topic(), names.topic()
    await log.ensure_topics([source, output], partitions=2)
    await publish(log, source.name, numbered(30_000))
    group = names.group()
    settings = test_settings(log="kafka", kafka_bootstrap=kafka_store.bootstrap, session_timeout_ms=2_000).model_dump()
    for _ in range(3):
        with worker(settings, group=group, source=source.name, output=output.name) as process:
            await says(process, lambda line: line == "took\n")
            process.kill()
    async with running(log.lanes(group=group, inputs=[source.name]), Echo(output.name, max_records=2_000)):
        await wait_for_values(log, output.name, 30_000)
    assert each_once(await values(log, output.name))
