"""CATALOG with member 6: what the devices of a catalogue say they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from edge.model import IDENTITY_MORE_LIMIT, IDENTITY_TEXT_LIMIT, Identity
from edge.seal import cbor
from edge.seal.catalogue import PART_BYTES, CataloguePart, part_from_cbor
from edge.seal.fields import I64, blob, items, numbered, text, whole
from edge.seal.record import Malformed, RecordType


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
    return [cbor.encode({1: digest, 2: 0, 3: 0, 4: [], 5: path, 6: told}) for told in _split(devices)]


def _split(devices: Iterable[KnownDevice]) -> Iterable[list[list[Any]]]:
    told: list[list[Any]] = []
    size_bytes = 0
    for known in devices:
        entry = _to_cbor(known)
        entry_bytes = len(cbor.encode(entry))
        if told and size_bytes + entry_bytes > PART_BYTES:
            yield told
            told, size_bytes = [], 0
        told.append(entry)
        size_bytes += entry_bytes
    if told:
        yield told


def _to_cbor(known: KnownDevice) -> list[Any]:
    said = known.identity
    return [known.device, *said.texts.values(), dict(said.more), known.since_ns]


def catalog_from_cbor(value: object) -> CataloguePart | Identities:
    """The payload of any CATALOG record, or Malformed."""
    if type(value) is not dict or 6 not in value:
        return part_from_cbor(value)
    f = numbered(value, 6)
    if (whole(f[2]), whole(f[3]), items(f[4])) != (0, 0, []):
        raise Malformed("identities are no part of a catalogue, and hold no group")
    devices = tuple(map(_from_cbor, items(f[6])))
    if not devices:
        raise Malformed("identities of no device")
    return Identities(blob(f[1], 8), text(f[5]), devices)


def _from_cbor(value: object) -> KnownDevice:
    device, *texts, more, since_ns = items(value, len(Identity().texts) + 3)
    if type(more) is not dict or len(more) > IDENTITY_MORE_LIMIT:
        raise Malformed(f"a map of up to {IDENTITY_MORE_LIMIT} texts was expected")
    further = sorted((_short(label), _short(said)) for label, said in more.items())
    said = Identity.from_texts(map(_short, texts), further)
    return KnownDevice(text(device), said, whole(since_ns, I64))


def _short(value: object) -> str:
    said = text(value)
    if len(said) > IDENTITY_TEXT_LIMIT:
        raise Malformed(f"a text of up to {IDENTITY_TEXT_LIMIT} characters was expected")
    return said
