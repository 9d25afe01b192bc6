"""A disk with no room: the gateway stays up, keeps what it can, says what it could not, and goes on when there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from drivers.modbus.address import Table
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, counter
from edge.cli import cli
from edge.health import StatusSnapshot, read_status
from edge.model import StatusCode
from edge.seal import parse
from edge.testing.disk import Crash
from tests.faults.gateway.site_under_test import Site, Told, sites
from tests.support.forgetful_disk import forgetful_disk

_DISK = "6m"
_TEXTS = 30  # Of 250 characters that no compressor makes smaller: some 10 kB a scan.


def test_a_disk_with_less_room_than_is_to_be_left_free_is_said_with_the_number_to_change(site: Site) -> None:
    """The gateway reads and sends as if all were well, and a power cut would take every record that waits."""
    site.add_counter("mixer")
    free_bytes = shutil.disk_usage(site.directory).free
    site.settings["buffer"]["free_space"] = f"{free_bytes // 10**6 + 1_000} MB"
    path = site.directory / "checked.yaml"
    path.write_bytes(orjson.dumps(site.settings))
    check = CliRunner().invoke(cli, ["check", str(path)])

    with site.service_manager() as (environment, line_with):
        gateway = site.gateway(environment=environment)
        line = line_with("buffer memory")
        status = site.wait_for_status(lambda status: status.buffer.state == "memory", "the buffer to say so")
        gateway.stop()

    said = [check.output, line, status.buffer.reason]
    assert all("buffer.free_space leaves" in each and "lost with the power" in each for each in said)
    advised_mb = re.search(r"set it to (\d+) MB or less", status.buffer.reason)
    assert advised_mb is not None
    # Others write to this disk too, and delete: what is free now is not what was free before.
    assert 0 < int(advised_mb[1]) * 10**6 < free_bytes + 10**9

    site.settings["buffer"]["free_space"] = f"{int(advised_mb[1]) // 2} MB"
    path.write_bytes(orjson.dumps(site.settings))
    site.gateway()
    site.wait_for_scans()

    assert "free_space" not in CliRunner().invoke(cli, ["check", str(path)]).output
    assert site.wait_for_status(lambda status: status.buffer.syncs > 1, "the disk to be used").buffer.state == "ok"


class Noise(SimulatedUnit):
    """A counter, and much that never repeats."""

    is_loud = True

    def data(self, table: Table, first: int, count: int, elapsed_s: float, now_ns: int) -> bytes | None:
        return os.urandom(2 * count) if first and self.is_loud else super().data(table, first, count, elapsed_s, now_ns)


@pytest.fixture
def small_site(tmp_path: Path) -> Iterator[Site]:
    """A site whose gateway keeps everything on a disk of a few megabytes, and reads more than that."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tidegate-test", disk], check=True)
    try:
        for site in sites(tmp_path):
            site.state, site.buffer = disk / "gateway", disk / "buffer"
            site.settings["gateway"]["state"] = str(site.state)
            site.settings["buffer"]["directory"] = str(site.buffer)
            site.settings["uplink"]["mqtt"]["resend_window"] = "1 s"
            site.settings["seal"] = {"compression": "off"}
            device = site.plant.enter(
                SimulatedDevice({1: Noise([Signal("holding 0", "uint32", counter(), is_kept=True)])})
            )
            site.devices["mixer"] = device
            texts = [
                {"name": f"text-{i}", "address": f"holding {200 + 125 * i}", "type": "text", "length": 250,
                 "encoding": "latin-1", "padding": "keep"}
                for i in range(_TEXTS)
            ]  # fmt: skip
            count = {"name": "count", "address": "holding 0", "type": "uint32", "word_order": "big"}
            site.add_device("mixer", device, tags=[count, *texts], every="10 ms",
                            limits={"timeout": "500 ms", "in_flight": 8})  # fmt: skip
            yield site
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def keep_only_the_counter(site: Site) -> None:
    [group] = site.settings["devices"][0]["scan_groups"]
    group["tags"] = group["tags"][:1]


def be_quiet(site: Site) -> None:
    """From now on little changes, and little is to be kept."""
    unit = site.devices["mixer"].units[1]
    assert isinstance(unit, Noise)
    unit.is_loud = False


def seqs(records: list[bytes]) -> set[int]:
    return {parse(data).seq for data in records}


def declared(told: Told) -> set[int]:
    return {seq for loss in told.losses for seq in range(loss.first, loss.last + 1)}


@pytest.mark.requirement("REQ-BUF-02")
def test_what_a_full_buffer_had_to_drop_is_declared_record_by_record(small_site: Site) -> None:
    site = small_site
    gateway = site.gateway()
    site.wait_for_status(lambda status: status.buffer.dropped_records > 300, "records to be dropped, again and again")
    assert gateway.stop() == 0
    keep_only_the_counter(site)
    # With room again: what it dropped while it is on its way would be declared, and arrive.
    subprocess.run(["mount", "-o", "remount,size=16m", site.buffer.parent], check=True)
    site.mosquitto()
    site.relay()

    told = site.stop_and_archive(site.gateway())

    archived = seqs(site.archived())
    assert declared(told) == set(range(max(archived) + 1)) - archived
    assert all(loss.records == loss.last - loss.first + 1 and loss.hash_of_last for loss in told.losses)
    [epoch] = site.verify(site.archive, "--admit", "declared_lost,linked")["epochs"]
    assert epoch["tail"] == "CLOSED"


def test_a_power_cut_while_a_full_buffer_drops_leaves_no_loss_undeclared(small_site: Site) -> None:
    """On a disk too small for the whole reserve a smaller one lets the LOSS be on disk before the segment goes."""
    site = small_site
    with forgetful_disk(site.directory / "forgetful", 6 << 20) as disk:
        site.state, site.buffer = disk.path / "gateway", disk.path / "buffer"
        site.settings["gateway"]["state"] = str(site.state)
        site.settings["buffer"]["directory"] = str(site.buffer)
        gateway = site.gateway("acquire")
        site.wait_for_status(lambda status: status.buffer.dropped_records > 0, "records to be dropped")
        has_reserve = (site.buffer / "reserve").exists()
        disk.arm(0, [gateway.pid], ".seg /buffer/spare")
        site.wait(lambda: gateway.has_ended, "its end")
        gateway.kill()
        disk.come_back(Crash.LOST, seed=1)
        keep_only_the_counter(site)
        site.mosquitto()
        site.relay()
        told = site.stop_and_archive(site.gateway())
        archived = seqs(site.archived())
        site.verify(site.archive, "--admit", "declared_lost,linked")
        site.close()

    assert has_reserve
    assert declared(told) >= set(range(max(archived) + 1)) - archived


def test_a_buffer_that_is_told_to_stop_keeps_the_oldest_and_declares_the_gap(small_site: Site) -> None:
    site = small_site
    site.settings["buffer"]["when_full"] = "stop"
    gateway = site.gateway()
    full = site.wait_for_status(lambda status: status.buffer.state == "full", "the buffer to be full")
    site.wait_for_scans()  # Devices are still read; nothing of it is kept.
    be_quiet(site)
    site.mosquitto()
    site.relay()
    site.wait_for_status(lambda status: status.buffer.state == "ok", "room again")
    site.wait_for_scans()

    told = site.stop_and_archive(gateway)

    archived = seqs(site.archived())
    assert 0 in archived
    assert declared(told) == set(range(max(archived) + 1)) - archived
    assert full.uplink.state == "down"
    [gap] = told.gaps(None)
    assert (gap.status, gap.detail) == (StatusCode.BAD_RESOURCE_UNAVAILABLE, "the buffer was full")
    site.assert_accounted_for(told, "mixer")
    site.verify(site.archive, "--admit", "declared_lost")


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)) == 4096:
            pass


def test_a_disk_that_is_full_at_the_start_is_waited_for_in_memory(small_site: Site) -> None:
    site = small_site
    keep_only_the_counter(site)
    site.mosquitto()
    site.relay()
    filler = site.state.parent / "filler"
    fill(filler)

    gateway = site.gateway()
    in_memory = site.wait_for_status(lambda status: status.buffer.state == "memory", "the buffer to be in memory")
    site.wait_for_scans(50)
    site.wait(lambda: len(site.archived()) > 20, "records to be delivered from memory")
    filler.unlink()
    site.wait_for_status(lambda status: status.buffer.state == "ok", "the disk to work again")
    site.wait_for_scans()
    told = site.stop_and_archive(gateway)

    assert in_memory.devices[0].state == "up"
    assert [event.data["is_in_memory"] for event in told.events("buffer.memory")] == [True, False]
    assert gateway.said("buffer.memory")[0]["level"] == "error"
    assert not told.losses
    site.assert_accounted_for(told, "mixer")
    site.verify(site.archive)


@pytest.mark.requirement("REQ-BUF-03")
def test_a_disk_that_others_fill_while_it_runs_costs_no_more_than_is_declared(small_site: Site) -> None:
    site = small_site
    gateway = site.gateway()
    site.wait_for_scans(30)
    filler = site.state.parent / "filler"
    fill(filler)
    site.wait_for_status(lambda status: status.buffer.state == "memory" or status.buffer.dropped_records > 50,
                         "the full disk to be met")  # fmt: skip
    filler.unlink()
    site.wait_for_status(lambda status: status.buffer.state == "ok", "the disk to work again")
    site.wait_for_scans()
    assert gateway.stop() == 0
    keep_only_the_counter(site)
    site.mosquitto()
    site.relay()

    told = site.stop_and_archive(site.gateway())

    archived = seqs(site.archived())
    assert declared(told) >= set(range(max(archived) + 1)) - archived
    site.verify(site.archive, "--admit", "declared_lost,linked")


def test_an_archive_whose_disk_is_full_is_said_and_catches_up(site: Site) -> None:
    """The relay goes on receiving nothing: the broker keeps what it has not acknowledged."""
    site.add_counter("mixer")
    site.archive.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tidegate-test", site.archive], check=True)
    try:
        site.mosquitto()
        relay = site.relay()
        gateway = site.gateway()
        site.wait(lambda: len(site.archived()) > 20, "the relay to archive")
        filler = site.archive / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

        def archive_state(is_writable: bool) -> StatusSnapshot | None:
            status = read_status(site.archive / "status.sock")
            return status if status.relay and (status.relay.unwritable_since_ns is None) == is_writable else None

        full: StatusSnapshot = site.wait(lambda: archive_state(False), "the relay to say so")
        held = len(site.archived())
        site.wait_for_scans()
        later: StatusSnapshot = site.wait(lambda: archive_state(False), "the relay to go on saying so")
        filler.unlink()
        site.wait(lambda: archive_state(True), "the relay to write again")
        told = site.stop_and_archive(gateway)
        code = relay.stop()
    finally:
        subprocess.run(["umount", "--lazy", site.archive], check=True)

    assert full.relay is not None
    assert later.relay is not None
    assert "No space left on device" in full.relay.unwritable
    assert "archive cannot be written since" in full.headline()
    assert full.relay.archived_records == later.relay.archived_records <= held
    assert code == 0
    site.assert_accounted_for(told, "mixer")
