"""`tidegate lake`: look after the Parquet files that a relay writes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from edge.cli.output import ExistingPath, Failure
from edge.cli.progress import Progress, unless_stopped
from edge.config.check import WITH_DUCKDB
from edge.relay.sinks.sink import SinkUnreachable
from edge.units import counted, format_size


@click.group(
    epilog="""\b
Example:
  tidegate lake compact /srv/lake 2026-01-31

Exit code 0: it did what was asked. 1: it could not. 2: usage."""
)
def command() -> None:
    """Look after the Parquet files that a relay writes."""


@command.command(
    epilog="""\b
Examples:
  tidegate lake compact /srv/lake 2026-01-31

Exit code 0: the day has one file of each kind for each chain. 1: it has none, or could not be written. 2: usage."""
)
@click.argument("directory", type=ExistingPath(path_type=Path, file_okay=False))
@click.argument("day")
def compact(directory: Path, day: str) -> None:
    """Make one file of the many that the lake DIRECTORY has for each gateway of the day DAY.

    The relay may run meanwhile. Whoever reads finds the files of before or the new one, and never both.
    """
    if find_spec("duckdb") is None:
        raise click.UsageError(f"a lake needs duckdb: {WITH_DUCKDB}")
    from edge.relay.sinks.lake import failures
    from edge.relay.sinks.lake_files import DATASETS, LakeFiles, is_day

    if not any((directory / each).is_dir() for each in DATASETS):
        raise click.UsageError(f"{directory} is no lake: no relay has written files there")
    if not is_day(day):
        raise click.UsageError(f"{day!r} is no day: write it as 2026-01-31")
    with unless_stopped("nothing was changed"), Progress("compact", "days", 1) as progress:
        progress.say(day)
        try:
            with failures(directory):
                files = LakeFiles(directory, "200MB")
                days = files.days()
                if day not in days:
                    there = f"it has {days[0]} to {days[-1]}" if days else "it has no day"
                    raise Failure(f"{directory} has no files of {day}; {there}")
                before, before_bytes = _size(directory, day)
                files.compact(day)
        except SinkUnreachable as error:
            raise Failure(f"{error}; the files are as they were") from error
    after, after_bytes = _size(directory, day)
    click.echo(f"{day}: of {counted(before, 'file')}, {format_size(before_bytes)}, "
               f"became {after}, {format_size(after_bytes)}")  # fmt: skip


def _size(directory: Path, day: str) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in directory.glob(f"*/gateway=*/day={day}/*.parquet")]
    return len(sizes), sum(sizes)
