"""T5 in short; the long form is `python -m bench.sampling`."""

from __future__ import annotations

import pytest

from bench.sampling import measure


@pytest.mark.requirement("REQ-TIME-01")
def test_the_true_instant_of_sampling_lies_between_request_and_answer() -> None:
    found = measure(20_000)

    assert (found.reads, found.outside) == (20_000, 0)
    assert found.width_ns > 0
