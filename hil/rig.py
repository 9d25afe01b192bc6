"""Rig files: the devices and the broker of a test rig, read strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from edge.config.devices import Kinds, check_device, device_problems
from edge.config.files import Source, read
from edge.config.validate import validate
from edge.config.yaml_tree import Node
from edge.driver import DeviceSettings, load
from edge.errors import ConfigError
from edge.settings import Len, MaxLen, MinLen, Pattern, Settings

Words = Annotated[str, Len(1, 300)]
WaveName = Literal["counter", "sine", "ramp"]


@dataclass(frozen=True, kw_only=True)
class About(Settings):
    """Which rig this is."""

    name: Annotated[str, MaxLen(64), Pattern(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the rig: letters, digits, dots, dashes and underscores."""
    place: Words
    """Where it stands."""


@dataclass(frozen=True, kw_only=True)
class Wired(Settings):
    """Something that is wired, as its installer describes it."""

    device: Words
    """What it is: vendor and product."""
    firmware: Words
    """Its firmware."""
    connection: Words
    """How it is connected."""


@dataclass(frozen=True, kw_only=True)
class WiredDevice(Wired):
    """A device that the gateway reads."""

    simulated_by: Literal["modbus"]
    """What simulates it."""
    waves: Mapping[str, WaveName]
    """What a tag does: counter (one more in each answer), sine or ramp; the others stay at zero."""
    settings: dict[str, Any]
    """The device as in the configuration of a gateway, without host and port."""


@dataclass(frozen=True, kw_only=True)
class RigSettings(Settings):
    """A rig file."""

    rig: About
    """Which rig this is."""
    broker: Wired
    """The broker between gateway and relay."""
    devices: Annotated[Sequence[WiredDevice], MinLen(1)]
    """What the gateway reads."""


@dataclass(frozen=True, slots=True)
class Rig:
    """A valid rig file.

    Attributes:
        digest: SHA-256 of the file, in hexadecimal.
        checked: for each device its settings, validated by its driver.
    """

    digest: str
    wired: RigSettings
    checked: tuple[DeviceSettings, ...]


def load_rig(path: Path) -> Rig:
    """The rig of a file. Raises ConfigError with all problems, each with its line."""
    source = read(path)
    checked = []
    wired = None
    if source.root is not None:
        nodes = source.root["devices"].items if source.root["devices"] else ()
        checked = [_check(source, node) for node in nodes]
        source.problems += device_problems([each for node in nodes if (each := node["settings"])])
        wired, found = validate(RigSettings, source.root, {"folder": source.folder})
        source.problems += found
    errors = [problem for problem in dict.fromkeys(source.problems) if problem.severity == "error"]
    if errors or wired is None:
        raise ConfigError(sorted(errors, key=lambda problem: (problem.file, problem.line, problem.column)))
    return Rig(source.digests[path.name], wired, tuple(each for each in checked if each is not None))


def _check(source: Source, device: Node) -> DeviceSettings | None:
    settings = device["settings"]
    if settings is None or not isinstance(settings.content, dict):
        return None  # The validation of the rig reports it.
    for key in ("host", "port"):
        if (given := settings[key]) is not None:
            source.problems.append(given.problem("is chosen by the simulation when a scenario is run; leave it out"))
    settings.content["host"] = Node("127.0.0.1", settings.mark, settings.inside("host"))
    found = check_device(source, settings, Kinds(load), source.problems)
    for plan, every in found.plans:
        if plan.cost.requests > 1:
            # With one request, a waiting request shows that the answer before it was used.
            source.problems.append(
                every.problem(f"one scan takes {plan.cost.requests} requests; a simulated device is read with one")
            )
    checked = found.settings
    if checked is not None and (waves := device["waves"]) is not None and isinstance(waves.content, dict):
        _check_waves(source, waves, {tag.name for group in checked.scan_groups for tag in group.tags})
    return checked


def _check_waves(source: Source, waves: Node, tags: set[str]) -> None:
    assert isinstance(waves.content, dict)
    for name, wave in waves.content.items():
        if name not in tags:
            source.problems.append(wave.problem(f"no tag of the device is called {name!r}"))
    if not any(wave.text == "counter" for wave in waves.content.values()):
        source.problems.append(waves.problem("needs a counter: without one nobody can tell what is missing"))
