"""Browsing a simulated device: an example tag for each signal, and the columns of its recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drivers.simulator.plan import SimulatorPlan
from drivers.simulator.recording import Recording
from drivers.simulator.settings import SimulatorDevice, SimulatorTag
from edge.driver import BrowseEntry
from edge.model import DataType, in_unit
from edge.units import format_value, parse_duration_ns

_SIGNALS: tuple[Mapping[str, Any], ...] = (
    {"name": "sine", "signal": "sine", "low": 20.0, "high": 80.0, "period": "30 s", "type": "float32"},
    {"name": "ramp", "signal": "ramp", "type": "float32"},
    {"name": "square", "signal": "square", "type": "bool"},
    {"name": "walk", "signal": "walk", "period": "1 s", "type": "float32"},
    {"name": "counter", "signal": "counter", "period": "1 s", "type": "uint32"},
    {"name": "constant", "signal": "constant", "value": 42, "type": "int16"},
    {"name": "text", "signal": "text", "texts": ["idle", "running"], "type": "text"},
)


def entries_below(path: str, device: SimulatorDevice, elapsed_ns: int) -> Sequence[BrowseEntry]:
    """The entries directly below a path. Raises LookupError for an unknown path."""
    replay = device.replay
    if path == "":
        folders = ["signals"] if replay is None else ["signals", "recording"]
        return [BrowseEntry(name=name, path=name, type="folder") for name in folders]
    if path == "signals":
        return [_entry(keys, device, elapsed_ns) for keys in _SIGNALS]
    if path == "recording" and replay is not None:
        header = replay.recording.header
        columns = [name for name in header if name != (replay.time or header[0])]
        return [_entry(_column(name, replay.recording), device, elapsed_ns) for name in columns]
    raise LookupError(f"{device.name} has nothing at {path!r}")


def _column(name: str, recording: Recording) -> Mapping[str, Any]:
    """The tag of a column, in the first type that fits all its cells."""
    for data_type in (DataType.INT64, DataType.FLOAT64, DataType.TEXT):
        try:
            recording.column(name, data_type)
        except ValueError:
            continue
        break
    return {"name": name, "signal": "replay", "column": name, "type": data_type.label}


def _entry(keys: Mapping[str, Any], device: SimulatorDevice, elapsed_ns: int) -> BrowseEntry:
    period = {"period": parse_duration_ns(keys["period"])} if "period" in keys else {}
    tag = SimulatorTag(**{**keys, **period})
    (vector,) = SimulatorPlan([tag], device).values(elapsed_ns)
    settings = {key: value for key, value in keys.items() if key != "name"}
    return BrowseEntry(name=tag.name, type=tag.data_type.label, value=format_value(in_unit(vector[0])), tag=settings)
