"""What devices say of themselves and their tags: sealed with the catalogue, and remembered across restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from edge.model import Catalogue, Identity, TagMetadata
from edge.recorder.device_info_file import DeviceInfoCache, KeptGroup, load, save
from edge.recorder.tag_metadata import bounded, with_facts
from edge.seal import EncodedCatalogue, KnownDevice

TOGETHER_S = 1.0
"""Devices that connect one after the other are sealed in one catalogue."""
APART_S = 60.0
"""Shortest time between two catalogues: a device may say something else each time."""

_Facts = dict[int, tuple[TagMetadata, ...]]


class DeviceInfo:
    """What is known of the devices of a configuration beyond what it says.

    Attributes:
        catalogue: the catalogue of now, with what the devices say where the configuration is silent.
        on_identity: told of a device whose identity is new.
        on_catalogue: told of `catalogue` when it is new.
    """

    def __init__(self, path: Path, configured: Catalogue) -> None:
        """Reads a file: not for the event loop."""
        self._path = path
        self._configured = configured
        kept = load(path)
        names = {group.device for group in configured.groups}
        self._devices = {known.device: known for known in kept.devices if known.device in names}
        by_name = {(group.device, group.name): group for group in kept.groups}
        self._facts: _Facts = {}
        for number, group in enumerate(configured.groups):
            held = by_name.get((group.device, group.name))
            if held is not None and held.is_of(group):
                self._facts[number] = tuple(map(bounded, held.facts))
        self._facts_in_catalogue = dict(self._facts)
        self.catalogue = self._with(self._facts)
        self.on_identity: Callable[[KnownDevice], None] = _nobody
        self.on_catalogue: Callable[[EncodedCatalogue], None] = _nobody
        self._is_new = asyncio.Event()

    @property
    def devices(self) -> tuple[KnownDevice, ...]:
        """The devices that have said what they are, in the order of the configuration."""
        names = dict.fromkeys(group.device for group in self._configured.groups)
        return tuple(self._devices[name] for name in names if name in self._devices)

    def device(self, name: str) -> KnownDevice | None:
        """What a device last said it is."""
        return self._devices.get(name)

    def set_identity(self, device: str, identity: Identity, since_ns: int) -> None:
        """A device says that it is another than it was, or says it for the first time."""
        known = self._devices[device] = KnownDevice(device, identity, since_ns)
        self.on_identity(known)
        self._is_new.set()

    def set_tag_metadata(self, group: int, metadata: Sequence[TagMetadata]) -> None:
        """What a device says of the tags of a scan group; the same again changes nothing."""
        said = tuple(map(bounded, metadata))
        if said == self._facts.get(group, ()):
            return
        self._facts[group] = said
        self._is_new.set()

    async def run(self) -> NoReturn:
        """Tell of a new catalogue and write down what is new, until cancelled."""
        while True:
            await self._is_new.wait()
            await asyncio.sleep(TOGETHER_S)
            if await self.update():
                await asyncio.sleep(APART_S)

    async def update(self) -> bool:
        """Tell and write down what is new now; whether the catalogue is. A disk that refuses is asked next time."""
        self._is_new.clear()
        is_another = self._facts != self._facts_in_catalogue and await self._change_catalogue(dict(self._facts))
        kept = DeviceInfoCache(devices=self.devices, groups=tuple(self._kept_groups()))
        with suppress(OSError):
            await asyncio.to_thread(save, self._path, kept)
        return is_another

    async def _change_catalogue(self, facts: _Facts) -> bool:
        """Put facts into the catalogue; whether that changes it. The loop must not wait for that of a large site."""
        catalogue = await asyncio.to_thread(self._with, facts)
        self._facts_in_catalogue = facts
        if catalogue == self.catalogue:
            return False
        encoded = await asyncio.to_thread(EncodedCatalogue.of, catalogue)
        self.catalogue = catalogue
        self.on_catalogue(encoded)
        return True

    def _with(self, facts: _Facts) -> Catalogue:
        groups = enumerate(self._configured.groups)
        return replace(
            self._configured, groups=tuple(with_facts(group, facts.get(number, ())) for number, group in groups)
        )

    def _kept_groups(self) -> list[KeptGroup]:
        groups = ((self._configured.groups[number], facts) for number, facts in self._facts.items() if any(facts))
        return [KeptGroup.of(group, facts) for group, facts in groups]


def _nobody(_: Any) -> None:
    """Told of nothing."""
