from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis.strategies import integers, sampled_from

from drivers.modbus.address import Address, Table, parse_address, parse_range


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("holding 100", Address(Table.HOLDING, 100)),
        ("holding 0x64", Address(Table.HOLDING, 100)),
        ("input 5", Address(Table.INPUT, 5)),
        ("coil 7", Address(Table.COIL, 7)),
        ("discrete 3", Address(Table.DISCRETE, 3)),
        ("holding 100.3", Address(Table.HOLDING, 100, bit=3)),
        ("holding 100.low", Address(Table.HOLDING, 100, half="low")),
        ("4x00101", Address(Table.HOLDING, 100)),
        ("4x00101.15", Address(Table.HOLDING, 100, bit=15)),
        ("3x00001", Address(Table.INPUT, 0)),
        ("1x00004", Address(Table.DISCRETE, 3)),
        ("0x00008", Address(Table.COIL, 7)),
        ("4x065536", Address(Table.HOLDING, 65535)),
        ("  holding   7 ", Address(Table.HOLDING, 7)),
        ("Holding 7", Address(Table.HOLDING, 7)),
        ("COIL 7", Address(Table.COIL, 7)),
        ("415010", Address(Table.HOLDING, 15009)),
        (415010, Address(Table.HOLDING, 15009)),
        ("300001.3", Address(Table.INPUT, 0, bit=3)),
        (100001, Address(Table.DISCRETE, 0)),
        ("holding 5.0-3", Address(Table.HOLDING, 5, bit=0, bits=4)),
        ("holding 5.3-0", Address(Table.HOLDING, 5, bit=0, bits=4)),
        ("4x00006.8-15", Address(Table.HOLDING, 5, bit=8, bits=8)),
    ],
)
def test_an_address_is_counted_as_it_is_spelled(text: str | int, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["40101", 40101])
def test_a_bare_reference_is_refused_with_both_readings(text: str | int) -> None:
    with pytest.raises(ValueError, match='"4x00101"') as refusal:
        parse_address(text)

    assert "holding 100" in str(refusal.value)
    assert "holding 40101" in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("100", "which table"),
        ("register 100", "coil, discrete, holding, input"),
        ("holding 65536", "last address, 65535"),
        ("4x00000", "counts from one"),
        ("4x100001", "counts from one, up to 4x65536"),
        ("holding 100.16", "bits 0"),
        ("coil 7.1", "one bit"),
        ("holding -1", "not a Modbus address"),
        ("DB1.DBD4", "not a Modbus address"),
        ("", "not a Modbus address"),
        (7, "which table"),
        ("400000", "counts from one"),
        ("465537", "counts from one, up to 4x65536"),
        ("000001", "more than one way"),
    ],
)
def test_an_invalid_address_is_refused_with_what_to_write(text: str | int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_address(text)


@given(table=sampled_from(Table), first=integers(0, 65535))
def test_an_address_prints_as_it_is_read(table: Table, first: int) -> None:
    address = Address(table, first)

    assert parse_address(str(address)) == address
    assert parse_address(f"{table.prefix}x{first + 1:05}") == address


@pytest.mark.parametrize("text", ["holding 200-210", "holding 0xC8 - 0xD2"])
def test_a_range_includes_both_ends(text: str) -> None:
    gone = parse_range(text)

    assert gone.touches(Table.HOLDING, 210, 300)
    assert gone.touches(Table.HOLDING, 100, 200)
    assert not gone.touches(Table.HOLDING, 211, 300)
    assert not gone.touches(Table.INPUT, 205, 205)


@pytest.mark.parametrize("text", ["holding 210-200", "200-210", "holding", "holding 1-70000"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_range(text)
