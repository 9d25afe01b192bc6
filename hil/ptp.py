"""ptp4l on machines of namespaces, with software timestamps.

The clock of each is a `WallClock`, and it leaves the machine's alone: it believes that it has adjusted it, and the
kernel would refuse. So a slave becomes SLAVE, which it never does with `free_running`. A grandmaster's packets bear
TAI, as they do with a hardware clock; how far its time is off may be chosen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from edge.errors import ConfigError
from hil.namespaces import Machine
from hil.wall_clock import WallClock

TAI_UTC_S = 37
_WITHOUT_CLOCK = ["setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"]
_CONFIGURATION = """
[global]
time_stamping software
network_transport L2
clockIdentity {identity}
priority1 {priority}
slaveOnly {slave_only}
uds_address {socket}
logSyncInterval -3
logAnnounceInterval -2
logMinDelayReqInterval -3
# A servo of software stamps would take 16 s to lock.
pi_proportional_const 0.7
pi_integral_const 0.3
{more}
[{interface}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grandmaster:
    """What a grandmaster says of itself; by default: locked to UTC within 100 ns."""

    clock_class: int = 6
    accuracy: int = 0x21
    utc_offset_valid: bool = True
    ptp_timescale: bool = True
    traceable: bool = True


class PtpClock:
    """One ptp4l, which may be started and killed.

    Args:
        machine: where it runs.
        number: a number of its own on its network.
        clock: its clock.
        interface: the end of its cable.
        asked_at: where a gateway asks it; by default a file in the machine's folder.

    Attributes:
        identity: its clockIdentity.
        socket: where it answers management messages.
        asked_at: where a gateway asks it: the same, or with linuxptp 4 the socket where nothing can be set.
        process: of the ptp4l that runs.
    """

    def __init__(
        self, machine: Machine, number: int, clock: WallClock, interface: str, asked_at: Path | None = None
    ) -> None:
        self.machine = machine
        self.identity = bytes.fromhex(f"020000fffe0000{number:02x}")
        self.asked_at = asked_at or machine.folder / "ptp4lro"
        self.socket = machine.folder / "ptp4l.sock" if has_read_only_socket() else self.asked_at
        self._clock, self._interface = clock, interface
        self.process: subprocess.Popen[str] | None = None

    def follow(self, *more: str) -> None:
        """Start it as a slave, with more lines of configuration."""
        self._start(0, 255, True, more)

    def lead(self, says: Grandmaster | None = None, *, priority: int = 100, off_ns: int = 0) -> None:
        """Start it as a grandmaster, whose time is off by so much; a lower priority wins."""
        self._start(TAI_UTC_S * 10**9 + off_ns, priority, False, ())
        self.say(says or Grandmaster())

    def say(self, says: Grandmaster) -> None:
        """What a grandmaster says of itself from now on."""
        self.manage(
            f"SET GRANDMASTER_SETTINGS_NP clockClass {says.clock_class} clockAccuracy {says.accuracy:#x}"
            f" offsetScaledLogVariance 0x4e5d currentUtcOffset {TAI_UTC_S} leap61 0 leap59 0"
            f" currentUtcOffsetValid {says.utc_offset_valid:d} ptpTimescale {says.ptp_timescale:d}"
            f" timeTraceable {says.traceable:d} frequencyTraceable {says.traceable:d} timeSource 0x20"
        )

    def manage(self, request: str) -> str:
        """What pmc prints of the answer to a request."""
        own = self.machine.folder / "pmc.sock"
        answer = self.machine.run("pmc", "-u", "-b", "0", "-s", str(self.socket), "-i", str(own), request)
        assert "RESPONSE" in answer, answer
        return answer

    @property
    def runs(self) -> bool:
        """Whether its ptp4l is there."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """As by a power cut."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self._unlink()

    def _unlink(self) -> None:
        for path in (self.socket, self.asked_at):
            path.unlink(missing_ok=True)

    def _start(self, ahead_ns: int, priority: int, slave_only: bool, more: tuple[str, ...]) -> None:
        configuration = self.machine.folder / "ptp4l.conf"
        name = self.identity.hex()
        if self.asked_at != self.socket:
            more = (*more, f"uds_ro_address {self.asked_at}")
        text = _CONFIGURATION.format(
            identity=f"{name[:6]}.{name[6:10]}.{name[10:]}", priority=priority, slave_only=int(slave_only),
            socket=self.socket, more="\n".join(more), interface=self._interface,
        )  # fmt: skip
        configuration.write_text(text)
        self._unlink()  # Of a machine that lost its power.
        with (self.machine.folder / "ptp4l.log").open("a") as log:
            clock = ["env", *self._clock.words, f"WALL_CLOCK_AHEAD_NS={ahead_ns}"]
            command = [*_WITHOUT_CLOCK, *clock, path_of("ptp4l"), "-f", str(configuration), "-m", "-q"]
            self.process = self.machine.start(*command, stdout=log, stderr=log)
        pause = Event()
        while not (self.socket.exists() and self.asked_at.exists()):
            assert self.process.poll() is None, (self.machine.folder / "ptp4l.log").read_text()
            pause.wait(0.01)


def has_read_only_socket() -> bool:
    """Whether this ptp4l has a socket where nothing can be set, as linuxptp 4. Raises ConfigError without ptp4l."""
    return not subprocess.run([path_of("ptp4l"), "-v"], check=True, capture_output=True, text=True).stdout.startswith(
        "3"
    )


def path_of(program: str) -> str:
    """Where a program of linuxptp is. Raises ConfigError where it is not."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        raise ConfigError(f"PTP needs {program}, which is not installed: apt-get install linuxptp")
    return found
