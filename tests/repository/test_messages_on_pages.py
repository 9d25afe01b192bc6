"""What a page says that a person will see is what the program prints."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEEN = {"you see", "log line", "it says"}
PAGES = sorted(
    page for page in (ROOT / "docs").rglob("*.md") if any(f"| {heading} |" in page.read_text() for heading in SEEN)
)


def quoted(page: Path) -> Iterator[str]:
    """The pieces between dots of what stands in backticks in the first column of such tables."""
    is_seen = False
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().split("|")[1:-1]]
        is_seen = bool(cells) and (is_seen or cells[0] in SEEN)
        if is_seen:
            for text in re.findall(r"`([^`]+)`", cells[0]):
                yield from filter(None, (piece.strip() for piece in text.split("…")))


@cache
def printed() -> str:
    """All texts and names of the program, and the reasons of the operating system."""
    files = [path for folder in ("edge", "drivers") for path in sorted((ROOT / folder).rglob("*.py"))]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    return "\n".join([*texts, *names, *map(os.strerror, range(1, 134))])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_message_on_a_page_is_one_that_the_program_prints(page: Path) -> None:
    """An operator looks for the words on the screen; a sentence that changed leads nowhere."""
    pieces = list(quoted(page))

    assert pieces, page
    assert [piece for piece in pieces if piece not in printed()] == []


def test_the_page_for_operators_is_among_them() -> None:
    assert "operate" in {page.stem for page in PAGES}
