"""How far a long job is, on standard error, so that nobody waits in front of a silent command."""

import sys
import time
from collections.abc import Callable

EVERY_S = 2.0
"""Seconds between two words about the same job; what is done sooner says nothing."""


def say(text: str) -> None:
    """Say on standard error what is going on."""
    print(f"smartpipe: {text}", file=sys.stderr, flush=True)


class Progress:
    """Tells how far a job is, at most every EVERY_S seconds."""

    def __init__(self, tell: Callable[[str], None] = say, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock_s = clock_s
        self._told_s = clock_s()

    def at(self, text: str) -> None:
        """The job has come so far."""
        now_s = self._clock_s()
        if now_s - self._told_s >= EVERY_S:
            self._told_s = now_s
            self._tell(text)
