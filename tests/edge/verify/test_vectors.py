"""The published test vectors: our verifier gives every record the verdict that was written by hand."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from edge.verify import Judgement, Trust, Verifier

ROOT = Path(__file__).parents[3]
VECTORS: dict[str, Any] = json.loads((ROOT / "docs/reference/vectors/vectors.json").read_text("utf-8"))
CASES: dict[str, Any] = {case["name"]: case for case in VECTORS["cases"]}


def _orders(case: dict[str, Any]) -> list[list[int]]:
    """Orders of arrival: all of a few records, some of many. A case that has a DUPLICATE is judged as it is."""
    given = list(range(len(case["records"])))
    if "DUPLICATE" in case["verdicts"]:
        return [given]
    if len(given) <= 4:
        return [list(each) for each in permutations(given)]
    return [given, given[::-1], *(random.Random(seed).sample(given, len(given)) for seed in range(3))]


def _judge(case: dict[str, Any], order: list[int]) -> tuple[Verifier, list[Judgement]]:
    """The verifier after all records, and the last judgement on each, in the order of the case."""
    trust = Trust()
    for name in case["trust"]:
        trust.add_pem(VECTORS["trust"][name].encode())
    verifier = Verifier(trust)
    judgements: dict[int, Judgement] = {}
    first_with: dict[bytes, int] = {}
    for place in order:
        first, *changed = verifier.add(bytes.fromhex(case["records"][place]))
        judgements[place] = first
        first_with.setdefault(first.hash, place)
        for each in changed:
            judgements[first_with[each.hash]] = each
    return verifier, [judgements[place] for place in range(len(order))]


@pytest.mark.requirement("REQ-VERIFY-02")
@pytest.mark.parametrize("name", CASES)
def test_every_verdict_is_that_of_the_format(name: str) -> None:
    case = CASES[name]
    for order in _orders(case):
        verifier, judgements = _judge(case, order)
        report = verifier.report()

        assert [str(each.verdict) for each in judgements] == case["verdicts"], (order, [e.reason for e in judgements])
        absent = [[each.epoch.hex(), str(each.verdict), each.first, each.last] for each in verifier.missing()]
        assert sorted(absent) == sorted(case["absent"]), order
        assert {each.epoch: str(each.tail) for each in report.epochs if each.held} == case["tail"], order
        assert sum(bool(each.unknown) and each.verdict == "AUTHENTIC" for each in judgements) == case["unknown"], order
        assert report.is_wholly_authentic() == case["wholly"], order


def test_the_file_is_what_its_generator_writes() -> None:
    command = [sys.executable, "-m", "tests.support.vectors", "--check"]

    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_there_are_enough_cases_each_with_its_own_name() -> None:
    assert len(CASES) == len(VECTORS["cases"]) >= 200
