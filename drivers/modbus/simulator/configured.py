"""The devices of a configuration, simulated by Modbus TCP: exactly their tags, with values that move."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from drivers.modbus.address import AddressRange, Table
from drivers.modbus.plan import ModbusPlan
from drivers.modbus.settings import ModbusDevice, ModbusTag
from drivers.modbus.simulator.device import SimulatedDevice, SimulatedUnit, TagSignal, Wave
from drivers.modbus.simulator.signals import MISSING, default_signal, replayed, wave_of
from edge.clock import Clock, SystemClock
from edge.driver import SimulatedDevice as Served
from edge.driver import Simulation
from edge.errors import ConfigError

_ONLY_TCP = dict.fromkeys(("serial", "listen", "tls", "framing", "tolerate"))


@asynccontextmanager
async def simulate(devices: Sequence[ModbusDevice], how: Simulation) -> AsyncIterator[Sequence[Served]]:
    """See `edge.driver.Simulates.simulate`."""
    places: dict[Hashable, list[ModbusDevice]] = {}
    for device in devices:
        places.setdefault(device.endpoint, []).append(device)
    served: list[Served] = []
    async with AsyncExitStack() as stack:
        for number, sharing in enumerate(places.values()):
            port = sharing[0].tcp_port if how.port is None else how.port and how.port + number
            units = units_of(sharing, how, SystemClock())
            simulated = {unit: each.simulated for unit, each in units.items()}
            server = SimulatedDevice(simulated, host=how.host, port=port)
            try:
                await stack.enter_async_context(server)
            except OSError as error:
                sentence = f"{sharing[0].name} cannot answer at {how.host}:{port}: {os.strerror(error.errno or 0)}"
                raise OSError(error.errno, sentence) from error
            served += [
                Served(name=device.name, port=server.port, detail=f"unit {device.unit}",
                       tags=units[device.unit].tags[device.name],
                       device={**_ONLY_TCP, "port": server.port, "host": how.host})
                for device in sharing
            ]  # fmt: skip
        yield served


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit, and address and signal of each tag by the names of its device and of itself."""

    simulated: SimulatedUnit
    tags: Mapping[str, Mapping[str, tuple[str, str]]]


def units_of(
    sharing: Sequence[ModbusDevice], how: Simulation, clock: Clock, *, is_kept: bool = False
) -> dict[int, Unit]:
    """The units behind one endpoint, by number; with `is_kept`, the values of all answers are in their signals."""
    numbers = dict.fromkeys(device.unit for device in sharing)
    return {
        number: _unit([device for device in sharing if device.unit == number], how, clock, is_kept=is_kept)
        for number in numbers
    }


@dataclass(frozen=True, slots=True)
class _Tag:
    device: str
    tag: ModbusTag
    signal: str
    recording: Sequence[tuple[float, str]]
    is_asked_for: bool

    @property
    def bits(self) -> range:
        """What it occupies: bits of its table, 16 in a register."""
        where, size = self.tag.parsed_address, 1 if self.tag.parsed_address.table.is_bits else 16
        if where.half is not None:
            return range(
                16 * where.first + 8 * (where.half == "high"), 16 * where.first + 8 * (where.half == "high") + 8
            )
        if where.bit is not None:
            return range(16 * where.first + where.bit, 16 * where.first + where.bit + where.bits)
        return range(size * where.first, size * (self.tag.last + 1))


def _unit(devices: Sequence[ModbusDevice], how: Simulation, clock: Clock, *, is_kept: bool) -> Unit:
    tags = [tag for device in devices for tag in _tags(device, how)]
    shown: dict[str, dict[str, tuple[str, str]]] = {device.name: {} for device in devices}
    occupied: dict[tuple[Table, int], str] = {}
    signals: list[TagSignal] = []
    missing: list[str] = []
    # Where tags share a register, one of them moves and the others follow: the one asked for, then the largest.
    for each in sorted(tags, key=lambda tag: (not tag.is_asked_for, -len(tag.bits))):
        tag, signal, table = each.tag, each.signal, each.tag.parsed_address.table
        other = next((found for bit in each.bits if (found := occupied.get((table, bit)))), None)
        occupied |= dict.fromkeys(((table, bit) for bit in each.bits), tag.name)
        if other is not None:
            signal = f"shares registers with {other}"
        elif signal == MISSING:
            missing.append(str(AddressRange(table, tag.parsed_address.first, tag.last)))
        else:
            signals.append(TagSignal(tag, _wave(each, clock), is_kept))
        shown[each.device][tag.name] = (tag.address_text, signal)
    objects = {0: "Tidegate", 1: f"simulated {devices[0].name}", 2: "1.0"}
    unit = SimulatedUnit(signals, illegal=missing, existing=_existing(devices), objects=objects)
    in_order = {
        device.name: {tag.name: shown[device.name][tag.name] for group in device.scan_groups for tag in group.tags}
        for device in devices
    }
    return Unit(unit, in_order)


def _tags(device: ModbusDevice, how: Simulation) -> Iterable[_Tag]:
    tags = [tag for group in device.scan_groups for tag in group.tags]
    scales = {tag.scale_from for tag in tags}
    for tag in tags:
        names = (f"{device.name}/{tag.name}", tag.name)
        written = next((how.signals[name] for name in names if name in how.signals), "")
        recording = next((how.recordings[name] for name in names if name in how.recordings), ())
        complete = replace(
            tag,
            word_order=tag.word_order or (None if tag.kind == "text" else device.word_order),
            byte_order=tag.byte_order or device.byte_order,
            invalid=device.invalid if tag.invalid is None else tag.invalid,
        )
        default = "recorded" if recording else default_signal(complete, is_scale=tag.name in scales)
        yield _Tag(device.name, complete, written or default, () if written else recording, bool(written or recording))


def _wave(each: _Tag, clock: Clock) -> Wave:
    try:
        return replayed(each.tag, each.recording) if each.recording else wave_of(each.tag, each.signal, clock)
    except ValueError as error:
        raise ConfigError(f"{each.device}/{each.tag.name}: {error}") from error


def _existing(devices: Sequence[ModbusDevice]) -> list[AddressRange]:
    """The addresses of the tags, and what the gateway may read along between them."""
    ranges = [
        block.addresses for device in devices for group in device.scan_groups
        for block in ModbusPlan(group.tags, device).blocks
    ]  # fmt: skip
    merged: list[AddressRange] = []
    for each in sorted(ranges, key=lambda found: (found.table.function, found.first)):
        before = merged[-1] if merged else None
        if before is not None and before.table is each.table and each.first <= before.last + 1:
            merged[-1] = AddressRange(each.table, before.first, max(before.last, each.last))
        else:
            merged.append(each)
    return merged
