"""What devices say of themselves and their tags: sealed with the catalogue, and cached across restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import orjson

from edge.files import replace_file
from edge.logs import get_logger
from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, Identity, TagMetadata
from edge.seal import EncodedCatalogue, KnownDevice, Malformed
from edge.seal.cbor import I64, as_array, as_float, as_int, as_text, optional

TOGETHER_S = 1.0
"""Devices that connect within this time are sealed in one catalogue."""
APART_S = 60.0
"""Shortest time between two catalogues: a device may say something else each time."""

UNIT_LIMIT = 100
DESCRIPTION_LIMIT = 1000
TEXTS_BYTES_LIMIT = 8000
"""A device may send texts of any length, and a tag must fit a record."""

T = TypeVar("T")
_Metadata = dict[int, tuple[TagMetadata, ...]]
_NUMBERS = range(-(2**63), 2**63)

log = get_logger(__name__)


class DeviceInfo:
    """What the devices of a configuration say beyond the configuration.

    Attributes:
        catalogue: the configured catalogue, completed with what the devices say where the configuration is silent.
        on_identity: called with a device whose identity is new.
        on_catalogue: called with `catalogue`, encoded, when it is new.
    """

    def __init__(self, path: Path, configured: Catalogue) -> None:
        """Reads the cache file, so it blocks."""
        self._path = path
        self._configured = configured
        cache = load(path)
        names = {group.device for group in configured.groups}
        self._devices = {known.device: known for known in cache.devices if known.device in names}
        by_name = {(group.device, group.name): group for group in cache.groups}
        self._unanswered = names & set(cache.unanswered)
        self._metadata: _Metadata = {}
        for number, group in enumerate(configured.groups):
            cached = by_name.get((group.device, group.name))
            if cached is not None and cached.is_of(group):
                self._metadata[number] = tuple(map(bounded, cached.facts))
        self._metadata_in_catalogue = dict(self._metadata)
        self.catalogue = self._completed(self._metadata)
        self.on_identity: Callable[[KnownDevice], None] = _ignore
        self.on_catalogue: Callable[[EncodedCatalogue], None] = _ignore
        self._is_new = asyncio.Event()

    @property
    def devices(self) -> tuple[KnownDevice, ...]:
        """The devices whose identity is known, in the order of the configuration."""
        names = dict.fromkeys(group.device for group in self._configured.groups)
        return tuple(self._devices[name] for name in names if name in self._devices)

    def device(self, name: str) -> KnownDevice | None:
        """The last identity of a device, if it is known."""
        return self._devices.get(name)

    def set_identity(self, device: str, identity: Identity, since_ns: int) -> None:
        """Take the first or a changed identity of a device."""
        known = self._devices[device] = KnownDevice(device, identity, since_ns)
        self._unanswered.discard(device)
        self.on_identity(known)
        self._is_new.set()

    def is_unanswered(self, name: str) -> bool:
        """Whether a device is not to be asked what it is: it did not answer that, or was lost over it."""
        return name in self._unanswered

    def set_unanswered(self, device: str) -> None:
        """Keep that a device is not to be asked what it is."""
        self._unanswered.add(device)
        self._is_new.set()

    def set_tag_metadata(self, group: int, metadata: Sequence[TagMetadata]) -> None:
        """Take what a device says of the tags of a scan group; the same metadata again changes nothing."""
        metadata = tuple(map(bounded, metadata))
        if metadata == self._metadata.get(group, ()):
            return
        self._metadata[group] = metadata
        self._is_new.set()

    def take_over(self, before: DeviceInfo, numbers: Mapping[int, int]) -> None:
        """Take what devices have said meanwhile, of scan groups whose new numbers are given by their old ones."""
        for old, new in numbers.items():
            if (metadata := before._metadata.get(old)) is not None:
                self.set_tag_metadata(new, metadata)

    async def run(self) -> NoReturn:
        """Publish new catalogues and save what is new, until cancelled."""
        while True:
            await self._is_new.wait()
            await asyncio.sleep(TOGETHER_S)
            if await self.update():
                await asyncio.sleep(APART_S)

    async def update(self) -> bool:
        """Publish and save what is new; whether the catalogue changed. A disk that refuses is tried next time."""
        self._is_new.clear()
        is_changed = self._metadata != self._metadata_in_catalogue and await self._update_catalogue()
        await self._save()
        return is_changed

    async def close(self) -> None:
        """Save what is new and was not saved yet; it is published after the next start."""
        if self._is_new.is_set():
            await self._save()

    async def _save(self) -> None:
        groups = ((self._configured.groups[number], metadata) for number, metadata in self._metadata.items())
        cached = tuple(CachedGroup.of(group, metadata) for group, metadata in groups if any(metadata))
        with suppress(OSError):
            unanswered = tuple(sorted(self._unanswered))
            cache = DeviceInfoCache(devices=self.devices, groups=cached, unanswered=unanswered)
            await asyncio.to_thread(save, self._path, cache)

    async def _update_catalogue(self) -> bool:
        """Complete the catalogue again, in a thread because a large site takes long; whether it changed."""
        metadata = dict(self._metadata)
        catalogue = await asyncio.to_thread(self._completed, metadata)
        self._metadata_in_catalogue = metadata
        if catalogue == self.catalogue:
            return False
        encoded = await asyncio.to_thread(EncodedCatalogue.of, catalogue)
        self.catalogue = catalogue
        self.on_catalogue(encoded)
        return True

    def _completed(self, metadata: _Metadata) -> Catalogue:
        groups = enumerate(self._configured.groups)
        completed = tuple(with_metadata(group, metadata.get(number, ())) for number, group in groups)
        return replace(self._configured, groups=completed)


def _ignore(_: Any) -> None:
    """Default callback: does nothing."""


# Tag metadata in the catalogue


def bounded(metadata: TagMetadata) -> TagMetadata:
    """The same within limits; a range that is none and enumeration values beyond 64 bits are left out."""
    low, high = metadata.range or (0.0, 0.0)
    is_range = isfinite(low) and isfinite(high) and low < high
    return TagMetadata(
        unit=_utf8(metadata.unit[:UNIT_LIMIT]),
        range=(float(low), float(high)) if is_range else None,
        description=_utf8(metadata.description[:DESCRIPTION_LIMIT]),
        texts=_bounded_texts(metadata.texts),
    )


def _bounded_texts(texts: Sequence[tuple[int, str]]) -> tuple[tuple[int, str], ...]:
    found: dict[int, str] = {}
    room_bytes = TEXTS_BYTES_LIMIT
    for number, value in texts:
        plain = _utf8(value[:DESCRIPTION_LIMIT])
        room_bytes -= len(plain.encode()) + 9
        if room_bytes < 0:
            break
        if number in _NUMBERS:
            found[number] = plain
    return tuple(sorted(found.items()))


def _utf8(value: str) -> str:
    return value.encode("utf-8", "replace").decode()


def with_metadata(group: CatalogueGroup, metadata: Sequence[TagMetadata]) -> CatalogueGroup:
    """The group completed with what the device says of each tag; unchanged where the number of tags differs.

    Layouts never change.
    """
    if len(metadata) != len(group.tags):
        return group
    return replace(group, tags=tuple(map(_with_metadata, group.tags, metadata)))


def _with_metadata(tag: CatalogueTag, metadata: TagMetadata) -> CatalogueTag:
    # The device describes the value as it sends it; a scaled value is in another unit.
    is_raw = (tag.scale, tag.offset) == (1, 0)
    is_number = is_raw and tag.data_type.is_number and tag.time_kind is None
    return replace(
        tag,
        unit=tag.unit or (metadata.unit if is_number else ""),
        range=tag.range or (metadata.range if is_number else None),
        description=tag.description or metadata.description,
        texts=metadata.texts if is_raw and tag.data_type is not DataType.TEXT else (),
    )


# The cache file. It may be damaged, so every value is checked.


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedGroup:
    """Tag metadata of one scan group, with the names and addresses of its tags. The fields are keys of the file."""

    device: str
    name: str
    tags: tuple[tuple[str, str], ...]
    facts: tuple[TagMetadata, ...]

    @classmethod
    def of(cls, group: CatalogueGroup, metadata: tuple[TagMetadata, ...]) -> CachedGroup:
        """The metadata of the tags that a group has now."""
        return cls(device=group.device, name=group.name, tags=_tags_of(group), facts=metadata)

    def is_of(self, group: CatalogueGroup) -> bool:
        """Whether the group still has these tags."""
        return (self.device, self.name, self.tags) == (group.device, group.name, _tags_of(group))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfoCache:
    """The content of the file."""

    devices: tuple[KnownDevice, ...] = ()
    groups: tuple[CachedGroup, ...] = ()
    unanswered: tuple[str, ...] = ()


def load(path: Path) -> DeviceInfoCache:
    """The cache; empty where the file is missing or damaged, because the devices will say it again."""
    try:
        content = orjson.loads(path.read_bytes())
        devices, groups = _members(content, "devices", "groups")
        unanswered = _each(as_text, content.get("unanswered", []))  # A file of before has none.
        return DeviceInfoCache(devices=_each(_device, devices), groups=_each(_group, groups), unanswered=unanswered)
    except FileNotFoundError:
        return DeviceInfoCache()
    except (OSError, ValueError, Malformed) as error:
        log.warning("what devices said cannot be read", file=str(path), reason=str(error))
        return DeviceInfoCache()


def save(path: Path, cache: DeviceInfoCache) -> None:
    """Replace the file durably; raises OSError."""
    replace_file(path, orjson.dumps(cache), 0o640)


def _tags_of(group: CatalogueGroup) -> tuple[tuple[str, str], ...]:
    return tuple((tag.name, tag.address) for tag in group.tags)


def _device(value: object) -> KnownDevice:
    device, said, since_ns = _members(value, "device", "identity", "since_ns")
    *texts, more = _members(said, *Identity().texts, "more")
    return KnownDevice(
        as_text(device), Identity.from_texts(map(as_text, texts), _each(_two_texts, more)), as_int(since_ns, I64)
    )


def _group(value: object) -> CachedGroup:
    device, name, tags, facts = _members(value, "device", "name", "tags", "facts")
    return CachedGroup(
        device=as_text(device), name=as_text(name), tags=_each(_two_texts, tags), facts=_each(_tag_metadata, facts)
    )


def _tag_metadata(value: object) -> TagMetadata:
    unit, span, description, texts = _members(value, "unit", "range", "description", "texts")
    return TagMetadata(
        unit=as_text(unit),
        range=optional(_range, span),
        description=as_text(description),
        texts=_each(_numbered_text, texts),
    )


def _range(value: object) -> tuple[float, float]:
    low, high = as_array(value, 2)
    return as_float(low), as_float(high)


def _two_texts(value: object) -> tuple[str, str]:
    first, second = as_array(value, 2)
    return as_text(first), as_text(second)


def _numbered_text(value: object) -> tuple[int, str]:
    number, label = as_array(value, 2)
    return as_int(number, I64), as_text(label)


def _each(check: Callable[[object], T], value: object) -> tuple[T, ...]:
    return tuple(map(check, as_array(value)))


def _members(value: object, *names: str) -> list[Any]:
    """The values of an object under these names; it may have others. Raises Malformed."""
    if not isinstance(value, dict) or not value.keys() >= set(names):
        raise Malformed(f"an object with {', '.join(names)} was expected")
    return [value[name] for name in names]
