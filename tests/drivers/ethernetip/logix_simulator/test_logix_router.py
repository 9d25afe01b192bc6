"""What a simulated controller answers, and what it refuses as a real one would."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ethernetip.simulator import BOOL, DINT, Controller, micro800
from drivers.ethernetip.simulator.controller import crowd, showcase
from drivers.ethernetip.simulator.router import Router

READ, READ_PART, SEVERAL, LIST, ALL, SINGLE, ATTRIBUTES = 0x4C, 0x52, 0x0A, 0x55, 0x01, 0x0E, 0x03
ROUTER = b"\x20\x02\x24\x01"
ONE = b"\x01\x00"

Ask = Callable[..., Any]


def part(message_path: bytes, count: int = 1) -> bytes:
    return bytes((READ, len(message_path) // 2)) + message_path + struct.pack("<H", count)


def several(*messages: bytes) -> bytes:
    at, offsets = 2 + 2 * len(messages), []
    for message in messages:
        offsets.append(at)
        at += len(message)
    return struct.pack(f"<{1 + len(messages)}H", len(messages), *offsets) + b"".join(messages)


def parts_of(data: bytes) -> list[bytes]:
    count = int.from_bytes(data[:2], "little")
    offsets = [*struct.unpack_from(f"<{count}H", data, 2), len(data)]
    return [data[offsets[at] : offsets[at + 1]] for at in range(count)]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("Running", b"\xc1\x00\xff"),
        ("Small", b"\xc2\x00\xfb"),
        ("Vials", b"\xc4\x00" + struct.pack("<i", 70_000)),
        ("vials", b"\xc4\x00" + struct.pack("<i", 70_000)),
        ("Volume", b"\xcb\x00" + struct.pack("<d", 1.5)),
        ("Line1.Running", b"\xc1\x00\xff"),
        ("Line1.Limits", b"\xca\x00" + struct.pack("<f", 1)),
        ("Recipe", b"\xa0\x02\xce\x0f\x0a\0\0\0LOT-2041-A" + bytes(74)),
        ("Recipe.LEN", b"\xc4\x00\x0a\0\0\0"),
        ("Program:MainProgram.Step", b"\xc4\x00\x0c\0\0\0"),
    ],
)
def test_a_tag_is_read_by_its_name(ask: Ask, symbol: Callable[[str], bytes], name: str, data: bytes) -> None:
    answer = ask(READ, symbol(name), ONE)

    assert answer.refusal == (0,)
    assert answer.data == data


def test_elements_are_addressed_in_8_16_and_32_bits(ask: Ask, symbol: Callable[[str], bytes]) -> None:
    long, at = symbol("Long"), 200

    answers = [
        ask(READ, long + segment, ONE).data
        for segment in (b"\x28\xc8", b"\x29\x00\xc8\x00", b"\x2a\x00\xc8\x00\x00\x00")
    ]

    assert answers == [b"\xc4\x00" + struct.pack("<i", at)] * 3


def test_the_last_dimension_runs_fastest(ask: Ask, symbol: Callable[[str], bytes]) -> None:
    answer = ask(READ, symbol("Grid") + b"\x28\x01\x28\x02\x28\x02", b"\x02\x00")

    assert answer.data == b"\xc3\x00" + struct.pack("<hh", 22, 23)


def test_an_array_of_bools_is_one_of_dwords(ask: Ask, symbol: Callable[[str], bytes]) -> None:
    answer = ask(READ, symbol("Alarms"), b"\x02\x00")
    bits = int.from_bytes(answer.data[2:], "little")

    assert answer.data[:2] == b"\xd3\x00"
    assert [bool(bits >> at & 1) for at in range(64)] == [at % 3 == 0 for at in range(64)]


def test_a_tag_is_read_by_its_number(ask: Ask, plc: Controller, symbol: Callable[[str], bytes]) -> None:
    number, step = plc["Line1"].instance, plc["Program:MainProgram.Step"].instance

    by_number = ask(READ, b"\x20\x6b\x25\x00" + struct.pack("<H", number) + symbol("Total"), ONE)
    in_program = ask(READ, symbol("Program:MainProgram") + b"\x20\x6b\x25\x00" + struct.pack("<H", step), ONE)

    assert by_number.data == b"\xc5\x00" + struct.pack("<q", -9)
    assert in_program.data == b"\xc4\x00\x0c\0\0\0"


@pytest.mark.parametrize(
    ("path", "data", "refusal"),
    [
        pytest.param(b"\x91\x02No", ONE, (0x04, 0), id="no such tag"),
        pytest.param(b"\x91\x05Vials\0\x91\x01x\0", ONE, (0x04, 0), id="no such member"),
        pytest.param(b"\x91\x05Vials\0\x91\x014\0", ONE, (0x04, 0), id="a bit is not addressed by its number"),
        pytest.param(b"\x91\x05Line1\0\x91\x10ZZZZZZZZZZLine00", ONE, (0x04, 0), id="hidden member"),
        pytest.param(b"\x91\x05Vials\x01", ONE, (0x04, 0), id="pad is not zero"),
        pytest.param(b"\x91\x04Grid\x28\x01", ONE, (0x04, 0), id="too few indexes"),
        pytest.param(b"\x91\x05Vials\0\x28\x00", ONE, (0x04, 0), id="an index into no array"),
        pytest.param(b"\x77\x00", ONE, (0x04, 0), id="unknown segment"),
        pytest.param(b"\x28\x01", ONE, (0x04, 0), id="an index into nothing"),
        pytest.param(b"\x91\x06Vials\0", ONE, (0x04, 0), id="name with a null"),
        pytest.param(b"\x91\x0aVials\0", ONE, (0x26,), id="name longer than the path"),
        pytest.param(b"\x20\x6b\x25\x00\x01\x00", ONE, (0x05, 0), id="no such symbol"),
        pytest.param(b"\x20\x6b\x25\x00\xf1\x00", ONE, (0x05, 0), id="a symbol that is no tag"),
        pytest.param(b"\x20\x99\x24\x01", b"", (0x05, 0), id="no such class"),
        pytest.param(b"\x91\x04Long\x29\x00\x88\x13", ONE, (0xFF, 0x2105), id="element beyond the end"),
        pytest.param(b"\x91\x04Long\x29\x00\x87\x13", b"\x02\x00", (0xFF, 0x2105), id="count beyond the end"),
        pytest.param(b"\x91\x05Vials\0", b"\x00\x00", (0xFF, 0x2105), id="count of zero"),
        pytest.param(b"\x91\x05Vials\0", b"\x01", (0x13,), id="too little data"),
        pytest.param(b"\x91\x05Vials\0", ONE + b"\0\0", (0x15,), id="too much data"),
    ],
)
def test_a_request_is_refused_with_the_status_of_its_mistake(
    ask: Ask, path: bytes, data: bytes, refusal: tuple[int, ...]
) -> None:
    service = SINGLE if path.startswith(b"\x20\x99") else READ

    assert ask(service, path, data).refusal == refusal


def test_a_path_is_as_long_as_it_says(plc: Controller) -> None:
    router = Router(plc)

    assert router.answer(b"\x4c\x09\x91\x05Vials\0\x01\x00", 500)[2] == 0x26
    assert router.answer(b"\x4c\x03\x91\x05Vials\0\x01\x00", 500)[2] == 0x26
    assert router.answer(b"", 500)[2] == 0x13


def test_a_tag_without_external_access_is_not_read(plc: Controller, ask: Ask, symbol: Callable[[str], bytes]) -> None:
    plc.tag("Secret", DINT, 1, access=3)

    assert ask(READ, symbol("Secret"), ONE).refusal == (0x0F,)


def test_a_tag_can_be_made_to_fail(plc: Controller, ask: Ask, symbol: Callable[[str], bytes]) -> None:
    plc.fail("Vials", 0xFF, 0x2104)
    failed = ask(READ, symbol("Vials"), ONE).refusal
    plc.fail("Vials", 0)

    assert failed == (0xFF, 0x2104)
    assert ask(READ, symbol("Vials"), ONE).refusal == (0,)


# Long answers.


@given(limit=st.integers(40, 1500))
def test_fragments_make_the_whole_value(limit: int) -> None:
    router, gathered, status = Router(showcase()), b"", 6
    request = b"\x52\x03\x91\x04Long" + struct.pack("<H", 1000)

    while status == 6:
        answer = router.answer(request + struct.pack("<I", len(gathered)), limit)
        assert len(answer) <= limit
        assert answer[4:6] == b"\xc4\x00"
        status = answer[2]
        gathered += answer[6:]

    assert status == 0
    assert gathered == struct.pack("<1000i", *range(1000))


def test_a_fragment_beyond_the_end_is_refused(ask: Ask, symbol: Callable[[str], bytes]) -> None:
    assert ask(READ_PART, symbol("Long"), struct.pack("<HI", 10, 36)).data == b"\xc4\x00\x09\0\0\0"
    assert ask(READ_PART, symbol("Long"), struct.pack("<HI", 10, 40)).refusal == (0xFF, 0x2105)


def test_a_plain_read_that_does_not_fit_is_partial(ask: Ask, symbol: Callable[[str], bytes]) -> None:
    answer = ask(READ, symbol("Long"), b"\xe8\x03", limit=498)

    assert answer.status == 0x06
    assert len(answer.data) == 2 + 492


def test_a_fragment_holds_whole_elements_but_cuts_structures(ask: Ask, symbol: Callable[[str], bytes]) -> None:
    """A client that was tried on real controllers cannot parse half a DINT."""
    numbers = ask(READ_PART, symbol("Long"), struct.pack("<HI", 1000, 0), limit=497)
    text = ask(READ_PART, symbol("Recipe"), struct.pack("<HI", 1, 0), limit=49)

    assert (numbers.status, len(numbers.data)) == (0x06, 2 + 488)
    assert (text.status, len(text.data)) == (0x06, 4 + 41)


# Several services in one packet.


def test_several_reads_come_in_one_packet(ask: Ask, symbol: Callable[[str], bytes]) -> None:
    answer = ask(SEVERAL, ROUTER, several(part(symbol("Vials")), part(symbol("Running"))))

    assert answer.status == 0
    assert parts_of(answer.data) == [b"\xcc\0\0\0\xc4\x00" + struct.pack("<i", 70_000), b"\xcc\0\0\0\xc1\x00\xff"]


def test_one_bad_service_leaves_the_others_good(ask: Ask, symbol: Callable[[str], bytes]) -> None:
    answer = ask(SEVERAL, ROUTER, several(part(symbol("Nope")), part(symbol("Running"))))

    assert answer.status == 0x1E
    assert parts_of(answer.data) == [b"\xcc\0\x04\x01\0\0", b"\xcc\0\0\0\xc1\x00\xff"]


def test_what_does_not_fit_a_packet_is_told_so(ask: Ask, symbol: Callable[[str], bytes]) -> None:
    recipe = part(symbol("Recipe"))

    answer = ask(SEVERAL, ROUTER, several(*[recipe] * 6), limit=498)
    statuses = [answer[2] for answer in parts_of(answer.data)]

    assert answer.status == 0x1E
    assert statuses == [0, 0, 0, 0, 0x06, 0x06]


@given(limit=st.integers(20, 700), count=st.integers(1, 12))
def test_a_packet_never_outgrows_its_connection(limit: int, count: int) -> None:
    message = bytes((SEVERAL, 2)) + ROUTER + several(*[part(b"\x91\x06Recipe")] * count)

    assert len(Router(showcase()).answer(message, limit)) <= limit


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00\x00", b"\x02\x00\x06\x00", b"\x01\x00\x08\x00" + bytes(8), several(b"\x4c"), several(b"")],
    ids=["nothing", "none", "short", "gap", "one byte", "empty"],
)
def test_a_packet_that_is_not_laid_out_is_refused(ask: Ask, data: bytes) -> None:
    assert ask(SEVERAL, ROUTER, data).status in (0x03, 0x13)


def test_a_packet_holds_no_packet(ask: Ask) -> None:
    inner = bytes((SEVERAL, 2)) + ROUTER + several(part(b"\x91\x06Recipe"))

    assert ask(SEVERAL, ROUTER, several(inner)).status == 0x08


def test_a_repeated_request_sees_new_values(plc: Controller, ask: Ask, symbol: Callable[[str], bytes]) -> None:
    """Answers are kept while nothing changes, and no longer."""
    request = several(part(symbol("Vials")))
    before = ask(SEVERAL, ROUTER, request).data
    plc["Vials"] = 70_001
    after = ask(SEVERAL, ROUTER, request).data
    plc["Vials"] = lambda elapsed_s: 5
    moving = ask(SEVERAL, ROUTER, request).data

    assert [struct.unpack("<i", data[-4:])[0] for data in (before, after, moving)] == [70_000, 70_001, 5]


# Symbols, templates and other objects.


def list_symbols(ask: Ask, path: bytes, limit: int = 498) -> dict[str, int]:
    found: dict[str, int] = {}
    first, status = 0, 6
    while status == 6:
        answer = ask(LIST, path + b"\x20\x6b\x25\x00" + struct.pack("<H", first), b"\x02\x00\x01\x00\x02\x00", limit)
        status, at = answer.status, 0
        while at < len(answer.data):
            number, length = struct.unpack_from("<IH", answer.data, at)
            name = answer.data[at + 6 : at + 6 + length].decode()
            (found[name],) = struct.unpack_from("<H", answer.data, at + 6 + length)
            at += 8 + length
            first = number + 1
    assert status == 0
    return found


def test_the_tag_list_comes_in_pages(ask: Ask) -> None:
    listed = list_symbols(ask, b"", limit=120)

    assert listed["Vials"] == 0xC4
    assert listed["Grid"] == 0x60C3
    assert listed["Alarms"] == 0x20D3
    assert listed["Recipe"] == 0x8FCE
    assert listed["Program:MainProgram"] == 0x1068


def test_a_program_has_a_list_of_its_own(ask: Ask, symbol: Callable[[str], bytes]) -> None:
    listed = list_symbols(ask, symbol("Program:MainProgram"))

    assert set(listed) == {"Routine:MainRoutine", "Step", "Lines"}
    assert ask(LIST, symbol("Program:Other") + b"\x20\x6b\x24\x00", b"\x01\x00\x01\x00").refusal == (0x04, 0)


def test_a_page_too_small_for_one_tag_is_refused(ask: Ask) -> None:
    assert ask(LIST, b"\x20\x6b\x24\x00", b"\x02\x00\x01\x00\x08\x00", limit=16).status == 0x11


def test_an_unknown_attribute_spoils_a_list(ask: Ask) -> None:
    assert ask(LIST, b"\x20\x6b\x24\x00", b"\x02\x00\x01\x00\x63\x00").status == 0x0A


def test_a_template_says_what_it_is(ask: Ask, plc: Controller) -> None:
    line = plc["Line1"].data_type
    path = b"\x20\x6c\x25\x00" + struct.pack("<H", line.template)

    attributes = ask(ATTRIBUTES, path, struct.pack("<5H", 4, 4, 5, 2, 1)).data
    words, size, members, handle = struct.unpack("<2x4xI4xI4xH4xH", attributes)
    read = ask(READ, path, struct.pack("<IH", 0, 4 * words - 23))

    assert (size, members, handle) == (line.size, len(line.members), line.handle)
    assert read.data.startswith(line.definition)
    assert ask(READ, path, struct.pack("<IH", 0, 4 * words - 23), limit=50).status == 0x06
    assert ask(READ, b"\x20\x6c\x24\x01", struct.pack("<IH", 0, 10)).refusal == (0x05, 0)


def test_an_attribute_that_is_not_there_is_said_in_a_list(ask: Ask) -> None:
    answer = ask(ATTRIBUTES, b"\x20\x01\x24\x01", struct.pack("<3H", 2, 1, 99))

    assert answer.status == 0x0A
    assert answer.data == struct.pack("<HHHHHH", 2, 1, 0, 1, 99, 0x14)
    assert ask(SINGLE, b"\x20\x01\x24\x01\x30\x63").status == 0x14


def test_a_device_has_the_attributes_it_was_given(plc: Controller, ask: Ask) -> None:
    plc.attribute(0x93, 1, 3, struct.pack("<h", 600))
    plc.attribute(0x93, 1, 4, lambda: b"\x07")

    assert ask(SINGLE, b"\x20\x93\x24\x01\x30\x03").data == b"\x58\x02"
    assert ask(ALL, b"\x20\x93\x24\x01").data == b"\x58\x02\x07"
    assert ask(SINGLE, b"\x20\x93\x24\x02\x30\x03").refusal == (0x05, 0)


def change_log(ask: Ask) -> bytes:
    return ask(ATTRIBUTES, b"\x20\xac\x24\x01", struct.pack("<6H", 5, 1, 2, 3, 4, 10)).data


def test_an_edit_and_a_download_move_the_change_log(plc: Controller, ask: Ask, symbol: Callable[[str], bytes]) -> None:
    """What a client compares to know whether its tag list still holds (1756-PM020)."""
    logs, numbers = [change_log(ask)], [plc["Vials"].instance]
    plc["Vials"] = 1
    assert change_log(ask) == logs[0]
    plc.remove("Small")
    logs.append(change_log(ask))
    numbers.append(plc["Vials"].instance)
    plc.download()
    logs.append(change_log(ask))
    numbers.append(plc["Vials"].instance)

    assert len(set(logs)) == 3
    assert numbers[0] == numbers[1] != numbers[2]
    assert ask(READ, symbol("Small"), ONE).refusal == (0x04, 0)
    assert ask(READ, symbol("Vials"), ONE).data[2:] == b"\x01\0\0\0"


# What writes.


@pytest.mark.parametrize(
    ("service", "path", "status"),
    [
        (0x4D, b"\x91\x05Vials\0", 0x0F),
        (0x53, b"\x91\x05Vials\0", 0x0F),
        (0x4E, b"\x91\x05Vials\0", 0x0F),
        (0x10, b"\x20\x01\x24\x01\x30\x07", 0x0E),
        (0x04, b"\x20\x8b\x24\x01", 0x0E),
        (0x05, b"\x20\x01\x24\x01", 0x08),
        (0x4B, b"\x20\x67\x24\x01", 0x08),
    ],
)
def test_what_would_change_something_is_refused_and_counted(
    plc: Controller, ask: Ask, service: int, path: bytes, status: int
) -> None:
    before = bytes(plc["Vials"].memory)

    first = ask(service, path, b"\xc4\x00\x01\x00\x05\0\0\0")
    second = ask(service, path, b"\xc4\x00\x01\x00\x05\0\0\0")

    assert first.status == second.status == status
    assert plc.writes_asked == 2
    assert plc["Vials"].memory == before


def test_a_write_within_a_packet_is_counted_each_time(
    plc: Controller, ask: Ask, symbol: Callable[[str], bytes]
) -> None:
    write = b"\x4d\x04" + symbol("Vials") + b"\xc4\x00\x01\x00\x05\0\0\0"
    for _ in range(3):
        ask(SEVERAL, ROUTER, several(write, part(symbol("Vials"))))

    assert plc.writes_asked == 3
    assert plc.services[READ, None] == 3


# Families, and random requests.


def test_a_micro800_takes_one_service_a_packet_and_no_numbers() -> None:
    plc = micro800()
    tag = plc.tag("Level", DINT, 1)
    router = Router(plc)

    packet = bytes((SEVERAL, 2)) + ROUTER + several(part(b"\x91\x05Level\0"))
    by_number = b"\x4c\x03\x20\x6b\x25\x00" + struct.pack("<H", tag.instance) + ONE

    assert router.answer(packet, 500)[2] == 0x08
    assert router.answer(by_number, 500)[2] == 0x05
    assert router.answer(b"\x4c\x04\x91\x05Level\0" + ONE, 500)[2] == 0
    with pytest.raises(ValueError, match="no programs"):
        plc.program("Main")


SEGMENTS = st.sampled_from(
    [b"\x91\x05Line1\0", b"\x91\x06Drives", b"\x91\x04Long", b"\x91\x13Program:MainProgram\0", b"\x28\x01",
     b"\x29\x00\x01\x00", b"\x20\x6b", b"\x20\x6c", b"\x20\xac", b"\x24\x01", b"\x24\x00", b"\x25\x00\x01\x01",
     b"\x30\x01", b"\x91\x00", b"\x20\x02"]
)  # fmt: skip


@given(
    service=st.integers(0, 127) | st.sampled_from([READ, READ_PART, SEVERAL, LIST, ALL, SINGLE, ATTRIBUTES]),
    segments=st.lists(SEGMENTS, max_size=5),
    data=st.binary(max_size=40),
    limit=st.integers(16, 4000),
)
def test_whatever_is_asked_is_answered(service: int, segments: list[bytes], data: bytes, limit: int) -> None:
    """And within the size of the connection."""
    path = b"".join(segments)
    answer = Router(SHOWCASE).answer(bytes((service, len(path) // 2)) + path + data, limit)

    assert 4 <= len(answer) <= limit
    assert answer[0] == service | 0x80


SHOWCASE = showcase()


@given(message=st.binary(max_size=64))
def test_garbage_is_answered_too(message: bytes) -> None:
    assert len(Router(SHOWCASE).answer(message, 500)) >= 4


def test_many_tags_are_as_easily_served() -> None:
    plc = crowd(3000, is_moving=True)

    assert plc["Tag2999"].data_type is BOOL
    assert plc["Tag2999"].is_moving


def test_its_clock_can_be_off(plc: Controller, ask: Ask) -> None:
    def now_us() -> int:
        return int(struct.unpack_from("<Q", ask(ATTRIBUTES, b"\x20\x8b\x24\x01", b"\x01\x00\x06\x00").data, 6)[0])

    before = now_us()
    plc.time_offset_us = 3_600_000_000

    assert now_us() - before >= 3_600_000_000
