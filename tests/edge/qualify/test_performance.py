"""Performance qualification: what the records of a site say of its last days."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config.check import check
from edge.qualify.checks import Check
from edge.qualify.performance import Performance
from edge.seal import Event
from tests.edge.qualify.conftest import red
from tests.edge.report.conftest import Site, ns

RELAY = """\
relay:
  name: it
  archive: {archive}
  trust: [{anchor}]
  mqtt: {{host: 127.0.0.1, tls: off}}
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A mixer that was read once a second for a minute but for ten seconds, and a broker that was away for five."""
    (tmp_path / "archive").mkdir()
    site = Site(tmp_path / "archive")
    site.read(range(30))
    site.seal(Event(at_ns=ns(20), kind="uplink.down", data={"reason": "the broker is away"}))
    site.seal(Event(at_ns=ns(25), kind="uplink.up"))
    site.gap(0, 29.5, 40, "no answer")
    site.read(range(40, 61))
    return site


def qualify(site: Site, folder: Path) -> dict[str, Check]:
    (folder / "raw").mkdir(parents=True)
    config = folder / "relay.yaml"
    config.write_text(RELAY.format(archive=site.folder, anchor=site.anchor))
    settings = check(config).settings
    assert settings is not None
    checks: list[Check] = []
    Performance(settings, 3660, "0.1.0", lambda _: None).run(folder, checks.append)
    return {each.id: each for each in checks}


@pytest.mark.requirement("REQ-PACK-02")
def test_what_the_site_did_is_told(site: Site, tmp_path: Path) -> None:
    site.write()

    checks = qualify(site, tmp_path / "pack")

    assert red(checks) == {"PQ-02", "PQ-06"}  # It is of long ago, and has no checkpoint.
    assert "180 due, 153 done, 27 missed; 1 gap (1 x no answer)" in checks["PQ-03"].found
    assert checks["PQ-04"].found == "1 outage, the longest 5.0 s"
    # 0.2 ms when it was measured, and 50 ppm of drift for a minute: 3.2 ms, told in steps.
    assert checks["PQ-05"].found.startswith("bounds of 51 records: 50 %: ")
    assert checks["PQ-05"].found.endswith("100 %: 3.41 ms; unknown in 0")


@pytest.mark.requirement("REQ-PACK-03")
def test_a_record_that_is_missing_turns_exactly_that_check_red(site: Site, tmp_path: Path) -> None:
    site.write()
    before = qualify(site, tmp_path / "before")
    site.write([each.data for number, each in enumerate(site.plant.records) if number != 10])

    after = qualify(site, tmp_path / "after")

    assert red(after) - red(before) == {"PQ-01"}
    assert "1 missing" in after["PQ-01"].found


def test_an_outage_that_has_not_ended_is_said(site: Site, tmp_path: Path) -> None:
    site.seal(Event(at_ns=ns(58), kind="uplink.refused", data={"reason": "not authorized"}))
    site.write()

    checks = qualify(site, tmp_path / "pack")

    assert "PQ-04" in red(checks)
    assert "1 did not end" in checks["PQ-04"].found
    assert "not authorized" in (tmp_path / "pack" / checks["PQ-04"].record).read_text()
