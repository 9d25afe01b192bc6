"""A real mosquitto, and a gateway's chain to send through it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edge.clock import TimeQuality, TimeSource, TimeState
from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, SampleBlock
from edge.seal import (
    Chain,
    EncodedCatalogue,
    IdentityKey,
    MemoryCounter,
    Record,
    RecordType,
    catalogue_digest,
    encode_data,
    issuer_of,
    load_or_create_identity,
    public_path_of,
)
from tests.support.mosquitto import running_mosquitto

CATALOGUE = Catalogue(
    path="acme/basel/line-4",
    groups=(
        CatalogueGroup(
            device="mixer",
            name="100 ms",
            interval_ns=10**8,
            tags=(
                CatalogueTag(name="temperature", data_type=DataType.FLOAT32, address="holding 1", unit="Cel"),
                CatalogueTag(name="count", data_type=DataType.UINT32, address="holding 3", scale=0.5),
            ),
        ),
    ),
)
BOOT_NS = 5_000 * 10**9


@dataclass
class Plant:
    """A gateway without devices: seals what a test asks for."""

    name: str
    trust: Path
    chain: Chain
    records: list[Record] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path, name: str = "line-4") -> Plant:
        key = folder / f"{name}.pem"
        identity, _ = load_or_create_identity(key, issuer=issuer_of(name), counter=MemoryCounter())
        return cls.begin(name, identity, public_path_of(key))

    @classmethod
    def begin(cls, name: str, identity: IdentityKey, trust: Path) -> Plant:
        chain, epoch = Chain.start(identity, issuer=issuer_of(name), time=quality(), now_boot_ns=BOOT_NS)
        plant = cls(name, trust, chain, [epoch])
        for payload in EncodedCatalogue.of(CATALOGUE).payloads:
            plant.seal(RecordType.CATALOG, payload)
        return plant

    def seal(self, kind: RecordType, payload: bytes) -> Record:
        record = self.chain.seal(kind, payload)
        self.records.append(record)
        return record

    def scan(self, number: int, utc_ns: int | None = None) -> Record:
        """One complete scan whose count is `number`."""
        block = SampleBlock(
            group=0,
            asked_at_ns=BOOT_NS + number * 1000,
            answered_at_ns=BOOT_NS + number * 1000 + 400,
            vectors=(np.array([number], np.uint32), np.array([number / 4], np.float32)),
        )
        payload = encode_data(
            utc_ns=time.time_ns() if utc_ns is None else utc_ns,
            boot_ns=block.sampled_at_ns,
            time=quality(),
            catalogue=catalogue_digest(CATALOGUE),
            blocks=[block],
        )
        return self.seal(RecordType.DATA, payload)

    def checkpoint(self) -> Record:
        record = self.chain.checkpoint(quality())
        self.records.append(record)
        return record

    def roll(self) -> Record:
        record = self.chain.roll(quality(), BOOT_NS)
        self.records.append(record)
        self.chain.roll_is_durable()
        return record

    def stop(self) -> None:
        self.records += self.chain.stop(quality())

    def topic(self, record: Record) -> str:
        if record.type is RecordType.CHECKPOINT:
            return f"tidegate/v1/{self.name}/checkpoint"
        return f"tidegate/v1/{self.name}/r/{record.type.name.lower()}"


def quality() -> TimeQuality:
    return TimeQuality(
        source=TimeSource.CHRONY, state=TimeState.SYNCHRONIZED, bound_ns=1_000, drift_ppb=0, as_of_ns=BOOT_NS,
        offset_ns=0, boot_id=b"b" * 16,
    )  # fmt: skip


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant.start(tmp_path)


@pytest.fixture
def mosquitto_port(tmp_path: Path) -> Iterator[int]:
    """A mosquitto that lets much wait, as in configs/dmz; nobody may write below `forbidden`."""
    with running_mosquitto(
        tmp_path, "topic readwrite #\ntopic deny forbidden/#\n", "max_inflight_messages 512\n"
    ) as port:
        yield port
