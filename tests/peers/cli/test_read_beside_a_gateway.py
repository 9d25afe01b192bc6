"""`tidegate read` where the gateway runs: the gateway tells what it read, and its device notices nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, steady
from edge.cli import cli
from edge.model import StatusCode
from tests.faults.gateway.site_under_test import Site, sites

TAGS: list[dict[str, Any]] = [
    {"name": f"point-{at}", "address": f"holding {at}", "type": "uint16"} for at in range(20)
]  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    for site in sites(tmp_path):
        site.settings.pop("uplink")
        yield site


def add(site: Site, unit: SimulatedUnit, tags: list[dict[str, Any]], name: str = "mixer") -> SimulatedDevice:
    device: SimulatedDevice = site.plant.enter(SimulatedDevice({1: unit}))
    site.add_device(name, device, tags=tags)
    return device


def asked(site: Site, *more: str) -> Result:
    return CliRunner().invoke(cli, ["read", str(site.directory / "gateway.yaml"), *more])


def test_the_gateway_tells_and_the_device_serves_one_client(site: Site) -> None:
    signals = [Signal(f"holding {at}", "uint16", steady(100 + at)) for at in range(20)]
    device = add(site, SimulatedUnit(signals), TAGS)
    site.gateway()
    site.wait_for_status(lambda status: status.devices[0].scan_groups[0].scans > 1, "scans")

    everything = asked(site, "mixer", "--json")
    one = asked(site, "mixer", "point-19")

    answer = json.loads(everything.stdout)
    assert answer["answered_by"] == "gateway"
    assert [row["value"] for row in answer["values"]] == [*range(100, 120)]
    assert {row["quality"] for row in answer["values"]} == {"GOOD"}
    assert one.stdout.splitlines()[0] == "point-19: 119  GOOD"
    assert "told by the running gateway, read" in one.stdout
    assert device.connections_most == 1

    direct = asked(site, "mixer", "point-19", "--direct")

    assert direct.exit_code == 0
    assert "told" not in direct.stdout
    assert device.connections_most == 2


def test_gateway_and_device_tell_the_same_product_and_date(site: Site) -> None:
    """The scale and the kind of a date are facts of the catalogue: both ways to a value apply them."""
    tags = [
        {"name": "power", "address": "holding 0", "type": "uint16", "unit": "W", "scale_from": "power_SF"},
        {"name": "power_SF", "address": "holding 1", "type": "int16"},
        {"name": "time", "address": "holding 2", "type": "datetime48"},
    ]
    words = (1234, 65535, 0x071F, 0x7E0D, 0x0F1E)
    signals = [Signal(f"holding {at}", "uint16", steady(word)) for at, word in enumerate(words)]
    add(site, SimulatedUnit(signals), tags)
    site.gateway()
    site.wait_for_status(lambda status: status.devices[0].scan_groups[0].scans, "a scan")

    told, direct = asked(site, "mixer", "power", "time"), asked(site, "mixer", "power", "time", "--direct")

    assert told.stdout.splitlines()[:3] == [
        "power: 123.4 W  GOOD",
        "time: 2026-07-31T13:15:30  GOOD",
        "power_SF: -1  GOOD",
    ]
    assert [line for line in direct.stdout.splitlines() if line[0] != " "][:3] == told.stdout.splitlines()[:3]


def test_a_device_that_is_away_is_said_with_its_reason(site: Site) -> None:
    device = add(site, SimulatedUnit(), TAGS)
    site.plant.do(device.stop())
    site.gateway()
    site.wait_for_status(lambda status: status.devices[0].reason, "a reason")

    ran = asked(site, "mixer")

    assert ran.exit_code == 1
    assert "mixer, as the running gateway says: " in ran.stderr
    assert "--direct" in ran.stderr


def test_a_tag_that_the_running_gateway_does_not_have_is_no_silent_second_client(site: Site) -> None:
    device = add(site, SimulatedUnit(), TAGS[:2])
    site.gateway()
    site.wait_for_status(lambda status: status.devices[0].scan_groups[0].scans, "a scan")
    path = site.directory / "gateway.yaml"
    settings = json.loads(path.read_text())
    settings["devices"][0]["scan_groups"][0]["tags"] = TAGS[:3]
    path.write_text(json.dumps(settings))

    ran = asked(site, "mixer", "point-2")

    assert ran.exit_code == 2
    assert "has not read 'point-2' of mixer" in ran.stderr
    assert device.connections_most == 1


def test_status_says_why_a_device_that_answers_gives_no_value(site: Site) -> None:
    add(site, SimulatedUnit(illegal=["holding 0-99"]), [TAGS[0], TAGS[9], TAGS[19]])
    add(site, SimulatedUnit(), TAGS, name="kiln")
    site.gateway()
    status = site.wait_for_status(
        lambda status: all(device.scan_groups[0].scans for device in status.devices) and status.devices[0].reason,
        "a reason",
    )

    assert status.devices[0].state == "up"
    assert status.devices[0].reason.startswith("it answers and every value is BAD_ADDRESS: holding ")
    assert status.devices[0].reason.endswith("; and 2 more")
    assert status.devices[1].reason == ""
    assert status.devices[0].scan_groups[0].values[0].status == StatusCode.BAD_ADDRESS
    config = str(site.directory / "gateway.yaml")
    shown = CliRunner().invoke(cli, ["status", config]).stdout
    assert "problem  mixer: it answers and every value is BAD_ADDRESS: holding " in shown
    assert shown.index("mixer  ") < shown.index("kiln  ")
    all_values = CliRunner().invoke(cli, ["status", config, "--tags"]).stdout
    assert all_values.count("BAD the device has no such address") == 3
    assert sum(line.startswith("point-") for line in all_values.splitlines()) == 3 + len(TAGS)
