"""CATALOG with member 6: what the devices of a catalogue say they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from edge.model import Identity
from edge.seal import cbor
from edge.seal.catalogue import PART_BYTES, CataloguePart, part_from_cbor
from edge.seal.fields import I64, blob, items, numbered, text, whole
from edge.seal.record import Malformed, RecordType

TEXT_LIMIT = 200
"""Most characters of one text: a device may say anything."""
MORE_LIMIT = 32
"""Most further texts of one device."""

_TEXTS = tuple(each.name for each in fields(Identity) if each.name != "more")


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


def bounded(identity: Identity) -> Identity:
    """The same within the bounds of a record, and in the one order of its further texts."""
    more = {_cut(label): _cut(said) for label, said in identity.more[:MORE_LIMIT]}
    return Identity(**{name: _cut(getattr(identity, name)) for name in _TEXTS}, more=tuple(sorted(more.items())))


def _cut(said: str) -> str:
    """What a text is in UTF-8: half of a surrogate pair is not."""
    return said[:TEXT_LIMIT].encode("utf-8", "replace").decode()


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
    return [known.device, *(getattr(said, name) for name in _TEXTS), dict(said.more), known.since_ns]


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
    device, *texts, more, since_ns = items(value, len(_TEXTS) + 3)
    if type(more) is not dict or len(more) > MORE_LIMIT:
        raise Malformed(f"a map of up to {MORE_LIMIT} texts was expected")
    further = sorted((_short(label), _short(said)) for label, said in more.items())
    said = Identity(**_named(texts), more=tuple(further))
    return KnownDevice(text(device), said, whole(since_ns, I64))


def _named(texts: Sequence[object]) -> dict[str, Any]:
    return dict(zip(_TEXTS, map(_short, texts), strict=True))


def _short(value: object) -> str:
    said = text(value)
    if len(said) > TEXT_LIMIT:
        raise Malformed(f"a text of up to {TEXT_LIMIT} characters was expected")
    return said
