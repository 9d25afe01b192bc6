from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis.strategies import binary, integers

from drivers.modbus.codec import ALLOWED_FUNCTIONS, identification_request, parse_identification, read_request


@given(function=integers(0, 255))
def test_only_reading_functions_can_be_asked(function: int) -> None:
    if function in ALLOWED_FUNCTIONS:
        assert function in (1, 2, 3, 4, 43)
    else:
        with pytest.raises(ValueError, match="not one of the reading ones"):
            read_request(1, function, 0, 1)


def test_a_request_is_as_the_standard_says() -> None:
    request = read_request(unit=17, function=3, first=107, count=3)

    assert request.wire_suffix == bytes.fromhex("0000 0006 11 03 006b 0003")
    assert request.expected_header == bytes.fromhex("0000 0009 11 03 06")
    assert request.response_size == 15


def test_bits_take_whole_bytes() -> None:
    assert read_request(1, 1, 0, 9).response_size == 9 + 2


def test_an_identification_is_asked_for_as_the_standard_says() -> None:
    assert identification_request(1, 1, 0).wire_suffix == bytes.fromhex("0000 0005 01 2b 0e 01 00")


def test_an_identification_in_parts_says_where_it_goes_on() -> None:
    answer = parse_identification(bytes.fromhex("0e 01 01 ff 02 01 00 03") + b"ACM")

    assert (answer.objects, answer.next_object) == ({0: b"ACM"}, 2)


@given(binary(max_size=64))
def test_an_identification_is_understood_whole_or_refused(data: bytes) -> None:
    try:
        answer = parse_identification(data)
    except ValueError:
        return
    sizes = [struct.calcsize("BB") + len(value) for value in answer.objects.values()]
    assert sum(sizes) <= len(data) - 6
