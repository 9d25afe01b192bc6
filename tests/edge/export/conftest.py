"""Exports of archives on disk, read back by programs that know nothing of Tidegate: csv, json and duckdb."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.units import format_utc
from tests.edge.report.conftest import Site, ns

Row = dict[str, Any]
ENDINGS = {"csv": "csv", "json": "jsonl", "parquet": "parquet"}


def run(site: Site, output: Path, *options: object) -> Result:
    """`tidegate export` of a site."""
    return CliRunner().invoke(
        cli, ["export", str(site.folder), "--trust", str(site.anchor), "-o", str(output), *map(str, options)]
    )


def between(first: float, last: float) -> tuple[str, ...]:
    """The options for a range in seconds of the plant."""
    return "--from", format_utc(ns(first), decimals=6), "--to", format_utc(ns(last), decimals=6)


def export(site: Site, form: str, *options: object, exit_code: int = 0) -> list[Row]:
    """The rows of an export; what has no value is left out."""
    output = site.folder.parent / f"out.{ENDINGS[form]}"
    result = run(site, output, "--force", *options)
    assert result.exit_code == exit_code, (result.output, result.exception)
    return read(output)


def read(output: Path) -> list[Row]:
    """The rows of a file."""
    if output.suffix == ".jsonl":
        return [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    if output.suffix == ".csv":
        with output.open(encoding="utf-8", newline="") as file:
            return [{name: text for name, text in row.items() if text} for row in csv.DictReader(file)]
    with duckdb.connect() as connection:
        # A datetime of Python has microseconds.
        table = connection.execute("SELECT COLUMNS(*)::VARCHAR FROM read_parquet(?)", [str(output)])
        names = [each[0] for each in table.description or ()]
        return [{name: value for name, value in zip(names, row, strict=True) if value is not None}
                for row in table.fetchall()]  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A gateway that has read its mixer for a minute, once a second."""
    (tmp_path / "archive").mkdir()
    site = Site(tmp_path / "archive")
    site.read(range(61))
    return site


@pytest.fixture
def another(tmp_path: Path) -> Callable[..., Site]:
    """Makes a gateway with another catalogue."""
    (tmp_path / "archive").mkdir(exist_ok=True)
    return lambda **more: Site(tmp_path / "archive", **more)
