"""`tidegate read`: tags of one device, now, read exactly as the gateway would, or told by the gateway that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import click

from edge.cli import EXIT_NO
from edge.cli.output import Failure, print_json
from edge.clock import SystemClock
from edge.config.check import check
from edge.config.devices import tag_model
from edge.config.fields import fields_of
from edge.config.messages import choices
from edge.config.tag_table import Cell
from edge.config.validate import validate
from edge.config.yaml_tree import Mark, Node
from edge.driver import Browsable, DeviceSettings, Session, TagSettings, load
from edge.errors import ConfigError, DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.gateway.control import GatewayRefuses, ask_values
from edge.gateway.tag_values import ReadValue, read_tags, with_scales
from edge.model import StatusCode, name_of
from edge.units import format_duration, format_value

EXAMPLE = """\b
Examples:
  tidegate read configs/line-4.yaml bioreactor-1
  tidegate read configs/line-4.yaml bioreactor-1 temperature agitator-speed
  tidegate read configs/line-4.yaml bioreactor-1 --address "holding 100"
  tidegate read configs/line-4.yaml bioreactor-1 --address "holding 100" --set type=float32

Exit code 0: all values are GOOD. 1: one is not, or the device does not answer. 2: usage, such as an unknown tag.
78: the configuration has problems."""

_NAMES_SHOWN = 5
_CHANGED = "its file may have changed since the start; start it again, or ask the device with --direct"
_AS = " as "
_NAMELESS = "address"  # The name of a tag from the command line, which has no other.


@click.command(epilog=EXAMPLE)
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("device")
@click.argument("tags", nargs=-1, metavar="[TAG]...")
@click.option("--address", "addresses", multiple=True, help="An address that is not in the file; may be repeated.")
@click.option("--set", "keys", multiple=True, metavar="KEY=VALUE", help="A key of the tag at --address.")
@click.option("--direct", is_flag=True, help="Ask the device itself, also where a running gateway reads it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(
    path: Path, device: str, tags: Sequence[str], addresses: Sequence[str], keys: Sequence[str], *,
    direct: bool, as_json: bool,
) -> None:  # fmt: skip
    """Read tags of one device once: all of them, those named, or what is at an address.

    While the gateway of this configuration runs, it gives the values that it read last: many devices serve one client
    at a time. An address that is not in the file, and everything with --direct, is read from the device itself.
    """
    try:
        settings = check(path, device=device, kind="gateway").gateway()
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from error
    (found,) = settings.devices
    if keys and not addresses:
        raise click.UsageError("--set says something about an --address; for tags of the file it is in the file.")
    chosen = [each for address in addresses for each in _at(found, address, keys)]
    if tags or not addresses:
        chosen.append(tags_named(found, tags))
    chosen = [with_scales(found, each) for each in chosen]
    told = None if direct or addresses else _told(settings.gateway.live_socket, found, chosen[0])
    try:
        answer = told or _merged(asyncio.run(_read(found, chosen, wants_inspection=bool(tags or addresses))), addresses)
    except (DeviceUnreachable, DeviceRefused, ProtocolViolation) as error:
        raise Failure(f"{device}: {error}") from error
    _print_json(device, answer) if as_json else _print(answer)
    if any(row.quality != "GOOD" for row in answer.rows):
        raise SystemExit(EXIT_NO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate read` read."""

    device: str
    answered_by: Literal["device", "gateway"]
    """gateway: the values that the running gateway read last."""
    took_ns: int | None
    """How long the device took."""
    age_ns: int | None
    """How old the oldest value of the gateway is."""
    values: tuple[ReadValue, ...]
    violations: tuple[str, ...]
    """Answers of the device that were refused."""
    explanations: tuple[str, ...]


ANSWER = Answer


@dataclass(frozen=True, slots=True)
class _Answer:
    """`took_ns` is how long the device took, or how old what a running gateway tells is."""

    took_ns: int
    rows: Sequence[ReadValue]
    violations: Sequence[str] = ()
    explanations: Sequence[str] = ()
    is_browsable: bool = False
    is_from_gateway: bool = False


def _merged(answers: Sequence[_Answer], addresses: Sequence[str]) -> _Answer:
    """One answer, without what an address cannot be, where it can be something: more registers than there are."""
    guessed = [answer.rows[0].tag.rpartition(_AS)[0] for answer in answers]
    right = {address for address, answer in zip(guessed, answers, strict=True) if answer.rows[0].quality == "GOOD"}
    kept = [
        answer
        for address, answer in zip(guessed, answers, strict=True)
        if answer.rows[0].quality == "GOOD" or address not in right or address not in addresses
    ]
    return _Answer(
        sum(answer.took_ns for answer in kept),
        [row for answer in kept for row in answer.rows],
        list(dict.fromkeys(violation for answer in kept for violation in answer.violations)),
        list(dict.fromkeys(text for answer in kept for text in answer.explanations)),
        any(answer.is_browsable for answer in kept),
    )


def tags_named(device: DeviceSettings, names: Sequence[str]) -> list[TagSettings]:
    """The tags of these names, or all. Raises click.UsageError."""
    tags = {tag.name: tag for group in device.scan_groups for tag in group.tags}
    if unknown := [name for name in names if name not in tags]:
        raise click.UsageError(f"{device.name} has no tag {unknown[0]!r}; {choices(unknown[0], tags)}")
    return [tags[name] for name in names or tags]


def _at(device: DeviceSettings, address: str, keys: Sequence[str]) -> list[Sequence[TagSettings]]:
    """The tags of an address from the command line; those that it may be each by itself, where --set does not say."""
    said = {key: value for key, _, value in (text.partition("=") for text in keys)}
    guesses = [guess for guess in tag_model(type(device)).guesses(address) if not guess.keys() & said.keys()]
    if not guesses:
        return [_tags(device, {"name": _NAMELESS, "address": address, **said})]
    named = [{"name": f"{address}{_AS}{' '.join(guess.values())}", "address": address, **guess} for guess in guesses]
    return [_tags(device, {**written, **said}) for written in named]


def _tags(device: DeviceSettings, written: Mapping[str, str]) -> Sequence[TagSettings]:
    """A tag, or those of a slice, as if it were written in the file."""
    model = tag_model(type(device))
    known, nowhere = fields_of(model), Mark("--address", 0)
    tag_node = Node({}, nowhere, keys=dict.fromkeys(written, nowhere))
    assert isinstance(tag_node.content, dict)
    for key, value in written.items():
        cell = Cell(known[key].annotation if key in known else str)
        tag_node.content[key] = cell.read(value, nowhere, key)
    tag, problems = validate(model, tag_node, None)
    if tag is None or problems:
        raise click.UsageError("\n".join(map(str, problems)))
    made: Sequence[TagSettings] = replace(device.scan_groups[0], tags=(tag,)).tags
    return made


async def _read(
    device: DeviceSettings, chosen: Sequence[Sequence[TagSettings]], *, wants_inspection: bool
) -> list[_Answer]:
    driver = load(device.driver).driver(device, SystemClock())
    try:
        plans = [(tags, driver.plan(tags)) for tags in chosen]
    except ConfigError as error:
        raise click.UsageError(f"{device.name}: {error}") from error
    async with driver.connect() as session:
        return [await _scan(session, plan, tags, wants_inspection=wants_inspection) for tags, plan in plans]


async def _scan(session: Session[Any], plan: Any, tags: Sequence[TagSettings], *, wants_inspection: bool) -> _Answer:
    read = await read_tags(session, plan, tags, wants_inspection=wants_inspection)
    rows = [replace(row, tag=_shown_name(tag)) for tag, row in zip(tags, read.values, strict=True)]
    return _Answer(read.took_ns, rows, read.violations, read.explanations, isinstance(session, Browsable))


def _shown_name(tag: TagSettings) -> str:
    return tag.name if tag.name.partition("[")[0] != _NAMELESS else tag.address_text


def _told(socket: Path, device: DeviceSettings, tags: Sequence[TagSettings]) -> _Answer | None:
    """What the running gateway says; None where none runs."""
    try:
        snapshot = ask_values(socket, device.name)
    except GatewayRefuses as error:
        raise Failure(f"{error}; --direct asks the device") from error
    except LookupError as error:
        raise click.UsageError(f"{error}: {_CHANGED}") from error
    if snapshot is None:
        return None
    (known,) = snapshot.devices
    if known.state != "up":
        reason = known.reason or "it is not connected yet"
        raise Failure(f"{device.name}, as the running gateway says: {reason}; --direct asks the device")
    held = {tag.tag: (tag, group) for group in known.scan_groups for tag in group.values}
    if absent := [tag.name for tag in tags if tag.name not in held]:
        raise click.UsageError(f"the running gateway has not read {absent[0]!r} of {device.name}: {_CHANGED}")
    rows = [
        ReadValue(tag=now.tag, value=now.value, unit=now.unit, quality=now.quality, status=now.status, readings=())
        for now, _ in (held[each.name] for each in tags)
    ]
    oldest_ns = max((group.last_scan_age_ns or 0 for _, group in (held[tag.name] for tag in tags)), default=0)
    return _Answer(oldest_ns, rows, [known.reason] if known.reason else [], is_from_gateway=True)


def _print(answer: _Answer) -> None:
    for row in answer.rows:
        colour = {"GOOD": "green", "UNCERTAIN": "yellow"}.get(row.quality, "red")
        value = f"{row.tag}: {format_value(row.value)} {row.unit}".rstrip()
        click.echo(f"{value}  {click.style(_status_text(row), fg=colour)}")
        width = max((len(each.how) for each in row.readings), default=0)
        for each in row.readings:
            click.echo(f"    {each.how:{width}}  {each.value}")
    for violation in answer.violations:
        click.echo(f"refused: {violation}", err=True)
    for explanation in answer.explanations:
        click.echo(explanation, err=True)
    if answer.is_from_gateway:
        click.echo(f"told by the running gateway, read {format_duration(answer.took_ns)} ago; --direct asks the device")
        return
    if absent := [row.tag for row in answer.rows if row.status == StatusCode.BAD_ADDRESS]:
        named = ", ".join(absent[:_NAMES_SHOWN]) + (", ..." if len(absent) > _NAMES_SHOWN else "")
        where = "tidegate browse lists what it has" if answer.is_browsable else "its manual lists those it has"
        click.echo(f"the device does not have the address of {named}; {where}", err=True)
    click.echo(f"answered in {format_duration(answer.took_ns)}")


def _status_text(row: ReadValue) -> str:
    if not row.status:
        return row.quality
    name, number = name_of(row.status), f"0x{row.status:08X}"
    return name if number in name else f"{name} {number}"


def _print_json(device: str, answer: _Answer) -> None:
    print_json(
        Answer(
            device=device, answered_by="gateway" if answer.is_from_gateway else "device",
            took_ns=None if answer.is_from_gateway else answer.took_ns,
            age_ns=answer.took_ns if answer.is_from_gateway else None,
            values=tuple(answer.rows), violations=tuple(answer.violations), explanations=tuple(answer.explanations),
        )
    )  # fmt: skip
