"""A server that loses messages, ends subscriptions and refuses requests, played message by message."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer

from drivers.opcua import channel, services
from drivers.opcua.channel import PendingResponse
from drivers.opcua.plan import SubscriptionPlan
from drivers.opcua.publish import MessageSequencer, PublishQueue, SubscriptionMemory
from drivers.opcua.services import ChunkSize, ServiceRequest
from drivers.opcua.settings import OpcuaDevice
from drivers.opcua.subscription import MonitoredItems, Subscription
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.errors import DeviceUnreachable, ProtocolViolation, TidegateError
from edge.model import Notification
from tests.drivers.opcua.notification_messages import Item, fault, head, message, published
from tests.drivers.opcua.test_opcua_data_changes import decoder

CLOCK = SystemClock()
NODES = 3
BAD_MESSAGE_NOT_AVAILABLE, BAD_NO_SUBSCRIPTION, BAD_TOO_MANY = 0x807B0000, 0x80790000, 0x80780000
BAD_TOO_MANY_ITEMS = 0x80DB0000


class FakeConnection:
    """Connection of a session whose server is the test."""

    name = "plant"
    namespaces = ("http://opcfoundation.org/UA/",)
    token = b"\x00\x01"
    is_continued = False

    def __init__(self) -> None:
        self.operation_limits = type("Limits", (), {"monitored_items_per_call": 0})()
        self.why: TidegateError | None = None
        self.publishes: list[tuple[int, bytes, PendingResponse]] = []
        self.asked: list[int] = []
        self.answers: dict[int, Callable[[int, bytes], bytes]] = {
            787: lambda handle, _: head(790, handle) + struct.pack("<IdII", 6 + self.asked.count(787), 50.0, 2400, 4),
            751: lambda handle, _: head(754, handle) + struct.pack("<i", NODES)
            + struct.pack("<IIdIBBB", 0, 1, 50.0, 10, 0, 0, 0) * NODES + struct.pack("<i", -1),
            832: lambda handle, _: fault(BAD_MESSAGE_NOT_AVAILABLE, handle),
            847: lambda handle, _: head(850, handle) + struct.pack("<iIi", 1, 0, -1),
        }  # fmt: skip
        self._handles = iter(range(1, 10_000))

    @property
    def is_lost(self) -> bool:
        return self.why is not None

    def lost(self) -> TidegateError:
        assert self.why is not None
        return self.why

    def drop(self, why: TidegateError) -> None:
        self.why = self.why or why

    end_session = drop

    def send(self, request: ServiceRequest) -> tuple[int, PendingResponse]:
        handle, answer = next(self._handles), PendingResponse(CLOCK)
        self.publishes.append((handle, request.body(handle, 0), answer))
        return handle, answer

    async def exchange(self, request: ServiceRequest) -> tuple[int, bytes]:
        handle = next(self._handles)
        body = request.body(handle, 0)
        service = int.from_bytes(body[2:4], "little")
        self.asked.append(service)
        await asyncio.sleep(0)
        return handle, self.answers[service](handle, body)

    async def publish(self, make: Callable[[int], bytes]) -> None:
        """Answer the oldest PublishRequest, and let the tasks run."""
        handle, _, answer = self.publishes.pop(0)
        answer.set_result(Buffer(make(handle)))
        for _ in range(20):
            await asyncio.sleep(0)

    async def publish_values(self, sequence: int, values: list[float] | None, **keys: Any) -> None:
        items = None if values is None else [Item(n, 11, value) for n, value in enumerate(values)]
        await self.publish(lambda handle: published(sequence, items, handle=handle, **keys))


def plan() -> SubscriptionPlan:
    tags = [{"name": f"t{n}", "address": f"i={n + 1}", "type": "float64"} for n in range(NODES)]
    device = settings_from(OpcuaDevice,
        {"name": "d", "driver": "opcua", "url": "opc.tcp://127.0.0.1:4840", "security": "none",
         "scan_groups": [{"every": "50 ms", "tags": tags, "subscribe": {}}]}
    )  # fmt: skip
    return SubscriptionPlan(device.scan_groups[0], device)


class Case:
    def __init__(self) -> None:
        self.connection: Any = FakeConnection()
        self.memory = SubscriptionMemory(range(NODES))
        self.notifications: list[Notification] = []
        self.task: asyncio.Task[None]

    @property
    def values(self) -> list[list[float]]:
        return [notification.vectors[0].tolist() for notification in self.notifications if len(notification.vectors[0])]


@pytest.fixture
async def case() -> AsyncIterator[Case]:
    async with running() as case:
        yield case


@asynccontextmanager
async def running(**answers: Callable[[int, bytes], bytes]) -> AsyncIterator[Case]:
    case, watch = Case(), plan()
    case.connection.answers |= {int(name.lstrip("_")): answer for name, answer in answers.items()}
    connection = case.connection
    publish_queue = PublishQueue(connection, CLOCK)
    sequencer = MessageSequencer(case.memory, decoder(["float64"] * NODES), NODES, case.notifications.append)
    items = MonitoredItems(connection, watch, ChunkSize())
    subscription: Any = Subscription(
        watch, case.memory, sequencer, items, (connection, publish_queue, None, CLOCK), None, lambda _: False
    )  # type: ignore[arg-type]
    case.task = asyncio.create_task(subscription.run())
    for _ in range(20):
        await asyncio.sleep(0)
    try:
        yield case
    finally:
        case.task.cancel()
        await asyncio.gather(case.task, return_exceptions=True)
        for _, _, answer in connection.publishes:
            answer.cancel()


async def test_one_request_more_than_subscriptions_waits_and_acknowledges(case: Case) -> None:
    assert len(case.connection.publishes) == 2

    await case.connection.publish_values(1, [1, 2, 3])

    assert len(case.connection.publishes) == 2
    assert case.connection.publishes[-1][1].endswith(struct.pack("<iII", 1, 7, 1))
    assert case.values == [[1, 2, 3]]


async def test_a_missing_message_is_asked_for_again_and_told_in_order(case: Case) -> None:
    again = [Item(0, 11, 20.0)]
    case.connection.answers[832] = lambda handle, body: (
        head(835, handle) + message(int.from_bytes(body[-4:], "little"), again)
    )
    await case.connection.publish_values(1, [1, 2, 3])

    await case.connection.publish_values(3, [30.0])

    assert case.values == [[1, 2, 3], [20.0], [30.0]]
    assert all(notification.lost_since_ns is None for notification in case.notifications)


async def test_a_message_that_the_server_has_no_more_is_a_gap(case: Case) -> None:
    await case.connection.publish_values(1, [1, 2, 3])
    last_ns = case.notifications[-1].answered_at_ns

    await case.connection.publish_values(3, [30.0])
    await case.connection.publish_values(4, [40.0])

    assert case.values == [[1, 2, 3], [30.0], [40.0]]
    assert [notification.lost_since_ns for notification in case.notifications if notification.lost_since_ns] == [
        last_ns
    ]


async def test_a_subscription_that_the_server_forgot_is_made_again(case: Case) -> None:
    await case.connection.publish_values(1, [1, 2, 3])
    last_ns = case.notifications[-1].answered_at_ns

    await case.connection.publish(lambda handle: fault(BAD_NO_SUBSCRIPTION, handle))
    await case.connection.publish(lambda handle: fault(BAD_NO_SUBSCRIPTION, handle))
    await case.connection.publish_values(1, [4, 5, 6], subscription=8)

    assert case.connection.asked.count(787) == 2
    assert case.values == [[1, 2, 3], [4, 5, 6]]
    assert [notification.lost_since_ns for notification in case.notifications if notification.lost_since_ns] == [
        last_ns
    ]
    assert [text for notification in case.notifications for text in notification.violations] == [
        "the server forgot the subscription"
    ]


async def test_a_subscription_that_the_server_ended_is_made_again(case: Case) -> None:
    await case.connection.publish_values(1, [1, 2, 3])

    await case.connection.publish_values(2, None, status=0x800A0000)
    await case.connection.publish_values(1, [4, 5, 6], subscription=case.memory.subscription)

    assert case.values == [[1, 2, 3], [4, 5, 6]]
    assert any("BadTimeout" in text for notification in case.notifications for text in notification.violations)


async def test_a_server_that_refuses_a_whole_request_for_its_limit_watches_up_to_it() -> None:
    watched = 0

    def create(handle: int, body: bytes) -> bytes:
        nonlocal watched
        count = int.from_bytes(body[41:45], "little")
        if watched + count > NODES - 1:
            return fault(BAD_TOO_MANY_ITEMS, handle)
        watched += count
        items = struct.pack("<IIdIBBB", 0, 1, 50.0, 10, 0, 0, 0) * count
        return head(754, handle) + struct.pack("<i", count) + items + struct.pack("<i", -1)

    async with running(_751=create) as case:
        await case.connection.publish_values(1, [1, 2])

    assert watched == NODES - 1
    refused, told = case.notifications
    assert [codes.tolist() for codes in refused.codes] == [[BAD_TOO_MANY_ITEMS]]
    assert "(t2): BadTooManyMonitoredItems; poll them" in refused.violations[0]
    assert told.vectors[0].tolist() == [1, 2]


async def test_a_server_that_takes_fewer_requests_gets_fewer(case: Case) -> None:
    await case.connection.publish_values(1, [1, 2, 3])

    await case.connection.publish(lambda handle: fault(BAD_TOO_MANY, handle))

    assert len(case.connection.publishes) == 1
    await case.connection.publish_values(2, [4.0])
    assert len(case.connection.publishes) == 1


async def test_a_server_that_refuses_every_request_is_given_up(case: Case) -> None:
    refusals = 0
    while not case.task.done():
        refusals += 1
        await case.connection.publish(lambda handle: fault(BAD_TOO_MANY, handle))

    assert refusals < 20
    with pytest.raises(DeviceUnreachable, match="publishes nothing"):
        await case.task


async def test_an_answer_to_another_request_ends_the_session(case: Case) -> None:
    await case.connection.publish(lambda handle: published(1, [Item(0, 11, 1.0)], handle=handle + 77))

    with pytest.raises(ProtocolViolation, match="request handle"):
        await case.task


def test_the_services_that_may_leave_are_listed_once() -> None:
    """Those encoded here, and those of the library."""
    allowed = {getattr(ua.ObjectIds, f"{request.__name__}_Encoding_DefaultBinary") for request in channel.READING}

    assert allowed == set(services.READING_SERVICES)
    for name in services.READING_SERVICES.values():
        assert not any(word in name for word in ("Write", "Call", "Update", "Add", "Register"))


@pytest.mark.parametrize("service", [673, 700, 712, 488, 500, 0])
def test_no_request_of_another_service_can_be_made(service: int) -> None:
    with pytest.raises(ValueError, match="not one of the reading ones"):
        ServiceRequest(service, b"\0\0", b"")
