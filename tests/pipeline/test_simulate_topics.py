"""`smartpipe simulate --topic` over what a running pipeline has left on its log: the embedded one, and a real Kafka."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import services.rating
from schemas import topics
from schemas.units import parse_micros
from services.cli.recorded import Recording, RecordingError
from services.cli.simulate import Answer, Question, simulate_topics
from services.cli.stage import Stage
from services.runtime.log import Log, LogError, LogReader, LogUnavailable, NewRecord
from services.runtime.open_log import open_log
from services.runtime.settings import Settings
from tests.pipeline.stages import Where, decisions, playing, remove_topics, subscribe, traffic

SHIPPED = Path(services.rating.__file__).parent / "catalogue"
RECORDS = 1_500
DEADLINE_S = 60.0


def question(**changes: Any) -> Question:
    asked = Question(SHIPPED, None, None, None, None, {}, "segment", 5)
    return asked._replace(**changes)


async def played(stage: Stage, *, seed: int, **shares: Any) -> None:
    """Customers, and traffic that the lanes have decided."""
    await subscribe(stage)
    await stage.publish(traffic(RECORDS, seed=seed, **shares))
    await stage.until_decided()


def figures(answer: Answer) -> Counter[tuple[str, str]]:
    """Flows, octets and money per category, as the simulation has them for today's tariff."""
    found = Counter[tuple[str, str]]()
    for group in answer.report.groups:
        if group.category != "fees":
            found[group.category, "flows"] += group.present.flows
            found[group.category, "charged"] += group.present.charged_octets
            found[group.category, "free"] += group.present.free_octets
            found[group.category, "sponsored"] += group.present.sponsored_octets
            found[group.category, "blocked"] += group.present.blocked_octets
            found[group.category, "money"] += parse_micros(group.present.revenue)
    return +found


async def decided(log: Log) -> Counter[tuple[str, str]]:
    """The same, as the lanes decided it."""
    found = Counter[tuple[str, str]]()
    for decision in await decisions(log):
        category = decision.classification.category
        found[category, "flows"] += 1
        found[category, "charged"] += decision.charged_octets
        found[category, "free"] += decision.free_octets
        found[category, "sponsored"] += decision.sponsored_octets
        found[category, "blocked"] += decision.blocked_octets
        found[category, "money"] += parse_micros(decision.price.amount) if decision.price else 0
    return +found


async def test_a_simulation_of_todays_tariff_says_what_the_lanes_decided(where: Where, tmp_path: Path) -> None:
    async with playing(where, tmp_path) as stage:
        # Doubtful verdicts are corrected by later records, which decisions of before do not show.
        await played(stage, seed=3, malformed_share=0.03, spoofed_share=0.0)
        answer = await simulate_topics(question(), stage.settings)
        found = await decided(stage.log)
    assert figures(answer) == found
    assert sum(count for (_, what), count in found.items() if what == "flows") == answer.report.flows > RECORDS // 2
    assert answer.report.total_present == answer.report.total_new
    assert answer.report.unknown_account_flows == 0
    assert answer.refused.keys() >= {"duplicate", "not_json"}


async def test_what_comes_while_it_reads_is_left_out(where: Where, tmp_path: Path) -> None:
    async with playing(where, tmp_path) as stage:
        await played(stage, seed=4)
        before = await simulate_topics(question(), stage.settings)
        later = traffic(200, seed=5)
        listener, said = Counting(), list[str]()
        recording = Recording(listener, seen_records=10_000, say=said.append)
        busy = Busy(stage.log, [NewRecord(topics.FLOWS, item.key, item.value, item.timestamp_ms) for item in later])
        await recording.play_topics(busy, max_record_octets=stage.settings.max_record_octets)  # type: ignore[arg-type]
        ends = await end_offsets(stage.log, topics.FLOWS)
    assert busy.published
    assert sum(ends.values()) >= RECORDS + len(later)
    assert listener.seen[topics.FLOWS] == before.report.flows + before.report.unknown_account_flows
    assert listener.lanes == stage.settings.partitions
    assert said[0].startswith(
        f"{topics.FLOWS} holds at most {RECORDS} flow records in {stage.settings.partitions} lanes"
    )


async def test_a_broken_off_simulation_leaves_nothing_open(where: Where, tmp_path: Path) -> None:
    async with playing(where, tmp_path) as stage:
        await played(stage, seed=6)
        listener = Interrupting()
        recording = Recording(listener, seen_records=10_000, say=lambda _: None)
        watched = Watched(stage.log)
        task = asyncio.create_task(recording.play_topics(watched, max_record_octets=10**6))  # type: ignore[arg-type]
        listener.task = task
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), DEADLINE_S)
    assert len(watched.opened) == 2
    assert watched.closed == watched.opened


async def test_a_missing_topic_and_a_missing_catalogue_are_named_with_the_next_step(
    where: Where, tmp_path: Path
) -> None:
    if where.bootstrap is not None:
        await remove_topics(where.bootstrap)
    settings = Settings(data_dir=str(tmp_path), **where.settings())
    log = open_log(settings)
    await log.start()
    try:
        with pytest.raises(LogError, match=r"topic 'ott\.flows\.v1' does not exist; `smartpipe topics` creates it"):
            await simulate_topics(question(against=SHIPPED), settings)
        await log.ensure_topics(topics.ALL, partitions=2)
        with pytest.raises(RecordingError, match=r"no complete catalogue; publish one, or give --against FOLDER"):
            await simulate_topics(question(), settings)
    finally:
        await log.close()


async def test_a_broker_that_is_not_there_is_given_up_on_with_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = Settings(log="kafka", kafka_bootstrap=address, outage_timeout_ms=300)
    with pytest.raises(LogUnavailable, match="gave up after"):
        await simulate_topics(question(), settings)
    assert f"reading from Kafka at {address}, which has 0.3 s to answer" in capsys.readouterr().err


def test_ctrl_c_ends_it_without_a_traceback_while_it_waits_for_a_broker(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        options = ["--topic", "--kafka", f"127.0.0.1:{silent.getsockname()[1]}"]
        code, said = interrupted(options, after="reading from Kafka", folder=tmp_path)
    assert code == 130
    assert "Traceback" not in said


def test_ctrl_c_ends_it_without_a_traceback_while_it_reads_a_pipe(tmp_path: Path) -> None:
    # A broken line is named at once: the sign that it has begun to read what never ends.
    code, said = interrupted(["--flows", "-", "--subscribe", "smart-general"], after="line 1", folder=tmp_path)
    assert code == 130
    assert "Traceback" not in said


def interrupted(options: list[str], *, after: str, folder: Path) -> tuple[int, str]:
    """Exit code and standard error of a simulation that gets Ctrl-C once it has said `after`."""
    arguments = [sys.executable, "-m", "services.cli.main", "simulate", "--catalogue", str(SHIPPED), *options]
    process = subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=Path.cwd(),
        env={**os.environ, "SMARTPIPE_DATA_DIR": str(folder)},
        # A shell has its background jobs ignore Ctrl-C, and they hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads in this test
    )  # fmt: skip
    try:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"{}\n")
        process.stdin.flush()
        said = b""
        while after.encode() not in said:
            line = process.stderr.readline()
            assert line, said.decode()
            said += line
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=DEADLINE_S)[1]
    finally:
        process.kill()
        process.wait()
    return process.returncode, (said + rest).decode()


async def end_offsets(log: Log, topic: str) -> Mapping[int, int]:
    reader = await log.reader(topic)
    try:
        return await reader.end_offsets()
    finally:
        await reader.close()


class Counting:
    """A listener that counts what is played to it."""

    def __init__(self) -> None:
        self.seen = Counter[str]()
        self.lanes = 0

    def next_lane(self) -> None:
        self.lanes += 1

    def command(self, _command: object, *, arrived_ms: int) -> None:
        self.seen[topics.COMMANDS] += 1

    def flow(self, _flow: object, *, arrived_ms: int) -> None:
        self.seen[topics.FLOWS] += 1


class Interrupting(Counting):
    """A listener that ends its own task at the first flow, as Ctrl-C does."""

    task: asyncio.Task[None] | None = None

    def flow(self, _flow: object, *, arrived_ms: int) -> None:
        assert self.task is not None
        self.task.cancel()


class Watched:
    """A log that remembers which readers were opened and closed."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.opened, self.closed = set[str](), set[str]()

    async def reader(self, topic: str) -> LogReader:
        reader = await self._log.reader(topic)
        close = reader.close

        async def closing() -> None:
            await close()
            self.closed.add(topic)

        reader.close = closing  # type: ignore[method-assign]
        self.opened.add(topic)
        return reader


class Busy:
    """A log that grows as soon as anybody has asked for its ends."""

    def __init__(self, log: Log, records: list[NewRecord]) -> None:
        self._log, self._records = log, records
        self.published = False

    async def reader(self, topic: str) -> LogReader:
        reader = await self._log.reader(topic)
        if topic == topics.FLOWS:
            ask = reader.end_offsets

            async def asked() -> Mapping[int, int]:
                ends = await ask()
                await self._publish()
                return ends

            reader.end_offsets = asked  # type: ignore[method-assign]
        return reader

    async def _publish(self) -> None:
        if not self.published:
            self.published = True
            publisher = await self._log.publisher()
            await publisher.publish(self._records)
            await publisher.close()
