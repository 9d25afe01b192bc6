"""What is lost over a break of the connection, and what is not, with real servers and a way to them that is cut."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from pathlib import Path

import pytest

from drivers.opcua.services import CREATE_SUBSCRIPTION
from drivers.opcua.session_setup import open_session
from edge.clock import SystemClock
from edge.errors import DeviceUnreachable
from edge.testing.proxy import RecordingProxy
from tests.peers.opcua.plant import Server, Watched, device_at, secured, services_in, soon, tag_of

ALIVE = {"keep_alive": "200 ms"}
CREATE_SESSION, CLOSE_SESSION = 461, 473
SESSIONS, SUBSCRIPTIONS = 2277, 2285
"""CurrentSessionCount and CurrentSubscriptionCount of the ServerDiagnosticsSummary."""


@pytest.mark.parametrize("mode", ["none", "SignAndEncrypt"])
async def test_breaks_lose_nothing_that_the_server_kept(
    server: Server, wire: RecordingProxy, tmp_path: Path, mode: str
) -> None:
    """The session goes on in the next connection (OPC 10000-4, 6.7), with every count of a fast counter."""
    security = {} if mode == "none" else await secured(wire.port, tmp_path, mode)
    tags = [tag_of("Point2", "float64"), tag_of("Point3", "float64")]
    watched = Watched(device_at(wire.port, tags, subscribe={**ALIVE, "sampling": 0, "queue": 1000}, **security))
    heard, counted = watched.heard, iter(range(1, 1000))

    async def count(times: int) -> int:
        for _ in range(times):
            await asyncio.to_thread(server.tell, "value Point2", number := next(counted))
        return number

    await count(1)
    for _ in range(3):
        async with watched.session() as listening:
            newest = await count(10)
            await heard.until(lambda: heard.values.get("Point2", [0])[-1] == newest)  # noqa: B023
            await count(5)  # Whose message is under way.
            wire.cut()
            with pytest.raises(DeviceUnreachable):
                await soon(listening)
        await count(20)
    async with watched.session():
        newest = await count(1)
        await heard.until(lambda: heard.values["Point2"][-1] == newest)

    counts = list(dict.fromkeys(heard.values["Point2"]))  # One of the servers says the newest value again.
    assert counts == list(range(int(counts[0]), newest + 1))
    assert set(heard.values["Point3"]) == {3}
    assert [changes.is_continued for changes in heard.changes].count(True) == 3
    assert not [changes for changes in heard.changes if changes.lost_since_ns is not None]
    if mode == "none":
        services = [service for each in wire.recordings for service in services_in(bytes(each.sent))]
        assert [services.count(one) for one in (CREATE_SESSION, CREATE_SUBSCRIPTION, CLOSE_SESSION)] == [1, 1, 1]
    else:
        wire.recordings = wire.recordings[:1]  # What is encrypted proves nothing.


async def test_no_session_and_no_subscription_stays_behind(node_opcua: Server) -> None:
    """Also where the server stood still, and where it forgets a subscription; only one of the servers counts them."""
    async with RecordingProxy("127.0.0.1", node_opcua.port) as proxy:
        keys = {"subscribe": ALIVE, "limits": {"timeout": "500 ms"}}
        watched = Watched(device_at(proxy.port, [tag_of("Point4", "float64")], **keys))
        sessions, subscriptions = await _counted(node_opcua)
        for loss in (proxy.cut, partial(node_opcua.send, signal.SIGSTOP), proxy.cut):
            async with watched.session() as listening:
                await watched.heard.until(lambda: watched.heard.values)
                loss()
                with pytest.raises(DeviceUnreachable):
                    await soon(listening)
            node_opcua.send(signal.SIGCONT)
        before = len(watched.heard.changes)
        async with watched.session():
            await watched.heard.until(lambda: len(watched.heard.changes) > before)

            assert await _counted(node_opcua) == (sessions + 1, subscriptions + 1)

        assert await _counted(node_opcua) == (sessions, subscriptions)


async def _counted(server: Server) -> tuple[int, int]:
    """Sessions and subscriptions of the server, without those of who asks."""
    async with open_session(device_at(server.port, [tag_of("Point4", "float64")]), SystemClock()) as connection:
        sessions, subscriptions = await connection.read([SESSIONS, SUBSCRIPTIONS])
        return sessions - 1, subscriptions
