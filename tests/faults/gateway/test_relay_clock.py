"""A relay without a battery begins in 1970, and its clock is set later."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from edge.health import read_status
from hil.wall_clock import WallClock
from tests.faults.gateway.site_under_test import Process, Site


def day_files(site: Site) -> list[str]:
    return sorted(path.name for path in site.archive.rglob("*.rec"))


def test_a_relay_that_begins_in_1970_keeps_everything_when_its_clock_is_set(site: Site, tmp_path: Path) -> None:
    clock = WallClock(tmp_path)
    clock.shift(60 - int(time.time()))
    site.add_counter("mixer")
    site.mosquitto()
    key = tmp_path / "relay.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    keeps = {"archive_keep": {"age": "1 d", "key": f"file:{key}"}}
    relay = site.relay(environment=clock.environment, **keeps)
    gateway = site.gateway()
    site.wait(lambda: len(site.archived()) > 20, "the relay to archive")
    [issuer] = site.wait(lambda: read_status(site.archive / "status.sock").relay.issuers, "its status")
    assert issuer.clock_ahead_ns > 50 * 365 * 86_400 * 10**9  # As it seems to this relay: no lag can be told.
    assert day_files(site) == ["1970-01-01.rec"]

    clock.shift(0)
    site.wait(lambda: len(day_files(site)) == 2, "the file of today")
    more = site.archived()
    site.wait(lambda: len(site.archived()) > len(more), "more records")
    assert relay.stop() == 0
    relay = site.relay(environment=clock.environment, **keeps)  # It looks for what is due at its start.
    told = site.stop_and_archive(gateway)

    assert_removed_nothing(site, relay)
    site.assert_accounted_for(told, "mixer")
    assert site.verify(site.archive)["is_wholly_authentic"]


def assert_removed_nothing(site: Site, relay: Process) -> None:
    assert not relay.said("records removed by retention"), relay.log()
    assert not list(site.archive.rglob("*.removed.json"))
