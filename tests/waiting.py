"""Waiting in tests: for a condition, with a deadline. A bare sleep is either too long or too short.

The only file under tests/ that may sleep; tests/house/test_tidy.py refuses it anywhere else.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

STEP_S = 0.005
"""How long the condition rests between two looks at it."""


def wait_until(condition: Callable[[], object], deadline_s: float, what: str = "the condition") -> None:
    """Return as soon as `condition()` is true. Raises AssertionError, naming `what`, once `deadline_s` has passed.

    The condition is looked at once more at the deadline, so a slow machine is not punished for a late wake-up.
    """
    ends_at = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() >= ends_at:
            raise AssertionError(f"waited {deadline_s} s in vain for {what}")
        time.sleep(STEP_S)


async def wait_until_async(
    condition: Callable[[], object | Awaitable[object]], deadline_s: float, what: str = "the condition"
) -> None:
    """`wait_until` for coroutines: lets the event loop run between two looks; `condition` may be async itself."""
    ends_at = time.monotonic() + deadline_s
    while not await _value_of(condition):
        if time.monotonic() >= ends_at:
            raise AssertionError(f"waited {deadline_s} s in vain for {what}")
        await asyncio.sleep(STEP_S)


async def _value_of(condition: Callable[[], object | Awaitable[object]]) -> object:
    value = condition()
    return await value if inspect.isawaitable(value) else value
