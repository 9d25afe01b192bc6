"""A ptp4l that runs beside a gateway which does not ask it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edge.config.check import check
from edge.doctor.machine import clock

GATEWAY = """\
gateway: {name: g, path: a/b, state: state}
clock: {CLOCK}
devices: [{name: d, driver: simulator, scan_groups: [{every: 1 s, tags: [{name: t, signal: counter}]}]}]
"""


def found(folder: Path, settings: str) -> list[str]:
    (folder / "gateway.yaml").write_text(GATEWAY.replace("CLOCK", settings))
    checked = check(folder / "gateway.yaml")
    assert checked.settings is not None, checked.errors
    return [each.remedy for each in clock(checked.settings, None) if each.text.startswith("ptp4l runs")]


def test_how_to_ask_a_ptp4l_that_runs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ptp4l"
    monkeypatch.setattr("edge.doctor.machine._PTP4L", (tmp_path / "ptp4lro", path))
    without = found(tmp_path, "chrony: off")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ptp4l:
        ptp4l.bind(str(path))
        unasked, asked = found(tmp_path, "chrony: off"), found(tmp_path, f"chrony: off, ptp: {path}")
    killed = found(tmp_path, "chrony: off")

    assert (without, asked, killed) == ([], [], [])
    assert unasked == [f"write ptp: {path} below clock:, for the bound of PTP; docs/how-to/ptp.md"]
