"""The servers for development and tests: they start, they stop, they outlive nobody, and their absence is no secret."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from deploy.dev import kafka as dev_kafka
from deploy.dev.postgres import DevPostgres
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]

ONE_TEST_EACH = """
import pytest

@pytest.mark.kafka
def test_with_kafka(): ...

@pytest.mark.postgres
def test_with_postgres(): ...

def test_with_nothing(): ...
"""


@pytest.fixture
def foreground() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "deploy.dev.kafka", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield process
        process.kill()


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "deploy.dev.kafka", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: port {port} cannot be listened on (Address already in use); "
        "free it, or take another: make kafka ARGS='--port 0' finds a free one\n"
    )


def test_a_broker_setting_without_a_value_is_refused() -> None:
    command = [sys.executable, "-m", "deploy.dev.kafka", "--set", "log.dirs"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert "'log.dirs' is no NAME=VALUE" in done.stderr


def run_without_servers(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The suite's own conftest over three tests, on a machine that has neither Java nor PostgreSQL."""
    (folder / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (folder / "test_one.py").write_text(ONE_TEST_EACH)
    program = (
        "import sys, pytest; from pathlib import Path; from deploy.dev import postgres;"
        "postgres.DEBIAN_BINARIES = Path('/nowhere'); sys.exit(pytest.main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), str(folder)],
        env={"PATH": "/nowhere", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def bootstrap_of(process: subprocess.Popen[str]) -> tuple[str, int]:
    for line in process.stderr or ():
        if " serves at " in line:
            host, port = line.split(" serves at ")[1].split(";")[0].split(":")
            return host, int(port)
    raise AssertionError("the development Kafka ended without a word")


def answers(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
        return True
    return False


def test_without_servers_the_tests_are_skipped_and_the_summary_says_so(tmp_path: Path) -> None:
    done = run_without_servers(tmp_path)
    assert done.returncode == 0
    assert "1 passed, 2 skipped" in done.stdout
    assert "NOT TESTED on a real kafka (1 skipped): no Java 17 or newer" in done.stdout
    assert "NOT TESTED on a real postgres (1 skipped): no PostgreSQL server" in done.stdout


def test_without_servers_the_tests_fail_where_the_servers_are_required(tmp_path: Path) -> None:
    done = run_without_servers(tmp_path, SMARTPIPE_REQUIRE_KAFKA="1", SMARTPIPE_REQUIRE_POSTGRES="1")
    assert done.returncode == 1
    assert "1 passed, 2 errors" in done.stdout
    assert "SMARTPIPE_REQUIRE_KAFKA=1, but there is no Java 17 or newer" in done.stdout


def test_compose_starts_the_kafka_that_is_tested() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert services["kafka"]["image"] == f"apache/kafka:{dev_kafka.version()}"
    assert services["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert "healthcheck" in services["postgres"]


@pytest.mark.kafka
def test_the_foreground_kafka_serves_and_a_signal_stops_it_cleanly(foreground: subprocess.Popen[str]) -> None:
    address = bootstrap_of(foreground)
    assert answers(address)
    foreground.send_signal(signal.SIGTERM)
    assert foreground.wait(100) == 0
    assert not answers(address)


@pytest.mark.kafka
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with a killed parent")
def test_the_broker_does_not_outlive_a_killed_parent(foreground: subprocess.Popen[str]) -> None:
    address = bootstrap_of(foreground)
    os.kill(foreground.pid, signal.SIGKILL)
    wait_until(lambda: not answers(address), 100, "the broker to be gone")


@pytest.mark.postgres
def test_every_database_is_empty_and_its_own(postgres_server: DevPostgres) -> None:
    first, second = postgres_server.new_database(), postgres_server.new_database()
    assert first != second
    with psycopg.connect(first.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE t(x int)")
    with psycopg.connect(second.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    postgres_server.drop_database(first)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(first.replace("+psycopg", ""))


@pytest.mark.postgres
def test_a_test_gets_a_database_by_its_url(postgres_url: str) -> None:
    assert postgres_url.startswith("postgresql+psycopg://")
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
