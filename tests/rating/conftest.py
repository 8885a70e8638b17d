"""Every test of the rating service that takes `settings` or `engine` runs on SQLite and on a real PostgreSQL."""

import asyncio
import contextlib
import itertools
from pathlib import Path

import httpx
import pytest
from sqlalchemy import URL, create_engine, make_url, text

from services.rating import consumer
from services.rating.app import create_app
from services.rating.database import migrate, open_database
from services.rating.metrics import RatingMetrics
from services.runtime.settings import Settings
from services.runtime.telemetry import new_registry
from tests.rating.seeds import seed

_numbers = itertools.count()


@pytest.fixture
def quick_consumers(monkeypatch):
    """Consumers that wait for nothing long: neither for records nor for rivals."""
    monkeypatch.setattr(consumer, "POLL_WAIT_MS", 5)
    monkeypatch.setattr(consumer, "RIVAL_PAUSE_S", 0.01)


@pytest.fixture(scope="session")
def postgres_template(postgres_server):
    """URL of a migrated, empty database to copy from; copying is several times faster than migrating."""
    url = postgres_server.new_database()
    engine = open_database(Settings(database_url=url))
    migrate(engine)
    engine.dispose()
    return make_url(url)


DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@contextlib.contextmanager
def fresh_settings(kind: str, request, folder: Path):
    """Settings of a migrated, empty database of its own, with free ports."""
    ports = {"http_port": 0, "rating_ops_port": 0, "policy_ops_port": 0}
    if kind == "sqlite":
        made = Settings(data_dir=str(folder), **ports)
        engine = open_database(made)
        migrate(engine)
        engine.dispose()
        yield made
        return
    template = request.getfixturevalue("postgres_template")
    name = f"rating_{next(_numbers)}"
    _administrate(template, f"CREATE DATABASE {name} TEMPLATE {template.database}")
    yield Settings(data_dir=str(folder), database_url=_text(template.set(database=name)), **ports)
    _administrate(template, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=DATABASES)
def settings(request, tmp_path):
    """Settings of a migrated, empty database of its own, with free ports."""
    with fresh_settings(request.param, request, tmp_path) as made:
        yield made


@pytest.fixture
def engine(settings):
    """An engine on the migrated, empty database of `settings`."""
    made = open_database(settings)
    yield made
    made.dispose()


@pytest.fixture(scope="module", params=DATABASES)
def seeded(request, tmp_path_factory):
    """A client of a database with the small shop of `seeds`, shared by the tests of a module, which only read."""
    folder = tmp_path_factory.mktemp("seeded")
    with fresh_settings(request.param, request, folder) as made, asyncio.Runner() as runner:
        engine = open_database(made)
        seed(engine)
        yield _client(engine, runner)
        engine.dispose()


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _administrate(url: URL, statement: str) -> None:
    engine = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


NOW_MS = 1_790_000_060_000


class Client:
    """Calls the application in process; what a route raises becomes an answer, as for any caller."""

    def __init__(self, app, runner: asyncio.Runner, registry) -> None:
        self.registry = registry
        self._app = app
        self._runner = runner

    def request(self, method: str, path: str, **options) -> httpx.Response:
        return self._runner.run(self._request(method, path, **options))

    def get(self, path: str, **options) -> httpx.Response:
        return self.request("GET", path, **options)

    async def _request(self, method, path, **options):
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://rating") as made:
            return await made.request(method, path, **options)


@pytest.fixture
def client(engine):
    """A client of the application over `engine`, at a fixed time."""
    with asyncio.Runner() as runner:
        yield _client(engine, runner)


def _client(engine, runner):
    registry = new_registry()
    return Client(create_app(engine, metrics=RatingMetrics(registry), clock=lambda: NOW_MS), runner, registry)
