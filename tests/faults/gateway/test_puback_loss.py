"""Connections that end all the time, with PUBACKs lost: `python -m bench.reconnects` in short."""

from __future__ import annotations

from tests.faults.gateway.puback_loss import lose_pubacks
from tests.faults.gateway.site_under_test import Site


def test_connections_that_end_and_pubacks_that_are_lost_cost_nothing(site: Site) -> None:
    proxy, findings = lose_pubacks(site, cycles=40, seed=1)

    assert findings == []
    assert proxy.counts.swallowed
    assert proxy.counts.duplicates
