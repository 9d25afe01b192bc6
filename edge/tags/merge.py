"""Five ways to bring tags into a table that has some already, and devices into a configuration.

create adds tags, of which none may be there; merge-safe adds those that are not there and changes none;
merge-overwrite also changes those that differ; overwrite also removes those that the file does not have; delete removes
those that it has. What cannot be changed here, because it is written elsewhere, is a conflict.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

Mode = Literal["create", "delete", "overwrite", "merge-safe", "merge-overwrite"]
MODES: tuple[str, ...] = get_args(Mode)
What = Literal["added", "changed", "removed", "kept", "conflict"]


class Mergeable(Protocol):
    """A tag or a device of a file."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def shown(self) -> Mapping[str, Any]:
        """Its keys as a person is shown them."""
        ...

    def is_as(self, other: Any) -> bool:
        """Whether nothing of it has to change to be the other one."""
        ...


T = TypeVar("T", bound=Mergeable)


@dataclass(slots=True)  # Not frozen: there are many, and it takes three times as long.
class KeyDifference:
    """A key with another value; empty where it is not written."""

    key: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What happens to one tag, or to one device of a workbook.

    Attributes:
        device: of a tag of a workbook; empty for a device itself, and where all tags are of one device.
        what: kept: it differs and stays as it is; conflict: it cannot be imported, because of a tag that is there.
        keys: the keys that differ, or those of a tag that is new or gone.
        reason: why it is kept, or in conflict.
    """

    name: str
    what: What
    keys: tuple[KeyDifference, ...] = ()
    reason: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class Merged(Generic[T]):
    """The tags of a table afterwards, in order, and what is different."""

    tags: Sequence[T]
    differences: Sequence[Difference]
    unchanged: int

    @property
    def has_changes(self) -> bool:
        """Whether the table becomes another one."""
        return any(each.what in ("added", "changed", "removed") for each in self.differences)

    @property
    def conflicts(self) -> Sequence[Difference]:
        """What cannot be imported."""
        return [each for each in self.differences if each.what == "conflict"]


def merge(
    old: Sequence[T], new: Sequence[T], mode: Mode, elsewhere: Mapping[str, str], left_out: Collection[str] = (),
    pattern: str = "*",
) -> Merged[T]:  # fmt: skip
    """The tags of a table after an import.

    Args:
        elsewhere: where each other tag of the device is written, by its name.
        left_out: names that the file has, and that are not in `new`: overwriting does not remove them.
        pattern: names that were looked for in the file: overwriting removes no others.
    """
    before = {tag.name: tag for tag in old}
    after = dict(before)
    if mode == "delete":
        names = dict.fromkeys([*(tag.name for tag in new), *left_out])
        gone = [_elsewhere(name, elsewhere) for name in names if name in elsewhere]
        gone += [_gone(after.pop(name)) for name in before if name in names]
        return Merged(list(after.values()), gone, len(after))
    differences: list[Difference] = []
    unchanged = 0
    for tag in new:
        difference = _compare(before.get(tag.name), tag, mode, elsewhere)
        if difference is None:
            unchanged += 1
            continue
        differences.append(difference)
        if difference.what in ("added", "changed"):
            after[tag.name] = tag
    if mode == "overwrite":
        names = dict.fromkeys(tag.name for tag in new)
        rest = [name for name in before if name not in names and is_wanted(name, pattern)]
        differences += [_left_out(name) if name in left_out else _gone(after.pop(name)) for name in rest]
    return Merged(list(after.values()), differences, unchanged)


def is_wanted(name: str, pattern: str) -> bool:
    """Whether a name matches a pattern, in any case."""
    return fnmatchcase(name.lower(), pattern.lower())


def _compare(there: T | None, tag: T, mode: Mode, elsewhere: Mapping[str, str]) -> Difference | None:
    """What happens to one tag of the file; None where it is in the table just so."""
    name = tag.name
    if name in elsewhere:
        return _elsewhere(name, elsewhere)
    if there is None:
        return Difference(name=name, what="added", keys=tuple(_differences({}, tag.shown)))
    if mode == "create":
        return Difference(name=name, what="conflict", reason="it is there already")
    if there.is_as(tag):
        return None
    keys = tuple(_differences(there.shown, tag.shown))
    if mode == "merge-safe":
        return Difference(name=name, what="kept", keys=keys, reason="merge-safe changes nothing that is there")
    return Difference(name=name, what="changed", keys=keys)


def _elsewhere(name: str, elsewhere: Mapping[str, str]) -> Difference:
    reason = f"it is in {elsewhere[name]} already, which an import does not change"
    return Difference(name=name, what="conflict", reason=reason)


def _left_out(name: str) -> Difference:
    return Difference(name=name, what="kept", reason="the file has it, and it was left out")


def _gone(tag: Mergeable) -> Difference:
    return Difference(name=tag.name, what="removed", keys=tuple(_differences(tag.shown, {})))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[KeyDifference]:
    for key in dict.fromkeys((*old, *new)):
        before, after = (_text(keys.get(key, "")) for keys in (old, new))
        if before != after and key != "name":
            yield KeyDifference(key, before, after)


def _text(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
