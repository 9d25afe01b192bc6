"""The requests in a recorded TCP stream: proof that only reading services were used."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.ethernetip.simulator import paths
from drivers.ethernetip.simulator.codes import CipError, Class, ConnectionService, Service
from drivers.ethernetip.simulator.encapsulation import HEADER, Command, Item, items_in
from drivers.ethernetip.simulator.router import READING, split, unpack

_CONNECTING = frozenset(ConnectionService)

AskedService = tuple[int, int | None]
"""A service, and the class of its object; None for a tag."""


def commands_in(sent: bytes) -> Iterator[int]:
    """Every command of the encapsulation in the bytes that a client sent."""
    yield from (command for command, _ in _packets_in(sent))


def asked_in(sent: bytes) -> Iterator[AskedService]:
    """Every service in the bytes that a client sent, also inside of other services."""
    for command, packet in _packets_in(sent):
        if command in (Command.SEND_RR_DATA, Command.SEND_UNIT_DATA):
            for kind, data in items_in(packet):
                if kind == Item.CONNECTED_DATA:
                    yield from _asked(data[2:])
                elif kind == Item.UNCONNECTED_DATA:
                    yield from _asked(data)


def _packets_in(sent: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + HEADER.size <= len(sent):
        command, length, *_ = HEADER.unpack_from(sent, at)
        at += HEADER.size + length
        yield command, sent[at - length : at]


def is_reading(asked: AskedService) -> bool:
    """Whether a service only reads, or opens or closes a connection for reading."""
    service, class_ = asked
    return service in (_CONNECTING if class_ == Class.CONNECTION_MANAGER else READING)


def _asked(message: bytes) -> Iterator[AskedService]:
    try:
        service, route, data = split(message)
        class_ = paths.parse(route).class_
    except CipError:
        yield message[0] if message else 0, None
        return
    yield service, class_
    if class_ == Class.CONNECTION_MANAGER and service == ConnectionService.UNCONNECTED_SEND:
        size = int.from_bytes(data[2:4], "little")
        yield from _asked(data[4 : 4 + size])
    elif class_ == Class.MESSAGE_ROUTER and service == Service.MULTIPLE_SERVICE_PACKET:
        for part in unpack(data):
            yield from _asked(part)
