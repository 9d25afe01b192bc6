"""EtherNet/IP encapsulation: headers, items, and the commands of a TCP connection (CIP Vol 2 chapter 2)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from ipaddress import IPv4Address
from itertools import count

from drivers.ethernetip.simulator.connections import ConnectionManager, ConnectionTable
from drivers.ethernetip.simulator.controller import Controller
from drivers.ethernetip.simulator.objects import identity_bytes
from drivers.ethernetip.simulator.router import Router

HEADER = struct.Struct("<HHII8sI")
LENGTH_MOST = 65_511

_ITEM = struct.Struct("<HH")
_RUNNING = b"\x03"
_handles = count(0x0104_0100, 0x103)


class Command(IntEnum):
    """Encapsulation commands."""

    NOP = 0x00
    LIST_SERVICES = 0x04
    LIST_IDENTITY = 0x63
    LIST_INTERFACES = 0x64
    REGISTER_SESSION = 0x65
    UNREGISTER_SESSION = 0x66
    SEND_RR_DATA = 0x6F
    SEND_UNIT_DATA = 0x70


class EncapsulationStatus(IntEnum):
    """Status in an encapsulation header."""

    SUCCESS = 0x00
    INVALID_COMMAND = 0x01
    INCORRECT_DATA = 0x03
    INVALID_SESSION = 0x64
    INVALID_LENGTH = 0x65
    UNSUPPORTED_PROTOCOL = 0x69


class Item(IntEnum):
    """Types of items in the common packet format."""

    NULL_ADDRESS = 0x00
    IDENTITY = 0x0C
    CONNECTED_ADDRESS = 0xA1
    CONNECTED_DATA = 0xB1
    UNCONNECTED_DATA = 0xB2
    SERVICES = 0x100


class SessionClosed(Exception):
    """The client closed its session."""


class Refused(Exception):
    """A packet whose answer is only a status."""

    def __init__(self, status: EncapsulationStatus) -> None:
        super().__init__(status.name)
        self.status = status


def item(kind: Item, data: bytes) -> bytes:
    """One item of the common packet format."""
    return _ITEM.pack(kind, len(data)) + data


def items_in(data: bytes) -> list[tuple[int, bytes]]:
    """The items of a packet, after interface handle and time-out. Raises Refused."""
    if len(data) < 8 or data[:4] != bytes(4):
        raise Refused(EncapsulationStatus.INCORRECT_DATA)
    found, at = [], 8
    for _ in range(int.from_bytes(data[6:8], "little")):
        if at + _ITEM.size > len(data):
            raise Refused(EncapsulationStatus.INCORRECT_DATA)
        kind, size = _ITEM.unpack_from(data, at)
        at += _ITEM.size + size
        if at > len(data):
            raise Refused(EncapsulationStatus.INCORRECT_DATA)
        found.append((kind, data[at - size : at]))
    if at != len(data):
        raise Refused(EncapsulationStatus.INCORRECT_DATA)
    return found


def _ipv4(host: str) -> bytes:
    """Four bytes for an address; zero for a name, or an address of another kind."""
    try:
        return IPv4Address(host).packed
    except ValueError:
        return bytes(4)


def sessionless_answer(controller: Controller, address: tuple[str, int], command: int) -> bytes | None:
    """The data of the answer to a command without a session; None of any other command."""
    if command == Command.LIST_IDENTITY:
        socket_address = struct.pack(">HH4s8x", 2, address[1], _ipv4(address[0]))
        data = b"\x01\x00" + socket_address + identity_bytes(controller) + _RUNNING
        return b"\x01\x00" + item(Item.IDENTITY, data)
    if command == Command.LIST_SERVICES:
        return b"\x01\x00" + item(Item.SERVICES, struct.pack("<HH16s", 1, 0x0120, b"Communications"))
    if command == Command.LIST_INTERFACES:
        return b"\x00\x00"
    return None


class Encapsulation:
    """One TCP connection: at most one answer to each packet."""

    def __init__(self, controller: Controller, pool: ConnectionTable, router: Router, address: tuple[str, int]) -> None:
        self._controller = controller
        self._address = address
        self.connections = ConnectionManager(pool, router)
        self._session = 0
        self._commands: dict[int, Callable[[bytes], bytes | None]] = {
            Command.REGISTER_SESSION: self._register,
            Command.UNREGISTER_SESSION: self._unregister,
            Command.SEND_RR_DATA: self._send_rr_data,
            Command.SEND_UNIT_DATA: self._send_unit_data,
        }

    def answer(self, packet: bytes) -> bytes | None:
        """The answer to a packet; None where it gets no answer. Raises SessionClosed."""
        command, _, session, status, context, options = HEADER.unpack_from(packet)
        if command == Command.NOP or status or options:
            return None  # CIP Vol 2 2-3.6: such a packet is discarded.
        try:
            data = self._dispatch(command, session, packet[HEADER.size :])
            status = EncapsulationStatus.SUCCESS
        except Refused as refused:
            data, status = b"", refused.status
        if data is None:
            return None
        if command == Command.REGISTER_SESSION:
            session = self._session
        return HEADER.pack(command, len(data), session, status, context, 0) + data

    def _dispatch(self, command: int, session: int, data: bytes) -> bytes | None:
        ask = self._commands.get(command)
        if ask is None:
            found = sessionless_answer(self._controller, self._address, command)
            if found is None:
                raise Refused(EncapsulationStatus.INVALID_COMMAND)
            return found
        if command != Command.REGISTER_SESSION and (session != self._session or not session):
            raise Refused(EncapsulationStatus.INVALID_SESSION)
        return ask(data)

    def _register(self, data: bytes) -> bytes:
        if len(data) != 4:
            raise Refused(EncapsulationStatus.INVALID_LENGTH)
        if data != b"\x01\x00\x00\x00":
            raise Refused(EncapsulationStatus.UNSUPPORTED_PROTOCOL)
        if self._session:
            raise Refused(EncapsulationStatus.INVALID_COMMAND)
        self._session = next(_handles) & 0xFFFFFFFF
        return data

    def _unregister(self, data: bytes) -> None:  # noqa: ARG002
        raise SessionClosed

    def _send_rr_data(self, data: bytes) -> bytes:
        match items_in(data):
            case [(Item.NULL_ADDRESS, b""), (Item.UNCONNECTED_DATA, message)]:
                answer = self.connections.unconnected(message)
            case _:
                raise Refused(EncapsulationStatus.INCORRECT_DATA)
        return bytes(6) + b"\x02\x00" + item(Item.NULL_ADDRESS, b"") + item(Item.UNCONNECTED_DATA, answer)

    def _send_unit_data(self, data: bytes) -> bytes | None:
        match items_in(data):
            case [(Item.CONNECTED_ADDRESS, address), (Item.CONNECTED_DATA, message)] if (
                len(address) == 4 and len(message) > 2
            ):
                sequence = message[:2]
                found = self.connections.connected(
                    int.from_bytes(address, "little"), int.from_bytes(sequence, "little"), message[2:]
                )
            case _:
                raise Refused(EncapsulationStatus.INCORRECT_DATA)
        if found is None:
            return None  # A request on a connection that is not open gets no answer.
        identifier, answer = found
        address = item(Item.CONNECTED_ADDRESS, identifier.to_bytes(4, "little"))
        return bytes(6) + b"\x02\x00" + address + item(Item.CONNECTED_DATA, sequence + answer)
