"""The open resources of this process (descriptors and tasks), and its network operations."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edge.testing.conformance.stand import EVENT_TIMEOUT_S

_DESCRIPTORS = 4096
_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class OpenResources:
    """Open descriptors by device and inode, and unfinished tasks."""

    descriptors: frozenset[tuple[int, int]]
    tasks: frozenset[asyncio.Task[Any]]

    @classmethod
    def now(cls) -> OpenResources:
        """The resources that are open at present."""
        return cls(frozenset(_descriptors()), frozenset(asyncio.all_tasks()))

    def left(self, before: OpenResources) -> list[str]:
        """The resources that were opened since `before`, as text."""
        tasks = [f"task {task.get_name()} ({task.get_coro()})" for task in self.tasks - before.tasks]
        return tasks + [f"descriptor with inode {inode}" for _, inode in self.descriptors - before.descriptors]


async def wait_until_only(before: OpenResources) -> None:
    """Wait until everything opened since `before` is closed. Raises AssertionError after the timeout."""
    await wait_until_none(lambda: OpenResources.now().left(before))


async def wait_until_none(left: Callable[[], list[str]]) -> None:
    """Poll until the list is empty. Raises AssertionError after the timeout."""
    end_s = asyncio.get_running_loop().time() + EVENT_TIMEOUT_S
    while still := left():
        assert asyncio.get_running_loop().time() < end_s, f"still open: {'; '.join(still)}"
        await asyncio.sleep(_POLL_S)


def _descriptors() -> Iterator[tuple[int, int]]:
    for descriptor in range(_DESCRIPTORS):
        try:
            found = os.fstat(descriptor)
        except OSError:
            continue
        yield found.st_dev, found.st_ino


_recorders: list[list[str]] = []
_has_hook = False


def _record_event(event: str, arguments: tuple[Any, ...]) -> None:
    if _recorders and event.startswith("socket."):
        _recorders[-1].append(f"{event}{arguments[1:]!r}")


@contextmanager
def network_events() -> Iterator[list[str]]:
    """The network operations within the block, as audit events (PEP 578)."""
    global _has_hook  # noqa: PLW0603 - a hook cannot be removed, so there is one for all
    if not _has_hook:
        _has_hook = True
        sys.addaudithook(_record_event)
    _recorders.append([])
    try:
        yield _recorders[-1]
    finally:
        _recorders.pop()
