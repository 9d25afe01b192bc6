"""A proxy before the broker that swallows PUBACKs and cuts connections at random moments, and counts what goes twice.

A record may go again that had no PUBACK (at most the in-flight window), and one whose PUBACK came within the resend
window before the connection ended; the sender remembers those by the second. What the gateway had taken as acknowledged
and what the proxy had passed on differ by at most a window, because the gateway publishes no more while it waits.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field
from hashlib import sha256
from time import monotonic
from typing import Any

from edge.mqtt.codec import PacketType, Splitter
from edge.testing.proxy import Proxy, Pump
from tests.faults.gateway.site_under_test import is_delivered

_MERGED_S = 1.0
_PACKET_BYTES = 1 << 20
_ALL = frozenset(range(256))


@dataclass
class Counts:
    """What went through the proxy.

    Attributes:
        cycles: connections that the broker accepted.
        published: records on the wire, and `duplicates`: those of them that had been on it before.
        allowed: how many duplicates the windows of all cycles allow together.
        most_over: the most by which the duplicates were over what was allowed, at the end of any cycle; 0 is fine.
    """

    cycles: int = 0
    published: int = 0
    duplicates: int = 0
    swallowed: int = 0
    allowed: int = 0
    most_over: int = 0
    seen: set[bytes] = field(default_factory=set)


class LossyProxy(Proxy):
    """Forwards to the broker; each connection is cut after some PUBACKs, until `calm`."""

    def __init__(self, broker_port: int, *, seed: int, window: int, resend_window_s: float) -> None:
        super().__init__("127.0.0.1", broker_port)
        self.counts = Counts()
        self.is_calm = False
        self._window, self._resend_window_s = window, resend_window_s
        self._dice = random.Random(seed)
        self._passed_on: deque[float] = deque()

    def accept(self) -> tuple[Pump, Pump]:
        return self._up, self._down

    async def _up(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        splitter = Splitter(_PACKET_BYTES, _ALL)
        while data := await reader.read(65536):
            for first_byte, body in splitter.feed(data):
                if first_byte >> 4 == PacketType.PUBLISH:
                    self._count(_payload(body))
            server.write(data)
            await server.drain()

    def _count(self, payload: bytes) -> None:
        if payload.startswith(b"{"):  # The status, which is no record.
            return
        counts, key = self.counts, sha256(payload).digest()
        counts.published += 1
        counts.duplicates += key in counts.seen
        counts.seen.add(key)

    async def _down(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        splitter, left, received_at_s = Splitter(_PACKET_BYTES, _ALL), self._dice.randrange(10), monotonic()
        may_lose = self._window - 1  # Without room in its window the gateway would publish no more.
        while data := await answers.read(65536):
            received_at_s = monotonic()
            for first_byte, body in splitter.feed(data):
                kind = first_byte >> 4
                self.counts.cycles += kind == PacketType.CONNACK
                if kind == PacketType.PUBACK and not self.is_calm:
                    if left <= 0 or not may_lose:
                        self._end_cycle(received_at_s)
                        return
                    left -= 1
                    if self._dice.random() < 0.2:
                        self.counts.swallowed += 1
                        may_lose -= 1
                        continue
                    self._passed_on.append(received_at_s)
                writer.write(bytes((first_byte, len(body))) + body)
            await writer.drain()

    def _end_cycle(self, received_at_s: float) -> None:
        counts, passed_on = self.counts, self._passed_on
        while passed_on and passed_on[0] < received_at_s - self._resend_window_s - _MERGED_S:
            passed_on.popleft()
        counts.most_over = max(counts.most_over, counts.duplicates - counts.allowed)
        counts.allowed += 2 * self._window + len(passed_on)


class PubackFilter(LossyProxy):
    """Loses PUBACKs and nothing else, and ends no connection, until `calm`."""

    async def _down(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        splitter = Splitter(_PACKET_BYTES, _ALL)
        while data := await answers.read(65536):
            for first_byte, body in splitter.feed(data):
                kind = first_byte >> 4
                self.counts.cycles += kind == PacketType.CONNACK
                if kind == PacketType.PUBACK and not self.is_calm and self._dice.random() < 0.2:
                    self.counts.swallowed += 1
                else:
                    writer.write(bytes((first_byte, len(body))) + body)
            await writer.drain()


def _payload(body: bytes) -> bytes:
    """The payload of a PUBLISH with QoS 1 (MQTT 5.0, section 3.3)."""
    at = 2 + int.from_bytes(body[:2], "big") + 2
    assert body[at] < 0x80
    return body[at + 1 + body[at] :]


def lose_pubacks(
    site: Any, cycles: int, seed: int, kind: type[LossyProxy] = LossyProxy
) -> tuple[LossyProxy, list[str]]:
    """Run the site behind such a proxy for so many connections, and account for everything; what should not be."""
    window = 8
    site.add_counter("mixer", every="20 ms")
    site.mosquitto()
    proxy = kind(site.broker_port, seed=seed, window=window, resend_window_s=0.1)
    site.plant.enter(proxy)
    relay = site.relay()
    mqtt = site.settings["uplink"]["mqtt"]
    mqtt |= {"port": proxy.port, "in_flight": window, "resend_window": "100 ms"}
    gateway = site.hasty_gateway()
    site.wait(lambda: proxy.counts.cycles >= cycles, f"{cycles} connections", limit_s=40 + cycles)
    proxy.is_calm = True
    site.wait(lambda: (now := site.status()) and is_delivered(now), "what waits to be delivered", limit_s=60 + cycles)
    told = site.stop_and_archive(gateway)
    findings = list(site.account(told, "mixer").findings())
    if proxy.counts.most_over:
        findings.append(f"{proxy.counts.most_over} records more went twice than the windows allow")
    if proxy.counts.seen != {sha256(record).digest() for record in site.archived()}:
        findings.append("the archive holds other records than were sent")
    if not site.verify(site.archive)["is_wholly_authentic"]:
        findings.append("the archive is not wholly authentic")
    findings += [f"{each.name} raised: {each.log()[-1000:]}" for each in (gateway, relay) if "Traceback" in each.log()]
    return proxy, findings
