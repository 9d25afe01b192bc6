"""Devices with Modbus TCP whose frames are not quite those of the standard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.field.case import FieldCase
from tests.support.hostile.modbus import MODBUS_TCP, TAGS, UNIT

VALUES: Mapping[str, Any] = {tag.settings["name"]: None for tag in TAGS}  # They change all the time.


def started(name: str) -> Callable[[Path], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """Starts the device of a hostile behaviour."""

    @asynccontextmanager
    async def start(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
        async with MODBUS_TCP[name].start(folder) as peer:
            groups = [{"every": "1 s", "tags": [dict(tag.settings) for tag in TAGS]}]
            yield {"driver": "modbus", "unit": UNIT, **peer.device, "scan_groups": groups}

    return start


CASES = (
    FieldCase(
        id="modbus-bytes-behind-the-answer",
        device="A converter that sends a checksum behind the answer, also in the next packet",
        does="Drops and reports bytes that belong to no answer, where one request is under way at a time.",
        start=started("checksum-apart"),
        values=VALUES,
    ),
    FieldCase(
        id="modbus-padding-behind-the-answer",
        device="A device whose answers all have the same length, filled up with zeros",
        does="Drops and reports bytes that belong to no answer, where one request is under way at a time.",
        start=started("padding-after"),
        values=VALUES,
    ),
)
