"""What an archive says: values with the time they were sampled, and what the gateway declares missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from hil.alignment import SLEW_PPM, Alignment, BootAsked
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
        self.time, self.boot_ns = TIME, BOOT_NS
        self.observed = Observed(boot_id=TIME.boot_id.hex())
        self.keep(RecordType.CATALOG, *EncodedCatalogue.of(CATALOGUE).payloads)

    def keep(self, kind: RecordType, *payloads: bytes) -> None:
        self.plant.records += [self.plant.chain.seal(kind, payload) for payload in payloads]

    def switch_on_again(self, boot_ns: int) -> None:
        """From now on the gateway's boot time is as if scan 0 had been at this one, in another boot."""
        self.boot_ns, self.time = boot_ns, replace(TIME, boot_id=b"the second boot!")

    def ask(self, number: int, *, took_ns: int) -> None:
        """Ask the gateway for its boot time at the moment of a scan; the rig's is that of the first boot."""
        rig_ns, here_ns = (begin_ns + number * SECOND_NS for begin_ns in (BOOT_NS, self.boot_ns))
        self.observed.asked.append(
            BootAsked(self.time.boot_id.hex(), here_ns, rig_ns - took_ns // 2, rig_ns + took_ns // 2)
        )

    def scan(self, number: int, *, positions: tuple[int, ...] | None = None, bad: bool = False) -> None:
        at_ns = self.boot_ns + number * SECOND_NS
        block = SampleBlock(
            0, at_ns - 1000, at_ns + 1000, (np.array([number] if positions != () else [], np.uint32),),
            None if positions is None else (np.array(positions, np.uint16),),
            ((0, 1, int(StatusCode.BAD_NO_COMMUNICATION)),) if bad else (),
        )  # fmt: skip
        payload = encode_data(
            utc_ns=UTC_NS + number * SECOND_NS, boot_ns=at_ns, time=self.time, catalogue=catalogue_digest(CATALOGUE),
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
        (self.folder / "observed.json").write_bytes(self.observed.to_json())
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


def test_readings_of_two_boots_are_judged_by_the_time_of_the_rig(writer: Writer) -> None:
    """The second boot begins its boot time anew: as it is, it would be long before the first."""
    writer.scan(1)
    writer.scan(2)
    writer.ask(2, took_ns=4_000_000)
    writer.switch_on_again(100 * SECOND_NS)
    writer.gap(None, 2, 5)
    writer.scan(6)
    writer.ask(6, took_ns=4_000_000)
    writer.ask(7, took_ns=50_000_000)
    writer.scan(7)

    evidence = writer.evidence()
    served = [Served(BOOT_NS + number * SECOND_NS, "n", number) for number in range(1, 8)]
    found = account("plc/n", served, evidence.archived["plc/n"], evidence.declared)

    assert (found.archived, found.declared, found.unaccounted, found.mistimed) == (4, 3, (), ())
    first, _, third, last = evidence.archived["plc/n"]
    assert first.to_ns - first.from_ns == 2000  # The boot that the rig has, too.
    assert third.to_ns - third.from_ns == 4_002_000
    # A second after the better answer the clock may have been slewed.
    assert last.to_ns - last.from_ns == pytest.approx(4_002_000 + 2 * 500_000, abs=10)
    assert evidence.alignment.words == (
        "the gateway has a clock of its own, in 1 boot: 2 answers told its distance, and a comparison allows for up to "
        "2.5 ms more"
    )


@pytest.mark.parametrize("late_ms", [0, 1, 4, 1000])
def test_a_stamp_is_wrong_where_the_clocks_do_not_explain_it(writer: Writer, late_ms: int) -> None:
    writer.switch_on_again(100 * SECOND_NS)
    writer.scan(1)
    writer.ask(1, took_ns=4_000_000)

    evidence = writer.evidence()
    served = [Served(BOOT_NS + SECOND_NS - late_ms * 10**6, "n", 1)]
    found = account("plc/n", served, evidence.archived["plc/n"], evidence.declared)

    assert found.mistimed == (() if late_ms < 2 else (1,))


def test_a_boot_whose_time_the_gateway_never_said_is_compared_with_nothing(writer: Writer) -> None:
    writer.scan(1)
    writer.switch_on_again(100 * SECOND_NS)
    writer.scan(2)

    evidence = writer.evidence()
    served = [Served(BOOT_NS + number * SECOND_NS, "n", number) for number in (1, 2)]

    assert account("plc/n", served, evidence.archived["plc/n"], ()).mistimed == (2,)
    assert "cannot be compared" in evidence.alignment.words


def test_one_boot_id_with_two_boot_times_is_no_shared_clock(writer: Writer) -> None:
    """As in a time namespace, which has the boot id of its kernel."""
    writer.boot_ns = BOOT_NS + 1000 * SECOND_NS
    writer.ask(1, took_ns=2_000_000)
    writer.scan(1)

    [reading] = writer.evidence().archived["plc/n"]

    assert reading.from_ns <= BOOT_NS + SECOND_NS <= reading.to_ns
    assert reading.to_ns - reading.from_ns == 2_002_000


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 200), st.floats(0, 1)), min_size=1, max_size=60),
       st.integers(-(10**15), 10**15), st.integers(-SLEW_PPM, SLEW_PPM), st.integers(0, 600_000))  # fmt: skip
def test_the_true_moment_is_always_within_what_the_alignment_allows(
    answers: list[tuple[int, int, float]], ahead_ns: int, ppm: int, at_ms: int
) -> None:
    """Whatever the distance of the clocks, however they are slewed, and whenever in between the gateway answered."""

    def rig_ns(boot_ns: int) -> int:
        return boot_ns + ahead_ns + boot_ns * ppm // 10**6

    asked = [
        BootAsked("ab", at_s * SECOND_NS, rig_ns(at_s * SECOND_NS) - round(share * took_ms * 10**6),
                  rig_ns(at_s * SECOND_NS) + round((1 - share) * took_ms * 10**6))
        for at_s, took_ms, share in answers
    ]  # fmt: skip

    from_ns, to_ns = Alignment(asked, "").interval("ab", at_ms * 10**6, at_ms * 10**6)

    assert from_ns - 1 <= rig_ns(at_ms * 10**6) <= to_ns + 1


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
