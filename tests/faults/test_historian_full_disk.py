"""A PostgreSQL whose database is on a real file system that is full, in a mount namespace of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_FILL = """
import asyncio, json, os, sys
from pathlib import Path
from edge.demo.postgresql import server_account
from edge.relay.sinks.sink import SinkUnreachable
from tests.support.postgres import running_postgres
from tests.support.sinks.postgres import PostgresSubject
from tests.support.sinks.world import SealedPlant, Site

disk, beside = map(Path, sys.argv[1:])

async def feed(site, historian):
    try:
        async with historian.sink().session() as session:
            await site.feed(session)
    except SinkUnreachable as error:
        return str(error)
    return "written"

def fill():
    try:
        with (disk / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(4096)) == 4096:
                pass
    except OSError:
        pass

async def main(historian):
    plant = SealedPlant()
    plant.announce()
    plant.data()
    site = Site(beside, [plant])
    await site.receive(plant.records)
    said = {"at first": await feed(site, historian)}
    fill()
    for _ in range(300):
        await site.receive([plant.data()])
    said["full"] = await feed(site, historian)
    await site.receive([plant.data()])
    (disk / "filler").unlink()
    said["room again"] = await feed(site, historian)
    said["scans"] = historian.sql("SELECT count(*), count(DISTINCT seq) FROM tidegate.block")
    said["archived"] = site.store.archived_records
    site.store.close()
    print(json.dumps(said))

if owner := server_account():
    os.chown(disk, owner["user"], owner["group"])
with running_postgres() as server:
    server.psql(f"CREATE TABLESPACE small LOCATION '{disk}'")
    historian = PostgresSubject.create(server)
    server.psql(f"ALTER DATABASE {historian.database} SET TABLESPACE small")
    asyncio.run(main(historian))
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that the server enters too, which runs as an account of its own."""
    with tempfile.TemporaryDirectory(prefix="tg-disk-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def test_a_historian_on_a_disk_that_is_full_says_so_and_gets_everything_once_there_is_room(
    open_directory: Path,
) -> None:
    disk, beside = open_directory / "disk", open_directory / "beside"
    disk.mkdir()
    beside.mkdir()
    mount = f'mount -t tmpfs -o size=16m tidegate-test {disk} && exec {sys.executable} -c "$0" {disk} {beside}'

    ran = subprocess.run(["unshare", "--mount", "sh", "-c", mount, _FILL], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout.splitlines()[-1])
    full = said.pop("full")
    assert "No space left on device" in full
    assert full.endswith("; its disk is full: free or add space")
    assert said == {"at first": "written", "room again": "written", "scans": "302|302", "archived": 304}
