"""`tidegate test` with real devices of each driver: what it says of each tag, and the sheet, signed by an engineer."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from drivers.ethernetip.simulator import in_thread
from drivers.ethernetip.simulator.controller import showcase
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, counter, steady
from edge.cli import cli
from tests.faults.gateway.site_under_test import Site, sites
from tests.peers.opcua.plant import NODES, running

PAGE = Path(__file__).parents[3] / "docs/how-to/test-tags.md"
TAGS: list[dict[str, Any]] = [
    {"name": "level", "address": "holding 0", "type": "uint16", "unit": "%", "range": [0, 100]},
    {"name": "temperature", "address": "holding 2", "type": "float32", "word_order": "big", "unit": "Cel"},
    {"name": "pressure", "address": "holding 4", "type": "float32", "word_order": "big", "range": [0, 10]},
    {"name": "total", "address": "holding 6", "type": "uint32", "word_order": "big"},
    {"name": "count", "address": "holding 10", "type": "uint32", "word_order": "big"},
    {"name": "hot", "address": "holding 12", "type": "uint16", "unit": "Cel", "range": [0, 90]},
    {"name": "absent", "address": "holding 40", "type": "uint16"},
]
SIGNALS = (
    Signal("holding 0", "uint16", steady(42)),
    Signal("holding 2", "float32", steady(21.4), word_order="little"),
    Signal("holding 4", "float32", steady(3.2), word_order="little"),
    Signal("holding 6", "uint32", steady(1203), word_order="little"),
    Signal("holding 10", "uint32", counter()),
    Signal("holding 12", "uint16", steady(120)),
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    for site in sites(tmp_path):
        site.settings.pop("uplink")
        yield site


@pytest.fixture
def mixer(site: Site) -> SimulatedDevice:
    device: SimulatedDevice = site.plant.enter(SimulatedDevice({1: SimulatedUnit(SIGNALS, illegal=["holding 40"])}))
    site.add_device("mixer", device, every="1 s", tags=TAGS)
    site.write("gateway", site.settings)
    return device


def tried(site: Site, *more: str) -> Result:
    return CliRunner().invoke(cli, ["test", str(site.directory / "gateway.yaml"), *more, "--apart", "50 ms"])


def by_tag(result: Result) -> dict[str, dict[str, Any]]:
    return {tag["tag"]: tag for tag in json.loads(result.stdout)["tags"]}


def test_each_tag_is_judged_by_its_range_its_type_and_the_order_of_its_bytes(
    site: Site, mixer: SimulatedDevice
) -> None:
    ran = tried(site, "mixer", "--json")

    tags = by_tag(ran)
    assert ran.exit_code == 1
    assert {name: (tag["verdict"], tag["quality"], tag["behaviour"]) for name, tag in tags.items()} == {
        "level": ("ok", "GOOD", "constant"),
        "temperature": ("look", "GOOD", "constant"),
        "pressure": ("look", "UNCERTAIN", "constant"),
        "total": ("look", "GOOD", "constant"),
        "count": ("ok", "GOOD", "moving"),
        "hot": ("look", "UNCERTAIN", "constant"),
        "absent": ("bad", "BAD", "unknown"),
    }
    assert all(len(tag["values"]) == 3 and tag["took_ns"] > 0 for tag in tags.values())
    order = "as float32 with word_order little {}, as configured {}: are its bytes in another order?"
    assert tags["temperature"]["remarks"][-1] == order.format("21.4", f"{tags['temperature']['values'][0]:.6g}")
    assert tags["pressure"]["remarks"][-1] == order.format("3.2", f"{tags['pressure']['values'][0]:.6g}")
    assert tags["pressure"]["remarks"][0].endswith("its range is 0 to 10")
    assert tags["total"]["remarks"] == [order.format("1203", "78839808").replace("float32", "uint32")]
    assert len(tags["hot"]["remarks"]) == 1
    assert json.loads(ran.stdout)["answered_by"] == "device"


def test_chosen_tags_that_are_well_are_exit_code_0(site: Site, mixer: SimulatedDevice) -> None:
    ran = tried(site, "mixer", "level", "count")

    assert ran.exit_code == 0
    assert ran.stdout.splitlines()[-1] == "2 of 2 tags ok; asked directly, 3 times"
    assert tried(site, "mixer", "nothing").exit_code == 2
    assert tried(site, "mixer", "--sign", __file__).exit_code == 2


@pytest.mark.parametrize("columns", [80, 40])
def test_the_table_fits_a_terminal(site: Site, mixer: SimulatedDevice, columns: int) -> None:
    command = f"tidegate test {site.directory}/gateway.yaml mixer --apart 50ms"
    ran = subprocess.run(
        ["script", "-qec", f"stty cols {columns}; {command}", "/dev/null"], capture_output=True, text=True, check=False,
        env={**os.environ, "TERM": "dumb"},
    )  # fmt: skip

    lines = [line.rstrip() for line in ran.stdout.replace("\r", "\n").replace("\x1b[K", "").splitlines()]
    table = lines[: next(at for at, line in enumerate(lines) if " of 7 tags ok" in line)]
    assert max(map(len, table)) <= columns
    assert any(line.startswith("level") and "ok" in line for line in table)
    assert "bytes in another order" in " ".join(" ".join(table).split())


def test_the_running_gateway_asks_between_its_scans(site: Site, mixer: SimulatedDevice) -> None:
    site.gateway()
    site.wait_for_status(lambda status: status.devices[0].scan_groups[0].scans > 1, "scans")
    before = site.wait_for_status(lambda status: status.devices, "devices").devices[0].scan_groups[0]

    through, direct = tried(site, "mixer", "--json"), tried(site, "mixer", "--json", "--direct")

    after = site.wait_for_status(lambda status: status.devices, "devices").devices[0].scan_groups[0]
    assert json.loads(through.stdout)["answered_by"] == "gateway"
    assert json.loads(direct.stdout)["answered_by"] == "device"
    judged = [
        {name: (tag["verdict"], tag["remarks"]) for name, tag in by_tag(ran).items()} for ran in (through, direct)
    ]
    assert judged[0] == judged[1]
    assert mixer.connections_most == 2  # The other is that of --direct.
    assert after.skipped_scans == before.skipped_scans
    assert after.failed_scans == before.failed_scans


def test_of_two_processes_the_device_side_answers(site: Site, mixer: SimulatedDevice) -> None:
    process = site.gateway("acquire")
    site.wait_for_status(lambda status: status.devices[0].scan_groups[0].scans, "a scan")

    ran = tried(site, "mixer", "level", "--json")

    assert json.loads(ran.stdout)["answered_by"] == "gateway"
    assert ran.exit_code == 0
    [line] = process.said("device asked for a command")
    assert (line["device"], line["ask"], line["account"]) == ("mixer", "read", getuser())


def test_a_file_that_changed_since_the_start_is_said(site: Site, mixer: SimulatedDevice) -> None:
    site.gateway()
    site.wait_for_status(lambda status: status.devices[0].scan_groups[0].scans, "a scan")
    path = site.directory / "gateway.yaml"
    settings = json.loads(path.read_text())
    settings["devices"][0]["scan_groups"][0]["tags"][0]["address"] = "holding 1"
    path.write_text(json.dumps(settings))

    ran = tried(site, "mixer")

    assert ran.exit_code == 1
    assert "the running gateway has other settings of these tags of mixer: its file has changed" in ran.stderr
    assert "--direct" in ran.stderr
    assert mixer.connections_most == 1


def test_a_controller_and_a_server_are_tested_through_the_gateway(site: Site, tmp_path: Path) -> None:
    plc = showcase()
    with in_thread(plc) as (server,), running("asyncua", tmp_path) as ua:
        controller = {"driver": "ethernetip", "host": "127.0.0.1", "port": server.port}
        vials = {"name": "vials", "address": "Vials", "type": "DINT"}
        gone = {"name": "gone", "address": "Vialz", "type": "DINT"}
        moving = {"name": "temperature", "address": "Temperature", "type": "REAL"}
        level = {"name": "level", "address": f"{NODES}Float64", "type": "float64"}
        broken = {"name": "none", "address": f"{NODES}Nowhere", "type": "float64"}
        every = "1 s"
        site.settings["devices"] += [
            {"name": "plc", **controller, "scan_groups": [{"every": every, "tags": [vials, gone, moving]}]},
            {"name": "ua", "driver": "opcua", "url": f"opc.tcp://127.0.0.1:{ua.port}", "security": "none",
             "scan_groups": [{"every": every, "subscribe": {}, "tags": [level, broken]}]},
        ]  # fmt: skip
        site.gateway()
        site.wait_for_status(lambda status: all(each.state == "up" for each in status.devices), "devices")

        of_plc, of_ua = tried(site, "plc", "--json"), tried(site, "ua", "--json")

    assert json.loads(of_plc.stdout)["answered_by"] == json.loads(of_ua.stdout)["answered_by"] == "gateway"
    verdicts = {name: tag["verdict"] for name, tag in (by_tag(of_plc) | by_tag(of_ua)).items()}
    assert verdicts == {"vials": "ok", "gone": "bad", "temperature": "ok", "level": "ok", "none": "bad"}
    assert by_tag(of_plc)["temperature"]["behaviour"] == "moving"
    assert json.loads(of_plc.stdout)["explanations"] == ["there is no Vialz; did you mean Vials?"]
    assert plc.writes_asked == 0


def test_a_device_that_is_away_is_a_sentence(site: Site, mixer: SimulatedDevice) -> None:
    site.plant.do(mixer.stop())

    ran = tried(site, "mixer")

    assert ran.exit_code == 1
    assert ran.stderr.startswith("mixer: ")


def test_the_sheet_is_signed_by_an_engineer_and_verified_as_documented(
    site: Site, mixer: SimulatedDevice, tmp_path: Path
) -> None:
    key, sheets = tmp_path / "id_ed25519", tmp_path / "sheets"
    sheets.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (sheets / "allowed_signers").write_text(f"engineer@example.com {key.with_suffix('.pub').read_text()}")

    ran = tried(site, "mixer", "--report", str(sheets), "--sign", str(key), "--json")

    page = (sheets / "mixer-commissioning.html").read_text()
    assert json.loads((sheets / "mixer-commissioning.json").read_text()) == json.loads(ran.stdout)
    assert page.count("<tr>") == 1 + len(TAGS)
    assert "as float32 with word_order little 21.4" in page
    assert "://" not in page
    [typed] = [line for line in PAGE.read_text().splitlines() if line.startswith("ssh-keygen -Y verify")]
    for name in ("mixer-commissioning.html", "mixer-commissioning.json"):
        verify = typed.replace("mixer-commissioning.html", name)
        assert subprocess.run(["sh", "-c", verify], cwd=sheets, check=False, capture_output=True).returncode == 0
        (sheets / name).write_bytes((sheets / name).read_bytes() + b" ")
        assert subprocess.run(["sh", "-c", verify], cwd=sheets, check=False, capture_output=True).returncode != 0
    assert typed.replace("<", "&lt;").replace("engineer@example.com", "NAME") in page


def test_the_identity_of_the_gateway_signs_no_sheet(site: Site, mixer: SimulatedDevice, tmp_path: Path) -> None:
    site.gateway()
    copy = tmp_path / "copy.pem"
    copy.write_bytes((site.state / "identity.pem").read_bytes())

    for key in (site.state / "identity.pem", copy):
        ran = tried(site, "mixer", "--report", str(tmp_path / "sheet"), "--sign", str(key))

        assert ran.exit_code == 2
        assert "is the identity of the gateway" in ran.stderr
    assert not list(tmp_path.glob("sheet*"))
