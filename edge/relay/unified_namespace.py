"""The unified namespace: one JSON message per tag and change, for the topic tree the plant agrees on.

A view is never evidence: `src` names the record in the archive that a value came from.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from edge.clock import TimeQuality
from edge.model import (
    NO_TIME,
    Catalogue,
    CatalogueGroup,
    Quality,
    SampleBlock,
    Vector,
    in_unit,
    json_value,
    power_of_ten,
    quality_of,
    shown_status,
    status_codes,
)

HISTORICAL_NS = 5 * 10**9

_BLOCK_BITS = 17  # More blocks than a payload has items.
_WORDS = {Quality.GOOD: "good", Quality.UNCERTAIN: "uncertain", Quality.BAD: "bad"}

Message = tuple[str, bytes]
"""A topic and its payload."""


class BlockOrigin(NamedTuple):
    """What all messages of one sample block share.

    Attributes:
        source: `<epoch>/<seq>/<block>/<row>` of the block in the archive.
        utc_ns: UTC given to the values.
        uncertainty_ns: bound of the error of `utc_ns`, the width of the reading included; None when it is unknown.
        arrived_ns: UTC at which the relay received the record.
        chain: the chain that `order` counts in; empty where only UTC is known.
        order: position of the block in its chain: a clock that was set back does not make it older.
        has_unknown: its record holds something that only a later version knows.
    """

    source: str
    utc_ns: int
    uncertainty_ns: int | None
    arrived_ns: int
    chain: str = ""
    order: int = 0
    has_unknown: bool = False


def origin(record: str, number: int, block: SampleBlock, t0_ns: int, b0_ns: int, quality: TimeQuality,
           arrived_ns: int, *, has_unknown: bool = False) -> BlockOrigin:  # fmt: skip
    """The origin of the block with this number in a record."""
    bound_ns = quality.bound_at(block.sampled_at_ns)
    chain, _, seq = record.partition("/")
    half_width_ns = -((block.asked_at_ns - block.answered_at_ns) // 2)
    return BlockOrigin(
        source=f"{record}/{number}/0",
        utc_ns=t0_ns + block.sampled_at_ns - b0_ns,
        uncertainty_ns=None if bound_ns is None else half_width_ns + bound_ns,
        arrived_ns=arrived_ns,
        chain=chain,
        order=int(seq) << _BLOCK_BITS | number,
        has_unknown=has_unknown,
    )


class UnifiedNamespace:
    """Turns sample blocks into messages; keeps per tag what was shown, so that an older value never replaces it."""

    def __init__(self, prefix: str, shown_ns: dict[str, int] | None = None) -> None:
        self._prefix = prefix
        self._shown_ns = dict(shown_ns or {})
        self._groups: dict[tuple[bytes, int], _Group] = {}

    def messages(
        self, digest: bytes, catalogue: Catalogue, block: SampleBlock, origin: BlockOrigin
    ) -> Iterator[Message]:
        """One message for each tag that this block changes; `catalogue` is the one with this digest."""
        group = self._groups.get((digest, block.group))
        if group is None:
            # A value that an earlier catalogue showed under the same topic stays the newest.
            self._shown_ns = self.shown_ns()
            group = _Group(f"{self._prefix}/{catalogue.path}", catalogue.groups[block.group], self._shown_ns)
            self._groups[digest, block.group] = group
        return group.messages(block, origin)

    def shown_ns(self) -> dict[str, int]:
        """UTC of the value that each topic shows."""
        shown = self._shown_ns
        for group in self._groups.values():
            for topic, utc_ns in zip(group.topics, group.shown_ns.tolist(), strict=True):
                if utc_ns > shown.get(topic, 0):
                    shown[topic] = utc_ns
        return shown


class _Group:
    """The shown values of one scan group, in columns."""

    def __init__(self, root: str, group: CatalogueGroup, shown_ns: dict[str, int]) -> None:
        tags = group.tags
        self.topics = [f"{root}/{group.device}/{tag.name}" for tag in tags]
        self.shown_ns = np.array([shown_ns.get(topic, 0) for topic in self.topics], np.int64)
        self._layout = group.layout
        self._units = [tag.unit for tag in tags]
        self._unknown_tags = {number for number, tag in enumerate(tags) if not tag.data_type.is_known}
        self._texts = {
            number: {json_value(value, tag.data_type): text for value, text in tag.texts}
            for number, tag in enumerate(tags)
            if tag.texts
        }
        self._scale = np.array([tag.scale for tag in tags], np.float64)
        self._offset = np.array([tag.offset for tag in tags], np.float64)
        is_number = np.array([tag.data_type.is_number for tag in tags], np.bool_)
        self._time_kinds = np.array([tag.time_kind for tag in tags], object)
        self._is_converted = is_number & (
            (self._scale != 1) | (self._offset != 0) | np.array([tag.time_kind is not None for tag in tags])
        )
        self._scales = group.scales
        has_scale = np.array([bool(tag.scale_tag) for tag in tags], np.bool_)
        self._scale[has_scale] = np.nan  # Not known until the scale is: NaN is shown as no value.
        self._is_converted |= has_scale
        self._at_least_every_ns = np.array([tag.at_least_every_ns for tag in tags], np.int64)
        self._vectors = self._layout.empty()
        self._source_ns = np.full(len(tags), NO_TIME, np.int64)
        self._codes = np.zeros(len(tags), np.uint32)
        self._is_known = np.zeros(len(tags), np.bool_)
        self._chain = ""
        self._order = np.full(len(tags), -1, np.int64)  # Of the shown value; -1 where it came from another chain.

    def messages(self, block: SampleBlock, origin: BlockOrigin) -> Iterator[Message]:
        if block.is_notification:
            yield from self._notification_messages(block, origin)
            return
        changed, codes = self._update(block, origin)
        head = _head(origin)
        for vector, members in enumerate(self._layout.members):
            places = np.flatnonzero(changed[members])
            tags = members[places]
            values = self._in_unit(self._vectors[vector][places], tags)
            times = self._source_ns[tags].tolist()
            for tag, value, code, source_ns in zip(tags.tolist(), values, codes[tags].tolist(), times, strict=True):
                yield self._message(tag, value if self._is_known[tag] else None, code, source_ns, origin, head)

    def _notification_messages(self, block: SampleBlock, origin: BlockOrigin) -> Iterator[Message]:
        """One message for each value of a notification, oldest first."""
        is_newer, head = self._newer_than_shown(origin), _head(origin)
        codes = status_codes(block.status, sum(map(len, block.vectors)))
        begin = 0
        for vector, members in enumerate(self._layout.members):
            places = np.asarray((block.positions or ())[vector], np.intp)
            tags, tag_codes = members[places], codes[begin : begin + len(places)]
            begin += len(places)
            values = self._in_unit(block.vectors[vector], tags)
            times = np.full(len(tags), NO_TIME) if block.source_times is None else block.source_times[vector]
            for tag, value, code, source_ns in zip(
                tags.tolist(), values, tag_codes.tolist(), times.tolist(), strict=True
            ):
                if is_newer[tag]:
                    yield self._message(tag, value, code, source_ns, origin, head)
            kept = is_newer[tags]
            tags, places = tags[kept], places[kept]
            self._vectors[vector][places] = block.vectors[vector][kept]
            self._source_ns[tags] = times[kept]
            self._codes[tags] = tag_codes[kept]
            self._is_known[tags] = True
            self.shown_ns[tags] = origin.utc_ns
            self._order[tags] = origin.order

    def _message(
        self, tag: int, value: Any, code: int, source_ns: int, origin: BlockOrigin, head: tuple[str, bool]
    ) -> Message:
        code = shown_status(code, value)
        quality = quality_of(code)
        payload = {
            "t": head[0],
            "v": None if quality is Quality.BAD else value,
            "q": _WORDS[quality],
            "sc": code,
            "u": self._units[tag],
            "tu": origin.uncertainty_ns,
            "h": head[1],
            "src": origin.source,
        }
        if source_ns != NO_TIME and payload["v"] is not None:
            payload["st"] = _rfc3339(source_ns)
        if tag in self._texts and quality is not Quality.BAD and (text := self._texts[tag].get(value)):
            payload["x"] = text
        if origin.has_unknown or tag in self._unknown_tags:
            payload["unknown"] = True
        return self.topics[tag], orjson.dumps(payload)

    def _newer_than_shown(self, origin: BlockOrigin) -> NDArray[np.bool_]:
        """Mask of the tags whose shown value is older than this block, by order in the chain where that is known."""
        is_newer: NDArray[np.bool_] = origin.utc_ns > self.shown_ns
        if origin.chain != self._chain:
            if not is_newer.any():
                return is_newer
            self._chain = origin.chain
            self._order.fill(-1)
        if not origin.chain:
            return is_newer
        return np.where(self._order >= 0, origin.order > self._order, is_newer)

    def _update(self, block: SampleBlock, origin: BlockOrigin) -> tuple[NDArray[np.bool_], NDArray[np.uint32]]:
        """Show the values of a block; returns a mask of the tags that changed, and the status of all tags."""
        codes = status_codes(block.status, len(self.topics))
        is_newer = self._newer_than_shown(origin)
        changed = self._reported(block, origin.utc_ns)
        changed |= codes != self._codes
        changed &= is_newer
        for vector, values in enumerate(block.vectors):
            places = slice(None) if block.positions is None else block.positions[vector]
            members = self._layout.members[vector][places]
            taken = changed[members]
            shown = self._vectors[vector]
            shown[places] = np.where(taken, values, shown[places])
            self._is_known[members] |= taken
            if block.source_times is not None:
                self._source_ns[members[taken]] = block.source_times[vector][taken]
        for tag, scale in zip(*self._scales, strict=True):
            vector, position = self._layout.slots[scale]
            self._scale[tag] = power_of_ten(self._vectors[vector][position]) if self._is_known[scale] else np.nan
        self._codes[is_newer] = codes[is_newer]
        self.shown_ns[changed] = origin.utc_ns
        self._order[changed] = origin.order
        return changed, codes

    def _reported(self, block: SampleBlock, utc_ns: int) -> NDArray[np.bool_]:
        """Mask of the tags that report by exception would name: in a complete block, those that moved or are due."""
        if block.positions is None:
            reported = ~self._is_known | (utc_ns - self.shown_ns >= self._at_least_every_ns)
            for members, values, shown in zip(self._layout.members, block.vectors, self._vectors, strict=True):
                reported[members] |= (values != shown) & ((values == values) | (shown == shown))  # NaN has not moved.
            scaled, scales = self._scales
            reported[scaled] |= reported[scales]
            return reported
        reported = np.zeros(len(self.topics), np.bool_)
        for members, positions in zip(self._layout.members, block.positions, strict=True):
            reported[members[positions]] = True
        return reported

    def _in_unit(self, raw: Vector, tags: NDArray[np.intp]) -> list[Any]:
        """Values in their engineering unit; dates, times and integers of 64 bits as text; others keep their type."""
        if raw.dtype == np.float32 or self._is_converted[tags].any():
            kinds = self._time_kinds[tags].tolist()
            values = list(map(in_unit, raw, self._scale[tags].tolist(), self._offset[tags].tolist(), kinds))
        else:
            values = raw.tolist()
        if raw.dtype not in (np.int64, np.uint64):
            return values
        return [json_value(value, self._layout.types[tag]) for value, tag in zip(values, tags.tolist(), strict=True)]


def _head(origin: BlockOrigin) -> tuple[str, bool]:
    """The time of a block as text, and whether it arrived more than `HISTORICAL_NS` late."""
    return _rfc3339(origin.utc_ns), origin.arrived_ns - origin.utc_ns > HISTORICAL_NS


def _rfc3339(utc_ns: int) -> str:
    seconds, nanoseconds = divmod(utc_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"
