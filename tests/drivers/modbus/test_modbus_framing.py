"""Frames without transaction ids are found behind noise, and only when complete and right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.framing import Ascii, Framing, Rtu, crc16

FRAMINGS: list[Framing] = [Rtu(), Ascii()]
UNIT = 0x11
HEADS = {bytes((UNIT, 3)), bytes((UNIT, 0x83)), bytes((UNIT, 43))}
ANSWER = bytes((UNIT, 3, 4, 0xAE, 0x41, 0x56, 0x52))
REFUSAL = bytes((UNIT, 0x83, 2))
IDENTIFICATION = bytes((UNIT, 43, 14, 1, 0x81, 0, 0, 2)) + b"\0\4Acme" + b"\1\1P"

every_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=["rtu", "ascii"])
every_body = pytest.mark.parametrize("body", [ANSWER, REFUSAL, IDENTIFICATION], ids=["data", "refusal", "identity"])


def test_checksums_are_those_of_the_standard() -> None:
    """The standard's own example of an RTU frame, and of an ASCII one."""
    assert crc16(bytes((0x02, 0x07))) == bytes((0x41, 0x12))
    assert Ascii().frame(bytes((0x01, 0x03, 0x00, 0x00, 0x00, 0x0A))) == b":01030000000AF2\r\n"


@every_framing
@every_body
def test_a_frame_is_found_whole_or_not_at_all(framing: Framing, body: bytes) -> None:
    frame = framing.frame(body)

    found = [framing.find(bytearray(frame[:size]), HEADS).body for size in range(len(frame) + 1)]

    assert found == [None] * len(frame) + [body]
    assert len(frame) == framing.size(len(body))


@every_framing
@given(noise=st.binary(max_size=40).filter(lambda noise: UNIT not in noise and b":" not in noise))
def test_a_frame_is_found_behind_noise(framing: Framing, noise: bytes) -> None:
    """An RS-485 driver sends a character or two when it is switched on."""
    found = framing.find(bytearray(noise + framing.frame(ANSWER)), HEADS)

    assert (found.start, found.body) == (len(noise), ANSWER)


@every_framing
@every_body
@given(at=st.integers(0, 1000), flip=st.integers(1, 255))
def test_a_frame_with_any_byte_changed_is_not_found(framing: Framing, body: bytes, at: int, flip: int) -> None:
    frame = bytearray(framing.frame(body))
    frame[at % len(frame)] ^= flip

    changed = framing.find(frame, HEADS).body

    assert changed is None or (isinstance(framing, Ascii) and changed == body)  # Digits may be lower case.


@every_framing
@given(data=st.binary(max_size=600))
def test_a_partial_frame_is_short(framing: Framing, data: bytes) -> None:
    """Bytes that may become a frame are no more than a frame has, so memory is bounded."""
    found = framing.find(bytearray(data), HEADS)

    assert found.start <= found.end <= len(data)
    assert found.body is not None or len(data) - found.start <= framing.size(254)


@every_framing
def test_other_units_and_functions_are_no_answer(framing: Framing) -> None:
    for head in (bytes((UNIT + 1, 3)), bytes((UNIT, 4)), bytes((UNIT, 6))):
        frame = bytearray(framing.frame(head + ANSWER[2:]))

        assert framing.find(frame, HEADS).body is None
