"""`tidegate inventory`: what the devices are, as they say it themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click

from edge.cli import EXIT_NO
from edge.cli.assets import NOTHING, Asset, as_json, cyclonedx, since_text
from edge.cli.terminal import Progress, columns, printable
from edge.cli.verify import stored
from edge.clock import SystemClock
from edge.config.check import check
from edge.config.settings import GatewaySettings
from edge.driver import DeviceSettings, DriverKind, load
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.health import read_status
from edge.model import Identity
from edge.relay.archive import record_files
from edge.seal import Identities, KnownDevice
from edge.seal.record import ISSUER_PREFIX
from edge.verify import Trust, Verdict, Verifier

EXAMPLE = """\b
Examples:
  tidegate inventory configs/line-4.yaml
  tidegate inventory configs/line-4.yaml --ask --cyclonedx > line-4.cdx.json
  tidegate inventory /var/lib/tidegate-relay --trust trusted/
  tidegate inventory /var/lib/tidegate-relay --trust trusted/ --history

Exit code 0: of every device something is known. 1: of some it is not."""


_HEADINGS = ("gateway", "device", "vendor", "product", "firmware", "serial", "since", "record")


@click.command(epilog=EXAMPLE)
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--ask", is_flag=True, help="Connect to each device once, instead of asking the running gateway.")
@click.option("--trust", "anchors", multiple=True, type=click.Path(path_type=Path),
              help="For records: public key or CA certificate, or a directory of them; may be repeated.")  # fmt: skip
@click.option("--gateway", help="For records: only this gateway.")
@click.option("--history", is_flag=True, help="For records: every change with its time and its record.")
@click.option("--json", "wants_json", is_flag=True, help="One JSON object, for scripts.")
@click.option("--cyclonedx", "wants_cyclonedx", is_flag=True, help="A CycloneDX 1.6 document, for asset systems.")
def command(
    path: Path, *, ask: bool, anchors: tuple[Path, ...], gateway: str | None, history: bool, wants_json: bool,
    wants_cyclonedx: bool,
) -> None:  # fmt: skip
    """List vendor, product, firmware and serial number of each device.

    PATH is the configuration of a gateway, which is asked while it runs; or an archive, files of records, or the
    buffer of a gateway: then what authentic records tell is listed.
    """
    if wants_json and wants_cyclonedx:
        raise click.UsageError("--json and --cyclonedx exclude each other: choose one")
    if _holds_records(path):
        assets = _recorded(path, anchors, gateway, every_change=history)
    elif anchors or gateway or history:
        raise click.UsageError(f"{path} holds no records: --trust, --gateway and --history do not go with it")
    else:
        settings = check(path).gateway()
        assets = asyncio.run(_asked(settings)) if ask else _running(settings)
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
    except (OSError, ValueError) as error:
        click.echo(f"{socket}: no gateway answers; start it, or ask the devices with --ask", err=True)
        raise SystemExit(EXIT_NO) from error
    assets = []
    for device in devices:
        said = device.identity
        if said is None:
            note = device.reason or "it has not said what it is"
            assets.append(Asset(gateway=settings.gateway.name, device=device.name, note=note))
            continue
        identity = Identity.from_texts((said.vendor, said.product, said.firmware, said.serial), said.more)
        assets.append(
            Asset(gateway=settings.gateway.name, device=device.name, identity=identity, since_ns=said.since_ns)
        )
    return assets


async def _asked(settings: GatewaySettings) -> list[Asset]:
    """One device after the other, each in a session of its own."""
    progress, assets = Progress(), list[Asset]()
    kinds: dict[str, DriverKind] = {}
    for device in settings.devices:
        progress.say(f"{len(assets) + 1}/{len(settings.devices)} {device.name}")
        kind = kinds.get(device.driver) or kinds.setdefault(device.driver, load(device.driver))
        assets.append(await _answer_of(settings.gateway.name, kind, device))
    progress.done()
    return assets


async def _answer_of(gateway: str, kind: DriverKind, device: DeviceSettings) -> Asset:
    try:
        async with kind.driver(device, SystemClock()).connect() as session:
            identity = (await session.identity()).bounded()
    except (DeviceUnreachable, DeviceRefused, ProtocolViolation) as error:
        return Asset(gateway=gateway, device=device.name, note=str(error))
    note = "" if identity != NOTHING else "it does not say what it is"
    return Asset(gateway=gateway, device=device.name, identity=identity, note=note)


def _recorded(path: Path, anchors: tuple[Path, ...], gateway: str | None, *, every_change: bool) -> list[Asset]:
    if not anchors:
        raise click.UsageError("records are believed when they are authentic: name whom to --trust")
    verifier = Verifier(Trust.load(anchors))
    told: dict[tuple[str, KnownDevice], str] = {}  # Repeated every hour: the first record that told it.
    for found in stored((path,), gateway):
        for judgement in verifier.add(found.data) if found.data is not None else ():
            if judgement.verdict is Verdict.AUTHENTIC and isinstance(judgement.content, Identities):
                for known in judgement.content.devices:
                    told.setdefault((judgement.issuer, known), f"{judgement.epoch.hex()}/{judgement.seq}")
    changes = [
        Asset(
            gateway=issuer.removeprefix(ISSUER_PREFIX), device=known.device, identity=known.identity,
            since_ns=known.since_ns, record=record,
        )
        for (issuer, known), record in told.items()
    ]  # fmt: skip
    # Records may have arrived in any order.
    changes.sort(key=lambda asset: (asset.since_ns or 0, asset.gateway, asset.device))
    if every_change:
        return changes
    newest = {(asset.gateway, asset.device): asset for asset in changes}
    return [newest[key] for key in sorted(newest)]


def _show(assets: Sequence[Asset], *, wants_json: bool, wants_cyclonedx: bool) -> None:
    import orjson

    if wants_json or wants_cyclonedx:
        document = {"devices": as_json(assets)} if wants_json else cyclonedx(assets)
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    rows: list[tuple[str, ...]] = [_HEADINGS]
    for asset in assets:
        cells = map(printable, asset.identity.texts.values())
        rows.append((asset.gateway, asset.device, *cells, since_text(asset), asset.record))
    if not any(asset.record for asset in assets):
        rows = [row[:-1] for row in rows]
    heading, *lines = columns(rows)
    click.echo(click.style(heading, bold=True))
    for line in lines:
        click.echo(line)
    for asset in assets:
        if asset.note:
            click.echo(f"{asset.device}: {printable(asset.note)}", err=True)
    if not assets:
        click.echo("no record tells of a device", err=True)
