"""The wall clock of a process of the tests, moved while it runs, or both its clocks, as over a suspension."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")


class WallClock:
    """How far a process's wall clock is from the machine's; its boot time goes on as it does, unless it is suspended.

    Attributes:
        environment: of the process.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        library = directory / "wall_clock.so"
        subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, _SOURCE], check=True)
        self._path = directory / "shift"
        self._shift_ns, self._gain_ppb, self._since_ns, self._suspended_ns = 0, 0, 0, 0
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(self._path)}

    def shift(self, seconds: float, gain_ppb: int = 0) -> None:
        """How far it is ahead of the machine's clock from now on, and how much it gains from there."""
        self._since_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._shift_ns, self._gain_ppb = round(seconds * 10**9), gain_ppb
        self._write()

    def suspend(self, seconds: float) -> None:
        """Let boot time and wall clock go on for so long at once, as the machine's do while it is suspended."""
        self._suspended_ns += round(seconds * 10**9)
        self._write()

    def _write(self) -> None:
        draft = self._path.with_suffix(".new")
        draft.write_text(f"{self._shift_ns} {self._gain_ppb} {self._since_ns} {self._suspended_ns}\n")
        draft.rename(self._path)

    def ahead_ns(self, boot_ns: int) -> int:
        """How far it is ahead of the machine's clock at a boot time."""
        return self._shift_ns + self._gain_ppb * (boot_ns - self._since_ns) // 10**9
