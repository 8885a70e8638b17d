"""The rating service: database, API, operations port, ledger, leases and outbox relay, wired in reading order."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Mapping
from typing import TypeVar

from schemas.topics import BY_NAME, CATALOGUE, COMMANDS, DEAD_LETTERS, LEASE_REQUESTS, USAGE
from services.rating.app import create_app
from services.rating.clock import Clock, wall_clock_ms
from services.rating.database import DatabaseDown, answers, migrate, open_database, schema_problem
from services.rating.leases import LeaseOwner
from services.rating.ledger import Ledger
from services.rating.metrics import RatingMetrics
from services.rating.outbox import OutboxRelay
from services.rating.patience import Patience, Stopping
from services.rating.refusals import Refusals
from services.runtime.log import Log
from services.runtime.settings import Settings
from services.runtime.tasks import first_of
from services.runtime.telemetry import Health, HttpServer, OpsApp, Registry, events, serve_http, serve_ops

STOP_TIMEOUT_S = 4.0
"""How long ledger and relay have to end their transaction; with the servers' own time it stays under ten seconds."""

SCHEMA_POLL_S = 1.0
"""How often a service that waits for its schema looks again."""

CONNECTION_LIMIT = 512
"""Most connections to the API at once; more are answered 503 at once instead of waiting."""

T = TypeVar("T")

_events = events("rating.service")


class RatingService:
    """Serves the API, books usage, publishes the outbox. Inert until `start`."""

    def __init__(self, settings: Settings, log: Log, registry: Registry, *, clock: Clock = wall_clock_ms) -> None:
        self._settings = settings
        self._log = log
        self._registry = registry
        self._metrics = RatingMetrics(registry)
        self._clock = clock
        self.engine = open_database(settings)
        """The service's own database, for what runs in the same process."""
        self._stopping = asyncio.Event()
        self._patience = Patience(
            outage_timeout_ms=settings.outage_timeout_ms, stopping=self._stopping, log_events=_events
        )
        parts = {"engine": self.engine, "log": log, "settings": settings, "metrics": self._metrics, "clock": clock}
        self.ledger = Ledger(**parts)  # type: ignore[arg-type]
        self._leases = LeaseOwner(**parts)  # type: ignore[arg-type]
        self._refusals = Refusals(engine=self.engine, log=log, settings=settings)
        self._relay = OutboxRelay(**parts)  # type: ignore[arg-type]
        self._schema: str | None = "not yet looked at"
        self._http: HttpServer | None = None
        self._ops: HttpServer | None = None
        self._work: asyncio.Task[None] | None = None

    @property
    def http_port(self) -> int:
        """Where the API is served; known after `start`."""
        return _started(self._http).port

    @property
    def ops_port(self) -> int:
        """Where metrics and health are served; known after `start`."""
        return _started(self._ops).port

    async def start(self) -> None:
        """Serve both ports, then begin to work: migrate an embedded database, reach the log, book, publish.

        Returns once the ports listen; readiness tells when the rest is there. Raises OSError for a taken port.
        """
        settings = self._settings
        ops_app = OpsApp(registry=self._registry, ready=self._ready)
        self._ops = await serve_ops(ops_app, settings.ops_host, settings.rating_ops_port)
        app = create_app(self.engine, metrics=self._metrics, ready=self._ready, clock=self._clock)
        self._http = await serve_http(
            app, host=settings.http_host, port=settings.http_port, name="API", limit_concurrency=CONNECTION_LIMIT
        )
        self._work = asyncio.create_task(self._run(), name="rating work")
        url = f"http://{settings.http_host}:{self.http_port}"
        _events.info("started", api=url, docs=f"{url}/docs", ops_port=self.ops_port)

    async def wait(self) -> None:
        """Return when a part of the service ends by itself; raises what ended it."""
        parts = [_started(self._work), _started(self._http).task, _started(self._ops).task]
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise RuntimeError(f"{', '.join(task.get_name() for task in done)} ended unasked")

    async def stop(self) -> None:
        """End transactions and requests in hand, close ports, log and database: within ten seconds."""
        self._stopping.set()
        self.ledger.stop()
        self._leases.stop()
        self._refusals.stop()
        self._relay.stop()
        if self._work is not None:
            _, late = await asyncio.wait({self._work}, timeout=STOP_TIMEOUT_S)
            if late:
                _events.warning("stopped_hard", detail=f"work did not end within {STOP_TIMEOUT_S:g} s")
                self._work.cancel()
            # What broke the work is told by `wait`; here it only has to be over.
            await asyncio.gather(self._work, return_exceptions=True)
        servers = [server for server in (self._http, self._ops) if server is not None]
        await asyncio.gather(*(server.stop() for server in servers), return_exceptions=True)
        await self._log.close()
        await asyncio.to_thread(self.engine.dispose)
        _events.info("stopped")

    async def run_until_signal(self) -> None:
        """Start, serve until SIGTERM or SIGINT, stop. Raises what broke the service, after stopping it."""
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        try:
            await self.start()
            await first_of(asked.wait(), self.wait())
        finally:
            await self.stop()

    async def _run(self) -> None:
        try:
            await self._do_work()
        except Exception as error:
            _events.error("work_failed", error)
            raise

    async def _do_work(self) -> None:
        with contextlib.suppress(Stopping):
            await self._prepare_schema()
            await self._patience.through(self._log.start)
            topics = [BY_NAME[name] for name in (COMMANDS, CATALOGUE, USAGE, LEASE_REQUESTS, DEAD_LETTERS)]
            await self._patience.through(lambda: self._log.ensure_topics(topics, partitions=self._settings.partitions))
            await _all(self.ledger.run(), self._leases.run(), self._refusals.run(), self._relay.run())

    async def _prepare_schema(self) -> None:
        """Migrate the embedded database; wait for the operator's migration of any other, red until it is there."""
        if not self._settings.database_url:
            await self._patience.through(lambda: asyncio.to_thread(migrate, self.engine))
        told = False
        while problem := await self._patience.through(lambda: asyncio.to_thread(schema_problem, self.engine)):
            self._schema = problem
            if not told:
                _events.warning("waiting_for_schema", detail=problem)
                told = True
            await self._patience.pause(SCHEMA_POLL_S)
        self._schema = None

    async def _ready(self) -> Mapping[str, Health]:
        working = self._work is not None and not self._work.done()
        return {
            "database": await asyncio.to_thread(self._database_health),
            "schema": Health(self._schema is None, self._schema or "at the newest revision"),
            "log": Health(self._patience.outage is None, self._patience.outage or "reachable"),
            "ledger": self.ledger.health() if working else Health(ok=False, detail="not running"),
            "leases": self._leases.health() if working else Health(ok=False, detail="not running"),
            "refusals": self._refusals.health() if working else Health(ok=False, detail="not running"),
            "outbox": self._relay.health() if working else Health(ok=False, detail="not running"),
        }

    def _database_health(self) -> Health:
        try:
            answers(self.engine)
        except DatabaseDown as error:
            self._metrics.database_up.set(0)
            return Health(ok=False, detail=str(error))
        self._metrics.database_up.set(1)
        return Health(ok=True, detail="answers")


async def _all(*works: Awaitable[None]) -> None:
    """Run all until one fails; the others are cancelled then, and the failure itself is raised, not a group."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _started(part: T | None) -> T:
    if part is None:
        raise RuntimeError("this is known after start()")
    return part
