"""Child processes that a Ctrl-C on the terminal does not reach, and that end with this process."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from functools import partial
from typing import Any

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_END_S = 15.0


async def start_process(
    *command: str, at_end: signal.Signals = signal.SIGTERM, **options: Any
) -> asyncio.subprocess.Process:
    """Start a child in a session of its own; it gets the signal `at_end` when this process is gone, even by SIGKILL.

    A child that changes its user loses that: `setpriv --reuid USER --pdeathsig KILL` does both. With the option `user`
    it keeps it.
    """
    return await asyncio.create_subprocess_exec(
        *command, start_new_session=True, preexec_fn=partial(_end_with, os.getpid(), at_end), **options
    )


def _end_with(parent: int, at_end: signal.Signals) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, at_end)
    if os.getppid() != parent:  # It was gone before that.
        os._exit(1)


async def end_process(process: asyncio.subprocess.Process | None, by: signal.Signals = signal.SIGTERM) -> None:
    """End a process by a signal and wait for it; after 15 s it is killed."""
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(by)
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        kill_process(process)
        await process.wait()


def kill_process(process: asyncio.subprocess.Process | None, by: signal.Signals = signal.SIGKILL) -> None:
    """End a process at once, by a signal that does so."""
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(by)
