"""The settings of simulated devices and their tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from drivers.simulator.recording import Recording
from edge.driver import DeviceSettings, ScanGroupSettings, TagSettings
from edge.model import DataType
from edge.settings import Interval, MaxLen, MinLen, Number, Resolve, Settings
from edge.units import DurationNs, format_duration

SignalName = Literal["sine", "ramp", "square", "walk", "counter", "constant", "text", "replay", "missing"]
TypeName = Literal["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
                   "float32", "float64", "text"]  # fmt: skip

DATA_TYPES = {data_type.label: data_type for data_type in DataType}
WAVES = frozenset({"sine", "ramp", "square", "walk"})
_BOUNDED = frozenset({"low", "high"})
_MOVING = frozenset({"period", "phase"})
_KEYS: dict[str, frozenset[str]] = {
    **dict.fromkeys(WAVES, _BOUNDED | _MOVING | {"noise"}),
    "counter": _BOUNDED | _MOVING,
    "constant": frozenset({"value", "noise"}),
    "text": _MOVING | {"texts"},
    "replay": frozenset({"column"}),
    "missing": frozenset(),
}
"""The keys that apply to each signal; any other is an error."""
_NEEDED = {"constant": "value", "text": "texts", "replay": "column"}
_VALUES: dict[DataType, tuple[type, ...]] = {DataType.TEXT: (str,), DataType.BOOL: (bool,)}
"""Types of a constant's value in YAML; a number for every other data type."""
_COUNTER_MAX = 2**62
_LONGEST_NS = 36_525 * 86_400 * 10**9  # A hundred years.
_CHARACTER_BYTES = 4  # Longest character in UTF-8.
_TEXT_OVERHEAD_BYTES = 5
_SOURCE_TIME_BYTES = 8  # For a device with `source_times: values`.


def _limits(data_type: DataType, signal: str) -> tuple[int, int] | tuple[float, float]:
    """Lowest and highest number from which the values of a signal can be calculated."""
    kind = data_type.numpy
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return limits.min, min(limits.max, _COUNTER_MAX) if signal == "counter" else limits.max
    if signal == "counter":
        return -_COUNTER_MAX, _COUNTER_MAX
    # Their difference, plus noise, must be finite too.
    most = float(np.finfo(kind if kind.kind == "f" else np.float64).max / 4)
    return -most, most


@dataclass(frozen=True, kw_only=True)
class SimulatorTag(TagSettings):
    """One value of a simulated device."""

    signal: SignalName
    """How the value moves: sine, ramp, square, walk (at random), counter, constant, text or replay (of a recording).

    "missing" is an address that the device does not have.
    """
    type: TypeName | None = None
    """Type of the value: float64, or text for texts, unless said otherwise."""
    low: Number | None = None
    """Lowest value, by default 0; a counter begins with it."""
    high: Number | None = None
    """Highest value, by default 100; after it a counter begins again, by default at the end of its type."""
    period: Annotated[DurationNs, Interval(ge=10**6, le=_LONGEST_NS)] = 10 * 10**9
    """How long one turn of a wave takes, or one step of a walk, of a counter or of texts."""
    phase: Annotated[DurationNs, Interval(le=_LONGEST_NS)] = 0
    """How far into its period the signal is when the device is switched on."""
    noise: Annotated[Number, Interval(ge=0)] = 0.0
    """Added to each value: at random, up to this much either way."""
    value: bool | int | float | str | None = None
    """The value of a constant."""
    texts: Sequence[Annotated[str, MaxLen(250)]] = ()
    """Texts that follow each other, the first again after the last."""
    column: str = ""
    """Column of the device's recording that is replayed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = _KEYS[self.signal]
        given = {key.name for key in fields(self) if getattr(self, key.name) != key.default}
        for key in sorted({key for keys in _KEYS.values() for key in keys} & given - allowed):
            known = f"it takes {', '.join(sorted(allowed))}" if allowed else "it takes no keys of its own"
            raise ValueError(f"{key} means nothing to the signal {self.signal}; {known}")
        needed = _NEEDED.get(self.signal)
        if needed and needed not in given:
            raise ValueError(f"signal {self.signal} needs {needed}")
        if self.signal == "text" and not self.texts:
            raise ValueError("texts needs at least one text")
        self._check_type()

    def _check_type(self) -> None:
        data_type = self.data_type
        if (data_type is DataType.TEXT and self.signal in WAVES | {"counter"}) or (
            data_type is not DataType.TEXT and self.signal == "text"
        ):
            raise ValueError(f"type {data_type.label} does not go with the signal {self.signal}")
        if self.signal == "constant" and type(self.value) not in _VALUES.get(data_type, (int, float)):
            raise ValueError(f"value {self.value!r} is not of the type {data_type.label}")
        if self.noise and not data_type.is_number:
            raise ValueError(f"noise means nothing to the type {data_type.label}")
        if self.signal in WAVES | {"counter"} and not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"low must be below high, got {self.bounds[0]:g} and {self.bounds[1]:g}")
        if data_type is not DataType.TEXT:
            self._check_numbers()

    def _check_numbers(self) -> None:
        name, is_whole = self.data_type.label, self.data_type.numpy.kind in "iu"
        lowest, highest = _limits(self.data_type, self.signal)
        for key in ("low", "high", "value", *(() if is_whole else ("noise",))):  # An integer is clipped to its type.
            number = getattr(self, key)
            if number is None or (isinstance(number, float) and not isfinite(number) and not is_whole):
                continue
            is_fraction = isinstance(number, float) and not number.is_integer()
            if key == "value" and is_whole and is_fraction:
                raise ValueError(f"value {number!r} is not of the type {name}")
            if self.signal == "counter" and is_fraction:
                raise ValueError(f"a counter counts whole numbers, got {key} {number:g}")
            if not lowest <= number <= highest:
                raise ValueError(f"{key} {Decimal(number):.6g} does not fit {name} ({lowest} to {highest})")

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value."""
        low, high = self.low or 0.0, self.high
        if high is not None:
            return low, high
        if self.signal == "counter" and self.data_type.numpy.kind in "iu":
            return low, float(np.iinfo(self.data_type.numpy).max)
        return low, 2.0**53 if self.signal == "counter" else 100.0

    @property
    def data_type(self) -> DataType:
        """See `TagSettings.data_type`."""
        is_text = self.signal == "text" or (self.signal == "constant" and isinstance(self.value, str))
        return DATA_TYPES[self.type or ("text" if is_text else "float64")]

    @property
    def address_text(self) -> str:
        """The signal with its bounds and period, for the catalogue."""
        parts: list[str] = [self.signal]
        if "low" in _KEYS[self.signal]:
            parts.append("{:g}..{:g}".format(*self.bounds))
        if "period" in _KEYS[self.signal]:
            parts.append(format_duration(self.period))
        parts += [str(self.value)] * (self.signal == "constant") + [self.column] * (self.signal == "replay")
        return " ".join(parts)

    @property
    def value_bytes(self) -> int:
        """See `TagSettings.value_bytes`."""
        if self.data_type is DataType.TEXT and self.signal != "replay":
            longest = max(map(len, self.texts or (str(self.value),)))
            return _CHARACTER_BYTES * longest + _TEXT_OVERHEAD_BYTES + _SOURCE_TIME_BYTES
        return super().value_bytes + _SOURCE_TIME_BYTES


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

    off: requests fail at once. silent: requests fail after `timeout`. refuse: sessions are refused.
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


def _recording_path(value: object, context: Mapping[str, Any]) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("must be the name of a CSV file")
    return Path(context["folder"], value) if context else Path(value)


@dataclass(frozen=True, kw_only=True)
class Replay(Settings):
    """A recording that tags replay."""

    file: Annotated[Path, Resolve(_recording_path, {"type": "string", "minLength": 1})]
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
    """A device in memory, without a network."""
    seed: Annotated[int, Interval(ge=0, lt=2**63)] = 0
    """Two devices with the same seed, tags and time have the same values."""
    answer: DurationNs = 0
    """How long an answer takes."""
    timeout: Annotated[DurationNs, Interval(ge=10**6)] = 1 * 10**9
    """How long an answer may take before the device counts as lost."""
    clock_ahead: DurationNs | None = None
    """How far the device's own clock is ahead; without this and `clock_behind` it has no clock."""
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
        """How far the device's clock is ahead, negative if it is behind; None without a clock."""
        if self.clock_behind is not None:
            return -self.clock_behind
        return self.clock_ahead
