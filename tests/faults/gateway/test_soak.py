"""`python -m bench.soak` in short."""

from __future__ import annotations

from tests.faults.gateway.site_under_test import Site
from tests.faults.gateway.soak import soak


def test_whatever_fails_every_scan_and_every_value_is_accounted_for(site: Site) -> None:
    outcome = soak(site, seconds=10, seed=7, every="20 ms")

    assert outcome.findings == []
    assert len(outcome.faults) > 2
