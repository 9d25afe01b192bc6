"""The file in which what devices said outlives a restart. It may have been spoilt: nothing in it is taken unseen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson

from edge.files import replace_file
from edge.logs import get_logger
from edge.model import CatalogueGroup, Identity, TagMetadata
from edge.seal import KnownDevice, Malformed
from edge.seal.cbor import I64, as_array, as_float, as_int, as_text, optional

T = TypeVar("T")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptGroup:
    """Facts of one scan group, and of which tags: another tag of the same name is not meant."""

    device: str
    name: str
    tags: tuple[tuple[str, str], ...]
    facts: tuple[TagMetadata, ...]

    @classmethod
    def of(cls, group: CatalogueGroup, facts: tuple[TagMetadata, ...]) -> KeptGroup:
        """Facts of the tags that a group has now."""
        return cls(device=group.device, name=group.name, tags=_tags_of(group), facts=facts)

    def is_of(self, group: CatalogueGroup) -> bool:
        """Whether the group still has these tags."""
        return (self.device, self.name, self.tags) == (group.device, group.name, _tags_of(group))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfoCache:
    """The content of the file."""

    devices: tuple[KnownDevice, ...] = ()
    groups: tuple[KeptGroup, ...] = field(default=())


def load(path: Path) -> DeviceInfoCache:
    """What was written down; nothing where that is not there, or was spoilt: the devices will say it again."""
    try:
        return _kept(orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return DeviceInfoCache()
    except (OSError, ValueError, Malformed) as error:
        log.warning("what devices said cannot be read", file=str(path), reason=str(error))
        return DeviceInfoCache()


def save(path: Path, kept: DeviceInfoCache) -> None:
    """Write it down durably, or OSError."""
    replace_file(path, orjson.dumps(kept), 0o640)


def _tags_of(group: CatalogueGroup) -> tuple[tuple[str, str], ...]:
    return tuple((tag.name, tag.address) for tag in group.tags)


def _kept(value: object) -> DeviceInfoCache:
    devices, groups = _members(value, "devices", "groups")
    return DeviceInfoCache(devices=_each(_device, devices), groups=_each(_group, groups))


def _device(value: object) -> KnownDevice:
    device, said, since_ns = _members(value, "device", "identity", "since_ns")
    *texts, more = _members(said, *Identity().texts, "more")
    identity = Identity.from_texts(map(as_text, texts), _each(_two_texts, more))
    return KnownDevice(as_text(device), identity, as_int(since_ns, I64))


def _group(value: object) -> KeptGroup:
    device, name, tags, facts = _members(value, "device", "name", "tags", "facts")
    return KeptGroup(
        device=as_text(device), name=as_text(name), tags=_each(_two_texts, tags), facts=_each(_facts, facts)
    )


def _facts(value: object) -> TagMetadata:
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
    number, said = as_array(value, 2)
    return as_int(number, I64), as_text(said)


def _each(check: Callable[[object], T], value: object) -> tuple[T, ...]:
    return tuple(map(check, as_array(value)))


def _members(value: object, *names: str) -> list[Any]:
    """The members of an object that has these, and perhaps others."""
    if not isinstance(value, dict) or not value.keys() >= set(names):
        raise Malformed(f"an object with {', '.join(names)} was expected")
    return [value[name] for name in names]
