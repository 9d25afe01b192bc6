"""The archive keeps exact bytes, whatever happens to the files."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from edge.relay.archive import ENTRY_BYTES, Archive, days, gateways, intact_entries
from edge.relay.intake import Intake, Quarantine
from edge.relay.record_stream import split
from edge.relay.waiting import ReceivedMessage, Waiting
from edge.seal.record import Record
from edge.verify import Verdict, Verifier
from tests.support.chains import grow, start

Unsigned = Callable[..., Record]
SEALED = grow(start(), 10, stop=False).records
DAY_NS = 86_400 * 10**9
NOON_NS = 20_000 * DAY_NS + DAY_NS // 2  # 2024-10-04


def put(archive: Archive, record: Record, arrived_ns: int = NOON_NS) -> None:
    archive.append("line-4", record.epoch, record.seq, record.hash, record.data, arrived_ns=arrived_ns)


def fill(directory: Path, records: list[Record]) -> Path:
    """An archive of one day, closed as it should be; the answer is its day file."""
    archive = Archive(directory)
    for record in records:
        put(archive, record)
    archive.close()
    return days(directory / "line-4")[0]


def kept(directory: Path) -> list[bytes]:
    """Everything in the archive, after opening it as a relay does."""
    archive = Archive(directory)
    found = [data for _, data in archive.since("line-4")]
    archive.close()
    return found


def test_the_archive_is_a_cbor_sequence_of_the_exact_bytes(tmp_path: Path, unsigned: Unsigned) -> None:
    records = [unsigned(seq) for seq in range(5)]

    path = fill(tmp_path, records)

    assert path.read_bytes() == b"".join(record.data for record in records)
    assert path.name == "2024-10-04.rec"
    assert gateways(tmp_path) == ["line-4"]


def test_the_index_says_where_each_record_lies(tmp_path: Path, unsigned: Unsigned) -> None:
    records = [unsigned(seq) for seq in range(5)]

    path = fill(tmp_path, records)

    entries = intact_entries(path.with_suffix(".idx").read_bytes())
    data = path.read_bytes()
    assert [(e.epoch, e.seq, e.hash, data[e.offset : e.end]) for e in entries] == [
        (r.epoch, r.seq, r.hash, r.data) for r in records
    ]


def test_what_arrives_after_midnight_is_in_the_next_file_and_reading_goes_on(
    tmp_path: Path, unsigned: Unsigned
) -> None:
    archive = Archive(tmp_path)
    put(archive, unsigned(0))
    put(archive, unsigned(1), NOON_NS + DAY_NS)
    put(archive, unsigned(2), NOON_NS)  # The clock went back: order of arrival is what counts.
    archive.close()

    assert [path.stem for path in days(tmp_path / "line-4")] == ["2024-10-04", "2024-10-05"]
    assert kept(tmp_path) == [unsigned(seq).data for seq in range(3)]


def test_the_name_of_a_gateways_folder_is_made_durable_with_its_first_day_only(
    tmp_path: Path, unsigned: Unsigned, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(Path(f"/proc/self/fd/{handle}").readlink()), fsync(handle))
    )
    archive = Archive(tmp_path)
    counts = []
    for seq in range(3):
        put(archive, unsigned(seq), NOON_NS + seq * DAY_NS)
        synced.clear()
        archive.sync()
        counts.append((synced.count(tmp_path), synced.count(tmp_path / "line-4")))
    archive.close()

    assert counts == [(1, 1), (0, 1), (0, 1)]


def test_a_second_relay_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    archive = Archive(tmp_path)

    with pytest.raises(ConfigError, match="in use by another relay"):
        Archive(tmp_path)

    archive.close()
    Archive(tmp_path).close()


def test_a_lost_index_is_built_again(tmp_path: Path, unsigned: Unsigned) -> None:
    path = fill(tmp_path, [unsigned(seq) for seq in range(5)])
    index = path.with_suffix(".idx")
    before = index.read_bytes()
    index.unlink()

    assert kept(tmp_path) == [unsigned(seq).data for seq in range(5)]
    assert index.read_bytes() == before


@given(lost=st.integers(0, 3000), lost_index=st.integers(0, 5 * ENTRY_BYTES), junk=st.binary(max_size=80))
def test_any_torn_tail_is_cut_and_every_whole_record_stays(
    tmp_path_factory: pytest.TempPathFactory, lost: int, lost_index: int, junk: bytes
) -> None:
    """A kill or a power cut may leave any prefix of what was not synced, and anything behind it."""
    from tests.edge.relay.conftest import unsigned_record as unsigned

    directory = tmp_path_factory.mktemp("archive")
    records = [unsigned(seq, bytes([0x58, 200]) + bytes(200)) for seq in range(1, 6)]
    path = fill(directory, records)
    length = len(records[0].data)
    size = max(0, 5 * length - lost)
    whole = [record.data for record in records[: size // length]]
    if size % length > length - 64:
        junk = b""  # It would complete a signature: only a verifier can tell.
    path.write_bytes(path.read_bytes()[:size] + junk)
    index = path.with_suffix(".idx")
    index.write_bytes(index.read_bytes()[: 5 * ENTRY_BYTES - lost_index] + junk)

    archive = Archive(directory)
    put(archive, unsigned(9))
    archive.close()

    assert kept(directory) == [*whole, unsigned(9).data]
    entries = intact_entries(path.with_suffix(".idx").read_bytes())
    assert len(entries) == len(whole) + 1


def test_a_torn_tail_is_moved_aside_not_thrown_away(tmp_path: Path, unsigned: Unsigned) -> None:
    path = fill(tmp_path, [unsigned(0), unsigned(1)])
    end = len(unsigned(0).data)
    path.write_bytes(path.read_bytes()[:-1])

    archive = Archive(tmp_path)
    torn = archive.recovered[path].torn_bytes
    archive.close()

    assert torn == len(unsigned(1).data) - 1
    assert path.with_suffix(f".torn-{end}").read_bytes() == unsigned(1).data[:-1]


def test_a_sync_the_disk_refused_can_be_repeated(
    tmp_path: Path, unsigned: Unsigned, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path)
    put(archive, unsigned(0))
    with monkeypatch.context() as full:
        full.setattr("os.pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            archive.sync()
    put(archive, unsigned(1))

    archive.sync()

    archive.close()
    assert kept(tmp_path) == [unsigned(0).data, unsigned(1).data]


@given(st.data())
def test_splitting_finds_every_record_around_a_damaged_byte(data: st.DataObject) -> None:
    """Only the record that was hit may be lost, and where the damage lies is told."""
    from tests.edge.relay.conftest import unsigned_record as unsigned

    records = [unsigned(seq, bytes([0x58, 40]) + bytes(40)) for seq in range(1, 5)]
    length = len(records[0].data)
    whole = bytearray(b"".join(record.data for record in records))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))

    pieces = list(split(io.BytesIO(bytes(whole))))

    found = [piece.data for piece in pieces if piece.data is not None]
    untouched = [record.data for n, record in enumerate(records) if n != at // length]
    assert [piece for piece in found if piece in untouched] == untouched
    assert b"".join(piece.data or bytes(whole[piece.offset : piece.end]) for piece in pieces) == bytes(whole)
    assert [piece.offset for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]


@given(junk=st.binary(max_size=40), places=st.lists(st.integers(0, 9), max_size=4))
def test_records_are_found_in_a_file_with_junk_between_them(junk: bytes, places: list[int]) -> None:
    pieces = []
    for at, record in enumerate(SEALED):
        pieces += [junk] * places.count(at) + [record.data]
    data = b"".join(pieces)
    found = list(split(io.BytesIO(data)))

    assert b"".join(data[piece.offset : piece.end] for piece in found) == data
    assert all(piece.data in (None, data[piece.offset : piece.end]) for piece in found)
    assert {record.data for record in SEALED} <= {piece.data for piece in found}


def test_splitting_reads_in_bounded_pieces(unsigned: Unsigned) -> None:
    records = [unsigned(seq, bytes([0x59, 0xF0, 0x00]) + bytes(0xF000)) for seq in range(40)]
    file = io.BytesIO(b"".join(record.data for record in records) + bytes(3_000_000) + unsigned(99).data)

    found = [piece.data for piece in split(file) if piece.data is not None]

    assert found == [*(record.data for record in records), unsigned(99).data]


def test_a_hash_is_found_by_its_place_in_the_chain_unless_two_records_claim_it(
    tmp_path: Path, unsigned: Unsigned
) -> None:
    archive = Archive(tmp_path)
    for seq in range(5):
        put(archive, unsigned(seq))
    put(archive, unsigned(3, b"\xa1\x01\x02"))
    archive.sync()

    found = [archive.hash_of("line-4", unsigned(seq).epoch, seq) for seq in (2, 3, 9)]
    archive.close()

    assert found == [unsigned(2).hash, None, None]


def test_a_record_that_comes_twice_before_a_sync_is_archived_once(tmp_path: Path) -> None:
    """Also one that is so old that the verifier asks the archive for its hash: after an outage, both come together."""
    plant = grow(start(), 700)
    old = plant.records[10]
    archive = Archive(tmp_path)
    verifier = Verifier(
        plant.trust, hash_pages_kept=1, hash_of=lambda _, epoch, seq: archive.hash_of("line-4", epoch, seq)
    )
    intake = Intake(archive, Waiting(tmp_path / "w"), Quarantine(tmp_path / "q", 10**6), verifier)

    def take(*records: Record) -> None:
        intake.take(ReceivedMessage("tidegate/v1/line-4/records", record.data, NOON_NS) for record in records)

    take(*(record for record in plant.records if record is not old))
    archive.sync()
    take(old, plant.records[-1], old)
    archive.sync()
    take(old)
    archive.close()

    assert sorted(kept(tmp_path)) == sorted(record.data for record in plant.records)
    assert intake.counts["urn:tidegate:line-4"].verdicts[Verdict.DUPLICATE] == 3
