"""Rows as a Parquet file: duckdb makes it of a CSV, with a type for each column and times in nanoseconds of UTC."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb

from edge.relay.sql_text import pattern, quoted

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {"threads": 1, "memory_limit": "400MB"}
_LINE_BYTES = 8_000_000  # A record has a megabyte at most; duckdb reads sixteen lines at once.
_TIMES = ("time", "corrected_time", "source_time")
_KINDS = dict.fromkeys(("bound_ns", "corrected_bound_ns", "seq", "block", "row"), "BIGINT") | {
    "value": "DOUBLE", "unknown": "BOOLEAN",
}  # fmt: skip


def convert(table: Path, file: Path, names: Mapping[str, bool]) -> None:
    """Write a Parquet file.

    Args:
        table: a CSV as `lines` writes it.
        file: the new file.
        names: its columns; those of tags with whether they have numbers.

    Raises:
        OSError: it cannot be written.
    """
    kinds = {name: "DOUBLE" if is_number else _KINDS.get(name, "VARCHAR") for name, is_number in names.items()}
    columns = ", ".join(f"{quoted(name)}: {quoted(kind)}" for name, kind in kinds.items())
    times = ", ".join(f"{name}::TIMESTAMP_NS AS {name}" for name in _TIMES if name in names)
    source = quoted(pattern(table))
    query = f"""COPY (SELECT * REPLACE ({times}) FROM read_csv({source}, header = true, auto_detect = false,
      delim = ',', quote = '"', escape = '"', nullstr = '', allow_quoted_nulls = false, max_line_size = {_LINE_BYTES},
      columns = {{{columns}}})) TO {quoted(str(file))} (FORMAT parquet, COMPRESSION zstd)"""  # noqa: S608 - names are quoted
    with duckdb.connect(config=_SETTINGS) as connection:
        try:
            connection.execute(query)
        except duckdb.IOException as error:
            raise OSError(str(error)) from error
