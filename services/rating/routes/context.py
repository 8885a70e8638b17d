"""What the routes work with, made once per application."""

import dataclasses
from typing import Annotated

from fastapi import Depends, Request

from services.rating.classification import Judges
from services.rating.clock import Clock
from services.rating.database import Engine
from services.rating.published import PublishedVersions
from services.runtime.telemetry import Checks


@dataclasses.dataclass(frozen=True)
class Context:
    """Database, clock, cache of catalogue versions, health, the classifier of the version in force."""

    engine: Engine
    clock: Clock
    published: PublishedVersions
    ready: Checks
    judges: Judges = dataclasses.field(default_factory=Judges)


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context)]
