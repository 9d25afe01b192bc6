"""Rules about optional interfaces, on a simulated device with correct and with wrong implementations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import numpy as np
import pytest

from drivers.simulator import SimulatorDriver, SimulatorKind
from drivers.simulator.plan import SimulatorPlan
from drivers.simulator.session import SimulatorSession
from drivers.simulator.settings import SimulatorDevice
from edge.clock import Clock
from edge.driver import BrowseEntry, Discovered, Target
from edge.model import Notification, TagMetadata
from edge.testing.conformance import RULES, losing, offering, watch
from edge.tls import Certificate
from tests.support.subjects.simulator import SimulatorSubject

_POLL_S = 0.01


class Session(SimulatorSession):
    """Implements all optional interfaces of a session."""

    async def receive_notifications(
        self, plan: SimulatorPlan, on_notification: Callable[[Notification], None]
    ) -> NoReturn:
        reading = await self.read(plan)
        positions = tuple(np.arange(len(vector), dtype=np.uint16) for vector in reading.vectors)
        codes = tuple(np.zeros(len(vector), np.uint32) for vector in reading.vectors)
        on_notification(Notification(reading.vectors, positions, codes, reading.asked_at_ns, reading.answered_at_ns))
        while True:
            await asyncio.sleep(_POLL_S)
            await self.read(plan)

    async def tag_metadata(self, plan: SimulatorPlan) -> Sequence[TagMetadata]:
        return [TagMetadata(unit="Cel", range=(0.0, 1.0))] * len(plan.layout)

    def inspect(self, plan: SimulatorPlan, tags: Sequence[Any]) -> Sequence[Sequence[tuple[str, str]]]:
        return [[("as it is", "1")] for _ in tags]


class Driver(SimulatorDriver):
    """Implements `UsesCertificates`."""

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[SimulatorSession]:
        async with super().connect():
            yield Session(self.device)

    def certificates(self) -> Sequence[Certificate]:
        return [Certificate(whose="ours", name="us.pem", expires_at_ns=2**60)]


class Device(SimulatorDevice):
    """Says what it is reached at."""

    @property
    def reached_at(self) -> Hashable:
        return self.seed


class Kind(SimulatorKind):
    """Implements `Discoverable` and `SharesConnection`."""

    @property
    def settings(self) -> type[SimulatorDevice]:
        return Device

    def driver(self, device: SimulatorDevice, clock: Clock) -> Driver:
        return Driver(device, clock)

    async def discover(self, target: Target, pause: Callable[[], Awaitable[None]]) -> Sequence[Discovered]:
        await pause()
        return [Discovered(port=1, what="a device")]

    def connection(self, device: SimulatorDevice) -> Any:
        return device.seed


class OfferingSubject(SimulatorSubject):
    subscription: Mapping[str, Any] = {"urgent": True}

    def kind(self) -> Kind:
        return Kind()

    def device(self, number: int, port: int) -> Mapping[str, Any]:
        return {**super().device(number, port), "seed": number + port}


receive_correctly = Session.receive_notifications


async def nothing(*_: Any) -> Any:
    return []


async def one_entry(self: Session, path: str) -> Sequence[BrowseEntry]:
    return [BrowseEntry(name="all", tag={"signal": "sine"})]


async def unreadable(self: Session, path: str) -> Sequence[BrowseEntry]:
    if path:
        raise LookupError(path)
    return [BrowseEntry(name="all", tag={"signal": "no such signal"})]


async def wrong_positions(self: Session, plan: SimulatorPlan, callback: Callable[[Notification], None]) -> NoReturn:
    def reverse(changes: Notification) -> None:
        callback(Notification(changes.vectors, tuple(at[::-1] for at in changes.positions), changes.codes, 1, 2))

    await receive_correctly(self, plan, reverse)


async def without_values(self: Session, plan: SimulatorPlan, callback: Callable[[Notification], None]) -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError


async def leaving_a_task(self: Session, plan: SimulatorPlan, callback: Callable[[Notification], None]) -> NoReturn:
    orphan = asyncio.ensure_future(receive_correctly(self, plan, callback))
    orphan.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.Event().wait()
    raise AssertionError


async def one_tag_only(*_: Any) -> Sequence[TagMetadata]:
    return [TagMetadata()]


async def without_pause(*_: Any) -> Sequence[Discovered]:
    return []


def nameless(*_: Any) -> Sequence[Certificate]:
    return [Certificate(whose="ours", name="", expires_at_ns=1)]


MISTAKES: Sequence[tuple[str, type, str, Any]] = [
    ("changes-are-told", Session, "receive_notifications", wrong_positions),
    ("changes-are-told", Session, "receive_notifications", without_values),
    ("changes-are-told", Session, "receive_notifications", leaving_a_task),
    ("silent-subscription-is-unreachable-in-time", Session, "receive_notifications", leaving_a_task),
    ("browsing-finds-what-can-be-read", Session, "browse", nothing),
    ("browsing-finds-what-can-be-read", Session, "browse", one_entry),
    ("browsing-finds-what-can-be-read", Session, "browse", unreadable),
    ("facts-fit-the-tags", Session, "tag_metadata", one_tag_only),
    ("inspection-shows-each-way", Session, "inspect", lambda _, plan, tags: [[] for _ in tags]),
    ("certificates-tell-their-end", Driver, "certificates", nameless),
    ("discovery-is-gentle", Kind, "discover", without_pause),
    ("shared-connections-are-named", Kind, "connection", lambda *_: 1),
    ("shared-connections-are-named", Kind, "connection", lambda *_: object()),
    ("shared-connections-are-named", Device, "reached_at", property(lambda _: "")),
    ("shared-connections-are-named", Device, "reached_at", property(lambda _: object())),
]


async def run(rule_id: str) -> None:
    rule = RULES[rule_id]
    if rule.live is not None:
        await rule.live(OfferingSubject())
    if rule.offline is not None:
        rule.offline(OfferingSubject())


@pytest.mark.parametrize("rule_id", dict.fromkeys(rule_id for rule_id, *_ in MISTAKES))
async def test_a_correct_implementation_passes(rule_id: str) -> None:
    await run(rule_id)


@pytest.mark.parametrize(
    ("rule_id", "owner", "name", "wrong"), MISTAKES, ids=[f"{case[0]}-{number}" for number, case in enumerate(MISTAKES)]
)
async def test_a_wrong_implementation_fails(
    rule_id: str, owner: type, name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (losing, offering, watch):
        monkeypatch.setattr(module, "EVENT_TIMEOUT_S", 0.2)
    monkeypatch.setattr(owner, name, wrong)

    with pytest.raises((AssertionError, ValueError)):
        await run(rule_id)
