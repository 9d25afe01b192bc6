"""`tidegate import`: tags from the file of another program, or from a list, into the table of a device."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from edge.cli import EXIT_NO
from edge.cli.output import print_json
from edge.driver import load
from edge.importers.formats import LIMIT_BYTES, read_file
from edge.importers.found import Finding, Found
from edge.tags.merge import MODES, Difference, KeyDifference, Merged, Mode, merge
from edge.tags.prepare import prepare
from edge.tags.target import Target, check_size, find_target, keep_readable, write
from edge.terminal import aligned, printable

EXAMPLE = """\b
Examples:
  tidegate import configs/line-4.yaml tags.xlsx --device plc-4 --dry-run
  tidegate import configs/line-4.yaml tags.xlsx --device plc-4
  tidegate import configs/line-4.yaml export.csv --device plc-4 --mode merge-overwrite --filter "*temp*"
  tidegate import configs/line-4.yaml --from-device --device plc-4

Exit code 0: the table is as the answer says. 1: nothing was changed, because of conflicts or because no tag of the
file can be imported; with --from-device, the table and the device differ, or it does not answer. 2: usage. 78: the
configuration, its table or the file cannot be used."""

_SHOWN = 20
_MARKS = {"added": "+", "changed": "~", "removed": "-", "kept": "=", "conflict": "!"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate import` did, or would do.

    Attributes:
        file: empty where they are compared with the device.
        format: of the file.
        table: the table that the tags go to.
        is_written: whether the table was changed.
        unchanged: tags that the table has already, just so.
        findings: each tag left out and each thing changed, with its place in the file.
        notes: what the format does not say.
    """

    file: str
    format: str
    device: str
    table: str
    mode: str
    is_written: bool
    unchanged: int
    differences: tuple[Difference, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


ANSWER = Answer


@click.command(epilog=EXAMPLE)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--from-device", is_flag=True, help="In place of FILE: compare with the tags that the device has now.")
@click.option("--device", required=True, help="The device that gets the tags.")
@click.option("--group", help="The scan group, by name or interval, where it has several.")
@click.option("--mode", type=click.Choice(MODES), show_default="merge-safe; with --from-device, only compare",
              help="What happens to tags that are there, and to those that the file does not have.")  # fmt: skip
@click.option("--filter", "pattern", default="*", help='Only names that match, such as "*temp*".')
@click.option("--dry-run", is_flag=True, help="Show what would be different, and change nothing.")
@click.option("--direct", is_flag=True, help="Ask the device itself, also where a running gateway reads it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(
    config: Path, file: Path | None, device: str, group: str | None, mode: Mode | None, pattern: str, *,
    from_device: bool, dry_run: bool, direct: bool, as_json: bool,
) -> None:  # fmt: skip
    """Import the tags of FILE into the table that a scan group of the device names in `tags_from`.

    A device without a table gets one beside CONFIG, and one line in CONFIG that names it; comments stay.

    \b
    create           adds tags; nothing is changed if one of them is there
    merge-safe       adds those that are not there, and changes none
    merge-overwrite  adds them, and changes those that differ
    overwrite        the same, and removes those that the file does not have
    delete           removes those that the file has

    With --from-device it shows which tags of the table are gone from the device, new in it, or of another type. A mode
    brings that in: delete removes what is gone, and create adds what is new.
    """
    if (file is None) is not from_device or (direct and not from_device):
        raise click.UsageError("name a FILE, or write --from-device, with or without --direct")
    gc.disable()  # Nearly all that is made stays until the end: looking for the rest takes a third of the time.
    try:
        _import(config, file, device, group, mode, pattern, direct=direct, dry_run=dry_run, as_json=as_json)
    finally:
        gc.enable()


def _import(
    config: Path, file: Path | None, device: str, group: str | None, mode: Mode | None, pattern: str, *,
    direct: bool, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    try:
        target = find_target(config, device, group, load)
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from error
    only_compares, is_refused = file is None and mode is None, False
    if file is None:
        from edge.cli.live_tags import find_live_tags

        live, mode = find_live_tags(config, target, pattern, direct=direct), mode or "overwrite"
        found, merged = live.found, live.merge(target, mode)
    else:
        mode = mode or "merge-safe"
        found, merged, is_refused = _merged(file, target, mode, pattern)
    is_written = merged.has_changes and not (is_refused or dry_run or only_compares)
    if merged.has_changes and not (is_refused or only_compares):
        check_size(target, merged.tags)
        if is_written:
            write(target, merged)
    if as_json:
        print_json(Answer(
            file=str(file or ""), format=found.format, device=device, table=str(target.table), mode=mode,
            is_written=is_written, unchanged=merged.unchanged, differences=tuple(merged.differences),
            findings=tuple(found.findings), notes=tuple(found.notes),
        ))  # fmt: skip
    else:
        _print(found, merged, is_whole=dry_run or is_refused or file is None)
        click.echo(_summary(merged, str(target.table), is_written=is_written, is_refused=is_refused))
    differs = any(each.what == "kept" or not is_written for each in merged.differences)
    if is_refused or (file is None and differs):
        raise SystemExit(EXIT_NO)


def _merged(file: Path, target: Target, mode: Mode, pattern: str) -> tuple[Found, Merged, bool]:
    """What a file has, the table afterwards, and whether it has to stay as it is."""
    with file.open("rb") as opened:
        found = read_file(opened.read(LIMIT_BYTES + 1), file.name, target.model)
    read = prepare(found, target.model, target.kind, pattern)
    tags = keep_readable(target, read, found) if mode != "delete" else read
    names = {each.name for each in found.findings if each.kind == "left out" and each.name}
    merged = merge(target.tags, tags, mode, target.elsewhere, names)
    return found, merged, bool(merged.conflicts) or not (tags or merged.has_changes)


def _print(found: Found, merged: Merged, *, is_whole: bool) -> None:
    for line in _findings(found.findings):
        click.echo(printable(line), err=True)
    for note in found.notes:
        click.echo(f"note: {printable(note)}", err=True)
    if is_whole:
        for line in aligned([row for each in merged.differences for row in _rows(each)]):
            click.echo(line)


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    """Each tag that was left out; of what else came often, the first ones."""
    shown: Counter[tuple[str, str]] = Counter()
    for each in findings:
        rule = (each.kind, each.message.partition(" ")[0])
        shown[rule] += each.kind != "left out"
        if shown[rule] <= _SHOWN:
            yield str(each)
    for (kind, word), count in shown.items():
        if count > _SHOWN:
            yield f"{kind}: {count - _SHOWN:,} more of this kind ({word} ...); --json lists all"


def _rows(each: Difference) -> Iterator[tuple[str, str, str]]:
    mark, name = _MARKS[each.what], printable(each.name)
    if each.what in ("added", "removed"):
        keys = ", ".join(f"{key.key} {key.new or key.old}" for key in each.keys)
        yield mark, name, printable(each.reason or keys)
        return
    yield mark, name, printable(each.reason or _key(each.keys[0]))
    for key in each.keys if each.reason else each.keys[1:]:
        yield "", "", printable(_key(key))


def _key(key: KeyDifference) -> str:
    return f"{key.key}: {key.old or '(none)'} -> {key.new or '(none)'}"


def _summary(merged: Merged, table: str, *, is_written: bool, is_refused: bool) -> str:
    counts = Counter(each.what for each in merged.differences)
    parts = [f"{counts[what]:,} {what}" for what in ("added", "changed", "removed", "kept") if counts[what]]
    parts.append(f"{merged.unchanged:,} unchanged")
    if is_refused:
        conflicts = len(merged.conflicts)
        why = f"{conflicts:,} conflicts" if conflicts else "no tag of the file can be imported"
        return f"{table}: nothing was changed: {why}"
    return f"{table}: {', '.join(parts)}" + (
        "" if is_written or not merged.has_changes else "; nothing was written yet"
    )
