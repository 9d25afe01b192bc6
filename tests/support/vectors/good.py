"""Records of every type as a gateway writes them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from tests.support.vectors.content import (
    BLOCK,
    CALIBRATED,
    CHANGE,
    CLOCK,
    CLOSED,
    DEVICE,
    ED_IDENTITY,
    ED_SESSION,
    FIRST,
    FLOATS,
    HALT,
    LOST,
    NEXT_SESSION,
    OPEN,
    SECOND,
    SILENCE,
    TAG,
    THIRD,
    TQ,
    UTC_NS,
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
from tests.support.vectors.wire import (
    CATALOG,
    CHECKPOINT,
    CONFIG,
    CONTEXT,
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
    Tag,
)

_I64 = struct.Struct("<q")


def cases() -> Iterator[Case]:
    """Good records."""
    line = begin()
    yield case("good/epoch", "A chain that has just begun.", line.records, "A", wholly=True)
    for number, word in ((2, "store lost"), (3, "rollback suspected"), (4, "identity renewed"), (5, "operator")):
        yield case(f"good/epoch-reason-{number}", f"An EPOCH with the reason {word}.", begin(m3=number).records, "A",
                   wholly=True)  # fmt: skip
    full = begin(m5="1.2.3", m6=bytes(32), m7=b"\x01" * 32, m8=bytes(range(16)), m9={"model": "box", "serial": "17"})
    yield case("good/epoch-full", "An EPOCH that says what it can.", full.records, "A", wholly=True)
    yield good("good/heartbeat", "A DATA without blocks.", line.make(DATA, data()))
    yield from _blocks(line)
    yield goods("good/catalog", "CATALOG of a tag, of one whose numbers have names, of one without a range, of none.",
                CATALOG, [catalog(), catalog([*TAG, [-1, "fault", 0, "off", 1, "on"]]),
                          catalog([*TAG[:6], None, *TAG[7:]]), {**catalog(), 4: []}])  # fmt: skip
    yield goods("good/catalog-parts", "A CATALOG of two parts, with a group that goes on in the second.",
                CATALOG, [{**catalog(), 3: 2}, {**catalog(), 2: 1, 3: 2}])  # fmt: skip
    yield goods("good/devices", "CATALOG that say who devices are, one with the most texts and the longest.", CATALOG, [
        devices(), devices(DEVICE, ["plc-2", *[""] * 4, {}, -1]),
        devices([*DEVICE[:5], {f"{number}": "ü" * 200 * (number == 1) for number in range(32)}, UTC_NS])])  # fmt: skip
    yield goods("good/calibrations", "CATALOG that say how instruments are calibrated, one with little of it and none.",
                CATALOG, [calibrations(),
                          calibrations(CALIBRATED, ["plc-1", "p", "", "", "C", None, None, "", 0],
                                       ["plc-1", "q", "", "", "", None, None, "", -1])])  # fmt: skip
    yield from _events(line)
    yield good("good/loss", "Records that were lost.", line.make(LOSS, LOST))
    yield good("good/loss-unknown-times", "A LOSS of which times and readings are not known.",
               line.make(LOSS, {**LOST, 3: None, 4: None, 6: None, 7: 2, 8: bytes(32)}))  # fmt: skip
    yield good("good/gap", "A group was silent for a second.", line.make(GAP, SILENCE))
    yield good("good/gap-open", "All groups are silent, and it is not over.",
               line.make(GAP, {**SILENCE, 1: None, 3: None}))  # fmt: skip
    yield good("good/time", "The clock was set by 5 ns.", line.make(TIME, CLOCK))
    yield good("good/time-correction", "Times in a range of boot time are to be corrected.",
               line.make(TIME, {**CLOCK, 4: [10**9, 2 * 10**9], 5: 300, 6: 1000}))  # fmt: skip
    yield good("good/time-states", "A clock that free-runs after a leap second, before 1970.",
               line.make(TIME, {**CLOCK, 2: {**TQ, 1: 4, 2: 3, 3: None, 5: -1, 6: -(2**63), 7: 1, 8: None, 11: 0x21,
                                             9: b"", 12: b""}}))  # fmt: skip
    yield good("good/config", "A new configuration.", line.make(CONFIG, CHANGE))
    yield good("good/config-approved", "A new configuration with an approval and no listed change.",
               line.make(CONFIG, {**CHANGE, 6: [], 7: b"approval"}))  # fmt: skip
    yield goods("good/config-kept", "A new configuration with a part of itself, and the same as the first on record.",
                CONFIG, [{**CHANGE, 8: [1, 2, b"\x1f\x8b", 9]}, {**CHANGE, 4: b"", 8: [0, 1, b"", None]}])  # fmt: skip
    yield goods("good/context", "A unit with an unknown phase, without a batch, and with an unknown batch.", CONTEXT, [
                    {1: 9, 2: "reactor-1", 3: {"batch": "B-1", "phase": None}, 4: UTC_NS, 5: UTC_NS + 5,
                     6: {"batch": ["plc", "id"], "phase": ["plc", "phase"]}},
                    {1: 9, 2: "reactor-1", 3: {"batch": ""}, 4: UTC_NS, 5: UTC_NS, 6: {}},
                    {1: 2**64 - 1, 2: "", 3: {"batch": None}, 4: -1, 5: 0, 6: {}},
                ])  # fmt: skip
    for number, word in ((1, "operator"), (2, "update"), (3, "fault")):
        yield good(f"good/stop-{number}", f"A STOP with the reason {word}: the chain is closed.",
                   line.make(STOP, {**HALT, 1: number}), tail=CLOSED)  # fmt: skip
    yield from _keys(line)
    yield from _headers(line)
    yield _day()


def _blocks(line: Chain) -> Iterator[Case]:
    arrays: list[object] = [Tag(number, bytes(range(1, 9))) for number in (64, 69, 70, 71, 72, 77, 78, 79, 85, 86)]
    places = Tag(69, b"\x00\x00\x03\x00")
    times = Tag(79, _I64.pack(-5) + _I64.pack(-(2**63)))
    for name, what, *blocks in (
        ("blocks", "Complete blocks, the second sampled before the first.", BLOCK, [0, 1, -(10**6), 0, [], []]),
        ("block-types", "Every typed array, texts, and an array without values.",
         [*BLOCK[:4], [*arrays, ["", "on", "größer"], Tag(85, b"")], []]),
        ("block-status", "A tag that is bad, and two that are uncertain.",
         [*BLOCK[:5], [[0, 1, 0x80000000], [2, 2, 0x40000000]]]),
        ("block-source-times", "Source times, and a value that has none.", [*BLOCK, [times]]),
        ("block-contexts", "A context, one that is not known, a change of it, and source times with a context.",
         [*BLOCK, None, 9], [*BLOCK, None, 0], [*BLOCK, None, [0, 9]], [*BLOCK, [times], 2**64 - 1]),
        ("block-changes", "Changes of two tags, of texts, with source times, and of nothing.",
         [2, 0, 0, 900, [None, [places, FLOATS]], []], [2, 0, 0, 900, [[places, ["a", "b"]]], []],
         [2, 0, 0, 900, [None, [places, FLOATS]], [], [None, times]], [2, 0, 0, 900, [None, None], []]),
        ("block-notifications", "A notification in which a tag changed twice, and one without values, a sign of life.",
         [1, 0, 0, 900, [[Tag(69, b"\x03\x00\x03\x00"), FLOATS]], [[1, 1, 0x80000000]]], [1, 0, 0, 900, [None], []]),
    ):  # fmt: skip
        yield good(f"good/{name}", what, line.make(DATA, data(*blocks)))
    yield good("good/data-before-1970", "A DATA whose clock was wrong by decades.", line.make(DATA, data(BLOCK, t0=-1)))


def _events(line: Chain) -> Iterator[Case]:
    values: dict[str, Any] = {
        "least": -(2**63), "most": 2**64 - 1, "true": True, "null": None, "bytes": b"\x00\xff", "text": "Größe",
        "list": [1, [2]], "map": {"b": 1, "a": 2, "aa": 3},
    }  # fmt: skip
    floats = [0.0, -0.0, 1.5, 65504.0, 65536.0, 5.960464477539063e-8, 0.1, 1e300, 5e-324, 3.4028234663852886e38,
              float("inf"), float("-inf"), float("nan")]  # fmt: skip
    yield goods("good/events", "An information, a warning and an error.", EVENT,
                [{**event(), 3: severity} for severity in (1, 2, 3)])  # fmt: skip
    yield good("good/event-data", "An EVENT with data of every kind.", line.make(EVENT, event(**values)))
    yield good("good/event-floats", "Floating-point numbers, each in its shortest form.",
               line.make(EVENT, event(floats=floats)))  # fmt: skip
    yield good("good/event-deep", "Six levels of maps and arrays.", line.make(EVENT, event(deep=[[[[0]]]])))
    yield good("good/event-sizes", "Texts and arrays whose heads take one, two and three bytes.",
               line.make(EVENT, event(t23="x" * 23, t24="x" * 24, t256="x" * 256, a23=[0] * 23, a24=[0] * 24,
                                      numbers=[23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, -24, -25, -256, -257]))
               )  # fmt: skip


def _keys(line: Chain) -> Iterator[Case]:
    yield good("good/key", "A KEY.", line.make(KEY, key_change(NEXT_SESSION)))
    yield good("good/checkpoint", "A CHECKPOINT.", line.make(CHECKPOINT, checkpoint(line)))
    yield good("good/esp256", "ES256 under its other name, ESP256.", line.make(EVENT, event(), alg=-9))
    yield good("good/checkpoint-esp256", "A CHECKPOINT that says ESP256.",
               line.make(CHECKPOINT, checkpoint(line), alg=-9))  # fmt: skip
    chain = begin(session=ED_SESSION)
    chain.add(EVENT, event())
    chain.add(KEY, key_change(NEXT_SESSION))
    chain.session = NEXT_SESSION
    chain.add(EVENT, event())
    yield case("good/ed25519-session", "An Ed25519 session key, and a P-256 one after it.", chain.records, "AAAA",
               wholly=True)  # fmt: skip
    chain = begin(identity=ED_IDENTITY)
    chain.add(EVENT, event())
    chain.add(CHECKPOINT, checkpoint(chain))
    yield case("good/ed25519-identity", "An Ed25519 identity.", chain.records, "AAA", trust="line-4-ed25519",
               wholly=True)  # fmt: skip


def _headers(line: Chain) -> Iterator[Case]:
    yield good("good/kid-is-a-hint", "The key allowed here has signed it; the key id is another one, which proves "
               "nothing.", line.make(EVENT, event(), kid=bytes(8)))  # fmt: skip
    yield good("good/checkpoint-kid-is-a-hint", "A CHECKPOINT with the id of no key.",
               line.make(CHECKPOINT, checkpoint(line), kid=bytes(8)))  # fmt: skip
    for seq in (23, 24, 255, 256, 65536, 2**32, 2**53 - 1):
        yield case(f"good/seq-{seq}", f"A record with seq {seq}, and those before it are missing.",
                   [*line.records, line.make(EVENT, event(), seq=seq, prev=b"\x01" * 32)], "AA",
                   absent=[(FIRST, "MISSING", 1, seq - 1)])  # fmt: skip


def _day() -> Case:
    """Every type once, in two chains."""
    chain = begin()
    chain.add(CATALOG, catalog())
    chain.add(CATALOG, devices())
    chain.add(CONFIG, CHANGE)
    chain.add(EVENT, event())
    chain.add(DATA, data(BLOCK))
    chain.add(GAP, SILENCE)
    chain.add(TIME, CLOCK)
    chain.add(KEY, key_change(NEXT_SESSION))
    chain.session = NEXT_SESSION
    chain.add(DATA, data(BLOCK, BLOCK))
    chain.add(CHECKPOINT, checkpoint(chain))
    chain.add(STOP, HALT)
    after = Chain(SECOND, chain.identity, chain.session)
    after.add(EPOCH, epoch(NEXT_SESSION, counter=3, m4=[FIRST, chain.seq - 1, chain.prev]))
    after.add(LOSS, {**LOST, 9: THIRD})
    return case(
        "good/day", "A chain with every type, and the next, which says that records of an earlier one were lost.",
        [*chain.records, *after.records], "A" * 14, tail={FIRST: CLOSED, SECOND: OPEN}, wholly=True,
    )  # fmt: skip
