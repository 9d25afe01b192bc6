"""Payloads that are properly signed, and not in the format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.support.vectors.content import (
    BLOCK,
    BOOT_ID,
    CHANGE,
    CLOCK,
    DEVICE,
    FIRST,
    FLOATS,
    HALT,
    LOST,
    NEXT_SESSION,
    SESSION,
    SILENCE,
    TAG,
    TQ,
    Members,
    bads,
    begin,
    case,
    catalog,
    checkpoint,
    data,
    devices,
    epoch,
    event,
    key_change,
)
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
    Case,
    Chain,
    Key,
    Kind,
    Raw,
    Tag,
    cbor,
    head,
)

PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
POINT_X = 5  # The point of P-256 with the least x but 0 that has another name above the prime.


def cases() -> Iterator[Case]:
    """Malformed payloads."""
    line = begin()
    yield from _encodings(line)
    yield from _members(line)
    yield from _contents(line)
    yield from _blocks(line)
    yield from _catalogs(line)
    yield from _keys(line)


def _encodings(line: Chain) -> Iterator[Case]:
    right = cbor(event())
    t = cbor(event()[1])

    def value(*raws: bytes) -> list[bytes]:
        return [cbor(event(v=Raw(raw))) for raw in raws]

    for slug, what, payloads in (
        ("cut", "No payload, one without its last byte, and half of it.",
         [b"", right[:-1], right[: len(right) // 2]]),
        ("trailing", "Something follows: a byte, an item, a break.", [right + b"\x00", right + right, right + b"\xff"]),
        ("no-map", "A payload that is an array, a text, null, or the right one in a byte string or a tag.",
         [cbor([1, 2, 3, 4, 5]), cbor("x"), b"\xf6", cbor(right), b"\xd9\xd9\xf7" + right]),
        ("key-order", "Keys in another order: numbers, texts of two lengths, texts of one length.",
         [b"\xa5\x02\x60\x01" + t + b"\x03\x01\x04\x60\x05\xa0",
          *value(b"\xa2\x62aa\x01\x61b\x01", b"\xa2\x61b\x01\x61a\x01")]),
        ("duplicate-keys", "A key twice, a number and a text.",
         [b"\xa6\x01" + t + right[1:], *value(b"\xa2\x61a\x01\x61a\x01")]),
        ("long-integer", "Integers in longer forms than needed, and a number of a member.",
         [b"\xa5\x18\x01" + right[2:],
          *value(b"\x18\x17", b"\x19\x00\xff", b"\x1a\x00\x00\xff\xff", b"\x1b" + bytes(7) + b"\x01", b"\x38\x17")]),
        ("long-length", "Lengths of text, bytes, array and map in longer forms than needed.",
         value(b"\x78\x01a", b"\x58\x01a", b"\x98\x01\x00", b"\xb8\x01\x61a\x00", b"\x79\x00\x18" + b"a" * 24)),
        ("indefinite", "Map, array, text and bytes of indefinite length.",
         [b"\xbf" + right[1:] + b"\xff", *value(b"\xbf\xff", b"\x9f\xff", b"\x7f\x61a\xff", b"\x5f\x41a\xff")]),
        ("reserved", "Heads with the reserved forms 28, 29, 30, and a break that ends nothing.",
         value(b"\x1c", b"\x3d", b"\x7e", b"\xfc", b"\xff")),
        ("long-float", "Floating-point numbers in longer forms than needed.",
         value(b"\xfa\x3f\xc0\x00\x00", b"\xfb\x3f\xf8" + bytes(6), b"\xfb\x40\xf0" + bytes(6),
               b"\xfa\x7f\x80\x00\x00", b"\xfa\x80\x00\x00\x00", b"\xfb\x3e\x70" + bytes(6))),
        ("nan", "Other NaN than the one: with another payload, negative, signalling, longer.",
         value(b"\xf9\x7e\x01", b"\xf9\xfe\x00", b"\xf9\x7d\x00", b"\xfa\x7f\xc0\x00\x00", b"\xfb\x7f\xf8" + bytes(6))),
        ("big-numbers", "Big numbers, and an integer below -2⁶³.",
         value(b"\xc2\x49\x01" + bytes(8), b"\xc3\x49\x01" + bytes(8), b"\xc2\x41\x01", b"\x3b\x80" + bytes(7),
               b"\x3b" + b"\xff" * 8)),
        ("tags", "Tags that are not allowed: a date, a time, a fraction, a URI, a set, a shared value.",
         value(b"\xc0\x74" + b"2023-11-14T22:13:20Z", b"\xc1\x01", b"\xc4\x82\x20\x01", b"\xd8\x20\x61a",
               b"\xd9\x01\x02\x80", b"\xd8\x1c\x01", b"\xd8\x1d\x00")),
        ("simple", "Undefined, and simple values.",
         value(b"\xf7", b"\xe0", b"\xf3", b"\xf8\x20", b"\xf8\xff", b"\xf8\x14")),
        ("utf-8", "Texts that are not UTF-8: a lone byte, an overlong character, half a pair, beyond Unicode, cut.",
         value(b"\x61\xff", b"\x62\xc0\x80", b"\x63\xed\xa0\x80", b"\x64\xf4\x90\x80\x80", b"\x61\xc3")),
        ("deep", "Seven levels of maps and arrays, with and without something in the last one, and a hundred.",
         value(b"\x81" * 5 + b"\x00", b"\x81" * 4 + b"\xa1\x61a\x00", b"\x81" * 4 + b"\x80", b"\x81" * 98 + b"\x00")),
        ("lengths-beyond", "Lengths beyond the end of the payload.",
         value(b"\x5b\x7f" + b"\xff" * 7, b"\x9b\x7f" + b"\xff" * 7, b"\x7a\x00\x01\x00\x00")),
    ):  # fmt: skip
        yield bads(f"cbor/{slug}", what, [line.make(EVENT, payload) for payload in payloads])


def _types(line: Chain) -> list[tuple[Kind, Members]]:
    return [
        (KEY, key_change(NEXT_SESSION)), (CHECKPOINT, checkpoint(line)), (CATALOG, catalog()), (EVENT, event()),
        (LOSS, LOST), (GAP, SILENCE), (TIME, CLOCK), (CONFIG, CHANGE), (STOP, HALT), (DATA, data(BLOCK)),
    ]  # fmt: skip


def _without(members: Members) -> list[Members]:
    return [{key: value for key, value in members.items() if key != left_out} for left_out in members]


def _false(members: Members) -> list[Members]:
    return [{**members, key: False} for key in members]


def _members(line: Chain) -> Iterator[Case]:
    for kind, members in _types(line):
        yield bads(f"members/{kind[1]}-one-too-few", f"{kind[1]} without each of its members in turn.",
                   [line.make(kind, each) for each in _without(members)])  # fmt: skip
        if kind in (DATA, EVENT):
            yield bads(f"members/{kind[1]}-false", f"{kind[1]} with false for each of its members in turn.",
                       [line.make(kind, each) for each in _false(members)])  # fmt: skip
    fresh = Chain(FIRST, line.identity, SESSION)
    records = [fresh.make(EPOCH, each) for each in _without(epoch())]
    yield case("members/EPOCH-one-too-few", "EPOCH without each of its members in turn.", records, "G" * len(records),
               tail={})  # fmt: skip
    yield bads("members/TQ-one-too-few", "A TQ without each of its members in turn.",
               [line.make(STOP, {**HALT, 2: each}) for each in _without(TQ)])  # fmt: skip
    yield bads("members/buffer", "The buffer of a CHECKPOINT without a member, and with false.",
               [line.make(CHECKPOINT, {**checkpoint(line), 5: each}) for each in (
                   *_without({1: 0, 2: 4096, 3: 1}), *_false({1: 0, 2: 4096, 3: 1}), [0, 4096, 1])])  # fmt: skip
    yield bads("members/who", "Who changed a configuration, without a member, and with false.",
               [line.make(CONFIG, {**CHANGE, 2: each}) for each in (*_without(CHANGE[2]), *_false(CHANGE[2]))]
               )  # fmt: skip


def _contents(line: Chain) -> Iterator[Case]:
    def made(kind: Kind, members: Members, *changes: tuple[int, object]) -> list[bytes]:
        return [line.make(kind, {**members, key: value}) for key, value in changes]

    yield bads("types/event", "An EVENT with a time, a severity and data that are not.",
               made(EVENT, event(), (1, 2**63), (1, 1.0), (1, None), (3, -1), (3, 1.0), (5, []), (5, None))
               )  # fmt: skip
    yield bads("types/loss", "A LOSS that is backwards, of negative numbers, of a chain that is none.",
               made(LOSS, LOST, (1, 3), (1, -1), (3, 2**63), (5, -1), (7, -1), (8, "hash"), (9, None), (9, bytes(7)))
               )  # fmt: skip
    yield bads("types/gap", "A GAP of a negative group, without a beginning, with a status of 33 bits.",
               made(GAP, SILENCE, (1, -1), (2, None), (4, -1), (4, 2**32), (4, None), (5, None)))  # fmt: skip
    yield bads("types/time", "A TIME whose range is not two numbers.",
               made(TIME, CLOCK, (1, None), (3, None), (4, [1]), (4, []), (4, ["a", "b"]), (6, -1)))  # fmt: skip
    yield bads("types/config", "A CONFIG with changes that are not three texts.",
               made(CONFIG, CHANGE, (4, None), (6, [["path", "old"]]), (6, [["path", "old", None]]), (6, ["path"]),
                    (7, "approval")))  # fmt: skip
    yield bads("types/tq", "A TQ with negative numbers and other types.",
               [line.make(STOP, {**HALT, 2: {**TQ, key: value}}) for key, value in (
                   (1, -1), (2, "synchronized"), (3, -1), (4, None), (5, 2**63), (6, 0.5), (8, 2**63), (9, "GPS"),
                   (11, -1), (12, BOOT_ID.hex()))])  # fmt: skip
    yield bads("types/checkpoint", "A CHECKPOINT with a hash of 31 bytes, and with numbers that are negative.",
               made(CHECKPOINT, checkpoint(line), (1, -2), (2, bytes(31)), (5, {1: -1, 2: 0, 3: 0}), (6, -1))
               )  # fmt: skip
    fresh = Chain(FIRST, line.identity, SESSION)
    records = [fresh.make(EPOCH, {**epoch(), key: value}) for key, value in (
        (2, ["x"]), (3, -1), (4, [FIRST, 1]), (4, [FIRST[:7], 1, bytes(32)]), (4, [FIRST, 1, bytes(31)]), (9, []),
        (9, {"model": 1}), (11, -1))]  # fmt: skip
    yield case("types/epoch", "An EPOCH with certificates, a chain before and hardware that are not.", records,
               "G" * len(records), tail={})  # fmt: skip


def _blocks(line: Chain) -> Iterator[Case]:
    def blocks(slug: str, what: str, *wrong: object) -> Case:
        return bads(f"block/{slug}", what, [line.make(DATA, data(each)) for each in wrong])

    places, notes = Tag(69, b"\x00\x00\x03\x00"), [1, 0, 0, 900]
    changes = [2, 0, 0, 900]
    statuses: list[object] = [None, [[0, 1]], [[0, 0, 1]], [[0, 1, 0]], [[-1, 1, 1]], [[0, 1, 2**32]], [0], {}]
    one_time, two_times = Tag(79, bytes(8)), Tag(79, bytes(16))
    yield blocks("not-an-array", "Blocks that are no array.", None, 0, {}, "block", {0: 0})
    yield blocks("short", "A block of five items, and one without any.", BLOCK[:5], [])
    yield blocks("kind", "A kind that is not an unsigned number.", [-1, *BLOCK[1:]], [0.0, *BLOCK[1:]],
                 ["complete", *BLOCK[1:]], [None, *BLOCK[1:]], [False, *BLOCK[1:]])  # fmt: skip
    yield blocks("head", "A group, a time or a duration that is not.", [0, -1, *BLOCK[2:]], [0, None, *BLOCK[2:]],
                 [0, 0, 2**63, *BLOCK[3:]], [0, 0, 1.5, *BLOCK[3:]], [0, 0, 0, -1, *BLOCK[4:]])  # fmt: skip
    yield blocks("vectors", "Vectors that are no list, and a complete block with null for one.",
                 [*BLOCK[:4], FLOATS, []], [*BLOCK[:4], None, []], [*BLOCK[:4], [None], []])  # fmt: skip
    yield blocks(
        "vector-tags",
        "Typed arrays that are big-endian, clamped, of 16 bits, or none.",
        *([*BLOCK[:4], [Tag(number, bytes(16))], []] for number in (65, 68, 73, 81, 84, 40)),
    )
    yield blocks("vector-values", "Half a value, a typed array of text or numbers, bytes without a tag, numbers.",
                 *([*BLOCK[:4], [each], []] for each in
                   (Tag(85, bytes(7)), Tag(85, "text"), Tag(85, [1.0]), bytes(8), [1.0], ["a", None])))  # fmt: skip
    yield blocks("vector-tag-long", "The tag of a typed array in three bytes.",
                 [*BLOCK[:4], [Raw(head(6, 85, 2) + cbor(bytes(8)))], []])  # fmt: skip
    yield blocks("changes", "Changes without positions, in no order, twice at one place, of another type, too few.",
                 *([*changes, [each], []] for each in (
                     FLOATS, [places], [places, None], [None, FLOATS], [Tag(69, b""), Tag(85, b"")],
                     [Tag(69, b"\x03\x00\x00\x00"), FLOATS], [Tag(69, bytes(4)), FLOATS],
                     [Tag(70, bytes(8)), FLOATS], [[0, 3], FLOATS], [places, Tag(85, bytes(4))],
                     [places, ["a"]])))  # fmt: skip
    yield blocks("status", "A status that is no list of runs of codes that are not good.",
                 *([*BLOCK[:5], each] for each in statuses))  # fmt: skip
    yield blocks("notification-status", "A status beyond the values of a notification.",
                 [*notes, [[places, FLOATS]], [[1, 2, 0x80000000]]], [*notes, [None], [[0, 1, 0x80000000]]]
                 )  # fmt: skip
    yield blocks("source-times", "Source times of another tag, too few, too many, for too few vectors, null.",
                 [*BLOCK, [Tag(78, bytes(8))]], [*BLOCK, [one_time]], [*BLOCK, [Tag(79, bytes(24))]], [*BLOCK, []],
                 [*BLOCK, [two_times, None]], [*BLOCK, [None]], [*BLOCK, two_times], [*BLOCK, [[0, 0]]],
                 [*changes, [None], [], [one_time]])  # fmt: skip
    yield blocks("source-times-null", "Null where the source times are, and nothing that a later version knows.",
                 [*BLOCK, None])  # fmt: skip
    yield bads("block/second", "The second of two blocks is wrong.", [line.make(DATA, data(BLOCK, BLOCK[:4]))])
    yield bads("block/catalogue", "A digest of the catalogue that has seven bytes.",
               [line.make(DATA, {**data(), 4: bytes(7)})])  # fmt: skip


def _catalogs(line: Chain) -> Iterator[Case]:
    def tags(slug: str, what: str, *wrong: object) -> Case:
        return bads(f"catalog/{slug}", what, [line.make(CATALOG, catalog(each)) for each in wrong])

    group = catalog()[4][0]
    yield bads("catalog/parts", "Part 1 of 1, part 0 of 0, and a negative one.",
               [line.make(CATALOG, {**catalog(), 2: part, 3: parts}) for part, parts in ((1, 1), (0, 0), (-1, 1))]
               )  # fmt: skip
    yield bads("catalog/groups", "Groups with too few items, and with another type of one.",
               [line.make(CATALOG, {**catalog(), 4: [each]}) for each in (
                   group[:4], [-1, *group[1:]], ["0", *group[1:]], [*group[:3], 0.1, group[4]], [*group[:4], None],
                   {0: group}, None)])  # fmt: skip
    yield tags("tag-10", "A tag of ten items.", TAG[:10])
    yield tags("tag-false", "A tag with false for each of its items in turn.",
               *([*TAG[:at], False, *TAG[at + 1 :]] for at in range(11)))  # fmt: skip
    yield tags(
        "tag-integers",
        "Scale, offset, range and deadband as integers.",
        *([*TAG[:at], value, *TAG[at + 1 :]] for at, value in ((4, 1), (5, 0), (6, [0, 100]), (7, 0))),
    )
    yield tags(
        "tag-range", "A range of one number, and of none.", [*TAG[:6], [0.0], *TAG[7:]], [*TAG[:6], [], *TAG[7:]]
    )
    yield tags("enumeration", "Names of numbers: none, half a pair, in no order, twice, swapped, a map, null.",
               *([*TAG, each] for each in (
                   [], [0, "a", 1], [1, "b", 0, "a"], [0, "a", 0, "b"], ["a", 0], {0: "a"}, None)))  # fmt: skip
    yield bads("catalog/devices", "Devices that are part of a catalogue, or none, or with other items.",
               [line.make(CATALOG, {**devices(), key: value}) for key, value in (
                   (2, 1), (3, 1), (4, group), (6, []), (6, None), (6, [DEVICE[:6]]), (6, [[*DEVICE[:5], [], 0]]),
                   (6, [[*DEVICE[:5], {"a": 1}, 0]]), (6, [[*DEVICE[:5], {1: "a"}, 0]]), (6, [[None, *DEVICE[1:]]]),
                   (6, [[*DEVICE[:6], 0.0]]))])  # fmt: skip
    yield bads("catalog/devices-limits", "A text of 201 characters, as text and label, and 33 further texts.",
               [line.make(CATALOG, devices(each)) for each in (
                   [DEVICE[0], "x" * 201, *DEVICE[2:]], [*DEVICE[:5], {"a": "x" * 201}, 0],
                   [*DEVICE[:5], {"x" * 201: "a"}, 0],
                   [*DEVICE[:5], {str(number): "" for number in range(33)}, 0])])  # fmt: skip


def _keys(line: Chain) -> Iterator[Case]:
    key: Members = NEXT_SESSION.cose
    ed25519: Members = Key(4003, is_p256=False).cose
    x, y = int.from_bytes(key[-2], "big"), int.from_bytes(key[-3], "big")
    beyond = pow(POINT_X**3 - 3 * POINT_X + 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
                 (PRIME + 1) // 4, PRIME)  # fmt: skip
    rows: Sequence[tuple[str, str, *tuple[object, ...]]] = (
        ("off-curve", "A key that is not on its curve.", {**key, -3: (y ^ 1).to_bytes(32, "big")},
         {**key, -2: bytes(32), -3: bytes(32)}),
        ("coordinate-beyond", "A point on the curve with x written as x + p.",
         {**key, -2: (POINT_X + PRIME).to_bytes(32, "big"), -3: beyond.to_bytes(32, "big")}),
        ("wrong-curve", "A key that says P-384, P-521, secp256k1 or Ed25519.",
         *({**key, -1: number} for number in (2, 3, 8, 6))),
        ("wrong-type", "Other key types: symmetric, OKP, RSA, as a text, in two bytes.",
         {**key, 1: 4}, {**key, 1: 1}, {**key, 1: 3}, {**key, 1: "EC2"}, Raw(b"\xa4\x18\x01\x02" + cbor(key)[3:])),
        ("coordinates", "Coordinates that are too short, too long, compressed, swapped.",
         {**key, -2: bytes(31)}, {**key, -2: b"\x00" + x.to_bytes(32, "big")}, {**key, -3: bool(y & 1)},
         {1: 2, -1: 1, -2: key[-2]}, {**key, -2: key[-3], -3: key[-2]}),
        ("more-members", "A COSE_Key with more: key id, algorithm, operations, a number, a text, the private key.",
         {**key, 2: NEXT_SESSION.kid}, {**key, 3: -7}, {**key, 4: [2]}, {**key, 6: 0}, {**key, "x": 0},
         {**key, -4: bytes(32)}),
        ("order", "The members of a COSE_Key in another order.",
         Raw(b"\xa4\x20\x01\x01\x02" + cbor(key)[5:])),
        ("ed25519", "An Ed25519 key that is too short, says X25519 or Ed448, or has a y.",
         {**ed25519, -2: bytes(31)}, {**ed25519, -1: 4}, {**ed25519, -1: 7}, {**ed25519, -3: bytes(32)}),
        ("no-map", "A key that is an array, null or a byte string.", [2, 1], None, cbor(key)),
    )  # fmt: skip
    for slug, what, *wrong in rows:
        yield bads(f"cose-key/{slug}", what, [line.make(KEY, {1: each, 2: TQ}) for each in wrong])
    fresh = Chain(FIRST, line.identity, SESSION)
    off = {**key, -3: (y ^ 1).to_bytes(32, "big")}
    yield case("cose-key/epoch", "An EPOCH with a key off its curve, and with one that has grown.",
               [fresh.make(EPOCH, {**epoch(), 1: each}) for each in (off, {**key, 6: 0})], "GG", tail={})  # fmt: skip
    yield bads("cose-key/checkpoint", "A CHECKPOINT with a key off its curve, and with one that has grown.",
               [line.make(CHECKPOINT, {**checkpoint(line), 3: each}) for each in (off, {**key, 6: 0})])  # fmt: skip
    chain = begin()
    chain.add(KEY, {1: {**key, 6: 0}, 2: TQ})
    after = chain.make(EVENT, event(), key=NEXT_SESSION)
    yield case("cose-key/records-after", "A malformed KEY brings no key: the record after it waits for one.",
               [*chain.records, after], "AG?")  # fmt: skip
    chain.append(after)
    yield case("cose-key/old-key-goes-on", "A malformed KEY ends no key either: a record under the old one is right.",
               [*chain.records, chain.make(EVENT, event(3))], "AG?A", absent=[(FIRST, "MISSING", 1, 1)])  # fmt: skip
