"""The samples of pages that are not typed as a whole: each command is run, and what the page shows is seen."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.buffer import BufferLimits, PosixDisk, Store
from edge.seal import FileCounter, issuer_of, load_or_create_identity
from tests.edge.report.conftest import Site
from tests.support.chains import grow, start
from tests.support.ports import free_port
from tests.support.sinks.lake import LakeSubject, write_all
from tests.support.sinks.world import SealedPlant, scan
from tests.support.sinks.world import Site as SinkSite
from tests.support.typist import ROOT, Typist, typist

LOGIX = """\
gateway: {name: g, path: acme/basel}
devices:
  - name: filler
    driver: ethernetip
    host: 127.0.0.1
    port: PORT
"""
WRONG = """\
gateway: {name: site, path: acme/basel, state: ./state}
uplink: {mqtt: {host: 127.0.0.1, tls: off}}
devices:
  - name: plc
    driver: modbus
    host: 127.0.0.1
    port: 5020
    scan_groups:
      - every: 1
        tags:
          - {name: temperature, address: "holding 0", type: float32, deadbnd: 1}
"""
ENTERPRISE = """\
parameters: {site: null}
gateway: {name: "gw-${site}", path: "acme/${site}/utilities"}
devices:
  - name: plc
    driver: modbus
    host: 127.0.0.1
    scan_groups: [{every: 1 s, tags: [{name: temperature, address: "holding 0", type: float32}]}]
"""


def test_the_samples_on_configurations(tmp_path: Path) -> None:
    for name in ("line-4.yaml", "chromatography.csv"):
        shutil.copy(ROOT / "configs" / name, tmp_path)
    (tmp_path / "tags.csv").touch()
    (tmp_path / "site.yaml").write_text(WRONG)
    (tmp_path / "enterprise.yaml").write_text(ENTERPRISE)
    for name in ("basel", "kundl"):
        (tmp_path / f"{name}.yaml").write_text(f"reference: enterprise.yaml\nvalues: {{site: {name}}}\n")
    with typist(tmp_path, {"read line-4.yaml": "read lab.yaml"}) as person:
        person.start(f"tidegate simulate line-4.yaml --port {free_port()} --copy lab.yaml")

        assert person.type_samples("docs/how-to/configure.md") == 6


@pytest.mark.parametrize(("page", "count"), [("connect-logix", 2), ("find-devices", 2)])
def test_the_samples_on_finding_a_controller(tmp_path: Path, page: str, count: int) -> None:
    command = [sys.executable, "-m", "drivers.ethernetip.simulator", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as controller:
        try:
            assert controller.stdout is not None
            port = controller.stdout.readline().strip()
            (tmp_path / "site.yaml").write_text(LOGIX.replace("PORT", port))
            found = dict.fromkeys(("discover 192.0.2.20", "discover 192.0.2.12"), f"discover 127.0.0.1:{port}")
            here = {**found, "Program:Filler": "Program:MainProgram"}
            person = Typist(tmp_path, here)

            assert person.type_samples(f"docs/how-to/{page}.md") == count
        finally:
            controller.kill()


def test_the_samples_on_verifying(tmp_path: Path) -> None:
    counter = FileCounter(tmp_path / "identity.counter")
    load_or_create_identity(tmp_path / "identity.pem", issuer=issuer_of("line-4"), counter=counter)
    (tmp_path / "trusted").mkdir()
    shutil.copy(tmp_path / "identity.pub.pem", tmp_path / "trusted/line-4.pub.pem")

    assert Typist(tmp_path).type_samples("docs/how-to/verify.md") == 1


def test_the_samples_on_exporting(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    site = Site(tmp_path / "archive")
    site.read(range(40))
    site.read([40], ((1, 1, 0x80310000),))
    site.read(range(41, 61))
    site.write()

    assert Typist(tmp_path).type_samples("docs/how-to/export.md") == 2


def test_the_samples_on_carrying_records_by_hand(tmp_path: Path) -> None:
    for name in ("buffer", "usb", "archive", "trusted"):
        (tmp_path / name).mkdir()
    plant = grow(start(), 3000)
    store = Store(PosixDisk(tmp_path / "buffer"), BufferLimits(limit_bytes=1 << 24, segment_bytes=1 << 20))
    store.append(plant.records)
    store.commit()
    store.close()
    (tmp_path / "trusted/line-4.pub.pem").write_bytes(plant.identity.public_pem(plant.chain.issuer))

    assert Typist(tmp_path).type_samples("docs/how-to/carry-by-hand.md") == 3


def test_the_samples_on_the_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant = SealedPlant()
    plant.announce()
    for number in range(3 * 60):
        plant.data(scan(6400 + 60 * number))
    site = SinkSite(tmp_path, [plant])
    lake = LakeSubject.create(tmp_path / "lake", monkeypatch)

    async def fill() -> None:
        await site.receive(plant.records)
        async with lake.sink(rows=1_000_000).session() as session:
            await site.feed(session)
            await write_all(session)

    asyncio.run(fill())
    site.store.close()
    page = (ROOT / "docs/how-to/lake.md").read_text()
    (tmp_path / "temperature.sql").write_text(page.split("$ cat temperature.sql\n")[1].split("$ ")[0])

    assert Typist(tmp_path).type_samples("docs/how-to/lake.md") == 2
