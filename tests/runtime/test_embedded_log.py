"""What only a file can go wrong with: other processes, dead ones, a busy file, retention."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from services.runtime import embedded_file
from services.runtime.embedded_log import share_of
from services.runtime.log import CommitFailed, Lane, LaneFenced, LogError, LogUnavailable, NewRecord
from tests.runtime.conftest import EmbeddedStore
from tests.runtime.lane_tools import (
    DEADLINE_S,
    Echo,
    Held,
    Names,
    contents,
    publish,
    replayed,
    running,
    test_settings,
    values,
    wait_for_values,
)
from tests.waiting import wait_until_async

ROOT = Path(__file__).resolve().parents[2]
DAY_MS = 86_400_000


def numbered(count: int, *, start: int = 0) -> list[tuple[bytes | None, bytes | None]]:
    return [(b"account-%d" % (number % 50), str(number).encode()) for number in range(start, start + count)]


def worker(store: EmbeddedStore, group: str, source: str, output: str) -> "subprocess.Popen[str]":
    settings = test_settings(log="embedded", data_dir=str(store.folder)).model_dump()
    job = {"settings": settings, "group": group, "source": source, "output": output, "hold": False}
    command = [sys.executable, "-m", "tests.runtime.lane_process", json.dumps(job)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


async def first_word(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        return (await asyncio.to_thread(process.stdout.readline)).strip()


@pytest.mark.parametrize(
    ("count", "partitions", "shares"),
    [
        (1, 8, [set(range(8))]),
        (2, 8, [{0, 1, 2, 3}, {4, 5, 6, 7}]),
        (3, 8, [{0, 1}, {2, 3, 4}, {5, 6, 7}]),
        (2, 1, [set(), {0}]),
        (3, 2, [set(), {0}, {1}]),
    ],
)
def test_the_living_members_share_the_partitions_in_ranges(count: int, partitions: int, shares: list[set[int]]) -> None:
    members = [f"member-{number}" for number in range(count)]
    assert [share_of(member, members, partitions) for member in members] == shares
    assert share_of("a stranger", members, partitions) == frozenset()


async def test_a_killed_process_leaves_nothing_that_blocks_its_successor(embedded: EmbeddedStore, names: Names) -> None:
    log = await embedded.log()
    source, output = names.topic(), names.topic()
    await log.ensure_topics([source, output], partitions=4)
    await publish(log, source.name, numbered(20_000))
    group = names.group()
    for _ in range(3):
        with worker(embedded, group, source.name, output.name) as process:
            assert await first_word(process) == "took"
            process.kill()
    async with running(log.lanes(group=group, inputs=[source.name]), Echo(output.name)):
        await wait_for_values(log, output.name, 20_000)
    assert set(Counter(await values(log, output.name)).values()) == {1}
    assert list((embedded.folder / "members").iterdir()) == []


async def test_processes_share_the_partitions_of_a_group(embedded: EmbeddedStore, names: Names) -> None:
    log = await embedded.log()
    source, output = names.topic(), names.topic()
    await log.ensure_topics([source, output], partitions=4)
    group = names.group()
    host = log.lanes(group=group, inputs=[source.name])
    async with running(host, Echo(output.name)):
        # Lanes open one by one: two of four are a share only once all four have been held.
        await wait_until_async(lambda: len(host.owned_partitions()) == 4, DEADLINE_S, "all lanes")
        with worker(embedded, group, source.name, output.name) as process:
            await wait_until_async(lambda: len(host.owned_partitions()) == 2, DEADLINE_S, "a share for the worker")
            await publish(log, source.name, numbered(2_000))
            await wait_for_values(log, output.name, 2_000)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, DEADLINE_S) == 0
        await wait_until_async(lambda: len(host.owned_partitions()) == 4, DEADLINE_S, "all lanes again")
    assert set(Counter(await values(log, output.name)).values()) == {1}


async def test_a_lane_of_an_older_epoch_commits_nothing(embedded: EmbeddedStore, names: Names) -> None:
    log = await embedded.log()
    source, output = names.topic(), names.topic()
    await log.ensure_topics([source, output], partitions=1)
    await publish(log, source.name, numbered(10))
    held = Held(output.name)
    group = names.group()
    host = log.lanes(group=group, inputs=[source.name])
    refused: list[LogError] = []

    async def watched(lane: Lane) -> None:
        try:
            await held(lane)
        except LogError as error:
            refused.append(error)
            raise

    async with running(host, watched):
        await wait_until_async(lambda: held.waiting, DEADLINE_S, "a batch in flight")
        file, inputs = host._file, host._inputs  # type: ignore[attr-defined]
        # Somebody opens the lane, and this host is not told.
        await file.write(
            lambda connection: embedded_file.take_over(connection, group=group, partition=0, inputs=inputs)
        )
        held.go.set()
        await wait_until_async(lambda: refused, DEADLINE_S, "the refusal")
        assert isinstance(refused[0], LaneFenced)
        await wait_for_values(log, output.name, 10)
    assert set(Counter(await values(log, output.name)).values()) == {1}


async def test_a_file_that_stays_busy_fails_the_commit_and_stalls_nothing_else(
    embedded: EmbeddedStore, names: Names
) -> None:
    log = await embedded.log(outage_timeout_ms=600)
    source, output = names.topic(), names.topic()
    await log.ensure_topics([source, output], partitions=1)
    await publish(log, source.name, numbered(10))
    publisher = await log.publisher()
    blocker = sqlite3.connect(embedded.folder / embedded_file.FILE_NAME, isolation_level=None)
    failed: list[LogError] = []

    async def serve(lane: Lane) -> None:
        if failed:
            await Echo(output.name)(lane)
        polled = await lane.poll(max_records=10, max_wait_ms=10_000)
        lane.append(output.name, key=b"k", value=b"never", timestamp_ms=1)
        blocker.execute("BEGIN IMMEDIATE")
        try:
            # Reading goes on while writing waits.
            assert len(await values(log, source.name)) == 10
            with pytest.raises(LogUnavailable):
                await publisher.publish([NewRecord(source.name, b"k", b"v", 1)])
            await lane.commit({source.name: len(polled)})
        except CommitFailed as error:
            failed.append(error)
            raise
        finally:
            blocker.execute("ROLLBACK")

    async with running(log.lanes(group=names.group(), inputs=[source.name]), serve):
        found = await wait_for_values(log, output.name, 10)
    blocker.close()
    assert len(failed) == 1
    assert b"never" not in found


async def test_closing_does_not_wait_for_a_busy_file(embedded: EmbeddedStore, names: Names) -> None:
    log = await embedded.log(outage_timeout_ms=600_000)
    source = names.topic()
    await log.ensure_topics([source], partitions=1)
    blocker = sqlite3.connect(embedded.folder / embedded_file.FILE_NAME, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(log.ensure_topics([names.topic()], partitions=1))
    # Its very first step hands the work to the thread that writes.
    await asyncio.sleep(0)
    assert not (await asyncio.wait((writing,), timeout=0.3))[0], "the file is busy, so this has to wait"
    async with asyncio.timeout(DEADLINE_S):
        await log.close()
    with pytest.raises(LogUnavailable):
        await writing
    blocker.execute("ROLLBACK")
    blocker.close()


async def test_opening_waits_for_who_recovers_the_file_or_leaves_it(embedded: EmbeddedStore, names: Names) -> None:
    log = await embedded.log()
    topic = names.topic()
    await log.ensure_topics([topic], partitions=1)
    await log.close()
    blocker = sqlite3.connect(embedded.folder / embedded_file.FILE_NAME, isolation_level=None)
    blocker.execute("PRAGMA locking_mode = EXCLUSIVE")
    blocker.execute("BEGIN IMMEDIATE")
    opening = asyncio.create_task(embedded.log())
    patience_s = 3 * embedded_file.BUSY_ATTEMPT_S
    assert not (await asyncio.wait((opening,), timeout=patience_s))[0], "nobody can look into the file"
    blocker.close()
    async with asyncio.timeout(DEADLINE_S):
        again = await opening
    assert await again.partitions_of(topic.name) == 1


async def test_a_file_that_cannot_be_looked_into_wakes_readers_and_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY

    class Busy:
        def execute(self, _statement: str) -> None:
            raise error

    monkeypatch.setattr(embedded_file, "WATCH_INTERVAL_S", 0)
    woken = asyncio.Event()
    bell = embedded_file.Bell(Busy())  # type: ignore[arg-type]
    bell.listen(woken.set, [1])
    watching = asyncio.create_task(bell.watch())
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(3):
            woken.clear()
            await woken.wait()
    assert not watching.done()
    watching.cancel()


async def test_a_file_of_another_layout_is_refused(embedded: EmbeddedStore) -> None:
    await embedded.log()
    connection = sqlite3.connect(embedded.folder / embedded_file.FILE_NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LogError, match=r"layout 99.*data_dir"):
        await embedded.log()


async def test_retention_goes_by_storing_time_and_never_by_event_time(embedded: EmbeddedStore, names: Names) -> None:
    log = await embedded.log()
    topic = names.topic()
    await log.ensure_topics([topic], partitions=1)
    await publish(log, topic.name, numbered(10))
    now_ms = 1_800_000_000_000
    await log.apply_retention(now_ms=now_ms)  # type: ignore[attr-defined]
    await publish(log, topic.name, numbered(5))
    await log.apply_retention(now_ms=now_ms + 7 * DAY_MS - 1)  # type: ignore[attr-defined]
    assert len(await values(log, topic.name)) == 15, "the records are from 2023 by their own timestamps"
    await log.apply_retention(now_ms=now_ms + 7 * DAY_MS)  # type: ignore[attr-defined]
    assert [record.offset for record in (await contents(log, topic.name))[0]] == [10, 11, 12, 13, 14]


async def test_a_compacted_topic_keeps_values_for_ever_and_tombstones_for_a_day(
    embedded: EmbeddedStore, names: Names
) -> None:
    log = await embedded.log()
    source, state = names.topic(), names.topic(compacted=True)
    await log.ensure_topics([source, state], partitions=1)
    await publish(log, state.name, [(b"kept", b"1"), (b"gone", b"1"), (b"kept", b"2"), (b"gone", None)])
    found: list[list[tuple[bytes, bytes | None]]] = []

    async def look(lane: Lane) -> None:
        now_ms = 1_800_000_000_000
        for later_ms in (0, DAY_MS - 1, DAY_MS):
            await log.apply_retention(now_ms=now_ms + later_ms)  # type: ignore[attr-defined]
            found.append([(record.key, record.value) for record in await replayed(lane, state.name)])
        while True:
            await lane.poll(max_records=1, max_wait_ms=1_000)

    async with running(log.lanes(group=names.group(), inputs=[source.name]), look):
        await wait_until_async(lambda: len(found) == 3, DEADLINE_S, "three looks")
    assert found == [[(b"kept", b"2"), (b"gone", None)]] * 2 + [[(b"kept", b"2")]]


async def test_a_read_is_bounded_in_octets(embedded: EmbeddedStore, names: Names) -> None:
    log = await embedded.log()
    topic = names.topic(max_octets=8 * 1024 * 1024)
    await log.ensure_topics([topic], partitions=1)
    for _ in range(4):
        await publish(log, topic.name, [(b"k", bytes(3_000_000))])
    reader = await log.reader(topic.name)
    assert len((await reader.poll(max_records=1_000, max_wait_ms=0))[0]) == 2
    assert len((await reader.poll(max_records=1_000, max_wait_ms=0))[0]) == 2
    await reader.close()


async def test_a_cancelled_poll_loses_no_record(embedded: EmbeddedStore, names: Names) -> None:
    log = await embedded.log()
    topic = names.topic()
    await log.ensure_topics([topic], partitions=1)
    await publish(log, topic.name, numbered(10))
    reader = await log.reader(topic.name)
    polling = asyncio.create_task(reader.poll(max_records=10, max_wait_ms=1_000))
    # It has asked the thread that reads, and has not got its answer.
    await asyncio.sleep(0)
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    if polling.cancelled():
        assert reader.position(0) == 0
        assert len((await reader.poll(max_records=10, max_wait_ms=1_000))[0]) == 10
    await reader.close()
