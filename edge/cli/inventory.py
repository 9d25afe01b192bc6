"""`tidegate inventory`: the devices, with the identity each of them reports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import click
import orjson

from edge.cli import EXIT_NO
from edge.cli.output import ExistingPath, Failure, print_json
from edge.cli.progress import Progress
from edge.cli.verify import stored
from edge.clock import SystemClock
from edge.config.check import check
from edge.config.settings import GatewaySettings
from edge.driver import DeviceSettings, DriverKind, load
from edge.errors import DeviceRefused, DeviceUnreachable, ErrorCode, ForeignSocket, ProtocolViolation
from edge.health import read_status
from edge.model import Identity
from edge.references import TrustPath, trust_path
from edge.relay.archive import record_files
from edge.seal import Identities, KnownDevice
from edge.seal.record import ISSUER_PREFIX
from edge.terminal import aligned, printable
from edge.units import format_utc
from edge.verify import Trust, Verdict, Verifier

EXAMPLE = """\b
Examples:
  tidegate inventory configs/line-4.yaml
  tidegate inventory configs/line-4.yaml --ask --cyclonedx > line-4.cdx.json
  tidegate inventory /var/lib/tidegate-relay --trust trusted/
  tidegate inventory /var/lib/tidegate-relay --trust trusted/ --history

Exit code 0: something is known of every device. 1: nothing is known of some."""


_HEADINGS = ("gateway", "device", "vendor", "product", "firmware", "serial", "since", "record")


NOTHING = Identity()
"""The identity of a device that has not given one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A device of a gateway.

    Attributes:
        since_ns: UTC since when it has this identity; None where that is unknown.
        record: `<epoch>/<seq>` of the first record with it; empty where it does not come from records.
        note: why the identity is unknown.
    """

    gateway: str
    device: str
    identity: Identity = NOTHING
    since_ns: int | None = None
    record: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryDevice:
    """A device, and the identity that it reports; a text that it does not report is empty."""

    gateway: str
    device: str
    vendor: str
    product: str
    firmware: str
    serial: str
    more: Mapping[str, str]
    """Further texts by their label."""
    since_ns: int | None
    """UTC since when it has this identity; null where that is unknown."""
    record: str
    """epoch/seq of the first record with it; empty where it does not come from records."""
    reason: str
    """Why the identity is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `tidegate inventory` lists; with --history a device is there once for each change."""

    devices: tuple[InventoryDevice, ...]


ANSWER = Answer


@click.command(epilog=EXAMPLE)
@click.argument("path", type=ExistingPath(path_type=Path))
@click.option("--ask", is_flag=True, help="Connect to each device once, instead of asking the running gateway.")
@click.option("--trust", "anchors", multiple=True, type=trust_path, metavar="[GATEWAY=]PATH",
              help="For records: whom to trust, as with `tidegate verify`; may be repeated.")  # fmt: skip
@click.option("--gateway", help="For records: only this gateway.")
@click.option("--history", is_flag=True, help="For records: every change with its time and its record.")
@click.option("--json", "wants_json", is_flag=True, help="One JSON object, for scripts.")
@click.option("--cyclonedx", "wants_cyclonedx", is_flag=True, help="A CycloneDX 1.6 document, for asset systems.")
def command(
    path: Path, *, ask: bool, anchors: tuple[TrustPath, ...], gateway: str | None, history: bool, wants_json: bool,
    wants_cyclonedx: bool,
) -> None:  # fmt: skip
    """List vendor, product, firmware and serial number of each device.

    PATH is the configuration of a gateway, which is asked while it runs; or an archive, files of records, or the
    buffer of a gateway: then what authentic records say is listed.
    """
    if wants_json and wants_cyclonedx:
        raise click.UsageError("--json and --cyclonedx exclude each other: choose one")
    if _holds_records(path):
        assets = _recorded(path, anchors, gateway, every_change=history)
    elif anchors or gateway or history:
        raise click.UsageError(f"{path} holds no records: --trust, --gateway and --history do not go with it")
    else:
        settings = check(path, kind="gateway").gateway()
        assets = _asked(settings) if ask else _running(settings)
    _show(assets, wants_json=wants_json, wants_cyclonedx=wants_cyclonedx)
    if any(asset.note for asset in assets) or not assets:
        raise SystemExit(EXIT_NO)


def _holds_records(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.seg")) or bool(record_files(path))
    return path.suffix == ".rec"


def _running(settings: GatewaySettings) -> list[Asset]:
    socket = settings.status_socket
    try:
        devices = read_status(socket).devices
    except ForeignSocket as error:
        raise Failure(str(error)) from error
    except (OSError, ValueError) as error:
        raise Failure(f"{socket}: no gateway answers; start it, or ask the devices with --ask",
                      code=ErrorCode.NOT_RUNNING) from error  # fmt: skip
    assets = []
    for device in devices:
        known = device.identity
        if known is None:
            note = device.reason or "it has not said what it is; --ask asks it"
            assets.append(Asset(gateway=settings.gateway.name, device=device.name, note=note))
            continue
        identity = Identity.from_texts((known.vendor, known.product, known.firmware, known.serial), known.more.items())
        assets.append(
            Asset(gateway=settings.gateway.name, device=device.name, identity=identity, since_ns=known.since_ns)
        )
    return assets


def _asked(settings: GatewaySettings) -> list[Asset]:
    """The identity of each device, read in turn, each in its own session."""
    with Progress("inventory", "devices", len(settings.devices)) as progress:
        return asyncio.run(_answers(settings, progress))


async def _answers(settings: GatewaySettings, progress: Progress) -> list[Asset]:
    assets = list[Asset]()
    kinds: dict[str, DriverKind[Any]] = {}
    for device in settings.devices:
        progress.say(device.name)
        kind = kinds.get(device.driver) or kinds.setdefault(device.driver, load(device.driver))
        assets.append(await _answer_of(settings.gateway.name, kind, device))
        progress.done += 1
    return assets


async def _answer_of(gateway: str, kind: DriverKind[Any], device: DeviceSettings) -> Asset:
    try:
        async with kind.driver(device, SystemClock()).connect() as session:
            identity = (await session.identity() or NOTHING).bounded()
    except (DeviceUnreachable, DeviceRefused, ProtocolViolation) as error:
        return Asset(gateway=gateway, device=device.name, note=str(error))
    note = "" if identity != NOTHING else "it does not say what it is"
    return Asset(gateway=gateway, device=device.name, identity=identity, note=note)


def _recorded(path: Path, anchors: tuple[TrustPath, ...], gateway: str | None, *, every_change: bool) -> list[Asset]:
    if not anchors:
        raise click.UsageError("records are believed when they are authentic: name whom to --trust")
    verifier = Verifier(Trust.load(anchors))
    first_records: dict[tuple[str, KnownDevice], str] = {}  # Identities are sealed again every hour.
    with Progress("inventory", "records") as progress:
        for found in stored((path,), gateway, progress):
            for judgement in verifier.add(found.data) if found.data is not None else ():
                if judgement.verdict is Verdict.AUTHENTIC and isinstance(judgement.content, Identities):
                    for known in judgement.content.devices:
                        first_records.setdefault((judgement.issuer, known), f"{judgement.epoch.hex()}/{judgement.seq}")
    changes = [
        Asset(
            gateway=issuer.removeprefix(ISSUER_PREFIX), device=known.device, identity=known.identity,
            since_ns=known.since_ns, record=record,
        )
        for (issuer, known), record in first_records.items()
    ]  # fmt: skip
    # Records may have arrived in any order.
    changes.sort(key=lambda asset: (asset.since_ns or 0, asset.gateway, asset.device))
    if every_change:
        return changes
    newest = {(asset.gateway, asset.device): asset for asset in changes}
    return [newest[key] for key in sorted(newest)]


def _show(assets: Sequence[Asset], *, wants_json: bool, wants_cyclonedx: bool) -> None:
    if wants_json:
        print_json(answer_of(assets))
        return
    if wants_cyclonedx:
        click.echo(orjson.dumps(cyclonedx(assets), option=orjson.OPT_INDENT_2))
        return
    rows: list[tuple[str, ...]] = [_HEADINGS]
    for asset in assets:
        cells = map(printable, asset.identity.texts.values())
        rows.append((asset.gateway, asset.device, *cells, since_text(asset), asset.record))
    if not any(asset.record for asset in assets):
        rows = [row[:-1] for row in rows]
    heading, *lines = aligned(rows)
    click.echo(click.style(heading, bold=True))
    for line in lines:
        click.echo(line)
    for asset in assets:
        if asset.note:
            click.echo(f"{asset.device}: {printable(asset.note)}", err=True)
    if not assets:
        click.echo("no record tells of a device", err=True)


def since_text(asset: Asset) -> str:
    """`since_ns` as RFC 3339; empty where it is unknown."""
    return "" if asset.since_ns is None else format_utc(asset.since_ns)


def answer_of(assets: Iterable[Asset]) -> Answer:
    """Assets as they are printed with --json."""
    return Answer(
        devices=tuple(
            InventoryDevice(
                gateway=asset.gateway, device=asset.device, **asset.identity.texts, more=dict(asset.identity.more),
                since_ns=asset.since_ns, record=asset.record, reason=asset.note,
            )
            for asset in assets
        )
    )  # fmt: skip


def cyclonedx(assets: Sequence[Asset]) -> dict[str, Any]:
    """A CycloneDX 1.6 document (ECMA-424); the same assets give the same document."""
    components = [_component(asset) for asset in assets]
    content = orjson.dumps(components, option=orjson.OPT_SORT_KEYS).decode()
    tool = {"type": "application", "name": "tidegate", "version": version("tidegate")}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {"tools": {"components": [tool]}},
        "components": components,
    }


def _component(asset: Asset) -> dict[str, Any]:
    identity = asset.identity
    properties = [
        ("cdx:device:serialNumber", identity.serial),
        ("tidegate:gateway", asset.gateway),
        ("tidegate:device", asset.device),
        ("tidegate:since", since_text(asset)),
        ("tidegate:record", asset.record),
        *((f"tidegate:{label}", text) for label, text in identity.more),
    ]
    component: dict[str, Any] = {
        "type": "device",
        "bom-ref": f"{asset.gateway}/{asset.device}",
        "manufacturer": {"name": identity.vendor},
        "name": identity.product or asset.device,
        "version": identity.firmware,
        "properties": [{"name": name, "value": value} for name, value in properties if value],
    }
    left_out = {key for key, value in (("manufacturer", identity.vendor), ("version", identity.firmware)) if not value}
    return {key: value for key, value in component.items() if key not in left_out}
