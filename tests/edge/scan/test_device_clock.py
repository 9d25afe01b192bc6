"""How far a device's clock is off, from the times in its answers."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from edge.model import Reading
from edge.scan import DeviceClockMonitor

MS, S = 10**6, 10**9


@dataclass
class Device:
    """A device whose clock is off by a known time, and that answers slowly."""

    off_ns: int = 0
    boot_ns: int = 1000 * S
    limit_ns: int | None = S

    def __post_init__(self) -> None:
        self.monitor = DeviceClockMonitor(self.limit_ns, lambda boot_ns: boot_ns)

    def ask(self, there_ns: int = 10 * MS, back_ns: int = 10 * MS) -> dict[str, str | int | None] | None:
        self.boot_ns += S
        device_ns = self.boot_ns + there_ns + self.off_ns
        answered_ns = self.boot_ns + there_ns + back_ns
        return self.monitor.check(Reading((), self.boot_ns, answered_ns, device_time_ns=device_ns))


@given(off_ns=st.integers(-(10**12), 10**12), drift_ppm=st.integers(-100, 100), seed=st.integers(0, 10**6))
def test_the_estimate_is_right_within_what_it_says_and_better_than_any_answer(
    off_ns: int, drift_ppm: int, seed: int
) -> None:
    device, random = Device(off_ns), Random(seed)
    for _ in range(50):
        device.off_ns += drift_ppm * 1000
        device.ask(random.randrange(50 * MS), random.randrange(50 * MS))

    assert device.monitor.off_ns is not None
    assert abs(device.monitor.off_ns - device.off_ns) <= device.monitor.unsure_ns + MS
    assert device.monitor.unsure_ns < 25 * MS


def test_a_clock_at_its_limit_is_one_event() -> None:
    """Answers take different times, so that the device is a little more and a little less off."""
    device = Device(S + 2 * MS)
    events = []
    for number in range(100):
        device.off_ns = S + (2 if number % 2 else -2) * MS
        events.append(device.ask(0, 0))

    assert [event["state"] for event in events if event] == ["off"]


def test_a_clock_that_is_set_right_is_known_at_once() -> None:
    device = Device(60 * S)
    first = device.ask()
    device.off_ns = 0
    back = device.ask()

    assert first is not None
    assert back is not None
    assert [first["state"], back["state"]] == ["off", "within its limit again"]
    assert device.monitor.off_ns == 0


def test_without_a_limit_it_is_estimated_and_no_event() -> None:
    device = Device(3600 * S, limit_ns=None)

    assert device.ask() is None
    assert device.monitor.off_ns == 3600 * S


def test_a_device_that_does_not_say_its_time_is_not_estimated() -> None:
    monitor = DeviceClockMonitor(S, lambda boot_ns: boot_ns)

    monitor.check(Reading((), S, 2 * S))

    assert monitor.off_ns is None
