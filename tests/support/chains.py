"""Chains for tests and benchmarks."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.clock import TimeQuality, TimeSource, TimeState
from edge.model import SampleBlock
from edge.relay.record_stream import split
from edge.seal import (
    Chain,
    ChainRules,
    Encoding,
    Event,
    IdentityKey,
    MemoryCounter,
    Record,
    RecordType,
    encode,
    encode_data,
    issuer_of,
)
from edge.seal.keys import SigningKey
from edge.verify import Trust

BOOT_NS = 10**12
UTC_NS = 17 * 10**17
CATALOGUE = bytes(range(8))
TIME = TimeQuality(
    source=TimeSource.CHRONY, state=TimeState.SYNCHRONIZED, bound_ns=200_000, as_of_ns=BOOT_NS,
    offset_ns=UTC_NS - BOOT_NS, reference=b"\xc0\x00\x02\x01", stratum=3, boot_id=bytes(16),
)  # fmt: skip


@dataclass
class Plant:
    """A chain of a gateway, and the trust anchor for it."""

    identity: IdentityKey
    chain: Chain
    records: list[Record]

    @property
    def trust(self) -> Trust:
        """The identity, pinned to the gateway."""
        trust = Trust()
        trust.pin(self.identity.public, self.chain.issuer)
        return trust


def new_identity() -> IdentityKey:
    """An identity in memory."""
    return IdentityKey(SigningKey.generate(), MemoryCounter())


def start(name: str = "line-4", *, identity: IdentityKey | None = None, encoding: Encoding = Encoding.PLAIN) -> Plant:
    """A chain that has just begun."""
    identity = identity or new_identity()
    rules = ChainRules(encoding=encoding)
    chain, epoch = Chain.start(identity, issuer=issuer_of(name), time=TIME, now_boot_ns=BOOT_NS, rules=rules)
    return Plant(identity, chain, [epoch])


def data(number: int, tags: int = 4, blocks: int = 1) -> bytes:
    """A DATA payload; each number gives another one."""
    values = np.arange(number, number + tags, dtype=np.float32)
    at_ns = BOOT_NS + number * 10**8
    scans = [SampleBlock(0, at_ns + each, at_ns + each + 900_000, (values,)) for each in range(blocks)]
    return encode_data(utc_ns=UTC_NS + number * 10**8, boot_ns=at_ns, time=TIME, catalogue=CATALOGUE, blocks=scans)


def grow(plant: Plant, count: int, *, checkpoint_every: int = 20, roll_every: int = 33, stop: bool = True) -> Plant:
    """Append data and events, checkpoints, changes of the session key, and a clean stop."""
    chain, records = plant.chain, plant.records
    for number in range(1, count):
        if number % checkpoint_every == 0:
            records.append(chain.checkpoint(TIME))
        elif number % roll_every == 0:
            records.append(chain.roll(TIME, BOOT_NS))
            chain.roll_is_durable()
        elif number % 7 == 0:
            event = Event(at_ns=UTC_NS + number * 10**8, kind="device.up", subject=f"device-{number}")
            records.append(chain.seal(RecordType.EVENT, encode(event)))
        else:
            records.append(chain.seal(RecordType.DATA, data(number)))
    if stop:
        records += chain.stop(TIME)
    return plant


def archived_records(folder: Path) -> list[bytes]:
    """The records in a gateway's folder of an archive, in order of arrival; bytes between records come as one piece."""
    files = [path.read_bytes() for path in sorted(folder.glob("*.rec"))]
    return [data[piece.offset : piece.end] for data in files for piece in split(io.BytesIO(data))]
