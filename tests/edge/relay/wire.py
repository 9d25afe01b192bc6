"""A transport that goes nowhere, for connections of the relay."""

from __future__ import annotations

import asyncio

from edge.mqtt.access import BrokerAccess
from edge.mqtt.codec import packet
from edge.relay.publish import ViewConnection
from edge.relay.receive import Receiver

ACCESS = BrokerAccess(host="127.0.0.1", port=1, client_id="x")
CONNACK = packet(0x20, b"\x00\x00", b"\x00")


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_reading = True

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written.append(data)

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


def accepted(connection: ViewConnection | Receiver, connack: bytes = CONNACK) -> Wire:
    """Connect and accept; nothing has been written after that."""
    wire = Wire()
    connection.connection_made(wire)
    connection.data_received(connack)
    wire.written.clear()
    return wire
