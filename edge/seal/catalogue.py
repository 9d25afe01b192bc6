"""CATALOG: the scan groups and tags that DATA refers to by number, and the identities of the devices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

from edge.model import (
    IDENTITY_MORE_LIMIT,
    IDENTITY_TEXT_LIMIT,
    Catalogue,
    CatalogueGroup,
    CatalogueTag,
    DataType,
    Identity,
    TimeKind,
)  # fmt: skip
from edge.seal import cbor
from edge.seal.calibrations import Calibrations, calibrations_in
from edge.seal.cbor import I64, Unknown, as_array, as_bytes, as_elements, as_fields, as_float, as_int, as_text, optional
from edge.seal.record import Malformed, RecordType

PART_BYTES = 40_000
_TIME_KINDS = {kind.value: kind for kind in TimeKind}


@dataclass(frozen=True, slots=True)
class CataloguePart:
    """The payload of a CATALOG record: part `part` of `parts`, counted from 0."""

    type: ClassVar = RecordType.CATALOG
    digest: bytes
    part: int
    parts: int
    groups: tuple[tuple[int, CatalogueGroup], ...]
    path: str
    wire_groups: tuple[list[Any], ...]


def catalogue_digest(catalogue: Catalogue) -> bytes:
    """The digest by which DATA records refer to the catalogue."""
    groups = [_group_to_cbor(number, group) for number, group in enumerate(catalogue.groups)]
    return _digest(catalogue.path, groups)


def _digest(path: str, groups: Sequence[object]) -> bytes:
    return hashlib.sha256(cbor.encode([path, groups])).digest()[:8]


@dataclass(frozen=True, slots=True)
class EncodedCatalogue:
    """A catalogue ready to be sealed: encoding a large one takes time, so it is done once."""

    path: str
    digest: bytes
    payloads: tuple[bytes, ...]

    @classmethod
    def of(cls, catalogue: Catalogue) -> EncodedCatalogue:
        """Encode a catalogue into payloads that each fit into a record."""
        groups = [_group_to_cbor(number, group) for number, group in enumerate(catalogue.groups)]
        digest = _digest(catalogue.path, groups)
        parts = list(_split(groups)) or [[]]
        return cls(catalogue.path, digest, tuple(
            cbor.encode({1: digest, 2: number, 3: len(parts), 4: part, 5: catalogue.path})
            for number, part in enumerate(parts)
        ))  # fmt: skip


def _split(groups: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    part: list[list[Any]] = []
    size_bytes = 0
    for number, device, name, interval_ns, tags, *more in groups:
        head = [number, device, name, interval_ns]
        piece: list[Any] = []
        part.append([*head, piece, *more])
        size_bytes += len(cbor.encode(head + more)) + 4
        for tag in tags:
            tag_bytes = len(cbor.encode(tag))
            if size_bytes + tag_bytes > PART_BYTES:
                yield part
                piece = []
                part = [[*head, piece, *more]]
                size_bytes = len(cbor.encode(head + more)) + 4
            piece.append(tag)
            size_bytes += tag_bytes
    if part:
        yield part


def join_catalogue(parts: Iterable[CataloguePart]) -> Catalogue:
    """The catalogue of all its parts, in any order; Malformed when one is missing or the digest is another."""
    by_number = {part.part: part for part in parts}
    first = by_number.get(0)
    if first is None or len(by_number) != first.parts or {part.digest for part in by_number.values()} != {first.digest}:
        raise Malformed("parts of a catalogue are missing")
    groups: list[CatalogueGroup] = []
    wires: list[list[Any]] = []
    for number in range(first.parts):
        part = by_number[number]
        for (place, group), wire in zip(part.groups, part.wire_groups, strict=True):
            if place == len(groups):
                groups.append(group)
                wires.append(wire)
            elif place == len(groups) - 1 and _same_head(groups[place], group):
                groups[place] = _joined(groups[place], group)
                *head, tags = wires[place][:5]
                wires[place] = [*head, tags + wire[4], *wires[place][5:]]
            else:
                raise Malformed(f"scan group {place} of a catalogue is out of order")
    # Of the elements as they came: the digest covers those that only a later version knows.
    if _digest(first.path, wires) != first.digest:
        raise Malformed("a catalogue does not have the digest it names")
    return Catalogue(path=first.path, groups=tuple(groups))


def _same_head(one: CatalogueGroup, other: CatalogueGroup) -> bool:
    return replace(one, tags=()) == replace(other, tags=())


def _joined(start: CatalogueGroup, more: CatalogueGroup) -> CatalogueGroup:
    return replace(start, tags=start.tags + more.tags)


def _group_to_cbor(number: int, group: CatalogueGroup) -> list[Any]:
    tags = [_tag_to_cbor(tag) for tag in group.tags]
    # Omitted for polled groups: their catalogues keep the digest that they had before it was added.
    more = [group.sign_of_life_ns] if group.sign_of_life_ns else []
    return [number, group.device, group.name, group.interval_ns, tags, *more]


def _tag_to_cbor(tag: CatalogueTag) -> list[object]:
    # Omitted at the end when empty: catalogues without them keep the digest that they had before they were added.
    texts = [part for as_text in tag.texts for part in as_text] or None
    kind = None if tag.time_kind is None else tag.time_kind.value
    # With a scale tag, raw x scale + offset is in no unit, and so says the fourth element.
    power = [tag.unit, tag.scale_tag] if tag.scale_tag else None
    more: list[object] = [texts, kind, power]
    while more and more[-1] is None:
        more.pop()
    return [
        tag.name, tag.data_type.code, tag.address, "" if power else tag.unit, float(tag.scale), float(tag.offset),
        None if tag.range is None else [float(tag.range[0]), float(tag.range[1])], float(tag.deadband),
        tag.at_most_every_ns, tag.at_least_every_ns, tag.description,
        *more,
    ]  # fmt: skip


def _part_from_cbor(value: object, unknown: Unknown) -> CataloguePart:
    f = as_fields(value, 5, unknown, more=1)
    part, parts = as_int(f[2]), as_int(f[3])
    if part >= parts:
        raise Malformed(f"part {part} of {parts} does not exist")
    wires = as_array(f[4])
    groups = tuple(_group_from_cbor(group, unknown) for group in wires)
    return CataloguePart(as_bytes(f[1], 8), part, parts, groups, as_text(f[5]), tuple(wires))


def _group_from_cbor(value: object, unknown: Unknown) -> tuple[int, CatalogueGroup]:
    number, device, name, interval_ns, tags, *_ = as_elements(value, 5, unknown, more=1)
    group = CatalogueGroup(
        device=as_text(device), name=as_text(name), interval_ns=as_int(interval_ns),
        tags=tuple(_tag_from_cbor(tag, unknown) for tag in as_array(tags)),
        sign_of_life_ns=_sign_of_life(as_array(value), unknown),
    )  # fmt: skip
    return as_int(number), group


def _sign_of_life(elements: Sequence[Any], unknown: Unknown) -> int:
    """The sixth element, of a subscribed group; null only where one of a later version follows."""
    given = elements[5] if len(elements) > 5 else None
    if type(given) is int and 0 < given <= I64[1]:
        return given
    if given is not None or len(elements) == 6:
        unknown.skip("element 6", given)
    return 0


def _range(value: object, unknown: Unknown) -> tuple[float, float]:
    low, high = as_elements(value, 2, unknown)
    return as_float(low), as_float(high)


def _tag_from_cbor(value: object, unknown: Unknown) -> CatalogueTag:
    (name, code, address, unit, scale, offset, limits, deadband, at_most_ns, at_least_ns, description,
     *more) = as_elements(value, 11, unknown, more=3)  # fmt: skip
    elements = as_array(value)
    texts = [] if len(elements) > 12 and more[0] is None else more[:1]
    data_type = DataType.from_code(as_int(code))
    if not data_type.is_known:
        unknown.add(f"data type {data_type.code}")
    power = _power(elements, unknown)
    return CatalogueTag(
        name=as_text(name), data_type=data_type, address=as_text(address), unit=as_text(unit) or power[0],
        scale=as_float(scale), offset=as_float(offset), range=optional(_range, limits, unknown),
        deadband=as_float(deadband),
        at_most_every_ns=as_int(at_most_ns, I64), at_least_every_ns=as_int(at_least_ns, I64),
        description=as_text(description), texts=_texts(texts),
        time_kind=_time_kind(elements, data_type, unknown), scale_tag=power[1],
    )  # fmt: skip


def _texts(members: Sequence[object]) -> tuple[tuple[int, str], ...]:
    """The optional last member of a tag: number, text, number, text, by ascending number."""
    if not members:
        return ()
    flat = as_array(members[0])
    if not flat or len(flat) % 2:
        raise Malformed("numbers and their texts were expected")
    numbers = [as_int(number, I64) for number in flat[::2]]
    if any(number >= following for number, following in pairwise(numbers)):
        raise Malformed("the numbers of an enumeration are not in ascending order")
    return tuple(zip(numbers, map(as_text, flat[1::2]), strict=True))


def _time_kind(elements: Sequence[Any], data_type: DataType, unknown: Unknown) -> TimeKind | None:
    """The 13th element, of a tag of int64; null only where one of a later version follows."""
    given = elements[12] if len(elements) > 12 else None
    if type(given) is int and data_type is DataType.INT64 and given in _TIME_KINDS:
        return _TIME_KINDS[given]
    if given is not None or len(elements) == 13:
        unknown.skip("element 13", given)
    return None


def _power(elements: Sequence[Any], unknown: Unknown) -> tuple[str, str]:
    """The 14th element: the unit, and the tag that gives the power of ten."""
    given = elements[13] if len(elements) > 13 else None
    if type(given) is list and len(given) == 2 and given[1] and all(type(text) is str for text in given):
        return given[0], given[1]
    if given is not None or len(elements) == 14:
        unknown.skip("element 14", given)
    return "", ""


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device of the catalogue, its identity, and since when the identity has been the same (UTC)."""

    device: str
    identity: Identity
    since_ns: int


@dataclass(frozen=True, slots=True)
class Identities:
    """The payload of a CATALOG record with identities of devices; `digest` names the catalogue they belong to."""

    type: ClassVar = RecordType.CATALOG
    digest: bytes
    path: str
    devices: tuple[KnownDevice, ...]


def encode_identities(digest: bytes, path: str, devices: Iterable[KnownDevice]) -> list[bytes]:
    """The payloads of identities that are `bounded`, each of which fits into a record."""
    entries = map(_device_to_cbor, devices)
    return [cbor.encode({1: digest, 2: 0, 3: 0, 4: [], 5: path, 6: part}) for part in _parts_of(entries)]


def encode_calibrations(calibrations: Calibrations) -> list[bytes]:
    """The payloads of calibrations, each of which fits into a record.

    They travel with a catalogue of no group: to a reader that does not know them it is a catalogue like any other.
    """
    digest = _digest(calibrations.path, [])
    entries = (list(each) for each in calibrations.entries)
    return [cbor.encode({1: digest, 2: 0, 3: 1, 4: [], 5: calibrations.path, 7: part}) for part in _parts_of(entries)]


def _parts_of(entries: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    part: list[list[Any]] = []
    size_bytes = 0
    for entry in entries:
        entry_bytes = len(cbor.encode(entry))
        if part and size_bytes + entry_bytes > PART_BYTES:
            yield part
            part, size_bytes = [], 0
        part.append(entry)
        size_bytes += entry_bytes
    if part:
        yield part


def _device_to_cbor(known: KnownDevice) -> list[Any]:
    identity = known.identity
    return [known.device, *identity.texts.values(), dict(identity.more), known.since_ns]


def catalog_from_cbor(value: object, unknown: Unknown) -> CataloguePart | Identities | Calibrations:
    """The content of any CATALOG record. Raises Malformed."""
    if type(value) is not dict or 6 not in value:
        return _without_devices(value, unknown)
    f = as_fields(value, 6, unknown)
    if (as_int(f[2]), as_int(f[3]), as_array(f[4])) != (0, 0, []):
        raise Malformed("identities are no part of a catalogue, and hold no group")
    devices = tuple(_device_from_cbor(device, unknown) for device in as_array(f[6]))
    if not devices:
        raise Malformed("identities of no device")
    return Identities(as_bytes(f[1], 8), as_text(f[5]), devices)


def _without_devices(value: object, unknown: Unknown) -> CataloguePart | Calibrations:
    """A part of a catalogue, or calibrations; those of another form are content of a part that is not known."""
    part = _part_from_cbor(value, unknown)
    entries = () if part.groups else calibrations_in(value, unknown)
    return Calibrations(part.path, entries) if entries else part


def _device_from_cbor(value: object, unknown: Unknown) -> KnownDevice:
    device, *texts, more, since_ns = as_elements(value, len(Identity().texts) + 3, unknown)
    if type(more) is not dict or len(more) > IDENTITY_MORE_LIMIT:
        raise Malformed(f"a map of up to {IDENTITY_MORE_LIMIT} texts was expected")
    further = sorted((_as_short_text(label), _as_short_text(text)) for label, text in more.items())
    identity = Identity.from_texts(map(_as_short_text, texts), further)
    return KnownDevice(as_text(device), identity, as_int(since_ns, I64))


def _as_short_text(value: object) -> str:
    text = as_text(value)
    if len(text) > IDENTITY_TEXT_LIMIT:
        raise Malformed(f"a text of up to {IDENTITY_TEXT_LIMIT} characters was expected")
    return text
