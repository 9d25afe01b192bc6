"""`tidegate simulate`: answers in place of the devices of a configuration, to try it without them."""

from __future__ import annotations

import asyncio
import csv
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click

from edge.cli.output import Failure
from edge.config.check import check
from edge.config.messages import choices
from edge.config.places import with_places
from edge.driver import DeviceSettings, SimulatedDevice, Simulates, Simulation, load
from edge.errors import ConfigError
from edge.terminal import PIPE_WIDTH, Column, fit_table
from edge.units import is_loopback

EXAMPLE = """\b
Examples:
  tidegate simulate configs/line-4.yaml
  tidegate simulate configs/line-4.yaml --device utilities --port 5020
  tidegate simulate configs/line-4.yaml --port 5020 --copy configs/lab.yaml
  tidegate simulate configs/line-4.yaml --set bioreactor-1/ph="ramp 6.8..7.4 10 min"
  tidegate simulate configs/line-4.yaml --values course.csv --tags

Signals: constant VALUE, sine, ramp, square, walk (at random), counter, each with LOW..HIGH and a period where they
are not to be chosen; missing is an address that the device does not have. Numbers are in the unit of the tag.

A file of values has the column "tag" and the column "signal"; or times in the column "seconds" and a column for each
tag, which are replayed.

Exit code 0: it was asked to stop. 1: a port cannot be used. 78: the configuration cannot be used."""


_LEAST = 15  # Columns that a name or an address keeps.


@click.command(epilog=EXAMPLE)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--device", "names", multiple=True, help="Only this device; may be repeated.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address of this machine to answer at.")
@click.option("--port", type=click.IntRange(0, 65535),
              help="Port of the first device, the others take the next ones; default: as configured.")  # fmt: skip
@click.option("--set", "pairs", multiple=True, metavar="TAG=SIGNAL", help="How a tag moves; DEVICE/TAG for one device.")
@click.option("--values", type=click.Path(path_type=Path), help="CSV file that says how tags move.")
@click.option("--copy", type=click.Path(path_type=Path),
              help="Write a copy of the configuration that reads from here.")  # fmt: skip
@click.option("--tags", "shows_tags", is_flag=True, help="List each tag with its address and signal.")
def command(
    path: Path, names: Sequence[str], host: str, port: int | None, pairs: Sequence[str], values: Path | None,
    copy: Path | None, *, shows_tags: bool,
) -> None:  # fmt: skip
    """Answer in place of the devices of a configuration, with values that move, until Ctrl-C.

    They have exactly the tags that are configured, in their types and orders. What else is asked for is refused, and so
    is every write.
    """
    devices = _chosen(check(path).gateway().devices, names)
    signals, recordings = _read_values(values) if values is not None else ({}, {})
    for pair in pairs:
        name, equals, written = pair.partition("=")
        if not equals:
            raise click.UsageError(f'--set {pair}: write it as TAG=SIGNAL, such as level="sine 10..90 1 min"')
        signals[name.strip()] = written.strip()
    _check_names((*signals, *recordings), devices)
    if copy is not None and (not path.is_file() or copy.absolute().parent != path.absolute().parent):
        raise click.UsageError(f"--copy names a file beside {path}, which is one file: its tables are found from there")
    how = Simulation(host=host, port=port, signals=signals, recordings=recordings)
    try:
        asyncio.run(_serve(path, devices, how, copy, shows_tags=shows_tags))
    except OSError as error:
        raise Failure(f"{error.strerror}; --port 5020 takes that port and the next ones") from error


def _chosen(devices: Sequence[DeviceSettings], names: Sequence[str]) -> Sequence[DeviceSettings]:
    known = {device.name: device for device in devices}
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"no device is called {unknown[0]!r}; {choices(unknown[0], known)}")
    chosen = [known[name] for name in names] or list(devices)
    able = [device for device in chosen if isinstance(load(device.driver), Simulates)]
    if rest := [device for device in chosen if device not in able]:
        sentence = f"{', '.join(device.name for device in rest)}: not simulated, the driver {rest[0].driver} cannot"
        if names or not able:
            raise click.UsageError(sentence)
        click.echo(sentence, err=True)
    return able


def _check_names(named: Sequence[str], devices: Sequence[DeviceSettings]) -> None:
    tags = [(device.name, tag.name) for device in devices for group in device.scan_groups for tag in group.tags]
    known = {tag for _, tag in tags} | {f"{device}/{tag}" for device, tag in tags}
    if unknown := [name for name in named if name not in known]:
        raise click.UsageError(
            f"no tag of these devices is called {unknown[0]!r}; {choices(unknown[0], sorted(known))}"
        )


def _read_values(path: Path) -> tuple[dict[str, str], dict[str, Sequence[tuple[float, str]]]]:
    """The signals of a file, or its recording. Raises ConfigError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            rows = [
                (reader.line_num, {key: (cell or "").strip() for key, cell in row.items() if key}) for row in reader
            ]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: this is not CSV in UTF-8: {error}") from error
    if {"tag", "signal"} <= set(header):
        return {row["tag"]: row["signal"] for _, row in rows if row["tag"] and row["signal"]}, {}
    if header[:1] != ["seconds"]:
        raise ConfigError(f'{path}:1:1: the columns are "tag" and "signal", or "seconds" and one for each tag')
    times = _times(path, rows)
    recordings = {
        name: [(at, row[name]) for at, (_, row) in zip(times, rows, strict=True) if row.get(name)]
        for name in header[1:]
    }  # fmt: skip
    return {}, {name: recording for name, recording in recordings.items() if recording}


def _times(path: Path, rows: Sequence[tuple[int, Mapping[str, str]]]) -> list[float]:
    times: list[float] = []
    for line, row in rows:
        try:
            at = float(row["seconds"])
        except ValueError as error:
            raise ConfigError(f"{path}:{line}:1: {row['seconds']!r} is not a number of seconds") from error
        if not at > (times[-1] if times else -1.0):
            raise ConfigError(f"{path}:{line}:1: the time {at:g} is not later than the one before")
        times.append(at)
    return times


async def _serve(
    path: Path, devices: Sequence[DeviceSettings], how: Simulation, copy: Path | None, *, shows_tags: bool
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    by_driver: dict[str, list[DeviceSettings]] = {}
    for device in devices:
        by_driver.setdefault(device.driver, []).append(device)
    async with AsyncExitStack() as stack:
        served: list[SimulatedDevice] = []
        for driver, own in by_driver.items():
            kind: Any = load(driver)
            served += await stack.enter_async_context(kind.simulate(own, how))
        if copy is not None:
            _copy(path, copy, served)
        _show(served, how, shows_tags=shows_tags)
        await stop.wait()


def _copy(path: Path, copy: Path, served: Sequence[SimulatedDevice]) -> None:
    text = with_places(path, {device.name: device.device for device in served})
    try:
        with copy.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{copy}: the copy cannot be written: {error.strerror}") from error
    click.echo(f"{copy} reads from these devices")


def _show(served: Sequence[SimulatedDevice], how: Simulation, *, shows_tags: bool) -> None:
    rows = []
    for device in served:
        count = len(device.tags)
        rows.append((device.name, f"{how.host}:{device.port}", device.detail, f"{count:,} tag{'s' * (count != 1)}"))
    for device, line in zip(served, _lines(rows), strict=True):
        click.echo(line)
        if shows_tags:
            tags = [(name, address, moves) for name, (address, moves) in device.tags.items()]
            for tag in _lines(tags, indent=2):
                click.echo(f"  {tag}")
    if not is_loopback(how.host):
        click.echo("everybody on this network can read these devices", err=True)
    click.echo("simulated values; writing is refused; Ctrl-C ends it")


def _lines(rows: Sequence[Sequence[str]], indent: int = 0) -> list[str]:
    """Aligned rows that fit the terminal: the first two columns give way, then the last ones."""
    columns = [
        Column(title="", least=_LEAST) if number < 2 else Column(title="", rank=number)
        for number in range(len(rows[0]))
    ]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH
    return [line.plain for line in fit_table(columns, rows, width - indent).lines[1:]]
