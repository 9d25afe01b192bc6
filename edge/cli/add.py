"""`tidegate add`: from a device on the network to a device of a configuration, with its tags."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from edge.cli.browse import LEVELS_LIMIT, Tree, browse, is_called, ready_tags
from edge.cli.discover import Search, device_name, kinds_of, look, reasons_of, targets_at, warn
from edge.cli.output import ExistingPath, Failure, print_json
from edge.cli.progress import unless_stopped
from edge.clock import SystemClock
from edge.config.check import check
from edge.config.devices import settings_of, tag_model
from edge.config.export import csv_table
from edge.config.files import read
from edge.config.insert import NewDevice, file_for_devices, insert
from edge.config.settings import GatewaySettings
from edge.config.validate import settings_from
from edge.config.yaml_tree import scalar_of
from edge.driver import DeviceSettings, Discovered, Driver, TagSettings, load
from edge.errors import ConfigError, DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.files import named_in_errors, replace_like
from edge.tags.prepare import reasons
from edge.terminal import printable
from edge.units import counted

EXAMPLE = """\b
Examples:
  tidegate add line-4.yaml 192.0.2.12 --filter "*temp*"
  tidegate add line-4.yaml 192.0.2.13:4840 --set security=none --path Line
  tidegate add line-4.yaml 192.0.2.10 --set unit=2 --tag "temperature holding 100 float32"

Exit code 0: it was added, or --dry-run shows what would be. 1: it was not, because nothing was found, it does not say
what it holds, or the file cannot take it; then everything is as it was. 78: the configuration has problems."""

_ENTRIES = 20_000
_SHOWN = 20
_WHERE = ("url", "host", "port", "slot", "unit")
"""Keys that say where a device is, of those whose driver does not say it in words (`DeviceSettings.place`)."""
_TAG = '--tag "NAME ADDRESS TYPE"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate add` added, or would add.

    Attributes:
        file: that the device is written in.
        what: what the device says it is.
        device: its keys, without scan groups.
        table: that its tags are written in.
        is_written: whether files were changed.
    """

    file: str
    name: str
    what: str
    device: Mapping[str, Any]
    table: str
    tags: tuple[Mapping[str, Any], ...]
    is_written: bool


ANSWER = Answer


@click.command(epilog=EXAMPLE)
@click.argument("config", type=ExistingPath(path_type=Path))
@click.argument("place", metavar="HOST[:PORT]|URL")
@click.option("--driver", "drivers", multiple=True, help="Look for a device of this driver only; may be repeated.")
@click.option("--name", help="Name of the device in CONFIG.")
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE",
              help="A key of the device, such as unit=2; without a value it is left out.")  # fmt: skip
@click.option("--filter", "pattern", help='Only tags that match, such as "*temp*".')
@click.option("--path", default="", help="Only tags below this path, as `tidegate browse` shows it.")
@click.option("--tag", "tag_texts", multiple=True, metavar='"NAME ADDRESS TYPE"',
              help="A tag, instead of those that the device lists; may be repeated.")  # fmt: skip
@click.option("--every", default="1 s", show_default=True, help="How often the tags are read.")
@click.option("--rate", type=click.FloatRange(0.01, 100), default=5.0, show_default=True,
              help="Most connections and requests a second while it is looked for.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would be written, and change nothing.")
@click.option("--yes", is_flag=True, help="Write without asking.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(
    config: Path, place: str, drivers: Sequence[str], name: str | None, given: Sequence[str], pattern: str | None,
    path: str, tag_texts: Sequence[str], every: str, *, rate: float, dry_run: bool, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Look for a device at HOST, and add it to CONFIG with the tags that it lists; comments stay.

    The tags go to a table beside CONFIG. Without a terminal nothing is asked, and all tags that match are taken.
    """
    asks = sys.stdin.isatty() and not yes
    keys = dict(_key(text) for text in given)
    source, held = read(config, "gateway"), _held(config)
    names = {each.name for each in held.devices} if held else set()
    if name in names:
        raise click.UsageError(f"a device is called {name} already; choose another --name")
    _refuse_misspelt(drivers, tag_texts)
    driver, found = _look_for(place, drivers, keys, rate, asks=asks)
    own = device_name(_host_of(found, place), driver, {*names})
    name = name or (click.prompt("Name of the device", own, err=True) if asks else own)
    settled = {key: value for key, value in {"name": name, "driver": driver, **found.device, **keys}.items()
               if value != ""}  # fmt: skip
    new = NewDevice(what=printable(found.what), keys=settled, every=every, table=f"{name}.csv")
    kind, settings = settings_of(source, new.node, load)
    _refuse_known(settings, held)
    model = tag_model(type(settings))
    tags = [_tag(text, model) for text in tag_texts]
    if not tags:
        tags = _browse(kind.driver(settings, SystemClock()), settings, path, pattern, asks=asks)
    new = replace(new, tags=tags)
    file = file_for_devices(source)
    table, before = file.with_name(new.table), file.read_bytes()
    if table.exists():
        raise Failure(f"{table} is there already; choose another --name, or move it away")
    after = insert(before, str(file), new)
    if after is None:
        click.echo(replace(new, table="").text, nl=False)
        raise Failure(f"{file} has no list of devices that this can be put into; paste the lines above. Nothing was "
                      "written")  # fmt: skip
    csv = csv_table(tags).encode()
    _check(config, {file.name: after, table.name: csv}, {*names, name})
    if not as_json:
        _show(file, table, new, csv, is_whole=dry_run)
    if asks and not dry_run:
        click.confirm("Write it?", default=True, abort=True, err=True)
    if not dry_run:
        _write(file, before, after, table, csv)
    if as_json:
        print_json(Answer(file=str(file), name=str(name), what=found.what, device=settled, table=str(table),
                          tags=tuple(tags), is_written=not dry_run))  # fmt: skip
    else:
        tried = f"; try it: tidegate test {shlex.quote(str(config))} {name}"
        click.echo("nothing was written yet" if dry_run else f"{name} was added{tried}")


def _refuse_misspelt(drivers: Sequence[str], tag_texts: Sequence[str]) -> None:
    """What can be known to be wrong of tags is said before a device is looked for."""
    if len(drivers) == 1 and kinds_of(drivers):
        for text in tag_texts:
            _tag(text, tag_model(load(drivers[0]).settings))


def _key(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or key in ("name", "driver", "scan_groups"):
        raise click.UsageError(f"--set {text}: write a key of the device and its value, such as unit=2")
    return key, scalar_of(value) if value else ""


def _held(config: Path) -> GatewaySettings | None:
    """The configuration as it is; None where only its devices are missing. Raises ConfigError."""
    checked = check(config, kind="gateway")
    if checked.kind == "relay":
        checked.gateway()
    if errors := [problem for problem in checked.errors if problem.path != "devices"]:
        raise ConfigError(errors)
    return checked.settings if isinstance(checked.settings, GatewaySettings) else None


@unless_stopped("nothing was written")
def _look_for(
    place: str, drivers: Sequence[str], keys: Mapping[str, Any], rate: float, *, asks: bool
) -> tuple[str, Discovered]:
    """The device at a place, and its driver; where there are several, the one that is chosen."""
    known = tuple((key, value) for key, value in keys.items() if value != "")
    if place.startswith("/dev/"):
        raise click.UsageError(f"{place} is a port of this machine, where devices are not looked for: write the device "
                               "into the file by hand (docs/how-to/first-serial.md)")  # fmt: skip
    search = Search([replace(target, known=known) for target in targets_at([place], "")], kinds_of(drivers))
    if len(search.targets) > 1:
        raise click.UsageError(
            f"{place} is {len(search.targets)} hosts; `tidegate discover` looks at many, this adds one"
        )
    warn(search, rate, is_agreed=True)
    look(search, rate)
    for host, driver, why in search.failed:
        click.echo(f"{host} ({driver}): {printable(why)}", err=True)
    found = [(driver, device) for _, driver, device in search.found]
    if not found:
        reasons = reasons_of(search) or ["  write the port where it is not the usual one of its protocol"]
        raise Failure("\n".join([f"nothing was found at {place}", *reasons]))
    meant = [each for each in found if all(each[1].device.get(key, value) == value for key, value in keys.items())]
    found = meant or found
    if len(found) == 1:
        return found[0]
    for number, (driver, each) in enumerate(found, 1):
        click.echo(f"{number}  {driver}  {printable(each.what)}", err=True)
    if not asks:
        raise Failure(f"{place} has {len(found)} devices; choose one with HOST:PORT, --driver or --set, such as "
                      "--set unit=2")  # fmt: skip
    return found[click.prompt("Which one", type=click.IntRange(1, len(found)), err=True) - 1]


def _host_of(found: Discovered, place: str) -> str:
    [target] = targets_at([place], "")
    return str(found.device.get("host", target.host))


def _refuse_known(settings: DeviceSettings, held: GatewaySettings | None) -> None:
    def where(device: DeviceSettings) -> Sequence[Any]:
        return device.driver, device.place or [getattr(device, key, None) for key in _WHERE]

    for device in held.devices if held else ():
        if where(device) == where(settings):
            raise Failure(f"this device is in the configuration already, as {device.name}: write more tags beside "
                          "those that it has, or bring them with `tidegate import`")  # fmt: skip


def _tag(text: str, model: type[TagSettings]) -> dict[str, Any]:
    """A tag of a text such as "temperature holding 100 float32"; its type may be left out where an address says it."""
    name, _, rest = text.strip().partition(" ")
    address, _, type_name = rest.strip().rpartition(" ")
    wrong = None
    for keys in ({"name": name, "address": address, "type": type_name}, {"name": name, "address": rest.strip()}):
        try:
            settings_from(model, keys)
        except ValidationError as error:
            wrong = wrong or error
        else:
            return dict(keys)
    assert wrong is not None
    raise click.UsageError(f"{text!r} is no tag, which is NAME ADDRESS TYPE: {'; '.join(reasons(model, wrong))}")


@unless_stopped("nothing was written")
def _browse(
    driver: Driver[Any], settings: DeviceSettings, path: str, pattern: str | None, *, asks: bool
) -> list[dict[str, Any]]:
    """The tags that a device lists, or that a person writes where it lists none."""
    tree = Tree(_ENTRIES)
    try:
        browse(driver, None, tree, path, LEVELS_LIMIT, settings)
    except (DeviceUnreachable, DeviceRefused, ProtocolViolation) as error:
        raise Failure(f"{settings.name}: {error}") from error
    if not tree.has_list:
        return _asked_for(settings, asks=asks)
    if len(tree.found) == _ENTRIES:
        raise Failure(f"it has more than {_ENTRIES:,} entries: choose a part of them with --path")
    if tree.why:
        raise Failure(f"{settings.name}: {printable(tree.why)}")
    if asks and pattern is None:
        names = ["/".join(each.levels) for each in tree.found if each.entry.tag]
        click.echo("\n".join(map(printable, names[:_SHOWN])), err=True)
        pattern = click.prompt(f"Which of its {counted(len(names), 'tag')}, such as *temp*", "*", err=True)
    chosen = [each for each in tree.found if is_called(each, (pattern or "*").lower())]
    groups = ready_tags(driver, settings, chosen, as_csv=True)
    if not groups:
        raise Failure(f"{settings.name} has no tag that can be read and matches; see `tidegate browse`")
    if len(groups) > 1:
        raise Failure("these are more tags than one scan group holds: choose with --filter or --path")
    return groups[0]


def _asked_for(settings: DeviceSettings, *, asks: bool) -> list[dict[str, Any]]:
    why = f"a device of the driver {settings.driver} has no list of what it holds"
    if not asks:
        raise click.UsageError(f"{why}: take its tags from its manual, and write each as {_TAG}")
    click.echo(f"{why}. Its tags, each as NAME ADDRESS TYPE; an empty line ends:", err=True)
    tags: list[dict[str, Any]] = []
    while text := click.prompt("Tag", "", show_default=False, err=True).strip():
        try:
            tags.append(_tag(text, tag_model(type(settings))))
        except click.UsageError as error:
            click.echo(error.message, err=True)
    if not tags:
        raise Failure("nothing was written: a device needs a tag")
    return tags


def _check(config: Path, instead: Mapping[str, bytes], names: set[str]) -> None:
    """Raise ConfigError where the configuration would have problems, or one device more were not all."""
    checked = check(config, kind="gateway", instead=instead)
    if {device.name for device in checked.gateway().devices} != names:
        raise ConfigError("with this device in it, others would be gone; write it into the file by hand")


def _show(file: Path, table: Path, new: NewDevice, csv: bytes, *, is_whole: bool) -> None:
    lines = [printable(line) for line in csv.decode().splitlines()]
    shown = lines if is_whole else lines[: _SHOWN + 1]
    click.echo("\n".join([f"{file}:", *new.lines(2), f"{table}:", *(f"  {line}" for line in shown)]))
    if len(shown) < len(lines):
        click.echo(f"  and {len(lines) - len(shown):,} more")


def _write(file: Path, before: bytes, after: bytes, table: Path, csv: bytes) -> None:
    """Write the table, then the file that names it. Raises Failure or OSError; then nothing is changed."""
    if file.read_bytes() != before:
        raise Failure(f"{file} was changed meanwhile; nothing was written, try again")
    try:
        with named_in_errors(file):
            replace_like(table, csv, file)
            replace_like(file, after, file)
    except OSError:
        table.unlink(missing_ok=True)
        raise
