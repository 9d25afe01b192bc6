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
    FieldCase(
        id="modbus-transaction-0",
        device="A device that answers with transaction id 0",
        does="Refuses its answers; with `tolerate: [transaction]`, one request at a time, and each timeout ends it.",
        start=started("transaction-0"),
        values=VALUES,
        needs={"tolerate": ["transaction"]},
        says="tolerate: [transaction]",
    ),
    FieldCase(
        id="modbus-other-unit",
        device="A device whose answers name unit 0, whichever was asked",
        does="Refuses its answers and says which unit came; with `unit` or `tolerate: [unit]` they are accepted.",
        start=started("unit-0"),
        values=VALUES,
        needs={"tolerate": ["unit"]},
        says="try unit: 0, or tolerate: [unit]",
    ),
    FieldCase(
        id="modbus-wrong-length",
        device="A device with a wrong length field",
        does="Refuses its answers; with `tolerate: [length]` the count of bytes is believed and not the length field.",
        start=started("length-short"),
        values=VALUES,
        needs={"tolerate": ["length"]},
        says="try tolerate: [length]",
    ),
)
