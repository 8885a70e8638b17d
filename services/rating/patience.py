"""Outages are waited out: retried with jitter for as long as the settings allow, then said aloud. Bugs are not."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.rating.database import DatabaseDown
from services.runtime.log import LogUnavailable
from services.runtime.settings import PREFIX
from services.runtime.telemetry import Events

T = TypeVar("T")

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
"""Pauses double from the first to the longest; each is drawn evenly between nothing and that."""


class OutageTooLong(Exception):  # noqa: N818 - a state of affairs
    """What was needed stayed away longer than the settings allow; the process has to stop and be restarted."""


class Stopping(Exception):  # noqa: N818 - a state of affairs
    """The service is being stopped while it was waiting for an outage to end."""


class Patience:
    """Retries what fails by an outage of the database or the log."""

    def __init__(self, *, outage_timeout_ms: int, stopping: asyncio.Event, log_events: Events) -> None:
        self._timeout_s = outage_timeout_ms / 1000
        self._stopping = stopping
        self._events = log_events
        self.outage: str | None = None
        """What is missing at present; None while all is well."""

    async def through(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The result of `attempt`, called until no outage stops it.

        Raises OutageTooLong, Stopping, and whatever else `attempt` raises, at once.
        """
        since_s: float | None = None
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                result = await attempt()
            except (DatabaseDown, LogUnavailable) as error:
                since_s = since_s or time.monotonic()
                self._note(error, time.monotonic() - since_s)
                await self.pause(random.uniform(0, pause_s))  # noqa: S311 - jitter, no secret
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            except Exception:
                # Another failure than an outage means that what was missing has answered.
                self._over(since_s)
                raise
            else:
                self._over(since_s)
                return result

    async def pause(self, seconds: float) -> None:
        """Wait that long. Raises Stopping as soon as the service is being stopped."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
        raise Stopping

    def _note(self, error: Exception, lasted_s: float) -> None:
        if self.outage is None:
            self._events.warning("outage", cause=type(error).__name__, detail=str(error))
        self.outage = f"{type(error).__name__}: {error}"
        if lasted_s > self._timeout_s:
            raise OutageTooLong(
                f"{self.outage}; waited {lasted_s:.0f} s, the limit of {PREFIX}OUTAGE_TIMEOUT_MS; mend it and restart"
            ) from error

    def _over(self, since_s: float | None) -> None:
        if since_s is not None:
            self._events.info("outage_over", lasted_s=round(time.monotonic() - since_s, 3))
            self.outage = None
