"""Keys, trust anchors and payloads that the cases are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from tests.support.vectors.wire import EPOCH, Case, Chain, Key, Kind, Tag, cbor

BOOT_NS = 1000
UTC_NS = 17 * 10**17  # 2023-11-14, 22:13:20 UTC
BOOT_ID = b"boot"
ISSUER = "urn:tidegate:line-4"
FIRST, SECOND, THIRD = b"chain--1", b"chain--2", b"chain--3"

IDENTITY, SESSION, NEXT_SESSION, THIRD_SESSION = Key(1001), Key(2001), Key(2002), Key(2003)
STRANGER, OTHER_GATEWAY, SECOND_IDENTITY = Key(3001), Key(1002), Key(1003)
ED_IDENTITY, ED_SESSION = Key(4001, is_p256=False), Key(4002, is_p256=False)

TRUST: dict[str, str] = {
    "line-4": IDENTITY.pem(ISSUER),
    "line-5": OTHER_GATEWAY.pem("urn:tidegate:line-5"),
    "line-4-second": SECOND_IDENTITY.pem(ISSUER),
    "line-4-ed25519": ED_IDENTITY.pem(ISSUER),
}

TQ: dict[int, object] = {
    1: 1, 2: 1, 3: 200_000, 4: 500, 5: BOOT_NS, 6: UTC_NS - BOOT_NS, 7: 0, 8: 37, 9: b"GPS", 10: 1,
    11: None, 12: BOOT_ID,
}  # fmt: skip
DIGEST = bytes(range(8))
FLOATS = Tag(85, bytes.fromhex("0000803f00000040"))  # 1.0 and 2.0
BLOCK: list[object] = [0, 0, 0, 900, [FLOATS], []]
TAG: list[object] = ["flow", 9, "40001", "m3/h", 0.5, 0.0, [0.0, 100.0], 0.25, 0, 60 * 10**9, "feed pump"]
DEVICE: list[object] = ["plc-1", "Acme", "PLC 5", "1.2", "", {"rack": "3"}, UTC_NS]

Members = dict[Any, Any]


def epoch(session: Key = SESSION, counter: int = 1, **more: Any) -> Members:
    """The payload of an EPOCH; `more` are members by number, as m4."""
    members = {
        1: session.cose, 2: [], 3: 1, 4: None, 5: "", 6: b"", 7: b"", 8: BOOT_ID, 9: {}, 10: TQ,
        11: counter,
    }  # fmt: skip
    return {**members, **{int(name[1:]): value for name, value in more.items()}}


def checkpoint(chain: Chain, counter: int = 2, session: Key | None = None) -> Members:
    """The payload of a CHECKPOINT at the next place of a chain."""
    session = session or chain.session
    return {1: chain.seq, 2: chain.prev, 3: session.cose, 4: TQ, 5: {1: 0, 2: 4096, 3: 1}, 6: counter}


def key_change(session: Key) -> Members:
    """The payload of a KEY."""
    return {1: session.cose, 2: TQ}


def data(*blocks: object, t0: int = UTC_NS) -> Members:
    """The payload of a DATA, without blocks a heartbeat."""
    return {1: t0, 2: BOOT_NS, 3: TQ, 4: DIGEST, 5: list(blocks)}


def event(number: int = 0, **values: Any) -> Members:
    """The payload of an EVENT."""
    return {1: UTC_NS + number, 2: "device.up", 3: 1, 4: "plc-1", 5: values}


def catalog(*tags: object) -> Members:
    """The payload of a CATALOG of one group."""
    return {1: DIGEST, 2: 0, 3: 1, 4: [[0, "plc-1", "fast", 10**8, list(tags or [TAG])]], 5: "plant/line-4"}


def devices(*entries: object) -> Members:
    """The payload of a CATALOG of devices."""
    return {1: DIGEST, 2: 0, 3: 0, 4: [], 5: "plant/line-4", 6: list(entries or [DEVICE])}


CALIBRATED = ["plc-1", "temperature", "TT-101", "S-77", "C-2026/17", 20_543, 20_908, "0.5 Cel", UTC_NS]


def calibrations(*entries: object) -> Members:
    """The payload of a CATALOG of calibrations."""
    path = "plant/line-4"
    digest = hashlib.sha256(cbor([path, []])).digest()[:8]
    return {1: digest, 2: 0, 3: 1, 4: [], 5: path, 7: list(entries or [CALIBRATED])}


LOST: Members = {1: 1, 2: 2, 3: UTC_NS, 4: UTC_NS + 1, 5: 2, 6: 8, 7: 1, 8: b""}
SILENCE: Members = {1: 0, 2: UTC_NS, 3: UTC_NS + 10**9, 4: 0x80310000, 5: "no answer"}
CLOCK: Members = {1: {**TQ, 2: 0, 3: None}, 2: TQ, 3: -5, 4: None, 5: None, 6: None}
CHANGE: Members = {
    1: UTC_NS, 2: {1: "root", 2: "engineer", 3: b"\x01"}, 3: "new pump", 4: b"\x01" * 32, 5: b"\x02" * 32,
    6: [["devices[0].name", "a", "b"]], 7: None,
}  # fmt: skip
HALT: Members = {1: 1, 2: TQ}


def begin(epoch_id: bytes = FIRST, *, identity: Key = IDENTITY, session: Key = SESSION, issuer: str = ISSUER,
          **members: Any) -> Chain:  # fmt: skip
    """A chain with its EPOCH."""
    chain = Chain(epoch_id, identity, session, issuer)
    chain.add(EPOCH, epoch(session, **members))
    return chain


_WORDS = {
    "A": "AUTHENTIC", "L": "LINKED", "X": "ALTERED", "U": "UNTRUSTED", "F": "FORK", "G": "GARBAGE", "D": "DUPLICATE",
    "?": "UNVERIFIABLE",
}  # fmt: skip
OPEN, CLOSED, TRUNCATED = "TAIL_UNKNOWN", "CLOSED", "TRUNCATED"


def case(
    name: str, what: str, records: list[bytes], verdicts: str, *, trust: str = "line-4", unknown: int = 0,
    absent: list[tuple[bytes, str, int, int]] | None = None, tail: dict[bytes, str] | None = None, wholly: bool = False,
) -> Case:  # fmt: skip
    """A case; a verdict is a letter. Without `tail` there is one chain, and it cannot be known how it goes on."""
    assert len(records) == len(verdicts), name
    return Case(
        name, what, list(records), [_WORDS[each] for each in verdicts], trust.split(), unknown,
        [[epoch_id.hex(), *rest] for epoch_id, *rest in absent or []],
        {each.hex(): word for each, word in ({FIRST: OPEN} if tail is None else tail).items()}, wholly,
    )  # fmt: skip


def good(name: str, what: str, record: bytes, *, unknown: int = 0, tail: str = OPEN) -> Case:
    """The usual EPOCH and a record that is right."""
    return case(name, what, [*begin().records, record], "AA", unknown=unknown, tail={FIRST: tail}, wholly=True)


def bad(name: str, what: str, record: bytes, verdict: str = "G") -> Case:
    """The usual EPOCH and a record that is wrong."""
    return case(name, what, [*begin().records, record], "A" + verdict)


def bads(name: str, what: str, records: list[bytes], verdict: str = "G") -> Case:
    """The usual EPOCH and records for the same place that are wrong."""
    return case(name, what, [*begin().records, *records], "A" + verdict * len(records))


def goods(name: str, what: str, kind: Kind, payloads: Sequence[object], *, unknown: int = 0, tail: str = OPEN) -> Case:
    """The usual EPOCH and records of one type after it that are right."""
    chain = begin()
    for payload in payloads:
        chain.add(kind, payload)
    return case(name, what, chain.records, "A" * len(chain.records), unknown=unknown, tail={FIRST: tail}, wholly=True)
