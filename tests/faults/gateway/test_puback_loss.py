"""Connections that end all the time, with PUBACKs lost: `python -m bench.reconnects` in short."""

from __future__ import annotations

from tests.faults.gateway.puback_loss import PubackFilter, lose_pubacks
from tests.faults.gateway.site_under_test import Site


def test_connections_that_end_and_pubacks_that_are_lost_cost_nothing(site: Site) -> None:
    proxy, findings = lose_pubacks(site, cycles=40, seed=1)

    assert findings == []
    assert proxy.counts.swallowed
    assert proxy.counts.duplicates


def test_a_gateway_that_only_pubacks_do_not_reach_ends_the_connection_and_loses_nothing(site: Site) -> None:
    site.settings["uplink"]["mqtt"]["keep_alive"] = "1 s"

    proxy, findings = lose_pubacks(site, cycles=3, seed=2, kind=PubackFilter)

    assert findings == []
    assert proxy.counts.swallowed > 8
    assert proxy.counts.duplicates
