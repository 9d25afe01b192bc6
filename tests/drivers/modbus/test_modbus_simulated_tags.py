"""Simulated tags hold what their signals say, in every type and order, and decode as a device's values do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest

from drivers.modbus import ModbusKind
from drivers.modbus.address import Table
from drivers.modbus.plan import ModbusPlan
from drivers.modbus.settings import ModbusDevice, TypeName
from drivers.modbus.simulator import SimulatedDevice
from drivers.modbus.simulator.configured import Unit, units_of
from edge.config.catalogue import catalogue_tag
from edge.config.validate import settings_from
from edge.driver import Simulation
from edge.errors import ConfigError
from edge.model import in_unit
from edge.testing.clock import ManualClock
from tests.support.ports import free_port

NOON_NS = 1_900_000_000_123_000_000
KINDS = [name for name in get_args(TypeName) if name not in ("bool", "uint8", "int8")]


def device_of(tags: list[dict[str, Any]], **keys: Any) -> ModbusDevice:
    rows = [{"name": f"t{number}", **tag} for number, tag in enumerate(tags)]
    return settings_from(ModbusDevice, {"name": "plc", "driver": "modbus", "host": "127.0.0.1", **keys}
                         | {"scan_groups": [{"every": "1 s", "tags": rows}]})  # fmt: skip


def clock_at_noon() -> ManualClock:
    return ManualClock(utc_ns=NOON_NS)


def unit_of(device: ModbusDevice, signals: dict[str, str] | None = None, **more: Any) -> Unit:
    how = Simulation(signals=signals or {}, **more)
    return units_of([device], how, clock_at_noon(), is_kept=True)[device.unit]


def decoded(device: ModbusDevice, unit: Unit, elapsed_s: float) -> tuple[list[Any], list[int]]:
    """Raw values as the driver decodes them, and the tags that are not GOOD."""
    plan = ModbusPlan(device.scan_groups[0].tags, device)
    image = bytearray(plan.image_bytes)
    for block in plan.blocks:
        data = unit.simulated.data(block.table, block.first, block.count, elapsed_s, 0)
        assert data is not None
        image[block.offset : block.offset + len(data)] = data
    vectors, faults = plan.decoder.decode(image)
    return [vectors[vector][position] for vector, position in plan.layout.slots], [tag for tag, _ in faults]


@pytest.mark.parametrize(("word_order", "byte_order"), list(product(("big", "little"), repeat=2)))
def test_every_type_in_every_order_decodes_to_what_is_served(word_order: str, byte_order: str) -> None:
    tags = [{"address": f"holding {20 * at}", "type": kind, **({"length": 7} if kind == "text" else {})}
            for at, kind in enumerate(KINDS)]  # fmt: skip
    tags += [{"address": "holding 900.low", "type": "uint8"}, {"address": "holding 900.high", "type": "int8"},
             {"address": "holding 901.11"}, {"address": "holding 901.3-8"}, {"address": "coil 3"},
             {"address": "discrete 70"}]  # fmt: skip
    device = device_of(tags, word_order=word_order, byte_order=byte_order)
    unit = unit_of(device)

    for elapsed_s in (0.0, 7.3, 31.0):
        values, bad = decoded(device, unit, elapsed_s)

        served = {signal.tag.name: signal.served[-1][1] for signal in unit.simulated.signals}
        assert bad == []
        assert dict(zip((f"t{at}" for at in range(len(tags))), values, strict=True)) == served
    assert values[KINDS.index("datetime64")] == NOON_NS
    assert unit.tags["plc"][f"t{KINDS.index('text')}"][1] == f"constant T{KINDS.index('text')}"


@pytest.mark.parametrize("kind", ["int48", "signmag16", "signmag32", "mod10k32", "mod10k48", "mod10k64", "int16"])
def test_numbers_below_zero(kind: str) -> None:
    device = device_of([{"address": "holding 0", "type": kind, "word_order": "little"}])

    assert decoded(device, unit_of(device, {"t0": "-1234"}), 0)[0] == [-1234]


def test_values_move_within_the_range_and_in_the_unit_of_the_tag() -> None:
    device = device_of([
        {"address": "input 0", "type": "int16", "scale": 0.1, "offset": -20, "range": [-10, 90]},
        {"address": "input 1.low", "type": "uint8"},
        {"address": "input 2", "type": "float64", "unit": "bar"},
    ])  # fmt: skip
    unit = unit_of(device)
    tags = [catalogue_tag(tag) for tag in device.scan_groups[0].tags]

    seen = np.array([
        [in_unit(raw, tag.scale, tag.offset, tag.time_kind) for raw, tag in zip(values, tags, strict=True)]
        for values, _ in (decoded(device, unit, elapsed_s) for elapsed_s in range(200))
    ])  # fmt: skip

    assert (seen.min(axis=0) >= [10, 0, 0]).all()
    assert (seen.max(axis=0) <= [70, 100, 100]).all()
    assert (np.ptp(seen, axis=0) > [55, 90, 90]).all()


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        ("21.5", [21.5, 21.5, 21.5]),
        ("constant -3", [-3, -3, -3]),
        ("ramp 0..100 10 s", [0, 50, 0]),
        ("sine 10..20 20 s", [15, 20, 15]),
        ("square 0..1 10 s", [0, 1, 0]),
        ("counter 5..11 1 s", [5, 10, 8]),
    ],
)
def test_signals_as_people_write_them(signal: str, expected: list[float]) -> None:
    device = device_of([{"address": "holding 0", "type": "float32"}])
    unit = unit_of(device, {"plc/t0": signal})

    seen = [decoded(device, unit, elapsed_s)[0][0] for elapsed_s in (0, 5, 10)]

    assert seen == pytest.approx(expected)


def test_a_walk_is_the_same_at_each_start() -> None:
    device = device_of([{"address": "holding 0", "type": "float32"}])

    first, again = ([decoded(device, unit_of(device, {"t0": "walk 5..6 2 s"}), at)[0][0] for at in range(50)]
                    for _ in range(2))  # fmt: skip

    assert first == again
    assert len(set(first)) > 40
    assert 5 <= min(first) < max(first) <= 6


def test_a_recording_is_replayed_and_begins_again() -> None:
    device = device_of([{"address": "holding 0", "type": "int16", "scale": 0.1},
                        {"address": "holding 1", "type": "text", "length": 8}])  # fmt: skip
    unit = unit_of(device, recordings={"t0": [(0, "1.5"), (10, "-2")], "t1": [(5, "load")]})

    seen = [decoded(device, unit, elapsed_s)[0] for elapsed_s in (0, 9.9, 10, 19.9, 20)]

    assert seen == [[raw, "load"] for raw in (15, 15, -20, -20, 15)]


def test_no_signal_gives_a_value_that_means_none() -> None:
    device = device_of([{"address": "holding 0", "type": "uint16", "invalid": [7]}])

    assert decoded(device, unit_of(device, {"t0": "7"}), 0) == ([8], [])


def test_tags_that_share_registers_follow_one_of_them() -> None:
    """A word and its bits are one value of the device: it cannot be moved in two ways."""
    device = device_of([{"address": "holding 0.3"}, {"address": "holding 0", "type": "uint16"}])
    unit = unit_of(device, {"t1": "8"})

    assert decoded(device, unit, 0)[0] == [True, 8]
    assert unit.tags["plc"]["t0"] == ("holding 0.3", "shares registers with t1")


def test_only_what_the_gateway_may_read_exists() -> None:
    tags = [{"address": "holding 10", "type": "float32"}, {"address": "holding 14", "type": "uint16"},
            {"address": "holding 40", "type": "uint16"}, {"address": "holding 60", "type": "uint16"}]  # fmt: skip
    device = device_of(tags, limits={"hole": 4, "registers": 2})
    unit = unit_of(device, {"t3": "missing"}).simulated

    def exists(first: int, count: int) -> bool:
        return unit.data(Table.HOLDING, first, count, 0, 0) is not None

    assert exists(10, 2)
    assert exists(14, 1)
    assert exists(40, 1)
    assert not any(exists(*asked) for asked in ((9, 2), (11, 2), (12, 1), (41, 1), (60, 1)))


@pytest.mark.parametrize(
    ("tag", "signal", "sentence"),
    [
        ({"type": "float32"}, "sin 3", "'sin 3' is neither a number nor a signal; signals are constant, sine"),
        ({"type": "uint16"}, "70000", r"70000 does not fit uint16 \(0 to 65535\)"),
        ({"type": "bcd16"}, "12345", r"12345 does not fit bcd16 \(0 to 9999\)"),
        ({"type": "text", "length": 3}, "LONG", "'LONG' is longer than 3 characters"),
        ({"type": "text", "length": 9}, "ramp", "a text is constant, got 'ramp'"),
        ({"type": "float32"}, "ramp 9..1", "'ramp 9..1' must go from low to high"),
        ({"type": "float32"}, "ramp 5 minutes ago", "ramp 5 minutes ago|minutes"),
        ({"type": "float32"}, "ramp 0 s", "the period of 'ramp 0 s' must be longer than 0"),
        ({"type": "cp56"}, "12", "a cp56 follows the clock of this machine"),
        ({"address": "coil 0"}, "2", "'2' is not true or false"),
    ],
)
def test_a_signal_that_cannot_be_is_refused_with_the_tag(tag: dict[str, Any], signal: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"plc/t0: .*({sentence})"):
        unit_of(device_of([{"address": "holding 0", **tag}]), {"t0": signal})


async def test_units_of_one_place_share_a_port_and_others_get_the_next() -> None:
    first = free_port()
    tags = [{"address": "holding 0", "type": "uint16"}]
    places = (("a", 1, "192.0.2.1"), ("b", 2, "192.0.2.1"), ("c", 1, "192.0.2.2"))
    devices = [replace(device_of(tags, unit=unit), name=name, host=host) for name, unit, host in places]

    async with ModbusKind().simulate(devices, Simulation(port=first)) as served:
        assert [(each.port - first, each.detail) for each in served] == [
            (0, "unit 1"), (0, "unit 2"), (1, "unit 1")
        ]  # fmt: skip


async def test_a_port_that_is_taken_is_said_with_its_device() -> None:
    device = device_of([{"address": "holding 0", "type": "uint16"}])
    async with SimulatedDevice({}) as other:
        with pytest.raises(OSError, match=f"plc cannot answer at 127.0.0.1:{other.port}: Address already in use"):
            async with ModbusKind().simulate([device], Simulation(port=other.port)):
                pass


def test_a_gateway_does_not_load_the_simulator() -> None:
    program = (
        "import sys; from edge.driver import load; load('modbus')\nprint([m for m in sys.modules if '.simul' in m])"
    )

    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout == "[]\n"
