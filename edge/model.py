"""The values of devices, in columns.

The unit of data is the scan of a scan group: one time, one vector of values for each data type, and one list of the
tags that are not GOOD. Values stay as the device sent them; scale and offset are metadata of a tag, and are applied
where a value is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, IntEnum
from functools import cached_property, lru_cache
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[Any]
"""Values of one data type; text is an object array of str."""


class DataType(Enum):
    """The types a tag can have; a member's `code` is its number in a catalogue."""

    BOOL = ("bool", 0, "?")
    UINT8 = ("uint8", 1, "u1")
    INT8 = ("int8", 2, "i1")
    UINT16 = ("uint16", 3, "u2")
    INT16 = ("int16", 4, "i2")
    UINT32 = ("uint32", 5, "u4")
    INT32 = ("int32", 6, "i4")
    UINT64 = ("uint64", 7, "u8")
    INT64 = ("int64", 8, "i8")
    FLOAT32 = ("float32", 9, "f4")
    FLOAT64 = ("float64", 10, "f8")
    TEXT = ("text", 11, "O")

    def __init__(self, label: str, code: int, numpy: str) -> None:
        self.label = label
        self.code = code
        self.numpy = np.dtype(numpy)

    @property
    def is_number(self) -> bool:
        """Whether scale, range and deadband apply to this type."""
        return self.is_known and self not in (DataType.BOOL, DataType.TEXT)

    @property
    def is_known(self) -> bool:
        """Whether this version knows what the values mean."""
        return self.code <= DataType.TEXT.code

    @classmethod
    @lru_cache(64)  # One object for each number, as for the types that are known.
    def from_code(cls, code: int) -> DataType:
        """The type with this catalogue number; above those known, one of a later version, whose values are null."""
        for member in cls:
            if member.code == code:
                return member
        later = object.__new__(cls)
        later._name_ = later._value_ = f"type {code}"
        later.label, later.code, later.numpy = f"type {code}", code, np.dtype("O")
        return later


class TimeKind(Enum):
    """What the nanoseconds in an int64 say; the value of a member is its number in a catalogue."""

    UTC = 1  # Since 1970, UTC.
    LOCAL = 2  # Since 1970 by the calendar and clock of the device, which does not say its zone.
    DATE = 3  # Since 1970 to the begin of that day.
    TIME_OF_DAY = 4  # Since midnight.
    DURATION = 5  # A number: in the catalogue its unit is s, and its scale 1e-9.

    def text(self, ns: int) -> str:
        """A date, a time or both, as ISO 8601 has them; only UTC has a zone."""
        seconds, rest_ns = divmod(ns, 10**9)
        date, _, time = datetime.fromtimestamp(seconds, UTC).isoformat()[:19].partition("T")
        if self is TimeKind.DATE:
            return date
        if rest_ns:
            time += f".{rest_ns:09d}".rstrip("0")
        if self is TimeKind.TIME_OF_DAY:
            return time
        return f"{date}T{time}" + ("Z" if self is TimeKind.UTC else "")


class StatusCode(IntEnum):
    """The OPC UA status codes that the gateway assigns (OPC 10000-4, 7.39); those of a device are kept unchanged."""

    GOOD = 0x00000000
    UNCERTAIN = 0x40000000
    UNCERTAIN_OUT_OF_RANGE = 0x40940000  # NaN and infinity are outside of every range, also where none is configured.
    BAD_DECODING_ERROR = 0x80070000
    BAD_RESOURCE_UNAVAILABLE = 0x80040000
    BAD_TIMEOUT = 0x800A0000
    BAD_NO_COMMUNICATION = 0x80310000
    BAD_WAITING_FOR_INITIAL_DATA = 0x80320000  # Whether the device has this address is not settled yet.
    BAD_ADDRESS = 0x80340000  # BadNodeIdUnknown: the device does not have this address.
    BAD_DEVICE_FAILURE = 0x808B0000
    BAD_OUT_OF_SERVICE = 0x808D0000
    BAD_NO_DATA = 0x809B0000  # The device says that it has no value.


class Quality(IntEnum):
    """The two severity bits of a status code."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2


def quality_of(status: int) -> Quality:
    """The quality of a status code."""
    return Quality(min(status >> 30, 2))


def name_of(status: int) -> str:
    """The name of a status code; of one that has none here, its quality and number."""
    known = StatusCode._value2member_map_.get(status)
    return f"{quality_of(status).name} 0x{status:08X}" if known is None else StatusCode(status).name


def shown_status(status: int, value: object) -> int:
    """The status code to show with a value in its unit: NaN and infinity are never GOOD, whatever the device says."""
    is_finite = not isinstance(value, float) or isfinite(value)
    return status if is_finite or quality_of(status) is not Quality.GOOD else int(StatusCode.UNCERTAIN_OUT_OF_RANGE)


StatusRun = tuple[int, int, int]
"""(first tag, count, status code) of neighbouring tags in their order in the scan group."""


def status_runs(codes: NDArray[np.uint32]) -> tuple[StatusRun, ...]:
    """Runs of equal status over a scan group; GOOD tags are not listed.

    Args:
        codes: one status code per tag, in the order of the scan group.
    """
    if not codes.any():
        return ()
    edges = np.flatnonzero(np.diff(codes)) + 1
    firsts = [0, *edges.tolist()]
    ends = [*edges.tolist(), len(codes)]
    runs = zip(firsts, ends, strict=True)
    return tuple((first, end - first, int(codes[first])) for first, end in runs if codes[first])


def status_codes(runs: Sequence[StatusRun], count: int) -> NDArray[np.uint32]:
    """One status code per tag: the inverse of `status_runs`."""
    codes = np.zeros(count, np.uint32)
    for first, length, code in runs:
        codes[first : first + length] = code
    return codes


def in_unit(
    raw: Any, scale: float = 1, offset: float = 0, time_kind: TimeKind | None = None
) -> bool | int | float | str:
    """One value of a vector in its engineering unit, for display; a date or a time is a text."""
    if isinstance(raw, str):
        return raw
    if time_kind is not None and time_kind is not TimeKind.DURATION:
        return time_kind.text(int(raw))
    # A float32 has about seven digits; as a float64 it would show those of the conversion too.
    plain: bool | int | float = float(str(raw)) if isinstance(raw, np.float32) else raw.item()
    if (scale, offset) == (1, 0) or isinstance(plain, bool):
        return plain
    return float(f"{plain * scale + offset:.15g}")  # 1203 times 0.1 is 120.3, not 120.30000000000001.


def json_value(value: bool | float | str | None, data_type: DataType) -> bool | float | str | None:
    """A value in its unit as JSON has it: an integer of a 64-bit type is a text, however small (OPC 10000-6, 5.4.2).

    Many readers of JSON, JavaScript among them, have 53 bits for it and round without a word.
    """
    is_wide = data_type in (DataType.INT64, DataType.UINT64)
    return str(value) if is_wide and isinstance(value, int) else value


EXPONENT_LIMIT = 10
"""The largest power of ten that a scale tag can mean, of either sign; beyond it the value is BAD."""


def power_of_ten(exponent: Any) -> float:
    """The factor that the value of a scale tag means; NaN where it means none."""
    return 10.0 ** int(exponent) if -EXPONENT_LIMIT <= exponent <= EXPONENT_LIMIT else nan


def text_of(raw: Any, texts: Sequence[tuple[int, str]]) -> str:
    """The text of a raw value of an enumeration; empty where it has no text."""
    return next((text for number, text in texts if number == raw), "")


@dataclass(frozen=True)
class Layout:
    """The position of each tag of a scan group: one vector for each data type, ordered by type number.

    Within a vector the tags keep their order in the scan group.
    """

    types: tuple[DataType, ...]

    def __len__(self) -> int:
        return len(self.types)

    @cached_property
    def vector_types(self) -> tuple[DataType, ...]:
        """The type of each vector."""
        return tuple(sorted(set(self.types), key=lambda data_type: data_type.code))

    @cached_property
    def members(self) -> tuple[NDArray[np.intp], ...]:
        """For each vector, the numbers of its tags in the scan group."""
        return tuple(
            np.array([tag for tag, held in enumerate(self.types) if held is data_type], np.intp)
            for data_type in self.vector_types
        )

    @cached_property
    def slots(self) -> tuple[tuple[int, int], ...]:
        """For each tag, (vector, position in the vector)."""
        slots = {int(tag): (v, p) for v, tags in enumerate(self.members) for p, tag in enumerate(tags)}
        return tuple(slots[tag] for tag in range(len(self.types)))

    def empty(self) -> tuple[Vector, ...]:
        """Vectors of the right shape with placeholder values: zero, NaN or empty text."""
        return tuple(
            _blank(data_type, len(tags)) for data_type, tags in zip(self.vector_types, self.members, strict=True)
        )


def _blank(data_type: DataType, count: int) -> Vector:
    if data_type is DataType.TEXT:
        return np.full(count, "", object)
    fill = np.nan if data_type.numpy.kind == "f" else 0
    return np.full(count, fill, data_type.numpy)


NO_TIME = np.iinfo(np.int64).min
"""In a vector of source times: the device sent none."""

Times = NDArray[np.int64]
"""UTC nanoseconds by the device's clock, or `NO_TIME`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer of a device to one plan.

    Attributes:
        vectors: raw values, one vector for each data type of the plan's layout. A value whose status is BAD has no
            meaning.
        asked_at_ns: boot time just before the first request was sent.
        answered_at_ns: boot time just after the last answer arrived.
        status: the tags that are not GOOD.
        violations: answers that were refused, as sentences for the log and an event.
        source_times: the device's time of each value, in the shape of `vectors`; None where it sends none.
        device_time_ns: UTC by the device's own clock while it answered; None where it does not send it.
        device_time_within_ns: boot times between which that was so; None where it came with the values.
    """

    vectors: tuple[Vector, ...]
    asked_at_ns: int
    answered_at_ns: int
    status: tuple[StatusRun, ...] = ()
    violations: tuple[str, ...] = ()
    source_times: tuple[Times, ...] | None = None
    device_time_ns: int | None = None
    device_time_within_ns: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification of a subscribed scan group. An empty one is a keep-alive.

    Attributes:
        vectors: raw values in the order they were sent, one vector for each data type of the plan's layout.
        positions: for each vector, the position of each value's tag in it; a tag comes as often as it changed,
            oldest first.
        codes: for each vector, the status of each value. A value whose status is BAD has no meaning.
        asked_at_ns: boot time before which none of the values was sampled.
        answered_at_ns: boot time just after the notification arrived.
        source_times: as in `Reading`, one for each value.
        device_time_ns: as in `Reading`.
        overflowed: numbers of the tags in the scan group of which the device dropped values before it sent them.
        lost_since_ns: boot time since when values are lost that the device sent and that did not arrive; else None.
        violations: as in `Reading`.
        is_continued: whether the device kept watching while the session was lost: a tag without a value here has the
            one from before the loss.
    """

    vectors: tuple[Vector, ...]
    positions: tuple[NDArray[np.uint16], ...]
    codes: tuple[NDArray[np.uint32], ...]
    asked_at_ns: int
    answered_at_ns: int
    source_times: tuple[Times, ...] | None = None
    device_time_ns: int | None = None
    overflowed: tuple[int, ...] = ()
    lost_since_ns: int | None = None
    violations: tuple[str, ...] = ()
    is_continued: bool = False


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """One scan of one scan group, or one notification of a subscribed one, as it is sealed.

    Attributes:
        group: number of the scan group in the catalogue.
        asked_at_ns: boot time of the first request; the values were sampled between it and `answered_at_ns`.
        answered_at_ns: boot time of the last answer.
        vectors: the reported values, raw, one vector for each data type of the group's layout.
        positions: None where every tag is reported; else for each vector the reported positions, ascending. A tag
            that is not reported has not moved by more than its deadband since its last report.
        status: every tag of the group that is not GOOD, reported or not.
        source_times: the device's time of each reported value, in the shape of `vectors`.
        is_notification: a notification of the device: a tag is as often in `positions` as it changed, oldest first,
            and `status` counts the reported values, vector after vector, instead of tags; a tag that is not reported
            is unchanged.
        context: the number of the context that its unit was in, or those before and after a change during which it was
            sampled; 0 is a context that is not known. Empty where its scan group belongs to no unit.
    """

    group: int
    asked_at_ns: int
    answered_at_ns: int
    vectors: tuple[Vector, ...]
    positions: tuple[NDArray[np.uint16], ...] | None = None
    status: tuple[StatusRun, ...] = ()
    source_times: tuple[Times, ...] | None = None
    is_notification: bool = False
    context: tuple[int, ...] = ()

    @property
    def sampled_at_ns(self) -> int:
        """The boot time of the values: the middle of the interval."""
        return (self.asked_at_ns + self.answered_at_ns) // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueTag:
    """What a reader of the archive needs to know about one tag.

    `scale` and `offset` turn a raw value into one in `unit`: value = raw * scale + offset. `range` and `deadband`
    are in `unit`. `at_least_every_ns` bounds how long an unmoved value goes unreported.
    """

    name: str
    data_type: DataType
    address: str
    unit: str = ""
    scale: float = 1.0
    offset: float = 0.0
    range: tuple[float, float] | None = None
    deadband: float = 0.0
    at_most_every_ns: int = 0
    at_least_every_ns: int = 0
    description: str = ""
    texts: tuple[tuple[int, str], ...] = ()
    """The texts of the numbers of an enumeration."""
    time_kind: TimeKind | None = None
    """What the nanoseconds of a date, a time or a duration say; None where the value is none."""
    scale_tag: str = ""
    """The tag of the same scan group whose value is the power of ten that this one is multiplied with."""


@dataclass(frozen=True, kw_only=True)
class CatalogueGroup:
    """One scan group; its number is its index in the catalogue.

    A subscribed group has `sign_of_life_ns`: how long the device may be silent while nothing changes.
    """

    device: str
    name: str
    interval_ns: int
    tags: tuple[CatalogueTag, ...]
    sign_of_life_ns: int = 0

    @property
    def hole_ns(self) -> int:
        """How far apart the ends of two of its scans, or notifications, may be; more is a hole, and a GAP says why."""
        return 3 * max(self.interval_ns, self.sign_of_life_ns)

    @cached_property
    def layout(self) -> Layout:
        """The position of each tag's value in a sample block of this group."""
        return Layout(tuple(tag.data_type for tag in self.tags))

    @cached_property
    def scales(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The numbers of the tags that have a scale tag in this group, and those of their scale tags."""
        numbers = {tag.name: number for number, tag in enumerate(self.tags)}
        pairs = [(n, numbers[tag.scale_tag]) for n, tag in enumerate(self.tags) if tag.scale_tag in numbers]
        scaled, scales = np.array(pairs, np.intp).reshape(-1, 2).T
        return scaled, scales


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Everything a gateway reads: sample blocks refer to its scan groups by number.

    `path` is the ISA-95 path of the gateway (enterprise/site/area/line).
    """

    path: str
    groups: tuple[CatalogueGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMetadata:
    """The device's own metadata of a tag, for the catalogue; a setting of the configuration takes precedence."""

    unit: str = ""
    range: tuple[float, float] | None = None
    description: str = ""
    texts: tuple[tuple[int, str], ...] = ()


IDENTITY_TEXT_LIMIT = 200
"""Most characters of one text of an identity: a device may send any length."""
IDENTITY_MORE_LIMIT = 32
"""Most further texts of one device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity that a device reports, for the asset record; a text that it does not report is empty."""

    vendor: str = ""
    product: str = ""
    firmware: str = ""
    serial: str = ""
    more: tuple[tuple[str, str], ...] = field(default=())

    @classmethod
    def from_texts(cls, texts: Iterable[str], more: Iterable[tuple[str, str]] = ()) -> Identity:
        """From the values of `texts`, in their order."""
        vendor, product, firmware, serial = texts
        return cls(vendor=vendor, product=product, firmware=firmware, serial=serial, more=tuple(more))

    @property
    def texts(self) -> dict[str, str]:
        """The texts by name, without further ones: the one order for records, files and displays."""
        return {"vendor": self.vendor, "product": self.product, "firmware": self.firmware, "serial": self.serial}

    def bounded(self) -> Identity:
        """The same within the limits of a record, with the further texts in ascending order."""
        more = {_bounded(label): _bounded(text) for label, text in self.more[:IDENTITY_MORE_LIMIT]}
        return Identity.from_texts(map(_bounded, self.texts.values()), sorted(more.items()))


def _bounded(text: str) -> str:
    # Half of a surrogate pair has no form in UTF-8.
    return text[:IDENTITY_TEXT_LIMIT].encode("utf-8", "replace").decode()
