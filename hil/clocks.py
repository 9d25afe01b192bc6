"""The time of the simulated rig: a machine with chronyd and a PTP grandmaster, and what follows them at the gateway.

All namespaces share the kernel's clock, and every daemon leaves it alone. So each process that tells the time has a
`WallClock` of its own: those of the reference one, the gateway and its chronyd and ptp4l another. How far both are
apart is known at each moment, and so is the gateway's true error. The gateway's clock is slow, as by an oscillator, and
nothing adjusts it: what its sources would correct stays an error of ours, and is part of the bound.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from edge.clock import SystemClock, read_pair
from edge.errors import ConfigError
from hil.hosts import Host, HostProcess
from hil.namespaces import Machine
from hil.ptp import PtpClock
from hil.rig import Rig
from hil.switches import State, Switch
from hil.wall_clock import WallClock

SERVER = "192.0.2.5"
_DRIFT_PPB = 5_000  # As a good oscillator; a day makes 0.4 s.
STEP_S = 2.5
"""How far the gateway's clock is put ahead."""
_COMMON = "pidfile {folder}/{name}.pid\nbindcmdaddress /\n"
_SERVES = "local stratum 3\nallow 192.0.2.0/24\ncmdport 0\n"
_ASKS = f"server {SERVER} iburst minpoll 0 maxpoll 0\nport 0\ncmdport 323\n"


class TrueTime(NamedTuple):
    """What the time was, by the reference, while the gateway's clock showed a UTC.

    Attributes:
        boot_ns: boot time of the gateway; None where it is not known.
        utc_ns: UTC by the gateway.
        earliest_ns: the true UTC, at least; `latest_ns` at most.
    """

    boot_ns: int | None
    utc_ns: int
    earliest_ns: int
    latest_ns: int


class SimulatedClocks:
    """The clocks of the simulated rig.

    Attributes:
        gateway: the one that its processes see.
        step: sets it wrong with `off`, and right with `on`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.gateway, self._reference = (WallClock(folder / "clocks", name) for name in ("gateway", "reference"))
        self._reference.shift(0, _DRIFT_PPB)
        self.step = Switch("gateway clock", self._set)

    def true_time(self) -> TrueTime:
        """What the time is now."""
        boot_ns, offset_ns = read_pair(SystemClock())
        true_ns = boot_ns + offset_ns + self._reference.ahead_ns(boot_ns)
        return TrueTime(boot_ns, boot_ns + offset_ns + self.gateway.ahead_ns(boot_ns), true_ns, true_ns)

    async def start(self, rig: Rig, reference: Machine, under_test: Machine, interface: str) -> list[HostProcess]:
        """Start the reference and what follows it; what is returned is to be ended. Raises ConfigError."""
        if rig.wired.clock.source == "ptp":
            _start_ptp(rig, PtpClock(reference, 1, self._reference, interface), under_test, self.gateway, interface)
        server, client = Host(reference.enter), Host(under_test.enter)
        return [await self._chronyd(server, self._reference, "chrony-server", _SERVES),
                await self._chronyd(client, self.gateway, "chrony-client", _ASKS)]  # fmt: skip

    async def _set(self, state: State) -> None:
        self.gateway.shift(0 if state == "on" else STEP_S)

    async def _chronyd(self, host: Host, clock: WallClock, name: str, lines: str) -> HostProcess:
        program = shutil.which("chronyd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        if program is None:
            raise ConfigError(
                "the clock of the simulated rig is chrony, which is not installed: apt-get install chrony"
            )
        file = self._folder / f"{name}.conf"
        file.write_text(_COMMON.format(folder=self._folder, name=name) + lines)
        words = ("env", *clock.words, program, "-x", "-d", "-u", "root", "-f", str(file))
        return await host.start(*words, log=self._folder / f"{name}.log")


def _start_ptp(rig: Rig, grandmaster: PtpClock, under_test: Machine, clock: WallClock, interface: str) -> None:
    """Start both ptp4l, which end with their machines. Raises ConfigError."""
    settings = rig.wired.gateway.settings.clock
    if settings is None or settings.ptp == "off":
        raise ConfigError("the rig's clock is ptp, and gateway.settings.clock.ptp does not say where ptp4l answers")
    asked_at = Path(settings.ptp)
    asked_at.parent.mkdir(parents=True, exist_ok=True)
    grandmaster.lead()
    PtpClock(under_test, 2, clock, interface, asked_at).follow()
