"""What an engineer can say about a device that is only simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from drivers.simulator.recording import Recording
from drivers.simulator.tag import SimulatorTag
from edge.driver import DeviceSettings, ScanGroupSettings
from edge.settings import Interval, MinLen, Resolve, Settings
from edge.units import DurationNs

FailureKind = Literal["off", "silent", "refuse", "garbled", "bad", "late", "identity"]


@dataclass(frozen=True, kw_only=True)
class SimulatorScanGroup(ScanGroupSettings):
    """Tags that are read together."""

    tags: Sequence[SimulatorTag] = ()
    """Tags written here."""


@dataclass(frozen=True, kw_only=True)
class Failure(Settings):
    """Something that goes wrong for a while."""

    kind: FailureKind
    """What goes wrong.

    off: nobody answers, at once. silent: nobody answers, after `timeout`. refuse: sessions are refused.
    garbled: answers are wrong and end the session. bad: `tags` are BAD. late: answers take `delay` longer.
    identity: the device says that it was replaced.
    """
    at: DurationNs
    """When it begins, counted from when the device was switched on."""
    lasts: Annotated[DurationNs, Interval(ge=1)]
    """How long it lasts."""
    every: Annotated[DurationNs, Interval(ge=1)] | None = None
    """How often it comes again; by default it does not."""
    tags: Sequence[str] = ()
    """Names of the tags that are `bad`; without any, all are."""
    delay: DurationNs = 0
    """How much longer an answer takes that is `late`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every is not None and self.every <= self.lasts:
            raise ValueError("every must be longer than lasts")
        if self.tags and self.kind != "bad":
            raise ValueError(f"tags means nothing to a failure of the kind {self.kind}")
        if bool(self.delay) != (self.kind == "late"):
            raise ValueError("a failure of the kind late needs its delay, and no other has one")


@dataclass(frozen=True, kw_only=True)
class Nameplate(Settings):
    """What a simulated device says it is."""

    vendor: str = "Tidegate"
    """Vendor."""
    product: str = "simulator"
    """Product."""
    firmware: str = "1.0"
    """Version of the firmware."""
    serial: str = ""
    """Serial number; by default the name of the device."""


def _beside(value: object, context: Mapping[str, Any]) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("must be the name of a CSV file")
    return Path(context["folder"], value) if context else Path(value)


@dataclass(frozen=True, kw_only=True)
class Replay(Settings):
    """A recording that tags replay."""

    file: Annotated[Path, Resolve(_beside, {"type": "string", "minLength": 1})]
    """CSV file beside this one: its first row names the columns, each other row is one moment."""
    time: str = ""
    """Column of the times, in seconds or as dates with times (ISO 8601), ascending; by default the first."""
    at_end: Literal["loop", "hold"] = "loop"
    """After the last row: begin again, or keep its values."""

    recording: Recording = field(init=False, repr=False)
    """What is in the file, as it was when the configuration was checked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "recording", Recording.read(self.file, self.time))


@dataclass(frozen=True, kw_only=True)
class SimulatorDevice(DeviceSettings):
    """A device in memory."""

    driver: Literal["simulator"]
    """A device in memory: nothing is asked, nothing is on any wire."""
    seed: Annotated[int, Interval(ge=0, lt=2**63)] = 0
    """Two devices with the same seed, tags and time have the same values."""
    answer: DurationNs = 0
    """How long an answer takes."""
    timeout: Annotated[DurationNs, Interval(ge=10**6)] = 1 * 10**9
    """How long an answer may take before the device counts as lost."""
    clock_ahead: DurationNs | None = None
    """How far the device's own clock is ahead; without this and `clock_behind` it tells no time."""
    clock_behind: DurationNs | None = None
    """How far the device's own clock is behind."""
    source_times: Literal["none", "values"] = "none"
    """Whether the device says of each value when it took it."""
    identity: Nameplate = Nameplate()
    """What the device says it is."""
    replay: Replay | None = None
    """The recording for tags with the signal replay."""
    failures: Sequence[Failure] = ()
    """What goes wrong, and when."""
    scan_groups: Annotated[Sequence[SimulatorScanGroup], MinLen(1)]
    """What is read together, and how often."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clock_ahead is not None and self.clock_behind is not None:
            raise ValueError("clock_ahead and clock_behind exclude each other")
        if self.source_times == "values" and self.clock_error_ns is None:
            raise ValueError("source_times needs a clock: write clock_ahead, 0 for one that is right")
        if self.replay is None:
            for tag in (tag for group in self.scan_groups for tag in group.tags if tag.signal == "replay"):
                raise ValueError(f"replay is missing: {tag.name} shows a column of a recording, and none is named")

    @property
    def clock_error_ns(self) -> int | None:
        """How far the device's clock is ahead, below 0 if it is behind; None if it tells no time."""
        if self.clock_behind is not None:
            return -self.clock_behind
        return self.clock_ahead
