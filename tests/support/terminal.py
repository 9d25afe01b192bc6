"""A command of ours as the only program of a real terminal: what it writes, and keys that are pressed."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

LIMIT_S = 60.0  # Without a byte.
_CONTROL = re.compile(rb"\x1b\[[0-9;?<>=$]*[ -/]*[@-~]")


class Terminal:
    """Runs `tidegate` with these arguments in a pseudo-terminal while its block is open.

    Attributes:
        written: every byte that it wrote.
    """

    def __init__(
        self, *arguments: str, columns: int = 80, rows: int = 24, environment: Mapping[str, str] | None = None
    ) -> None:
        self.written = bytearray()
        self._ours, self._theirs = os.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.modes_before = self.modes()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli", *arguments],
            stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **(environment or {})},
        )  # fmt: skip

    def modes(self) -> list[Any]:
        """How the terminal treats what is typed: its flags and characters."""
        return termios.tcgetattr(self._theirs)

    def press(self, keys: bytes) -> None:
        """As a person would."""
        os.write(self._ours, keys)

    def read_until(self, condition: Callable[[], Any], what: str) -> None:
        """Take what is written until a condition holds."""
        while not condition():
            said = f"waited in vain for {what}: {bytes(self.written[-3000:])!r}"
            assert self.process.poll() is None, said
            assert select.select([self._ours], [], [], LIMIT_S)[0], said
            self.written += os.read(self._ours, 1 << 16)

    def wait_for(self, text: str) -> None:
        """Take what is written until this was, from now on."""
        begin = len(self.written)
        self.read_until(lambda: text in _CONTROL.sub(b"", self.written[begin:]).decode("utf-8", "replace"), repr(text))

    def wait(self) -> int:
        """Take what is still written, until it has ended; its exit code."""
        while self.process.poll() is None:
            if select.select([self._ours], [], [], 0.05)[0]:
                self.written += os.read(self._ours, 1 << 16)
        while select.select([self._ours], [], [], 0)[0]:
            self.written += os.read(self._ours, 1 << 16)
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)
