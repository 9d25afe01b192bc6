"""CATALOG: what the group numbers and positions of DATA mean."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
)  # fmt: skip
from edge.seal import cbor
from edge.seal.cbor import I64, as_array, as_bytes, as_enum, as_fields, as_float, as_int, as_text, optional
from edge.seal.record import Malformed, RecordType

PART_BYTES = 40_000


@dataclass(frozen=True, slots=True)
class CataloguePart:
    """The payload of a CATALOG record: part `part` of `parts`, counted from 0."""

    type: ClassVar = RecordType.CATALOG
    digest: bytes
    part: int
    parts: int
    groups: tuple[tuple[int, CatalogueGroup], ...]
    path: str


def catalogue_digest(catalogue: Catalogue) -> bytes:
    """What DATA records name the catalogue by."""
    groups = [_group_to_cbor(number, group) for number, group in enumerate(catalogue.groups)]
    return _digest(catalogue.path, groups)


def _digest(path: str, groups: Sequence[object]) -> bytes:
    return hashlib.sha256(cbor.encode([path, groups])).digest()[:8]


@dataclass(frozen=True, slots=True)
class EncodedCatalogue:
    """A catalogue ready to be sealed: that of a large site takes its time to encode."""

    path: str
    digest: bytes
    payloads: tuple[bytes, ...]

    @classmethod
    def of(cls, catalogue: Catalogue) -> EncodedCatalogue:
        """Encode a catalogue, in payloads that are each small enough for a record."""
        groups = [_group_to_cbor(number, group) for number, group in enumerate(catalogue.groups)]
        digest = _digest(catalogue.path, groups)
        parts = list(_split(groups)) or [[]]
        return cls(catalogue.path, digest, tuple(
            cbor.encode({1: digest, 2: number, 3: len(parts), 4: part, 5: catalogue.path})
            for number, part in enumerate(parts)
        ))  # fmt: skip


def encode_catalogue(catalogue: Catalogue) -> list[bytes]:
    """The payloads that carry a catalogue, each small enough for a record."""
    return list(EncodedCatalogue.of(catalogue).payloads)


def _split(groups: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    part: list[list[Any]] = []
    size_bytes = 0
    for *head, tags in groups:
        piece: list[Any] = []
        part.append([*head, piece])
        size_bytes += len(cbor.encode(head)) + 4
        for tag in tags:
            tag_bytes = len(cbor.encode(tag))
            if size_bytes + tag_bytes > PART_BYTES:
                yield part
                piece = []
                part = [[*head, piece]]
                size_bytes = len(cbor.encode(head)) + 4
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
    for number in range(first.parts):
        for place, group in by_number[number].groups:
            if place == len(groups):
                groups.append(group)
            elif place == len(groups) - 1 and _same_head(groups[place], group):
                groups[place] = _joined(groups[place], group)
            else:
                raise Malformed(f"scan group {place} of a catalogue is out of order")
    catalogue = Catalogue(path=first.path, groups=tuple(groups))
    if catalogue_digest(catalogue) != first.digest:
        raise Malformed("a catalogue does not have the digest it names")
    return catalogue


def _same_head(one: CatalogueGroup, other: CatalogueGroup) -> bool:
    return (one.device, one.name, one.interval_ns) == (other.device, other.name, other.interval_ns)


def _joined(start: CatalogueGroup, more: CatalogueGroup) -> CatalogueGroup:
    return CatalogueGroup(
        device=start.device, name=start.name, interval_ns=start.interval_ns, tags=start.tags + more.tags
    )


def _group_to_cbor(number: int, group: CatalogueGroup) -> list[Any]:
    return [number, group.device, group.name, group.interval_ns, [_tag_to_cbor(tag) for tag in group.tags]]


def _tag_to_cbor(tag: CatalogueTag) -> list[object]:
    return [
        tag.name, tag.data_type.code, tag.address, tag.unit, float(tag.scale), float(tag.offset),
        None if tag.range is None else [float(tag.range[0]), float(tag.range[1])], float(tag.deadband),
        tag.at_most_every_ns, tag.at_least_every_ns, tag.description,
        # Only where there are any, so that catalogues without keep the digest they had.
        *([[part for as_text in tag.texts for part in as_text]] if tag.texts else ()),
    ]  # fmt: skip


def part_from_cbor(value: object) -> CataloguePart:
    """The payload of a CATALOG record, or Malformed."""
    f = as_fields(value, 5)
    part, parts = as_int(f[2]), as_int(f[3])
    if part >= parts:
        raise Malformed(f"part {part} of {parts} does not exist")
    groups = tuple(_group_from_cbor(group) for group in as_array(f[4]))
    return CataloguePart(as_bytes(f[1], 8), part, parts, groups, as_text(f[5]))


def _group_from_cbor(value: object) -> tuple[int, CatalogueGroup]:
    number, device, name, interval_ns, tags = as_array(value, 5)
    group = CatalogueGroup(
        device=as_text(device), name=as_text(name), interval_ns=as_int(interval_ns),
        tags=tuple(map(_tag_from_cbor, as_array(tags))),
    )  # fmt: skip
    return as_int(number), group


def _range(value: object) -> tuple[float, float]:
    low, high = as_array(value, 2)
    return as_float(low), as_float(high)


def _tag_from_cbor(value: object) -> CatalogueTag:
    members = as_array(value)
    name, code, address, unit, scale, offset, limits, deadband, at_most_ns, at_least_ns, description = as_array(
        members[:11], 11
    )
    return CatalogueTag(
        name=as_text(name), data_type=as_enum(DataType.from_code, code), address=as_text(address), unit=as_text(unit),
        scale=as_float(scale), offset=as_float(offset), range=optional(_range, limits), deadband=as_float(deadband),
        at_most_every_ns=as_int(at_most_ns, I64), at_least_every_ns=as_int(at_least_ns, I64),
        description=as_text(description), texts=_texts(members[11:]),
    )  # fmt: skip


def _texts(members: Sequence[object]) -> tuple[tuple[int, str], ...]:
    """The optional last member of a tag: number, text, number, text, by ascending number."""
    if not members:
        return ()
    flat = as_array(as_array(list(members), 1)[0])
    if not flat or len(flat) % 2:
        raise Malformed("numbers and their texts were expected")
    numbers = [as_int(number, I64) for number in flat[::2]]
    if any(number >= following for number, following in pairwise(numbers)):
        raise Malformed("the numbers of an enumeration are not in ascending order")
    return tuple(zip(numbers, map(as_text, flat[1::2]), strict=True))


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device of the catalogue, and since when it has said so (UTC)."""

    device: str
    identity: Identity
    since_ns: int


@dataclass(frozen=True, slots=True)
class Identities:
    """The payload of a CATALOG record that tells of devices; it is no part of the catalogue that it names."""

    type: ClassVar = RecordType.CATALOG
    digest: bytes
    path: str
    devices: tuple[KnownDevice, ...]


def encode_identities(digest: bytes, path: str, devices: Iterable[KnownDevice]) -> list[bytes]:
    """The payloads that tell of devices whose identities are `bounded`, each small enough for a record."""
    return [cbor.encode({1: digest, 2: 0, 3: 0, 4: [], 5: path, 6: told}) for told in _split_devices(devices)]


def _split_devices(devices: Iterable[KnownDevice]) -> Iterable[list[list[Any]]]:
    told: list[list[Any]] = []
    size_bytes = 0
    for known in devices:
        entry = _device_to_cbor(known)
        entry_bytes = len(cbor.encode(entry))
        if told and size_bytes + entry_bytes > PART_BYTES:
            yield told
            told, size_bytes = [], 0
        told.append(entry)
        size_bytes += entry_bytes
    if told:
        yield told


def _device_to_cbor(known: KnownDevice) -> list[Any]:
    said = known.identity
    return [known.device, *said.texts.values(), dict(said.more), known.since_ns]


def catalog_from_cbor(value: object) -> CataloguePart | Identities:
    """The payload of any CATALOG record, or Malformed."""
    if type(value) is not dict or 6 not in value:
        return part_from_cbor(value)
    f = as_fields(value, 6)
    if (as_int(f[2]), as_int(f[3]), as_array(f[4])) != (0, 0, []):
        raise Malformed("identities are no part of a catalogue, and hold no group")
    devices = tuple(map(_device_from_cbor, as_array(f[6])))
    if not devices:
        raise Malformed("identities of no device")
    return Identities(as_bytes(f[1], 8), as_text(f[5]), devices)


def _device_from_cbor(value: object) -> KnownDevice:
    device, *texts, more, since_ns = as_array(value, len(Identity().texts) + 3)
    if type(more) is not dict or len(more) > IDENTITY_MORE_LIMIT:
        raise Malformed(f"a map of up to {IDENTITY_MORE_LIMIT} texts was expected")
    further = sorted((_short(label), _short(said)) for label, said in more.items())
    said = Identity.from_texts(map(_short, texts), further)
    return KnownDevice(as_text(device), said, as_int(since_ns, I64))


def _short(value: object) -> str:
    said = as_text(value)
    if len(said) > IDENTITY_TEXT_LIMIT:
        raise Malformed(f"a text of up to {IDENTITY_TEXT_LIMIT} characters was expected")
    return said
