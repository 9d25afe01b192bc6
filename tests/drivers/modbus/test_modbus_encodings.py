"""Types that plants have and machines have not, against arithmetic of their own."""

from __future__ import annotations

import math
import struct
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import DataObject, data, datetimes, integers, lists, sampled_from, tuples
from pydantic import ValidationError

from drivers.modbus.encodings import ENCODINGS
from drivers.modbus.plan import ModbusPlan
from drivers.modbus.settings import ModbusDevice, ModbusTag, invalid_values
from edge.config.catalogue import catalogue_tag
from edge.config.validate import settings_from
from edge.errors import ConfigError
from edge.model import StatusCode, in_unit

BAD, NO_DATA = int(StatusCode.BAD_DECODING_ERROR), int(StatusCode.BAD_NO_DATA)


def plan_of(tags: list[dict[str, Any]], **settings: Any) -> ModbusPlan:
    rows = [{"name": f"tag-{number}"} | tag for number, tag in enumerate(tags)]
    device = settings_from(
        ModbusDevice,
        {"name": "device", "driver": "modbus", "host": "127.0.0.1", **settings}
        | {"scan_groups": [{"every": "1 s", "tags": rows}]},
    )
    return ModbusPlan(device.scan_groups[0].tags, device)


def decoded(kind: str, registers: list[int], **keys: Any) -> tuple[Any, int]:
    """One value and its status."""
    plan = plan_of([{"address": "holding 0", "type": kind} | keys])
    (vector,), faults = plan.decoder.decode(struct.pack(f">{len(registers)}H", *registers))
    return vector[0].item(), dict(faults).get(0, 0)


def ns_of(moment: datetime) -> int:
    since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def bcd(text: str) -> list[int]:
    return [int(text[at : at + 4], 16) for at in range(0, len(text), 4)]


def words(number: int, count: int) -> list[int]:
    return list(struct.unpack(f">{count}H", (number % (1 << 16 * count)).to_bytes(2 * count)))


def mod10k(number: int, count: int) -> list[int]:
    digits = f"{abs(number):0{4 * count}d}"
    sign = -1 if number < 0 else 1
    return [int(digits[at : at + 4]) * sign % 65536 for at in range(0, len(digits), 4)]


def magnitude(number: int, count: int) -> list[int]:
    return words(abs(number) | (number < 0) << (16 * count - 1), count)


def schneider(moment: datetime) -> list[int]:
    return [moment.month << 8 | moment.day, moment.year - 1900 << 8 | moment.hour, moment.minute << 8 | moment.second]


def iec_60870(moment: datetime) -> list[int]:
    """CP56Time2a in the order of the standard, least significant byte first, and a byte that is not used."""
    octets = struct.pack("<HBBBBBB", moment.second * 1000 + moment.microsecond // 1000, moment.minute, moment.hour,
                         moment.day | moment.isoweekday() << 5, moment.month, moment.year - 2000, 0)  # fmt: skip
    return list(struct.unpack(">4H", octets[::-1]))


NUMBERS = {
    "uint24": (integers(0, 2**24 - 1), words, 2),
    "uint48": (integers(0, 2**48 - 1), words, 3),
    "int48": (integers(-(2**47), 2**47 - 1), words, 3),
    "signmag16": (integers(-(2**15) + 1, 2**15 - 1), magnitude, 1),
    "signmag32": (integers(-(2**31) + 1, 2**31 - 1), magnitude, 2),
    "mod10k32": (integers(-(10**8) + 1, 10**8 - 1), mod10k, 2),
    "mod10k48": (integers(-(10**12) + 1, 10**12 - 1), mod10k, 3),
    "mod10k64": (integers(-(10**16) + 1, 10**16 - 1), mod10k, 4),
    "bcd16": (integers(0, 9999), lambda number, _: bcd(f"{number:04d}"), 1),
    "bcd32": (integers(0, 10**8 - 1), lambda number, _: bcd(f"{number:08d}"), 2),
    "unix32": (integers(0, 2**32 - 1), words, 2),
}
MOMENTS = {
    "datetime48": (schneider, 10**6, 1900, 2155),
    "datetime64": (lambda m: [*schneider(m), m.microsecond // 1000], 1000, 1900, 2155),
    "datetime96": (lambda m: [m.year, m.month, m.day, m.hour, m.minute, m.second], 10**6, 1678, 2261),
    "cp56": (iec_60870, 1000, 2000, 2099),
    "datetime_bcd48": (lambda m: bcd(f"{m:%y%m%d%H%M%S}"), 10**6, 1990, 2089),
    "datetime_bcd64": (lambda m: bcd(f"{m:%y%m%d%H%M%S}{m.microsecond // 1000:03d}{m.isoweekday()}"), 1000, 1990, 2089),
}


@pytest.mark.requirement("REQ-TYPE-01")
@pytest.mark.parametrize("kind", NUMBERS)
@given(draw=data())
def test_a_number_is_read_as_it_was_written(kind: str, draw: DataObject) -> None:
    numbers, written, count = NUMBERS[kind]
    number = draw.draw(numbers)

    value, status = decoded(kind, written(number, count))

    assert (value, status) == (number * (10**9 if kind == "unix32" else 1), 0)


@pytest.mark.parametrize("kind", MOMENTS)
@given(draw=data())
def test_a_moment_is_read_as_it_was_written_and_has_no_zone(kind: str, draw: DataObject) -> None:
    written, resolution_us, first, last = MOMENTS[kind]
    moment = draw.draw(datetimes(datetime(first, 1, 1), datetime(last, 12, 31, 23, 59, 59)))  # noqa: DTZ001
    moment = moment.replace(microsecond=moment.microsecond // resolution_us * resolution_us)

    value, status = decoded(kind, written(moment))

    assert (value, status) == (ns_of(moment), 0)
    tag = catalogue_tag(settings_from(ModbusTag, {"name": "t", "address": "holding 0", "type": kind}))
    assert datetime.fromisoformat(str(in_unit(np.int64(value), time_kind=tag.time_kind))) == moment


def test_a_date_in_decimal_digits_is_a_date() -> None:
    tag = settings_from(ModbusTag, {"name": "t", "address": "holding 0", "type": "date_bcd32"})

    value, status = decoded("date_bcd32", bcd("20240229"))

    assert (in_unit(np.int64(value), time_kind=tag.time_kind), status) == (date(2024, 2, 29).isoformat(), 0)


@pytest.mark.parametrize(
    ("kind", "registers"),
    [
        ("bcd16", [0x12A4]),
        ("mod10k32", [10_000, 0]),
        ("mod10k32", [0x8000, 0]),
        ("mod10k48", [1, 0, 0xFFFF]),
        ("datetime48", [0, 0, 0]),
        ("datetime48", [2 << 8 | 30, 124 << 8, 0]),
        ("datetime48", [13 << 8 | 1, 124 << 8, 0]),
        ("datetime48", [1 << 8 | 1, 124 << 8 | 24, 0]),
        ("datetime48", [1 << 8 | 1, 124 << 8, 60 << 8]),
        ("datetime48", [1 << 8 | 1, 124 << 8, 60]),
        ("datetime48", [0xFFFF] * 3),
        ("datetime64", [1 << 8 | 1, 124 << 8, 0, 1000]),
        ("datetime64", [0, 0, 0, 1]),
        ("datetime96", [1677, 12, 31, 0, 0, 0]),
        ("datetime96", [2262, 1, 1, 0, 0, 0]),
        ("cp56", [24, 1 << 8 | 1, 0, 60_000]),
        ("cp56", [0xFFFF] * 4),
        ("datetime_bcd48", bcd("230229000000")),
        ("datetime_bcd48", bcd("2301010A0000")),
        ("datetime_bcd64", bcd("2301010000000A01")),
        ("date_bcd32", bcd("20230229")),
        ("date_bcd32", bcd("99991231")),
        ("date_bcd32", bcd("2023A101")),
    ],
)
def test_registers_that_are_no_such_value_are_bad(kind: str, registers: list[int]) -> None:
    assert decoded(kind, registers) == (0, BAD)


def test_a_clock_that_says_it_is_not_set_is_uncertain() -> None:
    """Bit IV of IEC 60870: meters without a time server set it, and their time is all there is."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    registers = iec_60870(moment)
    registers[2] |= 0x80

    assert decoded("cp56", registers) == (ns_of(moment), int(StatusCode.UNCERTAIN))


def test_the_highest_byte_of_24_bits_is_left_out() -> None:
    assert decoded("uint24", [0xAB12, 0x3456]) == (0x123456, 0)


_MIXED = sampled_from([*NUMBERS, "int32", "int64", "uint32"])
_ORDERS = sampled_from(["big", "little"])


@given(kinds=lists(tuples(_MIXED, _ORDERS, _ORDERS), min_size=1, max_size=20), draw=data())
def test_types_and_orders_mixed_in_one_scan_keep_their_values(
    kinds: list[tuple[str, str, str]], draw: DataObject
) -> None:
    tags: list[dict[str, Any]] = []
    expected, image, at = [], b"", 0
    for kind, word_order, byte_order in kinds:
        numbers, written, count = NUMBERS.get(kind) or (integers(0, 2**31 - 1), words, 4 if kind == "int64" else 2)
        number = draw.draw(numbers)
        registers = written(number, count)[:: 1 if word_order == "big" else -1]
        tags.append({"address": f"holding {at}", "type": kind, "word_order": word_order, "byte_order": byte_order})
        image += struct.pack(f"{'>' if byte_order == 'big' else '<'}{count}H", *registers)
        expected.append(number * (10**9 if kind == "unix32" else 1))
        at += count
    plan = plan_of(tags)

    vectors, faults = plan.decoder.decode(image)

    assert faults == ()
    assert [vectors[vector][position].item() for vector, position in plan.layout.slots] == expected


@given(word=integers(0, 0xFFFF), first=integers(0, 15), last=integers(0, 15), byte_order=_ORDERS)
def test_bits_of_a_register_are_a_number(word: int, first: int, last: int, byte_order: str) -> None:
    low, high = sorted((first, last))
    if low == high:
        return
    plan = plan_of([{"address": f"holding 7.{first}-{last}", "byte_order": byte_order}])

    (vector,), _ = plan.decoder.decode(word.to_bytes(2, "big" if byte_order == "big" else "little"))

    assert vector.tolist() == [int(f"{word:016b}"[15 - high : 16 - low], 2)]


@pytest.mark.parametrize(
    ("kind", "registers"),
    [
        ("int16", [0x8000]), ("uint16", [0xFFFF]), ("int32", [0x8000, 0]), ("uint32", [0xFFFF] * 2),
        ("int64", [0x8000, 0, 0, 0]), ("uint64", [0xFFFF] * 4), ("float32", [0x7FC0, 0]),
        ("float64", [0x7FF8, 0, 0, 0]),
    ],
)  # fmt: skip
def test_sunspec_has_a_value_for_none_in_each_type(kind: str, registers: list[int]) -> None:
    one = [0x3FF0 if kind == "float64" else 0x3F80, *registers[1:]] if "float" in kind else [1, *registers[1:]]

    assert decoded(kind, registers, invalid="sunspec")[1] == NO_DATA
    assert decoded(kind, registers, invalid="none")[1] == 0
    assert decoded(kind, one, invalid="sunspec")[1] == 0


@pytest.mark.parametrize(
    ("kind", "invalid", "registers"),
    [
        ("int16", [0x8000], [0x8000]),
        ("int16", [-32768], [0x8000]),
        ("int16", [1, 0x7FFF], [0x7FFF]),
        ("uint32", [0xFFFFFFFF, 0xFFFF0000], [0xFFFF, 0]),
        ("float32", [-9999], list(struct.unpack(">2H", struct.pack(">f", -9999)))),
        ("mod10k32", [99_999_999], [9999, 9999]),
    ],
)
def test_values_that_mean_none_are_bad(kind: str, invalid: list[float], registers: list[int]) -> None:
    assert decoded(kind, registers, invalid=invalid)[1] == NO_DATA
    assert decoded(kind, [0] * len(registers), invalid=invalid)[1] == 0


def test_a_value_for_none_concerns_its_tag_alone() -> None:
    """Its neighbours of the same type may have the same number as a measurement."""
    plan = plan_of(
        [
            {"address": "holding 0", "type": "int16"},
            {"address": "holding 1", "type": "int16", "invalid": "none"},
            {"address": "holding 2", "type": "uint16"},
            {"address": "holding 3.0-3"},
            {"address": "holding 4", "type": "text", "length": 2},
            {"address": "coil 0"},
        ],
        invalid="sunspec",
    )

    _, faults = plan.decoder.decode(struct.pack("<H", 1) + struct.pack(">5H", 0x8000, 0x8000, 0xFFFF, 0xFFFF, 0x4142))

    assert dict(faults) == {0: NO_DATA, 2: NO_DATA}


@pytest.mark.parametrize(("kind", "invalid"), [("int16", [65536]), ("uint16", [-1]), ("uint8", [0.5])])
def test_a_number_that_the_type_does_not_have_cannot_mean_none(kind: str, invalid: list[float]) -> None:
    with pytest.raises(ValueError, match="is no value of the type"):
        invalid_values(kind, invalid)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"address": "coil 1", "invalid": [1]}, "which a bool is not"),
        ({"address": "holding 1", "type": "text", "length": 4, "invalid": [0]}, "which a text is not"),
        ({"address": "holding 1.0-3", "type": "uint32"}, "its type is uint16"),
        ({"address": "holding 1.3-16"}, "has the bits 0"),
    ],
)
def test_what_goes_with_no_such_type_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings_from(ModbusTag, {"name": "t"} | keys)


def test_a_type_says_how_many_registers_it_has() -> None:
    for kind, encoding in ENCODINGS.items():
        tag = settings_from(ModbusTag, {"name": "t", "address": "holding 0", "type": kind})
        assert (tag.count, tag.data_type, tag.last) == (encoding.registers, encoding.data_type, encoding.registers - 1)


def test_a_float_that_is_not_a_number_is_not_none_without_being_said() -> None:
    value, status = decoded("float32", [0x7FC0, 0])

    assert math.isnan(value)
    assert status == 0


def scaled(*tags: str) -> list[dict[str, Any]]:
    keys = ("name", "address", "type", "scale_from")
    return [dict(zip(keys, tag.split("/"), strict=True)) for tag in tags]


def scale(address: str = "holding 1", kind: str = "int16") -> dict[str, Any]:
    return {"name": "sf", "address": address, "type": kind}


@given(value=integers(-(2**15), 2**15 - 1), exponent=integers(-(2**15), 2**15 - 1) | integers(-12, 12))
def test_a_scale_that_is_none_makes_its_values_bad_and_no_other(value: int, exponent: int) -> None:
    other = {"name": "b", "address": "holding 2", "type": "int16"}
    plan = plan_of([*scaled("a/holding 0/int16/sf"), scale(), other])

    (vector,), faults = plan.decoder.decode(struct.pack(">3h", value, exponent, value))

    assert vector.tolist() == [value, exponent, value]
    assert dict(faults) == ({} if -10 <= exponent <= 10 else {0: BAD})


def test_what_is_not_available_is_told_apart_from_a_wrong_scale() -> None:
    plan = plan_of([*scaled("a/holding 0/int16/sf"), scale()], invalid="sunspec")

    _, faults = plan.decoder.decode(struct.pack(">2H", 0x8000, 0x8000))

    assert faults[:2] == ((0, NO_DATA), (1, NO_DATA))  # The first of a tag counts.


def test_values_and_their_scale_are_read_in_one_request() -> None:
    """The scale moves in operation: of two answers, the value may be of one scale and the scale of another."""
    tags = [
        *scaled("a/holding 0/uint16/sf", "b/holding 60/uint32/sf"),
        scale("holding 100"),
        {"name": "far", "address": "holding 130", "type": "int16"},
        {"name": "between", "address": "holding 30", "type": "int16"},
    ]
    plan = plan_of(tags, limits={"hole": 0, "registers": 110})

    assert plan.describe() == ["holding 0-100 (101 registers, 4 tags)", "holding 130 (1 register, 1 tag)"]


A = scaled("a/holding 0/int16/sf")


@pytest.mark.parametrize(
    ("tags", "limits", "named", "message"),
    [
        (A, {}, "a", "no tag of this scan group"),
        ([*A, scale("input 1")], {}, "a", "no int16 in the same table"),
        ([*A, scale(kind="int32")], {}, "a", "no int16 in the same table"),
        (scaled("a/holding 0/int16/a"), {}, "a", "no int16 in the same table"),
        ([*A, scale("holding 125")], {}, "sf", "and what shares its scale takes 126 registers"),
        ([*A, scale("holding 9")], {"forbidden": ["holding 5"]}, "sf", "shares its scale lies in the forbidden range"),
    ],
)
def test_a_scale_that_cannot_be_read_with_its_values_is_refused(
    tags: list[dict[str, Any]], limits: dict[str, Any], named: str, message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        plan_of(tags, limits=limits)

    [problem] = refused.value.problems
    assert problem.path == named
    assert message in problem.message


@pytest.mark.parametrize(
    "keys",
    [{"scale": 2}, {"divisor": 10}, {"offset": 1}, {"range": [0, 1]}, {"deadband": 1}, {"type": "unix32"},
     {"type": "text", "length": 4}],
)  # fmt: skip
def test_a_scale_tag_excludes_what_is_for_a_fixed_unit(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="scale_from"):
        settings_from(ModbusTag, {"name": "t", "address": "holding 0", "type": "int16", "scale_from": "sf"} | keys)
