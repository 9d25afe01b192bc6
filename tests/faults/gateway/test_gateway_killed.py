"""`kill -9` at any moment: what was durable is archived once, the chain goes on, and each outage is on record."""

from __future__ import annotations

import os
import random
import threading

import pytest

from tests.faults.gateway.site_under_test import Site

KILLS = int(os.environ.get("TIDEGATE_KILLS", "15"))
SEED = int(os.environ.get("TIDEGATE_SEED", "7"))


@pytest.mark.requirement("REQ-BUF-01")
@pytest.mark.timeout(120 + 3 * KILLS)
def test_killed_again_and_again_it_archives_all_that_was_durable_once(site: Site) -> None:
    """TIDEGATE_KILLS=1000 makes a night of it; TIDEGATE_SEED chooses other moments."""
    dice = random.Random(SEED)
    site.settings["seal"] = {"checkpoint": "1 s", "key_records": 50}
    for name in ("mixer", "filler", "dryer"):
        site.add_counter(name, every="10 ms")
    site.mosquitto()
    site.relay()

    runs = 0
    for _ in range(KILLS):
        gateway = site.gateway(is_awaited=dice.random() < 0.8)
        threading.Event().wait(dice.uniform(0, 0.7))
        runs += bool(gateway.said("start"))
        gateway.kill()
    gateway = site.gateway()
    site.wait_for_scans()
    told = site.stop_and_archive(gateway)

    [epoch] = site.verify(site.archive)["epochs"]
    assert epoch["tail"] == "CLOSED"
    assert epoch["held"] == [[0, epoch["held"][0][1]]]
    assert len(told.gaps(None)) >= runs
    assert {gap.detail for gap in told.gaps(None)} == {"the gateway ended without a STOP"}
    for name in site.devices:
        site.assert_accounted_for(told, name)
