"""The network side: send what is stored. It sees the buffer directory and the broker, and no device."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from random import SystemRandom
from typing import Literal

from edge.buffer import Cursor, Disk, PosixDisk, Reader
from edge.buffer.pending import PendingRecords
from edge.clock import Clock
from edge.config.settings import GatewaySettings, Mqtt
from edge.errors import ConfigError
from edge.gateway.certificates import CHECK_INTERVAL_S, CertificateMonitor, HeldCertificate
from edge.seal import issuer_of
from edge.tls import TlsFiles, own_certificates
from edge.uplink import BrokerAccess, Delivery, Forwarder, Report, UplinkSnapshot

POLL_S = 0.02
SAVE_EVERY_S = 5.0
_FRESH_RECORDS = 256
_SEVERITIES: dict[str, Literal["warning", "error"]] = {"cert.expiring": "warning", "cert.expired": "error"}


class StoredRecords:
    """The buffer as the forwarder asks of it; what is acknowledged is remembered on disk.

    Fresh records are still in the page cache and are read in the loop where the last read stopped; older ones, and
    what has to be searched for, are read in a thread, because a disk may take its time.
    """

    def __init__(self, disk: Disk, waiting: PendingRecords | None, clock: Clock, resend_window_ns: int) -> None:
        """What was acknowledged counts on disk only after the resend window: power fails gateway and broker at once."""
        self._ends, self._records = Reader(disk, waiting), Reader(disk, waiting)
        self._cursor = Cursor(disk)
        self._clock, self._resend_window_ns = clock, resend_window_ns
        self._acknowledged: deque[tuple[int, list[tuple[int, int]]]] = deque()
        self._new: list[tuple[int, int]] = []

    def durable_end(self) -> int:
        """See `Source.durable_end`."""
        return self._ends.durable_end()

    def oldest(self) -> int:
        """See `Source.oldest`."""
        return self._ends.oldest()

    def undelivered(self) -> Iterable[tuple[int, int]]:
        """See `Source.undelivered`."""
        end = self.durable_end()
        return self._cursor.intervals.missing(self.oldest(), end - 1) if end else ()

    async def read(self, number: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """See `Source.read`."""
        if number >= self.durable_end() - _FRESH_RECORDS and self._records.has_position(number):
            return self._records.read(number, max_bytes)
        return await asyncio.to_thread(self._records.read, number, max_bytes)

    def acknowledge(self, first: int, last: int) -> None:
        """See `Source.acknowledge`."""
        self._ends.acknowledge(first, last)
        if self._new and self._new[-1][1] == first - 1:
            self._new[-1] = (self._new[-1][0], last)
        else:
            self._new.append((first, last))

    async def reserve(self) -> None:
        """Make the cursor while there is space: what was delivered cannot make room on a disk that cannot be told."""
        await asyncio.to_thread(self._save, [])

    async def save(self) -> None:
        """Make durable what was acknowledged long enough ago; a disk that refuses is asked again next time."""
        now_ns = self._clock.boot_ns()
        if self._new:
            self._acknowledged.append((now_ns, self._new))
            self._new = []
        settled: list[tuple[int, int]] = []
        while self._acknowledged and now_ns - self._acknowledged[0][0] >= self._resend_window_ns:
            settled += self._acknowledged.popleft()[1]
        if settled:
            await asyncio.to_thread(self._save, settled)

    def _save(self, settled: list[tuple[int, int]]) -> None:
        for first, last in settled:
            self._cursor.add(first, last)
        try:
            self._cursor.save()
        except OSError:  # What is not remembered as delivered is sent again, and dropped by the receiver.
            return

    def close(self) -> None:
        """Give the files back."""
        self._ends.close()
        self._records.close()


class Forwarding:
    """Sends what is stored, until it is cancelled."""

    def __init__(
        self, settings: GatewaySettings, clock: Clock, report: Report, waiting: PendingRecords | None = None
    ) -> None:
        """`waiting` is the store's where that is in this process; elsewhere the directory is looked at steadily."""
        assert settings.uplink is not None
        mqtt = settings.uplink.mqtt
        disk = PosixDisk(settings.buffer_directory)
        self._source = StoredRecords(disk, waiting, clock, mqtt.resend_window)
        self._is_alone = waiting is None
        self._clock = clock
        access = _broker_access(mqtt, issuer_of(settings.gateway.name))
        self._tls = access.tls
        self.expiry = CertificateMonitor(lambda kind, _, data: report(kind, _SEVERITIES[kind], data))
        self._forwarder = Forwarder(
            self._source, access, _delivery(settings, mqtt), clock=clock, random=SystemRandom(), report=report,
        )  # fmt: skip

    def wake(self) -> None:
        """Something became durable."""
        self._forwarder.wake()

    def snapshot(self) -> UplinkSnapshot:
        """What the uplink is doing now."""
        return self._forwarder.snapshot()

    async def run(self) -> None:
        """Connect, send and remember what was delivered, until cancelled."""
        try:
            await self._source.reserve()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._forwarder.run(), name="forwarder")
                tasks.create_task(_every(SAVE_EVERY_S, self._source.save), name="cursor")
                tasks.create_task(self._watch_certificates(), name="certificates")
                if self._is_alone:
                    tasks.create_task(self._look(), name="look")
        finally:
            await asyncio.shield(self._source.save())
            self._source.close()

    async def drain(self, limit_s: float) -> None:
        """Wait until everything stored was delivered, or for a time; a broker that is away may come back in it."""
        try:
            async with asyncio.timeout(limit_s):
                while (state := self.snapshot()).state != "refused" and (state.waiting or state.in_flight):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return

    async def _watch_certificates(self) -> None:
        while self._tls is not None:
            # They are files, and may be renewed at any time.
            found = await asyncio.to_thread(own_certificates, self._tls)
            self.expiry.look((HeldCertificate("", each) for each in found), self._clock.utc_ns())
            await asyncio.sleep(CHECK_INTERVAL_S)

    async def _look(self) -> None:
        seen = -1
        while True:
            end = self._source.durable_end()
            if end != seen:
                seen = end
                self.wake()
            await asyncio.sleep(POLL_S)


async def _every(period_s: float, call: Callable[[], object]) -> None:
    while True:
        await asyncio.sleep(period_s)
        await call()  # type: ignore[misc]


def _delivery(settings: GatewaySettings, mqtt: Mqtt) -> Delivery:
    """How records are sent."""
    return Delivery(
        gateway=settings.gateway.name, is_in_order=mqtt.order == "in_order", backlog_share=mqtt.backlog_share,
        resend_window_ns=mqtt.resend_window, is_delivered_without_subscriber=mqtt.no_subscriber == "delivered",
    )  # fmt: skip


def _broker_access(mqtt: Mqtt, client_id: str) -> BrokerAccess:
    """Where the broker is, in the uplink's words."""
    if mqtt.tls == "off":
        tls = None
    else:
        certificate, key = mqtt.tls.certificate, mqtt.tls.key
        tls = TlsFiles(
            ca=mqtt.tls.ca.path,
            certificate=certificate.path if certificate else None,
            key=key.path if key else None,
            settings="uplink.mqtt.tls",
        )
    password = mqtt.password.read().rstrip(b"\r\n") if mqtt.password else None
    if mqtt.password and not password:
        raise ConfigError(f"uplink.mqtt.password: {mqtt.password} is empty")
    return BrokerAccess(
        host=mqtt.host, port=mqtt.port, client_id=client_id, tls=tls, username=mqtt.username, password=password,
        keep_alive_s=round(mqtt.keep_alive / 1e9), in_flight=mqtt.in_flight,
    )  # fmt: skip
