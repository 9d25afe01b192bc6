"""A device of the simulated rig as a process: `python -m hil.devices RIG NAME LOG`, which prints `ready`.

Its log is its own account of what it said: a line for every value in an answer, with boot time, tag and value. It is
written before the answer leaves, so that it survives a power cut of the device.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from drivers.ethernetip import simulator as logix
from drivers.modbus.settings import ModbusDevice
from drivers.modbus.simulator import SimulatedDevice, SimulatedLine, SimulatedUnit, TagSignal
from edge.clock import SystemClock
from hil.rig import Rig, Signal, WiredDevice, load_rig

Value = float | int | bool
Wave = Callable[[], Value]

_OPCUA_TYPES = {"bool": "Boolean", "int8": "SByte", "uint8": "Byte", "float32": "Float", "float64": "Double"}
_NODE = re.compile(r"nsu=(?P<uri>[^;]+);s=(?P<name>.+)")
_IDENTITY: Mapping[int, Literal["vendor", "product", "firmware"]] = {0: "vendor", 1: "product", 2: "firmware"}


REFUSED = "!refused"
"""In a log in place of a tag: how many requests other than to read the device has refused."""


class Served(NamedTuple):
    """A value that a device said it has served."""

    boot_ns: int
    tag: str
    value: Value


def served_in(log: Path) -> list[Served]:
    """What a device's log says; a line that a power cut left unfinished counts for nothing."""
    lines = log.read_text("ascii").splitlines(keepends=True) if log.exists() else []
    words = [line.removesuffix("\n").split("\t") for line in lines if line.endswith("\n")]
    return [Served(int(boot_ns), tag, _number(text)) for boot_ns, tag, text in words]


class SignalLog:
    """The values of a device's tags, each written down when it is served."""

    def __init__(self, signals: Mapping[str, Signal], log: Path) -> None:
        self._signals = signals
        self._file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._clock = SystemClock()
        counts = [each.value for each in served_in(log) if isinstance(each.value, int)]
        self._last = max(counts, default=0)  # A counter goes on after a power cut.

    def wave(self, tag: str, kind: str) -> Wave:
        """What gives a tag's value, in the type that it has in the device, and writes it down."""
        value = self.value(tag, kind)

        def written() -> Value:
            found = value()
            self.write(tag, found)
            return found

        return written

    def value(self, tag: str, kind: str) -> Wave:
        """What gives a tag's value."""
        signal = self._signals.get(tag, Signal(wave="steady"))
        cast: Callable[[Any], Value] = bool if kind.lower() == "bool" else round
        if kind.lower() in ("real", "lreal") or kind.startswith("float"):
            cast = float
        count = self._last

        def value() -> Value:
            nonlocal count
            count += 1
            return count if signal.wave == "counter" else cast(signal.at(self._clock.boot_ns()))

        return value

    def write(self, tag: str, value: Value) -> None:
        """Write down what is served."""
        os.write(self._file, f"{self._clock.boot_ns()}\t{tag}\t{value!r}\n".encode("ascii"))


class _Written(list[tuple[int, Any]]):
    """What a signal has served whole, written down: a request for a part of it, as to find a unit, is no value."""

    def __init__(self, signals: SignalLog, tag: str) -> None:
        super().__init__()
        self._signals, self._tag = signals, tag

    def append(self, served: tuple[int, Any], /) -> None:
        """Write a value down."""
        self._signals.write(self._tag, served[1])


Refused = Callable[[], int]
"""How many requests other than to read a device was asked for, and has refused."""


@asynccontextmanager
async def _modbus(wired: WiredDevice, settings: Any, signals: SignalLog) -> AsyncIterator[Refused]:
    assert isinstance(settings, ModbusDevice)
    found = []
    for tag in (tag for group in settings.scan_groups for tag in group.tags):
        whole = replace(tag, word_order=tag.word_order or (None if tag.kind == "text" else settings.word_order),
                        byte_order=tag.byte_order or settings.byte_order)  # fmt: skip
        found.append(TagSignal(whole, _of_time(signals.value(tag.name, tag.kind)), True, _Written(signals, tag.name)))
    objects = {number: wired.identity[key] for number, key in _IDENTITY.items() if key in wired.identity}
    units = {settings.unit: SimulatedUnit(found, objects=objects)}
    device = SimulatedDevice(units, host=str(settings.host), port=settings.tcp_port)
    if settings.serial is not None:
        device = SimulatedLine(units, _new_port(Path(settings.serial.port)))
    async with device:
        yield lambda: len(device.refused_functions)


def _new_port(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # That of a device which lost its power.
    return path


@asynccontextmanager
async def _logix(wired: WiredDevice, settings: Any, signals: SignalLog) -> AsyncIterator[Refused]:
    said = wired.identity
    identity = logix.Identity(product=said.get("product", "1756-L83E/B"), serial=int(said.get("serial", "1"), 16))
    controller = logix.Controller(wired.name, identity=identity)
    for tag in (tag for group in settings.scan_groups for tag in group.tags):
        controller.tag(tag.address, getattr(logix, tag.type), _of_time(signals.wave(tag.name, tag.type)))
    async with logix.LogixServer(controller, host=settings.host, port=settings.port):
        yield lambda: controller.writes_asked


@asynccontextmanager
async def _opcua(wired: WiredDevice, settings: Any, signals: SignalLog) -> AsyncIterator[Refused]:
    from asyncua import Server, ua

    logging.disable(logging.CRITICAL)
    written: list[int] = []
    server = Server()
    await server.init()
    server.set_endpoint(settings.url)
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    said = wired.identity
    await server.set_build_info("urn:tidegate:rig", said.get("vendor", ""), said.get("product", ""),
                                said.get("firmware", ""), "1", datetime.now(UTC))  # fmt: skip
    for tag in (tag for group in settings.scan_groups for tag in group.tags):
        where = _NODE.fullmatch(tag.address)
        assert where is not None
        node_id = ua.NodeId(where["name"], await server.register_namespace(where["uri"]))
        kind = getattr(ua.VariantType, _OPCUA_TYPES.get(tag.type, tag.type.replace("u", "U", 1).replace("int", "Int")))
        node = await server.nodes.objects.add_variable(node_id, where["name"], ua.Variant(0, kind))
        await node.set_writable()  # So that a write arrives, and is counted.
        server.set_attribute_value_setter(node_id, lambda *_: written.append(1))
        wave = signals.wave(tag.name, tag.type)
        server.set_attribute_value_callback(
            node_id, lambda _, __, wave=wave, kind=kind: ua.DataValue(ua.Variant(wave(), kind))
        )
    async with server:
        yield lambda: len(written)


_KINDS: Mapping[str, Callable[[WiredDevice, Any, SignalLog], AbstractAsyncContextManager[Refused]]] = {
    "modbus": _modbus, "ethernetip": _logix, "opcua": _opcua,
}  # fmt: skip


def _of_time(wave: Wave) -> Callable[[float], Value]:
    return lambda _: wave()


def _number(text: str) -> Value:
    return text == "True" if text in ("True", "False") else float(text) if not text.lstrip("-").isdigit() else int(text)


async def _serve(rig: Rig, name: str, log: Path) -> None:
    at = list(rig.devices).index(name)
    wired, settings = rig.wired.devices[at], rig.checked[at]
    signals, noted = SignalLog(wired.signals, log), 0
    async with _KINDS[settings.driver](wired, settings, signals) as refused:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            await asyncio.sleep(0.2)
            if refused() > noted:
                noted = refused()
                signals.write(REFUSED, noted)


if __name__ == "__main__":
    asyncio.run(_serve(load_rig(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])))
