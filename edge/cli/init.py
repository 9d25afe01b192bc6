"""`tidegate init`: a small configuration to begin with."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from edge.cli.hosts import targets_of
from edge.cli.output import Failure
from edge.config import messages
from edge.config.check import check
from edge.config.export import yaml
from edge.config.fields import fields_of
from edge.config.settings import GatewaySection
from edge.config.validate import settings_from
from edge.driver import Target
from edge.errors import ConfigError
from edge.files import named_in_errors, sync_directory
from edge.units import is_loopback

EXAMPLE = """\b
Examples:
  tidegate init line-4.yaml
  tidegate init line-4.yaml --path acme/basel/line-4 --broker dmz-broker.example
  tidegate init line-4.yaml --path acme/basel/line-4 --broker none --empty

At a terminal, what no option says is asked. Exit code 1: the file is there already."""

_TEXT = """\
# A gateway. `tidegate check {file}` finds mistakes, and `tidegate run {file}` runs it.
# The name is unique on its broker; the path is ISA-95: enterprise/site/area/line; the state is key and readings.
gateway: {gateway}

# Where nothing keeps the clock of this machine, and times do not matter:
# clock: {{require: any}}

{uplink}
{devices}"""
_SIMULATED = """\
devices:
  # A simulated device, to see the gateway run. `tidegate add {file} HOST` puts a real one below; then take this out.
  - name: simulated
    driver: simulator
    scan_groups:
      - every: 1 s
        tags:
          - {{name: temperature, signal: sine, low: 36, high: 38, period: 1 min, type: float32, unit: Cel}}
          - {{name: cycles, signal: counter, period: 1 s, type: uint32}}
"""
_NO_DEVICE = "# Devices: `tidegate add {file} HOST` puts the first one below.\n"
_HERE = """\
uplink:
  mqtt: {{host: {host}, port: {port}, tls: off}}  # unprotected, which does on this machine only
"""
_ELSEWHERE = """\
# Until this is put in, records stay on this machine. docs/how-to/certificates.md makes the files beside this one.
# uplink:
#   mqtt:
#     host: {host}
#     port: {port}
#     tls: {{ca: ca.pem, certificate: {name}.pem, key: "file:{name}.key"}}
"""
_NOWHERE = """\
# Records stay on this machine until it says where they go:
# uplink: {mqtt: {host: dmz-broker.example}}
"""
_TLS_PORT, _PLAIN_PORT = 8883, 1883


def _valid(key: str) -> Callable[[Any], str]:
    """Takes a value of the section `gateway` that is valid, and refuses others with a sentence."""

    def check_value(value: Any) -> str:
        try:
            settings_from(GatewaySection, {"name": "gateway", "path": "site", key: value})
        except ValidationError as error:
            why = messages.of_errors(error.errors(include_url=False), fields_of(GatewaySection)[key], key)
            raise click.BadParameter(f"{key} {why}", param_hint=f"--{key}") from error
        return str(value)

    return check_value


def _broker(value: Any) -> Target | None:
    if value == "none":
        return None
    try:
        first, *others = targets_of(str(value))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--broker") from error
    if others or first.url or len(first.ports) > 1:
        raise click.BadParameter("write one host, such as 127.0.0.1 or dmz-broker.example:8883", param_hint="--broker")
    return first


@click.command(epilog=EXAMPLE)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the gateway.  [default: that of this machine]")
@click.option("--path", help="ISA-95 path, such as acme/basel/line-4.")
@click.option("--state", help="Its state directory.  [default: state, beside FILE; below /etc: /var/lib/tidegate]")
@click.option("--broker", metavar="HOST[:PORT]",
              help="The broker; without TLS where it is on this machine; none: records stay here.")  # fmt: skip
@click.option("--empty", is_flag=True, help="Without the simulated device: `tidegate add` puts in the first one.")
def command(
    file: Path, *, name: str | None, path: str | None, state: str | None, broker: str | None, empty: bool
) -> None:
    """Write a small configuration with comments, which `tidegate check` passes, to FILE; one that is there stays."""
    if os.path.lexists(file):
        raise Failure(f"{file} is there already; choose another name, or add devices to it with tidegate add")
    asks = sys.stdin.isatty()

    def answer(given: str | None, what: str, default: str | None, value: Callable[[Any], Any]) -> Any:
        if given is not None or not asks:
            return value(default if given is None else given)
        return click.prompt(what, default, value_proc=value)

    if path is None and not asks:
        raise click.UsageError("--path is missing: the ISA-95 path of the gateway, such as acme/basel/line-4")
    machine = re.sub(r"[^A-Za-z0-9._-]", "", os.uname().nodename).lstrip("._-")[:64] or "gateway"
    place = "/var/lib/tidegate" if file.absolute().is_relative_to("/etc") else "state"
    name = answer(name, "Name of the gateway", machine, _valid("name"))
    path = answer(path, "ISA-95 path, enterprise/site/area/line", None, _valid("path"))
    state = answer(state, "State directory", place, _valid("state"))
    target: Target | None = answer(broker, "Broker, host or host:port, or none", "127.0.0.1", _broker)
    _write(file, _text(file, str(name), str(path), str(state), target, is_empty=empty), is_empty=empty)
    run = "" if empty else f"tidegate check {file}, tidegate run {file}; a real device: "
    click.echo(f"{file} is written. Next: {run}tidegate add {file} HOST")


def _text(file: Path, name: str, path: str, state: str, broker: Target | None, *, is_empty: bool) -> bytes:
    uplink = _NOWHERE
    if broker is not None:
        is_here = is_loopback(broker.host)
        port = broker.ports[0] if broker.ports else _PLAIN_PORT if is_here else _TLS_PORT
        uplink = (_HERE if is_here else _ELSEWHERE).format(host=yaml(broker.host), port=port, name=name)
    shown = file.name if file.name.isprintable() else "FILE"
    devices = (_NO_DEVICE if is_empty else _SIMULATED).format(file=shown)
    gateway = yaml({"name": name, "path": path, "state": state})
    return _TEXT.format(file=shown, gateway=gateway, uplink=uplink, devices=devices).encode()


def _write(file: Path, data: bytes, *, is_empty: bool) -> None:
    """Make a new file durable, once it passes the check. Raises ConfigError or OSError."""
    checked = check(file, instead={file.name: data})
    if errors := [problem for problem in checked.errors if not (is_empty and problem.path == "devices")]:
        raise ConfigError(errors)
    try:
        new = file.open("xb")
    except FileExistsError as error:
        raise Failure(f"{file} is there already; nothing was changed") from error
    try:
        with named_in_errors(file), new:
            new.write(data)
            new.flush()
            os.fsync(new.fileno())
    except OSError:
        file.unlink()  # Half of it would keep the next one away.
        raise
    sync_directory(file.parent)
