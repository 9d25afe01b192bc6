"""The shortest run of each benchmark of a whole gateway or relay: that it measures, not what.

Otherwise a benchmark that no longer runs is found when its figure is needed. No figure is compared with its goal here:
that depends on the machine.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import loads, results


@pytest.fixture(autouse=True)
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the rows go instead of bench/RESULTS.md."""
    monkeypatch.setattr(results, "RESULTS", tmp_path / "RESULTS.md")
    return tmp_path / "RESULTS.md"


def test_a_load_is_measured_beside_the_c_poller(stored: Path) -> None:
    loads.main(["10@1s", "--rounds", "1", "--seconds", "2"])

    assert "| Load 10@1s, 500 tags a device | <= 1.2 % of one core" in stored.read_text()
