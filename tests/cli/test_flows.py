"""`smartpipe flows`: traffic made where the operator's network is, and published from plain and packed files."""

import asyncio
import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from schemas import topics
from services.cli.flows import app
from services.cli.progress import EVERY_S, Progress
from services.runtime.open_log import open_log
from services.runtime.settings import Settings
from tests.policy.records import flow_value


def generated(*arguments: str) -> list[dict[str, object]]:
    result = CliRunner().invoke(app, ["generate", "--records", "40", "--start-ms", "1790000000000", *arguments])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_traffic_can_be_made_in_the_operators_own_network() -> None:
    made = generated("--home-plmn", "26201", "--roaming-plmn", "22201")
    assert {flow["serving_plmn"] for flow in made} <= {"26201", "22201"}
    assert [flow | {"serving_plmn": ""} for flow in made] == [flow | {"serving_plmn": ""} for flow in generated()]


@pytest.mark.parametrize("plmn", ["262", "2620100", "Germany"])
def test_a_network_that_is_none_is_refused_with_the_option_and_the_rule(plmn: str) -> None:
    result = CliRunner().invoke(app, ["generate", "--home-plmn", plmn])
    assert result.exit_code == 2
    assert "--home-plmn" in result.output
    assert "such as 26201" in result.output


async def _held(folder: Path) -> int:
    log = open_log(Settings(data_dir=str(folder)))
    await log.start()
    try:
        reader = await log.reader(topics.FLOWS)
        ends = await reader.end_offsets()
        await reader.close()
        return sum(ends.values())
    finally:
        await log.close()


def test_a_file_in_gzip_is_published_like_a_plain_one(tmp_path: Path) -> None:
    lines = b"\n\n".join(flow_value(record_id=f"r{number}") for number in range(3))
    packed = tmp_path / "flows.jsonl.gz"
    packed.write_bytes(gzip.compress(lines))
    result = CliRunner().invoke(app, ["publish", str(packed), "--data-dir", str(tmp_path / "log")])
    assert result.exit_code == 0, result.output
    assert "published 3 flow records" in result.stdout
    assert asyncio.run(_held(tmp_path / "log")) == 3


def test_a_broken_file_in_gzip_is_named(tmp_path: Path) -> None:
    packed = tmp_path / "flows.jsonl.gz"
    packed.write_bytes(gzip.compress(flow_value() * 1_000)[:-20])
    result = CliRunner().invoke(app, ["publish", str(packed), "--data-dir", str(tmp_path / "log")])
    assert isinstance(result.exception, OSError)
    assert "is compressed by gzip and broken" in str(result.exception)


def test_a_long_job_says_how_far_it_is_and_not_more_often_than_anybody_reads() -> None:
    said: list[str] = []
    now_s = [100.0]
    progress = Progress(said.append, clock_s=lambda: now_s[0])
    for step in range(9):
        progress.at(f"{step} done")
        now_s[0] += EVERY_S / 2
    assert said == ["2 done", "4 done", "6 done", "8 done"]
