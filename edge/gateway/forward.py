"""The network side: sends what is stored. It sees the buffer directory and the broker, and no device."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import SystemRandom
from typing import Literal

from edge.buffer import Cursor, Disk, PosixDisk, Reader
from edge.buffer.pending import PendingRecords
from edge.buffer.segment import list_segments
from edge.clock import Clock
from edge.config.settings import GatewaySettings, MqttSettings
from edge.errors import ConfigError
from edge.gateway.resend import Resends
from edge.health import CertificateMonitor, HeldCertificate
from edge.references import tls_files
from edge.seal import issuer_of
from edge.tls import in_use, load_context, with_peer
from edge.uplink import BrokerAccess, Delivery, Forwarder, Report, UplinkSnapshot

POLL_S = 0.02
SAVE_EVERY_S = 5.0
_FRESH_RECORDS = 256
_SEVERITIES: dict[str, Literal["warning", "error"]] = {"cert.expiring": "warning", "cert.expired": "error"}


class StoredRecords:
    """The buffer as the forwarder's source; acknowledged records are marked in the cursor on disk.

    The newest records come from the store of this process, where there is one. Recent ones are still in the page cache
    and are read in the event loop from where the last read stopped; older records, and those that have to be searched
    for, are read in a thread, because a disk may be slow.
    """

    def __init__(self, disk: Disk, pending: PendingRecords | None, clock: Clock, resend_window_ns: int) -> None:
        """The cursor is saved one resend window late: gateway and broker may lose power at once."""
        self._disk = disk
        self._ends, self._records = Reader(disk, pending), Reader(disk, pending)
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

    def dropped_before(self) -> int:
        """Records below this number are certainly no longer stored; 0 where the disk does not say. In any thread."""
        try:
            segments = list_segments(self._disk)
        except OSError:
            return 0
        return segments[0].number if segments else 0

    def undelivered(self) -> Iterable[tuple[int, int]]:
        """See `Source.undelivered`."""
        end = self.durable_end()
        return self._cursor.intervals.missing(self.oldest(), end - 1) if end else ()

    async def read(self, number: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """See `Source.read`."""
        if number >= self.durable_end() - _FRESH_RECORDS and self._records.is_at_hand(number):
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
        """Create the cursor while there is space: without one, delivered records cannot be freed on a full disk."""
        await asyncio.to_thread(self._save, [])

    async def save(self) -> None:
        """Save what was acknowledged before the resend window; after a disk error the next call tries again."""
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
        except OSError:  # Records that are not marked are sent again, and dropped by the receiver.
            return

    def close(self) -> None:
        """Close the files."""
        self._ends.close()
        self._records.close()


class Forwarding:
    """Sends what is stored."""

    def __init__(
        self, settings: GatewaySettings, clock: Clock, report: Report, pending: PendingRecords | None = None
    ) -> None:
        """`pending` are those of the store in this process; without one the directory is polled."""
        assert settings.uplink is not None
        mqtt = settings.uplink.mqtt
        disk = PosixDisk(settings.buffer_directory)
        self._source = StoredRecords(disk, pending, clock, mqtt.resend_window)
        self._is_alone = pending is None
        self._resend_window_ns, self._directory = mqtt.resend_window, settings.buffer_directory
        self._clock = clock
        self._settings = settings
        access = self._access()
        self._tls, self._chain = access.tls, tuple[bytes, ...]()
        self.certificates = CertificateMonitor(lambda kind, _, data: report(kind, _SEVERITIES[kind], data))
        self._forwarder = Forwarder(
            self._source, access, _delivery(settings, mqtt), clock=clock, random=SystemRandom(), report=report,
        )  # fmt: skip

    def _access(self) -> BrokerAccess:
        assert self._settings.uplink is not None
        access = _broker_access(self._settings.uplink.mqtt, issuer_of(self._settings.gateway.name))
        return replace(access, on_chain=self._note_chain)

    async def reload(self) -> None:
        """Connect anew, with the password and the certificates as their files are now.

        Raises:
            ConfigError: one cannot be used; the connection stays as it is.
        """
        access = await asyncio.to_thread(self._access)
        if access.tls is not None:
            await asyncio.to_thread(load_context, access.tls)
        self._forwarder.reconnect(access)

    def wake(self) -> None:
        """Send what has become durable."""
        self._forwarder.wake()

    def snapshot(self) -> UplinkSnapshot:
        """The state of the uplink."""
        return self._forwarder.snapshot()

    def durable_end(self) -> int:
        """Every record with a lower number is durable."""
        return self._source.durable_end()

    def oldest_waiting(self) -> int | None:
        """The lowest number that is not delivered; None where all are."""
        return self._forwarder.oldest_waiting()

    async def run(self) -> None:
        """Connect, send and save what was delivered, until cancelled."""
        try:
            await self._source.reserve()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._forwarder.run(), name="forwarder")
                tasks.create_task(self._keep_cursor(), name="cursor")
                resends = Resends(self._directory, self._forwarder, self._clock, self._resend_window_ns)
                tasks.create_task(resends.run(), name="resend")
                if self._tls is not None:
                    tasks.create_task(self.certificates.run(self._held, self._clock.utc_ns), name="certificates")
                if self._is_alone:
                    tasks.create_task(self._poll_buffer(), name="buffer")
        finally:
            await asyncio.shield(self._source.save())
            self._source.close()

    async def drain(self, limit_s: float) -> None:
        """Wait until all that the broker takes is delivered, for at most `limit_s`; it may come back meanwhile."""
        try:
            async with asyncio.timeout(limit_s):
                while _may_drain(self.snapshot()):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return

    async def _keep_cursor(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            await self._source.save()
            self._forwarder.discard_before(await asyncio.to_thread(self._source.dropped_before))

    def _note_chain(self, chain: Sequence[bytes]) -> None:
        self._chain = tuple(chain)
        self.certificates.check_soon()

    async def _held(self) -> list[HeldCertificate]:
        assert self._tls is not None
        # They are files, and may be renewed at any time.
        ours = await asyncio.to_thread(in_use, self._tls)
        return [HeldCertificate("", each) for each in with_peer(ours, self._chain, "the broker's")]

    async def _poll_buffer(self) -> None:
        seen = -1
        while True:
            end = self._source.durable_end()
            if end != seen:
                seen = end
                self.wake()
            await asyncio.sleep(POLL_S)


def _may_drain(state: UplinkSnapshot) -> bool:
    """Whether waiting may deliver more: not to a broker that refuses the connection, and not what waits for a topic."""
    is_refused = state.state == "refused" and not state.window
    return not is_refused and bool(state.in_flight or state.waiting > state.set_aside + state.unsendable)


def _delivery(settings: GatewaySettings, mqtt: MqttSettings) -> Delivery:
    """How records are sent."""
    return Delivery(
        gateway=settings.gateway.name, is_in_order=mqtt.order == "in_order", backlog_share=mqtt.backlog_share,
        backlog_bytes_per_s=mqtt.backlog_rate, resend_window_ns=mqtt.resend_window,
        is_delivered_without_subscriber=mqtt.no_subscriber == "delivered",
    )  # fmt: skip


def _broker_access(mqtt: MqttSettings, client_id: str) -> BrokerAccess:
    """How the broker is reached."""
    tls = None
    if mqtt.tls != "off":
        tls = tls_files(mqtt.tls.ca, mqtt.tls.certificate, mqtt.tls.key, mqtt.tls.crl, settings="uplink.mqtt.tls")
    password = mqtt.password.read().rstrip(b"\r\n") if mqtt.password else None
    if mqtt.password and not password:
        raise ConfigError(f"uplink.mqtt.password: {mqtt.password} is empty")
    return BrokerAccess(
        host=mqtt.host, port=mqtt.port, client_id=client_id, tls=tls, username=mqtt.username, password=password,
        keep_alive_s=round(mqtt.keep_alive / 1e9), in_flight=mqtt.in_flight,
    )  # fmt: skip
