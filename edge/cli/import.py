"""`tidegate import`: tags of another program or a list for one device, or a workbook of all devices and tags."""

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
from edge.tags.prepare import PreparedTag, prepare
from edge.tags.site import read_site
from edge.tags.site_import import check_files, import_workbook, write_files
from edge.tags.target import Target, check_size, find_target, keep_readable, write
from edge.terminal import aligned, printable

EXAMPLE = """\b
Examples:
  tidegate import configs/line-4.yaml tags.xlsx --device plc-4 --dry-run
  tidegate import configs/line-4.yaml tags.xlsx --device plc-4
  tidegate import configs/line-4.yaml export.csv --device plc-4 --mode merge-overwrite --filter "*temp*"
  tidegate import configs/line-4.yaml --from-device --device plc-4
  tidegate import configs/line-4.yaml line-4.xlsx --mode merge-overwrite --dry-run

Exit code 0: the files are as the answer says. 1: nothing was changed, because of conflicts or because nothing of the
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
        device: whose tags these are; empty for a workbook of devices and tags.
        table: the table that the tags go to; empty for a workbook of devices and tags.
        files: those that are changed, or would be.
        is_written: whether they were changed.
        unchanged: tags, and devices of a workbook, that are there already, just so.
        findings: each tag left out and each thing changed, with its place in the file.
        notes: what the format does not say.
    """

    file: str
    format: str
    device: str
    table: str
    files: tuple[str, ...]
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
@click.option("--device", help="The device that gets the tags; left out for a workbook of devices and tags.")
@click.option("--group", help="The scan group, by name or interval, where it has several.")
@click.option("--mode", type=click.Choice(MODES), show_default="merge-safe; with --from-device, only compare",
              help="What happens to tags that are there, and to those that the file does not have.")  # fmt: skip
@click.option("--filter", "pattern", default="*", help='Only names that match, such as "*temp*".')
@click.option("--dry-run", is_flag=True, help="Show what would be different, and change nothing.")
@click.option("--direct", is_flag=True, help="Ask the device itself, also where a running gateway reads it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(
    config: Path, file: Path | None, device: str | None, group: str | None, mode: Mode | None, pattern: str, *,
    from_device: bool, dry_run: bool, direct: bool, as_json: bool,
) -> None:  # fmt: skip
    """Import the tags of FILE into the table that a scan group of the device names in `tags_from`.

    A device without a table gets one beside CONFIG, and one line in CONFIG that names it; comments stay.

    Without --device FILE is a workbook with a sheet of devices and a sheet of tags, as `tidegate workbook` writes it.
    What was changed in its cells is changed in CONFIG and its tables; every other byte stays.

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
    if device is None and (from_device or group is not None or pattern != "*"):
        raise click.UsageError("--from-device, --group and --filter are for the tags of one --device")
    gc.disable()  # Nearly all that is made stays until the end: looking for the rest takes a third of the time.
    try:
        if device is None and file is not None:
            done = _import_workbook(config, file, mode or "merge-safe", dry_run=dry_run)
        else:
            done = _import_tags(config, file, device or "", group, mode, pattern, direct=direct, dry_run=dry_run)
    finally:
        gc.enable()
    if as_json:
        print_json(done.answer)
    else:
        _print(done, is_whole=dry_run or done.is_refused or from_device)
    differs = any(each.what == "kept" or not done.answer.is_written for each in done.answer.differences)
    if done.is_refused or (from_device and differs):
        raise SystemExit(EXIT_NO)


@dataclass(frozen=True, slots=True)
class _Done:
    answer: Answer
    where: str
    is_refused: bool


def _import_tags(
    config: Path, file: Path | None, device: str, group: str | None, mode: Mode | None, pattern: str, *,
    direct: bool, dry_run: bool,
) -> _Done:  # fmt: skip
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
    files: tuple[str, ...] = ()
    if merged.has_changes and not is_refused:
        files = (str(target.table), *([str(target.yaml[0])] if target.yaml else []))
        if not only_compares:
            check_size(target, merged.tags)
            if not dry_run:
                write(target, merged)
    answer = Answer(
        file=str(file or ""), format=found.format, device=device, table=str(target.table), files=files, mode=mode,
        is_written=bool(files) and not (dry_run or only_compares), unchanged=merged.unchanged,
        differences=tuple(merged.differences), findings=tuple(found.findings), notes=tuple(found.notes),
    )  # fmt: skip
    return _Done(answer, str(target.table), is_refused)


def _merged(file: Path, target: Target, mode: Mode, pattern: str) -> tuple[Found, Merged[PreparedTag], bool]:
    """What a file has, the table afterwards, and whether it has to stay as it is."""
    found = read_file(_data(file), file.name, target.model)
    read = prepare(found, target.model, target.kind, pattern)
    tags = keep_readable(target, read, found) if mode != "delete" else read
    names = {each.name for each in found.findings if each.kind == "left out" and each.name}
    names -= found.hidden if mode == "delete" else set()
    merged = merge(target.tags, tags, mode, target.elsewhere, names, pattern)
    return found, merged, bool(merged.conflicts) or not (tags or merged.has_changes)


def _data(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(LIMIT_BYTES + 1)


def _import_workbook(config: Path, file: Path, mode: Mode, *, dry_run: bool) -> _Done:
    found, site = Found(""), read_site(config)
    done = import_workbook(_data(file), file.name, site, mode, found)
    check_files(site, done.files)
    if not dry_run:
        write_files(site, done.files)
    is_refused = any(each.what == "conflict" for each in done.differences)
    is_refused |= bool(found.findings) and not (done.differences or done.unchanged)
    answer = Answer(
        file=str(file), format=found.format, device="", table="", mode=mode,
        files=tuple(str(site.source.folder / name) for name in done.files), is_written=bool(done.files) and not dry_run,
        unchanged=done.unchanged, differences=tuple(done.differences), findings=tuple(found.findings),
        notes=tuple(found.notes),
    )  # fmt: skip
    return _Done(answer, str(config), is_refused)


def _print(done: _Done, *, is_whole: bool) -> None:
    answer = done.answer
    for line in _findings(answer.findings):
        click.echo(printable(line), err=True)
    for note in answer.notes:
        click.echo(f"note: {printable(note)}", err=True)
    if is_whole:
        for line in aligned([row for each in answer.differences for row in _rows(each, answer)]):
            click.echo(line)
    click.echo(_summary(done))


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


def _rows(each: Difference, answer: Answer) -> Iterator[tuple[str, ...]]:
    names = (each.name,) if answer.device else (each.device, each.name) if each.device else (each.name, "")
    start = (_MARKS[each.what], *map(printable, names))
    if each.what in ("added", "removed"):
        keys = ", ".join(f"{key.key} {key.new or key.old}" for key in each.keys)
        yield *start, printable(each.reason or keys)
        return
    yield *start, printable(each.reason or _key(each.keys[0]))
    for key in each.keys if each.reason else each.keys[1:]:
        yield *("" for _ in start), printable(_key(key))


def _key(key: KeyDifference) -> str:
    return f"{key.key}: {key.old or '(none)'} -> {key.new or '(none)'}"


def _summary(done: _Done) -> str:
    answer = done.answer
    counts = Counter(each.what for each in answer.differences)
    if done.is_refused:
        conflicts = counts["conflict"]
        why = f"{conflicts:,} conflicts" if conflicts else "nothing of the file can be imported"
        return f"{done.where}: nothing was changed: {why}"
    parts = [f"{counts[what]:,} {what}" for what in ("added", "changed", "removed", "kept") if counts[what]]
    if counts["kept"] and answer.mode == "merge-safe":
        parts[-1] += " (--mode merge-overwrite changes them)"
    parts.append(f"{answer.unchanged:,} unchanged")
    return f"{done.where}: {', '.join(parts)}" + (
        "; nothing was written yet" if answer.files and not answer.is_written else ""
    )
