"""The two small verifiers of the documentation give the verdicts of the test vectors and of our verifier."""

from __future__ import annotations

import ast
import importlib.util
import json
import random
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edge.seal import Record
from edge.verify import Judgement, Verifier
from tests.support.chains import Plant, archived_records, grow, new_identity, start
from tests.support.mutations import MUTATIONS, Attack

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs/reference/verifiers"
VECTORS: dict[str, Any] = json.loads((ROOT / "docs/reference/vectors/vectors.json").read_text("utf-8"))
ASKED = ("verdicts", "absent", "tail", "wholly")
GENERATED = 150

Answers = list[dict[str, Any]]


@cache
def _verify_py() -> ModuleType:
    spec = importlib.util.spec_from_file_location("small_verifier", FOLDER / "verify.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _by_python(trust: dict[str, str], cases: list[dict[str, Any]]) -> Answers:
    verify = _verify_py()
    return [
        verify.judge([*map(bytes.fromhex, case["records"])], *verify.load_trust(trust[name] for name in case["trust"]))
        for case in cases
    ]


def _by_node(trust: dict[str, str], cases: list[dict[str, Any]]) -> Answers:
    command = ["node", str(ROOT / "tests/support/judge.mjs"), str(FOLDER / "verify.mjs")]
    given = json.dumps({"trust": trust, "cases": cases})
    answers: Answers = json.loads(
        subprocess.run(command, input=given, text=True, capture_output=True, check=True).stdout
    )
    return answers


VERIFIERS = pytest.mark.parametrize("judged_by", [_by_python, _by_node])
Judge = Callable[[dict[str, str], list[dict[str, Any]]], Answers]


def _asked(answer: dict[str, Any]) -> dict[str, Any]:
    return {**{name: answer[name] for name in ASKED}, "absent": sorted(map(list, answer["absent"]))}


@pytest.mark.requirement("REQ-VERIFY-02")
@VERIFIERS
def test_they_give_the_verdicts_of_the_vectors(judged_by: Judge) -> None:
    cases = [case for case in VECTORS["cases"] if not case["reading"]]

    answers = judged_by(VECTORS["trust"], cases)

    assert len(cases) > 120
    for case, answer in zip(cases, answers, strict=True):
        assert _asked(answer) == _asked(case), case["name"]


# Chains that nobody wrote down


def _deliveries(seed: int) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Deliveries of a chain with records altered, dropped, cut, repeated, invented and out of order."""
    dice = random.Random(seed)
    identity = new_identity()
    victim = grow(start(identity=identity), 60)
    others = [grow(start(identity=identity), 25), grow(start("line-5"), 25)]
    attack = Attack(victim, others, [each.chain.session for each in others], dice)
    trust = {"line-4": identity.public_pem(victim.chain.issuer).decode()}
    for _ in range(GENERATED):
        records = [each.data for each in _some(victim, dice)]
        if dice.random() < 0.3:
            records += [each.data for each in _some(dice.choice(others), dice)]
        for _ in range(dice.choice((0, 0, 1, 3))):
            place = dice.randrange(len(records))
            change = dice.choice([*MUTATIONS.values()])
            with_change = change(attack, dice.choice(victim.records).data)
            records[place : place + dice.randrange(2)] = [with_change]
        if dice.random() < 0.5:
            dice.shuffle(records)
        yield trust, {"trust": ["line-4"], "records": [each.hex() for each in records]}


def _some(plant: Plant, dice: random.Random) -> list[Record]:
    """All records of a chain, or all but some, which may be its first ones or its last ones."""
    records = plant.records
    gone = {dice.randrange(len(records)) for _ in range(dice.choice((0, 1, 4)))}
    first, last = (dice.choice((0, 0, edge)) for edge in (dice.randrange(20), dice.randrange(20)))
    return [each for number, each in enumerate(records) if number not in gone and first <= number < len(records) - last]


def _by_ours(trust: dict[str, str], case: dict[str, Any]) -> dict[str, Any]:
    from edge.verify import Trust

    anchors = Trust()
    for name in case["trust"]:
        anchors.add_pem(trust[name].encode())
    verifier = Verifier(anchors)
    first_with: dict[bytes, int] = {}
    last: dict[int, Judgement] = {}
    for place, record in enumerate(case["records"]):
        first, *changed = verifier.add(bytes.fromhex(record))
        last[place] = first
        first_with.setdefault(first.hash, place)
        last |= {first_with[each.hash]: each for each in changed}
    report = verifier.report()
    return {
        "verdicts": [str(last[place].verdict) for place in sorted(last)],
        "absent": [[each.epoch.hex(), str(each.verdict), each.first, each.last] for each in verifier.missing()],
        "tail": {each.epoch: str(each.tail) for each in report.epochs if each.held},
        "wholly": report.is_wholly_authentic(),
    }


@pytest.mark.parametrize("seed", range(2))
def test_they_agree_with_ours_on_generated_chains(seed: int) -> None:
    given = [*_deliveries(seed)]
    trust, cases = given[0][0], [case for _, case in given]

    ours = [_asked(_by_ours(trust, case)) for case in cases]

    assert {word for each in ours for word in each["verdicts"]} >= {"AUTHENTIC", "ALTERED", "GARBAGE", "UNVERIFIABLE"}
    for judged_by in (_by_python, _by_node):
        for number, (expected, answer) in enumerate(zip(ours, judged_by(trust, cases), strict=True)):
            assert _asked(answer) == expected, (judged_by.__name__, seed, number)


# As a person runs them

PROGRAMS = pytest.mark.parametrize("program", [(sys.executable, "verify.py"), ("node", "verify.mjs")])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tidegate demo` leaves behind."""
    directory = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "edge.cli", "demo", "--seconds", "5", "--directory", str(directory)]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    return directory


def _run(program: tuple[str, str], trust: Path, *files: Path) -> tuple[int, dict[str, Any]]:
    command = [program[0], str(FOLDER / program[1]), str(trust), *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode in (0, 1), result.stderr
    return result.returncode, json.loads(result.stdout)


@pytest.mark.requirement("REQ-ARCH-06")
@PROGRAMS
def test_a_demo_archive_is_wholly_authentic(demo: Path, program: tuple[str, str]) -> None:
    files = sorted((demo / "archive/demo").glob("*.rec"))

    code, answer = _run(program, demo / "gateway/identity.pub.pem", *files)

    assert code == 0
    assert answer["verdicts"] == {"AUTHENTIC": len(archived_records(demo / "archive/demo"))}
    assert [*answer["tail"].values()] == ["CLOSED"]


@PROGRAMS
def test_what_was_done_to_a_demo_archive_is_said(demo: Path, program: tuple[str, str], tmp_path: Path) -> None:
    records = archived_records(demo / "archive/demo")
    altered = records[5][:-1] + bytes((records[5][-1] ^ 1,))
    file = tmp_path / "day.rec"
    file.write_bytes(b"".join([*records[:5], altered, b"noise", *records[6:9], *records[11:]]))

    code, answer = _run(program, demo / "gateway/identity.pub.pem", file)

    assert code == 1
    assert answer["verdicts"]["GARBAGE"] == 1
    assert answer["verdicts"]["ALTERED"] == 1
    assert sum(last - first + 1 for _, word, first, last in answer["absent"] if word == "MISSING") == 3
    assert not answer["wholly"]


def _lines_of_code(file: Path) -> int:
    """Without blank lines, comments and docstrings."""
    if file.suffix == ".mjs":
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
        return sum(bool(line) and not line.startswith(("//", "/**")) for line in lines)
    text = file.read_text("utf-8")
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    with file.open("rb") as source:
        tokens = [each for each in tokenize.tokenize(source.readline) if each.type not in silent | {tokenize.ENCODING}]
    lines = {line for each in tokens for line in range(each.start[0], each.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.Module) and ast.get_docstring(node):
            lines -= {*range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)}
    return len(lines)


@pytest.mark.parametrize("name", ["verify.py", "verify.mjs"])
def test_they_are_as_small_as_the_page_says(name: str) -> None:
    page = (ROOT / "docs/how-to/verify-without-tidegate.md").read_text("utf-8")

    assert f"[{name}](../reference/verifiers/{name}) | {_lines_of_code(FOLDER / name)} |" in page
