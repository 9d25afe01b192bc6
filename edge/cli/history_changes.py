"""What each CONFIG record changed: what it lists, what had no room in it, and what of that was asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from edge.config.kept import Change, unpack
from edge.config.written import differences, paths
from edge.seal import ConfigChange
from edge.verify.configurations import KeptConfigurations


class Shown(NamedTuple):
    """What is shown of a record.

    Attributes:
        changes: those that were asked for.
        listed: how many of all changes the record lists itself; others come from the configurations on record.
        others: how many changes there are of other paths than those that were asked for.
        unknown: how many more there are of which nothing is known; None where that is not known either.
        is_wanted: whether the record may be about what was asked for.
    """

    changes: tuple[Change, ...]
    listed: int
    others: int
    unknown: int | None
    is_wanted: bool


class Changes:
    """Completes the changes of records from the configurations that are kept, and filters them by path.

    Where nothing was verified, records may say anything: a configuration may be none, or be nested without end.

    Args:
        kept: the configurations on record, once all records were read.
        patterns: paths that are asked for, with * and ?; brackets stand for themselves. None asks for all.
    """

    def __init__(self, kept: KeptConfigurations, patterns: Sequence[str]) -> None:
        self._kept = kept
        self._patterns = [glob(each) for each in patterns]
        self._configuration = lru_cache(4)(self._unpacked)
        self._matching = lru_cache(64)(self._matching_paths)

    def of(self, change: ConfigChange) -> Shown:
        """What is shown of a record."""
        changes, unknown = self._all(change)
        if not self._patterns:
            return Shown(changes, len(change.changes), 0, unknown, is_wanted=True)
        asked = tuple(each for each in changes if self._is_asked(each, change))
        is_wanted = bool(asked) or unknown != 0 or (not change.old_hash and self._matching(change.new_hash) != [])
        return Shown(asked, len(change.changes), len(changes) - len(asked), unknown, is_wanted)

    def _all(self, change: ConfigChange) -> tuple[tuple[Change, ...], int | None]:
        listed = change.changes
        count = None if change.kept is None else change.kept.changes
        if change.old_hash in (b"", change.new_hash) or count == len(listed):
            return listed, 0
        old, new = self._configuration(change.old_hash), self._configuration(change.new_hash)
        known = {path for path, _, _ in listed}
        with suppress(RecursionError):
            if old is not None and new is not None:
                return (*listed, *(each for each in differences(old, new) if each[0] not in known)), 0
        return listed, None if count is None else count - len(listed)

    def _unpacked(self, digest: bytes) -> Any:
        """The configuration, or None where it is not held or cannot be read."""
        packed = self._kept.packed(digest)
        with suppress(ValueError):
            return None if packed is None else unpack(packed)
        return None

    def _is_asked(self, each: Change, change: ConfigChange) -> bool:
        """Whether a change is of a path that is asked for, or adds or removes an item that has such a path in it."""
        path, old, new = each
        if any(pattern.fullmatch(path) for pattern in self._patterns):
            return True
        if (old and new) or not (old or new).startswith(("{", "[")):
            return False
        below = self._matching(change.new_hash if new else change.old_hash)
        return below is None or any(at.startswith((f"{path}.", f"{path}[")) for at in below)

    def _matching_paths(self, digest: bytes) -> list[str] | None:
        """The paths of a configuration that are asked for; None where it is not held."""
        held = self._configuration(digest)
        with suppress(RecursionError):
            if held is not None:
                return [path for path in paths(held) if any(each.fullmatch(path) for each in self._patterns)]
        return None


def glob(pattern: str) -> re.Pattern[str]:
    """A pattern in which * stands for any text and ? for a character; brackets are part of the names of paths."""
    parts = ({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    return re.compile("".join(parts), re.DOTALL)
