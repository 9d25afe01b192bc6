"""A certificate is renewed at work: its device is asked as before, and earlier readings keep their calibration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge.seal import Calibration, Calibrations, Data
from tests.faults.gateway.applying import WHY, apply, assert_whole, devices, run
from tests.faults.gateway.site_under_test import NAME, Site

DAY = timedelta(days=1)


def calibrate(site: Site, certificate: str, due: str) -> None:
    """Write the calibration of the instrument behind the counter."""
    [group] = site.settings["devices"][0]["scan_groups"]
    group["tags"][0] |= {"instrument": "TT-101", "calibration_certificate": certificate, "calibration_due": due}


def held(site: Site) -> dict[str, Calibration]:
    """The calibrations on record, by certificate: each is sealed again with each catalogue, and always the same."""
    found = {entry for each in site.told(site.buffered()).all(Calibrations) for entry in each.entries}
    assert len(found) == len({each.certificate for each in found})
    return {each.certificate: each for each in found}


def asked(site: Site, *command: str) -> dict[str, Any]:
    ran = run(*command[:1], site.archive, "--trust", site.trust, *command[1:], "--json")
    assert ran.exit_code in (0, 1), ran.output
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def read_with(answer: Mapping[str, Any]) -> dict[str, int]:
    return {each["certificate"]: each["readings"] for each in answer["tags"]}


@pytest.mark.requirement("REQ-CALIB-01")
def test_a_renewed_certificate_changes_neither_the_data_nor_what_was_read_before(site: Site) -> None:
    today = datetime.now(UTC).date()
    site.add_counter("c", every="100 ms")
    calibrate(site, "C-1", str(today - 2 * DAY))
    gateway = site.gateway()
    site.wait_for_scans(5)
    status = site.status()
    assert status is not None
    assert status.calibration is not None
    assert (status.calibration.instruments, status.calibration.overdue) == (1, 1)

    calibrate(site, "C-2", str(today + 300 * DAY))
    said = apply(site, "--why", WHY).output
    site.wait_for_scans(5)

    assert "C-2" in said
    assert [device.connects for device in devices(site)] == [1]  # Nothing that is asked of the device has changed.
    assert gateway.stop() == 0
    assert_whole(site, "c")
    first = held(site)
    gateway = site.gateway()
    site.wait_for_scans(2)
    assert gateway.stop() == 0

    told = site.told(site.buffered())
    assert len({each.catalogue for each in told.all(Data) if each.wire_blocks}) == 1
    assert held(site) == first
    assert first["C-1"].since_ns < first["C-2"].since_ns
    [due] = told.events("calibration.due")
    assert (due.subject, due.data["certificate"]) == ("TT-101", "C-1")
    assert due.data["days_left"] in (-2, -3)  # It may be midnight.

    (site.archive / NAME).mkdir(parents=True)
    (site.archive / NAME / f"{today}.rec").write_bytes(b"".join(site.buffered()))
    [reported] = asked(site, "report")["gateways"]
    overdue = {each["certificate"]: each["overdue_from_ns"] is not None for each in reported["instruments"]}
    assert overdue == {"C-1": True, "C-2": False}
    impact = asked(site, "impact", "--instrument", "TT-101")
    assert list(read_with(impact)) == ["C-1", "C-2"]
    assert sum(read_with(impact).values()) == len(told.blocks("c")) == impact["readings"]
    assert impact["tags"][0]["overdue"] == impact["tags"][0]["readings"] >= 5
    assert impact["tags"][0]["last_ns"] < first["C-2"].since_ns <= impact["tags"][1]["first_ns"]
