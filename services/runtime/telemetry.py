"""Telemetry: log events on standard error, and the operations port (metrics, health) of every service.

An event is a name and fields, not narration: `events("rating.ledger").info("booked", rows=12, partition=3)`.
Ids belong into fields, never into metric labels.
"""

import asyncio
import contextlib
import datetime
import inspect
import json
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple, TextIO

import uvicorn
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, make_asgi_app

from services.runtime.settings import Settings

CHECK_TIMEOUT_S = 5.0
"""A health check that takes longer counts as failed."""

GRACEFUL_TIMEOUT_S = 4
"""How long a stopping server waits for requests in flight; part of the ten seconds that a service has."""

_NOISY_LIBRARIES = ("uvicorn", "aiokafka", "alembic", "asyncio", "sqlalchemy", "httpx", "httpcore")


class Health(NamedTuple):
    """What one check found: whether it is well, and one line for the person who is called at night."""

    ok: bool
    detail: str = ""


Checks = Callable[[], Mapping[str, Health] | Awaitable[Mapping[str, Health]]]
"""Given by a service, plain or async: check name -> Health. It must not block the event loop."""


class Events:
    """Writes log events of one component. Field names are free, apart from `at`, `level`, `component` and `event`."""

    def __init__(self, component: str) -> None:
        self._logger = logging.getLogger(component)

    def debug(self, event: str, /, **fields: object) -> None:
        """For a developer at work."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """For the record: something changed as it should."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Something was refused or is being retried; the service still does its work."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, error: BaseException | None = None, **fields: object) -> None:
        """Something stops. A given exception is written with its traceback."""
        self._write(logging.ERROR, event, fields, error)

    def _write(self, level: int, event: str, fields: Mapping[str, object], error: BaseException | None = None) -> None:
        self._logger.log(level, "%s", event, extra={"fields": fields}, exc_info=error)


def events(component: str) -> Events:
    """The event log of `component`, a dotted name such as `rating.ledger`."""
    return Events(component)


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send every log event to `stream` (standard error by default) in the shape and level of the settings.

    Libraries speak from `warning` up unless the level is `debug`. Calling it again replaces the former set-up.
    """
    handler = _Handler(stream if stream is not None else sys.stderr)
    handler.setFormatter(_JsonFormatter() if settings.log_format == "json" else _TextFormatter())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    root = logging.getLogger()
    for former in [item for item in root.handlers if isinstance(item, _Handler)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _NOISY_LIBRARIES:
        logging.getLogger(name).setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
    logging.captureWarnings(True)


Registry = CollectorRegistry
"""What a service registers its metrics with; its home is here, so that services need not know the library."""


def new_registry() -> Registry:
    """A registry of its own for one service, with the metrics of process, platform and garbage collector."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class Download(NamedTuple):
    """Something that the operations port serves beside metrics and health."""

    content_type: str
    make: Callable[[], bytes]
    """Makes the body, in the event loop, whenever it is asked for."""


class OpsApp:
    """The raw ASGI application of the operations port.

    `/metrics` serves the registry; `/healthz/live` and `/healthz/ready` run their checks and answer 200 or 503 with
    `{"status": "ok" | "failed", "checks": {name: {"ok": ..., "detail": ...}}}`. That `/healthz/live` answers at all
    proves that the service's event loop turns, since it is served from there. `downloads` are further paths.
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry,
        ready: Checks,
        live: Checks | None = None,
        downloads: Mapping[str, Download] | None = None,
    ) -> None:
        self._metrics = make_asgi_app(registry)
        self._downloads = dict(downloads or {})
        self._checks: Mapping[str, Checks] = {"/healthz/live": live or _nothing_more, "/healthz/ready": ready}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, as ASGI has it."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        if scope["method"] not in {"GET", "HEAD"}:
            await _answer(send, scope, 405, {"status": "failed", "detail": "only GET and HEAD are served here"})
        elif path == "/metrics":
            await self._metrics(scope, receive, send)
        elif path in self._checks:
            found = await run_checks(self._checks[path])
            await _answer(send, scope, 200 if all(health.ok for health in found.values()) else 503, as_report(found))
        elif path in self._downloads:
            download = self._downloads[path]
            await _answer_octets(send, scope, 200, download.content_type.encode(), download.make())
        else:
            known = ", ".join(["/metrics", *self._checks, *self._downloads])
            await _answer(send, scope, 404, {"status": "failed", "detail": f"no such path; served here: {known}"})


async def run_checks(checks: Checks) -> Mapping[str, Health]:
    """What the checks found; checks that raise or outlast CHECK_TIMEOUT_S are a failed check themselves."""
    try:
        found = checks()
        if inspect.isawaitable(found):
            return await asyncio.wait_for(found, CHECK_TIMEOUT_S)
        return found
    except TimeoutError:
        return {"checks": Health(ok=False, detail=f"no answer within {CHECK_TIMEOUT_S:g} s")}
    except Exception as error:  # a probe must get its 503, whatever broke; the cause goes to the log
        events("runtime.health").error("check_failed", error)
        return {"checks": Health(ok=False, detail=f"{type(error).__name__}; see the log")}


def as_report(found: Mapping[str, Health]) -> dict[str, object]:
    """The JSON body of a health answer."""
    return {
        "status": "ok" if all(health.ok for health in found.values()) else "failed",
        "checks": {name: health._asdict() for name, health in found.items()},
    }


class HttpServer:
    """A running uvicorn inside this event loop; made by `serve_http`, ended by `stop`."""

    def __init__(self, server: "_Server", task: asyncio.Task[None], port: int) -> None:
        self._server = server
        self.task = task
        """Ends when the server ends; a service watches it, since a server that ended by itself is a crash."""
        self.port = port
        """The port it listens on, also when 0 was asked for."""

    async def stop(self) -> None:
        """Take no more connections, let requests in flight end within GRACEFUL_TIMEOUT_S, close."""
        self._server.should_exit = True
        await self.task


async def serve_http(app: Any, *, host: str, port: int, name: str, limit_concurrency: int | None = None) -> HttpServer:
    """Serve the ASGI application `app` from the running event loop; returns once it listens.

    `name` is what the port is called in messages. Signals are left to the caller.
    Raises OSError, naming address, port and next step, when the port cannot be had.
    """
    listening = _listen(host, port, name)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACEFUL_TIMEOUT_S,
        limit_concurrency=limit_concurrency,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]), name=f"http:{name}")
    up = asyncio.create_task(server.up.wait())
    await asyncio.wait({task, up}, return_when=asyncio.FIRST_COMPLETED)
    up.cancel()
    if task.done():
        listening.close()
        await task
        raise RuntimeError(f"the {name} server ended while it was starting; see the log")
    return HttpServer(server, task, listening.getsockname()[1])


async def serve_ops(app: OpsApp, host: str, port: int) -> HttpServer:
    """Serve the operations port; `.port` tells a free one that was chosen, `.stop()` ends it."""
    return await serve_http(app, host=host, port=port, name="operations")


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to the service and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


def _listen(host: str, port: int, name: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OSError(f"the {name} port cannot listen on {host!r}: {error}; give an address of this machine") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise OSError(
            f"the {name} port cannot listen on {host}:{port}: {error}; free it, or set another port (0 = a free one)"
        ) from None
    return listening


async def _answer(send: Any, scope: Any, status: int, body: Mapping[str, object]) -> None:
    await _answer_octets(send, scope, status, b"application/json", json.dumps(body).encode())


async def _answer_octets(send: Any, scope: Any, status: int, content_type: bytes, data: bytes) -> None:
    headers = [
        (b"content-type", content_type),
        (b"content-length", str(len(data)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else data})


def _nothing_more() -> Mapping[str, Health]:
    return {"event_loop": Health(ok=True)}


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that a second set-up finds and replaces it."""


def _timestamp(record: logging.LogRecord) -> str:
    at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            **getattr(record, "fields", {}),
            "at": _timestamp(record),
            "level": record.levelname.lower(),
            "component": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _TextFormatter(logging.Formatter):
    """`<time> <level> <component> <event> name=value ...`; a value that could break the line is quoted."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [_timestamp(record), record.levelname.lower(), record.name, _plain(record.getMessage(), spaces=True)]
        parts += [f"{name}={_plain(str(value))}" for name, value in getattr(record, "fields", {}).items()]
        line = " ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _plain(text: str, *, spaces: bool = False) -> str:
    breaking = not text.isprintable() or (not spaces and (not text or " " in text or '"' in text))
    return json.dumps(text, ensure_ascii=False) if breaking else text
