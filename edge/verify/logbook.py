"""What happened, from the records of any number of gateways: entries with a time, a severity, a device and a sentence.

A gap is one entry with its begin and its end, although each is a record. Records may come in any order: entries are
made once all have come, when the catalogues that name the scan groups are known.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from edge.seal import (
    CataloguePart,
    ConfigChange,
    Epoch,
    Event,
    Gap,
    KeyChange,
    Loss,
    Payload,
    Severity,
    Stop,
    TimeChange,
)
from edge.seal.record import ISSUER_PREFIX, RecordType
from edge.sentences import Happening, TimeText, change_count, device_of, sentence, severity_of, stretch_of, utc_text
from edge.verify.chain_state import stated_ns
from edge.verify.in_force import CataloguesInForce

LOGGED: frozenset[RecordType] = frozenset(each.type for each in Happening.__args__)
"""The records that say what happened."""

_ENDED_KEPT = 4096  # Gaps whose begin may arrive after their end.


class Place(NamedTuple):
    """Where a record is: in which chain of which gateway, and at which place of it."""

    issuer: str
    epoch: bytes
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened.

    Attributes:
        at_ns: UTC at which it happened, or began.
        to_ns: UTC at which a gap ended; None for what has no length, and where no end is on record.
        is_open: whether it is a gap that has no end on record.
        is_routine: whether it comes at regular intervals and says nothing new, as changes of the session key do.
        kind: the kind of an event; else the name of the record: gap, loss, time, config, key, epoch, stop.
        device: empty where it is about the gateway as a whole.
        group: the scan group of a gap; empty where it is of all of them, or of something else.
        text: one sentence without a full stop; it names the device.
        place: where the record is; of a gap that of its end, where that is held.
        data: what the record says besides, as JSON has it.
    """

    at_ns: int
    to_ns: int | None = None
    is_open: bool = False
    is_routine: bool = False
    severity: Severity
    kind: str
    device: str = ""
    group: str = ""
    text: str
    place: Place
    data: Mapping[str, Any]

    @property
    def gateway(self) -> str:
        """The name of the gateway."""
        return self.place.issuer.removeprefix(ISSUER_PREFIX)


class Noted(NamedTuple):
    """What an entry is made of."""

    at_ns: int
    place: Place
    content: Happening


class _Catalogues:
    """The scan groups of one chain, by the catalogue in force at a place."""

    def __init__(self) -> None:
        self._groups: defaultdict[bytes, dict[int, tuple[str, str]]] = defaultdict(dict)
        self._in_force = CataloguesInForce()

    def note(self, seq: int, part: CataloguePart) -> None:
        """Count a part, which is sealed again each hour."""
        if part.parts:
            self._in_force.note(seq, part.digest)
            self._groups[part.digest] |= {number: (group.device, group.name) for number, group in part.groups}

    def name(self, seq: int, number: int) -> tuple[str, str] | None:
        """Device and name of a scan group; by the first catalogue held where those before the place are not."""
        digest = self._in_force.at(seq) or self._in_force.first
        return None if digest is None else self._groups[digest].get(number)


class Logbook:
    """Takes records in any order, and makes entries of those that say what happened."""

    def __init__(self, time_text: TimeText = utc_text) -> None:
        """`time_text` writes the times within sentences."""
        self._time_text = time_text
        self._catalogues: defaultdict[tuple[str, bytes], _Catalogues] = defaultdict(_Catalogues)
        self._open: dict[tuple[str, bytes, int | None, int], Noted] = {}
        self._ended: OrderedDict[tuple[str, bytes, int | None, int], None] = OrderedDict()
        self._steps: dict[tuple[str, bytes], int] = {}
        self._of_all: defaultdict[str, list[int]] = defaultdict(list)  # Begins of the gaps of all groups.

    def note(self, place: Place, content: Payload) -> Iterator[Noted]:
        """Take a record. Gives what becomes an entry; a gap only once it has ended."""
        if isinstance(content, CataloguePart):
            self._catalogues[place.issuer, place.epoch].note(place.seq, content)
        elif isinstance(content, Gap):
            yield from self._note_gap(place, content)
        elif isinstance(content, Happening) and not self._is_said(place, content) and not _is_continued(content):
            if isinstance(content, TimeChange):
                self._steps[place.issuer, place.epoch] = content.step_ns
            at_ns = content.from_ns if isinstance(content, Loss) else stated_ns(content)
            yield Noted(at_ns or 0, place, content)

    def _is_said(self, place: Place, content: Happening) -> bool:
        """Whether it is the event of a step of the clock, which follows the TIME record of that step."""
        if not isinstance(content, Event) or content.kind != "time.step":
            return False
        return content.data.get("step_ns") == self._steps.get((place.issuer, place.epoch))

    def _note_gap(self, place: Place, gap: Gap) -> Iterator[Noted]:
        key = place.issuer, place.epoch, gap.group, gap.from_ns
        noted = Noted(gap.from_ns, place, gap)
        if gap.group is None:
            self._of_all[place.issuer].append(gap.from_ns)
        if gap.to_ns is None:
            if key not in self._ended:
                self._open[key] = noted
            return
        self._open.pop(key, None)
        self._ended[key] = None
        if len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)
        yield noted

    def withdraw(self, place: Place) -> None:
        """Forget a gap that is open by a record whose verdict has changed."""
        self._open = {key: noted for key, noted in self._open.items() if noted.place != place}

    def still_open(self) -> Iterator[Noted]:
        """The gaps without an end on record; one that a crash left open ends where the gap of all groups begins."""
        for noted in self._open.values():
            gap = noted.content
            assert isinstance(gap, Gap)
            ends = [each for each in self._of_all[noted.place.issuer] if each >= gap.from_ns]
            if gap.group is not None and ends:
                noted = noted._replace(content=replace(gap, to_ns=min(ends)))
            yield noted

    def entry(self, noted: Noted) -> Entry:
        """The entry, once all records have come that may name what it is about."""
        place, content = noted.place, noted.content
        device = group = label = ""
        to_ns, is_open = None, False
        if isinstance(content, Gap):
            to_ns, is_open = content.to_ns, content.to_ns is None
            if content.group is not None:
                name = self._catalogues[place.issuer, place.epoch].name(place.seq, content.group)
                device, group = name or ("", str(content.group))
                label = f"{device}, scan group {group}," if device else f"Scan group {group}"
        elif isinstance(content, Event):
            device = device_of(content)
        kind = content.kind if isinstance(content, Event) else content.type.name.lower()
        return Entry(
            at_ns=noted.at_ns, to_ns=to_ns, is_open=is_open, is_routine=isinstance(content, KeyChange),
            severity=severity_of(content), kind=kind,
            device=device, group=group, text=sentence(content, self._time_text, label), place=place,
            data=_data(content),
        )  # fmt: skip


def _is_continued(content: Happening) -> bool:
    """Whether it is a further part of a configuration, and no change of it."""
    return isinstance(content, ConfigChange) and content.kept is not None and content.kept.part > 0


def _data(content: Happening) -> dict[str, Any]:
    """What the record says besides, as JSON has it."""
    match content:
        case Event():
            return {name: value.hex() if isinstance(value, bytes) else value for name, value in content.data.items()}
        case Gap():
            return {"status": content.status, "detail": content.detail}
        case Loss():
            return {
                "first_seq": content.first,
                "last_seq": content.last,
                "from_ns": content.from_ns,
                "to_ns": content.to_ns,
                "records": content.records,
                "readings": content.readings,
                "reason": content.reason.name.lower(),
                "epoch": content.epoch.hex() if content.epoch else None,
            }
        case TimeChange():
            stretch = stretch_of(content)
            return {
                "step_ns": content.step_ns,
                "from_ns": stretch.from_ns if stretch else None,
                "to_ns": stretch.to_ns if stretch else None,
                "correction_ns": content.correction_ns,
                "bound_ns": content.bound_after_ns,
                "from": content.before.state.name.lower(),
                "to": content.after.state.name.lower(),
            }
        case ConfigChange():
            return {
                "account": content.account,
                "role": content.role,
                "why": content.why,
                "old_hash": content.old_hash.hex(),
                "new_hash": content.new_hash.hex(),
                "change_count": change_count(content),
                "changes": [{"path": path, "old": old, "new": new} for path, old, new in content.changes],
            }
        case Epoch():
            return {
                "reason": content.reason.name.lower(),
                "version": content.version,
                "configuration": content.config_hash.hex(),
                "boot": content.boot_id.hex(),
            }
        case KeyChange():
            return {"fingerprint": content.session.fingerprint}
        case Stop():
            return {"reason": content.reason.name.lower()}
