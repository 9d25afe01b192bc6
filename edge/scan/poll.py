"""Watching one device: its scan groups in turn, each reading stamped, reported and handed on, and what it tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from enum import StrEnum
from functools import partial
from typing import Any, NoReturn

from edge.clock import Clock
from edge.driver import Driver, HasTagMetadata, Session, Subscribable
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.model import Identity, Notification, Reading, StatusCode
from edge.scan.group import Counts, Gap, Group, ScanGroup
from edge.scan.pacer import Timer
from edge.scan.sink import Sink
from edge.scan.skew import ClockWatch
from edge.scan.subscribed import SubscribedGroup
from edge.tasks import task_group

_BYTES_SHOWN = 64
_NAMES_SHOWN = 20
_LOSSES_CONVINCING = 2  # Once may be a cable that was pulled.

DeviceError = DeviceUnreachable | DeviceRefused | ProtocolViolation


class DeviceState(StrEnum):
    """What an operator wants to know of a device first."""

    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"


class Device:
    """One device and its scan groups, to be given to `supervise`.

    Polled groups share the session and take turns, the longest due first: a slow group delays a fast one by one scan
    of its own and no more. What the device tells of subscribed ones is taken when it comes.

    Attributes:
        state: UP from the first answer to the loss of the session.
        identity: what the device last said it is; taken over from an earlier run where that is known.
        reason: why it is down; empty while it is not.
        waiting_since_ns: boot time since when we wait for the device; None while it owes us nothing.
        connects: sessions in which it answered.
        violations: answers that were refused, those that cost the session included.
    """

    def __init__(
        self, name: str, driver: Driver[Any], groups: Sequence[Group], *, clock: Clock, timer: Timer, sink: Sink,
        clock_watch: ClockWatch | None = None,
    ) -> None:  # fmt: skip
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
        self._clock_watch = clock_watch
        self._polled = tuple(group for group in self.groups if isinstance(group, ScanGroup))
        self._subscribed = tuple(group for group in self.groups if isinstance(group, SubscribedGroup))
        self._scanning: ScanGroup | None = None
        self._told: type[DeviceError] | None = None
        self._lost_over = Counter[str]()
        self._started_ns = clock.boot_ns()
        for group in self._polled:
            group.start(self._started_ns)

    def counts(self) -> Counts:
        """Scans of all groups since the start, those of now included."""
        if self.state is not DeviceState.UP:
            self._count_failed()
        return sum((group.counts for group in self.groups), Counts())

    def refresh(self) -> None:
        """Report every tag with its next reading."""
        for group in self.groups:
            group.refresh()

    def connect(self) -> AbstractAsyncContextManager[Session[Any]]:
        """A new session; every group is then scanned at once, and on its grid from there."""
        self.waiting_since_ns = self._boot_ns()
        return self._driver.connect()

    async def use(self, session: Session[Any]) -> NoReturn:
        """Poll and listen until the session is lost, which raises."""
        self.waiting_since_ns = self._boot_ns()
        identity = await self._ask_identity(session)
        await self._ask_facts(session)
        if not self._subscribed:
            await self._poll(session, identity)
        try:
            async with task_group() as tasks:
                if self._polled:
                    tasks.create_task(self._poll(session, identity))
                for group in self._subscribed:
                    tasks.create_task(self._listen(session, identity, group))
        except ExceptionGroup as errors:
            raise _loss(errors) from errors
        raise AssertionError("a session is only left by its loss")

    async def _poll(self, session: Session[Any], identity: Identity) -> NoReturn:
        self.waiting_since_ns = None
        self._count_failed()
        now_ns = self._boot_ns()
        for group in self._polled:
            group.due_ns = now_ns
        while True:
            group = self._polled[0] if len(self._polled) == 1 else min(self._polled, key=_due_ns)
            if group.due_ns > self._boot_ns():
                await self._until(group.due_ns)
            await self._scan(session, group)
            if self.state is not DeviceState.UP:
                self._up(identity)

    async def _listen(self, session: Session[Any], identity: Identity, group: SubscribedGroup) -> NoReturn:
        assert isinstance(session, Subscribable)
        await session.receive_notifications(group.plan, partial(self._take, identity, group))

    def _take(self, identity: Identity, group: SubscribedGroup, changes: Notification) -> None:
        """One notification."""
        if not self._polled:
            self.waiting_since_ns = None  # From now on the driver knows how long the device may be silent.
        gap = group.close_gap() or self._not_yet_watched(group, changes.asked_at_ns)
        if gap is not None:
            # What the device kept for us may have been sampled before we lost it.
            until_ns = max(gap.from_ns, changes.asked_at_ns)
            self._sink.gap(group.number, gap.from_ns, until_ns, gap.status, gap.detail)
        elif changes.lost_since_ns is not None:
            detail = "the device told values that did not arrive, and has them no more"
            self._sink.gap(
                group.number, changes.lost_since_ns, changes.asked_at_ns, StatusCode.BAD_NO_COMMUNICATION, detail
            )
        status = group.status
        for block in group.take(changes):
            self._sink.block(block, urgent=group.urgent)
        if changes.overflowed:
            tags = [group.catalogue.tags[tag].name for tag in changes.overflowed]
            self._sink.event("device.overflow", self.name, {"group": group.name, **_listed(tags)})
        self._tell_violations(group, changes.violations)
        if group.status != status:
            self._tell_bad_addresses(group)
        self._look_at_clock(changes)
        if self.state is not DeviceState.UP:
            self._up(identity)

    async def _ask_identity(self, session: Session[Any]) -> Identity:
        """What the device says it is."""
        with self._unless_fatal("identity") as is_asked:
            return (await session.identity()).bounded() if is_asked else Identity()

    async def _ask_facts(self, session: Session[Any]) -> None:
        """What the device says of its tags."""
        with self._unless_fatal("facts") as is_asked:
            for group in self.groups if is_asked else ():
                self.waiting_since_ns = self._boot_ns()
                facts = await session.tag_metadata(group.plan) if isinstance(session, HasTagMetadata) else ()
                self._sink.tag_metadata(group.number, facts)

    @contextmanager
    def _unless_fatal(self, question: str) -> Iterator[bool]:
        """Whether to ask: a device that was lost over a question twice in a row is read without it from then on."""
        if self._lost_over[question] == _LOSSES_CONVINCING:
            yield False
            return
        self._lost_over[question] += 1
        yield True
        self._lost_over[question] = 0

    async def _scan(self, session: Session[Any], group: ScanGroup) -> None:
        self.waiting_since_ns = asked_ns = self._boot_ns()
        self._scanning = group
        late_ns = group.begin(asked_ns)
        if late_ns:
            self._sink.event("poll.overrun", self.name, {"group": group.name, "late_ns": late_ns})
        reading = await session.read(group.plan)
        self.waiting_since_ns = self._scanning = None
        status = () if group.reading is None else group.reading.status
        if (gap := group.close_gap() or self._not_yet_watched(group, reading.asked_at_ns)) is not None:
            self._sink.gap(group.number, gap.from_ns, reading.asked_at_ns, gap.status, gap.detail)
        self._sink.block(group.finish(reading, self._boot_ns()), urgent=group.urgent)
        self._tell_violations(group, reading.violations)
        if reading.status != status:
            self._tell_bad_addresses(group)
        self._look_at_clock(reading)

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
        for group in self._polled:
            if group.gap is None:
                self._open_gap(group, since_ns, now_ns)
        for listened in self._subscribed:
            if listened.gap is None:
                self._open_gap(listened, listened.heard_at_ns or since_ns, now_ns)
        return had_answered

    def _up(self, identity: Identity) -> None:
        self.state, self.reason, self._told = DeviceState.UP, "", None
        self.connects += 1
        self._sink.event("device.up", self.name, identity.texts)
        if identity != Identity():
            self._identify(identity)

    def _identify(self, identity: Identity) -> None:
        before, self.identity = self.identity, identity
        if before is not None and before.texts != identity.texts:
            was = {f"was_{key}": value for key, value in before.texts.items()}
            self._sink.event("device.identity", self.name, {**identity.texts, **was})
        if before != identity:
            self._sink.identified(self.name, identity)

    def _not_yet_watched(self, group: Group, asked_ns: int) -> Gap | None:
        """The stretch from the start of the gateway to the first answer, where something may have been missed in it."""
        has_missed = group.counts.failed > 0 if isinstance(group, ScanGroup) else asked_ns > self._started_ns
        if group.reading is not None or not has_missed:
            return None
        return Gap(self._started_ns, StatusCode.BAD_NO_COMMUNICATION, "the gateway had started and not connected yet")

    def _open_gap(self, group: Group, since_ns: int, now_ns: int) -> None:
        gap = group.open_gap(since_ns, self.reason)
        self._sink.gap(group.number, gap.from_ns, None, gap.status, gap.detail)
        self._sink.block(group.lost(since_ns, now_ns), urgent=group.urgent)

    def _tell_violations(self, group: Group, violations: Sequence[str]) -> None:
        if violations:
            self.violations += len(violations)
            self._sink.event("device.protocol", self.name, {"group": group.name, "answers": "; ".join(violations)})

    def _tell_bad_addresses(self, group: Group) -> None:
        if names := _bad_addresses(group):
            self._sink.event("device.address", self.name, {"group": group.name, **_listed(names)})

    def _look_at_clock(self, answer: Reading | Notification) -> None:
        if self._clock_watch is not None and (data := self._clock_watch.look(answer)):
            self._sink.event("device.clock", self.name, data)

    def _count_failed(self) -> None:
        now_ns = self._boot_ns()
        for group in self._polled:
            group.count_failed(now_ns)


def _due_ns(group: ScanGroup) -> int:
    return group.due_ns


def _loss(errors: ExceptionGroup[Exception]) -> Exception:
    """Why the session was lost, as one error; anything but a loss is a bug, and is raised as it is."""
    losses, bugs = errors.split((DeviceUnreachable, DeviceRefused, ProtocolViolation))
    return bugs or (losses or errors).exceptions[0]


def _bad_addresses(group: Group) -> list[str]:
    """The tags whose address the device does not have."""
    return [
        tag.name
        for first, count, code in (group.reading.status if group.reading is not None else ())
        if code == StatusCode.BAD_ADDRESS
        for tag in group.catalogue.tags[first : first + count]
    ]


def _listed(names: Sequence[str]) -> dict[str, str | int | None]:
    return {"tags": ", ".join(names[:_NAMES_SHOWN]), "count": len(names)}


def _violation(error: ProtocolViolation) -> dict[str, str]:
    return {
        "field": error.field,
        "expected": str(error.expected),
        "got": str(error.got),
        "bytes": error.data[:_BYTES_SHOWN].hex(),
    }
