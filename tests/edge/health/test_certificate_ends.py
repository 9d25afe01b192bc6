"""A certificate that expires is an event in time, and not every hour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from edge.health import CertificateMonitor, HeldCertificate
from edge.tls import Certificate

DAY_NS = 86_400 * 10**9
NOW_NS = 20_000 * DAY_NS


@dataclass
class Checks:
    events: list[tuple[str, str, Mapping[str, str | int]]] = field(default_factory=list)
    monitor: CertificateMonitor = field(init=False)

    def __post_init__(self) -> None:
        self.monitor = CertificateMonitor(lambda *event: self.events.append(event))

    def check(self, *held: HeldCertificate, days: float = 0) -> list[str]:
        """The kinds of event that a check this many days from now records."""
        before = len(self.events)
        self.monitor.check(held, NOW_NS + round(days * DAY_NS))
        return [kind for kind, _, _ in self.events[before:]]


def held(
    days: float = 40, *, device: str = "plc", whose: str = "the device's", name: str = "CN=plc"
) -> HeldCertificate:
    expires_at_ns = NOW_NS + round(days * DAY_NS)
    return HeldCertificate(device, Certificate(whose=whose, name="CN=plc", expires_at_ns=expires_at_ns))


@pytest.mark.requirement("REQ-OPER-02")
def test_there_is_an_event_30_7_and_1_days_ahead_and_at_the_end_once_each() -> None:
    checks, each = Checks(), held(40)

    kinds = {hour: found for hour in range(42 * 24) if (found := checks.check(each, days=hour / 24))}

    assert kinds == {
        10 * 24: ["cert.expiring"],
        33 * 24: ["cert.expiring"],
        39 * 24: ["cert.expiring"],
        40 * 24: ["cert.expired"],
    }
    assert [data["days_left"] for _, _, data in checks.events] == [30, 7, 1, 0]


def test_one_that_is_close_to_its_end_is_one_event_at_the_start() -> None:
    checks = Checks()

    assert [checks.check(held(5)), checks.check(held(5))] == [["cert.expiring"], []]
    assert checks.events[0][1:] == (
        "plc CN=plc",
        {"whose": "the device's", "name": "CN=plc", "device": "plc", "expires": "2024-10-09T00:00:00Z", "days_left": 5},
    )


def test_a_renewed_one_is_another() -> None:
    checks = Checks()

    assert [checks.check(held(5)), checks.check(held(400)), checks.check(held(6))] == [
        ["cert.expiring"],
        [],
        ["cert.expiring"],
    ]


def test_one_of_ours_that_serves_many_devices_is_one_event() -> None:
    checks = Checks()
    ours = [held(5, device=f"plc-{n}", whose="ours") for n in range(9)]

    assert checks.check(*ours, held(5), held(5, device="other")) == ["cert.expiring"] * 3
    assert checks.check(*ours) == []
    assert len(checks.monitor.held) == 9


@pytest.mark.parametrize(("days", "date"), [(-(10**5), "1750-12-20T00:00:00Z"), (2_900_000, "9964-09-09T00:00:00Z")])
def test_certificates_that_never_expire_and_from_before_1970_are_events_too(days: int, date: str) -> None:
    checks = Checks()

    checks.check(held(days), days=4 * 10**6)

    assert [data["expires"] for _, _, data in checks.events] == [date]
