"""A batch as a BatchProductionRecord of B2MML: what was read as DataSets, what happened as Events.

B2MML is XML of MESA International for the models of ISA-88 and ISA-95. The elements stand in the order of its schema
BatchML-BatchProductionRecord, which is the same for them in V0600 and V0701. Blocks of many scan groups come mixed, and
a data set is of one: each is written to a file of its own first, so that memory is bounded.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple
from xml.sax.saxutils import escape

from edge.export.lines import numbers_text, utc_text
from edge.export.values import Groups
from edge.model import DataType, name_of
from edge.relay.reading_columns import SourcedBlock
from edge.relay.shown_values import GroupValues

Version = Literal["V0701", "V0600"]
NAMESPACES: dict[Version, str] = {
    "V0701": "http://www.mesa.org/xml/B2MML", "V0600": "http://www.mesa.org/xml/B2MML-V0600",
}  # fmt: skip
COURTESY = "The Business To Manufacturing Markup Language (B2MML) is used courtesy of MESA International."
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BLANKS = {"\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
_HELD_BYTES = 8 * 2**20
_EVIDENCE, _BOUND, _FIRST_TAG = 1, 2, 3

_OF_EACH_ROW = (
    (_EVIDENCE, "string", "evidence: chain, seq and block of the signed record"),
    (_BOUND, "long", "how far the time may be off at most, in ns; empty where it is not known"),
)


class Happened(NamedTuple):
    """An event of the batch: when, what kind of B2MML, on what, in words, and by which record."""

    at_ns: int
    kind: str
    subkind: str
    equipment: str
    text: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What the record says as a whole."""

    batch: str
    equipment: tuple[str, ...]
    lot: str
    product: str
    descriptions: tuple[str, ...]
    made_at_ns: int


@dataclass(slots=True)
class _DataSet:
    """What is known of a data set once its rows are written."""

    found: SourcedBlock
    group: GroupValues
    part: str
    equipment: str
    file: Path
    rows: int = 0
    from_ns: int = 2**63
    to_ns: int = -(2**63)
    held: list[bytes] = field(default_factory=list)


def xml_text(text: str) -> str:
    """A text as XML has it; what no XML can hold is replaced by U+FFFD."""
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text), _BLANKS)


def evidence(gateway: str, epoch: str, seq: int) -> str:
    """A reference to a record."""
    return f"tidegate:{gateway}/{epoch}/{seq}"


class B2mmlFile:
    """Writes one record: first the blocks of each part, then the whole."""

    def __init__(self, file: Path, groups: Groups, version: Version = "V0701") -> None:
        self._file, self._groups, self._version = file, groups, version
        self._parts = file.with_name(f"{file.name}.parts")
        self._sets: dict[tuple[str, str, bytes, int], _DataSet] = {}
        self._held_bytes = 0

    def add(self, part: str, blocks: Iterable[tuple[SourcedBlock, str]]) -> int:
        """Take blocks with the unit of each; returns how many values they have. Raises OSError."""
        self._parts.mkdir(exist_ok=True)
        count = 0
        for found, equipment in blocks:
            key = part, found.gateway, found.catalogue, found.readings.block.group
            data = self._sets.get(key)
            if data is None:
                file = self._parts / str(len(self._sets))
                data = self._sets[key] = _DataSet(found, self._groups.of(found), part, equipment, file)
            number, row = _row(found, data)
            if not data.group.wanted:
                continue
            count += number
            data.held.append(row)
            self._held_bytes += len(row)
            if self._held_bytes > _HELD_BYTES:
                self._flush()
        self._flush()
        return count

    def _flush(self) -> None:
        for data in self._sets.values():
            if data.held:
                with data.file.open("ab") as out:
                    out.writelines(data.held)
                data.held.clear()
        self._held_bytes = 0

    def write(self, head: Head, events: Iterable[Happened]) -> None:
        """Write the record. Raises OSError."""
        with self._file.open("wb", buffering=1 << 20) as out:
            out.write("".join(_begin(head, NAMESPACES[self._version])).encode())
            out.write(b"<DataSets>\n")
            for number, data in enumerate(each for each in self._sets.values() if each.rows):
                out.write("".join(_data_set_begin(number, data)).encode())
                with data.file.open("rb") as rows:
                    shutil.copyfileobj(rows, out)
                out.write(b"</DataSet>\n")
            out.write(b"</DataSets>\n<Events>\n")
            in_order = sorted(events, key=lambda event: event.at_ns)
            out.writelines(_event(number, each) for number, each in enumerate(in_order, 1))
            out.write(b"</Events>\n</BatchProductionRecord>\n")

    def close(self) -> None:
        """Remove the parts."""
        shutil.rmtree(self._parts, ignore_errors=True)


def _element(name: str, text: str) -> str:
    return f"<{name}>{xml_text(text)}</{name}>"


def _entry(number: str, kind: str, at_ns: int | None, reference: str, descriptions: Iterable[str] = ()) -> str:
    """The elements that every entry begins with."""
    time = "" if at_ns is None else _element("TimeStamp", utc_text(at_ns))
    refers = _element("ExternalReference", reference) if reference else ""
    said = "".join(_element("Description", each) for each in descriptions)
    return f"{_element('EntryID', number)}{_element('ObjectType', kind)}{time}{refers}{said}"


def _begin(head: Head, namespace: str) -> Iterator[str]:
    made = utc_text(head.made_at_ns)
    yield f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {COURTESY} -->\n'
    yield f'<BatchProductionRecord xmlns="{namespace}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'
    yield _element("ID", head.batch)
    yield _entry(head.batch, "Batch Production Record", head.made_at_ns, "", head.descriptions)
    yield _element("CreationDate", made) + _element("BatchID", head.batch)
    if len(head.equipment) == 1:
        yield _element("EquipmentID", head.equipment[0])
    yield _element("LotID", head.lot) if head.lot else ""
    yield _element("MaterialDefinitionID", head.product) if head.product else ""
    yield "\n"


def _data_set_begin(number: int, data: _DataSet) -> Iterator[str]:
    group, found = data.group.group, data.found
    what = f"{group.device}, scan group {group.name}"
    if data.part != "batch":
        what += ": sampled while the batch changed, so that it is not certain that they are of it"
    yield f"\n<DataSet>{_entry(str(number + 1), 'Data Set', None, f'tidegate:{found.gateway}/{found.epoch}', (what,))}"
    yield _element("StartTime", utc_text(data.from_ns)) + _element("EndTime", utc_text(data.to_ns))
    nil = '<UnitOfMeasure xsi:nil="true"/>'
    for index, kind, words in _OF_EACH_ROW:
        yield f"<TagSpecification><TagIndex>{index}</TagIndex>{_element('DataType', kind)}{nil}"
        yield f"{_element('Description', words)}</TagSpecification>"
    for at, tag in enumerate(group.tags):
        if not data.group.is_wanted[at]:
            continue
        unit = data.group.unit(tag)
        kind = "string" if tag.data_type is DataType.TEXT else "boolean" if tag.data_type is DataType.BOOL else "double"
        yield f"<TagSpecification><TagIndex>{at + _FIRST_TAG}</TagIndex>{_element('DataType', kind)}"
        yield _element("UnitOfMeasure", unit) if unit else nil
        yield _element("DataSource", f"{group.device}/{tag.name}")
        yield _element("Description", tag.description) if tag.description else ""
        yield _element("EquipmentID", data.equipment) if data.equipment else ""
        yield "</TagSpecification>"
    yield "\n"


def _value(index: int, value: str, quality: str = "") -> str:
    return f"<DataValue><TagIndex>{index}</TagIndex><Value>{value}</Value>{quality}</DataValue>"


def _row(found: SourcedBlock, data: _DataSet) -> tuple[int, bytes]:
    """The values of a block, with their number."""
    time, corrected = found.readings.time, found.corrected
    at_ns = time.utc_ns if corrected is None else corrected.utc_ns
    bound_ns = time.uncertainty_ns if corrected is None else corrected.uncertainty_ns
    data.rows += 1
    data.from_ns, data.to_ns = min(data.from_ns, at_ns), max(data.to_ns, at_ns)
    parts = [
        f"<OrderedData><OrderIndex>{data.rows}</OrderIndex>{_element('TimeValue', utc_text(at_ns))}",
        _value(_EVIDENCE, f"{found.epoch}/{found.seq}/{found.readings.number}"),
        _value(_BOUND, "" if bound_ns is None else str(bound_ns)),
    ]
    count = 0
    for shown in data.group.shown_block(found.readings.columns):
        numbers, has_number, codes = numbers_text(shown.numbers), shown.has_number.tolist(), shown.codes.tolist()
        count += len(numbers)
        for at, tag in enumerate(shown.tags.tolist()):
            text = shown.texts.get(at)
            value = xml_text(text) if text is not None else numbers[at].decode() if has_number[at] else ""
            parts.append(_value(tag + _FIRST_TAG, value, f"<Quality>{name_of(codes[at])}</Quality>"))
    parts.append("</OrderedData>\n")
    return count, "".join(parts).encode()


def _event(number: int, event: Happened) -> bytes:
    equipment = _element("EquipmentID", event.equipment) if event.equipment else ""
    entry = _entry(str(number), "Event", event.at_ns, event.evidence)
    kind = _element("EventType", event.kind) + _element("EventSubType", event.subkind)
    return f"<Event>{entry}{kind}{equipment}{_element('MessageText', event.text)}</Event>\n".encode()
