"""Real ptp4l processes on one Ethernet, each in a network namespace of its own, with software timestamps.

Their clock is the machine's, which they leave alone: a preloaded library lets each believe that it has adjusted it, and
the kernel would refuse. So a slave becomes SLAVE, which it never does with `free_running`. A grandmaster's packets bear
TAI, as they do with a hardware clock; how far its time is off may be chosen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Self

from hil.namespaces import Machine

TAI_UTC_S = 37
_LIBRARY = Path(__file__).with_name("ptp_clock.c")
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
[eth0]
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

    Attributes:
        identity: its clockIdentity.
        socket: where it answers management messages.
        asked_at: where a gateway asks it: the same, or with linuxptp 4 the socket where nothing can be set.
        process: of the ptp4l that runs.
    """

    def __init__(self, machine: Machine, number: int, library: Path) -> None:
        self.machine = machine
        self.identity = bytes.fromhex(f"020000fffe0000{number:02x}")
        self.socket = machine.folder / "ptp4l.sock"
        self.asked_at = machine.folder / "ptp4lro" if has_read_only_socket() else self.socket
        self._library = library
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
        for path in (self.socket, self.asked_at):
            path.unlink(missing_ok=True)

    def _start(self, shift_ns: int, priority: int, slave_only: bool, more: tuple[str, ...]) -> None:
        configuration = self.machine.folder / "ptp4l.conf"
        name = self.identity.hex()
        if self.asked_at != self.socket:
            more = (*more, f"uds_ro_address {self.asked_at}")
        text = _CONFIGURATION.format(
            identity=f"{name[:6]}.{name[6:10]}.{name[10:]}", priority=priority, slave_only=int(slave_only),
            socket=self.socket, more="\n".join(more),
        )  # fmt: skip
        configuration.write_text(text)
        program = [*_WITHOUT_CLOCK, "env", f"LD_PRELOAD={self._library}", f"PTP_SHIFT_NS={shift_ns}"]
        with (self.machine.folder / "ptp4l.log").open("a") as log:
            command = [*program, path_of("ptp4l"), "-f", str(configuration), "-m", "-q"]
            self.process = self.machine.start(*command, stdout=log, stderr=log)
        pause = Event()
        while not (self.socket.exists() and self.asked_at.exists()):
            assert self.process.poll() is None, (self.machine.folder / "ptp4l.log").read_text()
            pause.wait(0.01)


class PtpNetwork:
    """Clocks on one switch; everything ends with its block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running = ExitStack()
        self._count = 0

    def __enter__(self) -> Self:
        self._library = self.folder / "ptp_clock.so"
        subprocess.run(
            ["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", self._library, _LIBRARY], check=True
        )
        self._switch = self._running.enter_context(Machine(self.folder / "switch"))
        self._switch.run("ip", "link", "add", "switch", "type", "bridge", "forward_delay", "0")
        self._switch.run("ip", "link", "set", "switch", "up")
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def clock(self, name: str, machine: Machine | None = None) -> PtpClock:
        """Another clock on the switch, which does not run yet; by default on a machine of its own."""
        self._count += 1
        at = machine or self._running.enter_context(Machine(self.folder / name))
        port = f"port{self._count}"
        self._switch.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(at.pid))
        self._switch.run("ip", "link", "set", port, "master", "switch", "up")
        at.run("ip", "link", "set", "eth0", "up")
        return PtpClock(at, self._count, self._library)


def has_read_only_socket() -> bool:
    """Whether this ptp4l has a socket where nothing can be set, as linuxptp 4."""
    return not subprocess.run([path_of("ptp4l"), "-v"], check=True, capture_output=True, text=True).stdout.startswith(
        "3"
    )


def path_of(program: str) -> str:
    """Where a program of linuxptp is."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, "install the package linuxptp"
    return found
