"""Signals evaluated for a whole vector at once: a value depends on the time and on nothing before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.simulator.settings import WAVES, SimulatorTag
from edge.model import DataType, Vector

_WALK_STEPS = np.arange(16, dtype=np.int64)  # A walk is the sum of its last steps: it strays, and comes back.
_WALK_REACH = 7.0  # The sum of 16 draws is rarely beyond.


class Signal(Protocol):
    """Tags of one vector that move in the same way."""

    def values(self, elapsed_ns: int) -> Vector:
        """Their values so long after the device was switched on, in the type of their vector."""
        ...


class Constant:
    """Values that stay."""

    def __init__(self, tags: Sequence[SimulatorTag], data_type: DataType) -> None:
        self._values = np.array([tag.value for tag in tags], data_type.numpy)

    def values(self, elapsed_ns: int) -> Vector:  # noqa: ARG002
        """See `Signal.values`."""
        return self._values


class Counter:
    """One more each period, exact for every type."""

    def __init__(self, tags: Sequence[SimulatorTag], data_type: DataType) -> None:
        self._type = data_type.numpy
        self._pace = _Pace(tags)
        lows, highs = zip(*(tag.bounds for tag in tags), strict=True)
        self._low = np.array(lows, np.int64)
        # The type may hold more than can be counted in any time.
        self._count = np.minimum(np.array(highs) - np.array(lows), 2.0**62).astype(np.int64) + 1

    def values(self, elapsed_ns: int) -> Vector:
        """See `Signal.values`."""
        counted: NDArray[np.int64] = self._low + self._pace.periods(elapsed_ns) % self._count
        return counted.astype(self._type)


class Text:
    """Texts in turn."""

    def __init__(self, tags: Sequence[SimulatorTag], _: DataType) -> None:
        self._pace = _Pace(tags)
        self._texts = [tuple(tag.texts) for tag in tags]

    def values(self, elapsed_ns: int) -> Vector:
        """See `Signal.values`."""
        periods = self._pace.periods(elapsed_ns).tolist()
        shown = [texts[at % len(texts)] for texts, at in zip(self._texts, periods, strict=True)]
        return np.array(shown, object)


class Wave:
    """A shape between low and high, with noise."""

    def __init__(self, tags: Sequence[SimulatorTag], data_type: DataType, seed: int, shape: Shape) -> None:
        self._seeds = np.array([seed_of(seed, tag.name) for tag in tags], np.uint64)
        self._pace = _Pace(tags)
        self._shape = shape
        bounds = [(tag.value, tag.value) if tag.signal == "constant" else tag.bounds for tag in tags]
        self._low = np.array([low for low, _ in bounds], np.float64)
        self._span = np.array([high for _, high in bounds], np.float64) - self._low
        noise = np.array([tag.noise for tag in tags])
        self._noise = noise if noise.any() else None
        self._as_type = _converter(data_type, self._low + self._span / 2)

    def values(self, elapsed_ns: int) -> Vector:
        """See `Signal.values`."""
        values = self._low + self._span * self._shape(self._pace, elapsed_ns, self._seeds)
        if self._noise is not None:
            values += self._noise * draw(~self._seeds, np.array([elapsed_ns]))
        return self._as_type(values)


def signals_of(tags: Sequence[SimulatorTag], data_type: DataType, seed: int) -> list[tuple[NDArray[np.intp], Signal]]:
    """The signals of one vector, each with the positions it fills; replayed and missing tags are not among them."""
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


class _Pace:
    """Where each tag is in its period."""

    def __init__(self, tags: Sequence[SimulatorTag]) -> None:
        self._period = np.array([tag.period for tag in tags], np.int64)
        self._phase = np.array([tag.phase for tag in tags], np.int64)

    def turn(self, elapsed_ns: int) -> NDArray[np.float64]:
        """The part of the period that has passed, from 0 to below 1."""
        turns: NDArray[np.float64] = (self._phase + elapsed_ns) % self._period / self._period
        return turns

    def periods(self, elapsed_ns: int) -> NDArray[np.int64]:
        """Whole periods that have passed."""
        return (self._phase + elapsed_ns) // self._period


Shape = Callable[[_Pace, int, NDArray[np.uint64]], NDArray[np.float64]]
"""From 0 for low to 1 for high."""


def _sine(pace: _Pace, elapsed_ns: int, _: NDArray[np.uint64]) -> NDArray[np.float64]:
    return 0.5 + 0.5 * np.sin(2 * np.pi * pace.turn(elapsed_ns))


def _ramp(pace: _Pace, elapsed_ns: int, _: NDArray[np.uint64]) -> NDArray[np.float64]:
    return pace.turn(elapsed_ns)


def _square(pace: _Pace, elapsed_ns: int, _: NDArray[np.uint64]) -> NDArray[np.float64]:
    return (pace.turn(elapsed_ns) >= 0.5).astype(np.float64)


def _walk(pace: _Pace, elapsed_ns: int, seeds: NDArray[np.uint64]) -> NDArray[np.float64]:
    steps = draw(seeds[:, None], pace.periods(elapsed_ns)[:, None] - _WALK_STEPS)
    strayed: NDArray[np.float64] = np.clip(0.5 + steps.sum(axis=1) / (2 * _WALK_REACH), 0.0, 1.0)
    return strayed


def _flat(_: _Pace, __: int, seeds: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.zeros(len(seeds))


_SHAPES: dict[str, Shape] = {"sine": _sine, "ramp": _ramp, "square": _square, "walk": _walk, "noisy": _flat}


def _converter(data_type: DataType, middle: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], Vector]:
    """From numbers to the values of a type: rounded and kept within it; a bool is true from the middle up."""
    kind = data_type.numpy
    if data_type is DataType.BOOL:
        return lambda values: values >= middle
    if kind.kind == "f":
        return lambda values: values.astype(kind)
    limits = np.iinfo(kind)
    low, high = float(limits.min), float(limits.max)
    if high > limits.max:
        high = float(np.nextafter(high, 0.0))  # The nearest float64 is one too many for 64 bits.
    return lambda values: np.clip(np.rint(values), low, high).astype(kind)


_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_TOP_53 = np.uint64(11)


def seed_of(device_seed: int, name: str) -> int:
    """A seed for one tag: tags of one device differ, and keep their values when others come and go."""
    return int.from_bytes(blake2b(f"{device_seed} {name}".encode(), digest_size=8).digest(), "little")


def draw(seeds: NDArray[np.uint64], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """One draw between -1 and 1 for each seed and number (SplitMix64)."""
    mixed = seeds + numbers.astype(np.uint64) * _STEP
    mixed = (mixed ^ (mixed >> _SHIFTS[0])) * _FIRST
    mixed = (mixed ^ (mixed >> _SHIFTS[1])) * _SECOND
    mixed ^= mixed >> _SHIFTS[2]
    drawn: NDArray[np.float64] = (mixed >> _TOP_53).astype(np.float64) * 2.0**-52 - 1.0
    return drawn
