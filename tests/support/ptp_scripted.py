"""ptp4l's management socket, which says what a test wants, and only ever answers GETs."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

OWN, GRANDMASTER, OTHER = (
    b"\x0a\x00\x27\xff\xfe\x00\x00\x01",
    b"\x00\x80\xea\xff\xfe\x00\x00\x02",
    b"\x00\x0b\xad\xff\xfe\x00\x00\x03",
)
SLAVE, LISTENING, MASTER, UNCALIBRATED = 9, 4, 6, 8
UTC_OFFSET_VALID, PTP_TIMESCALE, TRACEABLE = 4, 8, 0x30


@dataclass
class Says:
    """What ptp4l says; by default: locked to a grandmaster within 100 ns of UTC, with stamps of the system clock."""

    states: list[int] = field(default_factory=lambda: [SLAVE])  # Of each port.
    sync_log: int = 0
    offset_ns: int = 1_000
    ingress_ns: int = 1_767_225_600 * 10**9
    grandmaster: bytes = GRANDMASTER
    parent_grandmaster: bytes | None = None  # What PARENT_DATA_SET says; by default the same.
    clock_class: int = 6
    accuracy: int = 0x21
    flags: int = UTC_OFFSET_VALID | PTP_TIMESCALE | TRACEABLE
    utc_offset_s: int = 37
    steps_removed: int = 1
    path_delay_ns: float = 2_000.0
    interface: str = ""  # Whose hardware clock stamps; empty for software stamps.
    domain: int = 0
    sdo: int = 0

    def data(self, what: int, port: int) -> bytes | None:
        """A data set; None where it is not known."""
        state = self.states[port - 1] if 0 < port <= len(self.states) else 0
        name = (self.interface or "eth0").encode()
        return {
            0x2000: struct.pack("!BxHBBBHB8sBx", 3, len(self.states), 128, 248, 0xFE, 0xFFFF, 128, OWN, self.domain),
            0x2001: struct.pack("!Hqq", self.steps_removed, self.offset_ns << 16, round(self.path_delay_ns * 65536)),
            0x2002: struct.pack(
                "!8sHBxHiBBBHB8s", self.grandmaster, 1, 0, 0xFFFF, 0x7FFFFFFF, 128, self.clock_class, self.accuracy,
                0x4E5D, 128, self.parent_grandmaster or self.grandmaster,
            ),
            0x2003: struct.pack("!hBB", self.utc_offset_s, self.flags, 0x20),
            0x2004: struct.pack("!8sHBbqbBbBbB", OWN, port, state, 0, 0, 1, 3, self.sync_log, 1, 0, 2),
            0xC000: struct.pack(
                "!qqiiH12si8s", self.offset_ns, self.ingress_ns, 0, 0, 0, bytes(12), 1, self.grandmaster
            ),
            0xC004: struct.pack("!8sHBBB", OWN, port, state, 1 if self.interface else 0, len(name)) + name,
        }.get(what)  # fmt: skip


def answer(asked: bytes, says: Says | None = None) -> bytes:
    """The answer to a GET; empty where ptp4l would drop it: another domain, or another transportSpecific."""
    says = says or Says()
    head, target, port, (what,) = (
        asked[:34],
        asked[34:42],
        struct.unpack_from("!H", asked, 42)[0],
        struct.unpack_from("!H", asked, 52),
    )
    if (head[0] >> 4, head[4]) != (says.sdo, says.domain) or target not in (OWN, b"\xff" * 8):
        return b""
    data = says.data(what, port)
    tlv = struct.pack("!HHHH4x", 2, 8, 2, what) if data is None else struct.pack("!HHH", 1, 2 + len(data), what) + data
    sender = struct.pack("!8sH", OWN, port if port <= len(says.states) else 0)
    body = head[20:30] + struct.pack("!BBBx", 0, 0, 2) + tlv
    return head[:2] + struct.pack("!H", 34 + len(body)) + head[4:20] + sender + head[30:34] + body


@asynccontextmanager
async def scripted(
    path: Path, says: Says, answers: Callable[[bytes, Says], bytes] = answer
) -> AsyncIterator[list[bytes]]:
    """A socket that answers; every datagram that came."""
    came: list[bytes] = []

    def serve() -> None:
        asked, sender = serving.recvfrom(2048)
        came.append(asked)
        if said := answers(asked, says):
            serving.sendto(said, sender)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as serving:
        serving.bind(str(path))
        asyncio.get_running_loop().add_reader(serving.fileno(), serve)
        try:
            yield came
        finally:
            asyncio.get_running_loop().remove_reader(serving.fileno())
            await asyncio.to_thread(path.unlink)
