"""The rating database: opened, migrated, and told apart in its two kinds of trouble.

SQLite (one file, WAL) by default, PostgreSQL by URL. `writing` and `reading` are the only ways to a connection, so that
every outage surfaces as `DatabaseDown` and everything else as the bug that it is.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.rating.models import TextSum, add_texts
from services.runtime.file_lock import alone_at
from services.runtime.settings import PREFIX, Settings, SettingsError

__all__ = [
    "Collision",
    "Connection",
    "DatabaseDown",
    "Engine",
    "SchemaOutdated",
    "again_after_collision",
    "answers",
    "migrate",
    "open_database",
    "open_migrated",
    "outages",
    "reading",
    "schema_problem",
    "writing",
]

SQLITE_BUSY_TIMEOUT_S = 15
"""How long a writer waits for another one on SQLite."""

POOL_CONNECTIONS = 15
"""Most connections of one process; more callers wait POOL_TIMEOUT_S for one."""

POOL_TIMEOUT_S = 10

COLLISION_TRIES = 5

MIGRATION_LOCK = 0x534D_4152_5401
"""Key of the PostgreSQL advisory lock that lets one process at a time migrate."""

T = TypeVar("T")

_FOLDER = Path(__file__).parent / "migrations"


class SchemaOutdated(Exception):  # noqa: N818 - a state of affairs
    """The database does not have the tables that this version needs; the message says what to do."""


class DatabaseDown(Exception):  # noqa: N818 - a state of affairs
    """The database cannot be reached or is too busy; whether a commit that was under way got through is not known."""


class Collision(Exception):  # noqa: N818 - a state of affairs
    """Another transaction stored the same key first; done again, this one will find it there."""


def open_database(settings: Settings) -> Engine:
    """An engine for the ledger database of `settings`; touches nothing but the data folder.

    Raises SettingsError, naming it, for a URL that is neither SQLite nor PostgreSQL.
    """
    url = _url(settings)
    if url.startswith("sqlite"):
        engine = create_engine(
            url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_S, "check_same_thread": False}, **_pool_options()
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(
        url,
        connect_args={"connect_timeout": 5, "application_name": "smartpipe-rating"},
        pool_pre_ping=True,
        **_pool_options(),
    )


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision. Safe to call again, and from several processes at once."""
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        config = _alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def schema_problem(engine: Engine) -> str | None:
    """None when the schema is the one that this code needs, else one sentence with the next step."""
    with reading(engine) as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    wanted = ScriptDirectory.from_config(_alembic_config()).get_current_head()
    if found == wanted:
        return None
    return f"database schema is at revision {found or 'none'}, this version needs {wanted}; run `smartpipe migrate`"


def open_migrated(settings: Settings) -> Engine:
    """The database, for a command that works on its tables. Raises SchemaOutdated, DatabaseDown."""
    engine = open_database(settings)
    if (problem := schema_problem(engine)) is not None:
        raise SchemaOutdated(problem)
    return engine


def answers(engine: Engine) -> None:
    """Return if the database answers. Raises DatabaseDown."""
    with reading(engine) as connection:
        connection.execute(text("SELECT 1"))


def again_after_collision(work: Callable[[], T]) -> T:
    """The result of `work`, a whole transaction, done again when it collides with a rival's.

    Raises Collision once COLLISION_TRIES have failed: then it is no rival, but a rule of the schema, and a bug.
    """
    for _ in range(COLLISION_TRIES - 1):
        with contextlib.suppress(Collision):
            return work()
    return work()


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write: committed at the end, rolled back by any exception.

    Raises DatabaseDown, and Collision when another transaction stored the same key first.
    """
    with outages(), engine.connect().execution_options(smartpipe_write=True) as connection, connection.begin():
        yield connection


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A read-only view of one moment: all its statements see the same state. Raises DatabaseDown."""
    options: dict[str, Any] = (
        {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        if engine.dialect.name == "postgresql"
        else {}
    )
    with outages(), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextlib.contextmanager
def outages() -> Iterator[None]:
    """Turn whatever means that the database is away into DatabaseDown; bugs pass as they are."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise DatabaseDown(_first_line(error)) from error
    except IntegrityError as error:
        raise Collision(_first_line(error)) from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise DatabaseDown(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def _url(settings: Settings) -> str:
    if not settings.database_url:
        folder = Path(settings.data_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{folder / 'ledger.sqlite3'}"
    try:
        url = make_url(settings.database_url)
    except ArgumentError:
        raise SettingsError(f"{PREFIX}DATABASE_URL is not a URL; {_URL_RULE}") from None
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise SettingsError(f"{PREFIX}DATABASE_URL names SQLite without a file; {_URL_RULE}")
        return settings.database_url
    if url.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    raise SettingsError(f"{PREFIX}DATABASE_URL names {url.drivername!r}, which is not supported; {_URL_RULE}")


_URL_RULE = "write postgresql+psycopg://user:password@host/database, or leave it empty for SQLite"


def _pool_options() -> dict[str, Any]:
    return {"pool_size": 5, "max_overflow": POOL_CONNECTIONS - 5, "pool_timeout": POOL_TIMEOUT_S}


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config


def _prepare_sqlite(dbapi_connection: Any, _record: object) -> None:
    # Python's driver would begin transactions by itself, too late and in the wrong mode; _begin_sqlite does it.
    dbapi_connection.isolation_level = None
    dbapi_connection.create_aggregate("exact_sum", 1, TextSum)
    dbapi_connection.create_function("exact_add", 2, add_texts, deterministic=True)
    cursor = dbapi_connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    (_, _, file), *_ = cursor.execute("PRAGMA database_list").fetchall()
    # The change of the journal mode, which only the first connection makes, does not wait for a busy file.
    with alone_at(Path(f"{file}.create")):
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its lock at once: two readers that both turn into writers would fail instead of waiting.
    write = connection.get_execution_options().get("smartpipe_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
