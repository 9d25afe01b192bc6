"""NaN and infinity from devices of every protocol, polled and subscribed: never GOOD, wherever they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from drivers.ethernetip.simulator import REAL, Controller, LogixServer
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, steady
from edge.cli import cli
from edge.model import StatusCode, status_codes
from tests.faults.gateway.plant_under_test import asked_group, logix, opcua, points, reports, told_group
from tests.faults.gateway.site_under_test import Process, Site, Told, sites
from tests.peers.opcua.plant import running

QUIET, SIGNALLING, NEGATIVE_INFINITY = 0x7FC00000, 0x7FA00001, 0xFF800000
RANGE = [0, 10]
TAGS = {"furnace": 3, "filler": 2, "reactor": 4, "silo": 2}


class Run:
    """What came of one run of a gateway."""

    def __init__(self, told: Told, shown: dict[str, dict[str, Any]], site: Site, live: dict[str, str]) -> None:
        self.told, self.shown, self.site, self.live = told, shown, site, live


def _add_devices(site: Site, port: int) -> None:
    unit = SimulatedUnit([Signal(f"holding {2 * n}", "uint32", steady(bits))
                          for n, bits in enumerate((QUIET, SIGNALLING, NEGATIVE_INFINITY))])  # fmt: skip
    floats = [{"name": f"t{n}", "address": f"holding {2 * n}", "type": "float32", "word_order": "big"}
              for n in range(3)]  # fmt: skip
    site.add_device("furnace", site.plant.enter(SimulatedDevice({1: unit})), tags=[floats[0] | {"range": RANGE},
                    *floats[1:]])  # fmt: skip
    plc = Controller("Line4")
    plc.tag("Level0", REAL, float("nan"))
    plc.tag("Level1", REAL, float("inf"))
    levels = [{"name": f"level-{n}", "address": f"Level{n}", "type": "REAL"} for n in range(2)]
    server: Any = site.plant.enter(LogixServer(plc))
    devices = site.settings["devices"]
    devices.append(logix("filler", server.port, [levels[0] | {"range": RANGE}, levels[1]]))
    one, two, three, four = points(range(1, 5))
    ranged = {"range": [-1000, 1000]}
    devices.append(opcua("reactor", f"opc.tcp://127.0.0.1:{port}/plant", told_group([one | ranged, two]),
                         asked_group([three | ranged, four])))  # fmt: skip
    recording = site.directory / "silo.csv"
    recording.write_text("time,ash,dust\n0,nan,-inf\n1,nan,-inf\n")
    columns = [{"name": name, "signal": "replay", "column": name, "type": "float32"} for name in ("ash", "dust")]
    devices.append({"name": "silo", "driver": "simulator", "replay": {"file": str(recording)},
                    "scan_groups": [{"every": "50 ms", "tags": columns}]})  # fmt: skip


@contextmanager
def _run(folder: Path) -> Iterator[Run]:
    with running("asyncua", folder) as server, contextmanager(sites)(folder) as site:
        _add_devices(site, server.port)
        for name, value in {"Point1": "NaN", "Point2": "Infinity", "Point3": "NaN", "Point4": "-Infinity"}.items():
            server.tell("value", name, value)
        site.mosquitto()
        site.relay(views={"unified_namespace": {"prefix": "uns"}})
        view = site.start(
            "view", ["mosquitto_sub", "-V", "5", "-v", "-q", "1", "-t", "uns/#", "-p", str(site.broker_port)]
        )
        gateway = site.gateway()
        count = sum(TAGS.values())
        site.wait(lambda: len(_shown(view)) == count, "every tag to be shown")
        status = site.wait_for_status(bool, "a status")
        live = {f"{device.name}/{tag.tag}": tag.quality for device in status.devices for group in device.scan_groups
                for tag in group.values}  # fmt: skip
        told = site.stop_and_archive(gateway)
        yield Run(told, _shown(view), site, live)


def _shown(view: Process) -> dict[str, dict[str, Any]]:
    """The first message of each tag."""
    found: dict[str, dict[str, Any]] = {}
    for line in view.log().splitlines(keepends=True):
        topic, _, payload = line.partition(" ")
        if line.endswith("}\n"):
            found.setdefault("/".join(topic.split("/")[-2:]), orjson.loads(payload))
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with _run(tmp_path_factory.mktemp("site")) as found:
        yield found


@pytest.mark.requirement("REQ-TYPE-04")
def test_what_is_no_number_is_uncertain_on_record(run: Run) -> None:
    for device, count in TAGS.items():
        held = reports(run.told, device)
        assert len(held) == count
        for tag, values in held.items():
            assert not any(np.isfinite(report.value) for report in values), (device, tag)
            assert {report.status for report in values} == {StatusCode.UNCERTAIN_OUT_OF_RANGE}, (device, tag)


@pytest.mark.requirement("REQ-TYPE-02")
def test_the_bits_on_record_are_those_of_the_device(run: Run) -> None:
    block = run.told.blocks("furnace")[0]

    assert block.vectors[0].view(np.uint32).tolist() == [QUIET, SIGNALLING, NEGATIVE_INFINITY]
    assert status_codes(block.status, 3).tolist() == [StatusCode.UNCERTAIN_OUT_OF_RANGE] * 3


@pytest.mark.requirement("REQ-TYPE-04")
def test_the_view_and_the_status_show_no_number_and_never_good(run: Run) -> None:
    code = int(StatusCode.UNCERTAIN_OUT_OF_RANGE)

    assert {(each["v"], each["q"], each["sc"]) for each in run.shown.values()} == {(None, "uncertain", code)}
    assert set(run.live.values()) == {"UNCERTAIN"}
    assert len(run.live) == len(run.shown) == sum(TAGS.values())


@pytest.mark.parametrize("device", TAGS)
def test_reading_once_says_the_same(run: Run, device: str) -> None:
    ran = CliRunner().invoke(cli, ["read", str(run.site.directory / "gateway.yaml"), device, "--json"])

    tags = orjson.loads(ran.stdout)["values"]
    assert {(tag["value"], tag["quality"]) for tag in tags} == {(None, "UNCERTAIN")}
    assert len(tags) == TAGS[device]
