"""Signals of simulated tags as people write them, such as "sine 36..38 20 s", in the engineering unit of the tag."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from hashlib import blake2b
from zlib import crc32

import numpy as np

from drivers.modbus.settings import ModbusTag, invalid_values
from drivers.modbus.simulator.device import Wave
from drivers.modbus.simulator.registers import Value
from edge.clock import Clock
from edge.model import DataType
from edge.units import parse_duration_ns

MISSING = "missing"

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_WRITTEN = re.compile(
    rf"(?P<word>[a-z]+)(?:\s+(?P<low>{_NUMBER})\s*\.\.\s*(?P<high>{_NUMBER}))?(?:\s+(?P<period>\S.*))?"
)
_BOOLS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
_PERIOD_S = {"sine": 30.0, "ramp": 60.0, "square": 20.0, "walk": 5.0, "counter": 1.0}
_DIGITS = {"uint24": 24, "uint48": 48}
_LIMITS = {
    "int48": (-(1 << 47), (1 << 47) - 1), "signmag16": (-0x7FFF, 0x7FFF), "signmag32": (-0x7FFFFFFF, 0x7FFFFFFF),
    "bcd16": (0, 9999), "bcd32": (0, 99_999_999), "mod10k32": (1 - 10**8, 10**8 - 1),
    "mod10k48": (1 - 10**12, 10**12 - 1), "mod10k64": (1 - 10**16, 10**16 - 1),
}  # fmt: skip
_RESOLUTION_NS = dict.fromkeys(("datetime64", "cp56", "datetime_bcd64"), 10**6) | {"date_bcd32": 86_400 * 10**9}
_SECOND_NS = 10**9


def wave_of(tag: ModbusTag, written: str, clock: Clock) -> Wave:
    """The raw value of a tag over time, for every signal but a missing one. ValueError says what to write instead."""
    word, _, rest = written.strip().partition(" ")
    if tag.time_kind is not None:
        if word != "clock":
            raise ValueError(f"a {tag.kind} follows the clock of this machine; write clock, got {written!r}")
        return lambda elapsed_s: raw_value(tag, clock.utc_ns())  # noqa: ARG005
    if word == "constant" or word not in _PERIOD_S:
        value = raw_of_text(tag, rest.strip() if word == "constant" else written.strip())
        return lambda elapsed_s: value  # noqa: ARG005
    match = _WRITTEN.fullmatch(written.strip())
    if match is None:
        raise ValueError(f'{written!r} is not understood; write it as "{word} 0..100 20 s"')
    if tag.data_type is DataType.TEXT:
        raise ValueError(f"a text is constant, got {written!r}")
    period_s = parse_duration_ns(match["period"]) / _SECOND_NS if match["period"] else _PERIOD_S[word]
    if not period_s:
        raise ValueError(f"the period of {written!r} must be longer than 0")
    if tag.data_type is DataType.BOOL:
        wave = _shape(word, tag.name, 1.0)
        return lambda elapsed_s: wave(elapsed_s / period_s) >= 0.5
    low, high = _plausible(tag) if match["low"] is None else (float(match["low"]), float(match["high"]))
    if not low < high:
        raise ValueError(f"{written!r} must go from low to high")
    shape = _shape(word, tag.name, high - low)
    return lambda elapsed_s: raw_value(tag, low + (high - low) * shape(elapsed_s / period_s))


def replayed(tag: ModbusTag, rows: Sequence[tuple[float, str]]) -> Wave:
    """The raw values of a recording of (seconds, text), the first again after the last."""
    times = [seconds for seconds, _ in rows]
    values = [raw_of_text(tag, text) for _, text in rows]
    length_s = times[-1] + (times[-1] - times[-2] if len(times) > 1 else 1.0)
    return lambda elapsed_s: values[max(0, bisect_right(times, elapsed_s % length_s) - 1)]


def default_signal(tag: ModbusTag, *, is_scale: bool) -> str:
    """What a tag does where nothing is written: it moves within its range."""
    seed = crc32(tag.name.encode())
    if tag.time_kind is not None:
        return "clock"
    if tag.data_type is DataType.TEXT:
        text = tag.name.rpartition("/")[2].upper()[: tag.length]
        return f"constant {text if text.isascii() else 'TEXT'[: tag.length]}"
    if tag.data_type is DataType.BOOL:
        return f"square {20 + seed % 20} s"
    if is_scale:
        return "constant 0"
    low, high = _plausible(tag)
    if tag.range is None and not tag.unit and tag.factor == 1 and tag.data_type.numpy.kind in "iu":
        return f"counter {low:.12g}..{high:.12g} 1 s"
    return f"sine {low:.12g}..{high:.12g} {20 + seed % 40} s"


def raw_of_text(tag: ModbusTag, text: str) -> Value:
    """A raw value from a value in the engineering unit, as text. Raises ValueError where it is none of the type."""
    if tag.data_type is DataType.TEXT:
        if len(text) > (tag.length or 0):
            raise ValueError(f"{text!r} is longer than {tag.length} characters")
        text.encode(tag.encoding)
        return text
    if tag.data_type is DataType.BOOL:
        if text.lower() not in _BOOLS:
            raise ValueError(f"{text!r} is not true or false")
        return _BOOLS[text.lower()]
    try:
        value = float(text)
    except ValueError as error:
        known = ", ".join(("constant", *_PERIOD_S, MISSING))
        raise ValueError(f"{text!r} is neither a number nor a signal; signals are {known}") from error
    low, high = _unit_limits(tag)
    if not low <= value <= high:
        raise ValueError(f"{text} does not fit {tag.kind} ({low:.12g} to {high:.12g})")
    return raw_value(tag, value)


def raw_value(tag: ModbusTag, value: float) -> Value:
    """The raw value nearest to a value in the engineering unit, but none of those that mean that there is none."""
    if tag.time_kind is not None:
        resolution_ns = _RESOLUTION_NS.get(tag.kind, _SECOND_NS)
        return int(value) // resolution_ns * resolution_ns
    raw = (value - tag.offset) / tag.factor
    dtype = tag.data_type.numpy
    if dtype.kind == "f":
        return float(dtype.type(raw))
    low, high = _raw_limits(tag)
    number = min(max(round(raw), low), high)
    absent = invalid_values(tag.kind, tag.invalid or "none")
    while number in absent:
        number += 1 if number < high else low - high
    return number


def _raw_limits(tag: ModbusTag) -> tuple[int, int]:
    """Lowest and highest raw value of an integer type."""
    if tag.parsed_address.bits > 1:
        return 0, (1 << tag.parsed_address.bits) - 1
    if tag.kind in _DIGITS:
        return 0, (1 << _DIGITS[tag.kind]) - 1
    limits = np.iinfo(tag.data_type.numpy)
    return _LIMITS.get(tag.kind, (int(limits.min), int(limits.max)))


def _unit_limits(tag: ModbusTag) -> tuple[float, float]:
    """Lowest and highest value in the engineering unit."""
    dtype = tag.data_type.numpy
    raw = (float(np.finfo(dtype).min), float(np.finfo(dtype).max)) if dtype.kind == "f" else _raw_limits(tag)
    low, high = sorted(number * tag.factor + tag.offset for number in raw)
    return low, high


def _plausible(tag: ModbusTag) -> tuple[float, float]:
    """Where a tag moves where nothing is written: the middle of its range, or up to 100."""
    least, most = _unit_limits(tag)
    low, high = (max(tag.range[0], least), min(tag.range[1], most)) if tag.range is not None else (most, least)
    if low < high:
        margin = (high - low) / 5
        return low + margin, high - margin
    low = max(least, min(0.0, most))
    return low, min(most, low + 100.0)


_Shape = Callable[[float], float]
"""From 0 for low to 1 for high, by the number of periods since the start."""

_WAVES: dict[str, _Shape] = {
    "sine": lambda periods: 0.5 + 0.5 * math.sin(2 * math.pi * periods),
    "ramp": lambda periods: periods % 1.0,
    "square": lambda periods: float(periods % 1.0 >= 0.5),
}


def _shape(word: str, name: str, span: float) -> _Shape:
    if word == "walk":
        return _walk(name)
    if word == "counter":
        return lambda periods: periods // 1 % (span + 1) / span
    return _WAVES[word]


def _walk(name: str) -> _Shape:
    """From one random point to the next; they are the same at each start."""

    def point(number: int) -> float:
        return int.from_bytes(blake2b(f"{name} {number}".encode(), digest_size=4).digest()) / 0xFFFFFFFF

    def shape(periods: float) -> float:
        number, part = divmod(periods, 1.0)
        begin, end = point(int(number)), point(int(number) + 1)
        return begin + (end - begin) * part

    return shape
