"""Tags from the files of other programs: what an importer found, and how a driver makes a tag of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Origin:
    """A place in a file: a row and column count from 1, and are 0 where the format has none."""

    file: str
    sheet: str = ""
    row: int = 0
    column: int = 0

    def __str__(self) -> str:
        sheet = f", sheet {self.sheet}" if self.sheet else ""
        row = f", row {self.row}" if self.row else ""
        return self.file + sheet + row + (f", column {self.column}" if self.column else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTag:
    """One tag as another program has it.

    Attributes:
        origin: where it is.
        levels: its name, level by level.
        notation: how its address and type are written: the name of a format such as kepware or logix; empty for a
            table of Tidegate, whose `keys` are those of a tag already.
        address: its address in this notation.
        type: its type in this notation.
        sizes: the sizes of an array, one for each dimension.
        keys: keys that every tag of a configuration has, such as unit, scale and description.
    """

    origin: Origin
    levels: tuple[str, ...]
    notation: str
    address: str = ""
    type: str = ""
    sizes: tuple[int, ...] = ()
    keys: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class ImportsTags(Protocol):
    """Optional for a `DriverKind`: it knows how other programs write the addresses of its protocol."""

    def import_tag(self, tag: SourceTag) -> Mapping[str, Mapping[str, Any]]:
        """The keys `address`, `type` and what else only this driver has, for a tag of another program.

        They are by what follows its name: nothing, or what tells the elements of an array apart, such as "[3]".

        Raises:
            ValueError: there is no such tag here; the message is a sentence that says why.
        """
        ...
