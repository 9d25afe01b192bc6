"""How a process of the demonstration ends."""

from __future__ import annotations

import asyncio
import contextlib

_WITHIN_S = 15.0


async def end(process: asyncio.subprocess.Process | None) -> None:
    """Ask a process to end and wait for it; one that does not is ended."""
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_WITHIN_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
