"""Types that plants have, read from a device over the wire, and from real servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drivers.modbus import ModbusKind
from drivers.modbus.settings import ModbusDevice
from edge.clock import SystemClock
from edge.config.catalogue import catalogue_groups, catalogue_tag
from edge.config.validate import settings_from
from edge.model import in_unit, json_value, power_of_ten
from edge.scan import Reporter
from tests.support.field.modbus_types import METER_VALUES, inverter, meter


async def test_no_value_is_recorded_with_a_scale_of_another_moment(tmp_path: Path) -> None:
    """The inverter gives one power in one of two scales: any other pair is a value and a scale of two moments."""
    async with inverter(tmp_path) as keys:
        device = settings_from(ModbusDevice, {"name": "d", **keys})
        driver = ModbusKind().driver(device, SystemClock())
        plan = driver.plan(device.scan_groups[0].tags)
        reporter = Reporter(0, catalogue_groups(device)[0])
        reported = set[tuple[int, ...]]()
        scans = 0
        async with driver.connect() as session:
            while scans < 500 or len(reported) < 2:  # However fast this machine is, the scale moves in between.
                block = reporter.report(await session.read(plan))
                reported |= {tuple(block.vectors[0].tolist())} if len(block.vectors[0]) else set()
                scans += 1

    assert {(12340, -1), (1234, 0)} == reported


async def test_a_real_server_with_the_registers_of_a_meter_is_read_in_its_types(tmp_path: Path) -> None:
    async with meter(tmp_path) as keys:
        device = settings_from(ModbusDevice, {"name": "d", **keys})
        tags = device.scan_groups[0].tags
        driver = ModbusKind().driver(device, SystemClock())
        plan = driver.plan(tags)
        async with driver.connect() as session:
            reading = await session.read(plan)

    shown: dict[str, Any] = {}
    for tag, (vector, position) in zip(map(catalogue_tag, tags), plan.layout.slots, strict=True):
        value = in_unit(reading.vectors[vector][position], tag.scale, tag.offset, tag.time_kind)
        shown[tag.name] = json_value(value, tag.data_type)
    assert shown == METER_VALUES
    assert reading.status == ()


def libmodbus_holds(*tags: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": f"t{number}", **tag} for number, tag in enumerate(tags)]


async def test_libmodbus_is_read_in_odd_widths_and_by_the_scale_of_a_register(libmodbus_port: int) -> None:
    """Each of its registers holds its own address."""
    tags = libmodbus_holds(
        {"address": "holding 100", "type": "uint48"},
        {"address": "holding 200", "type": "mod10k64", "word_order": "little"},
        {"address": "holding 300.2-5"},
        {"address": "holding 12", "type": "uint16", "scale_from": "t4"},
        {"address": "holding 3", "type": "int16"},
        {"address": "holding 13", "type": "uint16", "scale_from": "t6"},
        {"address": "holding 11", "type": "uint16"},
        {"address": "holding 77", "type": "uint16", "invalid": [77]},
    )
    keys = {"name": "d", "driver": "modbus", "host": "127.0.0.1", "port": libmodbus_port}
    device = settings_from(ModbusDevice, keys | {"scan_groups": [{"every": "1 s", "tags": tags}]})
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)

    async with driver.connect() as session:
        reading = await session.read(plan)

    raw = [reading.vectors[vector][position].item() for vector, position in plan.layout.slots]
    assert raw[:3] == [100 << 32 | 101 << 16 | 102, 203_0202_0201_0200, 300 >> 2 & 15]
    assert in_unit(reading.vectors[plan.layout.slots[3][0]][plan.layout.slots[3][1]], power_of_ten(raw[4])) == 12_000
    assert [(tag, code) for tag, _, code in reading.status] == [(5, 0x80070000), (7, 0x809B0000)]
