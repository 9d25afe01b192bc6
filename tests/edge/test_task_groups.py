from __future__ import annotations

import asyncio

import pytest

from edge.tasks import task_group


class Lost(Exception):
    pass


async def lose() -> None:
    await asyncio.sleep(0)
    raise Lost


async def test_a_group_that_ended_does_not_count_as_a_cancellation() -> None:
    """Python 3.11.2 would end a task at its next time limit, in silence: a device would never be read again."""
    task = asyncio.current_task()
    assert task is not None

    with pytest.raises(ExceptionGroup):
        async with task_group() as tasks:
            tasks.create_task(lose())

    assert task.cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_a_task_that_is_cancelled_while_it_waits_is_cancelled() -> None:
    async def wait() -> None:
        async with task_group() as tasks:
            tasks.create_task(asyncio.Event().wait())

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert waiting.cancelling() == 1


@pytest.mark.parametrize("is_first", [True, False], ids=["cancelled first", "lost first"])
async def test_a_cancellation_that_meets_an_error_is_not_lost(is_first: bool) -> None:
    """The connection of a device breaks just when the gateway stops."""
    fail = asyncio.Event()

    async def lose_when_told() -> None:
        try:
            await fail.wait()
        finally:
            raise Lost

    async def wait() -> None:
        async with task_group() as tasks:
            tasks.create_task(lose_when_told())

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0.01)
    if is_first:
        waiting.cancel()
    else:
        fail.set()
        await asyncio.sleep(0)
        waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_time_limit_that_meets_an_error_is_a_time_limit() -> None:
    async def lose_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise Lost

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), task_group() as tasks:
            tasks.create_task(lose_when_cancelled())


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    """As `asyncio.wait_for` of Python 3.11 does, when what it waits for is done in the same moment."""
    swallowed = 0

    async def swallow() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.Event().wait()

    async def wait() -> None:
        async with task_group(0.01) as tasks:
            tasks.create_task(swallow())
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert swallowed == 3
