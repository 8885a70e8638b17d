"""Around every request, in raw ASGI: metrics by route template, the correlator, a last catch without stack traces."""

import json
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.rating.metrics import RatingMetrics
from services.rating.routes.problems import error_body
from services.runtime.telemetry import events

CORRELATOR = "x-correlator"
_CORRELATOR_RULE = re.compile(r"[a-zA-Z0-9\-_:;./<>{}]{1,256}")
"""As in CAMARA Commonalities r3.4, XCorrelator."""

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

_events = events("rating.http")


class Measured:
    """Counts and times requests by method, route template and status class; an unknown path is `unmatched`."""

    def __init__(self, app: ASGIApp, metrics: RatingMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = ["5xx"]

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = f"{message['status'] // 100}xx"
            await send(message)

        started_s = time.perf_counter()
        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, watch)
            finally:
                self._count(scope, status[0], time.perf_counter() - started_s)

    def _count(self, scope: Scope, status: str, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = route_template(scope)
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.request_seconds.labels(method, route).observe(seconds)


def route_template(scope: Scope) -> str:
    """The template of the route that served the request: bounded, unlike paths."""
    route: Any = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return str(path) if path else "unmatched"


class Correlated:
    """Gives every answer an `x-correlator`: the caller's where it is well-formed, a new one where there is none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = [value for value in Headers(scope=scope).getlist(CORRELATOR) if value]
        refused = len(given) > 1 or any(not _CORRELATOR_RULE.fullmatch(value) for value in given)
        correlator = str(uuid.uuid4()) if refused or not given else given[0]
        scope["correlator"] = correlator

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[CORRELATOR] = correlator
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        if refused:
            # The value is not repeated: what could break a header or a log line goes nowhere.
            rule = f"header x-correlator must be given once and match {_CORRELATOR_RULE.pattern}; mend or omit it"
            await answer(add, scope, 400, "INVALID_ARGUMENT", rule)
        else:
            await self._app(scope, receive, add)


class Shielded:
    """Answers 500 for what nobody handled, tells the log with the correlator, and shows the caller nothing of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "\x00" in scope["path"]:
            await answer(send, scope, 400, "INVALID_ARGUMENT", "the path holds a NUL character; mend it")
            return
        started = [False]

        async def watch(message: Message) -> None:
            started[0] = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            correlator = scope.get("correlator")
            _events.error("request_failed", error, route=route_template(scope), correlator=correlator)
            if started[0]:
                raise
            message = f"this should not have happened; tell us the x-correlator {correlator}"
            await answer(send, scope, 500, "INTERNAL", message)


async def answer(send: Send, scope: Scope, status: int, code: str, message: str) -> None:
    """An error answer from outside the framework."""
    body = json.dumps(error_body(scope["path"], status, code, message)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
