"""What of a delay is the machine's: a busy one does not run a thread that is ready."""

from __future__ import annotations

from pathlib import Path


def run_delay_ns(thread: str | int = "thread-self") -> int:
    """How long a thread was ready to run and not run, since it began; a process number stands for its main thread."""
    return int(Path(f"/proc/{thread}/schedstat").read_text().split()[1])
