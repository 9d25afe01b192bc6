"""`tidegate discover`: look for devices on a network, gently."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from edge.cli import EXIT_NO, EXIT_STOPPED
from edge.cli.hosts import HOSTS_LIMIT, ports_of, targets_of
from edge.cli.output import Stopped, print_json
from edge.cli.progress import Progress
from edge.config.export import yaml
from edge.config.messages import choices
from edge.driver import Discoverable, Discovered, Target, installed, load
from edge.errors import ConfigError, DeviceUnreachable
from edge.terminal import aligned, printable
from edge.units import counted, format_duration

EXAMPLE = """\b
Examples:
  tidegate discover 192.0.2.10
  tidegate discover 192.0.2.0/28 --yes
  tidegate discover 192.0.2.10-20 plc-4.example --rate 1
  tidegate discover 192.0.2.10:1502 192.0.2.11:502,5020
  tidegate discover 192.0.2.0/28 --ports 502,1502
  tidegate discover 192.0.2.10 --yaml > site.yaml

Exit code 0: something was found. 1: nothing was. 130: it was ended with Ctrl-C, and what was found until then is
printed."""

_WARNING = """\
Some old devices stop when somebody unknown connects to them, and only power brings them back. Ask whoever is
responsible for the process first, and do not look around in a network that controls something running."""

_HOST_S = 120.0
_HOST_REQUESTS = 1000  # A device whose answers never end must not block the search.


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """Something that a device says of itself."""

    label: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A device."""

    host: str
    port: int
    driver: str
    what: str
    """What it is, in one line."""
    details: tuple[Detail, ...]
    settings: Mapping[str, Any]
    """What is written of it in a configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A host that could not be asked."""

    host: str
    driver: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate discover` found."""

    hosts: int
    """How many were to be asked, and how many of them were."""
    hosts_done: int
    devices: tuple[Found, ...]
    failed: tuple[Failed, ...]


ANSWER = Answer


@dataclass(slots=True)
class Search:
    """The devices found so far, as (host, driver, device), and the hosts that failed, as (host, driver, why).

    `silent` is why there was no device, where a driver knows it, in the form of `failed`.
    """

    targets: Sequence[Target]
    kinds: Sequence[tuple[str, Discoverable]]
    found: list[tuple[str, str, Discovered]] = field(default_factory=list)
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    silent: list[tuple[str, str, str]] = field(default_factory=list)
    hosts_done: int = 0


@click.command(epilog=EXAMPLE)
@click.argument("networks", nargs=-1, required=True, metavar="HOST[:PORTS]|NETWORK[:PORTS]|URL...")
@click.option("--driver", "drivers", multiple=True, help="Only devices of this driver; may be repeated.")
@click.option(
    "--ports",
    default="",
    help="TCP ports to try where none is written, such as 502,1502.  [default: the usual ones of each driver]",
)
@click.option("--rate", type=click.FloatRange(0.01, 100), default=5.0, show_default=True,
              help="Most connections and requests a second, over all hosts.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Begin without asking.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Devices as they are written in a configuration.")
def command(
    networks: Sequence[str], drivers: Sequence[str], ports: str, *, rate: float, yes: bool, as_json: bool, as_yaml: bool
) -> None:
    """Look for devices at an address, a name, a network (192.0.2.0/28), a range (192.0.2.10-20) or a URL.

    Hosts are asked one after the other, over one connection at a time, only what they are.
    """
    if as_json and as_yaml:
        raise click.UsageError("--json is for scripts and --yaml for a configuration: choose one")
    search = Search(targets_at(networks, ports), kinds_of(drivers))
    warn(search, rate, is_agreed=yes)
    stopped = False
    try:
        look(search, rate)
    except Stopped as error:
        stopped = True
        error.show()
    _show(search, as_json=as_json, as_yaml=as_yaml)
    if stopped:
        raise SystemExit(EXIT_STOPPED)
    if not search.found or search.hosts_done < len(search.targets):
        raise SystemExit(EXIT_NO)


def targets_at(networks: Sequence[str], ports: str) -> list[Target]:
    """The hosts to ask. Raises click.UsageError."""
    try:
        usual = ports_of(ports) if ports else ()
        targets = list(dict.fromkeys(target for network in networks for target in targets_of(network, usual)))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if len(targets) > HOSTS_LIMIT:
        raise click.UsageError(f"{len(targets):,} hosts; at most {HOSTS_LIMIT:,} (a /20) are asked at a time")
    return targets


def kinds_of(names: Sequence[str]) -> list[tuple[str, Discoverable]]:
    """The drivers that can discover; one whose library is missing is printed, and an error only if it was asked for."""
    found: list[tuple[str, Discoverable]] = []
    if unknown := [name for name in names if name not in installed()]:
        raise click.UsageError(f"no driver is called {unknown[0]!r}; {choices(unknown[0], installed())}")
    for name in dict.fromkeys(names or installed()):
        try:
            kind = load(name)
        except ConfigError as error:
            if names:
                raise
            click.echo(str(error), err=True)
            continue
        if isinstance(kind, Discoverable):
            found.append((name, kind))
        elif names:
            raise click.UsageError(f"devices of the driver {name} cannot be looked for; write them in the file")
    if not found:
        raise click.UsageError("no installed driver can look for devices; install tidegate[all]")
    return found


def warn(search: Search, rate: float, *, is_agreed: bool) -> None:
    """Say what a search may do to old devices and how long it takes; for more than one host, ask."""
    attempts = sum(max(1, len(target.ports)) for target in search.targets) * len(search.kinds)
    least = format_duration(round(attempts / rate * 1e9))
    what = ", ".join(name for name, _ in search.kinds)
    click.echo(f"{_WARNING}\n", err=True)
    click.echo(f"{counted(len(search.targets), 'host')} ({what}), up to {rate:g} requests a second: at least {least}; "
               "hosts that do not answer and devices that do take longer.", err=True)  # fmt: skip
    if len(search.targets) > 1 and not is_agreed:
        click.confirm("Begin?", abort=True, err=True)


class _RateLimiter:
    """The pause before each connection and each request."""

    def __init__(self, rate: float) -> None:
        self._interval_s = 1 / rate
        self._next_s = 0.0

    async def pause(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = max(self._next_s, loop.time())
        self._next_s = due_s + self._interval_s
        await asyncio.sleep(due_s - loop.time())


def look(search: Search, rate: float) -> None:
    """Fill a search with what answers, at most `rate` requests a second. Raises Stopped after Ctrl-C."""
    with Progress("discover", "hosts", len(search.targets)) as progress:
        asyncio.run(_look(search, rate, progress))


async def _look(search: Search, rate: float, progress: Progress) -> None:
    limiter = _RateLimiter(rate)
    limit_s = _HOST_S + _HOST_REQUESTS / rate
    for target in search.targets:
        for name, kind in search.kinds:
            progress.say(f"{target} {name}; {counted(len(search.found), 'device')} found")
            try:
                async with asyncio.timeout(limit_s * max(1, len(target.ports))):
                    found = await kind.discover(target, limiter.pause)
            except DeviceUnreachable as error:
                search.silent.append((str(target), name, str(error)))
            # A failure at one host does not end the search at the others.
            except Exception as error:  # noqa: BLE001
                search.failed.append((str(target), name, str(error) or f"gave up: {type(error).__name__}"))
            else:
                search.found += [(target.host, name, device) for device in found]
        search.hosts_done += 1
        progress.done = search.hosts_done


def _show(search: Search, *, as_json: bool, as_yaml: bool) -> None:
    for host, name, reason in search.failed:
        click.echo(f"{host} ({name}): {printable(reason)}", err=True)
    if as_json:
        _print_json(search)
    elif as_yaml:
        _print_yaml(search)
    elif search.found:
        _print(search)
    if not search.found:
        click.echo("\n".join(["nothing was found", *reasons_of(search)]), err=True)


def reasons_of(search: Search) -> list[str]:
    """Why each driver found nothing at the one host of a search, as lines; of many hosts it would only be long."""
    return [f"  {name}: {printable(why)}" for _, name, why in search.silent] if len(search.targets) == 1 else []


def _print(search: Search) -> None:
    rows = [(host, str(device.port), name, printable(device.what)) for host, name, device in search.found]
    heading, *lines = aligned([("host", "port", "driver", "device"), *rows])
    click.echo(click.style(heading, bold=True))
    for line, (_, _, device) in zip(lines, search.found, strict=True):
        click.echo(line)
        for detail in aligned([(printable(label), printable(text)) for label, text in device.details]):
            click.echo(f"    {detail}")


def _print_json(search: Search) -> None:
    devices = tuple(
        Found(
            host=host, port=device.port, driver=name, what=device.what, settings=device.device,
            details=tuple(Detail(label=label, text=text) for label, text in device.details),
        )
        for host, name, device in search.found
    )  # fmt: skip
    failed = tuple(Failed(host=host, driver=name, reason=reason) for host, name, reason in search.failed)
    print_json(Answer(hosts=len(search.targets), hosts_done=search.hosts_done, devices=devices, failed=failed))


def _print_yaml(search: Search) -> None:
    if not search.found:
        return
    click.echo("devices:")
    names: set[str] = set()
    for host, driver, device in search.found:
        name = device_name(host, driver, names)
        click.echo(f"  # {printable(device.what)}")
        keys: dict[str, Any] = {"name": name, "driver": driver, **device.device}
        for number, (key, value) in enumerate(keys.items()):
            click.echo(f"  {' ' if number else '-'} {key}: {yaml(value)}")
        click.echo("    scan_groups:")
        click.echo("      - every: 1 s")
        click.echo(f"        tags: []  # What it has may be told by: tidegate browse FILE {name}")


def device_name(host: str, driver: str, taken: set[str]) -> str:
    """A name for a device that is not among those taken; it then is."""
    base = re.sub(r"[^A-Za-z0-9._-]", "-", f"{driver}-{host}")[:90]
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name
