"""Long work: a line on the terminal that says how far it is, and a sentence that says how far it was at Ctrl-C.

The line is on standard error, replaces itself, and is there only where that is a terminal. It is never wider than that:
what is wrapped cannot be replaced.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from edge.cli.output import Stopped
from edge.terminal import printable, shorten

_AGE_SHOWN_S = 2.0


class Progress:
    """How far some work is, while its block is open; Ctrl-C then raises Stopped.

    An event loop is run inside the block: Ctrl-C first ends its tasks, which close their sessions.

    Attributes:
        done: how many of its units are done.
    """

    def __init__(self, work: str, unit: str, total: int | None = None) -> None:
        """`work` and `unit` name it, such as "plc-4" and "tags"."""
        self._work, self._unit, self._total = work, unit, total
        self.done = 0
        self._began_s = time.monotonic()
        self._is_terminal = sys.stderr.isatty()

    @property
    def how_far(self) -> str:
        """Such as "3 of 16 hosts"."""
        return f"{self.done:,}{'' if self._total is None else f' of {self._total:,}'} {self._unit}"

    def say(self, detail: str = "") -> None:
        """Show how far it is, and what is under way."""
        if self._is_terminal:
            age_s = time.monotonic() - self._began_s
            age = f", {age_s:.0f} s" if age_s >= _AGE_SHOWN_S else ""
            self._write(f"{self._work}: {self.how_far}{age}" + (f": {detail}" if detail else ""))

    def clear(self) -> None:
        """Remove the line, before something else is printed."""
        if self._is_terminal:
            self._write("")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
        if kind is KeyboardInterrupt:
            raise Stopped(f"{self._work}: stopped with Ctrl-C after {self.how_far}") from None

    @staticmethod
    def _write(text: str) -> None:
        columns = 80
        with suppress(OSError):
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or columns
        sys.stderr.write(f"\r\x1b[K{shorten(printable(text), columns - 1)}")
        sys.stderr.flush()


@contextmanager
def unless_stopped(then: str) -> Iterator[None]:
    """Add to the sentence of Ctrl-C what it means here: "nothing was written"."""
    try:
        yield
    except Stopped as stopped:
        raise Stopped(f"{stopped.message}; {then}") from None
