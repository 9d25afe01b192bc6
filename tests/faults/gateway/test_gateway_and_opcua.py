"""A secured OPC UA server and a Logix controller over a life of kills, restarts and swaps, in two roles: one run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from drivers.ethernetip.simulator import LogixServer
from edge.cli import cli
from edge.health import StatusSnapshot
from edge.seal import Identities
from tests.faults.gateway.plant_under_test import (
    PLANT,
    asked_group,
    controller,
    logix,
    notified,
    opcua,
    points,
    reports,
    told_group,
)
from tests.faults.gateway.site_under_test import Process, Site, Told, sites
from tests.peers.opcua.plant import Server, running
from tests.support.ports import free_port

DAYS = 5
RAMP = 400
SERIALS = "00c0ffee", "0badcafe"
SECURITY = {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}


def tidegate(*arguments: object) -> str:
    ran = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert ran.exit_code == 0, ran.output
    return ran.stdout


@dataclass
class Run:
    """What came of it."""

    told: Told
    report: dict[str, Any]
    metrics: str
    site: Site
    logs: str


class Life:
    """The site and what happens to it, from its first start to its last stop."""

    def __init__(self, site: Site, server: Server, folder: Path) -> None:
        self.site, self.server, self._folder = site, server, folder
        self.filler = controller(serial=int(SERIALS[0], 16))
        self.metrics = free_port()
        self.pki = site.state / "opcua"
        site.settings["status"] = {"metrics": f"127.0.0.1:{self.metrics}"}
        temperature = {"name": "temperature", "address": f"{PLANT}Temperature", "type": "float64"}
        site.settings["devices"].append(
            opcua(
                "reactor", f"opc.tcp://127.0.0.1:{server.port}/plant",
                told_group([*points(range(10)), temperature]), asked_group(points(range(10, 20))),
                security=SECURITY, certificates=str(self.pki), facts=True, limits={"timeout": "3 s"},
            )
        )  # fmt: skip
        plc: Any = site.plant.enter(LogixServer(self.filler))
        site.settings["devices"].append(logix("filler", plc.port))
        tidegate("keys", "opcua", "create", self.pki, "--name", "line-4", "--host", "gateway-4", "--days", DAYS)
        self.trust()

    def trust(self) -> None:
        """As an engineer would who compared the fingerprints."""
        tidegate("keys", "opcua", "trust", self.pki, self._folder / "asyncua" / "server.der")

    def acquire(self) -> Process:
        """Start the device side, and wait until both devices are read."""
        process = self.site.gateway("acquire")
        self.site.wait_for_status(lambda status: {d.state for d in status.devices} == {"up"}, "the devices to answer")
        return process

    def killed_while_values_change(self, gateway: Process) -> Process:
        """The server tells on while the gateway is off."""
        ramp = threading.Thread(target=self.server.tell, args=("ramp Point1", RAMP, 10), name="ramp")
        ramp.start()
        seen = scans(self.site.wait_for_status(bool, "a status"))
        self.site.wait_for_status(lambda status: scans(status) > seen + 5, "values to be told")
        gateway.kill()
        gateway = self.acquire()
        ramp.join()
        self.site.wait(lambda: self._last("point-1") == RAMP, "the end of the ramp")
        return gateway

    def server_with_another_order(self) -> None:
        """The server comes back, and the index of the plant's namespace is that of other nodes."""
        self.server.end()
        self.site.wait_for_status(lambda status: status.devices[0].state != "up", "the loss of the server")
        self.server.start("--other-order")
        self.trust()
        self.site.wait_for_status(lambda status: status.devices[0].state == "up", "the server to be back")
        self.site.wait(lambda: self._last("point-1") == 1, "its values")

    def swapped_while_off(self, gateway: Process) -> Process:
        """The controller is exchanged for another one with newer firmware."""
        assert gateway.stop() == 0
        self.filler.identity = replace(self.filler.identity, serial=int(SERIALS[1], 16), revision=(35, 12))
        gateway = self.acquire()
        self.site.wait(lambda: gateway.said("device.identity"), "the swap to be noticed")
        return gateway

    def _last(self, tag: str) -> float | None:
        told = notified(self.site.told(self.site.buffered()), "reactor", "told", tag)
        return told[-1].value if told else None


def scans(status: StatusSnapshot) -> int:
    """Notifications of the server."""
    return status.devices[0].scan_groups[0].scans


@contextmanager
def life(folder: Path) -> Iterator[Life]:
    with ExitStack() as stack:
        server = stack.enter_context(running("asyncua", folder))
        site = stack.enter_context(contextmanager(sites)(folder))
        yield Life(site, server, folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with life(tmp_path_factory.mktemp("site")) as it:
        site = it.site
        site.mosquitto()
        site.relay()
        acquire = it.acquire()
        site.settings["status"] = {}
        forward = site.gateway("forward")
        with urlopen(f"http://127.0.0.1:{it.metrics}/metrics") as page:
            metrics = page.read().decode()
        site.wait(lambda: len(site.told(site.buffered()).catalogues) == 2, "the facts")
        acquire = it.killed_while_values_change(acquire)
        it.server_with_another_order()
        acquire = it.swapped_while_off(acquire)
        assert acquire.stop() == 0, acquire.log()
        site.wait_until_archived()
        assert forward.stop() == 0, forward.log()
        logs = "".join(path.read_text() for path in site.directory.glob("*.log"))
        yield Run(site.told(site.archived()), site.verify(site.archive), metrics, site, logs)


def test_one_authentic_chain_tells_of_each_outage(run: Run) -> None:
    killed, stopped = run.told.gaps(None)

    assert run.report["is_wholly_authentic"]
    assert [epoch["tail"] for epoch in run.report["epochs"]] == ["CLOSED"]
    assert killed.detail == "the gateway ended without a STOP"
    assert stopped.detail == "the gateway was stopped"
    assert "Traceback" not in run.logs


def test_of_values_that_change_while_it_is_killed_none_is_invented_and_those_missing_are_in_one_declared_stretch(
    run: Run,
) -> None:
    told = notified(run.told, "reactor", "told", "point-1")
    values = [report.value for report in told]
    ramp = [report for report in told[: values.index(RAMP) + 1] if report.value != 1]
    kept = [report.value for report in ramp]
    missing = sorted(set(range(2, RAMP + 1)) - set(kept))
    [killed, _] = run.told.gaps(None)
    before, after = (next(report for report in ramp if report.value == at) for at in (missing[0] - 1, missing[-1] + 1))

    assert kept == sorted(set(kept))
    assert missing == [*range(missing[0], missing[-1] + 1)]
    assert before.source_ns < killed.from_ns < killed.to_ns  # type: ignore[operator]
    assert before.sampled_at_ns < after.sampled_at_ns


def test_values_are_those_of_their_nodes_whatever_index_their_namespace_has(run: Run) -> None:
    for group, numbers in (("told", range(2, 10)), ("asked", range(10, 20))):
        held = reports(run.told, "reactor", group)
        assert {n: {report.value for report in held[f"point-{n}"]} - {None} for n in numbers} == {
            n: {float(n)} for n in numbers
        }
    assert all(report.value >= 1 for report in notified(run.told, "reactor", "told", "point-1") if report.value)
    assert run.told.gaps("reactor")


def test_restarts_with_nothing_new_make_no_new_catalogue(run: Run) -> None:
    configured, learned = run.told.catalogues
    used = [report.catalogue for report in reports(run.told, "reactor", "told")["point-2"]]
    temperature = run.told.catalogues[learned].groups[0].tags[-1]

    assert list(dict.fromkeys(used)) == [configured, learned]
    assert (temperature.unit, temperature.range) == ("Cel", (-20, 120))


def test_a_client_certificate_that_is_about_to_expire_is_an_event_and_a_metric(run: Run) -> None:
    """A restart tells it again; the server's is good for a year."""
    first, *again = run.told.events("cert.expiring")
    [line] = [line for line in run.metrics.splitlines()
              if line.startswith("tidegate_certificate_expiry_timestamp_seconds") and "ours" in line
              and "reactor" in line]  # fmt: skip

    assert (first.data["whose"], first.data["device"], first.data["days_left"]) == ("ours", "reactor", DAYS - 1)
    assert len(again) == 2
    assert abs(float(line.split()[-1]) - time.time() - DAYS * 86400) < 86400


def test_a_controller_that_was_swapped_while_the_gateway_was_off_is_told(run: Run) -> None:
    [event] = run.told.events("device.identity")

    assert event.subject == "filler"
    assert (event.data["serial"].lower(), event.data["was_serial"].lower()) == (SERIALS[1], SERIALS[0])
    assert (event.data["firmware"], event.data["was_firmware"]) == ("35.12", "33.11")
    assert {known.device for each in run.told.all(Identities) for known in each.devices} == {"reactor", "filler"}


def test_the_inventory_of_the_archive_has_every_device_and_its_history(run: Run) -> None:
    site = run.site
    now = json.loads(tidegate("inventory", site.archive, "--trust", site.trust, "--json"))["devices"]
    ever = json.loads(tidegate("inventory", site.archive, "--trust", site.trust, "--history", "--json"))["devices"]
    of_filler = [device for device in ever if device["device"] == "filler"]

    assert {device["device"] for device in now} == {"reactor", "filler"}
    assert [device["serial"].lower() for device in of_filler] == list(SERIALS)
    assert [device["firmware"] for device in of_filler] == ["33.11", "35.12"]
    assert of_filler[0]["since_ns"] <= of_filler[1]["since_ns"]
    assert len({device["record"] for device in of_filler}) == 2
    assert of_filler[1] in now


def test_the_inventory_is_a_cyclonedx_document(run: Run) -> None:
    document = json.loads(tidegate("inventory", run.site.archive, "--trust", run.site.trust, "--cyclonedx"))
    filler, reactor = sorted(document["components"], key=lambda each: str(each["bom-ref"]))
    properties = {each["name"]: each["value"] for each in filler["properties"]}

    assert (document["bomFormat"], document["specVersion"], document["version"]) == ("CycloneDX", "1.6", 1)
    assert document["serialNumber"].startswith("urn:uuid:")
    assert (filler["type"], filler["bom-ref"], filler["version"]) == ("device", "line-4/filler", "35.12")
    assert filler["manufacturer"]["name"]
    assert filler["name"] == "1756-L83E/B"
    assert properties["cdx:device:serialNumber"].lower() == SERIALS[1]
    assert (properties["tidegate:gateway"], properties["tidegate:device"]) == ("line-4", "filler")
    assert reactor["name"] == "FreeOpcUa Python Server"
