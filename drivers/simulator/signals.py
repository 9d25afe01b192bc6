"""Signals, evaluated for a whole vector at once; a value depends on the time only, not on earlier values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.simulator.settings import WAVES, SimulatorTag
from edge.model import DataType, Vector

_WALK_STEPS = np.arange(16, dtype=np.int64)  # A walk is the sum of its last steps, so it stays bounded.
_WALK_RANGE = 7.0  # The sum of 16 draws rarely exceeds it.


class Signal(Protocol):
    """Tags of one vector with the same kind of signal."""

    def values(self, elapsed_ns: int) -> Vector:
        """Their values at this time after power-on, in the type of their vector."""
        ...


class Constant:
    """Constant values."""

    def __init__(self, tags: Sequence[SimulatorTag], data_type: DataType) -> None:
        self._values = np.array([tag.value for tag in tags], data_type.numpy)

    def values(self, elapsed_ns: int) -> Vector:  # noqa: ARG002
        """See `Signal.values`."""
        return self._values


class Counter:
    """Counters that increase by one each period, exact for every type."""

    def __init__(self, tags: Sequence[SimulatorTag], data_type: DataType) -> None:
        self._type = data_type.numpy
        self._phase_of = _Phase(tags)
        lows, highs = zip(*(tag.bounds for tag in tags), strict=True)
        self._low = np.array(lows, np.int64)
        # Limits the count to int64.
        self._count = np.minimum(np.array(highs) - np.array(lows), 2.0**62).astype(np.int64) + 1

    def values(self, elapsed_ns: int) -> Vector:
        """See `Signal.values`."""
        counted: NDArray[np.int64] = self._low + self._phase_of.periods(elapsed_ns) % self._count
        return counted.astype(self._type)


class Text:
    """Texts in rotation."""

    def __init__(self, tags: Sequence[SimulatorTag], _: DataType) -> None:
        self._phase_of = _Phase(tags)
        self._texts = [tuple(tag.texts) for tag in tags]

    def values(self, elapsed_ns: int) -> Vector:
        """See `Signal.values`."""
        periods = self._phase_of.periods(elapsed_ns).tolist()
        shown = [texts[at % len(texts)] for texts, at in zip(self._texts, periods, strict=True)]
        return np.array(shown, object)


class Wave:
    """Periodic or random values between low and high, with noise."""

    def __init__(self, tags: Sequence[SimulatorTag], data_type: DataType, seed: int, shape: Shape) -> None:
        self._seeds = np.array([seed_of(seed, tag.name) for tag in tags], np.uint64)
        self._phase_of = _Phase(tags)
        self._shape = shape
        bounds = [(tag.value, tag.value) if tag.signal == "constant" else tag.bounds for tag in tags]
        self._low = np.array([low for low, _ in bounds], np.float64)
        self._span = np.array([high for _, high in bounds], np.float64) - self._low
        noise = np.array([tag.noise for tag in tags])
        self._noise = noise if noise.any() else None
        self._as_type = _converter(data_type, self._low + self._span / 2)

    def values(self, elapsed_ns: int) -> Vector:
        """See `Signal.values`."""
        values = self._low + self._span * self._shape(self._phase_of, elapsed_ns, self._seeds)
        if self._noise is not None:
            values += self._noise * draw(~self._seeds, np.array([elapsed_ns]))
        return self._as_type(values)


def signals_of(tags: Sequence[SimulatorTag], data_type: DataType, seed: int) -> list[tuple[NDArray[np.intp], Signal]]:
    """The signals of one vector, each with its positions in it; replayed and missing tags have none."""
    kinds: dict[str, list[int]] = {}
    for position, tag in enumerate(tags):
        kinds.setdefault("noisy" if tag.signal == "constant" and tag.noise else tag.signal, []).append(position)
    return [
        (np.array(positions, np.intp), _signal(kind, [tags[at] for at in positions], data_type, seed))
        for kind, positions in kinds.items()
        if kind not in ("replay", "missing")
    ]


def _signal(kind: str, tags: Sequence[SimulatorTag], data_type: DataType, seed: int) -> Signal:
    if kind in WAVES or kind == "noisy":
        return Wave(tags, data_type, seed, _SHAPES[kind])
    return _EXACT[kind](tags, data_type)


_EXACT: dict[str, Callable[[Sequence[SimulatorTag], DataType], Signal]] = {
    "constant": Constant,
    "counter": Counter,
    "text": Text,
}


class _Phase:
    """The phases of tags with periods."""

    def __init__(self, tags: Sequence[SimulatorTag]) -> None:
        self._period = np.array([tag.period for tag in tags], np.int64)
        self._phase = np.array([tag.phase for tag in tags], np.int64)

    def turn(self, elapsed_ns: int) -> NDArray[np.float64]:
        """The elapsed part of the current period, from 0 to below 1."""
        turns: NDArray[np.float64] = (self._phase + elapsed_ns) % self._period / self._period
        return turns

    def periods(self, elapsed_ns: int) -> NDArray[np.int64]:
        """The number of completed periods."""
        return (self._phase + elapsed_ns) // self._period


Shape = Callable[[_Phase, int, NDArray[np.uint64]], NDArray[np.float64]]
"""Values from 0 for low to 1 for high."""


def _sine(phase: _Phase, elapsed_ns: int, _: NDArray[np.uint64]) -> NDArray[np.float64]:
    return 0.5 + 0.5 * np.sin(2 * np.pi * phase.turn(elapsed_ns))


def _ramp(phase: _Phase, elapsed_ns: int, _: NDArray[np.uint64]) -> NDArray[np.float64]:
    return phase.turn(elapsed_ns)


def _square(phase: _Phase, elapsed_ns: int, _: NDArray[np.uint64]) -> NDArray[np.float64]:
    return (phase.turn(elapsed_ns) >= 0.5).astype(np.float64)


def _walk(phase: _Phase, elapsed_ns: int, seeds: NDArray[np.uint64]) -> NDArray[np.float64]:
    steps = draw(seeds[:, None], phase.periods(elapsed_ns)[:, None] - _WALK_STEPS)
    positions: NDArray[np.float64] = np.clip(0.5 + steps.sum(axis=1) / (2 * _WALK_RANGE), 0.0, 1.0)
    return positions


def _flat(_: _Phase, __: int, seeds: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.zeros(len(seeds))


_SHAPES: dict[str, Shape] = {"sine": _sine, "ramp": _ramp, "square": _square, "walk": _walk, "noisy": _flat}


def _converter(data_type: DataType, middle: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], Vector]:
    """Converts numbers to a type: integers are rounded and clipped, a bool is true from the middle upwards."""
    kind = data_type.numpy
    if data_type is DataType.BOOL:
        return lambda values: values >= middle
    if kind.kind == "f":
        return lambda values: values.astype(kind)
    limits = np.iinfo(kind)
    low, high = float(limits.min), float(limits.max)
    if high > limits.max:
        high = float(np.nextafter(high, 0.0))  # The nearest float64 is one more than 64 bits can hold.
    return lambda values: np.clip(np.rint(values), low, high).astype(kind)


_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_TOP_53 = np.uint64(11)


def seed_of(device_seed: int, name: str) -> int:
    """The seed of one tag; it does not depend on the other tags of the device."""
    return int.from_bytes(blake2b(f"{device_seed} {name}".encode(), digest_size=8).digest(), "little")


def draw(seeds: NDArray[np.uint64], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """One draw between -1 and 1 for each seed and number (SplitMix64)."""
    mixed = seeds + numbers.astype(np.uint64) * _STEP
    mixed = (mixed ^ (mixed >> _SHIFTS[0])) * _FIRST
    mixed = (mixed ^ (mixed >> _SHIFTS[1])) * _SECOND
    mixed ^= mixed >> _SHIFTS[2]
    drawn: NDArray[np.float64] = (mixed >> _TOP_53).astype(np.float64) * 2.0**-52 - 1.0
    return drawn
