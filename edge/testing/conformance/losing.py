"""Rules about devices that are lost and return."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from random import Random

from edge.backoff import Backoff
from edge.clock import SystemClock
from edge.config.catalogue import catalogue_groups
from edge.errors import DeviceUnreachable, ProtocolViolation
from edge.gateway.supervise import supervise
from edge.model import Identity, SampleBlock, StatusCode, TagMetadata
from edge.scan import DevicePoller, LoopMonitor, PolledGroup, Scheduler
from edge.testing.conformance.rule import live
from edge.testing.conformance.stand import EVENT_TIMEOUT_S, Stand, stand
from edge.testing.conformance.subject import Subject

_RETRY_NS = 10 * 10**6
_RETRY_LIMIT_NS = 100 * 10**6


@live("absent-device-is-unreachable")
async def absent_device_is_unreachable(subject: Subject) -> None:
    """A device that is switched off raises DeviceUnreachable, when connecting and when reading."""
    async with stand(subject) as setup:
        plan = setup.plan()
        async with setup.driver.connect() as session:
            await session.read(plan)
            await setup.peer.stop()
            await _assert_lost(subject, lambda: session.read(plan))
        await _assert_unreachable(subject, setup)


@live("silent-device-is-unreachable-in-time")
async def silent_device_is_unreachable_in_time(subject: Subject) -> None:
    """A device that stays connected and does not answer is detected within the configured time."""
    async with stand(subject) as setup:
        plan = setup.plan()
        async with setup.driver.connect() as session:
            await session.read(plan)
            await setup.peer.silence()
            await _assert_lost(subject, lambda: session.read(plan))
        await setup.peer.start()


async def _assert_lost(subject: Subject, read: Callable[[], Awaitable[object]]) -> None:
    """Check that reading raises the loss of the session within the time that the subject configures."""
    started_ns = subject.clock.boot_ns()
    try:
        async with asyncio.timeout(subject.patience_s + EVENT_TIMEOUT_S):
            await read()
    except (DeviceUnreachable, ProtocolViolation) as error:
        _assert_says_something(error)
    except TimeoutError as error:
        took_s = (subject.clock.boot_ns() - started_ns) / 1e9
        limit = f"{subject.patience_s:g} s are enough"
        raise AssertionError(f"after {took_s:.1f} s reading still waits; {limit}") from error
    else:
        raise AssertionError("a device that does not answer was read")


async def _assert_unreachable(subject: Subject, setup: Stand) -> None:
    try:
        async with asyncio.timeout(subject.patience_s + EVENT_TIMEOUT_S), setup.driver.connect():
            pass
    except DeviceUnreachable as error:
        _assert_says_something(error)
    else:
        raise AssertionError("a session with a device that is off")


def _assert_says_something(error: Exception) -> None:
    assert str(error), "an error without a sentence"


class _CountingSink:
    """A sink that counts scans and gaps, and waits for them."""

    def __init__(self) -> None:
        self.scans = 0
        self.gaps = 0
        self._changed = asyncio.Event()

    def begin_scan(self, device: str) -> None:
        """See `edge.scan.Sink.begin_scan`."""

    def end_scan(self, device: str) -> None:
        """See `edge.scan.Sink.end_scan`."""

    def add_block(self, block: SampleBlock, *, urgent: bool) -> None:  # noqa: ARG002
        """See `edge.scan.Sink.add_block`."""
        if not block.status:
            self.scans += 1
        self._changed.set()

    def record_gap(self, group: int, from_ns: int, to_ns: int | None, status: int, detail: str) -> None:  # noqa: ARG002
        """See `edge.scan.Sink.record_gap`."""
        self.gaps += to_ns is None and status == StatusCode.BAD_NO_COMMUNICATION
        self._changed.set()

    def record_event(self, kind: str, subject: str, data: Mapping[str, str | int | None]) -> None:
        """See `edge.scan.Sink.record_event`."""

    def record_identity(self, device: str, identity: Identity | None, since_ns: int) -> None:
        """See `edge.scan.Sink.record_identity`."""

    def record_tag_metadata(self, group: int, metadata: Sequence[TagMetadata]) -> None:
        """See `edge.scan.Sink.record_tag_metadata`."""

    async def wait_until(self, what: str, is_true: Callable[[], bool]) -> None:
        """Wait until the condition is true. Raises AssertionError after the timeout of the suite."""
        try:
            async with asyncio.timeout(EVENT_TIMEOUT_S):
                while not is_true():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise AssertionError(f"it was not {what} within {EVENT_TIMEOUT_S:g} s") from error


@live("lost-device-comes-back")
async def lost_device_comes_back(subject: Subject) -> None:
    """A device that was off or silent is read again after it returns, without a restart of the gateway."""
    async with stand(subject) as setup:
        sink = _CountingSink()
        clock = SystemClock()
        groups = [PolledGroup(0, catalogue_groups(setup.settings)[0], setup.plan())]
        with Scheduler(clock) as scheduler:
            device = DevicePoller(
                "device", setup.driver, groups, clock=clock, timer=scheduler, sink=sink,
                loop_monitor=LoopMonitor(clock, scheduler, time.thread_time_ns),
            )  # fmt: skip
            backoff = Backoff(Random(1), _RETRY_NS, _RETRY_LIMIT_NS)  # noqa: S311 - for delays
            running = asyncio.create_task(supervise(device, backoff, clock, scheduler))
            try:
                for fail in (setup.peer.stop, setup.peer.silence):
                    scans = sink.scans + 1  # It is asked what it is between the first two.
                    await sink.wait_until("read", lambda scans=scans: sink.scans > scans)  # type: ignore[misc]
                    gaps = sink.gaps
                    await fail()
                    await sink.wait_until("found lost", lambda gaps=gaps: sink.gaps > gaps)  # type: ignore[misc]
                    await setup.peer.start()
                scans = sink.scans
                await sink.wait_until("read again", lambda: sink.scans > scans)
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
