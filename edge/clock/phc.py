"""The hardware clock of a network card (PHC) against the system clock, for reading only."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from dataclasses import dataclass

_TRIES = 5
_TRIES_LIMIT = 25  # PTP_MAX_SAMPLES of linux/ptp_clock.h.
_STAMP = struct.Struct("=qII")
_HEAD_BYTES = 16
_EXTENDED_BYTES = _HEAD_BYTES + _TRIES_LIMIT * 3 * _STAMP.size
_PLAIN_BYTES = _HEAD_BYTES + (2 * _TRIES_LIMIT + 1) * _STAMP.size
_PTP_SYS_OFFSET_EXTENDED = 3 << 30 | _EXTENDED_BYTES << 16 | ord("=") << 8 | 9
_PTP_SYS_OFFSET = 1 << 30 | _PLAIN_BYTES << 16 | ord("=") << 8 | 5
_SIOCETHTOOL, _GET_TIMESTAMPING = 0x8946, 0x41
_TIMESTAMPING = struct.Struct("=IIi32x")


@dataclass(frozen=True, slots=True)
class PhcReading:
    """Both clocks at one instant.

    Attributes:
        phc_ns: the hardware clock, in its own timescale.
        system_ns: the system clock, UTC.
        window_ns: how long the reading took: the instant lies within half of it.
    """

    phc_ns: int
    system_ns: int
    window_ns: int


def read_phc(name: str) -> PhcReading:
    """A hardware clock, by its device or by the network interface whose packets it stamps, and the system clock.

    Raises:
        OSError: there is none, or this process may not read it.
    """
    path = name if name.startswith("/") else f"/dev/ptp{_index_of(name)}"
    device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        asked = bytearray(_EXTENDED_BYTES)
        struct.pack_into("=I", asked, 0, _TRIES)
        try:
            fcntl.ioctl(device, _PTP_SYS_OFFSET_EXTENDED, asked)
            return tightest(bytes(asked), 3)
        except OSError:  # A driver, or a kernel before 5.0, that cannot look so closely.
            asked = bytearray(_PLAIN_BYTES)
            struct.pack_into("=I", asked, 0, _TRIES)
            fcntl.ioctl(device, _PTP_SYS_OFFSET, asked)
            return tightest(bytes(asked), 2)
    finally:
        os.close(device)


def tightest(answer: bytes, stride: int) -> PhcReading:
    """The best of the tries in the kernel's answer: stamps of system, card, system; with stride 2 one is shared."""
    (tries,) = struct.unpack_from("=I", answer)
    stamps = [seconds * 10**9 + ns for seconds, ns, _ in _STAMP.iter_unpack(answer[_HEAD_BYTES:])]
    readings = []
    for first in range(0, stride * tries, stride):
        before_ns, phc_ns, after_ns = stamps[first : first + 3]
        readings.append(PhcReading(phc_ns, (before_ns + after_ns) // 2, abs(after_ns - before_ns)))
    return min(readings, key=lambda each: each.window_ns)


def _index_of(interface: str) -> int:
    answer = array.array("B", _TIMESTAMPING.pack(_GET_TIMESTAMPING, 0, -1))
    asked = struct.pack("16sP16x", interface.encode()[:15], answer.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, _SIOCETHTOOL, asked)
    index = _TIMESTAMPING.unpack(answer.tobytes())[2]
    if index < 0:
        raise OSError(0, f"{interface} has no hardware clock")
    return int(index)
