"""The wall clock of the rating service, passed in wherever time matters, so that tests can set it."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Epoch milliseconds UTC."""


def wall_clock_ms() -> int:
    """Now."""
    return time.time_ns() // 1_000_000
