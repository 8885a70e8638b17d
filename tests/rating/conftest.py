"""Every test of the rating service that takes `settings` or `engine` runs on SQLite and on a real PostgreSQL."""

import asyncio
import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, make_url, text

from services.rating.app import create_app
from services.rating.database import migrate, open_database
from services.rating.metrics import RatingMetrics
from services.runtime.settings import Settings
from services.runtime.telemetry import new_registry
from tests.rating.seeds import seed

_numbers = itertools.count()


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(path) for path in [shutil.which("initdb")] if path
    ]
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgres_url():
    """URL of the `postgres` database of a server that lives as long as the test session."""
    folder = _binaries()
    if folder is None:
        if os.environ.get("SMARTPIPE_REQUIRE_POSTGRES") == "1":
            pytest.fail("SMARTPIPE_REQUIRE_POSTGRES=1, but no PostgreSQL is installed")
        pytest.skip("no PostgreSQL is installed")
    home = Path(tempfile.mkdtemp(prefix="smartpipe-pg-"))
    as_user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    if as_user:
        shutil.chown(home, "postgres", "postgres")
    data = home / "data"
    run = functools.partial(subprocess.run, check=True, stdout=subprocess.DEVNULL, cwd=home, **as_user)
    run([folder / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"])
    options = f"-c listen_addresses='' -k {home} -c fsync=off -c max_connections=50"
    run([folder / "pg_ctl", "-D", data, "-w", "-o", options, "-l", home / "log", "start"])
    try:
        yield f"postgresql+psycopg://postgres@/postgres?host={home}"
    finally:
        run([folder / "pg_ctl", "-D", data, "-m", "immediate", "stop"])
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def postgres_template(postgres_url):
    """Name of a migrated database to copy from."""
    _administrate(postgres_url, "CREATE DATABASE migrated")
    engine = open_database(Settings(database_url=_named(postgres_url, "migrated")))
    migrate(engine)
    engine.dispose()
    return "migrated"


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
    url, template = request.getfixturevalue("postgres_url"), request.getfixturevalue("postgres_template")
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _administrate(url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield Settings(data_dir=str(folder), database_url=_named(url, name), **ports)
    _administrate(url, f"DROP DATABASE {name} WITH (FORCE)")


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
        yield Client(_app(engine), runner)
        engine.dispose()


def _named(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)


def _administrate(url: str, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


NOW_MS = 1_790_000_060_000


class Client:
    """Calls the application in process; what a route raises becomes an answer, as for any caller."""

    def __init__(self, app, runner: asyncio.Runner) -> None:
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
        yield Client(_app(engine), runner)


def _app(engine):
    return create_app(engine, metrics=RatingMetrics(new_registry()), clock=lambda: NOW_MS)
