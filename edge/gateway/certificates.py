"""Certificates come to an end: it is told 30, 7 and 1 days ahead, and once it is too late."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from edge.tls import Certificate

CHECK_INTERVAL_S = 3600.0
DAYS_AHEAD = (30, 7, 1, 0)

_DAY_NS = 86_400 * 10**9
_NAME_LIMIT = 200
_LATEST_S = 253_402_300_799  # The last second of the year 9999: some certificates mean for ever.

Tell = Callable[[str, str, Mapping[str, str | int]], None]
"""Takes (kind, subject, data) of an event."""


@dataclass(frozen=True, slots=True)
class HeldCertificate:
    """A certificate, and the device whose conversation needs it; empty where that is the gateway as a whole."""

    device: str
    certificate: Certificate


class CertificateMonitor:
    """Tells of each certificate once at each threshold; after a renewal it is another one.

    Attributes:
        held: the certificates of the last look, for the metrics.
    """

    def __init__(self, tell: Tell) -> None:
        self.held: tuple[HeldCertificate, ...] = ()
        self._tell = tell
        self._told: dict[tuple[str, Certificate], int] = {}

    def look(self, held: Iterable[HeldCertificate], utc_ns: int) -> None:
        """Look at the certificates of now."""
        self.held = tuple(held)
        told: dict[tuple[str, Certificate], int] = {}
        for each in self.held:
            certificate = each.certificate
            # Ours may serve many devices: it is told once.
            key = "" if certificate.whose == "ours" else each.device, certificate
            passed = [days for days in DAYS_AHEAD if certificate.expires_at_ns - utc_ns <= days * _DAY_NS]
            if not passed:
                continue
            days = told[key] = min(passed)
            if days < self._told.get(key, DAYS_AHEAD[0] + 1):
                self._told[key] = days
                self._say(each, utc_ns)
        self._told = told

    def _say(self, each: HeldCertificate, utc_ns: int) -> None:
        certificate = each.certificate
        name = certificate.name[:_NAME_LIMIT]
        data: dict[str, str | int] = {
            "whose": certificate.whose,
            "name": name,
            "device": each.device,
            "expires": _date(certificate.expires_at_ns),
            "days_left": (certificate.expires_at_ns - utc_ns) // _DAY_NS,
        }
        is_over = certificate.expires_at_ns <= utc_ns
        self._tell("cert.expired" if is_over else "cert.expiring", f"{each.device} {name}".strip(), data)


def _date(utc_ns: int) -> str:
    return f"{datetime.fromtimestamp(max(0, min(utc_ns // 10**9, _LATEST_S)), UTC):%Y-%m-%dT%H:%M:%SZ}"
