"""The shortest run of each benchmark of a whole gateway or relay: that it measures, not what.

Otherwise a benchmark that no longer runs is found when its figure is needed. No figure is compared with its goal here:
that depends on the machine.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from bench import loads, peers, relay, results
from bench.loads import LOADS
from bench.rig import Rig

pytestmark = pytest.mark.timeout(600)  # A slow machine is none that fails.


@pytest.fixture(autouse=True)
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the rows go instead of bench/RESULTS.md."""
    monkeypatch.setattr(results, "RESULTS", tmp_path / "RESULTS.md")
    return tmp_path / "RESULTS.md"


def test_a_load_is_measured_beside_the_c_poller(stored: Path) -> None:
    loads.main(["10@1s", "--rounds", "1", "--seconds", "2"])

    assert "| Load 10@1s, 500 tags a device | <= 1.2 % of one core" in stored.read_text()


@pytest.mark.parametrize("program", ["missing", "/bin/true", "/etc/hostname"])
def test_what_is_no_telegraf_is_refused_before_anything_is_measured(program: str) -> None:
    with pytest.raises(SystemExit, match=f"{program} is no Telegraf: .*; give the path of the program telegraf"):
        peers.main(["--telegraf", program])


@pytest.mark.parametrize("mode", relay.MODES)
def test_what_a_relay_shows_is_measured(stored: Path, mode: str) -> None:
    """All of it; the broker's count also has the few packets that keep a connection alive."""
    relay.main([mode, "--rounds", "1", "--devices", "2", "--records", "6"])

    [shown] = re.findall(r"([0-9,]+) of 3,000 shown", stored.read_text())
    assert int(shown.replace(",", "")) >= 3_000


def test_the_same_devices_are_configured_for_a_telegraf(tmp_path: Path) -> None:
    rig = Rig(LOADS["10@100ms"][0], tmp_path)
    rig.broker_port, rig.ports = 1883, [15020, 15021]

    settings = tomllib.loads(peers.configuration(rig))

    assert (settings["agent"]["interval"], settings["outputs"]["mqtt"][0]["qos"]) == ("100ms", 1)
    assert [device["controller"] for device in settings["inputs"]["modbus"]] == [
        "tcp://127.0.0.1:15020", "tcp://127.0.0.1:15021",
    ]  # fmt: skip
    assert [len(device["metric"][0]["fields"]) for device in settings["inputs"]["modbus"]] == [500, 500]
