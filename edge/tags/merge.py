"""Five ways to bring tags into a table that has some already.

create adds tags, of which none may be there; merge-safe adds those that are not there and changes none;
merge-overwrite also changes those that differ; overwrite also removes those that the file does not have; delete removes
those that it has. What cannot be changed here, because it is written elsewhere, is a conflict.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from edge.tags.prepare import PreparedTag

Mode = Literal["create", "delete", "overwrite", "merge-safe", "merge-overwrite"]
MODES: tuple[str, ...] = get_args(Mode)
What = Literal["added", "changed", "removed", "kept", "conflict"]


@dataclass(slots=True)  # Not frozen: there are many, and it takes three times as long.
class KeyDifference:
    """A key with another value; empty where it is not written."""

    key: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What happens to one tag.

    Attributes:
        what: kept: it differs and stays as it is; conflict: it cannot be imported, because of a tag that is there.
        keys: the keys that differ, or those of a tag that is new or gone.
        reason: why it is kept, or in conflict.
    """

    name: str
    what: What
    keys: tuple[KeyDifference, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Merged:
    """The tags of a table afterwards, in order, and what is different."""

    tags: Sequence[PreparedTag]
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
    old: Sequence[PreparedTag],
    new: Sequence[PreparedTag],
    mode: Mode,
    elsewhere: Mapping[str, str],
    left_out: Collection[str] = (),
) -> Merged:
    """The tags of a table after an import.

    Args:
        elsewhere: where each other tag of the device is written, by its name.
        left_out: names that the file has, and that are not in `new`: overwriting does not remove them.
    """
    before = {tag.settings.name: tag for tag in old}
    after = dict(before)
    if mode == "delete":
        names = {*(tag.settings.name for tag in new), *left_out}
        gone = [_gone(after.pop(name)) for name in before if name in names]
        return Merged(list(after.values()), gone, len(after))
    differences: list[Difference] = []
    unchanged = 0
    for tag in new:
        difference = _compare(before.get(tag.settings.name), tag, mode, elsewhere)
        if difference is None:
            unchanged += 1
            continue
        differences.append(difference)
        if difference.what in ("added", "changed"):
            after[tag.settings.name] = tag
    if mode == "overwrite":
        names = {tag.settings.name for tag in new}
        rest = [name for name in before if name not in names]
        differences += [_left_out(name) if name in left_out else _gone(after.pop(name)) for name in rest]
    return Merged(list(after.values()), differences, unchanged)


def _compare(
    there: PreparedTag | None, tag: PreparedTag, mode: Mode, elsewhere: Mapping[str, str]
) -> Difference | None:
    """What happens to one tag of the file; None where it is in the table just so."""
    name = tag.settings.name
    if name in elsewhere:
        reason = f"it is in {elsewhere[name]} already, which an import does not change"
        return Difference(name=name, what="conflict", reason=reason)
    if there is None:
        keys = tuple(KeyDifference(key, "", _text(value)) for key, value in tag.keys.items() if key != "name")
        return Difference(name=name, what="added", keys=keys)
    if mode == "create":
        return Difference(name=name, what="conflict", reason="it is in the table already")
    if there.settings == tag.settings and there.every == tag.every:
        return None
    keys = tuple(_differences(there.row, tag.row))
    if mode == "merge-safe":
        return Difference(name=name, what="kept", keys=keys, reason="merge-safe changes no tag")
    return Difference(name=name, what="changed", keys=keys)


def _left_out(name: str) -> Difference:
    return Difference(name=name, what="kept", reason="the file has it, and it was left out")


def _gone(tag: PreparedTag) -> Difference:
    return Difference(name=tag.settings.name, what="removed", keys=tuple(_differences(tag.keys, {})))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[KeyDifference]:
    for key in dict.fromkeys((*old, *new)):
        before, after = (_text(keys.get(key, "")) for keys in (old, new))
        if before != after and key != "name":
            yield KeyDifference(key, before, after)


def _text(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
