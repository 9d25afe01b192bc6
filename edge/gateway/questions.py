"""What commands ask a device through the running gateway: to read tags of the configuration, and to browse.

Tags are those that were checked at the start: only their names are asked for. So nothing is read that the gateway could
not read anyway, and nothing is written, as a session has no way to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import fields
from hashlib import sha256
from typing import Any

import orjson

from edge.config.settings import GatewaySettings
from edge.driver import Browsable, BrowseEntry, DeviceSettings, Forgets, Session, TagSettings
from edge.errors import ConfigError
from edge.gateway.acquire import Acquisition
from edge.gateway.control import QUESTION_WITHIN_S, GatewayRefuses, Request
from edge.gateway.devices import ConfiguredDevice
from edge.gateway.tag_values import TagsRead, read_tags, with_scales

TAGS_AT_ONCE = 100
"""Most tags of one question: what is read at once should not take longer than a scan."""

_KEPT_S = 60.0
_PIECE_ENTRIES = 200


def place_of(device: DeviceSettings) -> str:
    """What tells a device from another of the same name, in the file of who asks: all that is no section or path."""
    written = {each.name: getattr(device, each.name) for each in fields(device)}
    plain = {key: value for key, value in written.items() if isinstance(value, str | int | float | None)}
    return sha256(repr((device.place, plain)).encode()).hexdigest()


def digest_of(tags: Sequence[TagSettings]) -> str:
    """What tells tags from others of the same names."""
    return sha256(repr(list(tags)).encode()).hexdigest()


class DeviceQuestions:
    """Answers the questions to devices."""

    def __init__(self, acquisition: Acquisition) -> None:
        self._acquisition = acquisition
        self._settings: DeviceSettings | None = None
        self._settings_of: GatewaySettings | None = None
        self._forget_later: asyncio.TimerHandle | None = None

    async def read(self, request: Request) -> bytes:
        """The tags, read once. Raises as `DevicePoller.ask`; GatewayRefuses where the file of who asks has others."""
        known, settings = await self._find(request)
        tags = await asyncio.to_thread(_tags, settings, request)

        async def question(session: Session[Any]) -> TagsRead:
            try:
                plan = known.driver.plan(tags)
            except ConfigError as error:
                raise GatewayRefuses(str(error)) from error
            try:
                return await read_tags(session, plan, tags, wants_inspection=True)
            finally:
                if isinstance(session, Forgets):
                    session.forget(plan)

        return orjson.dumps(await known.poller.ask(question, QUESTION_WITHIN_S))

    async def browse(self, request: Request) -> bytes:
        """The entries below a path. Raises as `DevicePoller.ask`; LookupError where the device is another."""
        known, _ = await self._find(request)

        async def question(session: Session[Any]) -> dict[str, Any]:
            if not isinstance(session, Browsable):
                return {"is_browsable": False}
            try:
                return {"entries": await session.browse(request.path)}
            except LookupError as error:
                return {"no_such_path": str(error.args[0])}

        answer = await known.poller.ask(question, QUESTION_WITHIN_S)
        return await asyncio.to_thread(_as_json, answer)

    async def _find(self, request: Request) -> tuple[ConfiguredDevice, DeviceSettings]:
        site = self._acquisition.settings
        for number, known in enumerate(self._acquisition.devices):
            if known.poller.name == request.device:
                settings = self._settings
                # They are kept compressed, and are others after an apply.
                if settings is None or settings.name != request.device or self._settings_of is not site:
                    settings = await asyncio.to_thread(site.devices.__getitem__, number)
                    self._keep(settings, site)
                if request.place != place_of(settings):
                    raise LookupError(f"the running gateway reads another device as {request.device!r}")
                return known, settings
        raise LookupError(f"the running gateway has no device {request.device!r}")

    def _keep(self, settings: DeviceSettings, site: GatewaySettings) -> None:
        self._settings, self._settings_of = settings, site
        if self._forget_later is not None:
            self._forget_later.cancel()
        self._forget_later = asyncio.get_running_loop().call_later(_KEPT_S, self._forget)

    def _forget(self) -> None:
        self._settings = self._settings_of = None


def _tags(device: DeviceSettings, request: Request) -> list[TagSettings]:
    held = {tag.name: tag for group in device.scan_groups for tag in group.tags}
    tags = [held[name] for name in request.tags if name in held]
    if len(tags) < len(request.tags) or request.digest != digest_of(tags):
        raise GatewayRefuses(f"the running gateway has other settings of these tags of {device.name}: its file has "
                             "changed since; tidegate apply takes it into use")  # fmt: skip
    if len(request.tags) > TAGS_AT_ONCE:
        raise GatewayRefuses(f"at most {TAGS_AT_ONCE} tags are read at once, got {len(request.tags)}")
    return with_scales(device, tags)


def _as_json(answer: dict[str, Any]) -> bytes:
    """In pieces: while orjson writes one, no other thread runs, so no scan."""
    entries: Sequence[BrowseEntry] | None = answer.pop("entries", None)
    if entries is None:
        return orjson.dumps(answer)
    pieces = (orjson.dumps(entries[at : at + _PIECE_ENTRIES])[1:-1] for at in range(0, len(entries), _PIECE_ENTRIES))
    return b'{"entries":[' + b",".join(pieces) + b"]}"
