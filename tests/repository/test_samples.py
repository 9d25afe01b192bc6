"""What pages show of a terminal is what is seen there: a test runs each sample, or the page says why none can."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from tests.peers.pages.typed import BOOTED, ELSEWHERE, FIRST, PRODUCED, SHOWN, TYPED
from tests.support.typist import ROOT, samples

BLOCK_OF_COMMANDS = re.compile(r"^(.*)\n+```sh\n((?:(?!```).*\n)*)```$", re.MULTILINE)
PAGES = sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if path.name != "commands.md"
)  # fmt: skip


def test_every_sample_is_run_or_says_why_not() -> None:
    unchecked = [
        f"{page}:{sample.line}"
        for page in PAGES
        for sample in samples(page)
        if not sample.reason
        and not (page in (*TYPED, *FIRST, *BOOTED) and sample.language == "text" and sample.follows_commands)
        and not (page in (*SHOWN, *PRODUCED) and sample.language == "console")
    ]

    assert unchecked == []


def test_pages_without_a_sample_that_is_run_are_not_listed() -> None:
    for page in (*SHOWN, *PRODUCED):
        assert any(sample.language == "console" and not sample.reason for sample in samples(page)), page


def test_no_reason_is_empty() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        marks = re.findall(r"<!-- not run:(.*?)-->", text)
        assert all(len(mark.split()) > 3 for mark in marks), page
        assert len(marks) == len(re.findall(r"<!-- not run:.*?-->\n+```", text)), page


@pytest.mark.parametrize(
    ("file", "pages"),
    [("test_typed_pages.py", TYPED), ("test_first_plc_pages.py", FIRST), ("test_pages_on_booted_machines.py", BOOTED)],
)
def test_the_pages_that_are_typed_are_listed(file: str, pages: Sequence[str]) -> None:
    tests = (ROOT / "tests/peers/pages" / file).read_text()

    assert set(re.findall(r'type_page\("([^"]+)"\)', tests)) == set(pages)


def test_commands_for_services_are_typed_or_say_why_not() -> None:
    """What a page tells an operator to do as root works there, because a test has typed it."""
    untyped = [
        f"{page}: {command.splitlines()[0]}"
        for page in PAGES
        if page not in (*TYPED, *FIRST, *BOOTED, *ELSEWHERE)
        for before, command in BLOCK_OF_COMMANDS.findall((ROOT / page).read_text(encoding="utf-8"))
        if "sudo " in command and "<!-- not run: " not in before
    ]

    assert untyped == []
