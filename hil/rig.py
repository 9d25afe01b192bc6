"""Rig files: what is wired, how to switch it, and which signals are known; read strictly."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from edge.config.devices import Kinds, check_device, device_problems
from edge.config.files import Source, read
from edge.config.settings import BufferSettings, ClockSettings, ScanningSettings, SealSettings
from edge.config.validate import validate
from edge.config.yaml_tree import Node, problem_at
from edge.driver import DeviceSettings, load
from edge.errors import ConfigError
from edge.settings import Interval, Len, MaxLen, MinLen, Pattern, Settings
from edge.units import DurationNs

Words = Annotated[str, Len(1, 300)]
Notes = Annotated[str, MaxLen(1000)]
Command = Annotated[Sequence[Annotated[str, MinLen(1)]], MinLen(1)]
"""A program and its arguments, without a shell."""


@dataclass(frozen=True, kw_only=True)
class About(Settings):
    """Which rig this is."""

    name: Annotated[str, MaxLen(64), Pattern(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the rig: letters, digits, dots, dashes and underscores."""
    place: Words
    """Where it stands."""
    simulated: bool = False
    """Whether devices, networks and clocks are made of namespaces on this machine, which need no hardware."""


@dataclass(frozen=True, kw_only=True)
class Equipment(Settings):
    """Something of the rig, as its installer describes it."""

    vendor: Words
    """Who made it."""
    model: Words
    """What it is."""
    firmware: Words
    """Its firmware or version."""
    wiring: Words
    """How it is connected."""
    notes: Notes = ""
    """What else one should know."""


@dataclass(frozen=True, kw_only=True)
class Powered(Equipment):
    """Equipment that can be switched: each switch is a command that is called with `on` or `off` as last argument."""

    power: Command | None = None
    """Switches its power."""
    network: Command | None = None
    """Switches its network: a port of a managed switch, or a relay in its cable."""


@dataclass(frozen=True, kw_only=True)
class GatewayParts(Settings):
    """The parts of a gateway's configuration that a rig may choose."""

    clock: ClockSettings | None = None
    """What is expected of the system clock."""
    scanning: ScanningSettings | None = None
    """When scans begin."""
    seal: SealSettings | None = None
    """How readings become signed records."""
    buffer: BufferSettings | None = None
    """The queue on disk."""


@dataclass(frozen=True, kw_only=True)
class WiredGateway(Powered):
    """The machine that the gateway runs on."""

    ssh: Annotated[str, Pattern(r"^[A-Za-z0-9._@:%\[\]-]+$"), MaxLen(200)] = ""
    """Where ssh reaches it, such as rig@192.0.2.20; by default it is the machine that runs the scenarios."""
    command: Command = ("tidegate",)
    """How tidegate is called on it; sudo is allowed."""
    folder: Annotated[str, Pattern(r"^/[^ ]+$"), MaxLen(50)] = "/var/tmp/tidegate-hil"
    """Folder of a gateway on another machine; each scenario makes one of its own in it, and removes it. The
    path of a socket below it has little room."""
    uplink: Command | None = None
    """Switches its connection to the broker."""
    settings: GatewayParts = GatewayParts()
    """Parts of its configuration; name, uplink and devices are the rig's."""


@dataclass(frozen=True, kw_only=True)
class WiredBroker(Equipment):
    """The broker, which the machine that runs the scenarios starts as it is shipped in configs/dmz."""

    address: Annotated[str, Pattern(r"^[0-9]+(\.[0-9]+){3}$")]
    """Address of that machine, as the gateway reaches it."""


@dataclass(frozen=True, kw_only=True)
class WiredClock(Powered):
    """What disciplines the gateway's clock."""

    source: Literal["none", "chrony", "ptp"] = "none"
    """What the gateway must name as its source; none where its clock is not disciplined."""
    bound: Annotated[DurationNs, Interval(ge=1)] = 100_000_000
    """The largest bound that the gateway may state while the reference is there."""
    interval: Annotated[DurationNs, Interval(ge=1)] = 10**9
    """How often the gateway's chronyd or ptp4l measures its clock; once a second or more often counts as a second."""
    step: Command | None = None
    """Sets the gateway's clock wrong by a second or more with `off`, and right with `on`."""
    time_error: DurationNs | None = None
    """How far the clock of the machine that runs the scenarios may be off the reference; a verdict on the true time
    allows for it. Without it the gateway's clock is not compared with this one's."""


@dataclass(frozen=True, kw_only=True)
class Signal(Settings):
    """A tag whose value is known at every moment.

    A simulated one is a function of the boot time of the machine, so that its phase is known too.
    """

    wave: Literal["counter", "sine", "ramp", "square", "steady"]
    """counter: one more in each answer; square: low for half a period, then high; steady: low."""
    low: float = 0.0
    """Its lowest value."""
    high: float = 100.0
    """Its highest value, which a ramp does not reach."""
    period: Annotated[DurationNs, Interval(ge=1_000_000)] = 10 * 10**9
    """How long until it repeats."""
    source: Annotated[str, MaxLen(300)] = ""
    """The instrument that makes it."""
    accuracy: Annotated[float, Interval(ge=0)] = 0.0
    """By how much its value may be wrong; a verdict allows for it, and says so."""
    time_error: DurationNs = 0
    """By how much its moments may be wrong against the clock that the gateway follows; a verdict allows for it, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.high < self.low:
            raise ValueError("high must not be below low")

    def at(self, boot_ns: int) -> float:
        """The true value at a moment of boot time; a counter has no value that a moment tells."""
        phase = boot_ns % self.period / self.period
        share = {
            "sine": 0.5 + 0.5 * math.sin(2 * math.pi * phase), "ramp": phase, "square": float(phase >= 0.5),
        }.get(self.wave, 0.0)  # fmt: skip
        return self.low + (self.high - self.low) * share


@dataclass(frozen=True, kw_only=True)
class Witnessed(Settings):
    """How a device is read by a library that is not ours."""

    turns: bool = False
    """Whether the device takes one client: then the gateway and the witness read it in turns."""
    library: Literal["", "pymodbus", "pycomm3", "asyncua", "node-opcua"] = ""
    """What reads it; by default pymodbus, pycomm3 or asyncua. node-opcua is to be installed with npm."""


@dataclass(frozen=True, kw_only=True)
class WiredDevice(Powered):
    """A device that the gateway reads."""

    identity: Mapping[Literal["vendor", "product", "firmware", "serial"], str] = field(default_factory=dict)
    """What the device must say of itself."""
    signals: Mapping[str, Signal] = field(default_factory=dict)
    """The known signals, by tag."""
    witness: Witnessed | None = None
    """How it is read independently; without this it is not."""
    settings: dict[str, Any]
    """The device as in the configuration of a gateway."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return str(self.settings["name"])


@dataclass(frozen=True, kw_only=True)
class RigSettings(Settings):
    """A rig file."""

    rig: About
    """Which rig this is."""
    gateway: WiredGateway
    """The machine under test."""
    broker: WiredBroker
    """The broker between gateway and relay."""
    clock: WiredClock
    """The reference of time."""
    devices: Annotated[Sequence[WiredDevice], MinLen(1)]
    """What the gateway reads."""


@dataclass(frozen=True)
class Rig:
    """A valid rig file.

    Attributes:
        digest: SHA-256 of the file, in hexadecimal.
        gateway_settings: the parts of the gateway's configuration, as they are written.
        checked: for each device its settings, validated by its driver.
    """

    file: Path
    digest: str
    wired: RigSettings
    gateway_settings: Mapping[str, Any]
    checked: tuple[DeviceSettings, ...]

    @property
    def name(self) -> str:
        """Its name."""
        return self.wired.rig.name

    @property
    def is_simulated(self) -> bool:
        """Whether nothing of it is hardware."""
        return self.wired.rig.simulated

    @cached_property
    def devices(self) -> Mapping[str, WiredDevice]:
        """The devices by name."""
        return {device.name: device for device in self.wired.devices}


def load_rig(path: Path, *, is_evidence: bool = False) -> Rig:
    """The rig of a file, or of its copy in the evidence, which has no switches beside it.

    Raises:
        ConfigError: all problems, each with its line.
    """
    source = read(path)
    checked = []
    wired, parts = None, {}
    if source.root is not None:
        nodes = source.root["devices"].items if source.root["devices"] else ()
        checked = [_check(source, node) for node in nodes]
        source.problems += device_problems([each for node in nodes if (each := node["settings"])])
        gateway = source.root["gateway"]
        written = (gateway["settings"] if gateway else None) or Node({}, source.root.mark)
        parts = written.plain()
        for node in () if is_evidence else (gateway, source.root["clock"], *nodes):
            _check_switches(source, node)
        wired, found = validate(RigSettings, source.root, {"folder": source.folder})
        source.problems += found
    errors = [problem for problem in dict.fromkeys(source.problems) if problem.severity == "error"]
    if errors or wired is None:
        raise ConfigError(sorted(errors, key=lambda problem: (problem.file, problem.line, problem.column)))
    return Rig(path, source.digests[path.name], wired, parts, tuple(each for each in checked if each is not None))


def _check(source: Source, device: Node) -> DeviceSettings | None:
    settings = device["settings"]
    if settings is None or not isinstance(settings.content, dict):
        return None  # The validation of the rig reports it.
    for group in settings["scan_groups"].items if settings["scan_groups"] else ():
        if (table := group["tags_from"]) is not None:
            source.problems.append(table.problem("a rig file holds all its tags itself; write them here"))
    checked = check_device(source, settings, Kinds(load), source.problems).settings
    if checked is not None and (signals := device["signals"]) is not None and isinstance(signals.content, dict):
        tags = {tag.name for group in checked.scan_groups for tag in group.tags}
        source.problems += [
            problem_at(signals.keys[name], f"no tag of the device is called {name!r}", signals.inside(name))
            for name in signals.content
            if name not in tags
        ]
    return checked


def _check_switches(source: Source, wired: Node | None) -> None:
    """A command of this folder must be there; another is looked for when it is needed, on the machine of the rig."""
    for key in ("power", "network", "uplink", "step"):
        command = wired[key] if wired else None
        program = command.items[0] if command and command.items else None
        if program is not None and program.text and program.text.startswith("./"):
            file = source.folder / program.text
            if not os.access(file, os.X_OK):
                source.problems.append(program.problem(f"{file} is no program; make it, or chmod +x it"))
