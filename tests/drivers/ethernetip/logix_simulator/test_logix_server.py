"""A simulated controller on the wire: sessions, connections, and faults on command."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from drivers.ethernetip.simulator import Controller, LogixServer
from drivers.ethernetip.simulator.encapsulation import HEADER, Command, sessionless_answer

Client = Any
Connect = Callable[[], Awaitable[Client]]

VIALS = b"\x4c\x04\x91\x05Vials\0\x01\x00"
SEVENTY_THOUSAND = b"\xc4\x00" + struct.pack("<i", 70_000)
SEND_RR_DATA, SEND_UNIT_DATA = Command.SEND_RR_DATA, Command.SEND_UNIT_DATA


def opened(answer: Any) -> int:
    assert answer.refusal == (0,)
    return int.from_bytes(answer.data[:4], "little")


# Encapsulation.


async def test_what_needs_no_session(connect: Connect, server: LogixServer) -> None:
    client = await connect()

    _, identity = await client.ask(Command.LIST_IDENTITY)
    _, services = await client.ask(Command.LIST_SERVICES)
    _, interfaces = await client.ask(Command.LIST_INTERFACES)

    assert identity[:6] == struct.pack("<HHH", 1, 0x0C, len(identity) - 6)
    assert identity[8:16] == struct.pack(">HH", 2, server.port) + b"\x7f\0\0\x01"
    assert identity[-13:-1] == b"\x0b1756-L83E/B"[:12]
    assert b"Communications\0\0" in services
    assert interfaces == b"\0\0"


async def test_list_identity_is_answered_over_udp(server: LogixServer) -> None:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bytes] = loop.create_future()

    class Listener(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            answered.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(Listener, remote_addr=server.address)
    transport.sendto(HEADER.pack(Command.LIST_IDENTITY, 0, 0, 0, b"\x01" * 8, 0))

    assert b"1756-L83E/B" in await answered
    transport.close()


@pytest.mark.parametrize(
    ("command", "data", "status"),
    [
        pytest.param(0x99, b"", 0x01, id="unknown command"),
        pytest.param(Command.REGISTER_SESSION, b"\x02\x00\x00\x00", 0x69, id="protocol version"),
        pytest.param(Command.REGISTER_SESSION, b"\x01\x00", 0x65, id="length"),
        pytest.param(SEND_RR_DATA, bytes(8), 0x64, id="no session"),
        pytest.param(SEND_UNIT_DATA, bytes(8), 0x64, id="no session, connected"),
    ],
)
async def test_a_stranger_is_refused(connect: Connect, command: int, data: bytes, status: int) -> None:
    client = await connect()

    assert await client.ask(command, data) == (status, b"")


async def test_a_session_is_its_connections_own(client: Client, connect: Connect) -> None:
    other = await connect()
    await other.register()

    status, _ = await client.ask(SEND_RR_DATA, bytes(8), session=other.session)
    twice, _ = await client.ask(Command.REGISTER_SESSION, b"\x01\x00\x00\x00")

    assert (status, twice) == (0x64, 0x01)
    assert client.session != other.session


@pytest.mark.parametrize(
    "items",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(struct.pack("<IHH", 1, 0, 0), id="interface"),
        pytest.param(struct.pack("<IHH", 0, 0, 2), id="no items"),
        pytest.param(struct.pack("<IHHHHHH", 0, 0, 2, 0, 0, 0xB2, 5), id="item too long"),
        pytest.param(struct.pack("<IHHHHHH", 0, 0, 2, 0, 0, 0xB1, 0), id="wrong item"),
        pytest.param(struct.pack("<IHHHHHH", 0, 0, 2, 0, 0, 0xB2, 0) + b"\0", id="more than items"),
    ],
)
async def test_items_are_what_they_say(client: Client, items: bytes) -> None:
    assert await client.ask(SEND_RR_DATA, items) == (0x03, b"")
    assert await client.ask(SEND_UNIT_DATA, items) == (0x03, b"")


async def test_packets_may_come_in_pieces_or_together(client: Client) -> None:
    packet = HEADER.pack(Command.LIST_INTERFACES, 0, 0, 0, b"whoareyo", 0)
    for at in range(len(packet)):
        client.send_raw(packet[at : at + 1])
        await asyncio.sleep(0)
    client.send_raw(packet * 3)

    assert [await client.receive() for _ in range(4)] == [(0, b"\0\0")] * 4


async def test_what_is_no_request_is_passed_over(client: Client) -> None:
    """CIP Vol 2 2-3: a NOP, or a packet with a status, is not answered."""
    client.send(Command.NOP, b"hello")
    client.send(Command.LIST_SERVICES, status=1)

    assert await client.ask(Command.LIST_INTERFACES) == (0, b"\0\0")


async def test_a_packet_longer_than_any_ends_the_conversation(client: Client) -> None:
    client.send_raw(HEADER.pack(SEND_RR_DATA, 65_535, 0, 0, bytes(8), 0))

    assert await client.is_closed()


async def test_good_bye_ends_the_conversation(client: Client) -> None:
    client.send(Command.UNREGISTER_SESSION)

    assert await client.is_closed()


# Without a connection.


def by_route(message: bytes, route: bytes) -> bytes:
    head = bytes((0x52, 2, 0x20, 6, 0x24, 1, 10, 5)) + struct.pack("<H", len(message)) + message
    return head + b"\0" * (len(message) % 2) + bytes((len(route) // 2, 0)) + route


async def test_a_route_leads_to_the_controller(client: Client) -> None:
    assert (await client.unconnected(VIALS)).data == SEVENTY_THOUSAND
    assert (await client.unconnected(by_route(VIALS, b"\x01\x00"))).data == SEVENTY_THOUSAND
    assert (await client.unconnected(by_route(VIALS, b"\x01\x03"))).refusal == (0x01, 0x0312)
    assert (await client.unconnected(by_route(VIALS, b"\x05\x00"))).refusal == (0x01, 0x0311)
    assert (await client.unconnected(by_route(VIALS, b"\x01\x00\x20\x02"))).refusal == (0x01, 0x0315)
    assert (await client.unconnected(by_route(VIALS, b"\x01\x00")[:-1])).status == 0x13


async def test_an_answer_without_a_connection_is_small(client: Client) -> None:
    answer = await client.unconnected(b"\x4c\x03\x91\x04Long\xe8\x03")

    assert (answer.status, len(answer.data)) == (0x06, 2 + 496)


# Connections.


@pytest.mark.parametrize("size", [500, 4000])
async def test_a_connection_has_the_size_it_was_opened_with(client: Client, size: int) -> None:
    connection = opened(await client.open(size))

    whole = await client.connected(connection, VIALS)
    part = await client.connected(connection, b"\x52\x03\x91\x04Long\x88\x13\0\0\0\0")

    assert whole.data == SEVENTY_THOUSAND
    assert (part.status, len(part.data)) == (0x06, 2 + (size - 2 - 4 - 2) // 4 * 4)


@pytest.mark.parametrize(
    ("how", "refusal"),
    [
        pytest.param({"size": 4003}, (0x01, 0x0109, 4002), id="too large"),
        pytest.param({"size": 2}, (0x01, 0x0109, 4002), id="too small"),
        pytest.param({"kind": 1}, (0x01, 0x0108), id="multicast"),
        pytest.param({"transport": 0xA1}, (0x01, 0x0103), id="class 1"),
        pytest.param({"route": b"\x01\x07"}, (0x01, 0x0312), id="empty slot"),
        pytest.param({"route": b"\x03\x00"}, (0x01, 0x0311), id="no such port"),
        pytest.param({"route": b"\x20\x04"}, (0x01, 0x0315), id="not the message router"),
    ],
)
async def test_a_connection_is_refused(client: Client, how: dict[str, Any], refusal: tuple[int, ...]) -> None:
    answer = await client.open(**how)

    assert answer.refusal == refusal
    assert answer.data == struct.pack("<HHIBx", 1, 9, 77, 0)


async def test_a_full_controller_refuses_one_more(client: Client, plc: Controller) -> None:
    plc.connections_limit = 2

    opened(await client.open(serial=1))
    opened(await client.open(serial=2))
    refused = await client.open(serial=3)
    closed = await client.close_connection(1)
    opened(await client.open(serial=3))

    assert refused.refusal == (0x01, 0x0113)
    assert closed.refusal == (0,)


async def test_a_connection_is_opened_once_and_closed_once(client: Client) -> None:
    opened(await client.open())

    again = await client.open()
    closed, gone = await client.close_connection(), await client.close_connection()

    assert again.refusal == (0x01, 0x0100)
    assert (closed.refusal, gone.refusal) == ((0,), (0x01, 0x0107))


async def test_an_old_controller_knows_no_large_connections(client: Client, plc: Controller) -> None:
    plc.is_large_refused = True

    assert (await client.open(4000)).refusal == (0x08,)
    opened(await client.open(500))


async def test_connections_end_with_their_conversation(client: Client, connect: Connect, plc: Controller) -> None:
    plc.connections_limit = 1
    opened(await client.open())
    other = await connect()
    await other.register()
    full = await other.open(serial=2)

    client.send(Command.UNREGISTER_SESSION)
    assert await client.is_closed()

    assert full.refusal == (0x01, 0x0113)
    opened(await other.open(serial=2))


async def test_nobody_answers_on_a_connection_that_is_not_open(
    client: Client, connect: Connect, plc: Controller
) -> None:
    connection = opened(await client.open())
    other = await connect()
    await other.register()

    other.send_connected(connection, VIALS)
    client.send_connected(connection + 1, VIALS)
    plc.forget_connections()
    await asyncio.sleep(0)
    client.send_connected(connection, VIALS)

    assert await client.ask(Command.LIST_INTERFACES) == (0, b"\0\0")
    assert await other.ask(Command.LIST_INTERFACES) == (0, b"\0\0")


async def test_an_idle_connection_is_forgotten(client: Client, server: LogixServer) -> None:
    opened(await client.open(rpi_us=1))

    async with asyncio.timeout(10):
        while server.pool.open:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0)


async def test_a_repeated_sequence_number_gets_the_same_answer(client: Client, plc: Controller) -> None:
    """A client that forgets to count sees old values, as on a real controller."""
    connection = opened(await client.open())
    first = await client.connected(connection, VIALS, sequence=7)
    plc["Vials"] = 1
    repeated = await client.connected(connection, VIALS, sequence=7)
    next_one = await client.connected(connection, VIALS, sequence=8)

    assert first.data == repeated.data == SEVENTY_THOUSAND
    assert next_one.data == b"\xc4\x00\x01\0\0\0"


async def test_a_request_larger_than_its_connection_is_refused(client: Client) -> None:
    connection = opened(await client.open(100))

    assert (await client.connected(connection, VIALS + bytes(100))).status == 0x15


# Misbehaviour.


async def test_a_silent_controller_says_nothing(client: Client, plc: Controller) -> None:
    plc.silence()
    client.send(Command.LIST_SERVICES)
    while not plc.unanswered:  # noqa: ASYNC110 - it says nothing, so there is nothing to wait for
        await asyncio.sleep(0)
    plc.resume()

    assert await client.ask(Command.LIST_INTERFACES) == (0, b"\0\0")


async def test_a_late_answer_comes(client: Client, plc: Controller) -> None:
    plc.answer_late_s = 0.001

    assert await client.ask(Command.LIST_INTERFACES) == (0, b"\0\0")


async def test_an_answer_can_be_distorted_or_lost(client: Client, plc: Controller) -> None:
    plc.distort = lambda answer: None if answer[0] == Command.LIST_SERVICES else answer[:-1] + b"\x09"
    client.send(Command.LIST_SERVICES)

    assert await client.ask(Command.LIST_INTERFACES) == (0, b"\0\x09")


async def test_every_conversation_can_be_cut(client: Client, connect: Connect, plc: Controller) -> None:
    plc.cut()

    assert await client.is_closed()
    again = await connect()
    await again.register()


async def test_it_comes_back_on_its_port(plc: Controller) -> None:
    server = LogixServer(plc)
    await server.start()
    port = server.port
    await server.stop()
    await server.stop()
    await server.start()

    assert server.port == port
    await server.stop()


@pytest.mark.parametrize(("host", "told"), [("localhost", bytes(4)), ("::1", bytes(4)), ("127.0.0.1", b"\x7f\0\0\x01")])
def test_a_controller_that_listens_at_a_name_tells_who_it_is(host: str, told: bytes) -> None:
    """The answer has space for an IPv4 address only; its other fields stay valid."""
    identity = sessionless_answer(Controller(), (host, 44818), Command.LIST_IDENTITY)

    assert identity is not None
    assert identity[12:16] == told
