"""Reading a hostile device, and checking every value."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from edge.clock import Clock, SystemClock
from edge.config.validate import settings_from
from edge.driver import DeviceSettings, Driver, DriverKind, Session
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.model import Identity, Quality, Reading, quality_of, status_codes
from tests.support.hostile.behaviour import Behaviour, HostileTag, Outcome, Peer, Protocol

_OUTCOMES = {
    DeviceUnreachable: Outcome.UNREACHABLE,
    DeviceRefused: Outcome.REFUSED,
    ProtocolViolation: Outcome.VIOLATION,
}
_ENDS_IT = Outcome.VIOLATION | Outcome.REFUSED
_PATIENT = "5 s"  # For a machine that is busy: such a device answers, and lets nobody wait.
_KEPT_BYTES_MOST = 4096  # Of a wrong answer, for the log.
_PAUSE_S = 0.01
_TIMEOUT_S = 20.0


class Judge:
    """The results of reading one device.

    Attributes:
        outcomes: one for each scan, and for each session that could not be opened.
        wrong: wrong values that were accepted, as sentences.
        violations: `Reading.violations` of all scans.
        reasons: the errors that ended sessions, as sentences.
    """

    def __init__(self, tags: Sequence[HostileTag]) -> None:
        self.outcomes: list[Outcome] = []
        self.wrong: list[str] = []
        self.violations: list[str] = []
        self.reasons: list[str] = []
        self._tags = tags

    def lost(self, error: DeviceUnreachable | DeviceRefused | ProtocolViolation) -> None:
        """Add the error that ended a session, or kept it from opening."""
        if isinstance(error, ProtocolViolation) and len(error.data) > _KEPT_BYTES_MOST:
            self.wrong.append(f"{len(error.data)} offending bytes were kept")
        self.outcomes.append(next(outcome for kind, outcome in _OUTCOMES.items() if isinstance(error, kind)))
        self.reasons.append(str(error))

    def take(self, plan: Any, reading: Reading) -> None:
        """Add a reading, and check its values."""
        codes = status_codes(reading.status, len(self._tags)).tolist()
        is_bad = [quality_of(code) is Quality.BAD for code in codes]
        for tag, (vector, position), bad in zip(self._tags, plan.layout.slots, is_bad, strict=True):
            value = reading.vectors[vector][position]
            if not bad and not tag.truth(value, reading.asked_at_ns, reading.answered_at_ns):
                self.wrong.append(f"{tag.settings['name']} is {value!r} in scan {len(self.outcomes)}")
        self.outcomes.append(Outcome.BAD if all(is_bad) else Outcome.PARTLY if any(is_bad) else Outcome.GOOD)
        self.violations += reading.violations


class JudgedDriver:
    """A driver whose readings and errors all go to a judge as well."""

    def __init__(self, driver: Driver[Any], judge: Judge) -> None:
        self._driver, self._judge = driver, judge

    def plan(self, tags: Sequence[Any]) -> Any:
        """See `edge.driver.Driver.plan`."""
        return self._driver.plan(tags)

    def connect(self) -> AbstractAsyncContextManager[Session[Any]]:
        """See `edge.driver.Driver.connect`."""
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Session[Any]]:
        try:
            async with self._driver.connect() as session:
                yield _JudgedSession(session, self._judge)
        except (DeviceUnreachable, DeviceRefused, ProtocolViolation) as error:
            self._judge.lost(error)
            raise


class _JudgedSession:
    def __init__(self, session: Session[Any], judge: Judge) -> None:
        self._session, self._judge = session, judge

    async def read(self, plan: Any) -> Reading:
        reading = await self._session.read(plan)
        self._judge.take(plan, reading)
        return reading

    async def identity(self) -> Identity | None:
        return await self._session.identity()


class Trial:
    """One hostile device and the driver that reads it.

    Attributes:
        settings: the device in its configuration.
        judge: the results so far.
        sessions: number of sessions that were begun.
    """

    def __init__(
        self, protocol: Protocol, behaviour: Behaviour, peer: Peer, kind: DriverKind[Any], clock: Clock
    ) -> None:
        self.behaviour, self.peer = behaviour, peer
        self.tags = behaviour.tags or protocol.tags
        self.settings = device_settings(protocol, behaviour, peer, kind)
        self.judge = Judge(self.tags)
        self.driver = JudgedDriver(kind.driver(self.settings, clock), self.judge)
        self.plan = self.driver.plan(self.settings.scan_groups[0].tags)
        self.sessions = 0

    async def scan(self, times: int) -> list[Outcome]:
        """The results of so many scans, with a new session after each loss."""
        first = len(self.judge.outcomes)
        while len(self.judge.outcomes) - first < times:
            await self._session(lambda: len(self.judge.outcomes) - first >= times)
        return self.judge.outcomes[first:]

    async def scan_until_good(self) -> int:
        """Read until a whole scan is good; the number of sessions that took, the good one included."""
        first, sessions = len(self.judge.outcomes), self.sessions
        while Outcome.GOOD not in self.judge.outcomes[first:]:
            await self._session(lambda: self.judge.outcomes[-1] is Outcome.GOOD, pause_s=_PAUSE_S)
        return self.sessions - sessions

    async def _session(self, is_over: Callable[[], bool], pause_s: float = 0) -> None:
        self.sessions += 1
        try:
            async with self.driver.connect() as session:
                while True:
                    await session.read(self.plan)
                    if is_over():
                        return
                    await asyncio.sleep(pause_s)
        except (DeviceUnreachable, DeviceRefused, ProtocolViolation):
            await asyncio.sleep(pause_s)  # The judge has it.


def device_settings(protocol: Protocol, behaviour: Behaviour, peer: Peer, kind: DriverKind[Any]) -> DeviceSettings:
    """The settings of the device, validated as those of a configuration."""
    tags = [tag.settings for tag in behaviour.tags or protocol.tags]
    device = {
        "name": behaviour.id,
        "driver": protocol.name,
        **protocol.settings,
        **peer.device,
        **behaviour.settings,
        "scan_groups": [{"every": "100 ms", "tags": tags}],
    }
    if all(expected in _ENDS_IT for expected in behaviour.expected):
        device["limits"] = {**device["limits"], "timeout": _PATIENT}
    settings: DeviceSettings = settings_from(kind.settings, device, Path())
    return settings


@asynccontextmanager
async def trial(
    protocol: Protocol, behaviour: Behaviour, folder: Path, clock: Clock | None = None
) -> AsyncIterator[Trial]:
    """A running hostile device, ready to be read."""
    async with behaviour.start(folder) as peer:
        yield Trial(protocol, behaviour, peer, protocol.kind(), clock or SystemClock())


async def mistakes(protocol: Protocol, behaviour: Behaviour, folder: Path, times: int) -> list[str]:
    """Deviations from the expected results as sentences, while the device misbehaves and once it behaves again."""
    async with trial(protocol, behaviour, folder) as device:
        found = await device.scan(times)
        device.peer.behave()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                sessions = await device.scan_until_good()
        except TimeoutError:
            sessions = device.sessions
    said = [
        f"scan {scan} was {outcome}, not {behaviour.expects(scan)}"
        for scan, outcome in enumerate(found)
        if outcome not in behaviour.expects(scan)
    ]
    if sessions > behaviour.sessions_to_recover:
        said.append(f"it took {sessions} sessions to recover, not {behaviour.sessions_to_recover}")
    return [f"{protocol.label}, {behaviour.id}: {sentence}" for sentence in (*device.judge.wrong, *said)]
