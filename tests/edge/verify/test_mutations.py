"""I1: whatever is done to a chain is seen, and what merely travelled badly raises no alarm."""

from __future__ import annotations

import os

import pytest

from tests.support.mutations import run

COUNT = int(os.environ.get("TIDEGATE_MUTATIONS", "100000"))
SEED = int(os.environ.get("TIDEGATE_SEED", "1"))


@pytest.mark.requirement("REQ-VERIFY-01")
@pytest.mark.timeout(600)
def test_every_mutation_of_a_chain_is_detected_and_no_honest_delivery_is_accused() -> None:
    result = run(COUNT, SEED)

    assert sum(result.tried.values()) > 0.99 * COUNT
    assert {"flip", "insert", "delete", "edit", "drop", "duplicate", "swap", "splice", "swap_key", "replay"} <= set(
        result.tried
    )
    assert not result.undetected, f"seed {SEED}: {result.undetected[:3]}"
    assert not result.false_alarms, f"seed {SEED}: {result.false_alarms[:3]}"
