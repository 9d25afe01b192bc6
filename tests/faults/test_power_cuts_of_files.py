"""A power cut before each operation of what is written: the identity's counter, and a relay's archive."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge.relay.record_stream import split
from edge.relay.store import RelayStore
from edge.relay.waiting import ReceivedMessage
from edge.seal import FileCounter
from edge.testing.disk import Crash
from tests.support.chains import Plant, archived_records, grow, start
from tests.support.forgetful_disk import ForgetfulDisk, forgetful_disk

CRASHES = [crash for crash in Crash if crash is not Crash.KILLED]
RECORDS_AT_ONCE = 5


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[ForgetfulDisk]:
    with forgetful_disk(tmp_path / "disk") as disk:
        yield disk


def in_a_process(work: Callable[[], object], meanwhile: Callable[[int], object] = lambda _: None) -> None:
    """Do it in a process of its own, which closes nothing at its end; `meanwhile` is called with its number first."""
    begin, go = os.pipe()
    if not (child := os.fork()):
        os.read(begin, 1)
        with suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    meanwhile(child)
    os.write(go, b"!")
    os.close(begin)
    os.close(go)
    _, code = os.waitpid(child, 0)
    assert code in (0, signal.SIGKILL), "the work failed by itself"


def cut_before_each_operation(disk: ForgetfulDisk, work: Callable[[], object]) -> Iterator[int]:
    """Do the work with one operation more each time, until it has enough; the disk is off when this yields."""
    for operations in range(100):
        in_a_process(work, lambda child, count=operations: disk.arm(count, [child]))
        is_done = not disk.is_off()
        disk.cut([])
        yield operations
        if is_done:
            return
    raise AssertionError("the work has no end")


@pytest.mark.parametrize("crash", CRASHES)
def test_a_counter_whose_power_is_cut_never_looks_like_a_copy(disk: ForgetfulDisk, crash: Crash) -> None:
    """A state that looks restored begins a new chain, and a power cut must not do that."""
    path = disk.path / "identity.counter"

    def save() -> None:
        counter = FileCounter(path)
        counter.next()
        counter.save()

    save()
    given = FileCounter(path).last
    for operations in cut_before_each_operation(disk, save):
        disk.come_back(crash, seed=operations)
        counter = FileCounter(path)

        assert counter.doubt == ""
        assert given <= counter.last <= given + 1
        given = counter.last
    assert operations > 4
    assert given > 1


@pytest.mark.requirement("REQ-ARCH-01")
def test_what_a_relay_acknowledged_is_in_the_archive_after_a_power_cut(disk: ForgetfulDisk, tmp_path: Path) -> None:
    """Also where the process was killed before, and the next one found records that no disk had."""
    plant = grow(start(), 30)
    relay = Relay(disk, plant, tmp_path)
    for operations in cut_before_each_operation(disk, relay.receive_all):
        disk.come_back(Crash.KILLED, seed=operations)
        in_a_process(relay.receive_all)  # What it finds it need not write again, and acknowledges all the same.
        disk.cut([])
        disk.come_back(Crash.LOST, seed=operations)

        relay.assert_nothing_acknowledged_is_lost()
        relay.begin_anew()
    assert operations > 10


def test_an_archive_is_continued_after_a_power_cut(disk: ForgetfulDisk, tmp_path: Path) -> None:
    plant = grow(start(), 30)
    relay = Relay(disk, plant, tmp_path)
    for operations in cut_before_each_operation(disk, relay.receive_all):
        disk.come_back(CRASHES[operations % len(CRASHES)], seed=operations)
        relay.assert_nothing_acknowledged_is_lost()
        in_a_process(relay.receive_all)

        # What was torn may lie between records, and is none.
        wanted = {record.data for record in plant.records}
        assert sorted(wanted) == sorted(data for data in relay.archived() if data in wanted)
        relay.begin_anew()


class Relay:
    """Takes records of one gateway, and remembers what it would have acknowledged."""

    def __init__(self, disk: ForgetfulDisk, plant: Plant, folder: Path) -> None:
        self._disk, self._plant, self._runs = disk, plant, 0
        self._trust = folder / "line-4.pub.pem"
        self._trust.write_bytes(plant.identity.public_pem(plant.chain.issuer))
        self._acknowledged = folder / "acknowledged"
        self._acknowledged.touch()

    @property
    def archive(self) -> Path:
        """The directory of this run."""
        return self._disk.path / f"archive-{self._runs}"

    def begin_anew(self) -> None:
        """With an archive that is empty."""
        self._runs += 1
        self._acknowledged.write_bytes(b"")

    def receive_all(self) -> None:
        """Start, receive all records, and die: nothing is closed in good order."""
        store = RelayStore(self.archive, [self._trust], quarantine_bytes=1 << 20, waiting_bytes=1 << 20, view=None)
        records = [record.data for record in self._plant.records]
        for first in range(0, len(records), RECORDS_AT_ONCE):
            some = records[first : first + RECORDS_AT_ONCE]
            store.take([ReceivedMessage("tidegate/v1/line-4/r/data", data, 17 * 10**17) for data in some])
            store.sync()
            with self._acknowledged.open("ab") as file:
                file.write(b"".join(some))

    def archived(self) -> list[bytes]:
        """Every record in the archive."""
        return archived_records(self.archive / "line-4")

    def assert_nothing_acknowledged_is_lost(self) -> None:
        """What was acknowledged is archived once."""
        archived = self.archived()
        assert {piece.data for piece in split(io.BytesIO(self._acknowledged.read_bytes()))} <= set(archived)
        assert len(archived) == len(set(archived))
