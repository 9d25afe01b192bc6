"""Waiting in tests for what has no event of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

LIMIT_S = 50


async def until(condition: Callable[[], Any]) -> None:
    """Return once a condition holds; raises TimeoutError."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def wait_until(condition: Callable[[], Any], limit_s: float = 120) -> None:
    """The same without an event loop, for what other processes do."""
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "it did not come"
        time.sleep(0.005)
