"""CATALOG: what the group numbers and positions of DATA mean."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType
from edge.seal import cbor
from edge.seal.fields import I64, blob, choice, items, numbered, optional, real, text, whole
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
        *([[part for text in tag.texts for part in text]] if tag.texts else ()),
    ]  # fmt: skip


def part_from_cbor(value: object) -> CataloguePart:
    """The payload of a CATALOG record, or Malformed."""
    f = numbered(value, 5)
    part, parts = whole(f[2]), whole(f[3])
    if part >= parts:
        raise Malformed(f"part {part} of {parts} does not exist")
    groups = tuple(_group_from_cbor(group) for group in items(f[4]))
    return CataloguePart(blob(f[1], 8), part, parts, groups, text(f[5]))


def _group_from_cbor(value: object) -> tuple[int, CatalogueGroup]:
    number, device, name, interval_ns, tags = items(value, 5)
    group = CatalogueGroup(
        device=text(device), name=text(name), interval_ns=whole(interval_ns),
        tags=tuple(map(_tag_from_cbor, items(tags))),
    )  # fmt: skip
    return whole(number), group


def _range(value: object) -> tuple[float, float]:
    low, high = items(value, 2)
    return real(low), real(high)


def _tag_from_cbor(value: object) -> CatalogueTag:
    members = items(value)
    name, code, address, unit, scale, offset, limits, deadband, at_most_ns, at_least_ns, description = items(
        members[:11], 11
    )
    return CatalogueTag(
        name=text(name), data_type=choice(DataType.from_code, code), address=text(address), unit=text(unit),
        scale=real(scale), offset=real(offset), range=optional(_range, limits), deadband=real(deadband),
        at_most_every_ns=whole(at_most_ns, I64), at_least_every_ns=whole(at_least_ns, I64),
        description=text(description), texts=_texts(members[11:]),
    )  # fmt: skip


def _texts(members: Sequence[object]) -> tuple[tuple[int, str], ...]:
    """The optional last member of a tag: number, text, number, text, by ascending number."""
    if not members:
        return ()
    flat = items(items(list(members), 1)[0])
    if not flat or len(flat) % 2:
        raise Malformed("numbers and their texts were expected")
    numbers = [whole(number, I64) for number in flat[::2]]
    if any(number >= following for number, following in pairwise(numbers)):
        raise Malformed("the numbers of an enumeration are not in ascending order")
    return tuple(zip(numbers, map(text, flat[1::2]), strict=True))
