"""Real servers for the tests that need them: one Kafka and one PostgreSQL per session, started at first use.

Where they cannot be started, the tests marked `kafka` or `postgres` are skipped and the summary says so; with
SMARTPIPE_REQUIRE_KAFKA=1 or SMARTPIPE_REQUIRE_POSTGRES=1 they fail instead.
"""

import os
from collections import Counter
from collections.abc import Iterator

import hypothesis
import pytest

from deploy.dev import kafka as dev_kafka
from deploy.dev import postgres as dev_postgres
from deploy.dev.kafka import DevKafka
from deploy.dev.postgres import DevPostgres

# How long examples take to make or to run says more about the machine than about the code.
hypothesis.settings.register_profile(
    "smartpipe", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
# What decides about a change tries the same examples each time, so that what is refused is the change and not its luck;
# every other run looks for new ones.
hypothesis.settings.register_profile(
    "gate", hypothesis.settings.get_profile("smartpipe"), derandomize=True, database=None
)
hypothesis.settings.load_profile("smartpipe")

SERVERS = {
    "kafka": ("SMARTPIPE_REQUIRE_KAFKA", dev_kafka.missing),
    "postgres": ("SMARTPIPE_REQUIRE_POSTGRES", dev_postgres.missing),
}

_SKIPPED = pytest.StashKey[Counter[str]]()
_LACKS = pytest.StashKey[dict[str, str | None]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SKIPPED] = Counter()
    config.stash[_LACKS] = {}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for server, (variable, missing) in SERVERS.items():
        if item.get_closest_marker(server) is None:
            continue
        lacks = item.config.stash[_LACKS]
        if server not in lacks:
            lacks[server] = missing()
        lack = lacks[server]
        if lack is None:
            continue
        if os.environ.get(variable) == "1":
            pytest.fail(f"{variable}=1, but there is {lack}", pytrace=False)
        item.config.stash[_SKIPPED][server] += 1
        pytest.skip(f"needs {server}: {lack}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for server, count in config.stash[_SKIPPED].items():
        lack, variable = config.stash[_LACKS][server], SERVERS[server][0]
        terminalreporter.write_line(
            f"NOT TESTED on a real {server} ({count} skipped): {lack}; {variable}=1 makes this a failure.",
            yellow=True,
            bold=True,
        )


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[DevKafka]:
    """The session's broker. A test that stops it starts it again."""
    properties = {
        # Compaction looks often and rebalances need no long sessions, so that the tests need not wait.
        "log.cleaner.backoff.ms": "200",
        "group.min.session.timeout.ms": "1000",
        # Retention goes by the records' own timestamps, and those of a test may be years old: it never runs.
        "log.initial.task.delay.ms": "86400000",
    }
    broker = DevKafka(properties=properties)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def kafka(kafka_broker: DevKafka) -> str:
    """Bootstrap address of the session's Kafka. Tests use topics and groups of their own."""
    return kafka_broker.bootstrap


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[DevPostgres]:
    """The session's PostgreSQL: `new_database()` gives the URL of an empty database."""
    server = DevPostgres()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: DevPostgres) -> Iterator[str]:
    """SQLAlchemy URL of a database that this test has for itself."""
    url = postgres_server.new_database()
    yield url
    postgres_server.drop_database(url)
