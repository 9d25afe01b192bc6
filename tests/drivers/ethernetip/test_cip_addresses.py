"""Addresses are understood or refused offline, with a sentence that says what to write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ethernetip.address import AttributeAddress, Part, TagAddress, expand, parse_address, parse_route


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Temperature", TagAddress((Part("Temperature"),))),
        ("Motor[3].Speed", TagAddress((Part("Motor", (3,)), Part("Speed")))),
        ("Grid[1, 2,3]", TagAddress((Part("Grid", (1, 2, 3)),))),
        ("Word.5", TagAddress((Part("Word"),), 5)),
        ("Program:Main.Level", TagAddress((Part("Program:Main"), Part("Level")))),
        ("Local:1:I.Data.7", TagAddress((Part("Local:1:I"), Part("Data")), 7)),
        ("_io_EM_AI_00", TagAddress((Part("_io_EM_AI_00"),))),
        ("cip 1/1/7", AttributeAddress(1, 1, 7)),
        ("cip 0x2A/1/0x08", AttributeAddress(42, 1, 8)),
        ("cip 4/100/3 +8", AttributeAddress(4, 100, 3, 8)),
        ("cip 4/100/3+0x10", AttributeAddress(4, 100, 3, 16)),
        ("cip 4/100/3.5", AttributeAddress(4, 100, 3, bit=5)),
        ("cip 4/100/3 .5", AttributeAddress(4, 100, 3, bit=5)),
        ("cip 4/100/3 +8.13", AttributeAddress(4, 100, 3, 8, bit=13)),
        ("cip 4/100/3 +8[2]", AttributeAddress(4, 100, 3, 8, 2)),
        ("N7[0]", TagAddress((Part("N7", (0,)),))),
        ("N7:1:I.Data", TagAddress((Part("N7:1:I"), Part("Data")))),
        ("ST:I.Data", TagAddress((Part("ST:I"), Part("Data")))),
    ],
)
def test_an_address_is_understood(text: str, address: object) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an address is missing"),
        ("Motor..Speed", "a dot with no name beside it"),
        ("Motor.", "a dot with no name beside it"),
        ("Motor[3.Speed", "an index is not closed"),
        ("Motor[a]", "an index is a number"),
        ("Motor[]", "an index is a number"),
        ("Motor[1,2,3,4]", "up to 3 dimensions"),
        ("3Motor", "is not the name of a tag"),
        ("Motor Speed", "is not the name of a tag"),
        ("Word.64", "bits 0 .* to 63"),
        ("Program:Main", "names a program and no tag"),
        ("A" * 41, "up to 40 characters"),
        (":".join(["A" * 40] * 5), "is not the name of a tag"),
        ("Word.\N{ARABIC-INDIC DIGIT THREE}", "is not the name of a tag"),
        ("cip 1/1", "class, instance and attribute"),
        ("cip 4/100/3 8", r'as in .* "cip 4/100/3 \+8"'),
        ("cip 4/100/3 +8[2].5", "is not an attribute"),
        ("cip 4/100/3 +70000", "bytes and elements go up to"),
        ("cip 4/100/3.64", "bits from there on up to 63"),
        ("cip 1/1/70000", "up to 65535"),
        ("Motor[99999999999]", "too large"),
    ],
)
def test_a_bad_address_is_explained(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_address(text)


@pytest.mark.parametrize(
    "text", ["N7:0", "T4:0.ACC", "B3:0/5", "B3/5", "F8:12", "I:1/0", "O:0.0/1", "S:1/15", "ST9:0", "i:1.0", "C5:2.PRE"]
)
def test_an_address_of_an_older_controller_is_called_that(text: str) -> None:
    """They are what engineers of SLC 500, MicroLogix and PLC-5 write, and look like names of Logix modules."""
    with pytest.raises(ValueError, match="of an SLC, MicroLogix or PLC-5, which Tidegate does not speak"):
        parse_address(text)


@given(st.text(max_size=60) | st.from_regex(r"cip 4/1/3( \+\d{1,5})?(\.\d{1,2}|\[\d{1,5}\])?", fullmatch=True))
def test_whatever_is_written_is_understood_or_explained(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address


def test_a_slice_is_so_many_tags() -> None:
    assert expand("Level[8..10]") == {"[8]": "Level[8]", "[9]": "Level[9]", "[10]": "Level[10]"}
    assert expand("Tank[0..1,1].Level") == {"[0]": "Tank[0,1].Level", "[1]": "Tank[1,1].Level"}
    assert expand("Tank[1,0..1].Level") == {"[0]": "Tank[1,0].Level", "[1]": "Tank[1,1].Level"}
    assert expand("Level") == {"": "Level"}
    assert expand("Word.6..7") == {"[6]": "Word.6", "[7]": "Word.7"}
    assert expand("cip 4/100/3 +8[0..1]") == {"[0]": "cip 4/100/3 +8[0]", "[1]": "cip 4/100/3 +8[1]"}
    with pytest.raises(ValueError, match="ends before it begins"):
        expand("Level[3..2]")


def test_a_route_is_ports_and_links() -> None:
    assert parse_route("1,4,2,192.168.1.5,1,0") == ((1, 4), (2, "192.168.1.5"), (1, 0))


@pytest.mark.parametrize("text", ["", "1", "1,", "0,1", "15,1", "1,300", "a,1"])
def test_a_bad_route_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"route|port|slot"):
        parse_route(text)
