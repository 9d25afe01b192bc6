"""Units, ranges and texts of a real server reach the catalogue on disk, and the same ones after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from edge.buffer import PosixDisk, Reader
from edge.clock import SystemClock
from edge.config.check import check
from edge.config.settings import GatewaySettings
from edge.gateway.acquire import Acquisition, acquire
from edge.model import Catalogue
from edge.seal import CataloguePart, Identities, decode_frame, join_catalogue, parse
from tests.peers.opcua.plant import NODES, running

SITE = """\
gateway: {{name: line-4, path: acme/basel, state: state}}
clock: {{require: any, chrony: off}}
devices:
  - name: plc
    driver: opcua
    url: opc.tcp://127.0.0.1:{port}
    security: none
    facts: true
    scan_groups:
      - every: 50 ms
        tags:
          - {{name: told, address: "{nodes}Temperature", type: float64}}
          - {{name: written, address: "{nodes}Temperature", type: float64, unit: K, range: [0, 1]}}
"""


def _sealed(buffer: Path) -> tuple[list[Catalogue], list[Identities]]:
    with closing(Reader(PosixDisk(buffer))) as reader:
        frames = [parse(data) for _, data in reader.read(0, 1 << 24)]
    told = [decode_frame(frame) for frame in frames]
    parts = {part.digest: part for part in told if isinstance(part, CataloguePart)}
    return [join_catalogue([part]) for part in parts.values()], [each for each in told if isinstance(each, Identities)]


async def _run(settings: GatewaySettings, until: Callable[[Acquisition], bool]) -> None:
    async with acquire(settings, bytes(32), SystemClock()) as acquisition:
        running_ = asyncio.create_task(acquisition.run())
        async with asyncio.timeout(30):
            while not until(acquisition):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        running_.cancel()
        await asyncio.wait([running_])


def _knows_units(acquisition: Acquisition) -> bool:
    group = acquisition.devices[0].poller.groups[0]
    return bool(group.catalogue.tags[0].unit) and group.counts.done > 2


def test_what_a_server_says_of_its_nodes_is_on_record(tmp_path: Path) -> None:
    with running("asyncua", tmp_path) as server:
        (tmp_path / "site.yaml").write_text(SITE.format(port=server.port, nodes=NODES))
        settings = check(tmp_path / "site.yaml").gateway()
        settings.gateway.state.mkdir()
        asyncio.run(_run(settings, _knows_units))
        first, identities = _sealed(settings.buffer_directory)
        asyncio.run(_run(settings, _knows_units))
        second, _ = _sealed(settings.buffer_directory)

    told, written = first[-1].groups[0].tags
    assert (told.unit, told.range, told.description) == ("Cel", (-20, 120), "of the broth")
    assert (written.unit, written.range) == ("K", (0, 1))
    assert len(first) == 2
    assert second == first
    assert {known.device for each in identities for known in each.devices} == {"plc"}
