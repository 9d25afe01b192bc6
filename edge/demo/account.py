"""What is done to the plant and what comes of it, as lines with their times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge.demo.processes import has_archived
from edge.health import DeviceStatus, StatusSnapshot
from edge.terminal import age

Sides = tuple[StatusSnapshot | None, StatusSnapshot | None]
"""The status of the gateway and of the relay; None for one that does not answer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it, so far as is known; a settled one changes no more."""

    text: str = ""
    is_settled: bool = False


Observe = Callable[[float, Sides], Outcome]
"""Given seconds since the start and the two sides: the outcome by now."""


@dataclass(slots=True)
class Entry:
    """What was done, when, and what came of it."""

    at_s: float
    done: str
    observe: Observe | None = None
    outcome: Outcome = Outcome()
    is_fault: bool = False

    @property
    def text(self) -> str:
        """The line, without its time."""
        return f"{self.done}: {self.outcome.text}" if self.outcome.text else self.done


class Account:
    """The entries, oldest first."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, at_s: float, done: str, observe: Observe | None = None, *, is_fault: bool = False) -> None:
        """Something is done: where it has an outcome of its own, what came of what was done before is settled."""
        if observe is not None:
            self.settle()
        self.entries.append(Entry(at_s, done, observe, Outcome(is_settled=observe is None), is_fault))

    def settle(self) -> None:
        """Take what is known of all outcomes as the last."""
        for entry in self.entries:
            entry.outcome = Outcome(entry.outcome.text, is_settled=True)

    def observe(self, at_s: float, sides: Sides) -> None:
        """See what came of what was done."""
        for entry in self.entries:
            if not entry.outcome.is_settled and entry.observe is not None:
                # Once the gateway is stopped there is no more to see of it, and what was seen stays.
                found = entry.observe(at_s, sides)
                entry.outcome = found if found.text else entry.outcome


class DeviceOutage:
    """A device that stops answering, and answers again."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._gap_ns = 0

    def during(self, at_s: float, sides: Sides) -> Outcome:  # noqa: ARG002 - see Observe
        """What becomes of its tags and of the other devices."""
        gateway, device = sides[0], self._find(sides)
        if gateway is None or device is None or device.state == "up":
            return Outcome()
        self._gap_ns = max(self._gap_ns, device.gap_age_ns or 0)
        tags = sum(group.tags for group in device.scan_groups)
        others = all(each.state == "up" for each in gateway.devices if each is not device)
        return Outcome(f"its {tags} tags are BAD" + (", the others go on" if others else ""))

    def after(self, at_s: float, sides: Sides) -> Outcome:  # noqa: ARG002 - see Observe
        """The gap that is on record."""
        device = self._find(sides)
        if device is None:
            return Outcome()
        if device.state != "up" or device.gap_age_ns is not None:
            self._gap_ns = max(self._gap_ns, device.gap_age_ns or 0)
            return Outcome("the gateway tries it again soon")
        return Outcome(f"a gap of {age(self._gap_ns)} is on record", is_settled=True)

    def _find(self, sides: Sides) -> DeviceStatus | None:
        devices = sides[0].devices if sides[0] is not None else ()
        return next((each for each in devices if each.name == self._device), None)


class BrokerOutage:
    """A broker that is stopped, and started again."""

    def __init__(self) -> None:
        self._waiting = 0
        self._back_at_s: float | None = None
        self._sent_from_s = 0.0
        self._drained_at_s: float | None = None
        self._last: tuple[str, int] = "", 0

    def during(self, at_s: float, sides: Sides) -> Outcome:
        """What becomes of the records."""
        if (waiting := self._note(at_s, sides)) is None:
            return Outcome()
        return Outcome(f"the gateway keeps records on disk ({waiting:,} waiting)")

    def after(self, at_s: float, sides: Sides) -> Outcome:
        """How long it took to send them, and whether the relay has them all."""
        if self._back_at_s is None:
            self._back_at_s = at_s
        waiting = self._note(at_s, sides)
        gateway, relay = sides
        if gateway is None or gateway.uplink is None or gateway.chain is None or waiting is None:
            return Outcome()
        if self._drained_at_s is None:
            if gateway.uplink.state != "up":
                return Outcome(f"the gateway connects again soon ({waiting:,} waiting)")
            if waiting > 1:
                return Outcome(f"{self._waiting - waiting:,} of {self._waiting:,} records sent")
            self._drained_at_s = at_s
            self._last = gateway.chain.epoch, gateway.chain.seq - 1
        connected, took = self._sent_from_s - self._back_at_s, self._drained_at_s - self._sent_from_s
        sent = f"connected after {_age(connected)}, {self._waiting:,} records sent in {_age(took)}"
        if gateway.buffer is None or gateway.buffer.dropped_records or not has_archived(relay, *self._last):
            return Outcome(sent)
        return Outcome(f"{sent}, none lost", is_settled=True)

    def _note(self, at_s: float, sides: Sides) -> int | None:
        """The number of records that wait, while the uplink is or was down; None before."""
        gateway = sides[0]
        if gateway is None or gateway.buffer is None or gateway.uplink is None:
            return None
        waiting = gateway.buffer.undelivered_records or 0
        if gateway.uplink.state != "up":
            self._waiting, self._sent_from_s = waiting, at_s
        return waiting if self._waiting else None


def _age(age_s: float) -> str:
    return age(round(age_s * 1e9))
