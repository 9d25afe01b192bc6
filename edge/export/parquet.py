"""Rows as a Parquet file, which duckdb writes.

With a row for each value it is made of tables of numbers, and where each tag has a column of a CSV.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb

from edge.export.files import write_lines
from edge.export.lines import LongLines, WideLines
from edge.model import DataType
from edge.relay.reading_columns import SourcedBlock
from edge.relay.shown_values import LONG
from edge.relay.sql_text import IN_ORDER, pattern, quoted
from edge.relay.value_tables import ValueTables

_MEMORY = "400MB"
_BATCH_ROWS, _BATCH_TEXT = 300_000, 16 * 2**20
_FORMAT = "FORMAT parquet, COMPRESSION zstd"
_LINE_BYTES = 8_000_000  # A record has a megabyte at most; duckdb reads sixteen lines at once.
_TIMES = ("time", "corrected_time", "source_time")
_NUMBERS = "bound_ns", "corrected_bound_ns", "seq", "block", "row", "context", "context_before"
_KINDS = dict.fromkeys(_NUMBERS, "BIGINT") | {"value": "DOUBLE", "unknown": "BOOLEAN"}


def write_long(file: Path, blocks: Iterable[SourcedBlock], tables: ValueTables) -> int:
    """Write a file with a row for each value; returns how many that are. Raises OSError."""
    with _duckdb(file) as connection:
        connection.execute("CREATE TABLE rows (n BIGINT, block INTEGER, tag INTEGER, value DOUBLE, has_number BOOLEAN, "
                           "status UINTEGER, source_time TIMESTAMP_NS)")  # fmt: skip
        connection.execute("CREATE TABLE texts (n BIGINT, value_text VARCHAR, label VARCHAR)")
        for each in _batches(blocks):
            batch = tables.add(each)
            if batch is not None:
                connection.register("batch", batch.rows).execute("INSERT INTO rows FROM batch")
                connection.register("batch", batch.texts).execute("INSERT INTO texts FROM batch")
        query, common = tables.query(LONG)
        for name, table in common.items():
            connection.register(name, table)
        connection.execute(f"COPY ({query}) TO {quoted(str(file))} ({_FORMAT})")
    return tables.count


def _batches(blocks: Iterable[SourcedBlock]) -> Iterator[list[SourcedBlock]]:
    """Blocks by as many values as are worth a step, and fit into memory."""
    batch: list[SourcedBlock] = []
    rows = text = 0
    for block in blocks:
        batch.append(block)
        for column in block.readings.columns:
            rows += len(column.tags)
            if column.data_type is DataType.TEXT:
                text += sum(map(len, column.raw))
        if rows >= _BATCH_ROWS or text >= _BATCH_TEXT:
            yield batch
            batch, rows, text = [], 0, 0
    yield batch


@contextmanager
def _duckdb(file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """What does not fit into memory is beside the file meanwhile."""
    spill = file.with_name(f"{file.name}.spill")
    try:
        with duckdb.connect(config={"memory_limit": _MEMORY, "temp_directory": str(spill)}) as connection:
            for setting in IN_ORDER:
                connection.execute(f"SET {setting}")
            yield connection
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise OSError(str(error)) from error
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def write_wide(
    file: Path, blocks: Iterable[SourcedBlock], lines: LongLines | WideLines, names: Mapping[str, bool]
) -> int:
    """Write a file with a column for each tag, by way of a CSV; returns how many values that are. Raises OSError.

    Args:
        names: its columns; those of tags with whether they have numbers.
    """
    table = file.with_name(f"{file.name}.csv")
    kinds = {name: "DOUBLE" if is_number else _KINDS.get(name, "VARCHAR") for name, is_number in names.items()}
    columns = ", ".join(f"{quoted(name)}: {quoted(kind)}" for name, kind in kinds.items())
    times = ", ".join(f"{name}::TIMESTAMP_NS AS {name}" for name in _TIMES if name in names)
    query = f"""COPY (SELECT * REPLACE ({times}) FROM read_csv({quoted(pattern(table))}, header = true,
      auto_detect = false, delim = ',', quote = '"', escape = '"', nullstr = '', allow_quoted_nulls = false,
      max_line_size = {_LINE_BYTES}, columns = {{{columns}}})) TO {quoted(str(file))} ({_FORMAT})"""  # noqa: S608
    try:
        count = write_lines(table, blocks, lines)
        with _duckdb(file) as connection:
            connection.execute(query)
        return count
    finally:
        table.unlink(missing_ok=True)
