"""Each requirement has a test that shows it, and the build sees when it does not run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from edge.qualify.requirements import requirements
from tests.support.requirements import holes, marked_tests, page, results_of

ROOT = Path(__file__).parents[2]


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs the tests in the folder as they would run here."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(folder),
        str(folder),
    ]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "tests.support.requirements", *options],
        check=False, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip


def test_every_requirement_is_shown_by_a_test() -> None:
    assert holes(marked_tests(), None) == []


def test_every_mark_is_of_a_requirement() -> None:
    assert marked_tests().keys() - requirements().keys() == set()


def test_the_matrix_is_current() -> None:
    assert (ROOT / "docs/reference/requirements-matrix.md").read_text() == page(marked_tests()), "run: make docs"


def test_an_id_is_unlike_a_code_of_a_failure() -> None:
    assert all(re.fullmatch(r"REQ-[A-Z]+-\d\d", one) for one in requirements())


def test_a_mark_that_names_no_requirement_ends_the_run(tmp_path: Path) -> None:
    marked = '@pytest.mark.requirement("REQ-READ-99")\ndef test_it(): pass\n'
    (tmp_path / "test_marked.py").write_text(f"import pytest\ndef test_another(): pass\n{marked}")

    result = run_pytest(tmp_path)

    assert result.returncode != 0
    assert "there is no requirement REQ-READ-99" in result.stdout
    assert "passed" not in result.stdout


def test_a_run_without_a_test_or_with_one_that_failed_is_a_hole(tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_marked.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_good(number): assert number\n"
        "@pytest.mark.parametrize('number', [1, 0])\n"
        "def test_bad(number): assert number\n"
        "def test_skipped(): pytest.skip('not here')\n"
    )
    names = ("test_good", "test_bad", "test_skipped", "test_that_is_gone")
    tests = [("tests/test_marked.py", name) for name in names]
    marked = {
        one.id: tests if one.id == "REQ-READ-01" else tests[:1] for one in requirements().values() if not one.planned
    }

    run_pytest(tmp_path, "--numprocesses", "1", "--junitxml", str(tmp_path / "results.xml"))
    results = results_of([tmp_path / "results.xml"])

    assert results == {tests[0]: "passed", tests[1]: "failed"}
    assert holes(marked, results) == [
        "REQ-READ-01: test_bad in tests/test_marked.py failed",
        "REQ-READ-01: test_skipped in tests/test_marked.py did not run",
        "REQ-READ-01: test_that_is_gone in tests/test_marked.py did not run",
    ]
    assert "| 1 passed, 1 failed, 2 did not run |" in page(marked, results)
    assert holes({**marked, "REQ-READ-01": []}, results) == ["REQ-READ-01: no test shows it"]
