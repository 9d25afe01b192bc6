from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import DataObject, booleans, data, floats, integers, lists, sampled_from, text, tuples

from drivers.modbus.plan import ModbusPlan
from drivers.modbus.settings import ModbusDevice, ModbusTag
from drivers.modbus.simulator import Signal, SimulatedUnit, registers_of, steady
from edge.config.validate import settings_from
from edge.model import StatusCode

_INTEGERS = {"uint8": (8, 0), "int8": (8, 1), "uint16": (16, 0), "int16": (16, 1), "uint32": (32, 0), "int32": (32, 1),
             "uint64": (64, 0), "int64": (64, 1)}  # fmt: skip
_ORDERS = sampled_from(["big", "little"])
_KINDS = sampled_from([*_INTEGERS, "float32", "float64", "bcd16", "bcd32", "text", "bit", "coil"])


def device_of(tags: list[dict[str, Any]], **settings: Any) -> ModbusDevice:
    rows = [{"name": f"tag-{number}"} | tag for number, tag in enumerate(tags)]
    return settings_from(
        ModbusDevice,
        {"name": "device", "driver": "modbus", "host": "127.0.0.1", **settings}
        | {"scan_groups": [{"every": "1 s", "tags": rows}]},
    )


def image_of(plan: ModbusPlan, unit: SimulatedUnit) -> bytes:
    image = bytearray(plan.image_bytes)
    for block in plan.blocks:
        answer = unit.data(block.table, block.first, block.count, 0.0, 0)
        assert answer is not None
        image[block.offset : block.offset + len(answer)] = answer
    return bytes(image)


def a_value(draw: DataObject, kind: str) -> Any:
    if kind in _INTEGERS:
        bits, is_signed = _INTEGERS[kind]
        return draw.draw(integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else integers(0, 2**bits - 1))
    if kind in ("float32", "float64"):
        return draw.draw(floats(width=32 if kind == "float32" else 64))
    if kind in ("bcd16", "bcd32"):
        return draw.draw(integers(0, 9999 if kind == "bcd16" else 99_999_999))
    if kind == "text":
        return draw.draw(text("abcXYZ 019-", max_size=7)).rstrip()
    return draw.draw(booleans())


@pytest.mark.requirement("REQ-TYPE-01")
@given(
    kinds=lists(tuples(_KINDS, _ORDERS, _ORDERS), min_size=1, max_size=40),
    gap=integers(0, 3),
    draw=data(),
)
def test_every_type_in_every_order_is_read_as_it_was_written(
    kinds: list[tuple[str, str, str]], gap: int, draw: DataObject
) -> None:
    tags: list[dict[str, Any]] = []
    values = []
    signals = []
    at = 0
    for kind, word_order, byte_order in kinds:
        value = a_value(draw, kind)
        tag: dict[str, Any] = {"address": f"holding {at}", "type": kind, "byte_order": byte_order}
        if kind == "text":
            tag["length"] = 7
        elif kind in ("uint8", "int8"):
            tag["address"] += draw.draw(sampled_from([".high", ".low"]))
        elif kind == "bit":
            tag |= {"address": f"holding {at}.{draw.draw(integers(0, 15))}", "type": "bool"}
        elif kind == "coil":
            tag = {"address": f"coil {at}", "type": "bool"}
        else:
            tag["word_order"] = word_order
        signals.append(Signal(wave=steady(value), **tag))
        tags.append(tag)
        values.append(value)
        at += signals[-1].tag.count + gap
    device = device_of(tags)
    plan = ModbusPlan(device.scan_groups[0].tags, device)

    vectors, wrong = plan.decoder.decode(image_of(plan, SimulatedUnit(signals)))

    assert wrong == ()
    for value, (vector, position) in zip(values, plan.layout.slots, strict=True):
        np.testing.assert_equal(vectors[vector][position], np.array(value, vectors[vector].dtype)[()])


@pytest.mark.parametrize(
    ("word_order", "byte_order", "registers"),
    [
        pytest.param("big", "big", "40490fdb", id="ABCD"),
        pytest.param("little", "big", "0fdb4049", id="CDAB"),
        pytest.param("big", "little", "4940db0f", id="BADC"),
        pytest.param("little", "little", "db0f4940", id="DCBA"),
    ],
)
def test_the_four_orders_of_a_float_are_those_of_the_vendors(word_order: str, byte_order: str, registers: str) -> None:
    device = device_of([{"address": "input 7", "type": "float32"}], word_order=word_order, byte_order=byte_order)
    plan = ModbusPlan(device.scan_groups[0].tags, device)

    (vector,), _ = plan.decoder.decode(bytes.fromhex(registers))

    assert vector[0] == np.float32(3.14159274)


def test_a_nan_keeps_its_bits() -> None:
    device = device_of([{"address": "holding 0", "type": "float32"}])
    plan = ModbusPlan(device.scan_groups[0].tags, device)

    (vector,), _ = plan.decoder.decode(bytes.fromhex("7fc01234"))

    assert vector.tobytes() == struct.pack("=I", 0x7FC01234)


def test_an_impossible_decimal_is_bad_alone() -> None:
    device = device_of(
        [{"address": f"holding {i}", "type": kind} for i, kind in enumerate(["bcd16", "uint16", "bcd16"])]
    )
    plan = ModbusPlan(device.scan_groups[0].tags, device)

    (vector,), wrong = plan.decoder.decode(bytes.fromhex("1234 ffff 12a4"))

    assert wrong == ((2, StatusCode.BAD_DECODING_ERROR),)
    assert vector.tolist() == [1234, 0xFFFF, 0]


def test_text_that_is_none_is_bad_alone() -> None:
    device = device_of([{"address": f"holding {i}", "type": "text", "length": 2} for i in range(2)])
    plan = ModbusPlan(device.scan_groups[0].tags, device)

    (vector,), wrong = plan.decoder.decode(b"ok\xff\xfe")

    assert wrong == ((1, StatusCode.BAD_DECODING_ERROR),)
    assert vector.tolist() == ["ok", ""]


@pytest.mark.parametrize(
    ("padding", "expected"), [("any", "A"), ("nul", "A "), ("space", "A \0B"), ("keep", "A \0B  ")]
)
def test_padding_is_taken_off_as_set(padding: str, expected: str) -> None:
    device = device_of([{"address": "holding 0", "type": "text", "length": 6, "padding": padding}])
    plan = ModbusPlan(device.scan_groups[0].tags, device)

    (vector,), _ = plan.decoder.decode(b"A \0B  ")

    assert vector[0] == expected


def test_vectors_cannot_be_written_and_share_nothing_with_the_image() -> None:
    """The next scan fills the image anew, and an unchanged scan hands out the same vectors."""
    device = device_of([{"address": "holding 0", "type": "uint16"}, {"address": "holding 1", "type": "float32"}])
    plan = ModbusPlan(device.scan_groups[0].tags, device)
    image = bytearray(plan.image_bytes)

    vectors, _ = plan.decoder.decode(image)
    image[:] = b"\xff" * len(image)

    assert [vector[0] for vector in vectors] == [0, 0]
    assert not any(vector.flags.writeable for vector in vectors)


def test_registers_of_a_simulated_value_follow_the_standard() -> None:
    tag = settings_from(ModbusTag, {"name": "t", "address": "holding 0", "type": "uint32"})

    assert registers_of(tag, 0x01020304) == bytes((1, 2, 3, 4))
