"""`tidegate export`: the values of a range of an archive as a file, each with the record that it comes from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import tzinfo
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import click

from edge.accounts import own_account
from edge.cli import EXIT_NO
from edge.cli.batch import batch_options, batch_slice, check_unit
from edge.cli.log_sentences import log_sentence
from edge.cli.output import ExistingPath, Failure, json_bytes, print_json
from edge.cli.progress import Progress, unless_stopped
from edge.cli.report import files_of, read_files, report_of
from edge.cli.time_range import range_options, window_of
from edge.config.check import WITH_DUCKDB
from edge.config.messages import choices
from edge.export.b2mml import B2mmlFile, Happened, Head, Version
from edge.export.batch_events import batch_events, batch_head, group_key
from edge.export.files import drafts, write_gaps, write_lines
from edge.export.lines import LongLines, WideLines
from edge.export.records import SliceRecords
from edge.export.selection import Selection
from edge.export.values import Groups
from edge.model import Catalogue, CatalogueTag
from edge.references import TrustPath, trust_path
from edge.relay.shown_values import Wanted
from edge.relay.value_tables import ValueTables
from edge.report.batch import BatchSlice, Part, trimmed
from edge.report.collect import Collector
from edge.report.facts import Result
from edge.report.times import Times
from edge.syslog import Syslog
from edge.units import counted, format_size
from edge.verify import Trust, Verdict

Format = Literal["csv", "parquet", "json", "records", "b2mml"]
_SUFFIXES: dict[str, Format] = {".csv": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json",
                                ".rec": "records", ".xml": "b2mml"}  # fmt: skip
_ADMITTED = {str(each).lower(): each for each in (Verdict.LINKED, Verdict.UNVERIFIABLE, Verdict.UNTRUSTED,
             Verdict.ALTERED, Verdict.FORK)}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFile:
    """A file that was written."""

    file: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate export` wrote."""

    result: Result
    """Of the report on the range."""
    text: str
    """One sentence or two for people; its words may change with each version."""
    values: int
    records: int
    """Of a batch, where the format is records: those with scans of it."""
    gaps: int
    """Rows of the file about what is not there."""
    left_out: dict[str, int]
    """Records that hold values, or may, and were left out, by the reason."""
    files: tuple[ExportedFile, ...]
    """Of the values, of the gaps, and of the report."""


ANSWER = Answer
_PARTS: tuple[Part, ...] = ("batch", "boundary")
_SYSLOG = Path("/dev/log")


@click.command(
    epilog="""\b
Examples:
  tidegate export archive/ --trust line-4.pub.pem --from 2026-01-31 --to 2026-02-01 --zone Europe/Zurich -o day.csv
  tidegate export archive/ --trust trusted/ --gateway line-4 --from 2026-01-31T06:00Z --tags 'plc-1/*' -o shift.parquet
  tidegate export archive/ --trust trusted/ --from 2026-01-31 --to 2026-02-01 --zone UTC --wide -o day.csv

Beside FILE come FILE.gaps.csv with what is not there, and FILE.report.json as `tidegate report` writes it.

Exit code 0: written, and the range is complete and unaltered. 1: written, and it is not; or it could not be written.
2: usage. 78: a trust anchor cannot be used."""
)
@click.argument("archive", type=ExistingPath(path_type=Path))
@click.option("--output", "-o", "output", required=True, type=click.Path(path_type=Path),
              metavar="FILE", help="Where to: FILE.csv, FILE.parquet, FILE.jsonl; of a batch also FILE.rec, FILE.xml, "
              "or a directory, where the file is named after it.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["csv", "parquet", "json", "records", "b2mml"]),
              help="What to write; without it the ending of FILE says it. json is an object a line; records are those "
              "of a batch, byte for byte; b2mml is its BatchProductionRecord.")  # fmt: skip
@click.option("--b2mml-version", "b2mml_version", type=click.Choice(["V0701", "V0600"]), default="V0701",
              show_default=True, help="Version of the schemas of MESA.")  # fmt: skip
@click.option("--trust", "anchors", multiple=True, required=True, type=trust_path, metavar="[GATEWAY=]PATH",
              help="Public key, CA certificate, revocation list, or a directory of them; may be repeated.")  # fmt: skip
@range_options()
@batch_options
@click.option("--gateway", help="Only this gateway.")
@click.option("--tags", "patterns", multiple=True, metavar="PATTERN",
              help="Only tags whose DEVICE/TAG has this pattern: 'plc-1/*'; may be repeated.")  # fmt: skip
@click.option("--raw", "is_raw", is_flag=True, help="Values as the device sent them, not in their units.")
@click.option("--wide", "is_wide", is_flag=True, help="A column for each tag, and a row for each scan.")
@click.option("--admit", help="Verdicts whose values to write as well, separated by commas: linked, unverifiable, "
              "untrusted, altered, fork.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--json", "as_json", is_flag=True, help="What was written, as one JSON object.")
def command(
    archive: Path, *, output: Path, form: Format | None, b2mml_version: Version, anchors: tuple[TrustPath, ...],
    start: str | None, end: str | None, zone: tzinfo | None, batch: str | None, unit: str | None, gateway: str | None,
    patterns: tuple[str, ...], is_raw: bool, is_wide: bool, admit: str | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write the values of a range to a file, each with its status, its time, and the record that it comes from.

    ARCHIVE is the relay's archive, one gateway's folder in it, or a file of records. Only values of authentic records
    are written. With --batch they are exactly those of the batch.
    """
    window = window_of(start, end, zone)
    check_unit(batch, unit)
    output, form = _output(output, batch, form, is_wide=is_wide)
    beside = [output.with_name(f"{output.name}{ending}") for ending in (".gaps.csv", ".report.json")]
    boundary = output.with_name(f"{output.stem}.boundary{output.suffix}")
    is_apart = batch is not None and form in ("csv", "parquet", "json")
    _check_place([*beside, *([boundary] if is_apart else ()), output], force=force)
    trust, times = Trust.load(anchors), Times(zone)
    files, not_reported = files_of(archive, gateway, trust)
    with unless_stopped("nothing was written"), Progress("export", "%") as progress:
        chosen = None if batch is None else batch_slice(files, trust, gateway, (batch, unit), window, progress)
        window = window if chosen is None else chosen.window
        selection = Selection(window, _admitted(admit), chosen)
        exact = None if chosen is None or form != "records" else SliceRecords(chosen)
        collector = Collector(trust, window, gateway=gateway, time_text=times.short, batch=chosen,
                              follower=selection.note if exact is None else exact.note)  # fmt: skip
        read_files(collector, files, gateway, trust, progress)
        times.begin_with(collector.begin_ns)
        with_tags = None if chosen is None else lambda *_: True
        report = report_of(collector, anchors, zone, not_reported, with_tags)
        catalogues = {digest: each for held in collector.gateways.values()
                      for digest, each in held.readings.catalogues.items()}  # fmt: skip
        named = [each for digest, each in catalogues.items() if digest in selection.catalogues or admit]
        _check_tags(patterns, named)
        groups = Groups(_wanted(patterns), is_raw=is_raw)
        columns = groups.columns(named)
        lines = (
            WideLines(groups, list(columns), is_json=form == "json")
            if is_wide
            else LongLines(groups, is_json=form == "json")
        )

        def say(done: int, of_all: int) -> None:
            progress.done = 100 * done // (of_all or 1)
            progress.say(f"writing {output.name}")

        out = _Out(form=form, selection=selection, catalogues=catalogues, groups=groups, columns=columns, lines=lines,
                   wanted=_wanted(patterns), is_raw=is_raw, is_wide=is_wide, say=say)  # fmt: skip
        apart = [boundary] if is_apart else []
        count = record_count = boundary_count = 0
        with _named(output), drafts(*beside, *apart, output) as (gaps, told, *of_boundary, values):
            if exact is not None:
                record_count = exact.write(values)
            elif chosen is not None and form == "b2mml":
                record = B2mmlFile(values, groups, b2mml_version)
                count = out.b2mml(record, chosen, batch_events(collector, chosen, report), batch_head(chosen, report))
            else:
                for file in of_boundary:
                    boundary_count = out.rows(file, "boundary")
                count = out.rows(values)
            gap_count = write_gaps(gaps, report)
            told.write_bytes(json_bytes(report))
    answer = Answer(
        result=report.result, text=report.text, values=count, records=record_count, gaps=gap_count,
        left_out=dict(selection.left_out), files=tuple(
            ExportedFile(file=str(each), size_bytes=each.stat().st_size) for each in (output, *beside, *apart)),
    )  # fmt: skip
    _tell(archive, output, count)
    if as_json:
        print_json(answer)
    else:
        _show(answer, boundary_count)
    if report.result != "complete":
        raise SystemExit(EXIT_NO)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Out:
    """Writes values in the form that was asked for."""

    form: Format
    selection: Selection
    catalogues: Mapping[bytes, Catalogue]
    groups: Groups
    columns: Mapping[str, CatalogueTag]
    lines: LongLines | WideLines
    wanted: Wanted
    is_raw: bool
    is_wide: bool
    say: Callable[[int, int], None]

    def rows(self, file: Path, part: Part = "batch") -> int:
        """Write a table; returns how many values it has. Raises OSError."""
        found = self.selection.read(self.catalogues, self.say, part=part)
        if self.form != "parquet":
            return write_lines(file, found, self.lines)
        from edge.export import parquet

        if self.is_wide:
            columns, groups = self.columns, self.groups
            are_numbers = {name: name in columns and groups.is_number(columns[name]) for name in self.lines.names}
            return parquet.write_wide(file, found, self.lines, are_numbers)
        return parquet.write_long(file, found, ValueTables(self.wanted, is_raw=self.is_raw, is_short=True))

    def b2mml(self, record: B2mmlFile, batch: BatchSlice, events: Iterable[Happened], head: Head) -> int:
        """Write a BatchProductionRecord; returns how many values it has. Raises OSError."""
        count = 0
        with closing(record):
            for part in _PARTS:
                found = self.selection.read(self.catalogues, self.say, part=part)
                count += record.add(part, ((each, batch.unit_of(group_key(each))) for each in found))
            record.write(head, events)
        return count


def _tell(archive: Path, output: Path, values: int) -> None:
    """Tell the system's log: an archive has no key to put on record what was taken out of it."""
    told = {"account": own_account(), "archive": str(archive), "file": str(output), "values": values}
    with closing(Syslog(_SYSLOG, "", log_sentence)) as syslog:
        syslog.take("info", "export", told)


def _output(output: Path, batch: str | None, form: Format | None, *, is_wide: bool) -> tuple[Path, Format]:
    """The file to write, and its form. In a directory it is named after the batch. Raises UsageError."""
    if output.is_dir():
        if batch is None or form is None:
            raise click.UsageError(f"{output} is a directory: name a file in it, or with --batch the --format as well")
        ending = next(suffix for suffix, each in _SUFFIXES.items() if each == form)
        output /= f"{safe_name(trimmed(batch))}{ending}"
    form = _format(output, form)
    if form in ("records", "b2mml") and batch is None:
        raise click.UsageError(f"--format {form} is of a batch: name it with --batch ID")
    if form in ("records", "b2mml") and is_wide:
        raise click.UsageError(f"--wide is for csv, parquet and json, and not for {form}")
    return output, form


def safe_name(text: str) -> str:
    """A name for a file without what a file system or a shell trips over; each text has its own."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".-")[:80]
    return name if name == text else f"{name}_{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _format(output: Path, form: Format | None) -> Format:
    form = form or _SUFFIXES.get(output.suffix.lower())
    if form is None:
        raise click.UsageError(
            f"--format is missing: the ending of {output} does not say csv, parquet, json, records or b2mml"
        )
    if form == "parquet" and find_spec("duckdb") is None:
        raise click.UsageError(f"Parquet needs duckdb: {WITH_DUCKDB}; csv and json need nothing more")
    return form


def _check_place(files: Collection[Path], *, force: bool) -> None:
    for file in files:
        if not file.parent.is_dir():
            raise click.UsageError(f"{file} cannot be written: there is no directory {file.parent}")
        if file.exists() and not force:
            raise click.UsageError(f"{file} is there already; --force replaces it")


def _admitted(text: str | None) -> list[Verdict]:
    words = text.replace(" ", "").split(",") if text else []
    for word in words:
        if word not in _ADMITTED:
            raise click.UsageError(f"--admit knows no verdict {word!r}; {choices(word, _ADMITTED)}")
    return [_ADMITTED[word] for word in words]


def _wanted(patterns: Collection[str]) -> Wanted:
    return lambda device, tag: not patterns or any(_matches(device, tag, each) for each in patterns)


def _matches(device: str, tag: str, pattern: str) -> bool:
    return fnmatchcase(f"{device}/{tag}", pattern) or fnmatchcase(tag, pattern)


def _check_tags(patterns: Collection[str], catalogues: Collection[Catalogue]) -> None:
    known = dict.fromkeys(
        (group.device, tag.name) for each in catalogues for group in each.groups for tag in group.tags
    )
    for pattern in patterns:
        if known and not any(_matches(*name, pattern) for name in known):
            names = choices(pattern, [f"{device}/{tag}" for device, tag in known])
            raise click.UsageError(f"--tags: no tag of the range is called {pattern!r}; {names}")


@contextmanager
def _named(output: Path) -> Iterator[None]:
    """Say which file cannot be written; an error of reading has the name of another one."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and Path(error.filename).parent != output.parent:
            raise
        raise Failure(f"{output} cannot be written: {error.strerror or error}; nothing was written") from error


def _show(answer: Answer, boundary: int) -> None:
    click.echo(answer.text)
    for reason, count in answer.left_out.items():
        click.echo(f"left out: {counted(count, 'record')}, because {reason}")
    written = counted(answer.records, "record") if answer.records else counted(answer.values, "value")
    notes = (written, counted(answer.gaps, "row") + " of what is not there", "the report",
             f"{counted(boundary, 'value')} sampled while the batch changed")  # fmt: skip
    for file, note in zip(answer.files, notes, strict=False):
        click.echo(f"{file.file}: {note}, {format_size(file.size_bytes)}")
