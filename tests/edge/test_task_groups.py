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
