"""The shapes in which values are published: one message for each tag, or one for each scan of a device.

What the messages of a tag have in common is prepared once, and what those of a block have in common once a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal, NamedTuple, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from edge.model import (
    NO_TIME,
    CatalogueGroup,
    CatalogueTag,
    Quality,
    StatusCode,
    json_value,
    quality_of,
    shown_status,
)
from edge.mqtt.codec import encode_text
from edge.relay.archive import RecordLocation
from edge.relay.json_columns import Units
from edge.relay.reading_columns import Column

HISTORICAL_NS = 5 * 10**9

_CONTEXTS = b"context", b"context_before"
_WORDS = {Quality.GOOD: "good", Quality.UNCERTAIN: "uncertain", Quality.BAD: "bad"}

_OVERDUE = b'"overdue"'

Mask = NDArray[np.bool_]
ShapeName = Literal["tag", "device"]


@dataclass(frozen=True, slots=True)
class BlockOrigin:
    """What all values of one sample block share.

    Attributes:
        source: `<epoch>/<seq>/<block>/<row>` of the block in the archive.
        utc_ns: UTC given to the values.
        uncertainty_ns: bound of the error of `utc_ns`, the width of the reading included; None when it is unknown.
        arrived_ns: UTC at which the relay received the record, or hands it on.
        chain: the chain that `order` counts in; empty where only UTC is known.
        order: position of the block in its chain: a clock that was set back does not make it older.
        has_unknown: its record holds something that only a later version knows.
        location: where the record is in the archive.
        contexts: that in which the block ended, and that before, where they are shown: see `contexts_of`.
    """

    source: str
    utc_ns: int
    uncertainty_ns: int | None
    arrived_ns: int
    chain: str = ""
    order: int = 0
    has_unknown: bool = False
    location: RecordLocation | None = None
    contexts: tuple[int | None, int | None] = (None, None)


class Messages(NamedTuple):
    """Messages in columns; a topic has its length before it, as in a PUBLISH."""

    topics: list[bytes]
    payloads: list[bytes]
    is_retained: bool


class Shape(Protocol):
    """How the values of one scan group are published.

    Attributes:
        shows_all: a message needs the values of all tags, and not only of those that moved.
    """

    shows_all: bool

    def about(self) -> Iterable[Messages]:
        """What is published once, before the values."""

    def messages(self, columns: Iterable[Column], origin: BlockOrigin, overdue: Mask | None = None) -> Messages:
        """The messages of values that one block brought; of the `overdue` tags the calibration was overdue then."""


class TagShape:
    """One message for each tag."""

    shows_all = False

    def __init__(self, topics: list[bytes], group: CatalogueGroup, units: Units, *, is_retained: bool) -> None:
        self._is_retained = is_retained
        self._units = units
        self._topics = np.array(topics, object)
        unit_texts = {tag.unit: b',"u":' + orjson.dumps(tag.unit) for tag in group.tags}
        good_texts = {unit: _status_text(0) + text for unit, text in unit_texts.items()}
        self._unit_texts = [unit_texts[tag.unit] for tag in group.tags]
        self._good_texts = np.array([good_texts[tag.unit] for tag in group.tags], object)
        self._texts = _Texts(group.tags)

    def about(self) -> Iterable[Messages]:
        """See `Shape`: each message says all of its tag."""
        return ()

    def messages(self, columns: Iterable[Column], origin: BlockOrigin, overdue: Mask | None = None) -> Messages:
        """See `Shape`."""
        found = Messages([], [], self._is_retained)
        begin = b'{"t":%b,"v":' % time_text(origin.utc_ns)
        common = b"," + _origin_text(origin)
        for column in columns:
            said = _say(self._units, column)
            last = b',"unknown":true}' if origin.has_unknown or not column.data_type.is_known else b"}"
            middles = self._good_texts[column.tags].tolist()
            for at, code in said.codes.items():
                middles[at] = _status_text(code) + self._unit_texts[column.tags[at]]
            end = common + last
            payloads = [begin + text + middle + end for text, middle in zip(said.texts, middles, strict=True)]
            for at, more in self._more(column, said, overdue).items():
                payloads[at] = payloads[at].removesuffix(last) + more + last
            found.topics.extend(self._topics[column.tags].tolist())
            found.payloads.extend(payloads)
        return found

    def _more(self, column: Column, said: _Said, overdue: Mask | None) -> dict[int, bytes]:
        """What only some values have, by position: the device's time, the text of a number, an overdue calibration."""
        more = {at: b',"st":' + text for at, text in _source_times(column, said)}
        for at, text in self._texts.of(column, said):
            more[at] = more.get(at, b"") + b',"x":' + text
        for at in _places(column, overdue):
            more[at] = more.get(at, b"") + b',"cal":' + _OVERDUE
        return more


class DeviceShape:
    """One message for each scan of a device: with the values that moved, or with all where the broker retains it."""

    def __init__(self, topic: str, group: CatalogueGroup, units: Units, *, is_retained: bool) -> None:
        self.shows_all = is_retained
        self._topic_name, self._topic = topic, encode_text(topic)
        self._scan = ScanText(group, units)
        self._tags = group.tags

    def about(self) -> Iterable[Messages]:
        """See `Shape`: units, and texts of numbers."""
        about = {tag.name: {"u": tag.unit} | ({"x": dict(tag.texts)} if tag.texts else {}) for tag in self._tags}
        payload = orjson.dumps(about, option=orjson.OPT_NON_STR_KEYS)
        yield Messages([encode_text(f"{self._topic_name}/tags")], [payload], is_retained=True)

    def messages(self, columns: Iterable[Column], origin: BlockOrigin, overdue: Mask | None = None) -> Messages:
        """See `Shape`."""
        return Messages([self._topic], [self._scan.text(columns, origin, overdue)], self.shows_all)


class ScanText:
    """A scan of a device as a JSON object.

    Args:
        begin: the members that come first, each followed by a comma.
        is_whole: it also says units, and texts of numbers, for who has no other message that does.
    """

    def __init__(self, group: CatalogueGroup, units: Units, begin: bytes = b"", *, is_whole: bool = False) -> None:
        self._units, self._begin = units, b"{%b" % begin
        # Each member begins with the comma that ends the one before; that of the first is cut off.
        names = [b"," + orjson.dumps(tag.name) + b":" for tag in group.tags]
        self._names = np.array(names, object)
        self._unit_members: NDArray[np.object_] | None = None
        if is_whole:
            self._unit_members = np.array([tag.unit and name + orjson.dumps(tag.unit)
                                           for name, tag in zip(names, group.tags, strict=True)], object)  # fmt: skip
        self._texts = _Texts(group.tags)

    def text(self, columns: Iterable[Column], origin: BlockOrigin, overdue: Mask | None = None) -> bytes:
        """The object, of these values that one block brought."""
        values: list[bytes] = []
        codes: dict[str, list[bytes]] = {"bad": []}
        more: dict[str, list[bytes]] = {"st": []}
        is_marked = origin.has_unknown
        for column in columns:
            said = _say(self._units, column)
            names = self._names[column.tags].tolist()
            members = [b""] * (2 * len(names))
            members[0::2], members[1::2] = names, said.texts
            values += members
            for at, code in said.codes.items():
                codes.setdefault(_WORDS[quality_of(code)], []).append(names[at] + b"%d" % code)
            more["st"] += [names[at] + text for at, text in _source_times(column, said)]
            if self._unit_members is not None:
                more.setdefault("u", []).extend(filter(None, self._unit_members[column.tags].tolist()))
                more.setdefault("x", []).extend(names[at] + text for at, text in self._texts.of(column, said))
            more.setdefault("cal", []).extend(names[at] + _OVERDUE for at in _places(column, overdue))
            is_marked |= not column.data_type.is_known
        parts = [self._begin + b'"t":' + time_text(origin.utc_ns), _origin_text(origin), b'"values":' + _object(values)]
        parts += [b'"%b":%b' % (word.encode(), _object(tags)) for word, tags in codes.items()]
        parts += [b'"%b":%b' % (word.encode(), _object(tags)) for word, tags in more.items() if tags]
        contexts = zip(_CONTEXTS, origin.contexts, strict=True)
        parts += [b'"%b":%d' % (name, number) for name, number in contexts if number is not None]
        if is_marked:
            parts.append(b'"unknown":true')
        return b",".join(parts) + b"}"


def _places(column: Column, mask: Mask | None) -> Sequence[int]:
    """The positions in a column of the tags of a mask."""
    found: list[int] = [] if mask is None else mask[column.tags].nonzero()[0].tolist()
    return found


class _Texts:
    """What devices call numbers, as JSON."""

    def __init__(self, tags: Sequence[CatalogueTag]) -> None:
        self._texts = {
            number: {json_value(value, tag.data_type): orjson.dumps(text) for value, text in tag.texts}
            for number, tag in enumerate(tags)
            if tag.texts
        }
        self._has_texts = np.array([bool(tag.texts) for tag in tags], np.bool_)

    def of(self, column: Column, said: _Said) -> Iterator[tuple[int, bytes]]:
        """The text of each value that has one, by position."""
        for at in self._has_texts[column.tags].nonzero()[0].tolist():
            if text := self._texts[int(column.tags[at])].get(orjson.loads(said.texts[at])):
                yield at, text


class _Said(NamedTuple):
    """A column in JSON; `codes` has the status codes that are not 0, by position."""

    texts: list[bytes]
    codes: dict[int, int]


def _say(units: Units, column: Column) -> _Said:
    texts, is_finite = units.json_texts(column.raw, column.tags)
    codes: dict[int, int] = {}
    is_plain = (column.codes == 0) & is_finite & column.is_known
    for at in (~is_plain).nonzero()[0].tolist():
        code = int(column.codes[at])
        if not column.is_known[at] and quality_of(code) is not Quality.BAD:
            code = int(StatusCode.BAD_WAITING_FOR_INITIAL_DATA)
        codes[at] = shown_status(code, 0.0 if is_finite[at] else nan)
        if quality_of(code) is Quality.BAD:
            texts[at] = b"null"
    return _Said(texts, codes)


def _source_times(column: Column, said: _Said) -> Iterator[tuple[int, bytes]]:
    """The device's time of each value that has one, by position."""
    if column.times is None or not column.data_type.is_known:
        return
    places = (column.times != NO_TIME).nonzero()[0]
    texts = np.datetime_as_string(column.times[places].view("M8[ns]"), unit="ns").tolist()
    for at, text in zip(places.tolist(), texts, strict=True):
        if quality_of(said.codes.get(at, 0)) is not Quality.BAD:
            yield at, b'"%bZ"' % text.encode()


def time_text(utc_ns: int) -> bytes:
    """A time as JSON."""
    return b'"%bZ"' % np.datetime_as_string(np.datetime64(utc_ns, "ns")).item().encode()


def _origin_text(origin: BlockOrigin) -> bytes:
    is_historical = origin.arrived_ns - origin.utc_ns > HISTORICAL_NS
    return orjson.dumps({"tu": origin.uncertainty_ns, "h": is_historical, "src": origin.source})[1:-1]


def _status_text(code: int) -> bytes:
    return f',"q":"{_WORDS[quality_of(code)]}","sc":{code}'.encode()


def _object(members: Iterable[bytes]) -> bytes:
    return b"{%b}" % b"".join(members)[1:]
