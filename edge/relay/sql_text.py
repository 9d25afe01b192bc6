"""Texts and paths inside a query of duckdb."""

from __future__ import annotations

import glob
from pathlib import Path


def quoted(text: str) -> str:
    """A text as a literal."""
    return "'" + text.replace("'", "''") + "'"


def pattern(path: Path) -> str:
    """A path for what reads, to which [, * and ? are those of a pattern; what writes takes them as they are."""
    return glob.escape(str(path))
