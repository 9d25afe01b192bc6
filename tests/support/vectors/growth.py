"""What later versions of the format may add to payloads, and what they may not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from tests.support.vectors.content import (
    BLOCK,
    CALIBRATED,
    CHANGE,
    CLOCK,
    CLOSED,
    DEVICE,
    FIRST,
    FLOATS,
    HALT,
    IDENTITY,
    LOST,
    NEXT_SESSION,
    OPEN,
    SECOND,
    SESSION,
    SILENCE,
    TAG,
    TQ,
    TRUNCATED,
    Members,
    bad,
    bads,
    begin,
    calibrations,
    case,
    catalog,
    checkpoint,
    data,
    devices,
    epoch,
    event,
    good,
    goods,
    key_change,
)
from tests.support.vectors.packed import runs, zstd_frame
from tests.support.vectors.wire import (
    CATALOG,
    CHECKPOINT,
    CONFIG,
    DATA,
    EPOCH,
    EVENT,
    GAP,
    KEY,
    LOSS,
    STOP,
    TIME,
    ZSTD,
    Case,
    Chain,
    Kind,
    Raw,
    Tag,
    cbor,
)

PLACES = Tag(69, b"\x00\x00\x03\x00")
TIMES = Tag(79, bytes(16))
CHANGES = [2, 0, 0, 900]
LATER: Kind = (11, "APPROVAL")
LARGEST = 2**64 - 1
MORE: Members = {1000: ["x", {1: 0}], LARGEST: {"a": None}}
LATER_TQ: Members = {**TQ, 13: 0}


def cases() -> Iterator[Case]:
    """What a reader of this version skips, and frames that do not grow."""
    line = begin()
    yield from _members(line)
    yield from _elements(line)
    yield from _numbers(line)
    yield from _types(line)
    yield from _chains()


def beyond() -> Iterator[Case]:
    """Unknown content that does not keep to the limits, and known content that is wrong beside unknown content."""
    line = begin()
    yield from _values(line)
    yield from _places(line)
    yield from _known(line)


def _members(line: Chain) -> Iterator[Case]:
    for kind, slug, members, number in (
        (DATA, "DATA", data(BLOCK), 6), (CATALOG, "CATALOG", catalog(), 7), (CATALOG, "devices", devices(), 7),
        (EVENT, "EVENT", event(), 6), (LOSS, "LOSS", LOST, 10), (GAP, "GAP", SILENCE, 6), (TIME, "TIME", CLOCK, 7),
        (CONFIG, "CONFIG", CHANGE, 8), (STOP, "STOP", HALT, 3),
    ):  # fmt: skip
        yield goods(f"growth/members-{slug}", f"{kind[1]} with a further member, and with two of great numbers.",
                    kind, [{**members, number: 0}, {**members, **MORE}], unknown=2,
                    tail=CLOSED if kind == STOP else OPEN)  # fmt: skip
    forms: list[Any] = [[], {1: 0}, [CALIBRATED[:8]], [[*CALIBRATED[:5], "x", 1, "", 0]], [[*CALIBRATED, "laboratory"]]]
    yield goods("growth/members-of-calibrations", "Calibrations in forms that a version which knows them does not "
                "know, with a tenth element, and beside a group.", CATALOG,
                [*({**calibrations(), 7: each} for each in forms), {**catalog(), 7: [CALIBRATED]}],
                unknown=6)  # fmt: skip
    yield case("growth/members-EPOCH", "An EPOCH with further members.",
               begin(m12=0, m1000=["x", {1: 0}]).records, "A", unknown=1, wholly=True)  # fmt: skip
    chain = begin()
    chain.add(KEY, {**key_change(NEXT_SESSION), 3: 0})
    chain.session = NEXT_SESSION
    chain.add(EVENT, event())
    yield case("growth/members-KEY", "A KEY with a further member brings its key.", chain.records, "AAA", unknown=1,
               wholly=True)  # fmt: skip
    chain = begin()
    chain.add(CHECKPOINT, {**checkpoint(chain, session=NEXT_SESSION), 7: 0})
    chain.session = NEXT_SESSION
    chain.add(EVENT, event())
    yield case("growth/members-CHECKPOINT", "A CHECKPOINT with a further member states its key.", chain.records, "AAA",
               unknown=1, wholly=True)  # fmt: skip
    chain = begin(m10=LATER_TQ)
    chain.add(DATA, {**data(), 3: LATER_TQ})
    chain.add(KEY, {1: SESSION.cose, 2: LATER_TQ})
    chain.add(CHECKPOINT, {**checkpoint(chain), 4: LATER_TQ})
    chain.add(TIME, {**CLOCK, 1: LATER_TQ, 2: LATER_TQ})
    chain.add(STOP, {1: 1, 2: LATER_TQ})
    yield case("growth/members-of-TQ", "A TQ with a further member, in every type that has one.", chain.records,
               "AAAAAA", unknown=6, tail={FIRST: CLOSED}, wholly=True)  # fmt: skip
    yield good("growth/members-of-the-buffer", "A CHECKPOINT that says more about the buffer.",
               line.make(CHECKPOINT, {**checkpoint(line), 5: {1: 0, 2: 4096, 3: 1, 4: "x"}}), unknown=1)  # fmt: skip
    yield good("growth/members-of-who", "A CONFIG that says more about who changed it.",
               line.make(CONFIG, {**CHANGE, 2: {**CHANGE[2], 4: b"x"}}), unknown=1)  # fmt: skip
    yield goods("growth/members-of-kept", "CONFIGs with a part of the configuration, with a fifth element and in forms "
                "that a version which knows the part does not know.", CONFIG,
                [{**CHANGE, 8: each} for each in ([0, 1, b"", 9, "x"], [1, 1, b"", 9], [0, 1, "", 9], {1: 0})],
                unknown=4)  # fmt: skip
    arrays = [Tag(number, bytes(8)) for number in (64, 69, 70, 71, 72, 77, 78, 79, 85, 86)]
    values: list[Any] = [
        -(2**63), LARGEST, 1.5, 0.1, float("nan"), True, False, None, "", "größer", b"", b"\x00", *arrays, Tag(85, b""),
        [], {}, {0: 1, 24: 1, LARGEST: 1}, {"": 1, "b": 1, "aa": 1}, [[[[]]]], [{0: {"a": {0: 0}}}],
    ]  # fmt: skip
    yield good("growth/values", "All kinds of value that unknown content may hold.",
               line.make(EVENT, {**event(), 6: values}), unknown=1)  # fmt: skip


def _elements(line: Chain) -> Iterator[Case]:
    group = catalog()[4][0]
    for slug, what, kind, *payloads in (
        ("block", "Blocks with an eighth element, after source times and after null for them.", DATA,
         data([*BLOCK, [TIMES], 7, 0]), data([*BLOCK, None, {"x": 1}]), data([*BLOCK, None, None, None])),
        ("vector", "Changes of a vector with a third element.", DATA,
         data([*CHANGES, [None, [PLACES, FLOATS, 0]], []])),
        ("status", "A run of a status with a fourth element.", DATA, data([*BLOCK[:5], [[0, 1, 0x80000000, "x"]]])),
        ("group", "A group with a sixth element.", CATALOG, {**catalog(), 4: [[*group, "x"]]}),
        ("tag", "Tags with a 13th element, after names of numbers and after null for them.", CATALOG,
         catalog([*TAG, [0, "off", 1, "on"], 0]), catalog([*TAG, None, [1.5]])),
        ("range", "A range of a tag with a third element.", CATALOG, catalog([*TAG[:6], [0.0, 100.0, None], *TAG[7:]])),
        ("device", "A device with an eighth element.", CATALOG, devices([*DEVICE, "x"])),
        ("change", "A change of a CONFIG with a fourth element.", CONFIG, {**CHANGE, 6: [["path", "a", "b", "x"]]}),
        ("boot-times", "A range of boot times with a third element.", TIME, {**CLOCK, 4: [1, 2, 3]}),
    ):  # fmt: skip
        yield goods(f"growth/elements-of-{slug}", what, kind, payloads, unknown=len(payloads))
    chain = begin()
    after = begin(SECOND, counter=2, m4=[FIRST, 0, chain.prev, "x"])
    yield case("growth/elements-of-the-chain-before", "An EPOCH that says more about the chain before.",
               [*chain.records, *after.records], "AA", unknown=1, tail={FIRST: OPEN, SECOND: OPEN},
               wholly=True)  # fmt: skip


def _numbers(line: Chain) -> Iterator[Case]:
    for number in (0, 6, LARGEST):
        yield case(f"growth/epoch-reason-{number}", "An EPOCH with a reason that has no word.",
                   begin(m3=number).records, "A", unknown=1, wholly=True)  # fmt: skip
    for slug, what, kind, *payloads in (
        ("loss-reason", "LOSS with reasons that have no word.", LOSS, {**LOST, 7: 4}, {**LOST, 7: LARGEST}),
        ("severity", "EVENT with severities that have no word.", EVENT, {**event(), 3: 0}, {**event(), 3: 4}),
        ("clock", "A clock with a source, and one with a state, that has no word.", TIME,
         {**CLOCK, 2: {**TQ, 1: 5}}, {**CLOCK, 2: {**TQ, 2: 5}}),
        ("data-type", "Tags of data types that have no word.", CATALOG,
         catalog([TAG[0], 12, *TAG[2:]], TAG, [TAG[0], LARGEST, *TAG[2:]])),
        ("block-kind", "Blocks of unknown kinds, between others, with and without more.", DATA,
         data(BLOCK, [3], BLOCK), data([LARGEST, "x", {1: [FLOATS]}]), data([3, None], [4])),
    ):  # fmt: skip
        yield goods(f"growth/{slug}", what, kind, payloads, unknown=len(payloads))
    yield goods("growth/stop-reason", "A STOP with a reason that has no word closes the chain.", STOP,
                [{**HALT, 1: 4}], unknown=1, tail=CLOSED)  # fmt: skip


def _types(line: Chain) -> Iterator[Case]:
    for number, name, payload in (
        (11, "APPROVAL", {1: 0}), (12, "A", {}), (24, "BATCH_2", {1: "x", 3: {"a": [1.5]}}),
        (2**32 - 1, "X" * 40, {LARGEST: b""}),
    ):  # fmt: skip
        yield good(f"growth/type-{number}", "A record of an unknown type.", line.make((number, name), payload),
                   unknown=1)  # fmt: skip
    yield bads("growth/type-names", "Names that no type may have: small letters, a digit or a line first, 41 of them, "
               "none, a hyphen, another letter.",
               [line.make((11, name), {1: 0}) for name in ("approval", "2A", "_A", "A" * 41, "", "A-B", "Ä")]
               )  # fmt: skip
    yield bads("growth/type-numbers", "A number beyond 32 bits, an unknown number with a known name, and the reverse.",
               [line.make(kind, {1: 0}) for kind in ((2**32, "APPROVAL"), (11, "EVENT"), (5, "APPROVAL"))]
               )  # fmt: skip
    yield bad("growth/type-packed", "A record of an unknown type that is packed.",
              line.make(LATER, zstd_frame((cbor({1: 0}), 1), size=3), enc=ZSTD))  # fmt: skip
    yield bad("growth/type-at-0", "A record of an unknown type with seq 0.",
              line.make(LATER, {1: 0}, seq=0, prev=bytes(32)))  # fmt: skip
    yield bad("growth/type-by-identity", "The identity signs a record of an unknown type.",
              line.make(LATER, {1: 0}, key=IDENTITY), "U")  # fmt: skip
    right = line.make(LATER, {1: 0})
    yield bad("growth/type-altered", "A record of an unknown type with a wrong signature.",
              right[:-1] + bytes((right[-1] ^ 1,)), "X")  # fmt: skip
    chain = begin()
    chain.add(LATER, {1: cbor(NEXT_SESSION.cose), 2: {0: b"key"}})
    yield case("growth/type-brings-no-key", "An unknown type brings no key.",
               [*chain.records, chain.make(EVENT, event(), key=NEXT_SESSION)], "AAU", unknown=1)  # fmt: skip
    chain = begin()
    chain.add(KEY, key_change(NEXT_SESSION))
    chain.session = NEXT_SESSION
    chain.add(LATER, {1: 0})
    chain.add(CHECKPOINT, checkpoint(chain))
    first, _, *rest = chain.records
    yield case("growth/type-linked", "A CHECKPOINT leads to a record of an unknown type, whose payload is not read.",
               [first, *rest], "ALA", absent=[(FIRST, "MISSING", 1, 1)])  # fmt: skip
    yield case("growth/type-fork", "Two records of an unknown type at one place.",
               [*line.records, right, line.make(LATER, {1: 1})], "AFF")  # fmt: skip


def _chains() -> Iterator[Case]:
    chain = begin()
    chain.add(EVENT, event(1))
    chain.add(EVENT, event(2))
    chain.add(LOSS, {**LOST, 7: 4, 10: "x"})
    yield case("growth/loss-declares", "A LOSS that says more, with a reason that has no word, declares what is lost.",
               [chain.records[0], chain.records[3]], "AA", unknown=1,
               absent=[(FIRST, "DECLARED_LOST", 1, 2)])  # fmt: skip
    after = begin(SECOND, counter=2, m3=6, m4=[FIRST, 3, chain.prev, 0], m12=0)
    yield case("growth/epoch-names-more", "An EPOCH that says more names a later record than those held.",
               [*chain.records[:2], *after.records], "AAA", unknown=1, absent=[(FIRST, TRUNCATED, 2, 3)],
               tail={FIRST: TRUNCATED, SECOND: OPEN})  # fmt: skip
    chain = begin(m12=0)
    chain.add((12, "BATCH"), {1: 0})
    chain.add(EVENT, event(1))
    chain.add(DATA, data([7, 0]))
    chain.add(KEY, {**key_change(NEXT_SESSION), 9: None})
    chain.session = NEXT_SESSION
    chain.add(EVENT, {**event(2), 6: None})
    chain.add(CHECKPOINT, checkpoint(chain))
    chain.add(STOP, HALT)
    yield case("growth/both", "A chain of a later version that one of today goes on with.", chain.records, "AAAAAAAA",
               unknown=5, tail={FIRST: CLOSED}, wholly=True)  # fmt: skip
    yield good("growth/items", "Exactly 100,000 items, most of them in a further member.", _data_of(100_000), unknown=1)


def _data_of(items: int) -> bytes:
    """A DATA of some items, most of them in a further member."""
    # The map with 6 numbers, t0, b0, TQ with its 12 members, digest, blocks, and the further list.
    others = 1 + 6 + 2 + 1 + 24 + 3
    payload = cbor({**data(), 6: [0] * (items - others)})
    return begin().make(DATA, zstd_frame(*runs(payload, b"\x00"), size=len(payload)), enc=ZSTD)


WRONG = (Raw(b"\xc1\x00"), Raw(b"\xf7"), {0: 0, "a": 0})


def _values(line: Chain) -> Iterator[Case]:
    def member(slug: str, what: str, *values: object) -> Case:
        return bads(f"beyond/{slug}", what, [line.make(EVENT, {**event(), 6: value}) for value in values])

    yield member("integers", "An integer below -2⁶³, and one above 2⁶⁴-1, as big numbers and plain.",
                 Raw(b"\x3b\x80" + bytes(7)), Raw(b"\x3b" + b"\xff" * 8), Tag(2, b"\x01" + bytes(8)),
                 Tag(3, b"\x01" + bytes(8)))  # fmt: skip
    yield member("tags", "Tags that are not allowed: a date, a time, a set, a record.",
                 Tag(0, "2023-11-14T22:13:20Z"), Tag(1, 1), Tag(258, []), Tag(18, []))  # fmt: skip
    yield member("typed-arrays", "Typed arrays that are big-endian, of 16-bit floating-point numbers, of half a value, "
                 "of text.", *(Tag(number, bytes(8)) for number in (65, 68, 73, 81, 84)), Tag(85, bytes(7)),
                 Tag(69, b"\x00"), Tag(64, "x"))  # fmt: skip
    yield member("simple", "Undefined, and simple values.", Raw(b"\xf7"), Raw(b"\xe0"), Raw(b"\xf8\x20"))
    yield member("keys", "Maps with keys of two kinds, negative ones, byte strings, true, null, numbers with a point.",
                 {0: 0, "a": 0}, {-1: 0}, {b"": 0}, Raw(b"\xa1\xf5\x00"), Raw(b"\xa1\xf6\x00"),
                 Raw(b"\xa1\xf9\x3e\x00\x00"), Raw(b"\xa1\x80\x00"))  # fmt: skip
    yield member("deep", "Seven levels.", [[[[[[]]]]]], [[[[[{}]]]]], {0: {0: {0: {0: {0: {0: 0}}}}}})
    yield member("encoding", "Encodings that are not deterministic: long heads, orders of keys, NaN, no end.",
                 Raw(b"\x18\x00"), Raw(b"\x58\x01a"), Raw(b"\xa2\x01\x00\x00\x00"), Raw(b"\xa2\x00\x00\x00\x00"),
                 Raw(b"\xfa\x3f\xc0\x00\x00"), Raw(b"\xf9\x7e\x01"), Raw(b"\x9f\xff"), Raw(b"\x61\xff"))  # fmt: skip
    yield bad("beyond/items", "An item more than 100,000, most of them in a further member.", _data_of(100_001))


def _places(line: Chain) -> Iterator[Case]:
    group = catalog()[4][0]

    def place(slug: str, what: str, kind: Kind, *payloads: object) -> Case:
        return bads(f"beyond/{slug}", what, [line.make(kind, each) for each in payloads])

    yield place("block", "A block, a vector and a run of a status with more that is not allowed.", DATA,
                *(data([*BLOCK, None, each]) for each in WRONG),
                *(data([*CHANGES, [[PLACES, FLOATS, each]], []]) for each in WRONG),
                *(data([*BLOCK[:5], [[0, 1, 0x80000000, each]]]) for each in WRONG))  # fmt: skip
    yield place("block-kind", "A block of an unknown kind with something that is not allowed.", DATA,
                *(data(BLOCK, [3, each]) for each in WRONG))  # fmt: skip
    yield place("catalog", "A group, a tag and a device with more that is not allowed.", CATALOG,
                *({**catalog(), 4: [[*group, each]]} for each in WRONG),
                *(catalog([*TAG, None, each]) for each in WRONG),
                *(devices([*DEVICE, each]) for each in WRONG))  # fmt: skip
    yield place("tq", "A TQ with a further member that is not allowed.", STOP,
                *({1: 1, 2: {**TQ, 13: each}} for each in WRONG))  # fmt: skip
    for kind, members in ((KEY, key_change(NEXT_SESSION)), (CHECKPOINT, checkpoint(line)), (DATA, data()),
                          (CATALOG, catalog()), (LOSS, LOST), (GAP, SILENCE), (TIME, CLOCK),
                          (CONFIG, CHANGE)):  # fmt: skip
        yield place(kind[1], f"{kind[1]} with a further member that is not allowed.", kind,
                    {**members, 100: WRONG[0]}, {**members, 100: WRONG[2]})  # fmt: skip
    fresh = Chain(FIRST, IDENTITY, SESSION)
    yield case("beyond/EPOCH", "EPOCH with a further member, or more about the chain before, that is not allowed.",
               [fresh.make(EPOCH, epoch(m12=each)) for each in WRONG]
               + [fresh.make(EPOCH, epoch(m4=[SECOND, 1, hashlib.sha256().digest(), each])) for each in WRONG],
               "GGGGGG", tail={})  # fmt: skip
    yield place("numbers", "Members with the number 0, a negative one, and a text.", EVENT,
                *({**event(), key: 0} for key in (0, -1, "x")))  # fmt: skip
    yield place("type", "Records of an unknown type whose payload is no map, has other keys, or more than is allowed.",
                LATER, [1], "x", None, {0: 0}, {-1: 0}, {"a": 0}, {1: 0, "a": 0}, *({1: each} for each in WRONG),
                {1: NEXT_SESSION.cose}, b"", cbor({1: 0}) + b"\x00", cbor({1: [[[[[[]]]]]]}))  # fmt: skip


def _known(line: Chain) -> Iterator[Case]:
    def beside(slug: str, what: str, kind: Kind, *payloads: object) -> Case:
        return bads(f"beyond/known-{slug}", what, [line.make(kind, each) for each in payloads])

    few = event()
    del few[4]
    yield beside("members", "A further member, and one of those known that is missing, or wrong.", EVENT,
                 {**few, 6: 0}, {**event(), 2: 5, 6: 0}, {**event(), 3: -1, 6: 0})  # fmt: skip
    yield beside("loss", "A further member, and null for the chain.", LOSS, {**LOST, 9: None, 10: 0})
    yield beside("block", "Blocks that have more, and are wrong in what is known.", DATA,
                 data([3], BLOCK[:5]), data([*BLOCK[:4], [FLOATS], None, None, 0]), data([*BLOCK, [], 0]),
                 data([*BLOCK, 0, 0]), data([*CHANGES, [[PLACES, None, 0]], []]),
                 data([*BLOCK[:5], [[0, 0, 1, "x"]]]))  # fmt: skip
    yield beside("tag", "Tags that have more, and are wrong in what is known.", CATALOG,
                 catalog([*TAG, [], 0]), catalog([*TAG, [0], 0]), catalog([*TAG[:10], 0, None, 0]),
                 catalog([*TAG[:6], [0.0, 1, 2], *TAG[7:]]))  # fmt: skip
    yield beside("null", "Null where names of numbers are, and nothing after it.", CATALOG, catalog([*TAG, None]))
    yield beside("data-type", "Data types that are negative, a text, or a number with a point.", CATALOG,
                 *(catalog([TAG[0], each, *TAG[2:]]) for each in (-1, "float32", 9.0)))  # fmt: skip
