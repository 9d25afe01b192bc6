"""Settings of duckdb, and texts and paths inside its queries."""

from __future__ import annotations

import glob
from pathlib import Path

IN_ORDER = "threads = 1", "preserve_insertion_order = true", "disabled_optimizers = 'join_order,build_side_probe_side'"
"""Settings by which the rows of a join come in the order of its first table."""


def quoted(text: str) -> str:
    """A text as a literal."""
    return "'" + text.replace("'", "''") + "'"


def pattern(path: Path) -> str:
    """A path for what reads, to which [, * and ? are those of a pattern; what writes takes them as they are.

    Raises:
        OSError: there is no pattern of this path.
    """
    escaped = glob.escape(str(path))
    if "\\" in escaped and escaped != str(path):
        raise OSError(f"{path} has a backslash and one of [*? in its name, which duckdb cannot read: call it otherwise")
    return escaped
