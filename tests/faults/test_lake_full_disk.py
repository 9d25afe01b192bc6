"""A lake on a real file system that is full, then read-only, in a mount namespace of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_FILL = """
import asyncio, json, subprocess, sys
from pathlib import Path
import pytest
from edge.relay.sinks.sink import SinkUnreachable
from tests.support.sinks.lake import LakeSubject, write_all
from tests.support.sinks.world import SealedPlant, Site

disk, beside = map(Path, sys.argv[1:])

async def feed(site, lake):
    try:
        async with lake.sink(rows=200).session() as session:
            await site.feed(session)
            await write_all(session)
    except SinkUnreachable as error:
        return str(error).removeprefix(str(lake.directory))
    return "written"

def fill():
    try:
        with (disk / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(4096)) == 4096:
                pass
    except OSError:
        pass

async def main():
    plant = SealedPlant()
    plant.announce()
    for _ in range(100):
        plant.data()
    site = Site(beside, [plant])
    await site.receive(plant.records)
    lake = LakeSubject.create(disk / "lake", pytest.MonkeyPatch())
    said = {}
    fill()
    said["full"] = await feed(site, lake)
    (disk / "filler").unlink()
    plant.data()
    await site.receive(plant.records[-1:])
    said["room again"] = await feed(site, lake)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    said["read-only"] = await feed(site, lake)
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    said["writable again"] = await feed(site, lake)
    said["values"] = lake.read("SELECT count(*), count(DISTINCT (seq, tag)) FROM rows")
    site.store.close()
    print(json.dumps(said))

asyncio.run(main())
"""


def test_a_lake_on_a_disk_that_is_full_or_read_only_says_so_and_loses_nothing(tmp_path: Path) -> None:
    disk, beside = tmp_path / "disk", tmp_path / "beside"
    disk.mkdir()
    beside.mkdir()
    mount = f'mount -t tmpfs -o size=600k tidegate-test {disk} && exec {sys.executable} -c "$0" {disk} {beside}'

    ran = subprocess.run(["unshare", "--mount", "sh", "-c", mount, _FILL], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == {
        "full": ": the disk is full: free or add space, or set `keep`",
        "room again": "written",
        "read-only": ": its file system is read-only: look why, and mount it for writing",
        "writable again": "written",
        "values": [[1010, 1010]],
    }
