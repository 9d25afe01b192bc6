"""`python -m bench.outage` in short: a backlog over a slow link, while the gateway reads on."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.outage import measure


@pytest.mark.requirement("REQ-SEND-01")
@pytest.mark.parametrize("is_in_order", [False, True], ids=["live first", "in order"])
def test_a_backlog_is_delivered_whole_and_fresh_records_go_as_they_are_meant_to(
    tmp_path: Path, is_in_order: bool
) -> None:
    drained = measure(tmp_path, hours=0.03, link="1mbit", is_in_order=is_in_order)

    assert drained.records > 108
    assert (drained.lost, drained.twice) == (0, 0)
    assert drained.is_authentic
    assert drained.is_in_order == is_in_order
