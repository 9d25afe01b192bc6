"""Any bytes of an answer give a value, a reason or a violation."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ethernetip.cip import printable
from drivers.ethernetip.controller_queries import parse_identity_object
from drivers.ethernetip.decode import PADDING, AnswerPattern, Decoder, check_answer
from drivers.ethernetip.plan import EtherNetIpPlan, Packet, packets
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.symbols import parse_symbols, parse_template, parse_template_attributes
from edge.config.validate import settings_from
from edge.errors import ProtocolViolation

TAGS = [("A", "DINT"), ("B.3", "BOOL"), ("C", "STRING"), ("cip 1/1/7", "STRING"), ("D[3]", "REAL"), ("D[5]", "REAL")]
REPLIES = [
    bytes.fromhex("cc000000 c400 01020304"),
    bytes.fromhex("cc000000 c400 ff000000"),
    bytes.fromhex("cc000000 a002 ce0f 02000000 4f4b") + bytes(82),
    bytes.fromhex("8e000000 04 50756d70"),
    bytes.fromhex("cc000000 ca00 0000803f 00000040 00004040"),
]
STARTS = [2 + 2 * len(REPLIES) + sum(map(len, REPLIES[:number])) for number in range(len(REPLIES))]
ANSWER = b"\x8a\0\0\0" + struct.pack("<6H", len(REPLIES), *STARTS) + b"".join(REPLIES)


def plan() -> tuple[EtherNetIpPlan, Packet]:
    device = settings_from(EtherNetIpDevice,
        {"name": "plc", "driver": "ethernetip", "host": "h", "scan_groups": [{"every": "1 s", "tags": [
            {"name": f"t{number}", "address": address, "type": kind} for number, (address, kind) in enumerate(TAGS)
        ]}]}
    )  # fmt: skip
    made = EtherNetIpPlan(device.scan_groups[0].tags, device)
    (packet,) = packets(made.reads, 4002, 400)
    return made, packet


PLAN, PACKET = plan()


def test_a_right_answer_is_taken() -> None:
    assert decoded(ANSWER) == [[True], [0x04030201], [1.0, 3.0], ["OK", "Pump"]]


def decoded(body: bytes) -> list[list[object]]:
    """Take an answer as a scan does."""
    result = check_answer(PACKET, body, "plc")
    assert AnswerPattern(body, result).matches(body)
    if result.malformed is not None:
        return []
    locations = {one.field.tag: one for one in result.locations}
    assert locations.keys() | result.bad.keys() | {
        field.tag for read in (*result.refused, *result.fragmented) for field in read.fields
    } == set(range(len(TAGS)))
    vectors, _ = Decoder(PLAN.layout, locations, len(body)).decode(body + PADDING)
    return [vector.tolist() for vector in vectors]


@given(
    cuts=st.lists(st.tuples(st.integers(0, len(ANSWER) - 1), st.binary(max_size=6)), max_size=4),
    end=st.integers(0, len(ANSWER)),
)
def test_a_mutated_answer_is_judged(cuts: list[tuple[int, bytes]], end: int) -> None:
    body = ANSWER
    for at, data in cuts:
        body = body[:at] + data + body[at + len(data) :]
    decoded(body)
    decoded(body[:end])


@given(body=st.binary(max_size=300))
def test_random_bytes_are_judged(body: bytes) -> None:
    decoded(b"\x8a\0\0\0" + body)


@given(data=st.binary(max_size=60))
def test_any_bytes_of_an_attribute_are_judged(data: bytes) -> None:
    """Every value in an attribute is located within what came, or BAD."""
    device = settings_from(EtherNetIpDevice,
        {"name": "io", "driver": "ethernetip", "host": "h", "family": "generic", "scan_groups": [{"every": "1 s",
         "tags": [{"name": f"t{number}", "address": f"cip 4/100/3{where}", "type": kind, **more}
                  for number, (where, kind, more) in enumerate(PARTS)]}]}
    )  # fmt: skip
    made = EtherNetIpPlan(device.scan_groups[0].tags, device)
    (packet,) = packets(made.reads, 504, 1)
    body = b"\x8e\0\0\0" + data

    result = check_answer(packet, body, "io")

    locations = {one.field.tag: one for one in result.locations}
    assert locations.keys() | result.bad.keys() == set(range(len(PARTS)))
    assert not locations.keys() & result.bad.keys()
    assert all(one.at + one.field.size <= len(body) for one in locations.values())
    Decoder(made.layout, locations, len(body)).decode(body + PADDING)


PARTS: list[tuple[str, str, dict[str, int]]] = [
    (" +8", "REAL", {}), (".13", "BOOL", {}), (" +2[3]", "LINT", {}), (" +5", "STRING", {"length": 9}),
    (" +30", "SHORT_STRING", {}), (" +3", "CHARS", {"length": 7}), ("", "STRING", {}), ("", "DINT", {}),
]  # fmt: skip

FACTS = struct.pack("<HHHIHHIHHHHHH", 4, 4, 0, 30, 5, 0, 64, 2, 0, 4, 1, 0, 0x1234)
PARSERS: list[Callable[[bytes], object]] = [
    lambda data: list(parse_symbols(data, 0)),
    lambda data: parse_template_attributes(struct.pack("<HHHIHH", 4, 4, 0, 30, 5, 0) + data),
    lambda data: parse_template(parse_template_attributes(FACTS), data),
    parse_identity_object,
    printable,
]


@pytest.mark.parametrize("number", range(len(PARSERS)))
@given(data=st.binary(max_size=300))
def test_random_lists_are_refused_or_understood(number: int, data: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        PARSERS[number](data)
