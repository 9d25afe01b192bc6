"""chronyd as a time source: its tracking report, over its own command protocol.

One datagram each way (command protocol version 6), to 127.0.0.1:323 or to chronyd's unix socket. chronyd still
reports "Normal" long after its server died, so that flag is ignored: age and dispersion decide. Nor does it say when a
server's time jumps: see `edge/clock/contradiction.py`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

from edge.clock.clock import Clock, read_pair
from edge.clock.contradiction import Contradictions
from edge.clock.quality import DEFAULT_DRIFT_PPB, TimeSource, TimeState
from edge.clock.source import SourceReport, SourceSilent
from edge.clock.timekeeper import STEP_NS

DEFAULT_ADDRESS = "127.0.0.1:323"
STALE_INTERVALS = 8
"""A reference older than this many update intervals is lost."""

_ANSWER_WITHIN_S = 1.0
_STRAY_LIMIT = 8  # Datagrams that do not answer the request, before it is given up.
_INTERVAL_FLOOR_NS = 10**9  # chronyd measures no more often; just after its start it reports less.
_INTERVALS_KEPT = 4
_FUTURE_LIMIT_NS = 10**9
_BOUND_LIMIT_NS = 10**18
READING_NS = 5_000
"""Error of reading two clocks as of one instant, here and in chronyd, which does not state it."""
_UNSYNCHRONIZED = 3
_ITSELF = bytes([127, 127, 1, 1])  # The reference of a chronyd that serves its own clock, as "local" lets it.
_NO_ADDRESS = 0  # Of a reference clock of this machine; a server has an address.
_DATAGRAMS = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
_TRACKING, _TRACKING_REPLY = 33, 5
_REQUEST = struct.Struct("!BBBBHHIII84x")  # Padded so that no answer is longer than its request.
_HEADER = struct.Struct("!BBBBHHHHHHIII")
_REPORT = struct.Struct("!I16sHHHHIII9I")
_ANSWER_BYTES = _HEADER.size + _REPORT.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """chronyd's tracking report, in nanoseconds."""

    reference: bytes
    follows_phc: bool = False  # A hardware clock, whose own error chronyd does not know.
    stratum: int
    leap: int
    updated_utc_ns: int  # 0 when it never was.
    correction_ns: int  # Positive when the system clock is slow.
    moved_ns: int  # By how much the last update changed the correction, beside what was slewed.
    root_delay_ns: int
    root_dispersion_ns: int
    interval_ns: int


def request(sequence: int) -> bytes:
    """The datagram that asks for the tracking report."""
    return _REQUEST.pack(6, 1, 0, 0, _TRACKING, 0, sequence, 0, 0)


def parse(answer: bytes, sequence: int) -> Tracking | None:
    """The report in an answer; None where it answers another request.

    Raises:
        SourceSilent: chronyd refuses, or a value in its report is impossible.
    """
    if len(answer) < _HEADER.size:
        return None
    version, kind, _, _, command, reply, status, _, _, _, echoed, _, _ = _HEADER.unpack_from(answer)
    if (version, kind, command, echoed) != (6, 2, _TRACKING, sequence):
        return None
    if status or reply != _TRACKING_REPLY or len(answer) != _ANSWER_BYTES:
        raise SourceSilent(f"chronyd refuses to report: status {status}, reply {reply}, {len(answer)} bytes")
    reference, _, family, _, stratum, leap, high_s, low_s, ns, *floats = _REPORT.unpack_from(answer, _HEADER.size)
    correction, last_offset, _, _, _, _, root_delay, root_dispersion, interval = map(_nanoseconds, floats)
    if leap > _UNSYNCHRONIZED or ns >= 10**9 or min(root_delay, root_dispersion, interval) < 0:
        raise SourceSilent("chronyd reports what cannot be: a negative delay, dispersion or interval")
    return Tracking(
        reference=reference.to_bytes(4, "big"),
        follows_phc=family == _NO_ADDRESS and reference.to_bytes(4, "big").startswith((b"PHC", b"PTP")),
        stratum=stratum,
        leap=leap,
        # chronyd writes 2^31 - 1 for "no more than 32 bits".
        updated_utc_ns=((0 if high_s == 0x7FFFFFFF else high_s) << 32 | low_s) * 10**9 + ns,
        correction_ns=correction,
        moved_ns=-last_offset,
        root_delay_ns=root_delay,
        root_dispersion_ns=root_dispersion,
        interval_ns=interval,
    )


def _nanoseconds(bits: int) -> int:
    """Seconds from chronyd's own 32-bit float, as nanoseconds: 7 bits of exponent, 25 of coefficient, both signed."""
    exponent, coefficient = bits >> 25, bits & 0x1FFFFFF
    exponent -= (exponent & 0x40) << 1
    coefficient -= (coefficient & 0x1000000) << 1
    return round(coefficient * 2.0 ** (exponent - 25) * 1e9)


def judge(tracking: Tracking, interval_ns: int, utc_ns: int) -> SourceReport:
    """The quality of the clock according to a tracking report.

    Args:
        tracking: the report.
        interval_ns: how often chronyd has lately measured the clock.
        utc_ns: the system clock now.
    """
    # chronyd gives times on the corrected clock, which the system clock is still being steered to.
    age_ns = utc_ns + tracking.correction_ns - tracking.updated_utc_ns
    reason = _why_unbounded(tracking)
    has_measured = tracking.updated_utc_ns != 0 and tracking.reference != _ITSELF
    bound_ns: int | None = (
        -(-tracking.root_delay_ns // 2) + tracking.root_dispersion_ns + abs(tracking.correction_ns) + READING_NS
    )
    if tracking.leap == _UNSYNCHRONIZED or not has_measured:
        # Its dispersion is then a placeholder, not a bound.
        state, bound_ns = TimeState.FREE_RUNNING, None
    elif age_ns < -_FUTURE_LIMIT_NS:
        state, bound_ns = TimeState.DISRUPTED, None
    elif age_ns > STALE_INTERVALS * max(interval_ns, _INTERVAL_FLOOR_NS):
        # chronyd lets its dispersion grow by its estimate of the oscillator; ours is more cautious.
        state, bound_ns = TimeState.HOLDOVER, (bound_ns or 0) + age_ns * DEFAULT_DRIFT_PPB // 10**9
    else:
        state = TimeState.SYNCHRONIZED
    age = {"age_ns": max(age_ns, 0), "interval_ns": interval_ns} if has_measured else {}
    return SourceReport(
        source=TimeSource.CHRONY,
        state=state,
        bound_ns=None if reason or bound_ns is None or bound_ns > _BOUND_LIMIT_NS else bound_ns,
        correction_ns=tracking.correction_ns,
        update=tracking.updated_utc_ns,
        leap=tracking.leap,
        reference=tracking.reference,
        stratum=tracking.stratum,
        detail={**age, "reason": reason} if reason else age,
    )


def _why_unbounded(tracking: Tracking) -> str:
    """Why the report holds no bound, whatever its figures; empty where it may."""
    if tracking.follows_phc:
        # It claims how far the system clock is off the hardware clock: what that is off, PtpSource knows.
        return "chronyd follows a hardware clock, and does not know how far that is off"
    if tracking.reference == _ITSELF:
        return "chronyd follows no server: it serves its own clock (local)"
    return "" if tracking.updated_utc_ns else "chronyd has not measured the clock yet"


class ChronySource:
    """chronyd on this machine, queried without a subprocess and without privileges."""

    def __init__(self, clock: Clock, address: str = DEFAULT_ADDRESS) -> None:
        self._clock = clock
        self._address = address
        self._intervals_ns: deque[int] = deque([0], _INTERVALS_KEPT)
        self._updated_utc_ns = 0
        self._updated_offset_ns: int | None = None  # UTC minus boot time at the last update.
        self._asked_offset_ns: int | None = None  # The same at the last question.
        self._update = 0
        self._contradictions = Contradictions()

    async def ask(self) -> SourceReport:
        """See `ClockSource.ask`."""
        try:
            tracking = await self._exchange()
        except (OSError, TimeoutError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "no answer"
            raise SourceSilent(f"chronyd does not answer at {self._address}: {reason}") from error
        boot_ns, offset_ns = read_pair(self._clock)
        asked_ns, self._asked_offset_ns = self._asked_offset_ns, offset_ns
        moved_ns = 0
        if tracking.updated_utc_ns != self._updated_utc_ns:
            self._updated_utc_ns = tracking.updated_utc_ns
            self._intervals_ns.append(tracking.interval_ns)
            moved_ns = self._moved_ns(tracking, offset_ns)
            if asked_ns is None or abs(offset_ns - asked_ns) < STEP_NS:
                # Otherwise it may have measured before the clock was set.
                self._update, self._updated_offset_ns = tracking.updated_utc_ns, offset_ns
        interval_ns = max(self._intervals_ns)
        report = replace(judge(tracking, interval_ns, boot_ns + offset_ns), update=self._update)
        return self._contradictions.judge(report, moved_ns, boot_ns, max(interval_ns, _INTERVAL_FLOOR_NS))

    def _moved_ns(self, tracking: Tracking, offset_ns: int) -> int:
        before_ns = self._updated_offset_ns
        # What the system clock was set by since the last update counts for chronyd as a move, unless it set it itself.
        stepped_ns = 0 if before_ns is None else offset_ns - before_ns
        return min(tracking.moved_ns, tracking.moved_ns + stepped_ns, key=abs)

    async def _exchange(self) -> Tracking:
        if not self._address.startswith("/"):
            host, port = self._address.rsplit(":", 1)
            with socket.socket(socket.AF_INET, _DATAGRAMS) as connection:
                connection.connect((host, int(port)))
                return await _query(connection)
        # chronyd answers only to a socket with a name, in a directory that it may write to: its own.
        name = Path(self._address).parent / f"tidegate.{os.getpid()}.{os.urandom(4).hex()}.sock"
        try:
            with socket.socket(socket.AF_UNIX, _DATAGRAMS) as connection:
                connection.bind(str(name))
                name.chmod(0o666)  # chronyd is another user.
                connection.connect(self._address)
                return await _query(connection)
        finally:
            await asyncio.to_thread(name.unlink, missing_ok=True)


async def _query(connection: socket.socket) -> Tracking:
    sequence = int.from_bytes(os.urandom(4), "big")
    connection.send(request(sequence))
    async with asyncio.timeout(_ANSWER_WITHIN_S):
        for _ in range(_STRAY_LIMIT):
            answer = await asyncio.get_running_loop().sock_recv(connection, _ANSWER_BYTES + 1)
            if (tracking := parse(answer, sequence)) is not None:
                return tracking
    raise SourceSilent(f"chronyd does not answer: {_STRAY_LIMIT} datagrams answered something else")
