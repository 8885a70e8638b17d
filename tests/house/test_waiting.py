"""The waiting helper itself: it returns at once when it can, and says what it waited for when it cannot."""

import asyncio
import itertools

import pytest

from tests.waiting import wait_until, wait_until_async


def test_waiting_ends_as_soon_as_the_condition_holds() -> None:
    looks = itertools.count(1)
    wait_until(lambda: next(looks) == 3, deadline_s=30)
    assert next(looks) == 4


def test_waiting_in_vain_names_what_was_awaited() -> None:
    with pytest.raises(AssertionError, match="in vain for a broker"):
        wait_until(lambda: False, deadline_s=0.01, what="a broker")


async def test_waiting_lets_other_tasks_of_the_loop_run() -> None:
    done: list[str] = []

    async def other() -> None:
        done.append("ran")

    task = asyncio.create_task(other())
    await wait_until_async(lambda: done, deadline_s=30)
    await task
    assert done == ["ran"]


async def test_an_async_condition_is_awaited() -> None:
    looks = itertools.count(1)

    async def third_look() -> bool:
        return next(looks) == 3

    await wait_until_async(third_look, deadline_s=30)
    assert next(looks) == 4


async def test_async_waiting_in_vain_names_what_was_awaited() -> None:
    with pytest.raises(AssertionError, match="in vain for a lane"):
        await wait_until_async(lambda: False, deadline_s=0.01, what="a lane")
