"""The wall clock of processes of a rig, moved while they run, or both their clocks, as over a suspension."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from edge.errors import ConfigError

_SOURCE = Path(__file__).with_suffix(".c")


class WallClock:
    """How far the wall clock of some processes is from the machine's; boot time goes on as it does, unless suspended.

    Args:
        directory: for its library, which several clocks may share, and its file.
        name: of its file.

    Attributes:
        environment: of the processes; `words` is the same as `NAME=VALUE`.

    Raises:
        ConfigError: there is no compiler.
    """

    def __init__(self, directory: Path, name: str = "shift") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        library = directory / "wall_clock.so"
        if not library.exists():
            _compile(library)
        self._path = directory / name
        self._shift_ns, self._gain_ppb, self._since_ns, self._suspended_ns = 0, 0, 0, 0
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(self._path)}
        self.words = tuple(f"{key}={value}" for key, value in self.environment.items())

    def shift(self, seconds: float, gain_ppb: int = 0, since_ns: int | None = None) -> None:
        """How far it is ahead of the machine's clock from a boot time on, by default now, and its gain from there."""
        self._since_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) if since_ns is None else since_ns
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


def _compile(library: Path) -> None:
    command = ["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        raise ConfigError("the clocks of a simulated rig need gcc: apt-get install gcc libc6-dev") from None
