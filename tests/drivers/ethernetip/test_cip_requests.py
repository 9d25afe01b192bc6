"""No request can be built that would change anything."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ethernetip import cip
from drivers.ethernetip.address import AttributeAddress, Part
from drivers.ethernetip.cip import ConnectionRequest, Question, Routed, status_text

READING = {0x01, 0x03, 0x0A, 0x0E, 0x4C, 0x52, 0x55}
WRITING = {0x02, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x10, 0x4D, 0x4E, 0x53, 0x4B}
TAG = cip.symbolic_path([Part("Tank")])


@pytest.mark.requirement("REQ-SAFE-01")
@given(service=st.integers(0, 255), path=st.sampled_from([TAG, b"\x20\x01\x24\x01", b"\x20\x06\x24\x01"]))
def test_a_question_is_a_reading_service_or_none(service: int, path: bytes) -> None:
    data = bytes((service, len(path) // 2)) + path + bytes(8)

    try:
        Question(data)
    except ValueError:
        return
    assert service in READING
    assert path != b"\x20\x06\x24\x01" or service in (0x01, 0x03, 0x0E)


@pytest.mark.parametrize("service", sorted(WRITING))
def test_a_packet_that_holds_a_writing_service_cannot_be_built(service: int) -> None:
    good = cip.read_tag(TAG, 1)
    bad = object.__new__(Question)
    object.__setattr__(bad, "data", bytes((service,)) + good.data[1:])

    with pytest.raises(ValueError, match="not one of the reading services"):
        cip.multiple([good, bad])


@given(data=st.binary(max_size=40))
def test_a_connection_request_opens_or_closes_or_is_none(data: bytes) -> None:
    try:
        ConnectionRequest(data + bytes(6))
    except ValueError:
        return
    assert data[0] in (0x4E, 0x54, 0x5B)


def test_requests_are_made_in_one_place() -> None:
    """A request that is built elsewhere would avoid the allow-list."""
    root = Path(__file__).parents[3]
    makers = {
        path.name
        for path in (root / "drivers/ethernetip").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("Question", "ConnectionRequest", "Routed")
    }

    assert makers == {"cip.py"}


def test_the_bytes_are_those_of_the_book() -> None:
    """1756-PM020, Read Tag Service and Multiple Service Packet."""
    total = cip.read_tag(cip.symbolic_path([Part("CartonSize", ())]), 1)
    element = cip.read_tag(cip.symbolic_path([Part("TotalCount", (258,)), Part("Aa")]), 2)

    assert total.data.hex(" ") == "4c 06 91 0a 43 61 72 74 6f 6e 53 69 7a 65 01 00"
    assert element.data.hex(" ") == "4c 0a 91 0a 54 6f 74 61 6c 43 6f 75 6e 74 29 00 02 01 91 02 41 61 02 00"
    assert cip.multiple([total, element]).data.hex(" ").startswith("0a 02 20 02 24 01 02 00 06 00 16 00 4c 06 91")
    assert cip.get_single(AttributeAddress(1, 1, 7)).data.hex(" ") == "0e 03 20 01 24 01 30 07"


def test_a_question_on_a_route_is_whole_words() -> None:
    """CIP Vol 1, 3-5.5.4: an odd message is filled up, its length is not."""
    odd = cip.read_template(1, 0, 1)

    routed = Routed.through(odd, cip.route_path([(1, 3)]))

    assert routed.data[:6].hex(" ") == "52 02 20 06 24 01"
    assert routed.data.endswith(b"\x01\x00\x01\x03")
    assert len(routed.data) % 2 == 0


def test_a_named_link_is_an_extended_port() -> None:
    assert cip.route_path([(1, 4), (2, "10.0.0.1")]).hex(" ") == "01 04 12 08 31 30 2e 30 2e 30 2e 31"


def test_every_status_has_a_text_of_its_own() -> None:
    """A code without words sends an engineer to a standard that costs money."""
    texts = {status: status_text(status).partition(" (CIP status")[0] for status in range(1, 0x100)}
    standard = [texts[status] for status in (*range(1, 0x2F), 0xFF)]

    assert len(set(standard)) == len(standard)
    assert {texts[status] for status in range(0x2F, 0xD0)} == {"a status that the standard reserves"}
    assert {texts[status] for status in range(0xD0, 0xFF)} == {"an error that the object defines"}
