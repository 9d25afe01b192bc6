"""The plant of the two servers as a client sees it, and the servers as processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from drivers.opcua import OpcuaDriver, OpcuaKind
from drivers.opcua.certificates import Application
from drivers.opcua.plan import SubscriptionPlan
from drivers.opcua.services import READING_SERVICES
from drivers.opcua.session_setup import open_session
from drivers.opcua.settings import OpcuaDevice
from drivers.opcua.trust import TrustList
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.errors import DeviceRefused
from edge.model import Layout, Notification
from edge.testing.proxy import RecordingProxy
from tests.peers.opcua.node_opcua import NODE, modules, node
from tests.support.ports import free_port

HERE = Path(__file__).parent
NODES = "nsu=urn:tidegate:plant;s="
BROKEN = 0x808C0000  # BadSensorFailure
EXPECTED: dict[str, tuple[str, Any]] = {
    "Flag": ("bool", True), "Int8": ("int8", -8), "UInt8": ("uint8", 8), "Int16": ("int16", -16),
    "UInt16": ("uint16", 16), "Int32": ("int32", -32), "UInt32": ("uint32", 32), "Int64": ("int64", -64),
    "UInt64": ("uint64", 64), "Float32": ("float32", 0.25), "Float64": ("float64", 0.125), "Text": ("text", "µ-Ω é"),
    "Phrase": ("text", "running"), "When": ("datetime", 1_767_323_045_678_000_000), "Mode": ("enumeration", 2),
    "Temperature": ("float64", 37.0), "Floats[1]": ("float32", 2.5), "Setpoint.Target": ("float64", 36.5),
    "Setpoint.Ramp": ("uint16", 7),
}  # fmt: skip
DEADLINE_S = 8


class Server:
    """One of the two servers in a process of its own."""

    def __init__(self, kind: str, folder: Path, *options: str) -> None:
        self.kind, self._folder, self._options = kind, folder / kind, options
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        """Start, on the same port as before."""
        environment = dict(os.environ)
        command: list[str | Path] = [sys.executable, HERE / "asyncua_server.py"]
        if self.kind == "node-opcua":
            environment["NODE_PATH"] = str(modules())
            command = [node(), NODE / "server.cjs"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [*command, self._folder, "--port", str(self.port), *self._options, *options],
            stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        assert int(self._line()) == self.port

    def tell(self, *words: object) -> None:
        """Send a command, and wait until it is done."""
        assert self._process is not None
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)
        assert self._line() == "done"

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def end(self) -> None:
        """Kill it."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.communicate()

    def _line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def running(kind: str, folder: Path, *options: str) -> Iterator[Server]:
    server = Server(kind, folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.end()


@dataclass
class Heard:
    """The values that a subscription reported, by tag."""

    layout: Layout
    names: list[str]
    changes: list[Notification] = field(default_factory=list)
    values: dict[str, list[Any]] = field(default_factory=dict)
    codes: dict[str, list[int]] = field(default_factory=dict)
    source_times: dict[str, list[int]] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, changes: Notification) -> None:
        self.changes.append(changes)
        assert changes.asked_at_ns <= changes.answered_at_ns
        assert changes.source_times is not None
        columns = zip(changes.vectors, changes.positions, changes.codes, changes.source_times, strict=True)
        for members, column in zip(self.layout.members, columns, strict=True):
            for value, position, code, time in zip(*column, strict=True):
                name = self.names[members[position]]
                self.values.setdefault(name, []).append(value if isinstance(value, str) else value.item())
                self.codes.setdefault(name, []).append(int(code))
                self.source_times.setdefault(name, []).append(int(time))
        self._news.set()

    @property
    def violations(self) -> list[str]:
        return [sentence for changes in self.changes for sentence in changes.violations]

    async def until(self, is_so: Callable[[], Any]) -> None:
        """Wait for it."""
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():
                self._news.clear()
                await self._news.wait()


def tag_of(name: str, kind: str, **keys: Any) -> dict[str, Any]:
    """A tag named like its node, with an element or member if the name has one."""
    node, _, member = name.partition(".")
    node, _, index = node.partition("[")
    within = {"index": int(index[:-1])} if index else {"field": member} if member else {}
    return {"name": name, "address": NODES + node, "type": kind, **within, **keys}


ALL_TAGS = [tag_of(name, kind) for name, (kind, _) in EXPECTED.items()]


def device_at(
    port: int, tags: list[dict[str, Any]], *, every: str = "50 ms", subscribe: Any = None, **keys: Any
) -> Any:
    groups = [{"every": every, "tags": tags, **({} if subscribe is None else {"subscribe": subscribe})}]
    return settings_from(OpcuaDevice,
        {"name": "plant", "driver": "opcua", "url": f"opc.tcp://127.0.0.1:{port}/plant", "security": "none",
         "scan_groups": groups, **keys}
    )  # fmt: skip


async def secured(port: int, folder: Path, mode: str) -> dict[str, Any]:
    """Keys of a device at a server that trusts every client, and whose certificate is trusted in this folder."""
    trust, application = TrustList(folder), Application("t", "gateway", ("gateway",))
    await asyncio.to_thread(trust.create, application, datetime.now(UTC), days=30, bits=2048)
    keys: dict[str, Any] = {"security": {"policy": "Basic256Sha256", "mode": mode}, "certificates": str(folder)}
    with pytest.raises(DeviceRefused, match="trust"):
        async with open_session(device_at(port, [tag_of("Flag", "bool")], **keys), SystemClock()):
            pass
    for kept in await asyncio.to_thread(lambda: list(trust.certificates_in("rejected"))):
        await asyncio.to_thread(trust.trust, kept.certificate)
    return keys


class Watched:
    """A device with one subscribed scan group, and its values over all sessions."""

    def __init__(self, device: OpcuaDevice) -> None:
        self.driver: OpcuaDriver = OpcuaKind().driver(device, SystemClock())
        group = device.scan_groups[0]
        self.plan: SubscriptionPlan = self.driver.plan_subscription(group)
        self.heard = Heard(self.plan.layout, [tag.name for tag in group.tags])

    @asynccontextmanager
    async def session(self) -> Any:
        """A session that receives notifications; yields the task."""
        async with self.driver.connect() as session:
            listening = asyncio.create_task(session.receive_notifications(self.plan, self.heard))
            try:
                yield listening
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)


async def soon(awaited: Awaitable[Any]) -> Any:
    async with asyncio.timeout(DEADLINE_S):
        return await awaited


def services_in(stream: bytes) -> list[int]:
    """The service of each request in what a client sent, where its body can be read (OPC 10000-6, 6.7.2)."""
    services, is_first = [], True
    while stream:
        kind, chunk, size = stream[:3], stream[3:4], int.from_bytes(stream[4:8], "little")
        body = stream[24:size]
        if kind == b"OPN":
            services.append(446)
        elif kind == b"CLO":
            services.append(452)
        elif kind == b"MSG" and is_first:
            assert body[:2] == b"\x01\x00"
            services.append(int.from_bytes(body[2:4], "little"))
        elif kind != b"MSG":
            assert kind == b"HEL"
        is_first = chunk == b"F"
        stream = stream[size:]
    return services


def assert_only_read(proxy: RecordingProxy) -> None:
    """S2: nothing but reading services crossed."""
    services = [service for recording in proxy.recordings for service in services_in(bytes(recording.sent))]
    assert services
    assert set(services) <= set(READING_SERVICES)
