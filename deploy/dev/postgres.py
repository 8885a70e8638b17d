"""A throwaway PostgreSQL for tests: initdb in a temporary folder, served on a unix socket only."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from deploy.dev.processes import DevServerError, Server, new_folder

DEBIAN_BINARIES = Path("/usr/lib/postgresql")
OWNER = "smartpipe"
START_DEADLINE_S = 180.0
STOP_DEADLINE_S = 10.0

_SPEED = {
    # The cluster is thrown away: nothing needs to survive a crash of the machine.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "50",
}


class DevPostgres:
    """One cluster; `new_database` gives as many empty databases as asked for."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._server: Server | None = None
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Make the cluster and wait until it serves. Raises DevServerError."""
        binaries = _binaries()
        if binaries is None:
            raise DevServerError("no PostgreSQL server (initdb, postgres) found; install it")
        folder = self._folder = new_folder("smartpipe-pg-")
        user = _unprivileged_user()
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        _run([binaries / "initdb", "-U", OWNER, "--auth=trust", "-E", "UTF8", "--no-sync", "-D", data], user=user)
        settings = [part for name, value in _SPEED.items() for part in ("-c", f"{name}={value}")]
        command = [str(binaries / "postgres"), "-D", str(data), "-k", str(folder), *settings]
        # SIGINT is the fast shutdown: it does not wait for clients.
        self._server = Server(command, output=folder / "server.log", stop_signal=signal.SIGINT, user=user)
        self._server.wait_until(self._serves, deadline_s=START_DEADLINE_S, what="the throwaway PostgreSQL")

    def stop(self) -> None:
        """Stop it; the data is thrown away when this process ends."""
        if self._server is not None:
            self._server.stop(deadline_s=STOP_DEADLINE_S)
            self._server = None

    def new_database(self) -> str:
        """The SQLAlchemy URL of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        self._run_sql(f"CREATE DATABASE {name} TEMPLATE template0")
        return self._url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database that `new_database` made, whoever is connected to it."""
        name = url.partition("@/")[2].partition("?")[0]
        self._run_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://{OWNER}@/{name}?host={self._folder}"

    def _serves(self) -> bool:
        import psycopg  # noqa: PLC0415 - only who starts a server needs the driver

        try:
            self._run_sql("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _run_sql(self, statement: str) -> None:
        import psycopg  # noqa: PLC0415

        with psycopg.connect(host=str(self._folder), user=OWNER, dbname="postgres", autocommit=True) as connection:
            connection.execute(statement.encode())


def missing() -> str | None:
    """What this machine lacks for a throwaway PostgreSQL, in one sentence, or None."""
    if _binaries() is None:
        return f"no PostgreSQL server (initdb, postgres) on PATH or below {DEBIAN_BINARIES}"
    if os.geteuid() == 0 and _unprivileged_user() is None:
        return "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as"
    return None


def _binaries() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    # The newest version first; folder names are 15, 16, 17 ...
    places += sorted(DEBIAN_BINARIES.glob("*/bin"), key=lambda place: int(place.parent.name), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


def _unprivileged_user() -> str | None:
    """Whom to run the server as when this process is root; None = as we are."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


def _run(command: list[str | Path], *, user: str | None) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        [str(part) for part in command], user=user, capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode != 0:
        raise DevServerError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
