"""Commands that ask a device through the gateway that reads it: the device has one client, and no scan is skipped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from drivers.ethernetip.simulator import in_thread
from drivers.ethernetip.simulator.controller import showcase
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, steady
from edge.cli import cli
from edge.cli.asked import AskedThroughGateway
from edge.config.check import check
from edge.testing.proxy import RecordingProxy
from tests.faults.gateway.site_under_test import LoopThread, Site, sites
from tests.peers.opcua.plant import NODES, running

FORGETS_LISTS = """
from drivers.ethernetip import browse
browse._KEPT_NS = 10**9
from edge.cli import main
main()
"""
"""A gateway that keeps a list for a second instead of a minute."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    for site in sites(tmp_path):
        site.settings.pop("uplink")
        yield site


def tidegate(site: Site, command: str, *more: str) -> Result:
    return CliRunner().invoke(cli, [command, str(site.directory / "gateway.yaml"), *more])


@contextmanager
def recorded(plant: LoopThread, port: int) -> Iterator[RecordingProxy]:
    """A proxy that counts the connections to a device."""
    yield plant.enter(RecordingProxy("127.0.0.1", port))


def read_by(site: Site, device: dict[str, Any], program: str = "") -> None:
    site.settings["devices"].append(device)
    if program:
        site.hasty_gateway(program)
    else:
        site.gateway()
    site.wait_for_status(lambda status: status.devices[0].scan_groups[0].scans > 1, "scans")


def logix(port: int) -> dict[str, Any]:
    tags = [{"name": "vials", "address": "Vials", "type": "DINT"}]
    return {"name": "it", "driver": "ethernetip", "host": "127.0.0.1", "port": port,
            "scan_groups": [{"every": "1 s", "tags": tags}]}  # fmt: skip


def test_a_controller_is_browsed_in_the_gateways_session(site: Site) -> None:
    plc = showcase()
    with in_thread(plc) as (server,), recorded(site.plant, server.port) as proxy:
        read_by(site, logix(proxy.port))

        found = tidegate(site, "browse", "it", "Line1", "--depth", "0", "--json")
        shown = tidegate(site, "browse", "it", "Line1")
        absent = tidegate(site, "browse", "it", "Nowhere")
        connections = len(proxy.recordings)
        direct = tidegate(site, "browse", "it", "Line1", "--direct")

    names = {"/".join(entry["levels"]) for entry in json.loads(found.stdout)["entries"]}
    assert {"Running", "Drives/[2]/Speed"} <= names
    assert shown.exit_code == 0
    assert shown.stderr == "asked by the running gateway between its scans; --direct asks the device\n"
    assert shown.stdout == direct.stdout
    assert direct.stderr == ""
    assert absent.exit_code == 1
    assert "there is no 'Nowhere' in it" in absent.stderr
    assert connections == 1
    assert len(proxy.recordings) == 2
    assert plc.writes_asked == 0


def test_a_controller_that_was_changed_is_browsed_as_it_is_now(site: Site) -> None:
    """The session of a gateway lasts: what was listed in it once may be another program now."""
    plc = showcase()
    with in_thread(plc) as (server,):
        read_by(site, logix(server.port), FORGETS_LISTS)
        before = tidegate(site, "browse", "it")
        plc.remove("Recipe")
        after = site.wait(
            lambda: None if "Recipe" in (now := tidegate(site, "browse", "it")).stdout else now, "the list"
        )

    assert "Recipe" in before.stdout
    assert "Vials" in after.stdout


def test_an_opc_ua_server_is_browsed_in_the_gateways_session(site: Site, tmp_path: Path) -> None:
    with running("asyncua", tmp_path) as server, recorded(site.plant, server.port) as proxy:
        tags = [{"name": "level", "address": f"{NODES}Float64", "type": "float64"}]
        read_by(site, {"name": "it", "driver": "opcua", "url": f"opc.tcp://127.0.0.1:{proxy.port}", "security": "none",
                       "scan_groups": [{"every": "1 s", "tags": tags}]})  # fmt: skip
        connections = len(proxy.recordings)

        found = tidegate(site, "browse", "it", "--depth", "3", "--json")

        assert len(proxy.recordings) == connections
    entries = json.loads(found.stdout)["entries"]
    assert any(entry["levels"][-1] == "Float64" and entry["settings"] for entry in entries)


def test_a_device_without_a_list_is_said_as_without_a_gateway(site: Site) -> None:
    device: SimulatedDevice = site.plant.enter(SimulatedDevice({1: SimulatedUnit()}))
    site.add_device("it", device, every="1 s")
    site.gateway()
    site.wait_for_status(lambda status: status.devices[0].scan_groups[0].scans, "a scan")

    ran = tidegate(site, "browse", "it")

    assert ran.exit_code == 1
    assert "a device of the driver modbus has no list of what it holds" in ran.stderr
    assert device.connections_most == 1


def test_a_device_that_the_gateway_does_not_hold_is_asked_directly(site: Site) -> None:
    with in_thread(showcase()) as (server,), recorded(site.plant, server.port) as proxy:
        read_by(site, logix(server.port))
        path = site.directory / "gateway.yaml"
        settings = json.loads(path.read_text())
        settings["devices"][0]["port"] = proxy.port
        path.write_text(json.dumps(settings))

        ran = tidegate(site, "browse", "it", "Line1")

    assert ran.exit_code == 0
    assert ran.stderr == ""
    assert len(proxy.recordings) == 1


def test_a_flood_of_questions_skips_no_scan(site: Site) -> None:
    """Scans come first: what is asked in between may be refused, and costs none of them."""
    tags = [{"name": f"point-{at}", "address": f"holding {at}", "type": "uint16"} for at in range(50)]
    signals = [Signal(f"holding {at}", "uint16", steady(at)) for at in range(50)]
    device: SimulatedDevice = site.plant.enter(SimulatedDevice({1: SimulatedUnit(signals)}))
    site.add_device("it", device, every="2 s", tags=tags, limits={"timeout": "10 s"})
    site.gateway()
    before = site.wait_for_status(lambda status: status.devices[0].scan_groups[0].scans, "a scan")
    (known,) = check(site.directory / "gateway.yaml").gateway().devices
    asked = AskedThroughGateway(site.state / "control.sock", known)

    async def flood() -> set[tuple[Any, ...]]:
        async def one(at: int) -> tuple[Any, ...]:
            read = await asked.read(known.scan_groups[0].tags[at : at + 10])
            return tuple(value.value for value in read.values)

        return {answer for _ in range(20) for answer in await asyncio.gather(*(one(at) for at in (0, 10, 20, 30)))}

    answers = asyncio.run(flood())

    after = site.wait_for_status(
        lambda status: status.devices[0].scan_groups[0].scans > before.devices[0].scan_groups[0].scans, "a scan"
    )
    assert answers == {tuple(range(at, at + 10)) for at in (0, 10, 20, 30)}
    # One that was due before the session was open has failed.
    [old], [new] = before.devices[0].scan_groups, after.devices[0].scan_groups
    assert (new.skipped_scans, new.failed_scans) == (old.skipped_scans, old.failed_scans)
    assert device.connections_most == 1
