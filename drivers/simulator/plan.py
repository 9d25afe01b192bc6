"""Plans of the simulator: the tags of a scan group, grouped into one signal for each kind and vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.simulator.recording import Column, Recording
from drivers.simulator.settings import Failure, SimulatorDevice, SimulatorTag
from drivers.simulator.signals import Signal, signals_of
from edge.driver import PlanCost
from edge.errors import ConfigError, Problem
from edge.model import Layout, StatusCode, StatusRun, Vector, status_runs

Part = tuple[int, NDArray[np.intp], Signal]
"""(vector, positions in it, signal of these positions)."""
Replayed = tuple[int, int, int, Column]
"""(tag, vector, position in it, column of the recording)."""


class SimulatorPlan:
    """One scan group of a simulated device.

    Attributes:
        layout: see `edge.driver.Plan.layout`.
        names: names of the tags, in order.
    """

    def __init__(self, tags: Sequence[SimulatorTag], device: SimulatorDevice) -> None:
        self.layout = Layout(tuple(tag.data_type for tag in tags))
        self.names = tuple(tag.name for tag in tags)
        self._answer_ns = device.answer
        self._recording = device.replay.recording if device.replay else None
        self._loops = device.replay is not None and device.replay.at_end == "loop"
        self._missing = np.array([tag.signal == "missing" for tag in tags], bool)
        self._signals = tuple(tag.signal for tag in tags)
        self._parts = tuple(_parts(tags, self.layout, device.seed))
        self._replayed = _replayed(tags, self.layout, self._recording)
        self._constant_status = status_runs(self._missing.astype(np.uint32) * np.uint32(StatusCode.BAD_ADDRESS))

    def cost(self) -> PlanCost:
        """See `edge.driver.Plan.cost`."""
        value_bytes = sum(data_type.numpy.itemsize for data_type in self.layout.types)
        return PlanCost(
            tags=len(self.layout), requests=1, request_bytes=0, answer_bytes=value_bytes, took_ns=self._answer_ns
        )

    def describe(self) -> Sequence[str]:
        """See `edge.driver.Plan.describe`."""
        return [
            f"{kind} ({self._signals.count(kind)} {'tag' if self._signals.count(kind) == 1 else 'tags'})"
            for kind in dict.fromkeys(self._signals)
        ]

    def values(self, elapsed_ns: int) -> tuple[Vector, ...]:
        """The value of every tag at this time after power-on."""
        vectors = self.layout.empty()
        for vector, positions, signal in self._parts:
            vectors[vector][positions] = signal.values(elapsed_ns)
        if self._replayed and self._recording is not None:
            row = self._recording.row_at(elapsed_ns, loops=self._loops)
            for _, vector, position, column in self._replayed:
                vectors[vector][position] = column.values[row]
        return vectors

    def status(self, elapsed_ns: int, failures: Sequence[Failure]) -> tuple[StatusRun, ...]:
        """The tags that are not GOOD at this time; `failures` are the current ones of the kind bad."""
        if not failures and not self._replayed:
            return self._constant_status
        codes = np.zeros(len(self.layout), np.uint32)
        if self._recording is not None:
            row = self._recording.row_at(elapsed_ns, loops=self._loops)
            missing = [tag for tag, _, _, column in self._replayed if column.is_missing[row]]
            codes[missing] = StatusCode.BAD_RESOURCE_UNAVAILABLE
        for failure in failures:
            affected = [name in failure.tags for name in self.names] if failure.tags else slice(None)
            codes[affected] = StatusCode.BAD_DEVICE_FAILURE
        codes[self._missing] = StatusCode.BAD_ADDRESS
        return status_runs(codes)


def _parts(tags: Sequence[SimulatorTag], layout: Layout, seed: int) -> list[Part]:
    return [
        (vector, positions, signal)
        for vector, (data_type, members) in enumerate(zip(layout.vector_types, layout.members, strict=True))
        for positions, signal in signals_of([tags[tag] for tag in members], data_type, seed)
    ]


def _replayed(tags: Sequence[SimulatorTag], layout: Layout, recording: Recording | None) -> list[Replayed]:
    found: list[Replayed] = []
    problems: list[Problem] = []
    for number, tag in enumerate(tags):
        if tag.signal != "replay" or recording is None:
            continue
        try:
            found.append((number, *layout.slots[number], recording.column(tag.column, tag.data_type)))
        except ValueError as error:
            problems.append(Problem(str(error), path=tag.name))
    if problems:
        raise ConfigError(problems)
    return found
