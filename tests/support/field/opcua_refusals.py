"""OPC UA servers that refuse a whole service for one node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.field.case import FieldCase
from tests.support.hostile.opcua_common import TAGS, steady, values
from tests.support.hostile.opcua_request import Question, at
from tests.support.hostile.opcua_server import started

BAD_INTERNAL_ERROR, BAD_RESPONSE_TOO_LARGE = 0x80020000, 0x80B90000
CULPRIT = "s2005"
_TEXT = b"R-17"  # What only the culprit's value holds.


def refusing(code: int) -> Callable[[Path], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """The `start` of a server that refuses every Read of the culprit with this code."""

    def answer(asked: Question) -> bytes:
        return asked.fault(code) if any(_TEXT in value for value in asked.values) else asked.answer

    @asynccontextmanager
    async def start(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
        tags = [dict(tag.settings) for tag in (*TAGS, *steady(2003, 2005))]
        async with started(at("Read", answer), values=values)(folder) as server:
            yield {"driver": "opcua", **server.device, "scan_groups": [{"every": "500 ms", "tags": tags}]}

    return start


def case(name: str, device: str, code: int) -> FieldCase:
    """A server that refuses with this code."""
    return FieldCase(
        id=name,
        device=device,
        does="Divides the request until the node is alone, leaves it out by name and reads the others as before.",
        start=refusing(code),
        values={**{tag.settings["name"]: None for tag in TAGS}, "s2003": 5e-324},
        refused={CULPRIT: code},
    )


CASES = (
    case("opcua-one-node-fails", "A server that refuses a whole Read because of one node", BAD_INTERNAL_ERROR),
    case("opcua-one-node-too-large", "A server with one value too large for any answer", BAD_RESPONSE_TOO_LARGE),
)
