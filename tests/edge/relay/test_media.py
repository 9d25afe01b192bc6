"""Records that are carried by hand: all of them arrive, once, however often and wherever it is interrupted."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from edge.buffer import BufferLimits, PosixDisk, Store
from edge.relay.archive import Archive
from edge.relay.medium import record_files
from edge.relay.store import load_snapshot
from edge.seal import RecordType
from tests.support.chains import Plant, archived_records, grow, start

SMALL = "import edge.relay.medium as m, edge.cli.media as c; m._FILE_BYTES = 4000; c._AT_ONCE = 8; "


class Ran(NamedTuple):
    exit_code: int
    output: str
    errors: str


def run(words: list[str]) -> Ran:
    """A command in a process of its own: it sets up the log."""
    done = subprocess.run([sys.executable, "-m", "edge.cli", *words], capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


@dataclass
class Way:
    """A gateway's buffer, a medium, and the archive of a relay."""

    folder: Path
    plant: Plant

    def __post_init__(self) -> None:
        for name in ("buffer", "medium", "archive"):
            (self.folder / name).mkdir()
        (self.folder / "key.pem").write_bytes(self.plant.identity.public_pem(self.plant.chain.issuer))
        self._stored = 0

    def store(self) -> None:
        """Put the records that were sealed since into the buffer."""
        limits = BufferLimits(limit_bytes=1 << 24, segment_bytes=1 << 16, reserve_bytes=0)
        store = Store(PosixDisk(self.folder / "buffer"), limits)
        store.append(self.plant.records[self._stored :])
        store.commit()
        store.close()
        self._stored = len(self.plant.records)

    @property
    def write_words(self) -> list[str]:
        return ["media", "write", str(self.folder / "buffer"), str(self.folder / "medium")]

    @property
    def read_words(self) -> list[str]:
        key = str(self.folder / "key.pem")
        return ["media", "read", str(self.folder / "medium"), str(self.folder / "archive"), "--trust", key]

    def write(self) -> Ran:
        return run(self.write_words)

    def read(self) -> Ran:
        return run(self.read_words)

    def archived(self) -> list[bytes]:
        return archived_records(self.folder / "archive/line-4")

    def files(self, name: str) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in (self.folder / name).rglob("*") if path.is_file()}

    def sealed(self) -> list[bytes]:
        return [each.data for each in self.plant.records]


@pytest.fixture
def way(tmp_path: Path) -> Way:
    way = Way(tmp_path, grow(start(), 200, stop=False))
    way.store()
    return way


def test_every_record_of_the_buffer_arrives_in_the_archive(way: Way) -> None:
    assert "200 records written" in way.write().output
    result = way.read()

    assert (result.exit_code, result.output) == (0, "200 records read: 200 archived, 0 were there already\n")
    assert way.archived() == way.sealed()
    words = ["verify", str(way.folder / "archive"), "--trust", str(way.folder / "key.pem")]
    assert run(words).exit_code == 0


def test_a_second_time_changes_nothing(way: Way) -> None:
    way.write()
    way.read()
    medium, records = way.files("medium"), way.archived()

    assert "0 records written, 0 B" in way.write().output
    assert way.files("medium") == medium
    assert way.read().output == "200 records read: 0 archived, 200 were there already\n"
    assert way.archived() == records
    assert not (way.folder / "archive/quarantine.cbor").exists()


def test_only_what_is_new_is_written_and_read(way: Way) -> None:
    way.write()
    way.read()
    grow(way.plant, 50)
    way.store()
    new = len(way.plant.records) - 200

    assert f"{new} records written" in way.write().output
    assert f"{new} archived, 200 were there already" in way.read().output
    assert way.archived() == way.sealed()


def killed_until_done(words: list[str], size: Callable[[], int], times: int = 4) -> int:
    """Start a command, kill it as soon as it has written more, and again, and let it end; how often it was killed."""
    program = [sys.executable, "-c", f"{SMALL}from edge.cli import main; main()", *words]
    for number in range(times):
        before = size()
        with subprocess.Popen(program, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and size() == before:
                time.sleep(0.001)
            process.kill()
            if process.wait() == 0:
                return number
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
    return times


def test_a_write_and_a_read_that_are_killed_go_on(way: Way) -> None:
    medium, archive = way.folder / "medium", way.folder / "archive/line-4"
    killed = killed_until_done(way.write_words, lambda: len([*medium.rglob("*.rec")]))
    assert killed
    (medium / "line-4" / "0000000000000000-0-1.rec.new").write_bytes(b"half")
    sums = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=medium / "line-4", check=False, capture_output=True
    )
    assert (sums.returncode, sums.stdout) == (0, b"")

    assert killed_until_done(way.read_words, lambda: sum(each.stat().st_size for each in archive.glob("*.rec")))
    assert way.archived() == way.sealed()


def test_a_medium_that_is_full_is_said_and_a_further_run_goes_on(way: Way) -> None:
    program = [sys.executable, "-c", f"{SMALL}from edge.cli import main; main()", *way.write_words]
    full = subprocess.run(program, capture_output=True, text=True, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)))  # fmt: skip

    assert full.returncode == 1
    assert (
        "File too large; 0 records of this run are on the medium, and a further run goes on from there" in full.stderr
    )
    assert "200 records written" in way.write().output
    assert {each.suffix for each in (way.folder / "medium/line-4").iterdir()} == {".rec", ""}


def test_a_file_that_was_damaged_on_the_way_is_said_and_what_is_whole_in_it_is_read(way: Way) -> None:
    way.write()
    [file] = record_files(way.folder / "medium")
    data = bytearray(file.path.read_bytes())
    at = len(data) // 2
    data[at : at + 40] = bytes(40)
    file.path.write_bytes(data)

    result = way.read()

    assert result.exit_code == 1
    assert f"{file.path} is damaged" in result.output
    assert 197 <= len(way.archived()) <= 199

    file.path.unlink()
    way.write()
    assert way.read().exit_code == 0
    assert sorted(way.archived()) == sorted(way.sealed())


def test_what_a_stranger_put_on_the_medium_is_not_archived(way: Way) -> None:
    way.write()
    stranger = grow(start("line-4"), 20)
    epoch = stranger.records[0].epoch.hex()
    path = way.folder / f"medium/line-4/{epoch}-0-{len(stranger.records) - 1}.rec"
    path.write_bytes(b"".join(each.data for each in stranger.records))

    result = way.read()

    assert result.exit_code == 1
    assert "UNTRUSTED" in result.output
    assert way.archived() == way.sealed()
    assert stranger.records[0].data in (way.folder / "archive/quarantine.cbor").read_bytes()


def test_the_view_of_the_relay_shows_later_what_was_read(way: Way) -> None:
    way.write()
    way.read()
    snapshot = load_snapshot(way.folder / "archive/relay.snapshot")
    assert snapshot is not None
    shown = [each for each in way.plant.records if each.type in (RecordType.DATA, RecordType.CATALOG)]
    assert len(snapshot.view.unfinished) == len(shown)


def test_a_relay_that_runs_keeps_its_archive(way: Way) -> None:
    way.write()
    archive = Archive(way.folder / "archive")
    try:
        result = way.read()
    finally:
        archive.close()
    assert result.exit_code == 78
    assert "is in use by another relay; stop it" in result.errors


def test_what_is_no_buffer_and_no_medium_is_said(way: Way) -> None:
    result = run(["media", "write", str(way.folder / "archive"), str(way.folder / "medium")])
    assert (result.exit_code, "is no buffer of a gateway" in result.errors) == (2, True)
    result = way.read()
    assert (result.exit_code, "is no medium with records" in result.errors) == (2, True)
