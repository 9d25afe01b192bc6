"""What the page of contracts promises."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/reference/contracts.md"
_ROW = re.compile(r"^\| `(\w+)` \|(.*)\|$", re.MULTILINE)


def promised(heading: str) -> dict[str, list[str]]:
    """The further cells of each row below a heading of the page, by the name in the first, in order."""
    [section] = re.findall(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return {name: [cell.strip().strip("`") for cell in cells.split(" |")] for name, cells in _ROW.findall(section)}


def types(heading: str) -> dict[str, str]:
    """The second cell of each row."""
    return {name: cells[0] for name, cells in promised(heading).items()}
