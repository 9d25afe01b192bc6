"""A state directory that was restored or copied never goes on with its chain: the start notices, and says so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from edge.seal import Epoch, EpochReason, Gap
from edge.verify import Trust, Verdict, Verifier
from tests.faults.gateway.site_under_test import Process, Site

Judged = list[tuple[Verdict, Any]]


def run(site: Site) -> Process:
    """One run of the device side, from start to stop."""
    gateway = site.gateway("acquire")
    site.wait_for_scans()
    assert gateway.stop() == 0, gateway.log()
    return gateway


def judged(site: Site, records: list[bytes]) -> Judged:
    """What somebody says who has all these records, however they came to him; each record once."""
    verifier = Verifier(Trust.load([site.trust]))
    return [(each.verdict, each.content) for data in dict.fromkeys(records) for each in verifier.add(data)]


def last_epoch(site: Site) -> Epoch:
    return [content for _, content in judged(site, site.buffered()) if isinstance(content, Epoch)][-1]


def shell(command: str, site: Site) -> None:
    subprocess.run(["sh", "-ec", command], cwd=site.directory, check=True)


COPIED = "is not the file that was written here"
EARLIER = "the buffer is of an earlier time"
RESTORES = {
    "a copied directory": ("rm -r gateway buffer; cp -a backup/. .", COPIED),
    "a directory that was moved back": ("rm -r gateway buffer; mv backup/gateway backup/buffer .", COPIED),
    "an unpacked archive": ("rm -r gateway buffer; tar -xf backup.tar", COPIED),
    "an archive unpacked over it": ("tar -xf backup.tar", COPIED),
    "files written over": ("cp -a backup/. .", COPIED),
    "the buffer alone": ("rm -r buffer; cp -a backup/buffer .", EARLIER),
    "the state alone": ("rm -r gateway; cp -a backup/gateway .", COPIED),
    "key and buffer without the counter": (
        "rm -r gateway buffer; cp -a backup/. .; rm gateway/identity.counter", "the identity counter is lost",
    ),
}  # fmt: skip


@pytest.mark.requirement("REQ-BUF-05")
@pytest.mark.timeout(400)  # Eleven runs of the gateway.
def test_what_was_restored_begins_a_new_chain(site: Site) -> None:
    """After the backup the gateway went on, and what it sealed then is elsewhere: no place may be given twice."""
    site.add_counter("mixer")
    run(site)
    shell("mkdir backup; cp -a gateway buffer backup/; tar -cf backup.tar gateway buffer; cp -a backup spare", site)
    run(site)
    elsewhere = site.buffered()
    for name, (restore, words) in RESTORES.items():
        shell("rm -rf backup; cp -a spare backup", site)
        shell(restore, site)

        gateway = run(site)

        epoch = last_epoch(site)
        assert epoch.reason is EpochReason.ROLLBACK_SUSPECTED, name
        assert epoch.previous is not None
        assert epoch.previous.hash in {sha256(data).digest() for data in elsewhere}, name
        assert words in gateway.said("chain.new")[0]["reason"], name
        gaps = [content for _, content in judged(site, site.buffered()) if isinstance(content, Gap)]
        assert "restored or copied" in [gap.detail for gap in gaps if gap.group is None][-1]
        elsewhere += site.buffered()

    assert {verdict for verdict, _ in judged(site, elsewhere)} == {Verdict.AUTHENTIC}

    run(site)

    assert last_epoch(site) == epoch, "the next start goes on"


def test_a_restored_key_without_a_buffer_says_so(site: Site) -> None:
    site.add_counter("mixer")
    run(site)
    shell("cp -a gateway backup", site)
    run(site)
    shell("rm -r gateway buffer; cp -a backup gateway", site)

    run(site)

    epoch = last_epoch(site)
    assert (epoch.reason, epoch.previous) == (EpochReason.ROLLBACK_SUSPECTED, None)


def rewritten(site: Site, **values: list[str]) -> None:
    """Let the counter say where it was written, as an image of another disk or machine does; it stays the same file."""
    path = site.state / "identity.counter"
    with path.open("r+") as file:
        kept = json.load(file) | values
        file.seek(0)
        file.truncate()
        json.dump(kept, file)


def is_physical() -> bool:
    return any((adapter.parent / "addr_assign_type").read_text() == "0\n"
               for adapter in Path("/sys/class/net").glob("*/device"))  # fmt: skip


@pytest.mark.skipif(not is_physical(), reason="this machine has no network adapter of its own")
def test_an_image_in_another_machine_begins_a_new_chain(site: Site) -> None:
    """All files are the same then, block by block."""
    site.add_counter("mixer")
    run(site)
    rewritten(site, networks=["52:54:00:00:00:01"])

    gateway = run(site)

    assert last_epoch(site).reason is EpochReason.ROLLBACK_SUSPECTED
    assert "the state is in another machine" in gateway.said("chain.new")[0]["reason"]


def test_a_state_that_is_moved_on_its_disk_goes_on(site: Site) -> None:
    site.add_counter("mixer")
    run(site)
    shell("mkdir srv; mv gateway buffer srv/", site)
    site.state, site.buffer = site.directory / "srv" / "gateway", site.directory / "srv" / "buffer"
    site.settings["gateway"]["state"], site.settings["buffer"]["directory"] = str(site.state), str(site.buffer)

    run(site)

    assert last_epoch(site).reason is EpochReason.INSTALL


def test_a_counter_of_an_early_version_is_no_copy(site: Site) -> None:
    site.add_counter("mixer")
    run(site)
    path = site.state / "identity.counter"
    path.write_text(str(json.loads(path.read_text())["number"]))

    run(site)

    assert last_epoch(site).reason is EpochReason.INSTALL


def with_disk(site: Site, work: Callable[[], None]) -> None:
    """Do something while the disk of the site is mounted; its image is `disk.img`."""
    disk = site.directory / "disk"
    subprocess.run(["mount", "-o", "loop", str(site.directory / "disk.img"), str(disk)], check=True)
    try:
        work()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
@pytest.mark.parametrize("has_copy", [True, False], ids=["counter kept twice", "counter on that disk only"])
def test_an_image_put_back_on_the_same_disk_is_noticed_by_a_counter_elsewhere_only(site: Site, has_copy: bool) -> None:
    """Inodes, times, disk and machine are those of before: without a second place the chain goes on, and forks."""
    site.add_counter("mixer")
    disk, image = site.directory / "disk", site.directory / "disk.img"
    disk.mkdir()
    subprocess.run(["mkfs.ext4", "-q", str(image), "100M"], check=True)
    site.state, site.buffer = disk / "gateway", disk / "buffer"
    site.settings["gateway"]["state"], site.settings["buffer"]["directory"] = str(site.state), str(site.buffer)
    site.settings["buffer"]["limit"] = "70 MB"
    if has_copy:
        site.settings["identity"] = {"counter_copy": str(site.directory / "line-4.counter")}
    histories: list[bytes] = []
    found: list[tuple[EpochReason, Judged]] = []

    def go_on() -> None:
        run(site)
        histories.extend(site.buffered())

    def look() -> None:
        go_on()
        found.append((last_epoch(site).reason, judged(site, histories)))

    with_disk(site, go_on)
    shutil.copyfile(image, image.with_suffix(".backup"))
    with_disk(site, go_on)
    image.with_suffix(".backup").rename(image)  # Another file: the kernel may still hold pages of the one before.
    with_disk(site, look)

    [(reason, judgements)] = found
    assert reason is (EpochReason.ROLLBACK_SUSPECTED if has_copy else EpochReason.INSTALL)
    assert (Verdict.FORK in {verdict for verdict, _ in judgements}) is not has_copy


def test_a_second_place_that_is_gone_is_a_doubt(site: Site) -> None:
    """As a stick that was pulled: whether the chain went on elsewhere cannot be known then."""
    site.add_counter("mixer")
    copy = site.directory / "line-4.counter"
    site.settings["identity"] = {"counter_copy": str(copy)}
    run(site)
    copy.unlink()

    gateway = run(site)

    assert last_epoch(site).reason is EpochReason.ROLLBACK_SUSPECTED
    assert f"the second place of the identity counter, {copy}, is not there" in gateway.said("chain.new")[0]["reason"]
