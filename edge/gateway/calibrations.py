"""The calibrations of a configuration: since when each holds, what is sealed of them, and which are due.

A file in the state directory keeps since when the configuration has said of a tag what it says, and which events there
were, so that a start changes neither. It keeps tags that have gone too: one that returns without its calibration is on
record as having none.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import orjson

from edge.config.settings import GatewaySettings
from edge.driver import DeviceSettings, TagSettings
from edge.files import replace_file
from edge.gateway.audit import EventKind
from edge.health import CalibrationStatus, InstrumentStatus, Thresholds
from edge.logs import get_logger
from edge.seal import Calibration, Calibrations, Malformed, day_text, encode_calibrations
from edge.seal.calibrations import DAY_NS, days_of
from edge.seal.cbor import as_array, as_int, as_text

CHECK_INTERVAL_S = 3600.0
DAYS_AHEAD = (30, 7, 0)

_SOON_DAYS = DAYS_AHEAD[0]
_SHOWN = 20
_TAGS_NAMED = 3
_AT_ONCE = 20  # Events that are sealed before scans have their turn.
_OF_INSTRUMENT = ("instrument", "serial", "calibration_certificate", "calibrated_on", "calibration_due", "tolerance")

_Instrument = tuple[str, int]
"""What an instrument is called, and the last day of its calibration."""
RecordEvent = Callable[[str, str, Mapping[str, str | int]], None]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HeldCalibrations:
    """Calibrations in force: of the tags that are configured, the payloads that say so, and all that is kept.

    Attributes:
        instruments: the tags of each instrument that has a last valid day.
        dues: the same as (day, name, certificate), the first first.
        count: how many instruments there are.
    """

    entries: tuple[Calibration, ...] = ()
    payloads: tuple[bytes, ...] = ()
    kept: tuple[Calibration, ...] = ()
    instruments: Mapping[_Instrument, Sequence[Calibration]] = field(default_factory=dict)
    dues: Sequence[tuple[int, str, str]] = ()
    count: int = 0


class CalibrationKeeper:
    """Keeps what holds, and records one event for each instrument and threshold; a renewed calibration is another.

    Args:
        path: the file.
        record_event: takes (kind, subject, data) of an event.

    Attributes:
        held: what is in force.
    """

    def __init__(self, path: Path, record_event: RecordEvent) -> None:
        """Reads the file, so it blocks."""
        self._path, self._record_event = path, record_event
        kept, told = _load(path)
        self.held = HeldCalibrations(kept=kept)
        self._thresholds: Thresholds[_Instrument] = Thresholds(DAYS_AHEAD, told)
        self._is_due = asyncio.Event()

    def plan(self, settings: GatewaySettings, utc_ns: int) -> HeldCalibrations:
        """What is in force with these settings from a time on; it is saved, so this blocks."""
        before = {(each.device, each.tag): each for each in self.held.kept}
        kept, entries = dict(before), []
        for each in calibrations_of(settings):
            known = before.get((each.device, each.tag))
            if known is None and each.is_empty:
                continue
            if known is None or known._replace(since_ns=0) != each:
                known = each._replace(since_ns=utc_ns)
            kept[each.device, each.tag] = known
            entries.append(known)
        payloads = encode_calibrations(Calibrations(settings.gateway.path, tuple(entries)))
        instruments: defaultdict[_Instrument, list[Calibration]] = defaultdict(list)
        for each in entries:
            if each.due is not None:
                instruments[each.name, each.due].append(each)
        held = HeldCalibrations(
            tuple(entries), tuple(payloads), tuple(kept.values()), dict(instruments),
            sorted((due, name, of[0].certificate) for (name, due), of in instruments.items()),
            len({each.name for each in entries if not each.is_empty}),
        )  # fmt: skip
        if held.kept != self.held.kept:
            self._save(held.kept, self._thresholds.told)
        return held

    def use(self, held: HeldCalibrations) -> None:
        """From now on these are in force."""
        self.held = held
        self._is_due.set()

    async def run(self, utc_ns: Callable[[], int]) -> NoReturn:
        """Record what is due at the start, each hour, and after `use`, until cancelled."""
        while True:
            self._is_due.clear()
            await self.check(utc_ns())
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL_S):
                    await self._is_due.wait()

    async def check(self, utc_ns: int) -> None:
        """Record the thresholds that instruments have passed since the last check, over starts too."""
        before = self._thresholds.told
        instruments = self.held.instruments
        ends_ns = [(key, key[1] * DAY_NS) for key in instruments]
        for number, key in enumerate(self._thresholds.passed(ends_ns, utc_ns)):
            self._record_due(key, instruments[key], utc_ns)
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        if self._thresholds.told != before:
            await asyncio.to_thread(self._save, self.held.kept, dict(self._thresholds.told))

    def _record_due(self, key: _Instrument, tags: Sequence[Calibration], utc_ns: int) -> None:
        name, due = key
        devices = {each.device for each in tags}
        named = ", ".join(f"{each.device}/{each.tag}" for each in tags[:_TAGS_NAMED])
        self._record_event(EventKind.CALIBRATION_DUE.label, name, {
            "certificate": tags[0].certificate, "device": devices.pop() if len(devices) == 1 else "",
            "tags": named + (", ..." if len(tags) > _TAGS_NAMED else ""),
            "due": day_text(due), "days_left": due - utc_ns // DAY_NS,
        })  # fmt: skip

    def status(self, utc_ns: int) -> CalibrationStatus | None:
        """How many instruments are due, and which of them first; None where none is configured."""
        dues, count = self.held.dues, self.held.count
        if not count:
            return None
        today = utc_ns // DAY_NS
        overdue = bisect_left(dues, (today,))
        soon = bisect_right(dues, (today + _SOON_DAYS + 1,))
        first = tuple(InstrumentStatus(name=name, certificate=certificate, due=day_text(due))
                      for due, name, certificate in dues[: min(soon, _SHOWN)])  # fmt: skip
        return CalibrationStatus(instruments=count, overdue=overdue, due_soon=soon - overdue, first=first)

    def _save(self, kept: Sequence[Calibration], told: Mapping[_Instrument, int]) -> None:
        """Replace the file; a disk that refuses is tried with the next change."""
        try:
            content = {"kept": [*map(list, kept)], "told": [[*key, days] for key, days in told.items()]}
            replace_file(self._path, orjson.dumps(content), 0o640)
        except OSError as error:
            log.warning("calibrations not saved", file=str(self._path), reason=str(error))


def calibrations_of(settings: GatewaySettings) -> Iterator[Calibration]:
    """What the configuration says of each tag; empty where it says nothing."""
    for device in settings.devices:
        for group in device.scan_groups:
            for tag in group.tags:
                yield _of_tag(device.name, tag)


def _of_tag(device: str, tag: TagSettings) -> Calibration:
    return Calibration(
        device, tag.name, tag.instrument, tag.serial, tag.calibration_certificate, days_of(tag.calibrated_on),
        days_of(tag.calibration_due), tag.tolerance,
    )  # fmt: skip


def is_same_but_for_calibration(one: DeviceSettings, other: DeviceSettings) -> bool:
    """Whether nothing that is asked of a device differs: a renewed certificate ends no session."""
    if one == other:
        return True
    pairs = [*zip(_tags(one), _tags(other), strict=False)]
    # Which tags are in which group is compared with the groups.
    return _without_tags(one) == _without_tags(other) and all(mine == its or _is_same(mine, its) for mine, its in pairs)


def _tags(device: DeviceSettings) -> list[TagSettings]:
    return [tag for group in device.scan_groups for tag in group.tags]


def _without_tags(device: DeviceSettings) -> tuple[DeviceSettings, list[int]]:
    groups = [replace(group, tags=()) for group in device.scan_groups]
    return replace(device, scan_groups=groups), [len(group.tags) for group in device.scan_groups]


def _is_same(one: TagSettings, other: TagSettings) -> bool:
    names = [each.name for each in fields(one) if each.name not in _OF_INSTRUMENT]
    return type(one) is type(other) and all(getattr(one, name) == getattr(other, name) for name in names)


def _load(path: Path) -> tuple[tuple[Calibration, ...], dict[_Instrument, int]]:
    """What the file keeps; nothing where it is missing or damaged, as if each calibration held from now on."""
    try:
        content: dict[str, Any] = orjson.loads(path.read_bytes())
        kept = tuple(map(Calibration.from_elements, as_array(content["kept"])))
        told = [as_array(each, 3) for each in as_array(content["told"])]
        return kept, {(as_text(name), int(due)): as_int(days) for name, due, days in told}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, KeyError, Malformed) as error:
        log.warning("calibrations cannot be read", file=str(path), reason=str(error))
    return (), {}
