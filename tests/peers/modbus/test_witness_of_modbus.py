"""The witness on pymodbus beside our driver: at our simulator with every type and order, at libmodbus and on a line."""

from __future__ import annotations

import itertools
import math
import struct
from pathlib import Path
from typing import Any

import pytest

from drivers.modbus.settings import ModbusDevice
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, steady
from edge.config.validate import settings_from
from edge.errors import ConfigError
from hil.witness import BAD, BAD_NO_COMMUNICATION, BAD_NO_DATA, GOOD, Seen, reader_of
from tests.peers.modbus.conftest import Running
from tests.support.line import RecordingLine

DAY_NS = 86_400 * 10**9
MOMENT_NS = 20_000 * DAY_NS + (13 * 3600 + 14 * 60 + 15) * 10**9  # 2024-10-04T13:14:15Z
VALUES: dict[str, tuple[str, Any]] = {
    "uint16": ("uint16", 0xFEDC), "int16": ("int16", -2), "uint32": ("uint32", 0xFEDCBA98), "int32": ("int32", -70_000),
    "uint64": ("uint64", 0xFEDCBA9876543210), "int64": ("int64", -(1 << 40)), "float32": ("float32", -1.5e-7),
    "float64": ("float64", math.pi), "uint24": ("uint32", 0xABCDEF), "uint48": ("uint64", 0xABCDEF012345),
    "int48": ("int64", -0x123456789A), "signmag16": ("int16", -1234), "signmag32": ("int32", -123456),
    "bcd16": ("uint16", 1978), "bcd32": ("uint32", 19781234), "mod10k32": ("int32", -1234_5678),
    "mod10k48": ("int64", 9876_1234_5678), "mod10k64": ("int64", -4_9876_1234_5678),
    "datetime48": ("int64", MOMENT_NS), "datetime64": ("int64", MOMENT_NS + 789 * 10**6),
    "datetime96": ("int64", MOMENT_NS), "cp56": ("int64", MOMENT_NS + 42 * 10**6),
    "datetime_bcd48": ("int64", MOMENT_NS), "datetime_bcd64": ("int64", MOMENT_NS + 789 * 10**6),
    "date_bcd32": ("int64", 20_000 * DAY_NS), "unix32": ("int64", MOMENT_NS),
}  # fmt: skip
"""By Modbus type: the type that it is recorded as, and a value whose bytes all differ."""
ORDERS = list(itertools.product(("big", "little"), repeat=2))


def device_at(rows: list[dict[str, Any]], **more: Any) -> ModbusDevice:
    groups = [{"every": "1 s", "tags": rows}]
    where = {} if "serial" in more else {"host": "127.0.0.1"}
    return settings_from(ModbusDevice, {"name": "d", "driver": "modbus", "scan_groups": groups, **where, **more})


async def seen_at(device: ModbusDevice) -> dict[str, Seen]:
    async with reader_of(device) as reader:
        return {seen.tag: seen for seen in await reader.read()}


async def test_every_type_is_read_in_every_order() -> None:
    rows, signals, expected = [], [], {}
    for (kind, (recorded_as, value)), (word_order, byte_order) in itertools.product(VALUES.items(), ORDERS):
        name, address = f"{kind}-{word_order}-{byte_order}", f"holding {10 * len(rows)}"
        rows.append(
            {"name": name, "address": address, "type": kind, "word_order": word_order, "byte_order": byte_order}
        )
        signals.append(Signal(address, kind, steady(value), word_order=word_order, byte_order=byte_order))  # type: ignore[arg-type]
        shown = value if kind != "float32" else struct.unpack("f", struct.pack("f", value))[0]
        expected[name] = (shown, recorded_as, GOOD)

    async with SimulatedDevice({1: SimulatedUnit(signals)}) as server:
        found = await seen_at(device_at(rows, port=server.port))

    assert {name: (seen.value, seen.type, seen.status) for name, seen in found.items()} == expected


@pytest.mark.parametrize("byte_order", ["big", "little"])
async def test_parts_of_a_register_and_texts_are_read(byte_order: Any) -> None:
    parts = {"holding 0.3": ("bool", True), "holding 1.0-3": ("uint16", 5), "holding 2.low": ("uint8", 0xCD),
             "holding 3.high": ("int8", -3), "coil 7": ("bool", True), "discrete 9": ("bool", False)}  # fmt: skip
    rows: list[dict[str, Any]] = [{"name": address, "address": address, "type": kind} for address, (kind, _) in
            parts.items()]  # fmt: skip
    signals = [Signal(address, kind, steady(value), byte_order=byte_order) for address, (kind, value) in parts.items()]  # type: ignore[arg-type]
    rows.append({"name": "text", "address": "input 20", "type": "text", "length": 9})
    signals.append(Signal("input 20", "text", steady("LOT-2041"), byte_order=byte_order, length=9))

    async with SimulatedDevice({1: SimulatedUnit(signals)}) as server:
        found = await seen_at(device_at(rows, port=server.port, byte_order=byte_order))

    assert {name: (seen.type, seen.value) for name, seen in found.items()} == {**parts, "text": ("text", "LOT-2041")}


async def test_what_is_not_there_is_bad() -> None:
    rows = [{"name": "gone", "address": "holding 5", "type": "uint16"},
            {"name": "absent", "address": "holding 7", "type": "int16", "invalid": [0x8000]},
            {"name": "digits", "address": "holding 8", "type": "bcd16"}]  # fmt: skip
    signals = [Signal("holding 7", "int16", steady(-0x8000)), Signal("holding 8", "uint16", steady(0xABCD))]

    async with SimulatedDevice({1: SimulatedUnit(signals, illegal=["holding 5"])}) as server:
        device = device_at(rows, port=server.port)
        found = await seen_at(device)
    lost = await seen_at(device)

    assert {name: (seen.value, seen.status) for name, seen in found.items()} == {
        "gone": (None, BAD), "absent": (None, BAD_NO_DATA), "digits": (None, BAD)}  # fmt: skip
    assert {seen.status for seen in lost.values()} == {BAD_NO_COMMUNICATION}


async def test_a_device_that_comes_back_is_read_on() -> None:
    """Over one connection at a time: pymodbus' own reconnecting would lock a device with one client out."""
    async with SimulatedDevice({1: SimulatedUnit([Signal("holding 0", "uint16", steady(7))])}) as server:
        device = device_at([{"name": "a", "address": "holding 0", "type": "uint16"}], port=server.port,
                           limits={"timeout": "200 ms"})  # fmt: skip
        async with reader_of(device) as it:
            values = [(await it.read())[0].value]
            await server.stop()
            values.append((await it.read())[0].value)
            await server.start()
            values.append((await it.read())[0].value)

        assert values == [7, None, 7]
        assert server.connections_most == 1


async def test_libmodbus_is_read(libmodbus_port: int) -> None:
    rows = [{"name": "word", "address": "4x00124", "type": "uint16"}, {"name": "two", "address": "input 5", "type":
            "uint32", "word_order": "little"}, {"name": "coil", "address": "coil 9"}]  # fmt: skip

    found = await seen_at(device_at(rows, port=libmodbus_port))

    assert {name: seen.value for name, seen in found.items()} == {"word": 123, "two": 1006 << 16 | 1005, "coil": True}


async def test_a_serial_line_is_read(running_libmodbus: Running, tmp_path: Path) -> None:
    async with RecordingLine(tmp_path) as line:
        with running_libmodbus(str(line.device), "115200"):
            # pyserial asks the kernel for parity, which a pseudo-terminal has not.
            serial = {"port": str(line.gateway), "baud": 115200, "parity": "none", "stop_bits": 1}
            found = await seen_at(device_at([{"name": "a", "address": "holding 42", "type": "uint16"}], serial=serial))
        sent = bytes(line.recording.sent)

    assert (found["a"].value, found["a"].status) == (42, GOOD)
    assert sent[:6] == bytes((1, 3, 0, 42, 0, 1))


def test_what_it_cannot_read_is_said(tmp_path: Path) -> None:
    device = device_at([{"name": "a", "address": "coil 1"}])

    with pytest.raises(ConfigError, match="d: node-opcua does not read a modbus device; pymodbus does"):
        reader_of(device, "node-opcua")
