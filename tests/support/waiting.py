"""Waiting in tests for what has no event of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

LIMIT_S = 20


async def until(condition: Callable[[], Any]) -> None:
    """Return once a condition holds; raises TimeoutError."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
