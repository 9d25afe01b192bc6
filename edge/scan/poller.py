"""The session of one device: its scans and notifications become sample blocks, gaps and events."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Any, NoReturn, Protocol

from edge.clock import Clock
from edge.driver import Driver, HasTagMetadata, IdentityMode, Reconnecting, Session, Subscribable
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.model import Identity, Notification, Reading, SampleBlock, StatusCode, TagMetadata
from edge.scan.device_clock import DeviceClockMonitor
from edge.scan.groups import OpenGap, PolledGroup, ScanCounts, ScanGroup, SubscribedGroup
from edge.scan.questions import Question, Questions, ResultT
from edge.scan.schedule import Timer
from edge.scan.stalls import Cause, HoleWatch, LoopMonitor
from edge.tasks import InsistingGroup, task_group

_MOVED = "the configuration changed, and its scan groups have other numbers"
_BYTES_SHOWN = 64
_NAMES_SHOWN = 20
_IDENTITY_APART_NS = 600 * 10**9
_METADATA_LOSSES_MAX = 2  # In a row: one loss may be coincidence.
_CANCELLED_AGAIN_S = 0.5  # Here a driver only reads; it closes the session elsewhere.

DeviceError = DeviceUnreachable | DeviceRefused | ProtocolViolation


class DeviceState(StrEnum):
    """Whether the device answers."""

    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"


class Sink(Protocol):
    """Receives what polling yields; its methods return without waiting."""

    def begin_scan(self, device: str) -> None:
        """A scan of a device is under way; a device has one at a time."""
        ...

    def end_scan(self, device: str) -> None:
        """The scan has ended, after its block where it has one."""
        ...

    def add_block(self, block: SampleBlock, *, urgent: bool) -> None:
        """One scan; an urgent one is sealed at once."""
        ...

    def record_gap(self, group: int, from_ns: int, to_ns: int | None, status: int, detail: str) -> None:
        """A stretch of boot time without answers: called when it begins (`to_ns` None) and when it ends."""
        ...

    def record_event(self, kind: str, subject: str, data: Mapping[str, str | int | None]) -> None:
        """An event for the audit trail; `subject` names the device."""
        ...

    def record_identity(self, device: str, identity: Identity | None, since_ns: int) -> None:
        """What a device that connected at boot time `since_ns` says it is; None: it is not to be asked again."""
        ...

    def record_tag_metadata(self, group: int, metadata: Sequence[TagMetadata]) -> None:
        """The device's own metadata of each tag of a scan group, with every session; empty where it has none."""
        ...


class DevicePoller:
    """Reads the scan groups of one device, session by session; `supervise` opens the sessions.

    Polled groups share the session and take turns, the longest due first: a slow group delays a fast one by at most
    one scan of its own. Notifications of subscribed groups are handled when they arrive.

    Attributes:
        state: UP from the first answer to the loss of the session.
        asks_identity: whether the device is asked what it is; ends when the question does harm or has no answer.
        has_identity: whether it ever answered that; then a loss after the question may be coincidence once.
        reason: why the device is down; empty while it is not.
        waiting_since_ns: boot time since when an answer is outstanding; None while none is.
        connects: sessions in which the device answered.
        violations: answers that were refused, those that cost the session included.
        clock_monitor: knows how far the device's clock is off; None where that is not watched.
    """

    def __init__(
        self, name: str, driver: Driver[Any], groups: Sequence[ScanGroup], *, clock: Clock, timer: Timer, sink: Sink,
        loop_monitor: LoopMonitor, clock_monitor: DeviceClockMonitor | None = None, identity: IdentityMode = "auto",
        questions: Questions | None = None,
    ) -> None:  # fmt: skip
        """`questions` are those of all devices that share its connection."""
        self.name = name
        self.groups = tuple(groups)
        self.state = DeviceState.CONNECTING
        self.asks_identity = identity != "never"
        self.has_identity = False
        self.reason = self.code = ""
        self.waiting_since_ns: int | None = None
        self.connects = 0
        self.violations = 0
        self._driver = driver
        self._boot_ns = clock.boot_ns
        self._until = timer.until
        self._sink = sink
        self.clock_monitor = clock_monitor
        self._polled = tuple(group for group in self.groups if isinstance(group, PolledGroup))
        self._subscribed = tuple(group for group in self.groups if isinstance(group, SubscribedGroup))
        self._scanning: PolledGroup | None = None
        self._asked_ns = 0  # When the scan that is under way began.
        self._recorded_loss: type[DeviceError] | None = None
        self._is_identity_always_asked = identity == "always"
        self._is_identity_asked = False
        self._identity_losses = self._metadata_losses = 0
        self._questions = Questions(clock) if questions is None else questions
        self._session: Session[Any] | None = None
        self._unread: set[int] = set()
        self._are_read = asyncio.Event()
        self._may_scan = asyncio.Event()
        self._started_ns = clock.boot_ns()
        for group in self._polled:
            group.start(self._started_ns)
        for each in self.groups:
            record_gap = partial(self._record_gap, each)
            each.holes = HoleWatch(each.catalogue.hole_ns, self._started_ns, loop_monitor, record_gap)

    def recall_identity(self, *, has_answered: bool, is_unanswered: bool) -> None:
        """Take what earlier runs found out: whether the device answered what it is, or is not to be asked."""
        self.has_identity = has_answered
        self.asks_identity &= self._is_identity_always_asked or not is_unanswered

    def counts(self) -> ScanCounts:
        """Scans of all groups since the start, up to this moment."""
        if self.state is not DeviceState.UP:
            self._count_failed()
        return sum((group.counts for group in self.groups), ScanCounts())

    def refresh(self) -> None:
        """Report every tag with the next answer."""
        for group in self.groups:
            group.refresh()

    async def ask(self, question: Question[ResultT], within_s: float) -> ResultT:
        """The answer of the device to a question, between its scans. Raises as `Questions.ask`."""
        return await self._questions.ask(self, question, within_s)

    @property
    def is_asking(self) -> bool:
        """Whether a scan is under way, or the device is asked what it is."""
        return self._scanning is not None or self._is_identity_asked

    @property
    def next_due_ns(self) -> int | None:
        """Boot time of the next scan; None where every group is subscribed."""
        return min((group.due_ns for group in self._polled), default=None)

    @property
    def longest_scan_ns(self) -> int:
        """How long the slowest of the last scans took."""
        readings = (group.reading for group in self._polled if group.reading is not None)
        return max((each.answered_at_ns - each.asked_at_ns for each in readings), default=0)

    def connect(self) -> AbstractAsyncContextManager[Session[Any]]:
        """A new session, in which every group is scanned at once and then on its grid."""
        self.waiting_since_ns = self._boot_ns()
        return self._driver.connect()

    async def use(self, session: Session[Any]) -> NoReturn:
        """Poll and receive notifications until the session is lost, which raises."""
        self.waiting_since_ns, self._session = self._boot_ns(), session
        try:
            async with task_group(_CANCELLED_AGAIN_S) as tasks:
                tasks.create_task(self._query(session, self._boot_ns()))
                if self._polled:
                    tasks.create_task(self._poll(session, tasks))
                for group in self._subscribed:
                    tasks.create_task(self._subscribe(session, group))
        except ExceptionGroup as errors:
            raise _loss(errors) from errors
        finally:
            self._session = None
            self._questions.close(self)
        raise AssertionError("a session is only left by its loss")

    async def _poll(self, session: Session[Any], tasks: InsistingGroup) -> NoReturn:
        self.waiting_since_ns = None
        self._count_failed()
        now_ns = self._boot_ns()
        for group in self._polled:
            group.due_ns = now_ns
        while not tasks.is_ending:
            group = self._polled[0] if len(self._polled) == 1 else min(self._polled, key=_due_ns)
            if group.due_ns > self._boot_ns():
                await self._until(group.due_ns)
            if not self._may_scan.is_set():
                await self._may_scan.wait()
            if self._questions.is_in_step:
                await self._questions.step_end()
            self._sink.begin_scan(self.name)
            try:
                await self._scan(session, group)
            finally:
                self._sink.end_scan(self.name)
            self._questions.note_scan_end()
            if self.state is not DeviceState.UP:
                self._up()
        raise asyncio.CancelledError  # The driver has swallowed it.

    async def _subscribe(self, session: Session[Any], group: SubscribedGroup) -> NoReturn:
        assert isinstance(session, Subscribable)
        await session.receive_notifications(group.plan, partial(self._on_notification, group))

    def _on_notification(self, group: SubscribedGroup, notification: Notification) -> None:
        if not self._polled:
            self.waiting_since_ns = None  # From now on the driver bounds how long the device may be silent.
        gap = group.close_gap() or self._not_yet_watched(group, notification.asked_at_ns)
        if gap is not None:
            # A value that the device queued may have been sampled before the session was lost.
            until_ns = max(gap.from_ns, notification.asked_at_ns)
            self._sink.record_gap(group.number, gap.from_ns, until_ns, gap.status, gap.detail)
            group.holes.restart(until_ns)
        elif notification.lost_since_ns is not None:
            detail = "the device told values that did not arrive, and has them no more"
            status, until_ns = StatusCode.BAD_NO_COMMUNICATION, notification.asked_at_ns
            self._sink.record_gap(group.number, notification.lost_since_ns, until_ns, status, detail)
        before = group.status
        for block in group.apply(notification):
            self._sink.add_block(block, urgent=group.urgent)
        group.holes.note(notification.answered_at_ns)
        if notification.overflowed:
            tags = [group.catalogue.tags[tag].name for tag in notification.overflowed]
            self._sink.record_event("device.overflow", self.name, {"group": group.name, **_listed(tags)})
        self._record_violations(group, notification.violations)
        if group.status != before:
            self._record_bad_addresses(group)
        self._check_clock(notification)
        if self._unread:
            self._note_read(group)
        if self.state is not DeviceState.UP:
            self._up()

    async def _query(self, session: Session[Any], connected_ns: int) -> None:
        """Ask for what is only nice to know, once every scan group has values."""
        await self._wait_until_read(self.groups)
        if self.asks_identity:
            await self._query_identity(session, connected_ns)
        self._may_scan.set()
        if self._metadata_losses < _METADATA_LOSSES_MAX:
            self._metadata_losses += 1
            for group in self.groups:
                metadata = await session.tag_metadata(group.plan) if isinstance(session, HasTagMetadata) else ()
                self._sink.record_tag_metadata(group.number, metadata)
            self._metadata_losses = 0
        while isinstance(session, Reconnecting) and self.asks_identity:
            asked_ns = self._boot_ns()
            await session.reconnected(connected_ns)
            await self._until(asked_ns + _IDENTITY_APART_NS)  # Some devices close every connection after a few seconds.
            connected_ns = await session.reconnected(connected_ns)
            await self._wait_until_read([min(self.groups, key=_interval_ns)])
            await self._query_identity(session, connected_ns)
            self._may_scan.set()

    async def _query_identity(self, session: Session[Any], connected_ns: int) -> None:
        self._is_identity_asked = True
        await self._questions.step_end()
        self.waiting_since_ns = self._boot_ns()
        answer = await session.identity()
        self.waiting_since_ns = None
        identity = None if answer is None else answer.bounded()
        if identity is not None and identity != Identity():
            self.has_identity, self._identity_losses = True, 0
            self._sink.record_identity(self.name, identity, connected_ns)
        elif identity is None and not self.has_identity:
            self._stop_asking_identity()
        else:
            # Some devices are deaf for a while after a question that they do not know.
            await self._wait_until_read([min(self.groups, key=_interval_ns)])
        self._is_identity_asked = False

    def _stop_asking_identity(self) -> None:
        if not self._is_identity_always_asked:
            self.asks_identity = False
            self._sink.record_identity(self.name, None, 0)

    async def _wait_until_read(self, groups: Sequence[ScanGroup]) -> None:
        """Returns once each of these groups was read from now on; no scan begins then until `_may_scan` is set."""
        self._may_scan.set()
        self._unread = {group.number for group in groups}
        self._are_read.clear()
        await self._are_read.wait()

    def _note_read(self, group: ScanGroup) -> None:
        self._unread.discard(group.number)
        if not self._unread:
            self._may_scan.clear()
            self._are_read.set()

    async def _scan(self, session: Session[Any], group: PolledGroup) -> None:
        self.waiting_since_ns = self._asked_ns = asked_ns = self._boot_ns()
        self._scanning = group
        late_ns = group.begin(asked_ns)
        if late_ns:
            self._sink.record_event("poll.overrun", self.name, {"group": group.name, "late_ns": late_ns})
        reading = await session.read(group.plan)
        self.waiting_since_ns = self._scanning = None
        status = () if group.reading is None else group.reading.status
        if (gap := group.close_gap() or self._not_yet_watched(group, reading.asked_at_ns)) is not None:
            self._sink.record_gap(group.number, gap.from_ns, reading.asked_at_ns, gap.status, gap.detail)
            group.holes.restart(reading.asked_at_ns)
        self._sink.add_block(group.finish(reading, self._boot_ns()), urgent=group.urgent)
        group.holes.note(reading.answered_at_ns)
        self._record_violations(group, reading.violations)
        if reading.status != status:
            self._record_bad_addresses(group)
        self._check_clock(reading)
        if self._unread:
            self._note_read(group)

    def handle_loss(self, error: DeviceError) -> bool:
        """Record the loss, once; returns whether the device had answered since it was last lost."""
        now_ns = self._boot_ns()
        since_ns = now_ns if self.waiting_since_ns is None else self.waiting_since_ns
        self.waiting_since_ns = None
        if self._scanning is not None:
            since_ns = min(since_ns, self._asked_ns)  # Another question may have been asked meanwhile.
            self._scanning.fail()
            self._scanning = None
        self._count_failed()
        had_answered, self.state = self.state is DeviceState.UP, DeviceState.DOWN
        self.reason, self.code = str(error) + self._blame_identity(), str(error.code)
        if isinstance(error, ProtocolViolation):
            self.violations += 1
            self._sink.record_event("device.protocol", self.name, _violation(error))
        if had_answered or self._recorded_loss is not type(error):
            self._recorded_loss = type(error)
            kind = "device.refused" if isinstance(error, DeviceRefused) else "device.down"
            self._sink.record_event(kind, self.name, {"reason": self.reason, "code": self.code})
        for group in self._polled:
            if group.gap is None:
                self._open_gap(group, since_ns, now_ns)
        for subscribed in self._subscribed:
            if subscribed.gap is None:
                self._open_gap(subscribed, subscribed.notified_at_ns or since_ns, now_ns)
        return had_answered

    def close(self, now_ns: int, why: str = "the gateway stopped") -> None:
        """Record the end of polling: what is open ends, and what may be on its way is a gap."""
        for group in self.groups:
            group.holes.close()
            if (gap := group.close_gap()) is None:
                since_ns, detail = self._on_its_way(group)
                if since_ns is None and not group.holes.is_hole(now_ns):
                    continue
                begin_ns = group.holes.read_ns if since_ns is None or group.holes.is_hole(since_ns) else since_ns
                gap = OpenGap(begin_ns, int(StatusCode.BAD_OUT_OF_SERVICE), detail)
            self._sink.record_gap(group.number, gap.from_ns, now_ns, gap.status, f"{gap.detail}; {why}")

    def begin_in_gap(self, since_ns: int, why: str) -> None:
        """Not read since then to the first answer: the device was read in another way before.

        What it was asked then may be answered later, and nobody hears it.
        """
        for group in self.groups:
            gap = group.open_gap(since_ns, why)
            self._sink.record_gap(group.number, gap.from_ns, None, gap.status, gap.detail)

    def move(self, first: int, now_ns: int) -> Mapping[int, int]:
        """Give the scan groups other numbers, from `first` on; a gap that lasts ends under the one that it began with.

        Returns the new numbers by the old ones. Once they hold, `moved` begins the gaps again.
        """
        numbers = {group.number: number for number, group in enumerate(self.groups, first)}
        for group in self.groups:
            if numbers[group.number] != group.number:
                group.holes.close()
                if (gap := group.gap) is not None:
                    self._sink.record_gap(group.number, gap.from_ns, now_ns, gap.status, f"{gap.detail}; {_MOVED}")
                    group.gap = replace(gap, from_ns=now_ns)
        self._unread = {numbers[number] for number in self._unread}
        for group in self.groups:
            group.renumber(numbers[group.number])
        return numbers

    def moved(self, now_ns: int) -> None:
        """The numbers that `move` gave hold from now on."""
        for group in self.groups:
            if (gap := group.gap) is not None and gap.from_ns == now_ns:
                self._sink.record_gap(group.number, now_ns, None, gap.status, gap.detail)

    def _record_gap(self, group: ScanGroup, from_ns: int, to_ns: int | None, status: int, detail: str) -> None:
        self._sink.record_gap(group.number, from_ns, to_ns, status, detail)

    def _on_its_way(self, group: ScanGroup) -> tuple[int | None, str]:
        """Since when the device may have sent, or sampled, what will not be received; None where it has not."""
        if isinstance(group, SubscribedGroup):
            return group.notified_at_ns, "no further notification yet"
        return self._asked_ns if group is self._scanning else None, "no answer yet"

    def _up(self) -> None:
        self.state, self.reason, self.code, self._recorded_loss = DeviceState.UP, "", "", None
        self.connects += 1
        self._sink.record_event("device.up", self.name, {})
        if self._session is not None:
            self._questions.open(self, self._session)

    def _blame_identity(self) -> str:
        """What to add to the reason of a loss where the device was asked what it is, and has sent no values since."""
        was_asked, self._is_identity_asked = self._is_identity_asked, False
        if not was_asked:
            return ""
        self._identity_losses += 1
        if self._is_identity_always_asked or self._identity_losses <= self.has_identity:
            return ""
        self._stop_asking_identity()
        return "; it was lost after it was asked what it is, and is not asked that again (ask_identity: always asks it)"

    def _not_yet_watched(self, group: ScanGroup, asked_ns: int) -> OpenGap | None:
        """The stretch from the start of the gateway to the first answer, where a value may have been missed in it."""
        if group.reading is not None:
            return None
        has_missed = group.counts.failed > 0 if isinstance(group, PolledGroup) else asked_ns > self._started_ns
        if not has_missed:
            return None
        return OpenGap(
            self._started_ns, StatusCode.BAD_NO_COMMUNICATION, "the gateway had started and not connected yet"
        )

    def _open_gap(self, group: ScanGroup, since_ns: int, now_ns: int) -> None:
        group.holes.close()
        begin_ns = group.holes.read_ns if group.holes.is_hole(since_ns) else since_ns
        cause = group.holes.cause(now_ns)
        gap = group.open_gap(begin_ns, self.reason if cause is not Cause.SUSPENDED else f"{cause.words}; {self.reason}")
        self._sink.record_gap(group.number, gap.from_ns, None, gap.status, gap.detail)
        self._sink.add_block(group.lost_block(since_ns, now_ns), urgent=group.urgent)

    def _record_violations(self, group: ScanGroup, violations: Sequence[str]) -> None:
        if violations:
            self.violations += len(violations)
            group.violations = tuple(violations)
            self._sink.record_event(
                "device.protocol", self.name, {"group": group.name, "answers": "; ".join(violations)}
            )

    def _record_bad_addresses(self, group: ScanGroup) -> None:
        if names := _bad_addresses(group):
            self._sink.record_event("device.address", self.name, {"group": group.name, **_listed(names)})

    def _check_clock(self, answer: Reading | Notification) -> None:
        if self.clock_monitor is not None and (data := self.clock_monitor.check(answer)):
            self._sink.record_event("device.clock", self.name, data)

    def _count_failed(self) -> None:
        now_ns = self._boot_ns()
        for group in self._polled:
            group.count_failed(now_ns)


def _due_ns(group: PolledGroup) -> int:
    return group.due_ns


def _interval_ns(group: ScanGroup) -> int:
    return group.interval_ns


def _loss(errors: ExceptionGroup[Exception]) -> Exception:
    """Why the session was lost, as one error; any other exception is a bug and is raised as it is."""
    losses, bugs = errors.split((DeviceUnreachable, DeviceRefused, ProtocolViolation))
    return (bugs or losses or errors).exceptions[0]


def _bad_addresses(group: ScanGroup) -> list[str]:
    """Names of the tags whose address the device does not have."""
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
