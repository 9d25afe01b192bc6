"""Real ptp4l processes on one Ethernet, each in a network namespace of its own; see `hil/ptp.py`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from hil.namespaces import Machine
from hil.ptp import PtpClock
from hil.wall_clock import WallClock


class PtpNetwork:
    """Clocks on one switch; everything ends with its block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running = ExitStack()
        self._count = 0

    def __enter__(self) -> Self:
        self._clock = WallClock(self.folder)
        self._switch = self._running.enter_context(Machine(self.folder / "switch"))
        self._switch.run("ip", "link", "add", "switch", "type", "bridge", "forward_delay", "0")
        self._switch.run("ip", "link", "set", "switch", "up")
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def clock(self, name: str) -> PtpClock:
        """Another clock on the switch, on a machine of its own, which does not run yet."""
        self._count += 1
        at = self._running.enter_context(Machine(self.folder / name))
        port = f"port{self._count}"
        self._switch.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(at.pid))
        self._switch.run("ip", "link", "set", port, "master", "switch", "up")
        at.run("ip", "link", "set", "eth0", "up")
        return PtpClock(at, self._count, self._clock, "eth0")
