"""Operation qualification, whole: a planted wrong word order turns exactly the check of the values red."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.qualify.checks import Check
from edge.qualify.operation import Operation
from edge.qualify.requirements import requirements


@pytest.mark.timeout(400)  # Half a minute on a machine that has nothing else to do.
@pytest.mark.requirement("REQ-PACK-02", "REQ-PACK-03")
def test_of_all_checks_only_that_of_the_values_finds_a_device_with_swapped_words(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    checks: list[Check] = []

    Operation(tmp_path, lambda _: None, is_swapped=True).run(checks.append)

    failed = {each.id: each.found for each in checks if each.verdict != "held"}
    assert list(failed) == ["OQ-12"], failed
    assert "uint32 is 3203391149, not 3735928559" in failed["OQ-12"]
    assert len(checks) == len({each.id for each in checks}) >= 17
    assert {each for check in checks for each in check.requirements} <= set(requirements())
    assert "known-values,uint32,3203391149" in (tmp_path / "raw/OQ-12.csv").read_text()
