"""A disk that fails in any way is lived with, said, and used again once it works, by the same processes."""

from __future__ import annotations

import pytest

from tests.faults.gateway.disk_faults import FAULTS, DiskFaults
from tests.faults.gateway.site_under_test import Site


@pytest.mark.requirement("REQ-BUF-03")
@pytest.mark.timeout(300)
def test_gateway_and_relay_outlive_every_fault_of_their_disks(site: Site) -> None:
    """`python -m bench.disk_faults` prints after how long each is over."""
    outcome = DiskFaults(site).run()

    assert outcome.findings == [], outcome.text()
    assert set(outcome.recovered_s) == set(FAULTS)
