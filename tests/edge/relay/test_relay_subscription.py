"""A session's messages are archived and acknowledged, whether or not the broker has answered the subscription."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge.demo.broker_packets import Message
from edge.errors import BrokerUnreachable
from edge.mqtt.access import BrokerAccess
from edge.relay import receive
from edge.relay.relay import Relay, RelayPlan
from edge.seal import Record
from tests.support.faulty_broker import FaultyBroker
from tests.support.waiting import until

TOPIC = "tidegate/v1/line-4/r/data"


@pytest.fixture
async def broker() -> AsyncIterator[FaultyBroker]:
    async with FaultyBroker() as running:
        yield running


@pytest.fixture
def plan(tmp_path: Path, broker: FaultyBroker) -> RelayPlan:
    address = BrokerAccess(host="127.0.0.1", port=broker.port, client_id="relay", in_flight=8)
    return RelayPlan(archive=tmp_path / "archive", trust=[], broker=address)


@asynccontextmanager
async def running(plan: RelayPlan) -> AsyncIterator[Relay]:
    async with Relay(plan) as relay:
        task = asyncio.create_task(relay.run())
        yield relay
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_waits_is_acknowledged_before_the_broker_answers_the_subscription(
    plan: RelayPlan, broker: FaultyBroker, unsigned: Callable[..., Record]
) -> None:
    """Mosquitto 2.0 sends a long queue first: a relay that waited for the answer gave up each time, for ever."""
    async with running(plan) as relay:
        await until(lambda: relay.report().state == "up")
    for seq in range(100):
        broker.publish("line-4", Message(TOPIC, unsigned(seq).data, qos=1))
    broker.script.holds_suback = True

    async with running(plan) as relay:
        await until(lambda: relay.report().acknowledged == 100)

    assert relay.report().state == "up"


async def test_a_broker_that_answers_no_subscription_and_sends_nothing_is_left(
    plan: RelayPlan, broker: FaultyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "_CONFIRMATION_S", 0.1)
    broker.script.holds_suback = True

    with pytest.raises(BrokerUnreachable, match="did not answer the subscription"):
        async with receive.subscribe(plan.broker) as receiver:
            await receiver.receive()
