"""The witness of Logix controllers and other CIP devices: pycomm3, in a thread because it blocks.

The controller's own tag list gives the type of each value. Of a device without one, an attribute is read and decoded
as the type that the tag declares.
"""

from __future__ import annotations

import asyncio
import re
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar, cast

from pycomm3 import CIPDriver, LogixDriver, PycommError, Services

from hil.witness import BAD, BAD_NO_COMMUNICATION, GOOD, Seen, Value, boot_ns, cannot_read, named

T = TypeVar("T")
_TYPES = {
    "BOOL": ("bool", "?"), "SINT": ("int8", "b"), "INT": ("int16", "h"), "DINT": ("int32", "i"), "LINT": ("int64", "q"),
    "USINT": ("uint8", "B"), "UINT": ("uint16", "H"), "UDINT": ("uint32", "I"), "ULINT": ("uint64", "Q"),
    "REAL": ("float32", "f"), "LREAL": ("float64", "d"), "BYTE": ("uint8", "B"), "WORD": ("uint16", "H"),
    "DWORD": ("uint32", "I"), "LWORD": ("uint64", "Q"), "STRING": ("text", ""),
}  # fmt: skip
_ATTRIBUTE = re.compile(r"cip\s+(\w+)/(\w+)/(\w+)(?:\s*\+\s*(\w+))?(?:\s*\[(\d+)\])?", re.IGNORECASE)


class LogixReader:
    """See `hil.witness.Reader`."""

    library = named("pycomm3")

    def __init__(self, device: Any, tags: Sequence[Any]) -> None:
        if device.family == "omron":
            raise cannot_read(device, "controllers of Omron")
        if others := [tag.name for tag in tags if tag.type not in _TYPES]:
            raise cannot_read(device, "dates, durations and texts of an attribute", others)
        self._device, self._tags = device, tags
        self._attributes = {tag.name: match for tag in tags if (match := _ATTRIBUTE.fullmatch(tag.address))}
        if odd := [tag.name for tag in tags if tag.address.startswith("cip ") and tag.name not in self._attributes]:
            raise cannot_read(device, "a bit of an attribute", odd)
        self._client: CIPDriver | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await _in_thread(self._close)

    async def read(self) -> list[Seen]:
        """See `hil.witness.Reader`."""
        return [await _in_thread(self._read, tag) for tag in self._tags]

    def _read(self, tag: Any) -> Seen:
        asked_ns = boot_ns()
        try:
            client = self._connected()
            asked_ns = boot_ns()
            value, kind, status = self._asked(client, tag)
        except (PycommError, OSError, struct.error):
            value, kind, status = None, _TYPES[tag.type][0], BAD_NO_COMMUNICATION
            self._close()
        return Seen(tag.name, value, kind, status, asked_ns, boot_ns())

    def _asked(self, client: CIPDriver, tag: Any) -> tuple[Value | None, str, int]:
        match = self._attributes.get(tag.name)
        declared, code = _TYPES[tag.type]
        if match is None:
            assert isinstance(client, LogixDriver)
            answer = client.read(tag.address)
            if answer.error or answer.value is None:
                return None, declared, BAD
            # pycomm3 names a text by its structure, which controllers give many names.
            is_text = isinstance(answer.value, str)
            return answer.value, "text" if is_text else _TYPES.get(answer.type, (answer.type,))[0], GOOD
        numbers = [int(part, 0) for part in match.groups()[:3]]
        answer = client.generic_message(
            service=Services.get_attribute_single, class_code=numbers[0], instance=numbers[1], attribute=numbers[2],
            connected=False, route_path=bool(self._path.partition("/")[2]),
        )  # fmt: skip
        if answer.error or answer.value is None:
            return None, declared, BAD
        at = int(match[4] or "0", 0) + int(match[5] or 0) * struct.calcsize(code)
        return struct.unpack_from(f"<{code}", answer.value, at)[0], declared, GOOD

    @property
    def _path(self) -> str:
        """The way to the device as pycomm3 writes it."""
        device = self._device
        route = device.route.replace(" ", "").replace(",", "/") if device.route else device.slot
        if route is None:
            route = 0 if device.family == "logix" else ""
        return f"{device.host}:{device.port}" + (f"/{route}" if route != "" else "")

    def _connected(self) -> CIPDriver:
        if self._client is None:
            needs_list = len(self._attributes) < len(self._tags)
            client = LogixDriver(self._path) if needs_list else CIPDriver(self._path)
            client.socket_timeout = self._device.limits.timeout / 1e9
            client.open()  # type: ignore[no-untyped-call]
            self._client = client
        return self._client

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(PycommError, OSError):  # The connection may have ended before.
                client.close()  # type: ignore[no-untyped-call]


async def _in_thread(act: Callable[..., T], *arguments: Any) -> T:
    """What a function gives in a thread that this process does not wait for when it ends: pycomm3 may hang in it."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if not found.done():
            found.set_exception(error) if error else found.set_result(cast("T", result))

    def run() -> None:
        result, problem = None, None
        try:
            result = act(*arguments)
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            problem = error
        with suppress(RuntimeError):  # The loop has ended meanwhile.
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, name="witness", daemon=True).start()
    return await found
