"""`tidegate browse`: what a device has, as a tree or as tags that are ready for the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from edge.cli import EXIT_NO, EXIT_STOPPED
from edge.cli.asked import AskedThroughGateway, NotHeld
from edge.cli.output import Failure, Stopped, print_json
from edge.cli.progress import Progress
from edge.clock import SystemClock
from edge.config.devices import GROUP_TAGS, SCAN_BYTES, connection, control_socket, tag_model
from edge.config.export import Names, csv_table, fitting, is_whole_in_csv, yaml
from edge.driver import Browsable, BrowseEntry, DeviceSettings, Driver, TagSettings, load
from edge.errors import ConfigError, DeviceRefused, DeviceUnreachable, ErrorCode, ProtocolViolation
from edge.gateway.control import GatewayRefuses
from edge.terminal import aligned, printable

EXAMPLE = """\b
Examples:
  tidegate browse configs/line-4.yaml plc-4
  tidegate browse configs/line-4.yaml plc-4 PATH --depth 0 --filter "*temp*"
  tidegate browse configs/line-4.yaml plc-4 PATH --depth 0 --csv > tags.csv

PATH stands at the end of each line of an answer. Exit code 1: the device does not answer, or has no such path. 130: it
was ended with Ctrl-C, and what was listed until then is printed."""

_INDENT = "\n        "
LEVELS_LIMIT = 32  # References of a device may form a cycle.


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A branch or a tag of a device."""

    levels: tuple[str, ...]
    """The names of all levels down to it."""
    path: str
    """What PATH takes to list what is below it; empty where nothing is."""
    type: str
    value: str
    settings: Mapping[str, Any]
    """A tag as it is written in a configuration; empty where it cannot be read."""
    reason: str
    """Why it cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate browse` found."""

    device: str
    path: str
    entries: tuple[Entry, ...]
    is_complete: bool
    reason: str
    """Why it is not complete."""


ANSWER = Answer


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry, with the names of all levels down to it."""

    levels: tuple[str, ...]
    entry: BrowseEntry


@dataclass(slots=True)
class Tree:
    """The entries found so far; `why` says why others are missing.

    Attributes:
        with_standard: also what every device of the protocol has.
        has_list: whether the device lists what it has.
    """

    limit: int
    found: list[FoundEntry] = field(default_factory=list)
    why: str = ""
    with_standard: bool = True
    has_list: bool = True
    is_from_gateway: bool = False


@click.command(epilog=EXAMPLE)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("device")
@click.argument("path", default="")
@click.option("--depth", type=click.IntRange(0), default=1, show_default=True, help="How many levels; 0 for all.")
@click.option(
    "--filter", "pattern", default="*", help='Only names that match, such as "*temp*", and what is above them.'
)
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="Most entries that are listed.")
@click.option("--direct", is_flag=True, help="Ask the device itself, also where a running gateway reads it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Tags as they are written in a configuration.")
@click.option("--csv", "as_csv", is_flag=True, help="Tags as a table for `tags_from`.")
def command(
    config: Path, device: str, path: str, *, depth: int, pattern: str, limit: int, direct: bool, as_json: bool,
    as_yaml: bool, as_csv: bool,
) -> None:  # fmt: skip
    """Show what DEVICE has below PATH: names, types, values and units. Its tags may still be missing in CONFIG.

    While a gateway runs that reads DEVICE, it is asked by the gateway between its scans: many devices serve one client
    at a time.
    """
    if as_json + as_yaml + as_csv > 1:
        raise click.UsageError("--json, --yaml and --csv exclude each other: choose one")
    try:
        kind, settings = connection(config, device, load)
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from error
    driver, tree = kind.driver(settings, SystemClock()), Tree(limit)
    control, exit_code = None if direct else control_socket(config), EXIT_NO
    code: ErrorCode | None = None
    try:
        browse(driver, control, tree, path, depth or LEVELS_LIMIT, settings)
    except Stopped:
        last = f", the last of them {'/'.join(tree.found[-1].levels)}" if tree.found else ""
        tree.why, exit_code = f"stopped with Ctrl-C after {len(tree.found):,} entries{last}", EXIT_STOPPED
    except (DeviceUnreachable, DeviceRefused, ProtocolViolation, GatewayRefuses) as error:
        tree.why, code = str(error), error.code
    found = [each for each in tree.found if is_called(each, pattern.lower())]
    if as_json:
        _print_json(device, path, found, tree.why)
    elif (as_yaml or as_csv) and (found or not tree.why):
        _print_tags(ready_tags(driver, settings, found, as_csv=as_csv), as_csv=as_csv)
    elif not as_yaml and not as_csv:
        _print(_with_branches(tree.found, found))
    if tree.is_from_gateway:
        click.echo("asked by the running gateway between its scans; --direct asks the device", err=True)
    if tree.why:
        Failure(f"{device}: {printable(tree.why)}", code).show()
        raise SystemExit(exit_code)


def browse(
    driver: Driver[Any], control: Path | None, tree: Tree, path: str, depth: int, settings: DeviceSettings
) -> None:
    """Fill a tree through the gateway at a control socket, or directly where none holds the device.

    Raises Stopped after Ctrl-C, and else as `edge.driver.Driver.connect` and `edge.driver.Session.read`.
    """
    with Progress(settings.name, "entries") as progress:
        asyncio.run(_browse(driver, control, tree, path, depth, settings, progress))


async def _browse(
    driver: Driver[Any], control: Path | None, tree: Tree, path: str, depth: int, settings: DeviceSettings,
    progress: Progress,
) -> None:  # fmt: skip
    try:
        if control is not None:
            asked = AskedThroughGateway(control, settings)
            try:
                await walk(asked, tree, path, (), depth, {path}, progress)
            except NotHeld as error:
                tree.why = str(error) if tree.found else ""
            else:
                tree.is_from_gateway = True
            if tree.found or tree.is_from_gateway:
                return
        async with driver.connect() as session:
            if not isinstance(session, Browsable):
                raise NotImplementedError  # noqa: TRY301
            await walk(session, tree, path, (), depth, {path}, progress)
    except NotImplementedError:
        protocol, tree.has_list = settings.driver, False
        tree.why = (f"a device of the driver {protocol} has no list of what it holds; take the addresses from its "
                    f"manual, and try each with: tidegate read CONFIG {settings.name} --address ADDRESS")  # fmt: skip


async def walk(
    session: Browsable, tree: Tree, path: str, above: tuple[str, ...], depth: int, seen: set[str], progress: Progress
) -> None:
    """Fill a tree with what a session has below a path. Raises as `edge.driver.Session.read`."""
    progress.say("/".join(above))
    try:
        entries = await session.browse(path)
    except LookupError as error:
        if above:  # The device lists it, and not what is in it: the others are still worth to be listed.
            listed = tree.found[-1]
            tree.found[-1] = replace(listed, entry=replace(listed.entry, why_not=str(error.args[0])))
            return
        tree.why = f"there is no {path!r} in it ({error}); browse without a path shows where to begin"
        return
    for entry in entries:
        if entry.is_standard and not tree.with_standard:
            continue
        if len(tree.found) == tree.limit:
            tree.why = f"stopped after {tree.limit:,} lines; there is more: choose a PATH or raise --limit"
            return
        levels = (*above, entry.name)
        tree.found.append(FoundEntry(levels, entry))
        progress.done = len(tree.found)
        if entry.path and len(levels) < depth and entry.path not in seen:
            seen.add(entry.path)
            await walk(session, tree, entry.path, levels, depth, seen, progress)
            if tree.why:
                return


def is_called(each: FoundEntry, pattern: str) -> bool:
    """Whether its name or its joined levels match the pattern, ignoring case."""
    return fnmatchcase(each.levels[-1].lower(), pattern) or fnmatchcase("/".join(each.levels).lower(), pattern)


def _with_branches(tree: Sequence[FoundEntry], found: Sequence[FoundEntry]) -> list[FoundEntry]:
    """The matching entries and all levels above them."""
    shown = {each.levels[:count] for each in found for count in range(1, len(each.levels) + 1)}
    return [each for each in tree if each.levels in shown]


def _print(found: Sequence[FoundEntry]) -> None:
    rows = [
        (
            "  " * (len(each.levels) - 1) + printable(each.entry.name),
            printable(each.entry.type),
            printable(f"{each.entry.value} {each.entry.tag.get('unit', '')}".strip() or _why_empty(each.entry)),
            printable(each.entry.path or str(each.entry.tag.get("address", ""))),
        )
        for each in found
    ]
    for line in aligned(rows):
        click.echo(line)


def _why_empty(entry: BrowseEntry) -> str:
    return f"({entry.why_not})" if entry.path and entry.why_not else ""


def _print_json(device: str, path: str, found: Sequence[FoundEntry], why: str) -> None:
    entries = tuple(
        Entry(
            levels=each.levels, path=each.entry.path, type=each.entry.type, value=each.entry.value,
            settings=each.entry.tag, reason=each.entry.why_not,
        )
        for each in found
    )  # fmt: skip
    print_json(Answer(device=device, path=path, entries=entries, is_complete=not why, reason=why))


def ready_tags(
    driver: Driver[Any], settings: DeviceSettings, found: Sequence[FoundEntry], *, as_csv: bool
) -> list[list[dict[str, Any]]]:
    """Readable tags by scan group, as they pass `tidegate check`; others are printed with their reason and left out."""
    model, names = tag_model(type(settings)), Names()
    made: dict[str, tuple[TagSettings, dict[str, Any]]] = {}
    for each in found:
        if each.entry.why_not:
            _left_out(names.of(each.levels), each.entry.why_not)
        if not each.entry.tag:
            continue
        name = names.of(each.levels)
        tag = fitting(model, {"name": name, **{key: value for key, value in each.entry.tag.items() if key != "name"}})
        if isinstance(tag, str):
            _left_out(name, tag)
        elif (value_bytes := tag[0].value_bytes) > SCAN_BYTES:
            _left_out(name, f"it takes {value_bytes:,} bytes, and a record holds a scan of {SCAN_BYTES:,}; "
                      "write the part that you need")  # fmt: skip
        elif as_csv and not is_whole_in_csv(*tag):
            _left_out(name, "it cannot be written in a table; take it from --yaml")
        else:
            made[name] = tag
    try:
        driver.plan([tag for tag, _ in made.values()])
    except ConfigError as error:
        for problem in error.problems:
            if made.pop(problem.path, None):
                _left_out(problem.path, problem.message)
    return _by_group(made.values())


def _by_group(tags: Iterable[tuple[TagSettings, dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """The tags in scan groups, each small enough for one record."""
    groups: list[list[dict[str, Any]]] = []
    room_bytes = 0
    for tag, keys in tags:
        if tag.value_bytes > room_bytes or len(groups[-1]) == GROUP_TAGS:
            groups.append([])
            room_bytes = SCAN_BYTES
        groups[-1].append(keys)
        room_bytes -= tag.value_bytes
    return groups


def _left_out(name: str, reason: str) -> None:
    click.echo(f"left out {printable(name)}: {printable(reason)}", err=True)


def _print_tags(groups: Sequence[Sequence[dict[str, Any]]], *, as_csv: bool) -> None:
    if not groups:
        click.echo("nothing here can be read as a tag; look further down with a PATH, or with --depth 0", err=True)
    elif as_csv:
        click.echo(csv_table([tag for group in groups for tag in group]), nl=False)
        if len(groups) > 1:
            click.echo(f"this is more than one scan group holds; make {len(groups)} tables of it", err=True)
    else:
        click.echo("    scan_groups:")
        for number, group in enumerate(groups, 1):
            click.echo(f"      - {f'name: part-{number}{_INDENT}' if len(groups) > 1 else ''}every: 1 s\n        tags:")
            for tag in group:
                click.echo(f"          - {yaml(tag)}")
