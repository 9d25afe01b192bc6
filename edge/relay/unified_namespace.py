"""The unified namespace: the newest value of each tag as JSON, in the topic tree the plant agrees on.

A view is never evidence: `src` names the record in the archive that a value came from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import orjson
from numpy.typing import NDArray

from edge.clock import TimeQuality
from edge.model import NO_TIME, Catalogue, CatalogueGroup, SampleBlock, Times, status_codes
from edge.mqtt.codec import encode_text
from edge.relay.archive import RecordLocation
from edge.relay.json_columns import Units
from edge.relay.overdue import KnownCalibrations, OverdueTags
from edge.relay.reading_columns import BAD, Column, block_time, turns_of
from edge.relay.shapes import BlockOrigin, DeviceShape, Messages, Shape, ShapeName, TagShape, time_text
from edge.seal import Calibrations, Context, Malformed

_BLOCK_BITS = 17  # More blocks than a payload has items.
_NOT_IN_A_LEVEL = {ord(character): f"%{ord(character):02X}" for character in ["/", "+", "#", "%", *map(chr, range(32))]}


def origin(
    record: str, number: int, block: SampleBlock, t0_ns: int, b0_ns: int, quality: TimeQuality, arrived_ns: int,
    *, has_unknown: bool = False, location: RecordLocation | None = None,
) -> BlockOrigin:  # fmt: skip
    """The origin of the block with this number in a record."""
    chain, _, seq = record.partition("/")
    time = block_time(block, t0_ns, b0_ns, quality)
    return BlockOrigin(
        source=f"{record}/{number}/0",
        utc_ns=time.utc_ns,
        uncertainty_ns=time.uncertainty_ns,
        arrived_ns=arrived_ns,
        chain=chain,
        order=int(seq) << _BLOCK_BITS | number,
        has_unknown=has_unknown,
        location=location,
    )


class UnifiedNamespace:
    """The newest values, and their messages: at once as a block brings them, or later, the newest of each tag only.

    Args:
        prefix: topic levels before the path of a gateway.
        shown_ns: UTC of the value that each topic shows already.
        shape: whether a message has one tag, or one scan of a device.
        is_retained: whether the broker keeps the values for those who subscribe later.
    """

    def __init__(
        self,
        prefix: str,
        shown_ns: dict[str, int] | None = None,
        *,
        shape: ShapeName = "tag",
        is_retained: bool = True,
    ) -> None:
        self._prefix, self._shape, self._is_retained = prefix, shape, is_retained
        self._shown = _Shown(shown_ns or {})
        self._groups: dict[tuple[bytes, int], _Group] = {}
        self._units: dict[str, _Unit] = {}
        self._calibrations: defaultdict[str, KnownCalibrations] = defaultdict(KnownCalibrations)
        self._pending: dict[_Group | _Unit, None] = {}

    def messages(
        self, digest: bytes, catalogue: Catalogue, content: SampleBlock | Context, origin: BlockOrigin
    ) -> Iterator[Messages]:
        """Show a block, the messages of the tags that it changes, or a context; the catalogue is the one of the digest.

        Raises:
            Malformed: a context has the topic of a tag.
        """
        group, shown = self._show(digest, catalogue, content, origin)
        yield from group.about()
        for changed in shown:
            yield group.messages(changed, origin)

    def learn(self, calibrations: Calibrations, location: RecordLocation) -> None:
        """Know the calibrations of a gateway: values that are shown from now on say whether theirs was overdue."""
        self._calibrations[calibrations.path].learn(calibrations, location)

    def learned(self) -> list[RecordLocation]:
        """Where the calibrations are on record."""
        return [location for each in self._calibrations.values() for location in each.locations.values()]

    def forget(self, gateway: str, day: str) -> None:
        """Forget the locations in one file."""
        for each in self._calibrations.values():
            each.forget(gateway, day)

    def take(self, digest: bytes, catalogue: Catalogue, content: SampleBlock | Context, origin: BlockOrigin) -> int:
        """Show it later: returns how many values were replaced that were to be shown later too. Raises Malformed."""
        group, shown = self._show(digest, catalogue, content, origin)
        replaced = 0
        for changed in shown:
            replaced += int(np.count_nonzero(group.is_pending & changed))
            group.is_pending |= changed
            self._pending[group] = None
        return replaced

    def take_all(self) -> None:
        """Show everything again later."""
        shown: list[_Group | _Unit] = [*self._groups.values(), *self._units.values()]
        for group in shown:
            group.take_all()
            self._pending[group] = None

    @property
    def has_pending(self) -> bool:
        """Whether something is to be shown that `take` or `take_all` took."""
        return bool(self._pending)

    def pending_messages(self) -> Iterator[Messages]:
        """The messages of the scan group that waits longest."""
        group = next(iter(self._pending))
        del self._pending[group]
        yield from group.about()
        yield from group.pending_messages()

    def pending_origins(self) -> set[BlockOrigin]:
        """Where the values came from that are to be shown later."""
        return {origin for group in self._pending for origin in group.pending_origins()}

    def shown_ns(self) -> dict[str, int]:
        """UTC of the value that each topic shows; without those that are to be shown later."""
        shown_ns = self._shown.utc_ns[: len(self._shown.topics)].copy()
        for group in self._pending:
            shown_ns[group.slots[group.is_pending]] = 0
        shown = zip(self._shown.topics, shown_ns.tolist(), strict=True)
        return {topic[2:].decode(): utc_ns for topic, utc_ns in shown if utc_ns}

    def _show(
        self, digest: bytes, catalogue: Catalogue, content: SampleBlock | Context, origin: BlockOrigin
    ) -> tuple[_Group | _Unit, Iterator[NDArray[np.bool_]]]:
        if isinstance(content, Context):
            unit = self._unit(catalogue, content.unit)
            return unit, unit.show(content, origin)
        group = self._group(digest, catalogue, content.group)
        return group, group.show(content, origin)

    def _unit(self, catalogue: Catalogue, name: str) -> _Unit:
        below = f"{name.translate(_NOT_IN_A_LEVEL)}/context"
        if any(f"{group.device}/{each}" == below
               for group in catalogue.groups for each in (group.name, *(tag.name for tag in group.tags))):  # fmt: skip
            raise Malformed(f"the context of unit {name} has the topic of a tag or scan group; call the unit otherwise")
        topic = f"{self._prefix}/{catalogue.path}/{below}"
        if topic not in self._units:
            try:
                encoded = encode_text(topic)
            except ValueError as error:
                raise Malformed(f"the topic of its unit is too long: {error}") from error
            self._units[topic] = _Unit(encoded, self._shown, -1 - len(self._units))
        return self._units[topic]

    def _group(self, digest: bytes, catalogue: Catalogue, number: int) -> _Group:
        group = self._groups.get((digest, number))
        if group is None:
            described = catalogue.groups[number]
            root = f"{self._prefix}/{catalogue.path}/{described.device}"
            topics = [encode_text(f"{root}/{tag.name}") for tag in described.tags]
            units = Units(described)
            shape: Shape
            if self._shape == "tag":
                shape = TagShape(topics, described, units, is_retained=self._is_retained)
            else:
                topic = f"{root}/{described.name.translate(_NOT_IN_A_LEVEL)}"
                shape = DeviceShape(topic, described, units, is_retained=self._is_retained)
            slots = self._shown.slots_of(topics)
            overdue = OverdueTags(described, self._calibrations[catalogue.path])
            group = _Group(described, units, shape, self._shown, slots, len(self._groups) + 1, overdue)
            self._groups[digest, number] = group
        return group


class _Shown:
    """What each topic shows, whatever catalogue it came with: an older value never replaces a newer one.

    Attributes:
        topics: the slot of each topic, in ascending order.
        utc_ns: UTC of the value, by slot.
        owner: number of the scan group that brought it, by slot; 0 where an earlier process did.
    """

    def __init__(self, shown_ns: dict[str, int]) -> None:
        self.topics = {encode_text(topic): slot for slot, topic in enumerate(shown_ns)}
        self.utc_ns = np.array([*shown_ns.values()], np.int64)
        self._order = np.zeros(len(shown_ns), np.int64)
        self._chain = np.zeros(len(shown_ns), np.int32)  # 0 is none.
        self.owner = np.zeros(len(shown_ns), np.int32)
        self._chains: dict[str, int] = {"": 0}

    def slots_of(self, topics: list[bytes]) -> NDArray[np.intp]:
        """The slot of each topic; new ones show nothing yet."""
        slots = np.array([self.topics.setdefault(topic, len(self.topics)) for topic in topics], np.intp)
        more = len(self.topics) - len(self.utc_ns)
        self.utc_ns = np.append(self.utc_ns, np.zeros(more, np.int64))
        self._order = np.append(self._order, np.zeros(more, np.int64))
        self._chain = np.append(self._chain, np.zeros(more, np.int32))
        self.owner = np.append(self.owner, np.zeros(more, np.int32))
        return slots

    def is_older(self, slots: NDArray[np.intp], origin: BlockOrigin) -> NDArray[np.bool_]:
        """Mask of the slots whose value is older than a block, by order in the chain where both are of one."""
        is_older: NDArray[np.bool_] = self.utc_ns[slots] < origin.utc_ns
        if not origin.chain:
            return is_older
        is_same_chain = self._chain[slots] == self._chains.get(origin.chain, -1)
        return np.where(is_same_chain, self._order[slots] < origin.order, is_older)

    def note(self, slots: NDArray[np.intp], origin: BlockOrigin, owner: int) -> None:
        """The slots show a block now, by the scan group of this number."""
        self.utc_ns[slots] = origin.utc_ns
        self._order[slots] = origin.order
        self._chain[slots] = self._chains.setdefault(origin.chain, len(self._chains))
        self.owner[slots] = owner


class _Group:
    """The newest values of one scan group, in columns.

    Attributes:
        slots: the slot of each tag in what is shown.
        is_pending: mask of the tags that are to be shown later.
    """

    def __init__(
        self, group: CatalogueGroup, units: Units, shape: Shape, shown: _Shown, slots: NDArray[np.intp], number: int,
        overdue: OverdueTags,
    ) -> None:  # fmt: skip
        count = len(group.tags)
        self._units, self._shape, self._overdue = units, shape, overdue
        self._shown, self.slots, self._number = shown, slots, number
        self._layout = group.layout
        self._scaled, self._scales = group.scales
        self._at_least_every_ns = np.array([tag.at_least_every_ns for tag in group.tags], np.int64)
        self._vectors = self._layout.empty()
        self._codes = np.zeros(count, np.uint32)
        self._is_known = np.zeros(count, np.bool_)
        self._times: Times | None = None
        self._origins = np.full(count, None, object)
        self._last: BlockOrigin | None = None
        self._is_announced = False
        self.is_pending = np.zeros(count, np.bool_)

    def about(self) -> Iterator[Messages]:
        """What is published before the first values."""
        if not self._is_announced:
            yield from self._shape.about()
        self._is_announced = True

    def show(self, block: SampleBlock, origin: BlockOrigin) -> Iterator[NDArray[np.bool_]]:
        """Take the values of a block: masks of the tags that changed, several where a tag has several values."""
        is_newer = self._shown.is_older(self.slots, origin)
        if not is_newer.any():
            return
        for changed in (
            self._notified(block, is_newer) if block.is_notification else self._scanned(block, is_newer, origin.utc_ns)
        ):
            self._units.learn_scales(self._vectors, self._is_known)
            slots = self.slots if changed.all() else self.slots[changed]
            self._shown.note(slots, origin, self._number)
            self._origins[changed] = origin
            self._last = origin
            yield changed

    def messages(self, tags: NDArray[np.bool_], origin: BlockOrigin) -> Messages:
        """The messages of the tags in a mask, whose values came with one block."""
        columns = self._columns(None if self._shape.shows_all or tags.all() else tags)
        return self._shape.messages(columns, origin, self._overdue.at(origin.utc_ns))

    def take_all(self) -> None:
        """Show everything again later, and what is published before."""
        self._is_announced = False
        self.is_pending |= self._is_shown()

    def pending_messages(self) -> Iterator[Messages]:
        """The messages of the tags that are to be shown later, by the blocks that brought them, oldest first."""
        pending = self._pending_by_origin()
        self.is_pending[:] = False
        if self._shape.shows_all and self._last is not None:
            pending = {self._last: []}
        for origin, tags in sorted(pending.items(), key=lambda each: each[0].utc_ns):
            mask = np.zeros(len(self.slots), np.bool_)
            mask[tags] = True
            yield self.messages(mask, origin)

    def pending_origins(self) -> Iterable[BlockOrigin]:
        """Where the values came from that are to be shown later."""
        return self._pending_by_origin().keys()

    def _pending_by_origin(self) -> dict[BlockOrigin, list[int]]:
        tags = np.flatnonzero(self.is_pending & self._is_shown())
        found: dict[BlockOrigin, list[int]] = {}
        for tag, origin in zip(tags.tolist(), self._origins[tags].tolist(), strict=True):
            found.setdefault(origin, []).append(tag)
        return found

    def _is_shown(self) -> NDArray[np.bool_]:
        """Mask of the tags whose newest value came with this catalogue."""
        is_shown: NDArray[np.bool_] = self._shown.owner[self.slots] == self._number
        return is_shown

    def _columns(self, tags: NDArray[np.bool_] | None) -> Iterator[Column]:
        """The values of the tags in a mask, or of all."""
        for data_type, members, values in zip(
            self._layout.vector_types, self._layout.members, self._vectors, strict=True
        ):
            if tags is not None:
                places = tags[members].nonzero()[0]
                members, values = members[places], values[places]
            if len(members):
                times = None if self._times is None else self._times[members]
                yield Column(data_type, members, values, self._codes[members], times, self._is_known[members])

    def _scanned(self, block: SampleBlock, is_newer: NDArray[np.bool_], utc_ns: int) -> Iterator[NDArray[np.bool_]]:
        codes = status_codes(block.status, len(self.slots))
        changed = self._reported(block, utc_ns)
        # What has no value yet, and is not BAD, has one on its way: in a record that is older and comes later.
        changed |= (codes != self._codes) & (self._is_known | (codes >= BAD))
        changed &= is_newer
        self._codes[is_newer] = codes[is_newer]
        for vector, values in enumerate(block.vectors):
            places = slice(None) if block.positions is None else block.positions[vector]
            members = self._layout.members[vector][places]
            taken = changed[members]
            shown = self._vectors[vector]
            shown[places] = np.where(taken, values, shown[places])
            self._is_known[members] |= taken
            if self._times is not None or block.source_times is not None:
                times = None if block.source_times is None else block.source_times[vector][taken]
                self._keep_times(members[taken], times)
        if changed.any():
            yield changed

    def _notified(self, block: SampleBlock, is_newer: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
        """The first value of each tag, then the second of those that have one, and so on."""
        all_places = [np.asarray(places, np.intp) for places in block.positions or ()]
        codes = np.split(
            status_codes(block.status, sum(map(len, all_places))), np.cumsum([len(each) for each in all_places])[:-1]
        )
        turns = [turns_of(places) for places in all_places]
        for turn in range(1 + max((int(each.max(initial=-1)) for each in turns), default=-1)):
            changed = np.zeros(len(self.slots), np.bool_)
            for vector, (members, places) in enumerate(zip(self._layout.members, all_places, strict=True)):
                now = np.flatnonzero((turns[vector] == turn) & is_newer[members[places]])
                tags = members[places[now]]
                self._vectors[vector][places[now]] = block.vectors[vector][now]
                self._codes[tags] = codes[vector][now]
                self._is_known[tags] = True
                self._keep_times(tags, None if block.source_times is None else block.source_times[vector][now])
                changed[tags] = True
            if changed.any():
                yield changed

    def _keep_times(self, tags: NDArray[np.intp], times: Times | None) -> None:
        if self._times is None and times is not None:
            self._times = np.full(len(self.slots), NO_TIME, np.int64)
        if self._times is not None:
            self._times[tags] = NO_TIME if times is None else times

    def _reported(self, block: SampleBlock, utc_ns: int) -> NDArray[np.bool_]:
        """Mask of the tags that report by exception would name: in a complete block, those that moved or are due."""
        if block.positions is None:
            reported = ~self._is_known | (utc_ns - self._shown.utc_ns[self.slots] >= self._at_least_every_ns)
            for members, values, shown in zip(self._layout.members, block.vectors, self._vectors, strict=True):
                moved = values != shown
                if values.dtype.kind == "f":
                    moved &= (values == values) | (shown == shown)  # NaN has not moved.
                reported[members] |= moved
            reported[self._scaled] |= reported[self._scales]
            return reported
        reported = np.zeros(len(self.slots), np.bool_)
        for members, positions in zip(self._layout.members, block.positions, strict=True):
            reported[members[positions]] = True
        return reported


class _Unit:
    """The newest context of a unit: its topic is shown as a scan group with one tag is."""

    def __init__(self, topic: bytes, shown: _Shown, number: int) -> None:
        self._topic, self._shown, self._number = topic, shown, number
        self.slots = shown.slots_of([topic])
        self.is_pending = np.zeros(1, np.bool_)
        self._payload = b""
        self._origin: BlockOrigin | None = None

    def about(self) -> Iterator[Messages]:
        """Nothing."""
        return iter(())

    def show(self, context: Context, origin: BlockOrigin) -> Iterator[NDArray[np.bool_]]:
        """Take a context: a mask where it is newer; one that an earlier process showed is shown again."""
        is_again = self._shown.owner[self.slots] == 0 and self._shown.utc_ns[self.slots] == origin.utc_ns
        if self._shown.is_older(self.slots, origin).all() or is_again:
            self._shown.note(self.slots, origin, self._number)
            self._payload, self._origin = _context_text(context, origin), origin
            yield np.ones(1, np.bool_)

    def messages(self, _: NDArray[np.bool_], __: BlockOrigin) -> Messages:
        """The message, which the broker keeps."""
        return Messages([self._topic], [self._payload], is_retained=True)

    def take_all(self) -> None:
        """Show it again later."""
        self.is_pending[:] = self._origin is not None

    def pending_messages(self) -> Iterator[Messages]:
        """The message."""
        if self._origin is not None:
            self.is_pending[:] = False
            yield self.messages(self.is_pending, self._origin)

    def pending_origins(self) -> Iterable[BlockOrigin]:
        """Where it came from."""
        return () if self._origin is None else (self._origin,)


def context_origin(record: str, context: Context, arrived_ns: int, location: RecordLocation) -> BlockOrigin:
    """The origin of a context in a record: it is as old as its number, also where it is sealed again."""
    chain, _, seq = record.partition("/")
    order = min(context.number, int(seq)) << _BLOCK_BITS
    return BlockOrigin(record, context.to_ns, None, arrived_ns, chain, order, location=location)


def _context_text(context: Context, origin: BlockOrigin) -> bytes:
    begin, end = (orjson.Fragment(time_text(each)) for each in (context.from_ns, context.to_ns))
    return orjson.dumps({"t": end, **context.members} | {"t": end, "from": begin, "to": end, "src": origin.source})
