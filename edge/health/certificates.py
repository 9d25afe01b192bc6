"""Certificates that expire: an event 30, 7 and 1 days ahead, and one when it has happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from edge.health.snapshot import CertificateStatus
from edge.health.thresholds import Thresholds
from edge.tls import Certificate
from edge.units import format_utc

CHECK_INTERVAL_S = 3600.0
DAYS_AHEAD = (30, 7, 1, 0)

_DAY_NS = 86_400 * 10**9
_NAME_LIMIT = 200

RecordEvent = Callable[[str, str, Mapping[str, str | int]], None]
"""Takes (kind, subject, data) of an event."""
FindCertificates = Callable[[], Awaitable[Iterable["HeldCertificate"]]]
"""Returns the certificates in use."""


@dataclass(frozen=True, slots=True)
class HeldCertificate:
    """A certificate, and the device, view or sink whose sessions need it; empty where the whole process does."""

    device: str
    certificate: Certificate

    def status(self) -> CertificateStatus:
        """As it is shown."""
        return CertificateStatus(
            whose=self.certificate.whose, name=self.certificate.name, device=self.device,
            expires_at_ns=self.certificate.expires_at_ns, exception=self.certificate.exception,
        )  # fmt: skip


class CertificateMonitor:
    """Records one event for each certificate and threshold; a renewed certificate is another one.

    Attributes:
        held: the certificates of the last check, for the metrics.
    """

    def __init__(self, record_event: RecordEvent) -> None:
        self.held: tuple[HeldCertificate, ...] = ()
        self._record_event = record_event
        self._thresholds: Thresholds[tuple[str, Certificate]] = Thresholds(DAYS_AHEAD)
        self._is_due = asyncio.Event()

    async def run(self, find: FindCertificates, utc_ns: Callable[[], int]) -> NoReturn:
        """Check the certificates in use at the start, each hour and after `check_soon`, until cancelled."""
        while True:
            self._is_due.clear()
            self.check(await find(), utc_ns())
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL_S):
                    await self._is_due.wait()

    def check_soon(self) -> None:
        """Check with the next turn of the event loop."""
        self._is_due.set()

    def check(self, held: Iterable[HeldCertificate], utc_ns: int) -> None:
        """Record the thresholds that these certificates have passed since the last check."""
        self.held = tuple(held)
        first: dict[tuple[str, Certificate], HeldCertificate] = {}
        for each in self.held:
            # One of ours may serve many devices: it gets one event.
            device = each.device if each.certificate.whose.startswith("the ") else ""
            first.setdefault((device, each.certificate), each)
        ends_ns = ((key, each.certificate.expires_at_ns) for key, each in first.items())
        for key in self._thresholds.passed(ends_ns, utc_ns):
            self._record_expiry(first[key], utc_ns)

    def _record_expiry(self, each: HeldCertificate, utc_ns: int) -> None:
        certificate = each.certificate
        name = certificate.name[:_NAME_LIMIT]
        data: dict[str, str | int] = {
            "whose": certificate.whose,
            "name": name,
            "device": each.device,
            "expires": format_utc(certificate.expires_at_ns),
            "days_left": (certificate.expires_at_ns - utc_ns) // _DAY_NS,
        }
        is_expired = certificate.expires_at_ns <= utc_ns
        self._record_event("cert.expired" if is_expired else "cert.expiring", f"{each.device} {name}".strip(), data)
