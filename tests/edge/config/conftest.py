"""A protocol that needs no network, and files to check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from edge.clock import Clock
from edge.config.check import Checked, check
from edge.driver import DeviceSettings, DriverKind, PlanCost, ScanGroupSettings, TagSettings
from edge.errors import ConfigError, Problem
from edge.model import DataType, Layout
from edge.settings import Interval, MinLen, Settings


@dataclass(frozen=True, kw_only=True)
class ToyTag(TagSettings):
    address: Annotated[int, Interval(ge=0, le=999)]
    """Number of the value, from 0 to 999."""
    type: Literal["float32", "uint16"] = "float32"
    """Type of the value."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.type == "float32" and self.address == 999:
            raise ValueError("address 999 has no room for a float32")

    @property
    def data_type(self) -> DataType:
        return DataType[self.type.upper()]

    @property
    def address_text(self) -> str:
        return str(self.address)


@dataclass(frozen=True, kw_only=True)
class ToyGroup(ScanGroupSettings):
    tags: tuple[ToyTag, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ToyLimits(Settings):
    answer_ms: int = 1
    """Time of one answer."""
    forbidden: tuple[int, ...] = ()
    """Addresses that are never read."""


@dataclass(frozen=True, kw_only=True)
class ToyDevice(DeviceSettings):
    driver: Literal["toy"]
    host: str
    """Address of the device."""
    limits: ToyLimits = ToyLimits()
    scan_groups: Annotated[tuple[ToyGroup, ...], MinLen(1)]


class ToyPlan:
    def __init__(self, tags: Sequence[ToyTag], answer_ms: int) -> None:
        self.layout = Layout(tuple(tag.data_type for tag in tags))
        self._answer_ms = answer_ms

    def cost(self) -> PlanCost:
        count = len(self.layout)
        took_ns = count * self._answer_ms * 10**6
        return PlanCost(tags=count, requests=count, request_bytes=count, answer_bytes=count, took_ns=took_ns)

    def describe(self) -> Sequence[str]:
        return [f"ask for {len(self.layout)}"]


class ToyDriver:
    def __init__(self, device: ToyDevice) -> None:
        self._device = device

    def plan(self, tags: Sequence[ToyTag]) -> ToyPlan:
        limits = self._device.limits
        bad = [Problem(f"{tag.address} is forbidden", path=tag.name) for tag in tags if tag.address in limits.forbidden]
        if bad:
            raise ConfigError(bad)
        return ToyPlan(tags, limits.answer_ms)

    def connect(self) -> Any:
        raise NotImplementedError


class ToyKind:
    settings = ToyDevice

    def driver(self, device: Any, clock: Clock) -> ToyDriver:
        return ToyDriver(device)

    def connection(self, device: ToyDevice) -> str:
        return device.host


def find_toy(name: str) -> DriverKind:
    if name != "toy":
        raise ConfigError(f"no driver is called {name!r}; installed are toy")
    return ToyKind()


Check = Callable[..., Checked]


@pytest.fixture(scope="session")
def find() -> Callable[[str], DriverKind]:
    """Finds the toy driver and no other."""
    return find_toy


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Write files into one folder and check the first, from inside their folder."""
    monkeypatch.chdir(tmp_path)

    def write_and_check(text: str, **others: str) -> Checked:
        Path("site.yaml").write_text(text)
        for name, content in others.items():
            Path(name.replace("_csv", ".csv")).write_text(content)
        return check("site.yaml", find_toy)

    return write_and_check
