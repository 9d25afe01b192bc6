"""The short form of `python -m bench.scale_out`: processes of each role are killed, and Kafka is away for a while."""

from __future__ import annotations

import argparse

from bench.scale_out import faults


def test_what_is_sealed_is_stored_once_whatever_is_killed() -> None:
    """It exits with what it found where a row is missing or twice, or a record is not in an archive."""
    options = argparse.Namespace(gateways=20, rate=5.0, seconds=25.0, kill_every=8.0, away=5.0, seed=2, workers=0)

    (row,) = faults(options)

    assert "2,500 rows, 0 twice" in row.measured
    assert "2,500 DATA records in the archives together, 0 missing" in row.measured
