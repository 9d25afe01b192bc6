"""The tags that a device has now, against those of its configuration: which are gone, new, or of another type.

A configured tag is judged by a read, as `tidegate test` makes it: its address may be written in a way that no list of
the device has. New tags, and other types, come from what the device lists; where it lists nothing, they are not known.
The running gateway asks both where it holds the device.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from edge.cli.browse import LEVELS_LIMIT, FoundEntry, Tree, browse
from edge.cli.output import Failure
from edge.cli.progress import unless_stopped
from edge.cli.test import Trial
from edge.clock import SystemClock
from edge.config.check import check
from edge.config.devices import control_socket
from edge.config.export import Names, fitting
from edge.config.fields import fields_of
from edge.config.validate import settings_from
from edge.driver import DeviceSettings, Origin, TagSettings
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.gateway.control import GatewayRefuses
from edge.gateway.tag_values import ReadValue
from edge.importers.found import Found
from edge.model import StatusCode, name_of
from edge.tags.merge import Difference, Merged, Mode, merge
from edge.tags.prepare import PreparedTag
from edge.tags.target import Target, expanded, keep_readable
from edge.terminal import printable

_ENTRIES_LIMIT = 500_000
_GONE = {StatusCode.BAD_ADDRESS, 0x80370000}  # BadIndexRangeNoData: the array has become shorter.
_TYPE_KEYS = ("type", "length")
_TAKES: Mapping[Mode, set[str]] = {
    "create": {"added"}, "merge-safe": {"added"}, "merge-overwrite": {"added", "changed"},
    "overwrite": {"added", "changed", "removed"}, "delete": {"removed"},
}  # fmt: skip


@dataclass(slots=True)
class LiveTags:
    """The tags of a device as they are now.

    Attributes:
        found: what was left out, and what is not known.
        rows: those of the table, as they are now, without those that are gone; and what is new.
        gone: why a row is gone, by its name.
        said: what else differs; an import changes none of it.
    """

    found: Found
    rows: dict[str, PreparedTag] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    said: list[Difference] = field(default_factory=list)

    def merge(self, target: Target, mode: Mode) -> Merged[PreparedTag]:
        """The table afterwards. What a mode does not take stays, and is among the differences."""
        after = {row.settings.name: row for row in target.tags}
        differences = list(self.said)
        for each in merge(target.tags, list(self.rows.values()), "overwrite", target.elsewhere).differences:
            reason = self.gone.get(each.name, each.reason)
            if each.what not in _TAKES[mode]:
                reason = reason or f"{'new' if each.what == 'added' else 'of another type'}; {mode} leaves it"
                differences.append(replace(each, what="kept", reason=reason))
                continue
            differences.append(replace(each, reason=reason))
            if each.what == "removed":
                del after[each.name]
            else:
                after[each.name] = self.rows[each.name]
        differing = {each.name for each in differences}
        return Merged(list(after.values()), differences, sum(row.settings.name not in differing for row in target.tags))


@unless_stopped("nothing was changed")
def find_live_tags(config: Path, target: Target, pattern: str, *, direct: bool) -> LiveTags:
    """The tags of a device, compared with those of its configuration whose names match a pattern.

    Raises:
        ConfigError: the configuration has problems.
        Failure: the device does not answer, or has more than can be listed.
    """
    control, tags, read = None if direct else control_socket(config), list[TagSettings](), dict[str, ReadValue]()
    device, tree = target.device, Tree(_ENTRIES_LIMIT, with_standard=False)
    try:
        if target.tags or target.elsewhere:
            (device,) = check(config, device=device.name, kind="gateway").gateway().devices
            tags = [tag for group in device.scan_groups for tag in group.tags]
            trial = Trial(device, tags, 0.0, rounds=1)
            trial.run(control)
            read = {name: values[-1][0] for name, values in trial.read.items()}
        driver = target.kind.driver(device, SystemClock())
        browse(driver, control, tree, "", LEVELS_LIMIT, device)
    except (DeviceUnreachable, DeviceRefused, ProtocolViolation, GatewayRefuses) as error:
        raise Failure(f"{device.name}: {printable(str(error))}") from error
    if tree.why and tree.has_list:
        raise Failure(f"{device.name}: {printable(tree.why)}")
    return _Comparison(target, device, tree, pattern.lower()).made(tags, read)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A tag that the device lists: its settings, but for the name, and the keys that it was made from."""

    levels: Sequence[str]
    settings: TagSettings
    keys: Mapping[str, Any]
    places: frozenset[Hashable]


@dataclass(frozen=True, slots=True)
class _Verdict:
    kind: Literal["same", "changed", "gone", "unclear"]
    why: str = ""
    now: _Listed | None = None


_SAME = _Verdict("same")


class _Comparison:
    def __init__(self, target: Target, device: DeviceSettings, tree: Tree, pattern: str) -> None:
        self._target, self._device, self._pattern, self._has_list = target, device, pattern, tree.has_list
        self._origin = Origin(device.name)
        self._live = LiveTags(Found("tags of the device"))
        if tree.is_from_gateway:
            self._live.found.note("asked by the running gateway between its scans; --direct asks the device")
        if not tree.has_list:
            self._live.found.note(
                f"a device of the driver {device.driver} has no list of what it holds: compared is whether each "
                "configured address still answers; new tags, and other types, cannot be seen"
            )
        self._types = {each.entry.path: each.entry.type for each in tree.found if each.entry.path}
        self._listed = list(filter(None, map(self._list, tree.found)))
        self._at = {place: each for each in self._listed for place in each.places}

    def made(self, tags: Sequence[TagSettings], read: Mapping[str, ReadValue]) -> LiveTags:
        """The result, of the configured tags and what was read of them."""
        live, changed = self._live, list[PreparedTag]()
        verdicts = {tag.name: self._verdict(tag, read[tag.name]) if self._is_meant(tag.name) else _SAME for tag in tags}
        for row in self._target.tags:
            parts = [verdicts.pop(part.name) for part in expanded(self._device, [row.settings])]
            live.rows[row.settings.name] = row
            changed += self._judge(row, parts)
        for name, verdict in verdicts.items():
            if verdict.kind != "same":
                where = self._target.elsewhere.get(name, "another place")
                why = f"{verdict.why}; it is written in {where}, and stays there"
                live.said.append(_kept(name, why))
        known = {place for tag in tags for place in tag.places(self._device)}
        names = Names()
        for name in (*self._target.elsewhere, *live.rows):
            names.of(name.split("/"))
        new = [self._new(each, names) for each in self._listed if not each.places & known]
        readable = keep_readable(self._target, [*changed, *filter(None, new)], live.found)
        live.rows |= {tag.settings.name: tag for tag in readable}
        live.said += [_kept(row.settings.name, "its new type cannot be read") for row in changed if row not in readable]
        return live

    def _is_meant(self, name: str) -> bool:
        return fnmatchcase(name.lower(), self._pattern)

    def _list(self, each: FoundEntry) -> _Listed | None:
        """A tag of the device, unless it can be none."""
        why: object = each.entry.why_not
        if each.entry.tag:
            made = fitting(self._target.model, {**each.entry.tag, "name": "listed"})
            try:
                if not isinstance(made, str):
                    parts = expanded(self._device, [made[0]])
                    places = [place for part in parts for place in part.places(self._device, each.levels)]
                    return _Listed(each.levels, *made, frozenset(places))
                why = made
            except ValueError as error:  # Its namespace is one that no address can have.
                why = error
        if why and self._is_meant(name := "/".join(each.levels)):
            self._live.found.left_out(self._origin, str(why), name)
        return None

    def _verdict(self, tag: TagSettings, value: ReadValue) -> _Verdict:
        now = next((self._at[place] for place in tag.places(self._device) if place in self._at), None)
        status, is_bad = name_of(value.status), value.quality == "BAD"
        if now is not None:
            is_other = any(key in now.keys and now.keys[key] != getattr(tag, key, None) for key in _TYPE_KEYS)
            if tag.data_type is not now.settings.data_type or (is_bad and is_other):
                return _Verdict("changed", f"its type is {now.keys.get('type')} now", now)
            if is_bad:
                self._live.found.suspicious(self._origin, f"it is there, and has no value now: {status}", tag.name)
            return _SAME
        if not is_bad:
            return _SAME
        if kind := self._types.get(tag.address_text):
            return _Verdict("unclear", f"it is {kind} now, which is not one value")
        if value.status not in _GONE:
            return _Verdict("unclear", f"it gives no value, and why is not clear: {status}")
        return _Verdict("gone", "the device has it no more" if self._has_list else "its address no longer answers")

    def _judge(self, row: PreparedTag, parts: Sequence[_Verdict]) -> Iterator[PreparedTag]:
        """Remember what is to be said of a row, which may be a slice; the row as it is now, if it changes."""
        live, name = self._live, row.settings.name
        others = [each for each in parts if each.kind != "same"]
        if not others:
            return
        if len(others) == len(parts) and {each.kind for each in others} == {"gone"}:
            live.gone[name] = others[0].why
            del live.rows[name]
            return
        now = others[0].now
        if now is not None and all(each.now is not None for each in parts):
            type_keys = {key: now.keys[key] for key in _TYPE_KEYS if key in now.keys}
            kept = {key: value for key, value in row.keys.items() if key not in _TYPE_KEYS}
            made = self._prepared({**kept, **type_keys}, row)
            if made is not None:
                yield made
                return
        of_them = f"{len(others)} of its {len(parts)} elements: " if len(parts) > 1 else ""
        live.said.append(_kept(name, of_them + others[0].why))

    def _new(self, listed: _Listed, names: Names) -> PreparedTag | None:
        """A tag that is not configured; one that is gone and has its name is the same at another place."""
        name = names.of(listed.levels)
        if not self._is_meant(name):
            return None
        keys, row = dict(listed.keys), None
        if name in self._live.gone:
            row = next(row for row in self._target.tags if row.settings.name == name)
            shared = fields_of(TagSettings)
            keys = {key: value for key, value in keys.items() if key not in shared}
            keys = {key: value for key, value in row.keys.items() if key in shared} | keys
        made = self._prepared({**keys, "name": name}, row)
        if made is not None:
            self._live.gone.pop(name, None)
        return made

    def _prepared(self, keys: Mapping[str, Any], row: PreparedTag | None) -> PreparedTag | None:
        """A valid tag in the place of a row; None where it is none, which is then said."""
        name, every = str(keys["name"]), row.every if row else ""
        try:
            settings = settings_from(self._target.model, keys)
        except ValidationError as error:
            self._live.found.left_out(self._origin, str(error.errors()[0]["msg"]), name)
            return None
        return PreparedTag(settings=settings, keys=keys, every=every, origin=self._origin)


def _kept(name: str, why: str) -> Difference:
    return Difference(name=name, what="kept", reason=why)
