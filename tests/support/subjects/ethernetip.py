"""EtherNet/IP in the conformance suite: the peer is the simulated Logix controller."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Any

from drivers.ethernetip import EtherNetIpKind, simulator
from drivers.ethernetip.simulator import Controller, Identity, LogixServer
from drivers.ethernetip.simulator.codes import Class, ConnectionService, Service
from drivers.ethernetip.simulator.encapsulation import Command
from drivers.ethernetip.simulator.wire import asked_in, commands_in
from edge.clock import SystemClock
from edge.testing.conformance.subject import Value

_VALUES: dict[str, tuple[str, Value]] = {
    "Running": ("BOOL", True),
    "Small": ("SINT", -5),
    "Count": ("INT", -1234),
    "Vials": ("DINT", 70_000),
    "Total": ("LINT", 1 << 40),
    "Octet": ("USINT", 200),
    "Pair": ("UINT", 65_000),
    "Mask": ("UDINT", 0x80000001),
    "Wide": ("ULINT", 2**60),
    "Temperature": ("REAL", 37.25),
    "Volume": ("LREAL", 0.1),
    "Recipe": ("STRING", "R-17"),
}
_INSIDE: dict[str, tuple[str, Value]] = {
    "Vials.4": ("BOOL", True),
    "Samples[3]": ("REAL", 0.75),
    "Samples[4]": ("REAL", 1.0),
    "Alarms[33]": ("BOOL", True),
    "Motor.Running": ("BOOL", True),
    "Motor.Speed": ("REAL", 12.5),
    "Motor.Code": ("INT", 7),
    "Motor.Name": ("STRING", "agitator"),
    "Program:Main.Step": ("DINT", 12),
    "cip 1/1/6": ("UDINT", 0),
    "cip 4/100/3[4]": ("INT", -7),
    "cip 4/100/3.7": ("BOOL", True),
}
_IS = Identity(serial=0x00C0FFEE)


def _controller(number: int) -> Controller:
    plc = Controller(f"Line{number}", identity=Identity(serial=_IS.serial + number))
    for name, (kind, value) in _VALUES.items():
        plc.tag(name, getattr(simulator, kind), value)
    plc["Small"] = -5 - number
    plc.attribute(4, 100, 3, b"\x80" + bytes(7) + b"\xf9\xff")
    plc.tag("Samples", simulator.REAL[100], [at / 4 for at in range(100)])
    plc.tag("Alarms", simulator.BOOL[64], [at % 3 == 0 for at in range(64)])
    motor = plc.structure(
        "Motor", {"Running": simulator.BOOL, "Speed": simulator.REAL, "Code": simulator.INT, "Name": simulator.STRING}
    )
    plc.tag("Motor", motor, {"Running": True, "Speed": 12.5, "Code": 7, "Name": "agitator"})
    plc.tag("Step", simulator.DINT, 12, program=plc.program("Main"))
    return plc


class LogixPeer:
    """A simulated controller that can be switched off or silenced."""

    def __init__(self, server: LogixServer) -> None:
        self._server = server
        self._is_off = False

    @property
    def port(self) -> int:
        """See `Peer.port`."""
        return self._server.port

    async def stop(self) -> None:
        """See `Peer.stop`."""
        self._is_off = True
        await self._server.stop()

    async def silence(self) -> None:
        """See `Peer.silence`."""
        self._server.controller.silence()

    async def start(self) -> None:
        """See `Peer.start`."""
        self._server.controller.resume()
        if self._is_off:
            self._is_off = False
            await self._server.start()


class EtherNetIpSubject:
    """See `edge.testing.conformance.Subject`."""

    driver = "ethernetip"
    tags: Sequence[Mapping[str, Any]] = tuple(
        {"name": address.replace("/", "-"), "address": address, "type": kind}
        for address, (kind, _) in (_VALUES | _INSIDE).items()
    )
    missing: Mapping[str, Any] = {"name": "missing", "address": "Nowhere", "type": "DINT"}
    misspelled = {"name": "bad", "address": "Motor..Speed", "type": "REAL"}, "a dot with no name beside it"
    says: Mapping[str, str] = {
        "vendor": "Rockwell Automation/Allen-Bradley",
        "product": _IS.product,
        "firmware": "33.11",
        "serial": "00C0FFEE",
    }
    libraries = ("pycomm3",)
    reading = tuple(
        number.name
        for numbers in (Service, ConnectionService, (Command.REGISTER_SESSION, Command.UNREGISTER_SESSION))
        for number in numbers
    )
    patience_s = 0.2
    subscription: Mapping[str, Any] = {}
    clock = SystemClock()

    def kind(self) -> EtherNetIpKind:
        """A new kind."""
        return EtherNetIpKind()

    @asynccontextmanager
    async def peer(self, number: int) -> AsyncIterator[LogixPeer]:
        """A simulated controller."""
        async with LogixServer(_controller(number)) as server:
            yield LogixPeer(server)

    def device(self, number: int, port: int) -> Mapping[str, Any]:
        """A controller on loopback."""
        return {"host": "127.0.0.1", "port": port, "limits": {"timeout": "200 ms", "connect_timeout": "2 s"}}

    def values(self, number: int) -> Sequence[Value]:
        """The values of the simulated controller."""
        values = {address: value for address, (_, value) in (_VALUES | _INSIDE).items()}
        return list((values | {"Small": -5 - number, "cip 1/1/6": _IS.serial + number}).values())

    def services(self, sent: bytes) -> Sequence[str]:
        """Commands of the encapsulation, and the services in them, also inside Multiple Service Packets."""
        return list(services_of(sent))


def services_of(sent: bytes) -> Iterator[str]:
    """The names of commands and services in what a client sent; numbers for unknown ones."""
    for command in commands_in(sent):
        if command not in (Command.SEND_RR_DATA, Command.SEND_UNIT_DATA):
            yield _name(Command, command)
    for service, class_ in asked_in(sent):
        yield _name(ConnectionService if class_ == Class.CONNECTION_MANAGER else Service, service)


def _name(numbers: type[IntEnum], number: int) -> str:
    return numbers(number).name if number in numbers.__members__.values() else f"{numbers.__name__} 0x{number:02X}"
