"""`tidegate test`: every tag of a device several times, and what that says about it; as a sheet to tick, too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console
from rich.text import Text

from edge.cli import EXIT_NO
from edge.cli.asked import AskedThroughGateway, NotHeld
from edge.cli.output import ExistingPath, Failure, json_bytes, print_json
from edge.cli.progress import Progress
from edge.cli.read import tags_named
from edge.cli.trial import TriedTag, judge, shown
from edge.clock import SystemClock
from edge.config.check import check
from edge.driver import DeviceSettings, Session, TagSettings, load
from edge.errors import ConfigError, DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.gateway.control import GatewayRefuses
from edge.gateway.questions import TAGS_AT_ONCE
from edge.gateway.tag_values import ReadValue, TagsRead, read_tags, with_scales
from edge.terminal import Column, fit_table, output_width, printable, state, wrap
from edge.units import counted, format_duration, parse_duration_ns

EXAMPLE = """\b
Examples:
  tidegate test configs/line-4.yaml bioreactor-1
  tidegate test configs/line-4.yaml bioreactor-1 --report sheets --sign ~/.ssh/id_ed25519

Exit code 0: every tag is GOOD and plausible. 1: one is not, or the device does not answer. 2: usage. 78: the
configuration has problems. 130: it was ended with Ctrl-C, and nothing is said of the tags."""

ROUNDS = 3
_COLUMNS = (
    Column(title="tag", least=12),
    Column(title="value", least=8),
    Column(title="verdict"),
    Column(title="quality", rank=1),
    Column(title="moves", rank=2),
    Column(title="took", is_number=True, rank=3),
)

Read = Callable[[Sequence[TagSettings]], Awaitable[TagsRead]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate test` found.

    Attributes:
        answered_by: gateway: the running gateway asked the device between its scans.
        tested_at_ns: when it began.
        version: of this command.
        violations: answers of the device that were refused.
        explanations: what the device's own list of tags says of those that it refuses.
    """

    gateway: str
    device: str
    driver: str
    answered_by: Literal["device", "gateway"]
    tested_at_ns: int
    version: str
    rounds: int
    tags: tuple[TriedTag, ...]
    violations: tuple[str, ...]
    explanations: tuple[str, ...]

    @property
    def is_well(self) -> bool:
        """Whether no tag needs a person to look at it."""
        return all(tag.verdict == "ok" for tag in self.tags)


ANSWER = Answer


@click.command(epilog=EXAMPLE)
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("device")
@click.argument("tags", nargs=-1, metavar="[TAG]...")
@click.option("--apart", default="1 s", show_default=True, metavar="DURATION", help="How far apart the readings begin.")
@click.option("--direct", is_flag=True, help="Ask the device itself, also where a running gateway reads it.")
@click.option("--report", type=click.Path(path_type=Path), metavar="PATH",
              help="Write a commissioning sheet, PATH.html and PATH.json, or in that directory.")  # fmt: skip
@click.option("--sign", "key", type=ExistingPath(path_type=Path, dir_okay=False), metavar="KEY",
              help="Sign the sheet with your SSH key: its private file, or the public one of an agent.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(
    path: Path, device: str, tags: Sequence[str], *, apart: str, direct: bool, report: Path | None, key: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Read every tag of DEVICE three times and say whether it can be trusted: before it is on record for good.

    Said are value, quality, how long it took, whether it is plausible for its range and type, whether it moves, and
    where bytes seem to be in another order. While a gateway reads DEVICE, the gateway asks it between its scans.
    """
    from edge.cli.sheet import Sheet

    try:
        settings = check(path, device=device, kind="gateway").gateway()
        apart_s = parse_duration_ns(apart) / 1e9
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from error
    except ValueError as error:
        raise click.UsageError(f"--apart: {error}") from error
    (found,) = settings.devices
    if key is not None and report is None:
        raise click.UsageError("--sign signs a sheet: name it with --report PATH")
    sheet = None if report is None else Sheet(report, device, key, settings.identity_key)
    trial = Trial(found, tags_named(found, tags), apart_s)
    tested_at_ns = SystemClock().utc_ns()
    try:
        trial.run(None if direct else settings.gateway.control_socket)
    except (DeviceUnreachable, DeviceRefused, ProtocolViolation, GatewayRefuses) as error:
        raise Failure(f"{device}: {printable(str(error))}") from error
    answer = Answer(
        gateway=settings.gateway.name, device=device, driver=found.driver, answered_by=trial.answered_by,
        tested_at_ns=tested_at_ns, version=version("tidegate"), rounds=ROUNDS, tags=tuple(trial.judged()),
        violations=tuple(trial.violations), explanations=tuple(trial.explanations),
    )  # fmt: skip
    written = sheet.write(answer, json_bytes(answer)) if sheet is not None else ()
    print_json(answer) if as_json else _print(answer)
    for file in written:
        click.echo(f"wrote {file}", err=True)
    if not answer.is_well:
        raise SystemExit(EXIT_NO)


class Trial:
    """The readings of the tags of one device.

    Attributes:
        read: of each tag, by its name, with how long each took in ns.
    """

    def __init__(
        self, device: DeviceSettings, tags: Sequence[TagSettings], apart_s: float, rounds: int = ROUNDS
    ) -> None:
        self._device, self._tags, self._apart_s, self._count = device, tags, apart_s, rounds
        self.read: dict[str, list[tuple[ReadValue, int]]] = {tag.name: [] for tag in tags}
        self.answered_by: Literal["device", "gateway"] = "device"
        self.violations: dict[str, None] = {}
        self.explanations: dict[str, None] = {}

    def run(self, control: Path | None) -> None:
        """Read through the gateway at a control socket, or directly where none holds the device.

        Raises Stopped after Ctrl-C, and else as `edge.driver.Driver.connect` and `edge.driver.Session.read`.
        """
        readings = self._count * len(self._tags)
        with Progress(self._device.name, "readings", readings) as progress:
            asyncio.run(self._run(control, progress))

    async def _run(self, control: Path | None, progress: Progress) -> None:
        if control is not None:
            try:
                await self._rounds(AskedThroughGateway(control, self._device).read, progress)
            except NotHeld as error:
                if any(self.read.values()):
                    raise GatewayRefuses(str(error)) from error
            else:
                self.answered_by = "gateway"
                return
        driver = load(self._device.driver).driver(self._device, SystemClock())
        async with driver.connect() as session:
            await self._rounds(_Direct(driver, session, self._device).read, progress)

    async def _rounds(self, read: Read, progress: Progress) -> None:
        parts = [list(part) for part in _parts(self._device, self._tags)]
        loop = asyncio.get_running_loop()
        for number in range(self._count):
            next_s = loop.time() + self._apart_s
            for part in parts:
                progress.say(part[0].name)
                answered = await read(part)
                progress.done += len(part)
                self.violations |= dict.fromkeys(answered.violations)
                self.explanations |= dict.fromkeys(answered.explanations)
                for value in answered.values[: len(part)]:
                    self.read[value.tag].append((value, answered.took_ns))
            if number + 1 < self._count:
                await asyncio.sleep(max(0.0, next_s - loop.time()))

    def judged(self) -> list[TriedTag]:
        """What the readings say about each tag."""
        return [judge(tag, self.read[tag.name]) for tag in self._tags]


class _Direct:
    """Reads in a session of this command."""

    def __init__(self, driver: Any, session: Session[Any], device: DeviceSettings) -> None:
        self._driver, self._session, self._device = driver, session, device
        self._plans: dict[str, tuple[list[TagSettings], Any]] = {}

    async def read(self, tags: Sequence[TagSettings]) -> TagsRead:
        first = tags[0].name
        if first not in self._plans:
            wanted = with_scales(self._device, tags)
            try:
                self._plans[first] = wanted, self._driver.plan(wanted)
            except ConfigError as error:
                raise click.UsageError(f"{self._device.name}: {error}") from error
        wanted, plan = self._plans[first]
        return await read_tags(self._session, plan, wanted, wants_inspection=True)


def _parts(device: DeviceSettings, tags: Sequence[TagSettings]) -> list[Sequence[TagSettings]]:
    """The tags of each scan group, in parts that take no longer than a scan."""
    wanted = {tag.name for tag in tags}
    groups = [[tag for tag in group.tags if tag.name in wanted] for group in device.scan_groups]
    return [group[at : at + TAGS_AT_ONCE] for group in groups for at in range(0, len(group), TAGS_AT_ONCE)]


def _print(answer: Answer) -> None:
    console = Console(highlight=False, width=output_width())
    table = fit_table(_COLUMNS, [_cells(tag) for tag in answer.tags], console.width)
    remarks: list[tuple[str, ...]] = [(), *(tag.remarks for tag in answer.tags)]
    for line, said in zip(table.lines, remarks, strict=True):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
        for remark in said:
            for text in wrap(f"    {printable(remark)}", console.width, 4):
                console.print(Text(text), no_wrap=True, overflow="ignore", crop=False)
    for sentence in (*(f"refused: {violation}" for violation in answer.violations), *answer.explanations):
        click.echo("\n".join(wrap(printable(sentence), console.width, 2)), err=True)
    well = sum(tag.verdict == "ok" for tag in answer.tags)
    how = "by the running gateway, between its scans" if answer.answered_by == "gateway" else "directly"
    click.echo(f"{well} of {counted(len(answer.tags), 'tag')} ok; asked {how}, {answer.rounds} times")


def _cells(tag: TriedTag) -> tuple[str | Text, ...]:
    value = next((value for value in reversed(tag.values) if value is not None), None)
    return (
        printable(tag.tag), printable(f"{shown(value)} {tag.unit}".rstrip()), _verdict(tag), state(tag.quality),
        tag.behaviour, format_duration(tag.took_ns // 10**5 * 10**5),
    )  # fmt: skip


def _verdict(tag: TriedTag) -> Text:
    return Text(tag.verdict, style={"ok": "", "look": state("warning").style, "bad": state("bad").style}[tag.verdict])
