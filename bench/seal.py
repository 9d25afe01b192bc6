"""I6: the cost of sealing and verifying 1,000 readings, and what packing saves: `python -m bench.seal`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from itertools import count

import cbor2
import numpy as np
from numpy.typing import NDArray

from bench.results import Row, store
from edge.model import SampleBlock
from edge.seal import Encoding, Record, RecordType, encode_data, parse
from edge.seal.codec import pack, unpack
from edge.seal.payloads import time_to_cbor
from edge.verify import Verifier
from tests.support.chains import BOOT_NS, CATALOGUE, TIME, UTC_NS, Plant, start

BLOCKS, TAGS = 10, 100
COMMAND = "python -m bench.seal"
Columns = NDArray[np.float32]


def took_us(work: Callable[[], object], repeats: int = 7, loops: int = 300) -> float:
    """The best mean of processor time: the machine is shared."""
    best_s = float("inf")
    for _ in range(repeats):
        begin_s = time.process_time()
        for _ in range(loops):
            work()
        best_s = min(best_s, time.process_time() - begin_s)
    return best_s / loops * 1e6


def payload(columns: Columns) -> bytes:
    """Ten scans of a hundred float32 tags."""
    return encode_data(utc_ns=UTC_NS, boot_ns=BOOT_NS, time=TIME, catalogue=CATALOGUE, blocks=scans(columns))


def scans(columns: Columns) -> list[SampleBlock]:
    ms = 10**6
    return [
        SampleBlock(0, BOOT_NS + at * 100 * ms, BOOT_NS + at * 100 * ms + 1_234_567, (values,))
        for at, values in enumerate(columns)
    ]


def process_like(dice: np.random.Generator, rows: int = BLOCKS, tags: int = TAGS) -> Columns:
    """Slow sensors: a level per tag, drift and noise, quantised as a 12-bit converter would."""
    level = dice.uniform(10, 90, tags)
    walk = np.cumsum(dice.normal(0, 0.02, (rows, tags)), axis=0)
    return np.round((level + walk) * 4096 / 100).astype(np.float32) * np.float32(100 / 4096)


def mixed(dice: np.random.Generator) -> Columns:
    """Half slow sensors, a quarter setpoints that do not move, a quarter that moves at random."""
    slow = process_like(dice, tags=TAGS // 2)
    still = np.tile(dice.integers(0, 100, TAGS // 4).astype(np.float32), (BLOCKS, 1))
    return np.hstack([slow, still, dice.random((BLOCKS, TAGS - TAGS // 2 - TAGS // 4), np.float32)])


def compare_packing() -> None:
    """Print bytes and CPU of each packing for each kind of values."""
    dice = np.random.default_rng(1)
    kinds: dict[str, Columns] = {
        "all moving at random": dice.random((BLOCKS, TAGS), np.float32),
        "slow, as a process": process_like(dice),
        "mixed": mixed(dice),
    }
    print("| values | packing | bytes of 4,000 | per reading | pack us | unpack us | ns saved-byte |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind, columns in kinds.items():
        plain = payload(columns)
        for enc in Encoding:
            used, packed = pack(plain, enc)
            pack_us = took_us(lambda plain=plain, enc=enc: pack(plain, enc))  # type: ignore[misc]
            unpack_us = took_us(lambda packed=packed, used=used: unpack(packed, used))  # type: ignore[misc]
            saved = len(plain) - len(packed)
            price = f"{pack_us * 1000 / saved:.0f}" if saved else "-"
            name = enc.name.lower() + ("" if enc is Encoding.PLAIN else "-1")
            each = len(packed) / BLOCKS / TAGS
            print(f"| {kind} | {name} | {len(packed)} | {each:.2f} | {pack_us:.1f} | {unpack_us:.1f} | {price} |")


def compare_encoders() -> None:
    """Our encoder for sample blocks, compared with cbor2 on the same data."""
    blocks = scans(np.random.default_rng(1).random((BLOCKS, TAGS), np.float32))

    def by_cbor2() -> bytes:
        members = [
            [0, b.group, b.sampled_at_ns - BOOT_NS, -((b.asked_at_ns - b.answered_at_ns) // 1000),
             [cbor2.CBORTag(85, v.tobytes()) for v in b.vectors], []] for b in blocks
        ]  # fmt: skip
        whole = {1: UTC_NS, 2: BOOT_NS, 3: time_to_cbor(TIME), 4: CATALOGUE, 5: members}
        return cbor2.dumps(whole, canonical=True)

    def ours() -> bytes:
        return encode_data(utc_ns=UTC_NS, boot_ns=BOOT_NS, time=TIME, catalogue=CATALOGUE, blocks=blocks)

    assert ours() == by_cbor2()
    print(f"encoding {BLOCKS} scans: ours {took_us(ours):.1f} us, cbor2 {took_us(by_cbor2):.1f} us")


def sealed(count_: int) -> tuple[Plant, list[Record]]:
    """A chain of records of 1,000 readings each."""
    plant = start()
    dice = np.random.default_rng(1)
    for _ in range(count_):
        columns = dice.random((BLOCKS, TAGS), np.float32)
        plant.records.append(plant.chain.seal(RecordType.DATA, payload(columns)))
    return plant, plant.records


def verify_us(*, fast: bool) -> float:
    """Per record, of a chain of 300 with a checkpoint at its end."""
    plant, records = sealed(300)
    records.append(plant.chain.checkpoint(TIME))
    best_us = float("inf")
    for _ in range(7):
        verifier = Verifier(plant.trust, fast=fast)
        begin_s = time.process_time()
        for record in records:
            verifier.add(record.data)
        best_us = min(best_us, (time.process_time() - begin_s) / len(records) * 1e6)
    return best_us


def main() -> None:
    compare_packing()
    print()
    compare_encoders()
    plant, records = sealed(2)
    data = records[1].data
    dice = np.random.default_rng(2)
    columns = [dice.random((BLOCKS, TAGS), np.float32) for _ in range(32)]
    turn = count()
    seal_us = took_us(lambda: plant.chain.seal(RecordType.DATA, payload(columns[next(turn) % 32])))
    hash_us = took_us(lambda: (parse(data), hashlib.sha256(data).digest()))
    envelope = len(data) - len(parse(data).payload)
    store(
        [
            Row(figure="I6 envelope", goal="<= 200 B", measured=f"{envelope} B", command=COMMAND),
            Row(figure="I6 seal", goal="<= 300 us", measured=f"{seal_us:.0f} us with encoding", command=COMMAND),
            Row(figure="I6 verify", goal="<= 200 us", measured=f"{verify_us(fast=False):.0f} us", command=COMMAND),
            Row(figure="I6 hash only", goal="<= 10 us", measured=f"{hash_us:.1f} us", command=COMMAND),
            Row(figure="I7 fast mode", goal="<= 46 us", measured=f"{verify_us(fast=True):.0f} us a record",
                command=COMMAND),
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
