"""What is open in this process: sockets and other descriptors, tasks; and what is asked of the network."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edge.testing.conformance.stand import PATIENCE_S

_DESCRIPTORS = 4096
_LOOK_AGAIN_S = 0.005


@dataclass(frozen=True, slots=True)
class Open:
    """Descriptors by device and inode, and tasks that are not done."""

    descriptors: frozenset[tuple[int, int]]
    tasks: frozenset[asyncio.Task[Any]]

    @classmethod
    def now(cls) -> Open:
        """What is open at this moment."""
        return cls(frozenset(_descriptors()), frozenset(asyncio.all_tasks()))

    def left(self, before: Open) -> list[str]:
        """What is open now and was not before, in words."""
        tasks = [f"task {task.get_name()} ({task.get_coro()})" for task in self.tasks - before.tasks]
        return tasks + [f"descriptor with inode {inode}" for _, inode in self.descriptors - before.descriptors]


async def wait_until_only(before: Open) -> None:
    """Wait until nothing more is open than before; what stays fails."""
    await wait_until_none(lambda: Open.now().left(before))


async def wait_until_none(left: Callable[[], list[str]]) -> None:
    """Wait until nothing is left of something that nobody tells; what stays fails."""
    end_s = asyncio.get_running_loop().time() + PATIENCE_S
    while still := left():
        assert asyncio.get_running_loop().time() < end_s, f"still open: {'; '.join(still)}"
        await asyncio.sleep(_LOOK_AGAIN_S)


def _descriptors() -> Iterator[tuple[int, int]]:
    for descriptor in range(_DESCRIPTORS):
        try:
            found = os.fstat(descriptor)
        except OSError:
            continue
        yield found.st_dev, found.st_ino


_heard: list[list[str]] = []
_is_hooked = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _heard and event.startswith("socket."):
        _heard[-1].append(f"{event}{arguments[1:]!r}")


@contextmanager
def network_asked() -> Iterator[list[str]]:
    """Everything that is asked of the network within the block, as audit events (PEP 578)."""
    global _is_hooked  # noqa: PLW0603 - a hook can never be taken away, so there is one for all
    if not _is_hooked:
        _is_hooked = True
        sys.addaudithook(_hear)
    _heard.append([])
    try:
        yield _heard[-1]
    finally:
        _heard.pop()
