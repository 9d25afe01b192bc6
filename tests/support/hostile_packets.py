"""Packets that somebody sends who is root on a neighbouring machine: none of them belongs to a connection.

It is a program: `python -m tests.support.hostile_packets CABLE ADDRESS-OF-CARD COUNT TARGET SOURCE...`. It writes them
straight to the cable, past this machine's own firewall and routes.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Iterator
from random import Random

_TCP, _UDP, _ICMP = 6, 17, 1
_PORTS = (22, 53, 123, 443, 502, 1883, 2222, 4840, 8883, 9464, 44818)
# Of the gateway's own connections and questions, with the other side's port as source.
_ANSWERING = (53, 123, 502, 4840, 8883, 44818)


class Attack:
    """Endless packets to one machine, from any of these addresses."""

    def __init__(self, random: Random, target: str, sources: list[str]) -> None:
        self._random = random
        self._target = socket.inet_aton(target)
        self._sources = [socket.inet_aton(each) for each in sources]

    def packets(self) -> Iterator[bytes]:
        """One kind after the other, at random."""
        kinds: tuple[Callable[[], bytes], ...] = (
            self.syn, self.segment, self.segment, self.datagram, self.datagram, self.icmp, self.fragment, self.other,
            self.broken,
        )  # fmt: skip
        while True:
            yield self._random.choice(kinds)()

    def syn(self) -> bytes:
        """The begin of a connection."""
        return self._tcp(self._port(), self._random.choice([*_PORTS, self._port()]), 0x02)

    def segment(self) -> bytes:
        """As if of a connection that the gateway has: with data, with RST or FIN, or with every flag."""
        return self._tcp(self._random.choice(_ANSWERING), self._port(), self._random.randrange(256), self._noise())

    def datagram(self) -> bytes:
        """As if an answer to a question of the gateway's, or a question."""
        ports = [self._random.choice(_ANSWERING), self._port()]
        self._random.shuffle(ports)
        data = self._noise()
        return self._ip(_UDP, struct.pack(">HHHH", *ports, 8 + len(data), 0) + data)

    def icmp(self) -> bytes:
        """Echo, redirect, unreachable, time exceeded and others, with a quotation that is none."""
        kind = self._random.choice([0, 3, 4, 5, 8, 9, 11, 12, 13, 17, self._random.randrange(256)])
        body = struct.pack(">BBHI", kind, self._random.randrange(16), 0, self._random.getrandbits(32)) + self.broken()
        return self._ip(_ICMP, body[:2] + _checksum(body) + body[4:])

    def fragment(self) -> bytes:
        """A piece of something whose other pieces never come."""
        return self._ip(_UDP, self._random.randbytes(64), fragment=self._random.choice([0x2000, 0x2010, 0x0020]))

    def other(self) -> bytes:
        """Another protocol: tunnels, SCTP, routing."""
        return self._ip(self._random.choice([2, 4, 41, 47, 50, 89, 132]), self._noise())

    def broken(self) -> bytes:
        """Any bytes behind a header that may be wrong itself."""
        whole = bytearray(self._ip(self._random.choice([_TCP, _UDP]), self._noise()))
        whole[self._random.randrange(20)] ^= 1 << self._random.randrange(8)
        return bytes(whole)

    def _tcp(self, source: int, target: int, flags: int, data: bytes = b"") -> bytes:
        numbers = self._random.getrandbits(32), self._random.getrandbits(32)
        head = struct.pack(">HHIIBBHHH", source, target, *numbers, 5 << 4, flags, 65535, 0, 0)
        sender = self._random.choice(self._sources)
        ends = sender + self._target + struct.pack(">BBH", 0, _TCP, len(head) + len(data))
        return self._ip(_TCP, head[:16] + _checksum(ends + head + data) + head[18:] + data, sender)

    def _ip(self, protocol: int, body: bytes, sender: bytes | None = None, fragment: int = 0) -> bytes:
        sender = sender or self._random.choice(self._sources)
        number = self._random.getrandbits(16)
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), number, fragment, 64, protocol, 0)
        head += sender + self._target
        return head[:10] + _checksum(head) + head[12:] + body

    def _port(self) -> int:
        return self._random.randrange(1, 65536)

    def _noise(self) -> bytes:
        return self._random.randbytes(self._random.randrange(200))


def _checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f">{len(data) // 2 + len(data) % 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


def main(cable: str, card: str, count: str, target: str, *sources: str) -> None:
    """Send them."""
    packets = Attack(Random(1), target, [*sources]).packets()
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as wire:
        place = (cable, 0x0800, 0, 0, bytes.fromhex(card.replace(":", "")))
        for _ in range(int(count)):
            wire.sendto(next(packets), place)


if __name__ == "__main__":
    main(*sys.argv[1:])
