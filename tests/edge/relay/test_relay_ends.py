"""A relay that is told to end does so, whatever its neighbours do in the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from edge.mqtt.access import BrokerAccess
from edge.relay.relay import Relay, RelayPlan
from edge.relay.sinks.sink import SinkSession, SinkUnreachable
from edge.tls import Certificate
from tests.support.faulty_broker import FaultyBroker
from tests.support.waiting import until


class EndsWithTheRelay:
    """A sink that is gone when the relay leaves it: the roll-back of its transaction fails."""

    name, address = "historian", "here"

    def __init__(self) -> None:
        self.sessions = 0

    @asynccontextmanager
    async def session(self) -> AsyncIterator[SinkSession]:
        self.sessions += 1
        try:
            await asyncio.Event().wait()
            yield None  # type: ignore[misc]
        except asyncio.CancelledError:
            raise SinkUnreachable("connection closed") from None

    def certificates(self) -> Sequence[Certificate]:
        return ()


async def test_a_sink_that_is_gone_in_the_moment_of_the_end(tmp_path: Path) -> None:
    sink = EndsWithTheRelay()
    async with FaultyBroker() as broker:
        address = BrokerAccess(host="127.0.0.1", port=broker.port, client_id="relay", in_flight=8)
        async with Relay(RelayPlan(archive=tmp_path / "archive", trust=[], broker=address, sinks=[sink])) as relay:
            running = asyncio.create_task(relay.run())
            await until(lambda: sink.sessions == 1)
            running.cancel()
            await asyncio.wait([running])

    assert running.cancelled()
