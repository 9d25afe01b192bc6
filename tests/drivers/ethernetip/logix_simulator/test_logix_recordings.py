"""What a recorded conversation asked for is found, however deep it was packed."""

from __future__ import annotations

import struct

import pytest

from drivers.ethernetip.simulator.encapsulation import HEADER, Command
from drivers.ethernetip.simulator.wire import asked_in, is_reading

READ = b"\x4c\x02\x91\x02Ab\x01\x00"
WRITE = b"\x4d\x02\x91\x02Ab\xc4\x00\x01\x00\x05\0\0\0"


def packet(command: int, data: bytes) -> bytes:
    return HEADER.pack(command, len(data), 1, 0, bytes(8), 0) + data


def unconnected(message: bytes) -> bytes:
    return packet(Command.SEND_RR_DATA, struct.pack("<IHHHHHH", 0, 0, 2, 0, 0, 0xB2, len(message)) + message)


def connected(message: bytes) -> bytes:
    items = struct.pack("<IHHHHIHHH", 0, 0, 2, 0xA1, 4, 1, 0xB1, len(message) + 2, 1)
    return packet(Command.SEND_UNIT_DATA, items + message)


def several(*messages: bytes) -> bytes:
    at, offsets = 2 + 2 * len(messages), []
    for message in messages:
        offsets.append(at)
        at += len(message)
    head = struct.pack(f"<{1 + len(messages)}H", len(messages), *offsets)
    return b"\x0a\x02\x20\x02\x24\x01" + head + b"".join(messages)


def routed(message: bytes) -> bytes:
    return b"\x52\x02\x20\x06\x24\x01\x0a\x05" + struct.pack("<H", len(message)) + message + b"\x01\x00\x01\x00"


def test_everything_asked_is_found() -> None:
    sent = packet(Command.REGISTER_SESSION, b"\x01\0\0\0") + unconnected(routed(several(READ, WRITE))) + connected(READ)

    asked = list(asked_in(sent))

    assert asked == [(0x52, 6), (0x0A, 2), (0x4C, None), (0x4D, None), (0x4C, None)]
    assert [is_reading(each) for each in asked] == [True, True, True, False, True]


@pytest.mark.parametrize(
    ("asked", "reads"),
    [
        ((0x4E, 6), True), ((0x4E, None), False), ((0x54, 6), True), ((0x5B, 6), True), ((0x10, 1), False),
        ((0x55, 0x6B), True), ((0x01, 1), True), ((0x05, 1), False), ((0x4B, 0x67), False),
    ],
)  # fmt: skip
def test_a_number_means_what_its_class_makes_of_it(asked: tuple[int, int | None], reads: bool) -> None:
    """0x4E closes a connection of the connection manager, and changes bits of a tag."""
    assert is_reading(asked) is reads


def test_what_cannot_be_parsed_does_not_pass_for_reading() -> None:
    assert list(asked_in(unconnected(b"\x4d\x09\x91"))) == [(0x4D, None)]
    assert list(asked_in(unconnected(b""))) == [(0, None)]
    assert not is_reading((0, None))
