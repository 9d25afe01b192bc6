"""Tags and their values: scopes, memory, and the location that a path leads to."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

from drivers.ethernetip.simulator.codes import beyond_end, unknown_name
from drivers.ethernetip.simulator.paths import Step
from drivers.ethernetip.simulator.types import BOOL, DWORD, Array, Atomic, DataType, Structure

Wave = Callable[[float], Any]
"""The value as a function of the seconds since the controller was switched on."""


@dataclass(frozen=True, slots=True)
class Location:
    """A location in a tag's memory: elements of one type, `count` of them to the end of the array; or one bit."""

    offset: int
    data_type: Atomic | Structure
    count: int
    bit: int | None = None


@dataclass(eq=False)
class Tag:
    """A tag.

    Attributes:
        memory: its value as in the memory of the controller.
        instance: its number in the tag list; changes with a download.
        access: 0 read and write, 2 read only, 3 none (1756-PM020, "External access").
        failure: general and extended status in place of every answer.
    """

    name: str
    data_type: DataType
    access: int = 0
    is_alias: bool = False
    instance: int = 0
    failure: tuple[int, ...] = ()
    memory: bytearray = field(init=False)
    _waves: dict[Location, tuple[DataType, Wave]] = field(default_factory=dict)
    _moment: float = -1.0

    def __post_init__(self) -> None:
        self.memory = bytearray(self.data_type.size)

    @property
    def is_moving(self) -> bool:
        """Whether a part of it is computed when it is read."""
        return bool(self._waves)

    def put(self, steps: tuple[Step, ...], value: Any) -> None:
        """Set it, or what the steps lead to, to a value; a function is called at every read."""
        place, whole = self._place(steps)
        self._waves.pop(place, None)
        if callable(value):
            self._waves[place] = whole, value
        else:
            self._lay(place, whole, value)

    def move(self, moment: float) -> None:
        """Update computed values to this time."""
        if moment != self._moment:
            self._moment = moment
            for place, (whole, wave) in self._waves.items():
                self._lay(place, whole, wave(moment))

    def find(self, steps: tuple[Step, ...]) -> Location:
        """The location of a request path. Raises CipError as a controller would answer."""
        return locate(self.data_type, steps)

    def _place(self, steps: tuple[Step, ...]) -> tuple[Location, DataType]:
        if steps and isinstance(steps[-1], int):
            whole = locate(self.data_type, steps[:-1])
            if whole.data_type is DWORD and _is_bool_array(self.data_type, steps[:-1]):
                bit = steps[-1]
                if bit >= 32 * whole.count:
                    raise beyond_end()
                return Location(whole.offset + bit // 8, BOOL, 1, bit % 8), BOOL
        place = locate(self.data_type, steps)
        return place, _type_at(self.data_type, steps)

    def _lay(self, place: Location, whole: DataType, value: Any) -> None:
        if place.bit is not None:
            mask = 1 << place.bit
            self.memory[place.offset] = self.memory[place.offset] & ~mask | (mask if value else 0)
            return
        data = whole.encode(value)
        if len(data) != whole.size:
            raise ValueError(f"{self.name}: {len(data)} bytes do not fit a place of {whole.size}")
        self.memory[place.offset : place.offset + len(data)] = data


def _walk(data_type: DataType, steps: Iterable[Step]) -> Iterator[tuple[DataType, int, int, int | None]]:
    """(type, offset, elements left, bit) after each step; an array stays an array until all its indexes are there."""
    offset, indexes = 0, 0
    left, bit = (prod(data_type.sizes) if isinstance(data_type, Array) else 1), None
    yield data_type, offset, left, bit
    for step in steps:
        if isinstance(step, int):
            if not isinstance(data_type, Array):
                raise unknown_name()
            rest = data_type.sizes[indexes:]
            if step >= rest[0]:
                raise beyond_end()
            skipped = step * prod(rest[1:])
            offset, left, indexes = offset + skipped * data_type.element.size, left - skipped, indexes + 1
            if len(rest) == 1:
                data_type, indexes = data_type.element, 0
        else:
            if not isinstance(data_type, Structure) or (member := data_type.members.get(step.lower())) is None:
                raise unknown_name()
            if member.is_hidden:
                raise unknown_name()
            data_type, offset, bit = member.data_type, offset + member.offset, member.bit
            left = prod(data_type.sizes) if isinstance(data_type, Array) else 1
        yield data_type, offset, left, bit
    if indexes:
        raise unknown_name()  # Fewer indexes than dimensions.


def locate(data_type: DataType, steps: tuple[Step, ...]) -> Location:
    """The location that steps into a type lead to. Raises CipError as a controller would answer."""
    *_, (found, offset, left, bit) = _walk(data_type, steps)
    return Location(offset, found.element if isinstance(found, Array) else found, left, bit)


def _type_at(data_type: DataType, steps: tuple[Step, ...]) -> DataType:
    *_, (found, _, _, _) = _walk(data_type, steps)
    return found


def _is_bool_array(data_type: DataType, steps: tuple[Step, ...]) -> bool:
    found = _type_at(data_type, steps)
    return isinstance(found, Array) and found.of is BOOL


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a tag list: a tag, or a system object."""

    instance: int
    name: str
    symbol_type: int
    tag: Tag | None


class Scope:
    """The tags of the controller or of one program, and the system's entries between them."""

    def __init__(self, first: int) -> None:
        self.tags: dict[str, Tag] = {}
        self.by_instance: dict[int, Entry] = {}
        self._last = first

    def add(self, name: str, symbol_type: int, tag: Tag | None = None) -> None:
        """Append an entry; numbers ascend, with gaps, as in a controller with some history."""
        self._last += 1 + zlib.crc32(name.encode()) % 5
        self.by_instance[self._last] = Entry(self._last, name, symbol_type, tag)
        if tag is not None:
            tag.instance = self._last
            self.tags[name.lower()] = tag

    def remove(self, name: str) -> None:
        """Remove a tag; its number is not used again."""
        del self.by_instance[self.tags.pop(name.lower()).instance]

    def renumber(self, first: int) -> None:
        """Change the number of every entry."""
        entries, self.by_instance, self._last = list(self.by_instance.values()), {}, first
        for entry in entries:
            self.add(entry.name, entry.symbol_type, entry.tag)
