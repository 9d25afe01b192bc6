"""A device that a running gateway holds, asked through the gateway, so that a command does not compete with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.driver import BrowseEntry, DeviceSettings, TagSettings
from edge.gateway.control import GatewayRefuses, Request, ask
from edge.gateway.questions import digest_of, place_of
from edge.gateway.tag_values import ReadValue, TagsRead, ValueAs

DIRECT = "--direct asks the device on a connection of its own"


class NotHeld(Exception):
    """No running gateway holds the device: it may be asked directly."""


class AskedThroughGateway:
    """A device that the gateway at a control socket asks in its own session, between its scans.

    Every method raises NotHeld where no gateway runs there, or it has no such device; GatewayRefuses, with a sentence
    for people, where it does not answer.
    """

    def __init__(self, control: Path, device: DeviceSettings) -> None:
        self._control, self._device = control, device

    async def browse(self, path: str) -> Sequence[BrowseEntry]:
        """See `edge.driver.Browsable.browse`; NotImplementedError where the device cannot be browsed."""
        answer = await self._ask(ask="browse", path=path)
        if not answer.get("is_browsable", True):
            raise NotImplementedError
        if "no_such_path" in answer:
            raise LookupError(answer["no_such_path"])
        return [BrowseEntry(**entry) for entry in answer["entries"]]

    async def read(self, tags: Sequence[TagSettings]) -> TagsRead:
        """Tags of the configuration, read now. Raises DeviceUnreachable."""
        names = [tag.name for tag in tags]
        answer = await self._ask(ask="read", tags=names, digest=digest_of(tags))
        values = (
            ReadValue(**value | {"readings": tuple(ValueAs(**each) for each in value["readings"])})
            for value in answer["values"]
        )
        return TagsRead(
            took_ns=answer["took_ns"], values=tuple(values), violations=tuple(answer["violations"]),
            explanations=tuple(answer["explanations"]),
        )  # fmt: skip

    async def _ask(self, **question: Any) -> Mapping[str, Any]:
        request = Request(device=self._device.name, place=place_of(self._device), **question)
        try:
            answer = await ask(self._control, request)
        except GatewayRefuses as error:
            raise GatewayRefuses(f"{error}; {DIRECT}", code=error.code) from error
        except LookupError as error:
            raise NotHeld(str(error)) from error
        if answer is None:
            raise NotHeld("no gateway runs any more")
        return answer
