"""T4: the stated bound covers the true error of a modelled clock, whatever its grandmaster does.

`python -m bench.time` is the long form.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from secrets import randbelow

import pytest

from edge.clock import TimeState
from tests.support.clock_scenarios import Outcome
from tests.support.ptp_scenarios import LOSSES, SCENARIOS, UNBOUNDED, watch

SECONDS = 40
S = 10**9


@pytest.mark.requirement("REQ-TIME-01")
def test_the_bound_covers_the_true_error_in_every_sample(tmp_path: Path) -> None:
    seed = randbelow(10**6)
    outcomes = {each.name: each for each in asyncio.run(watch(tmp_path, SECONDS, seed))}

    assert set(outcomes) == set(SCENARIOS)
    for name, outcome in outcomes.items():
        assert len(outcome.bounded) > 10 * SECONDS // 3, (seed, name)
        assert outcome.uncovered == [], (seed, name)
    for name in LOSSES:
        assert _seconds_to_recognize(outcomes[name]) <= 10, (seed, name)
    for name in UNBOUNDED:
        late_ns = (outcomes[name].lost_ns or 0) + 2 * S
        assert not [each for each in outcomes[name].bounded if each.boot_ns > late_ns], (seed, name)


def _seconds_to_recognize(outcome: Outcome) -> float:
    lost_ns = outcome.lost_ns or 0
    changed = (each for each in outcome.samples if each.boot_ns > lost_ns and each.state is not TimeState.SYNCHRONIZED)
    return (next(changed).boot_ns - lost_ns) / S
