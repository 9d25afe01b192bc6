"""`tidegate log` of a running gateway and of its archive: what happened, in sentences, while it happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from click.testing import CliRunner

from edge.cli import cli
from tests.faults.gateway.site_under_test import Site


def _log(path: Path, *options: str) -> list[dict[str, Any]]:
    ran = CliRunner().invoke(cli, ["log", str(path), "--json", *options])
    assert ran.exit_code == 0, ran.output
    return [orjson.loads(line) for line in ran.stdout.splitlines()]


def test_the_log_of_a_running_gateway_shows_a_gap_as_one_entry_and_its_end_once_it_has_one(site: Site) -> None:
    """Whoever asks why a device is silent reads the buffer while the gateway writes it."""
    mixer = site.add_counter("mixer")
    site.add_counter("pump")
    site.mosquitto()
    site.relay()
    gateway = site.gateway()
    site.wait_for_scans()

    site.plant.do(mixer.stop())

    def opened_gaps() -> list[dict[str, Any]]:
        return [each for each in _log(site.buffer, "--device", "mixer", "--kind", "gap") if each["is_open"]]

    [opened] = site.wait(opened_gaps, "the gap to be on record")
    site.plant.do(mixer.start())
    site.wait(lambda: not any(each["is_open"] for each in _log(site.buffer, "--kind", "gap")), "the gap to end")

    [ended] = [each for each in _log(site.buffer, "--kind", "gap") if each["at_ns"] == opened["at_ns"]]
    assert ended["to_ns"] > ended["at_ns"]
    assert (ended["device"], ended["scan_group"], ended["severity"]) == ("mixer", "20 ms", "warning")
    assert ended["text"].startswith("mixer, scan group 20 ms, was not read for ")

    site.stop_and_archive(gateway)
    known = ("--trust", str(site.trust))
    proven, unproven = _log(site.archive, *known), _log(site.archive)
    assert [each | {"is_proven": True} for each in unproven] == proven
    assert [each["at_ns"] for each in proven] == sorted(each["at_ns"] for each in proven)
    assert {"start", "config", "epoch", "device.down", "device.up", "gap", "stop"} <= {each["kind"] for each in proven}
    assert _log(site.archive, *known, "--severity", "warning") == [
        each for each in proven if each["severity"] in ("warning", "error")
    ]
    assert _log(site.archive, *known, "--kind", "device.", "--device", "mixer") == [
        each for each in proven if each["kind"].startswith("device.") and each["device"] == "mixer"
    ]
