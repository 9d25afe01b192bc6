"""Servers that allow less than is asked for: what fits is done, and the rest is said."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drivers.opcua.certificates import Application, parse
from drivers.opcua.services import CREATE_MONITORED_ITEMS, CREATE_SUBSCRIPTION
from drivers.opcua.session_setup import open_session
from drivers.opcua.trust import TrustList
from edge.clock import SystemClock
from edge.errors import DeviceRefused, DeviceUnreachable
from edge.testing.proxy import RecordingProxy
from tests.peers.opcua.plant import Server, Watched, device_at, running, services_in, soon, tag_of

BAD_TOO_MANY_ITEMS, BAD_TOO_MANY_SUBSCRIPTIONS = 0x80DB0000, 0x80770000
POINTS = [tag_of(f"Point{number}", "float64") for number in range(20)]
ALIVE = {"keep_alive": "200 ms"}


async def test_a_group_is_split_over_subscriptions_and_goes_on_after_a_break(tmp_path: Path) -> None:
    with running("node-opcua", tmp_path, "--max-per-subscription", "6") as server:
        async with RecordingProxy("127.0.0.1", server.port) as wire:
            watched = Watched(device_at(wire.port, POINTS, subscribe=ALIVE))
            heard = watched.heard
            async with watched.session() as listening:
                await heard.until(lambda: len(heard.values) == len(POINTS))
                wire.cut()
                with pytest.raises(DeviceUnreachable):
                    await soon(listening)
            for number in range(20):
                await asyncio.to_thread(server.tell, f"value Point{number} {number + 100}")

            async with watched.session():
                await heard.until(lambda: all(heard.values[f"Point{n}"][-1] == n + 100 for n in range(20)))

        services = [service for each in wire.recordings for service in services_in(bytes(each.sent))]
        assert services.count(CREATE_SUBSCRIPTION) == services.count(CREATE_MONITORED_ITEMS) == 4
        assert all(set(codes) == {0} for codes in heard.codes.values())
        assert heard.violations == []


@pytest.mark.parametrize(
    ("limits", "watches", "code", "name"),
    [
        (["--max-monitored", "9"], 9, BAD_TOO_MANY_ITEMS, "BadTooManyMonitoredItems"),
        (["--max-per-subscription", "6", "--max-subscriptions", "2"], 12, BAD_TOO_MANY_SUBSCRIPTIONS,
         "BadTooManySubscriptions"),
    ],
)  # fmt: skip
async def test_what_a_server_does_not_watch_is_bad_with_its_reason_and_named(
    tmp_path: Path, limits: list[str], watches: int, code: int, name: str
) -> None:
    with running("node-opcua", tmp_path, *limits) as server:
        watched = Watched(device_at(server.port, POINTS, subscribe=ALIVE))
        heard = watched.heard

        async with watched.session():
            await heard.until(lambda: len(heard.values) == len(POINTS))

    refused = [tag for tag, codes in heard.codes.items() if codes == [code]]
    assert len(refused) == len(POINTS) - watches
    [sentence] = heard.violations
    assert name in sentence
    assert "poll them" in sentence
    assert all(tag in sentence for tag in refused)


async def test_rates_that_a_server_changed_are_told_before_the_first_value(server: Server) -> None:
    watched = Watched(device_at(server.port, POINTS[:1], every="1 ms", subscribe={"keep_alive": "1 s"}))

    async with watched.session():
        await watched.heard.until(lambda: watched.heard.values)

    if server.kind == "node-opcua":  # The other one changes nothing.
        assert any("publishes every" in sentence for sentence in watched.heard.changes[0].violations)
        assert not len(watched.heard.changes[0].vectors[0])


async def test_a_server_without_an_unsecured_endpoint_is_read_once_its_certificate_is_trusted(tmp_path: Path) -> None:
    """It answers nothing to who wants to know its certificate: that is brought on another way."""
    trust = TrustList(tmp_path / "pki")
    await asyncio.to_thread(trust.create, Application("t", "g", ("g",)), datetime.now(UTC), days=30, bits=2048)
    security = {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}
    with running("node-opcua", tmp_path, "--secured-only") as server:
        device = device_at(server.port, POINTS[:1], security=security, certificates=str(trust.directory))
        with pytest.raises(DeviceRefused, match="have the server's own sent to you as a file"):
            async with open_session(device, SystemClock()):
                pass
        (path,) = await asyncio.to_thread(lambda: list(tmp_path.glob("node-opcua/server/own/certs/certificate.pem")))
        await asyncio.to_thread(lambda: trust.trust(parse(path.read_bytes())))

        async with open_session(device, SystemClock()) as connection:
            assert await connection.read([2259]) == [0]
