"""Polling one device: its scan groups in turn, each reading stamped, reported and handed on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, NoReturn

from edge.clock import Clock
from edge.driver import Driver, Session
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.model import Identity, Reading, StatusCode
from edge.scan.group import Counts, ScanGroup
from edge.scan.pacer import Timer
from edge.scan.sink import Sink

_BYTES_SHOWN = 64
_NAMES_SHOWN = 20

DeviceError = DeviceUnreachable | DeviceRefused | ProtocolViolation


class DeviceState(StrEnum):
    """What an operator wants to know of a device first."""

    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"


class Device:
    """One device and its scan groups, to be given to `supervise`.

    Groups share the session and take turns, the longest due first: a slow group delays a fast one by one scan of its
    own and no more.

    Attributes:
        state: UP from the first answer to the loss of the session.
        identity: what the device last said it is.
        reason: why it is down; empty while it is not.
        waiting_since_ns: boot time since when we wait for the device; None while it owes us nothing.
        connects: sessions in which it answered.
        violations: answers that were refused, those that cost the session included.
    """

    def __init__(
        self, name: str, driver: Driver[Any], groups: Sequence[ScanGroup], *, clock: Clock, timer: Timer, sink: Sink
    ) -> None:
        self.name = name
        self.groups = tuple(groups)
        self.state = DeviceState.CONNECTING
        self.identity: Identity | None = None
        self.reason = ""
        self.waiting_since_ns: int | None = None
        self.connects = 0
        self.violations = 0
        self._driver = driver
        self._boot_ns = clock.boot_ns
        self._until = timer.until
        self._sink = sink
        self._scanning: ScanGroup | None = None
        self._told: type[DeviceError] | None = None
        self._is_identity_fatal = False
        started_ns = clock.boot_ns()
        for group in self.groups:
            group.start(started_ns)

    def counts(self) -> Counts:
        """Scans of all groups since the start, those of now included."""
        if self.state is not DeviceState.UP:
            self._count_failed()
        return sum((group.counts for group in self.groups), Counts())

    def refresh(self) -> None:
        """Report every tag with its next reading."""
        for group in self.groups:
            group.reporter.refresh()

    def connect(self) -> AbstractAsyncContextManager[Session[Any]]:
        """A new session; every group is then scanned at once, and on its grid from there."""
        self.waiting_since_ns = self._boot_ns()
        return self._driver.connect()

    async def use(self, session: Session[Any]) -> NoReturn:
        """Poll until the session is lost, which raises."""
        self.waiting_since_ns = self._boot_ns()
        identity = await self._ask_identity(session)
        self.waiting_since_ns = None
        self._count_failed()
        now_ns = self._boot_ns()
        for group in self.groups:
            group.due_ns = now_ns
        while True:
            group = self.groups[0] if len(self.groups) == 1 else min(self.groups, key=_due_ns)
            if group.due_ns > self._boot_ns():
                await self._until(group.due_ns)
            await self._scan(session, group)
            if self.state is not DeviceState.UP:
                self._up(identity)

    async def _ask_identity(self, session: Session[Any]) -> Identity:
        """What the device says it is; one that was lost over this question is read without it from then on."""
        if self._is_identity_fatal:
            return Identity()
        self._is_identity_fatal = True
        identity = await session.identity()
        self._is_identity_fatal = False
        return identity

    async def _scan(self, session: Session[Any], group: ScanGroup) -> None:
        self.waiting_since_ns = asked_ns = self._boot_ns()
        self._scanning = group
        late_ns = group.begin(asked_ns)
        if late_ns:
            self._sink.event("poll.overrun", self.name, {"group": group.name, "late_ns": late_ns})
        reading = await session.read(group.plan)
        self.waiting_since_ns = self._scanning = None
        status = () if group.reading is None else group.reading.status
        if (gap := group.close_gap()) is not None:
            self._sink.gap(group.number, gap.from_ns, reading.asked_at_ns, gap.status, gap.detail)
        self._sink.block(group.finish(reading, self._boot_ns()), urgent=group.urgent)
        if reading.violations:
            self.violations += len(reading.violations)
            answers = "; ".join(reading.violations)
            self._sink.event("device.protocol", self.name, {"group": group.name, "answers": answers})
        if reading.status != status:
            self._tell_bad_addresses(group, reading)

    def lost(self, error: DeviceError) -> bool:
        """Put the loss on record, once; whether the device had answered since it was last lost."""
        now_ns = self._boot_ns()
        since_ns = now_ns if self.waiting_since_ns is None else self.waiting_since_ns
        self.waiting_since_ns = None
        if self._scanning is not None:
            self._scanning.fail()
            self._scanning = None
        self._count_failed()
        had_answered, self.state = self.state is DeviceState.UP, DeviceState.DOWN
        self.reason = str(error)
        if isinstance(error, ProtocolViolation):
            self.violations += 1
            self._sink.event("device.protocol", self.name, _violation(error))
        if had_answered or self._told is not type(error):
            self._told = type(error)
            kind = "device.refused" if isinstance(error, DeviceRefused) else "device.down"
            self._sink.event(kind, self.name, {"reason": self.reason})
        for group in self.groups:
            if group.gap is None:
                self._open_gap(group, since_ns, now_ns)
        return had_answered

    def _up(self, identity: Identity) -> None:
        self.state, self.reason, self._told = DeviceState.UP, "", None
        self.connects += 1
        before, self.identity = self.identity, identity
        self._sink.event("device.up", self.name, _asset(identity))
        if before is not None and before != identity:
            was = {f"was_{key}": value for key, value in _asset(before).items()}
            self._sink.event("device.identity", self.name, {**_asset(identity), **was})

    def _open_gap(self, group: ScanGroup, since_ns: int, now_ns: int) -> None:
        gap = group.open_gap(since_ns, self.reason)
        self._sink.gap(group.number, gap.from_ns, None, gap.status, gap.detail)
        self._sink.block(group.reporter.lost(since_ns, now_ns), urgent=group.urgent)

    def _tell_bad_addresses(self, group: ScanGroup, reading: Reading) -> None:
        names = [
            tag.name
            for first, count, code in reading.status
            if code == StatusCode.BAD_ADDRESS
            for tag in group.catalogue.tags[first : first + count]
        ]
        if names:
            tags = ", ".join(names[:_NAMES_SHOWN])
            self._sink.event("device.address", self.name, {"group": group.name, "tags": tags, "count": len(names)})

    def _count_failed(self) -> None:
        now_ns = self._boot_ns()
        for group in self.groups:
            group.count_failed(now_ns)


def _due_ns(group: ScanGroup) -> int:
    return group.due_ns


def _asset(identity: Identity) -> dict[str, str]:
    return {
        "vendor": identity.vendor,
        "product": identity.product,
        "firmware": identity.firmware,
        "serial": identity.serial,
    }


def _violation(error: ProtocolViolation) -> dict[str, str]:
    return {
        "field": error.field,
        "expected": str(error.expected),
        "got": str(error.got),
        "bytes": error.data[:_BYTES_SHOWN].hex(),
    }
