"""The HTTP application of the rating service: routes, errors, middleware, wired in reading order."""

import functools
import importlib.metadata
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles

from services.rating.clock import Clock, wall_clock_ms
from services.rating.database import Engine
from services.rating.metrics import RatingMetrics
from services.rating.published import PublishedVersions
from services.rating.routes import balance, catalogue, classify, ott_policy, pages, problems, usage
from services.rating.routes.context import Context
from services.rating.routes.middleware import Correlated, Measured, Shielded
from services.runtime.telemetry import Checks, Health, new_registry

DESCRIPTION = """The catalogue, the balances and the ledger of the smart pipe.

TM Forum APIs under `/tmf-api` (v4), our own under `/ott-policy/v1` in CAMARA style. Money is a decimal string
everywhere, also where TM Forum types it as a number: a binary float would change it. Octets are numbers.
Balances and explanations name the time up to which they are booked (`bookedUntil`)."""


def create_app(
    engine: Engine,
    *,
    metrics: RatingMetrics | None = None,
    ready: Checks | None = None,
    clock: Clock = wall_clock_ms,
) -> FastAPI:
    """The application over the database `engine`. Inert: nothing is touched before the first request."""
    app = FastAPI(
        title="Smartpipe rating API",
        version=importlib.metadata.version("smartpipe"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.context = Context(engine, clock, PublishedVersions(), ready or _always_ready)
    for part in (catalogue, balance, usage, ott_policy, classify, pages):
        app.include_router(part.router)
    app.mount(pages.ASSETS_URL, StaticFiles(directory=pages.ASSETS), name="docs-assets")
    app.add_api_route("/", lambda: RedirectResponse("/docs"), include_in_schema=False)
    problems.add_handlers(app)
    app.openapi = functools.partial(_openapi, app, app.openapi)  # type: ignore[method-assign]
    # The last one added is the outermost.
    app.add_middleware(Shielded)
    app.add_middleware(Correlated)
    app.add_middleware(Measured, metrics=metrics or RatingMetrics(new_registry()))
    return app


def _openapi(app: FastAPI, generate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The document without the framework's 422: here a parameter that breaks a rule is a 400."""
    if app.openapi_schema is None:
        document = generate()
        for item in document["paths"].values():
            for operation in item.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema


def _always_ready() -> dict[str, Health]:
    return {}
