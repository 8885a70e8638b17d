"""The commands as people type them: the demo, the reconciliation, traffic through a pipe, help."""

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from schemas.classification import Classification
from services.cli.demo import INTERRUPTED
from services.cli.main import app
from services.runtime.settings import PREFIX
from tests.pipeline.stages import Where, playing, subscribe, traffic

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 280.0
LINES = 300


def smartpipe(*arguments: str, feed: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the command with default settings; never raises for its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "services.cli.main", *arguments],
        input=feed, capture_output=True, check=False, timeout=DEADLINE_S, cwd=ROOT, env=environment(),
    )  # fmt: skip


def environment() -> dict[str, str]:
    """This process's environment without any setting of the product."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def test_the_demo_ends_well_and_shows_that_its_books_are_right() -> None:
    done = smartpipe("demo", "--subscribers", "50", "--records", "2000")
    shown = done.stdout.decode()
    assert done.returncode == 0, shown + done.stderr.decode()
    assert "killed while it decides" in shown
    assert "takes over from the last commit" in shown
    assert "Reconciliation clean" in shown
    assert "2 000 flow records" in shown


@pytest.mark.parametrize("serving", [False, True], ids=["SIGTERM in the middle", "Ctrl-C while it serves"])
def test_the_demo_can_be_ended_at_any_time_and_leaves_nothing_behind(tmp_path: Path, serving: bool) -> None:
    name, moment, options = (
        (signal.SIGINT, "traffic keeps flowing", ["--serve"]) if serving else (signal.SIGTERM, "takes over", [])
    )
    demo = subprocess.Popen(
        [sys.executable, "-m", "services.cli.main", "demo", "--subscribers", "50", "--records", "2000", *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, start_new_session=True,
        env={**environment(), "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    with demo:
        try:
            before = read_until(demo, moment)
            # As a terminal does: every process of its group is told, not the first one alone.
            os.killpg(demo.pid, name)
            after, _ = demo.communicate(timeout=DEADLINE_S)
        finally:
            demo.kill()
    assert demo.returncode == (0 if serving else INTERRUPTED), before + after
    assert ("Reconciliation clean" if serving else "interrupted: everything is stopped") in after
    assert "Traceback" not in after
    assert list(tmp_path.iterdir()) == []
    assert not [pid for pid in re.findall(r"worker (\d+) takes over", before + after) if Path("/proc", pid).exists()]


def read_until(process: subprocess.Popen[str], moment: str) -> str:
    """What the process says up to the line that tells of `moment`."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if moment in line:
            return said
    raise AssertionError(f"the demo ended before {moment!r}:\n{said}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which a run has ended in good order."""
    folder = tmp_path_factory.mktemp("finished")
    asyncio.run(run_a_stage(folder))
    return folder


async def run_a_stage(folder: Path) -> None:
    async with playing(Where(), folder) as stage:
        await subscribe(stage)
        await stage.publish(traffic(500, seed=1))
        await stage.until_decided()
        assert (await stage.survey()).report.ok


def verify(folder: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and report of the reconciliation over a data folder."""
    done = smartpipe("verify", "--json", "--strict", "--data-dir", str(folder))
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def test_the_reconciliation_of_a_finished_run_is_clean_and_readable_by_machines(finished: Path) -> None:
    code, report = verify(finished)
    assert (code, report["ok"]) == (0, True)
    assert report["counts"]["flows"] == 500
    assert {check["status"] for check in report["checks"]} <= {"ok", "skipped"}


PLANTED = {
    "a row of the ledger is gone": (
        "ledger", "DELETE FROM usage WHERE usage_id = (SELECT min(usage_id) FROM usage WHERE kind = 'usage')",
        "ledger_holds_usage_once",
    ),
    "a balance was touched": (
        "ledger", "UPDATE buckets SET remaining = remaining + 1 WHERE rowid = (SELECT min(rowid) FROM buckets)",
        "ledger_balances",
    ),
    "a decision is gone": (
        "log", "DELETE FROM record WHERE id = (SELECT min(record.id) FROM record JOIN topic"
        " ON record.id >> 50 = topic.id WHERE name = 'ott.decisions.v1')",
        "flows_accounted",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_violation_makes_the_reconciliation_fail(finished: Path, tmp_path: Path, case: str) -> None:
    database, statement, check = PLANTED[case]
    for file in finished.glob("*.sqlite3*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with sqlite3.connect(tmp_path / f"{database}.sqlite3") as connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()
    code, report = verify(tmp_path)
    assert code == 1
    assert check in {item["name"] for item in report["checks"] if item["status"] == "violated"}


def test_generated_flows_are_classified_line_by_line_through_a_pipe() -> None:
    made = smartpipe("flows", "generate", "--records", str(LINES), "--seed", "3")
    assert made.returncode == 0, made.stderr.decode()
    lines = made.stdout.splitlines()
    broken = [*lines[:10], b"{", *lines[10:]]
    done = smartpipe("classify", "-", feed=b"\n".join(broken) + b"\n")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == LINES
    assert len(answers) == len(broken)
    assert list(answers[10]) == ["error"]
    assert done.returncode == 1
    whole = smartpipe("classify", "-", feed=made.stdout)
    assert whole.returncode == 0
    assert whole.stdout.splitlines() == done.stdout.splitlines()[:10] + done.stdout.splitlines()[11:]
    assert set(Classification.__struct_fields__) == set(answers[0])


def commands(group: Any, *path: str) -> list[tuple[str, ...]]:
    """Every command and sub-command, as it is typed."""
    found = [path]
    for name, command in sorted(getattr(group, "commands", {}).items()):
        found += commands(command, *path, name)
    return found


@pytest.mark.parametrize("path", commands(typer.main.get_command(app)), ids=" ".join)
def test_every_command_helps_whoever_asks(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--help"])
    assert done.exit_code == 0, done.output
    assert "Usage:" in done.output


def test_the_command_itself_helps_with_nothing_on_its_error_output() -> None:
    done = smartpipe("--help")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"demo" in done.stdout
