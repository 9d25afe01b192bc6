"""What an archive says: values with the time they were sampled, and what the gateway declares missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, SampleBlock, StatusCode
from edge.seal import (
    EncodedCatalogue,
    Gap,
    Loss,
    LossReason,
    Record,
    RecordType,
    catalogue_digest,
    encode,
    encode_data,
)
from hil.criteria import account
from hil.devices import Served
from hil.evidence import Archived, Evidence, Observed, gather
from tests.faults.hil.conftest import ROOT
from tests.support import chains
from tests.support.chains import BOOT_NS, TIME, UTC_NS, Plant

RIG = ROOT / "hil/rigs/simulated.yaml"
GROUPS = tuple(
    CatalogueGroup(device=name, name="fast", interval_ns=10**9, tags=(CatalogueTag(name="n", data_type=DataType.UINT32,
                                                                                  address="a"),))
    for name in ("plc", "drive")
)  # fmt: skip
CATALOGUE = Catalogue(path="acme/basel", groups=GROUPS)
SECOND_NS = 10**9


class Writer:
    """Writes an archive whose scans are a second apart, each holding its number."""

    def __init__(self, folder: Path) -> None:
        self.plant: Plant = chains.start()
        self.folder = folder
        self.keep(RecordType.CATALOG, *EncodedCatalogue.of(CATALOGUE).payloads)

    def keep(self, kind: RecordType, *payloads: bytes) -> None:
        self.plant.records += [self.plant.chain.seal(kind, payload) for payload in payloads]

    def scan(self, number: int, *, positions: tuple[int, ...] | None = None, bad: bool = False) -> None:
        at_ns = BOOT_NS + number * SECOND_NS
        block = SampleBlock(
            0, at_ns - 1000, at_ns + 1000, (np.array([number] if positions != () else [], np.uint32),),
            None if positions is None else (np.array(positions, np.uint16),),
            ((0, 1, int(StatusCode.BAD_NO_COMMUNICATION)),) if bad else (),
        )  # fmt: skip
        payload = encode_data(
            utc_ns=UTC_NS + number * SECOND_NS, boot_ns=at_ns, time=TIME, catalogue=catalogue_digest(CATALOGUE),
            blocks=[block],
        )  # fmt: skip
        self.keep(RecordType.DATA, payload)

    def gap(self, group: int | None, first: int, last: int | None, *, off_ns: int = 0) -> None:
        to_ns = None if last is None else UTC_NS + last * SECOND_NS
        gap = Gap(group=group, from_ns=UTC_NS + first * SECOND_NS + off_ns, to_ns=to_ns, status=0x80310000)
        self.keep(RecordType.GAP, encode(gap))

    def evidence(self, records: list[Record] | None = None) -> Evidence:
        archive = self.folder / "archive"
        rig = RIG.read_text().replace("name: bioreactor-1", "name: plc").replace("name: meter-1", "name: drive")
        (self.folder / "rig.yaml").write_text(rig)
        (self.folder / "observed.json").write_bytes(Observed().to_json())
        (archive / "line-4").mkdir(parents=True)
        kept = self.plant.records if records is None else records
        (archive / "line-4" / "2026-01-31.rec").write_bytes(b"".join(record.data for record in kept))
        trust = self.folder / "gateway.pub.pem"
        trust.write_bytes(self.plant.identity.public_pem(self.plant.chain.issuer))
        return gather(self.folder)


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


def unaccounted(evidence: Evidence, last: int) -> tuple[int, ...]:
    """Of a device that served one value a second up to this one."""
    served = [Served(BOOT_NS + number * SECOND_NS, "n", number) for number in range(1, last + 1)]
    return account("plc/n", served, evidence.archived.get("plc/n", ()), evidence.declared).unaccounted


def test_complete_and_changed_values_are_read_and_bad_ones_have_no_value(writer: Writer) -> None:
    writer.scan(1)
    writer.scan(2, positions=(0,))
    writer.scan(3, positions=())
    writer.scan(4, bad=True)

    evidence = writer.evidence()

    assert evidence.archived["plc/n"] == [
        Archived(BOOT_NS + at * SECOND_NS - 1000, BOOT_NS + at * SECOND_NS + 1000, value, status)
        for at, value, status in ((1, 1, 0), (2, 2, 0), (4, None, StatusCode.BAD_NO_COMMUNICATION))
    ]
    assert evidence.head is not None
    assert evidence.head.hash == writer.plant.records[-1].hash
    assert not evidence.declared


def test_a_gap_declares_what_lies_in_it_and_no_more(writer: Writer) -> None:
    """Its end may name a beginning that is off by what the clock was corrected meanwhile."""
    writer.scan(1)
    writer.gap(0, 2, None)
    writer.gap(0, 2, 4, off_ns=543)
    writer.scan(7)

    assert unaccounted(writer.evidence(), 8) == (5, 6, 8)


def test_a_gap_without_an_end_is_still_open(writer: Writer) -> None:
    writer.scan(1)
    writer.gap(None, 3, None)

    assert unaccounted(writer.evidence(), 5) == (2,)


def test_the_gap_of_another_device_declares_nothing(writer: Writer) -> None:
    writer.scan(1)
    writer.gap(1, 2, 4)

    assert unaccounted(writer.evidence(), 3) == (2, 3)


def test_a_loss_declares_the_time_it_names(writer: Writer) -> None:
    writer.scan(1)
    loss = Loss(
        first=90, last=91, from_ns=UTC_NS + 2 * SECOND_NS, to_ns=UTC_NS + 3 * SECOND_NS, records=2, readings=2,
        reason=LossReason.BUFFER_FULL,
    )  # fmt: skip
    writer.keep(RecordType.LOSS, encode(loss))

    assert unaccounted(writer.evidence(), 4) == (4,)


def test_what_is_not_authentic_counts_for_nothing(writer: Writer) -> None:
    stranger = Writer(writer.folder)
    writer.scan(1)
    stranger.scan(2)

    evidence = writer.evidence([*writer.plant.records, *stranger.plant.records])

    assert [each.value for each in evidence.archived["plc/n"]] == [1]
    assert not evidence.is_fine


def test_an_archive_with_nothing_in_it_proves_nothing(writer: Writer) -> None:
    evidence = writer.evidence([])

    assert (evidence.archived, evidence.head, evidence.is_fine) == ({}, None, False)
