"""A protocol that needs no network: its devices can be found, browsed and asked who they are."""

from __future__ import annotations

import os
from asyncio import Event
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.clock import Clock
from edge.driver import (
    BrowseEntry,
    DeviceSettings,
    Discovered,
    DriverKind,
    PlanCost,
    ScanGroupSettings,
    TagSettings,
    Target,
)
from edge.errors import ConfigError, DeviceUnreachable, Problem
from edge.model import DataType, Identity, Layout
from edge.settings import MinLen

SITE = """\
gateway: {name: line-4, path: acme/basel, state: state}
uplink: {mqtt: {host: 127.0.0.1, tls: off}}
"""


@dataclass(frozen=True, kw_only=True)
class ToyTag(TagSettings):
    address: str
    """Where it is."""
    type: Literal["float32", "uint16"] = "float32"
    """What it is."""

    @property
    def data_type(self) -> DataType:
        return DataType[self.type.upper()]

    @property
    def address_text(self) -> str:
        return self.address


@dataclass(frozen=True, kw_only=True)
class ToyGroup(ScanGroupSettings):
    tags: Sequence[ToyTag] = ()


@dataclass(frozen=True, kw_only=True)
class ToyDevice(DeviceSettings):
    driver: Literal["toy"]
    host: str
    unit: int = 1
    scan_groups: Annotated[Sequence[ToyGroup], MinLen(1)]


class ToyPlan:
    def __init__(self, tags: Sequence[ToyTag]) -> None:
        self.layout = Layout(tuple(tag.data_type for tag in tags))

    def cost(self) -> PlanCost:
        return PlanCost(tags=len(self.layout), requests=1, request_bytes=0, answer_bytes=0, took_ns=0)

    def describe(self) -> Sequence[str]:
        return ()


class Toy:
    """The kind, the driver and the session of every toy.

    Attributes:
        tree: what is below each path.
        answers: hosts and what is found there: devices, an error, or the signal of Ctrl-C.
        pauses: how often somebody paused.
        identities: what each host says it is; one that is not here does not answer.
        asked: hosts in the order in which they were asked.
    """

    settings = ToyDevice

    def __init__(self) -> None:
        self.tree: dict[str, list[BrowseEntry]] = {}
        self.answers: dict[str, Sequence[Discovered] | Exception | int] = {}
        self.pauses = 0
        self.identities: dict[str, Identity] = {}
        self.asked: list[str] = []

    async def discover(self, target: Target, pause: Callable[[], Awaitable[None]]) -> Sequence[Discovered]:
        await pause()
        self.pauses += 1
        self.asked.append(str(target))
        answer = self.answers.get(target.host, ())
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            os.kill(os.getpid(), answer)
            await Event().wait()
        return answer if isinstance(answer, Sequence) else ()

    def driver(self, device: Any, clock: Clock) -> Any:
        return ToyDriver(self, device)


class ToyDriver:
    def __init__(self, toy: Toy, device: ToyDevice) -> None:
        self._toy, self._host = toy, device.host

    def plan(self, tags: Sequence[ToyTag]) -> ToyPlan:
        if bad := [Problem("is nowhere", path=tag.name) for tag in tags if tag.address == "nowhere"]:
            raise ConfigError(bad)
        return ToyPlan(tags)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[ToySession | BrowsableToySession]:
        self._toy.asked.append(self._host)
        if self._host not in self._toy.identities:
            raise DeviceUnreachable(f"{self._host}: nobody answers")
        yield (BrowsableToySession if self._toy.tree else ToySession)(self._toy, self._host)


class ToySession:
    def __init__(self, toy: Toy, host: str) -> None:
        self._toy, self._host = toy, host

    async def identity(self) -> Identity:
        return self._toy.identities[self._host]


class BrowsableToySession(ToySession):
    async def browse(self, path: str) -> Sequence[BrowseEntry]:
        return self._toy.tree[path]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    """The one driver that is installed."""
    toy = Toy()

    def load(name: str) -> DriverKind:
        if name != "toy":
            raise ConfigError(f"no driver is called {name!r}; installed are toy")
        return toy

    for command in ("discover", "browse", "inventory"):
        monkeypatch.setattr(f"edge.cli.{command}.load", load)
    monkeypatch.setattr("edge.cli.discover.installed", lambda: ("toy",))
    return toy


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., Path]:
    """Writes a configuration with these devices, in YAML."""

    def write(devices: str, **files: str) -> Path:
        for name, text in files.items():
            (tmp_path / name.replace("_csv", ".csv")).write_text(text)
        path = tmp_path / "site.yaml"
        path.write_text(SITE + devices)
        return path

    return write


@pytest.fixture
def tidegate() -> Callable[..., Result]:
    """Runs a command."""
    return lambda *arguments, **more: CliRunner().invoke(cli, list(map(str, arguments)), **more)
