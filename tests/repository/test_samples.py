"""What pages show of a terminal is what is seen there: a test runs each sample, or the page says why none can."""

from __future__ import annotations

import re

from tests.peers.pages.typed import SHOWN, TYPED
from tests.support.typist import ROOT, samples

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
        and not (page in TYPED and sample.language == "text" and sample.follows_commands)
        and not (page in SHOWN and sample.language == "console")
    ]

    assert unchecked == []


def test_pages_without_a_sample_that_is_run_are_not_listed() -> None:
    for page in SHOWN:
        assert any(sample.language == "console" and not sample.reason for sample in samples(page)), page


def test_no_reason_is_empty() -> None:
    for page in PAGES:
        marks = re.findall(r"<!-- not run:(.*?)-->", (ROOT / page).read_text(encoding="utf-8"))
        assert all(len(mark.split()) > 3 for mark in marks), page
        assert len(marks) == sum(bool(sample.reason) for sample in samples(page)), page


def test_the_pages_that_are_typed_are_listed() -> None:
    tests = (ROOT / "tests/peers/pages/test_typed_pages.py").read_text()

    assert set(re.findall(r'type_page\("([^"]+)"\)', tests)) == set(TYPED)
