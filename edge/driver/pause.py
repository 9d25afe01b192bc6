"""Where a question of many requests lets a scan that is due go first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_pause: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("pause", default=None)


async def pause() -> None:
    """Await this before each request of `Browsable.browse` and `Explains.explain`, and never within a `Session.read`.

    In a running gateway scans come first: it returns when none is due soon. In a command it returns at once.
    """
    if (wait := _pause.get()) is not None:
        await wait()


@contextmanager
def pausing(wait: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Within the block, and in this task alone, `pause` awaits this."""
    token = _pause.set(wait)
    try:
        yield
    finally:
        _pause.reset(token)
