"""The power of gateway or relay is cut at any disk operation: nothing durable is lost, and the chain goes on."""

from __future__ import annotations

import pytest

from tests.faults.gateway.power_cuts import FirstStarts, PowerCuts
from tests.faults.gateway.site_under_test import Site

CUTS, FIRST_STARTS, SEED = 6, 2, 4


@pytest.mark.requirement("REQ-BUF-01")
@pytest.mark.timeout(600)
def test_power_cuts_cost_nothing_that_was_durable(site: Site) -> None:
    """`python -m bench.power_cuts --cuts 200` is the long run, and takes another seed."""
    outcome = PowerCuts(site, SEED).run(CUTS)

    assert outcome.findings == [], outcome.text()
    assert outcome.cuts.total() == CUTS
    assert outcome.durable > 0


@pytest.mark.timeout(600)
def test_a_power_cut_in_the_first_start_leaves_a_gateway_that_starts(site: Site) -> None:
    outcome = FirstStarts(site, SEED).run(FIRST_STARTS)

    assert outcome.findings == [], outcome.text()


@pytest.mark.timeout(600)
def test_a_disk_that_lies_about_its_syncs_is_found(site: Site) -> None:
    """Otherwise a loop that finds nothing says nothing."""
    outcome = PowerCuts(site, SEED, is_lying=True).run(2)

    assert outcome.findings
