"""ptp4l as a time source: what it knows of its grandmaster, over its management socket (IEEE 1588-2019, clause 15).

Each question is one datagram of 54 bytes, a management message with the action GET; another action is not in this
file. One question is outstanding at a time: ptp4l waits where a client does not read, so no more answers are ever
under way than the socket of a gateway that was stopped can hold. Both sockets of ptp4l are understood: /run/ptp4lro of
linuxptp 4, where nothing can be set, and /run/ptp4l.

What may be wrong with the system clock is added up; of what is measured, the largest of the last minute, and twice that
while there are few measurements:

    grandmaster against UTC      upper limit of its clockAccuracy, while its clockClass says that it is locked, or in
                                 holdover within its specification; after that it grows with the time since
    our clock against master     |offset from master|
    the path                     how much slower one way may be: as configured; otherwise the whole mean path delay,
                                 because no way takes less than no time
    boundary clocks              as configured, for each; without it there is no bound behind one
    system clock against PHC     with hardware stamps ptp4l steers the clock of the card, and the system clock follows
                                 that by phc2sys or chronyd: measured here
    age of the last Sync         at the drift of a clock that is not disciplined, and what it was slewed since:
                                 when ptp4l hears no more, it leaves its clock in the slew that it was in

What is not known makes the bound None. The clock is lost when the port is not SLAVE, or no Sync came for eight of its
intervals: `gmPresent` and the offset stay as they were when the grandmaster died, and are not used for that. While the
clock follows a grandmaster that cannot be trusted, an earlier bound must not be held: it is steered away from there.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from edge.clock.clock import Clock, read_pair
from edge.clock.phc import PhcReading, read_phc
from edge.clock.quality import DEFAULT_DRIFT_PPB, TimeSource, TimeState
from edge.clock.source import SourceReport, SourceSilent
from edge.clock.timekeeper import STEP_NS

READ_ONLY_ADDRESS = "/run/ptp4lro"
"""Where ptp4l of linuxptp 4 answers, and nothing can be set."""
STALE_INTERVALS = 8
"""Without a Sync for this many of its intervals the grandmaster is lost."""
ACCURACY_NS = {0x17 + step: -(-(10, 25)[step % 2] * 10 ** (step // 2) // 10**4) for step in range(25)} | {0x30: 10**10}
"""Upper limit by clockAccuracy (IEEE 1588-2019, table 5), rounded up; every other code is unknown."""

_ANSWER_WITHIN_S = 1.0
_STRAY_LIMIT = 8  # Datagrams that do not answer a question, before it is given up.
_PORTS_LIMIT = 64
_WINDOW_NS = 60 * 10**9
_FEW = 8  # With fewer measurements, the next may well be twice as large.
_STALE_FLOOR_NS = 2 * 10**9
_BOUND_LIMIT_NS = 10**18
_LOCKED = 6
_IN_SPECIFICATION = {6, 7, 135}  # 7 and 135 (ITU-T G.8275.1) are in holdover.
_OUT_OF_SPECIFICATION = {52, 187, 140, 150, 160, 165}
_LEAP_61, _LEAP_59, _UTC_OFFSET_VALID, _PTP_TIMESCALE, _TIME_TRACEABLE = 1, 2, 4, 8, 16
_SOFTWARE = 0

# Header, target port, hops (none: it never leaves this machine), action, TLV.
_MESSAGE = struct.Struct("!BBHBBHqI8sHHBb8sHBBBBHHH")
_MANAGEMENT, _VERSION, _CONTROL, _ALL_PORTS, _ALL_CLOCKS = 0x0D, 2, 4, 0xFFFF, b"\xff" * 8
_GET, _RESPONSE = 0, 2
_TLV_MANAGEMENT, _TLV_ERROR = 1, 2
_ANSWER_BYTES_LIMIT = 1500
_TEXT_LIMIT = 16


class Get(IntEnum):
    """What is asked for, by its managementId; all of it is read, and never set."""

    DEFAULT_DATA_SET = 0x2000
    CURRENT_DATA_SET = 0x2001
    PARENT_DATA_SET = 0x2002
    TIME_PROPERTIES_DATA_SET = 0x2003
    PORT_DATA_SET = 0x2004
    TIME_STATUS_NP = 0xC000
    PORT_PROPERTIES_NP = 0xC004


class PortState(IntEnum):
    """State of a port (IEEE 1588-2019, table 20)."""

    INITIALIZING = 1
    FAULTY = 2
    DISABLED = 3
    LISTENING = 4
    PRE_MASTER = 5
    MASTER = 6
    PASSIVE = 7
    UNCALIBRATED = 8
    SLAVE = 9


_DATA = {
    Get.DEFAULT_DATA_SET: struct.Struct("!BxHBBBHB8sBx"),
    Get.CURRENT_DATA_SET: struct.Struct("!Hqq"),
    Get.PARENT_DATA_SET: struct.Struct("!8sHBxHiBBBHB8s"),
    Get.TIME_PROPERTIES_DATA_SET: struct.Struct("!hBB"),
    Get.PORT_DATA_SET: struct.Struct("!8sHBbqbBbBbB"),
    Get.TIME_STATUS_NP: struct.Struct("!qqiiH12si8s"),
    Get.PORT_PROPERTIES_NP: struct.Struct("!8sHBBB"),  # The name of the interface follows.
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """What ptp4l says of the grandmaster that it follows, and of the way there; times in nanoseconds."""

    grandmaster: bytes
    clock_class: int
    accuracy: int  # clockAccuracy, as its code.
    flags: int  # Of TIME_PROPERTIES_DATA_SET.
    utc_offset_s: int
    steps_removed: int
    path_delay_ns: int
    offset_ns: int
    ingress_ns: int  # When the last Sync came, on the clock that stamps packets.
    sync_interval_ns: int
    interface: str  # Whose hardware clock stamps packets; empty where the system clock does.


@dataclass(frozen=True, slots=True)
class _Asked:
    """When a question was asked; UTC minus boot time then, and how far the clock that ptp4l steers had been slewed."""

    boot_ns: int
    offset_ns: int
    steered_ns: int


def request(
    get: Get, sequence: int, sender: bytes, *, domain: int = 0, sdo: int = 0, clock: bytes = b"", port: int = _ALL_PORTS
) -> bytes:
    """The datagram that asks for a data set; of one port where `clock` is the identity of its clock."""
    return _MESSAGE.pack(
        sdo << 4 | _MANAGEMENT, _VERSION, _MESSAGE.size, domain, 0, 0, 0, 0, sender, 1, sequence, _CONTROL, 0x7F,
        clock or _ALL_CLOCKS, port if clock else _ALL_PORTS, 0, 0, _GET, 0, _TLV_MANAGEMENT, 2, get,
    )  # fmt: skip


def parse(answer: bytes, get: Get, sequence: int, sender: bytes) -> bytes | None:
    """The data set in an answer; None where it answers another question.

    Raises:
        SourceSilent: ptp4l refuses, or its answer is cut.
    """
    if len(answer) < _MESSAGE.size:
        return None
    fields = _MESSAGE.unpack_from(answer)
    kind, version, echoed, target, action = (
        fields[0] & 0x0F,
        fields[1] & 0x0F,
        fields[10],
        fields[13],
        fields[17] & 0x0F,
    )
    tlv, tlv_bytes, what = fields[19:]
    if (kind, version, echoed, target, action) != (_MANAGEMENT, _VERSION, sequence, sender, _RESPONSE):
        return None
    if tlv == _TLV_ERROR:
        raise SourceSilent(f"ptp4l refuses to answer {get.name}: error {what}")
    data = answer[_MESSAGE.size : _MESSAGE.size + tlv_bytes - 2]
    if (tlv, what) != (_TLV_MANAGEMENT, get) or len(data) != tlv_bytes - 2 or len(data) < _DATA[get].size:
        raise SourceSilent(f"ptp4l answers {get.name} with {len(answer)} bytes, which are not that")
    return data


class PtpSource:
    """ptp4l on this machine, asked without a subprocess and without a privilege beyond that of its socket.

    Args:
        clock: the system's clocks.
        address: path of ptp4l's socket.
        domain: ptp4l's domainNumber.
        asymmetry_ns: how much slower one way may be than the other, halved by the operator; None: not known.
        boundary_clock_ns: how far each boundary clock on the way may be off its master; None: not known.
        own_name: path of our own socket, to which ptp4l answers; `x.sock` becomes `x.PID.sock`. Without it, or where it
            may not be made, the kernel chooses a name, which only a ptp4l in the same network namespace can reach.
        stamped_by: the clock that stamps packets: a device such as /dev/ptp0, or `system`; by default ptp4l is asked,
            which linuxptp 4 does not answer at its read-only socket.
        phc: reads a hardware clock, by its device or its interface.
    """

    def __init__(
        self,
        clock: Clock,
        address: str = READ_ONLY_ADDRESS,
        *,
        domain: int = 0,
        asymmetry_ns: int | None = None,
        boundary_clock_ns: int | None = None,
        own_name: str = "",
        stamped_by: str | None = None,
        phc: Callable[[str], PhcReading] = read_phc,
    ) -> None:
        self._clock = clock
        self._address = address
        self._domain = domain
        self._asymmetry_ns = asymmetry_ns
        self._boundary_clock_ns = boundary_clock_ns
        self._own = Path(own_name).with_suffix(f".{os.getpid()}.sock") if own_name else None
        self._stamped_by = stamped_by
        self._read_phc = phc
        self._sdo = 0  # 1 for ptp4l with transportSpecific 1, as in IEEE 802.1AS.
        self._port = 1
        self._window: deque[tuple[int, int, int, int]] = deque()  # Boot time, and the largest errors seen then.
        self._ingress_ns: int | None = None
        self._sync_after: _Asked | None = None  # The question after which the last Sync came.
        self._asked: _Asked | None = None
        self._update = 0
        self._trusted: tuple[bytes, int, int] | None = None  # Grandmaster, its error, and boot time of its word.
        self._was_bounded = False

    async def ask(self) -> SourceReport:
        """See `ClockSource.ask`."""
        began_ns = self._clock.boot_ns()
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                following = await self._exchange()
        except TimeoutError as error:
            self._sdo ^= 1
            text = f"ptp4l does not answer at {self._address} in domain {self._domain}: no answer"
            raise SourceSilent(text) from error
        except OSError as error:
            raise SourceSilent(f"ptp4l does not answer at {self._address}: {error.strerror or error}") from error
        if isinstance(following, str):
            return self._lost(following)
        phc, phc_failed = None, ""
        if following.interface:
            try:
                phc = await asyncio.to_thread(self._read_phc, following.interface)
            except OSError as error:
                phc_failed = f"the clock of {following.interface} cannot be read: {error.strerror}"
        return self._judge(following, phc, phc_failed, began_ns)

    def _judge(self, following: Following, phc: PhcReading | None, phc_failed: str, began_ns: int) -> SourceReport:
        boot_ns, offset_ns = read_pair(self._clock)
        local_ns = phc.phc_ns if phc else 0 if following.interface else boot_ns + offset_ns
        steered_ns = self._clock.steered_ns() + (phc.phc_ns - phc.system_ns + offset_ns if phc else 0)
        now = _Asked(began_ns, offset_ns, steered_ns)
        age_ns = self._age_ns(following.ingress_ns, now, boot_ns, local_ns)
        error_ns = self._grandmaster_error_ns(following, boot_ns)
        if distrust := self._distrust(following, error_ns):
            return self._report(following, TimeState.FREE_RUNNING, reason=distrust, may_hold=False)
        if age_ns is None:
            return self._lost("no Sync of the grandmaster was seen yet", following)
        if age_ns > max(STALE_INTERVALS * following.sync_interval_ns, _STALE_FLOOR_NS):
            return self._lost(f"the grandmaster has sent no Sync for {age_ns // 10**9} s", following)
        if phc_failed:
            return self._lost(phc_failed, following)
        ahead_ns = phc.system_ns - phc.phc_ns + following.utc_offset_s * 10**9 if phc else 0
        phc_ns = abs(ahead_ns) + phc.window_ns // 2 if phc else 0
        self._window.append((boot_ns, abs(following.offset_ns), following.path_delay_ns, phc_ns))
        while len(self._window) > _FEW and self._window[0][0] < boot_ns - _WINDOW_NS:
            self._window.popleft()
        _, offset_ns, path_ns, phc_ns = (max(column) for column in zip(*self._window, strict=True))
        if len(self._window) < _FEW:
            offset_ns, path_ns = 2 * offset_ns, 2 * path_ns
        if self._asymmetry_ns is not None:
            path_ns = self._asymmetry_ns
        boundaries_ns = max(following.steps_removed - 1, 0) * (self._boundary_clock_ns or 0)
        bound_ns = (error_ns or 0) + offset_ns + path_ns + boundaries_ns + phc_ns + age_ns * DEFAULT_DRIFT_PPB // 10**9
        if self._sync_after is not None:
            usual_ns = (boot_ns - self._sync_after.boot_ns) * DEFAULT_DRIFT_PPB // 10**9
            bound_ns += max(abs(steered_ns - self._sync_after.steered_ns) - usual_ns, 0)
        if bound_ns > _BOUND_LIMIT_NS:
            return self._lost("ptp4l reports an offset that cannot be", following)
        self._was_bounded = True
        state = TimeState.SYNCHRONIZED if following.clock_class == _LOCKED else TimeState.HOLDOVER
        reason = "" if state is TimeState.SYNCHRONIZED else "the grandmaster is in holdover"
        return self._report(following, state, bound_ns, -following.offset_ns - ahead_ns, reason=reason)

    def _age_ns(self, ingress_ns: int, now: _Asked, boot_ns: int, local_ns: int) -> int | None:
        """How long ago the last Sync came, at most; None while that is not known."""
        asked, self._asked = self._asked, now
        has_stepped = asked is not None and abs(now.offset_ns - asked.offset_ns) >= STEP_NS
        if ingress_ns != self._ingress_ns:
            if asked is not None:
                self._sync_after = asked
            if not has_stepped:  # Otherwise the Sync may have come before the step.
                self._update = ingress_ns
        self._ingress_ns = ingress_ns
        ages_ns = [] if self._sync_after is None else [boot_ns - self._sync_after.boot_ns]
        if local_ns >= ingress_ns and not has_stepped:
            ages_ns.append(local_ns - ingress_ns)
        return min(ages_ns, default=None)

    def _grandmaster_error_ns(self, following: Following, boot_ns: int) -> int | None:
        """How far the grandmaster may be off UTC; None where that is not known."""
        if following.clock_class in _IN_SPECIFICATION:
            error_ns = ACCURACY_NS.get(following.accuracy)
            self._trusted = None if error_ns is None else (following.grandmaster, error_ns, boot_ns)
        elif following.clock_class not in _OUT_OF_SPECIFICATION:
            self._trusted = None
        if self._trusted is None or self._trusted[0] != following.grandmaster:
            return None
        return self._trusted[1] + (boot_ns - self._trusted[2]) * DEFAULT_DRIFT_PPB // 10**9

    def _distrust(self, following: Following, error_ns: int | None) -> str:
        """Why the time of this grandmaster has no bound; empty where it has."""
        between = following.steps_removed - 1
        if not following.flags & _PTP_TIMESCALE:
            return "the grandmaster serves a timescale of its own, not TAI"
        if not following.flags & _UTC_OFFSET_VALID:
            return "the grandmaster does not know UTC minus TAI: the clock may be TAI"
        if following.clock_class not in _IN_SPECIFICATION | _OUT_OF_SPECIFICATION:
            return f"the grandmaster runs free (clockClass {following.clock_class})"
        if following.clock_class in _IN_SPECIFICATION and not following.flags & _TIME_TRACEABLE:
            return "the grandmaster says that its time is not traceable"
        if error_ns is None:
            return f"the grandmaster does not say how accurate it is (clockAccuracy 0x{following.accuracy:02X})"
        if between > 0 and self._boundary_clock_ns is None:
            return f"{between} boundary clocks on the way: set clock.ptp_boundary_clock to what each may be off"
        return ""

    def _lost(self, reason: str, following: Following | None = None) -> SourceReport:
        return self._report(
            following, TimeState.HOLDOVER if self._was_bounded else TimeState.FREE_RUNNING, reason=reason
        )

    def _report(
        self,
        following: Following | None,
        state: TimeState,
        bound_ns: int | None = None,
        correction_ns: int = 0,
        *,
        reason: str,
        may_hold: bool = True,
    ) -> SourceReport:
        detail = {"reason": reason} if reason else {}
        if following is None:
            return SourceReport(
                source=TimeSource.PTP4L, state=state, may_hold=may_hold, update=self._update, leap=3, detail=detail
            )
        flags = following.flags
        return SourceReport(
            source=TimeSource.PTP4L,
            state=state,
            bound_ns=bound_ns,
            may_hold=may_hold,
            correction_ns=correction_ns,
            update=self._update,
            leap=1 if flags & _LEAP_61 else 2 if flags & _LEAP_59 else 0,
            utc_tai_s=following.utc_offset_s if flags & _UTC_OFFSET_VALID else None,
            reference=following.grandmaster,
            stratum=following.clock_class,
            accuracy=following.accuracy,
            detail={**detail, "offset_ns": following.offset_ns, "path_delay_ns": following.path_delay_ns},
        )

    async def _exchange(self) -> Following | str:
        """What ptp4l says; a sentence where it follows no grandmaster."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as connection:
                await asyncio.to_thread(self._bind, connection)
                connection.connect(self._address)
                return await self._questions(connection)
        finally:
            if self._own is not None:
                await asyncio.to_thread(self._own.unlink, missing_ok=True)

    def _bind(self, connection: socket.socket) -> None:
        if self._own is not None:
            self._remove_dead(self._own)
            try:
                connection.bind(str(self._own))
            except OSError:
                self._own = None
            else:
                self._own.chmod(0o666)  # ptp4l may be another user; what others send does not arrive.
                return
        connection.bind("")

    @staticmethod
    def _remove_dead(own: Path) -> None:
        """Remove the sockets of processes that were killed."""
        name = own.name.removesuffix(f"{os.getpid()}.sock")
        for each in own.parent.glob(f"{name}[0-9]*.sock"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
                try:
                    probe.connect(str(each))
                except ConnectionRefusedError:  # Nobody has it open.
                    each.unlink(missing_ok=True)
                except OSError:
                    continue

    async def _questions(self, connection: socket.socket) -> Following | str:
        sender = os.urandom(8)
        _, ports, *_, identity, _, _ = await self._get(connection, sender, Get.DEFAULT_DATA_SET)
        states = []
        for port in sorted(range(1, min(ports, _PORTS_LIMIT) + 1), key=lambda each: each != self._port):
            answer = await self._get(connection, sender, Get.PORT_DATA_SET, identity, port)
            states.append(answer[2])
            if answer[2] == PortState.SLAVE:
                self._port, sync_log = port, answer[7]
                break
        else:
            return f"ptp4l follows no grandmaster: its port is {_state_named(states)}"
        stamped_by = self._stamped_by or await self._stamps(connection, sender, identity)
        parent = await self._get(connection, sender, Get.PARENT_DATA_SET)
        utc_offset_s, flags, *_ = await self._get(connection, sender, Get.TIME_PROPERTIES_DATA_SET)
        steps, _, path_delay, _ = await self._get(connection, sender, Get.CURRENT_DATA_SET)
        offset_ns, ingress_ns, *_, grandmaster, _ = await self._get(connection, sender, Get.TIME_STATUS_NP)
        if grandmaster != parent[10]:
            raise SourceSilent("ptp4l is changing its grandmaster")
        return Following(
            grandmaster=grandmaster,
            clock_class=parent[6],
            accuracy=parent[7],
            flags=flags,
            utc_offset_s=utc_offset_s,
            steps_removed=steps,
            path_delay_ns=max(-(-path_delay >> 16), 0),  # In 2^-16 ns.
            offset_ns=offset_ns,
            ingress_ns=ingress_ns,
            sync_interval_ns=int(10**9 * 2.0**sync_log) if -8 <= sync_log <= 5 else 10**9,
            interface="" if stamped_by == "system" else stamped_by,
        )

    async def _stamps(self, connection: socket.socket, sender: bytes, clock: bytes) -> str:
        """The interface whose clock stamps packets, or `system`."""
        try:
            properties = await self._get(connection, sender, Get.PORT_PROPERTIES_NP, clock, self._port)
        except SourceSilent as error:
            text = f"ptp4l does not say at {self._address} which clock stamps packets: set clock.ptp_clock"
            raise SourceSilent(text) from error
        *_, stamping, name_bytes, name = properties
        return "system" if stamping == _SOFTWARE else str(name[:name_bytes].decode("ascii", "replace")[:_TEXT_LIMIT])

    async def _get(
        self, connection: socket.socket, sender: bytes, get: Get, clock: bytes = b"", port: int = _ALL_PORTS
    ) -> tuple[Any, ...]:
        """The fields of a data set; what follows them comes last."""
        sequence = int.from_bytes(os.urandom(2), "big")
        connection.send(request(get, sequence, sender, domain=self._domain, sdo=self._sdo, clock=clock, port=port))
        for _ in range(_STRAY_LIMIT):
            answer = await asyncio.get_running_loop().sock_recv(connection, _ANSWER_BYTES_LIMIT)
            if (data := parse(answer, get, sequence, sender)) is not None:
                return *_DATA[get].unpack_from(data), data[_DATA[get].size :]
        raise SourceSilent(f"ptp4l does not answer: {_STRAY_LIMIT} datagrams answered something else")


def _state_named(states: Sequence[int]) -> str:
    named = {int(each): each.name for each in PortState}
    return ", ".join(named.get(each, f"in state {each}") for each in states)
