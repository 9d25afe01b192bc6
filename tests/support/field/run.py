"""Many odd devices at once: each read with `tidegate read`, and all of them by one `tidegate run`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from click.testing import CliRunner

from edge.cli import cli
from edge.clock import SystemClock, read_pair
from edge.health import StatusSnapshot
from edge.model import Quality, SampleBlock, StatusCode, quality_of, status_codes
from edge.seal import Event
from tests.faults.gateway.site_under_test import Process, Site, Told, sites
from tests.support.machine import run_delay_ns

PATIENCE_S, LOOK_EVERY_S = 30.0, 0.5
SCANS = 3
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OddDevice:
    """A running device: its name, and its keys and values in a configuration."""

    name: str
    settings: Mapping[str, Any]

    @property
    def tags(self) -> list[str]:
        """The names of its tags, in the order of the groups."""
        return [tag["name"] for group in self.settings["scan_groups"] for tag in group["tags"]]


class Started:
    """Devices that are started and stopped together, in the thread of a site's plant."""

    def __init__(self, site: Site) -> None:
        self._plant, self._stack = site.plant, AsyncExitStack()

    def enter(self, device: AbstractAsyncContextManager[T]) -> T:
        """Start a device."""
        return self._plant.do(self._stack.enter_async_context(device))

    def close(self) -> None:
        """Stop them all."""
        self._plant.do(self._stack.aclose())


@dataclass(frozen=True, slots=True)
class Read:
    """What `tidegate read` answered: the value of each tag that is not BAD, the status of the others, what it said."""

    values: Mapping[str, Any]
    bad: Mapping[str, int]
    said: str


@dataclass(slots=True)
class Ran:
    """What `tidegate run` made of one device.

    Attributes:
        tags: the names of its tags.
        first_good_ns: for each tag, how long after the start of the gateway its first value that is not BAD came.
        bad_before, bad_after: the codes with which each tag was BAD before and after its first value.
        values: all values of each tag that were reported and are not BAD.
        outages: the details of gaps that began after the first value.
        events: of the device, in the order of the chain.
    """

    tags: Sequence[str] = ()
    first_good_ns: dict[str, int] = field(default_factory=dict)
    bad_before: dict[str, set[int]] = field(default_factory=dict)
    bad_after: dict[str, set[int]] = field(default_factory=dict)
    values: dict[str, list[Any]] = field(default_factory=dict)
    outages: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    log: str = ""


@contextmanager
def site_in(folder: Path) -> Iterator[Site]:
    """A site without broker and relay: its records stay in the buffer."""
    for site in sites(folder):
        site.settings.pop("uplink")
        yield site


def read(device: OddDevice, folder: Path) -> Read:
    """`tidegate read` of all tags of a device."""
    path = folder / f"{device.name}.yaml"
    path.write_text(json.dumps({
        "gateway": {"name": "line-4", "path": "acme/basel", "state": str(folder / "state")},
        "devices": [{"name": device.name, **device.settings}],
    }))  # fmt: skip
    ran = CliRunner().invoke(cli, ["read", str(path), device.name, "--json"])
    rows = json.loads(ran.stdout)["values"] if ran.stdout.startswith("{") else []
    assert rows or ran.exit_code, ran.output
    return Read(
        values={row["tag"]: row["value"] for row in rows if quality_of(row["status"]) is not Quality.BAD},
        bad={row["tag"]: row["status"] for row in rows if quality_of(row["status"]) is Quality.BAD},
        said=ran.output if not isinstance(ran.exception, Exception) else f"{ran.output}{ran.exception}",
    )


def run(site: Site, devices: Sequence[OddDevice], awaited: Mapping[str, int]) -> tuple[dict[str, Ran], int]:
    """`tidegate run` of all devices at once, until each of `awaited` has no more BAD tags than said, a few scans long.

    Returns:
        what came of each, and how long the gateway was ready to run and the machine did not run it.
    """
    site.settings["devices"] = [{"name": device.name, **device.settings} for device in devices]
    gateway = site.gateway()
    started_ns = SystemClock().boot_ns()
    for _ in range(int(PATIENCE_S / LOOK_EVERY_S)):  # The test of each device says what is missing.
        if _is_finished(site.status(), awaited):
            break
        time.sleep(LOOK_EVERY_S)
    delay_ns = run_delay_ns(gateway.pid)
    assert gateway.stop() == 0, gateway.log()
    told = site.told(site.buffered())
    return {device.name: _of(told, device, started_ns, gateway) for device in devices}, delay_ns


def _is_finished(status: StatusSnapshot | None, awaited: Mapping[str, int]) -> bool:
    return status is not None and all(
        min(group.scans for group in device.scan_groups) >= SCANS
        and sum(group.not_good_tags for group in device.scan_groups) <= awaited[device.name]
        and all(
            tag.status != StatusCode.BAD_WAITING_FOR_INITIAL_DATA
            for group in device.scan_groups
            for tag in group.values
        )
        for device in status.devices
        if device.name in awaited
    )


def _of(told: Told, device: OddDevice, started_ns: int, gateway: Process) -> Ran:
    ran = Ran(
        tags=device.tags, log="\n".join(line for line in gateway.log().splitlines() if f'"{device.name}"' in line)
    )
    numbers = [number for number, group in enumerate(told.catalogue.groups) if group.device == device.name]
    for number in numbers:
        layout, tags = told.catalogue.groups[number].layout, told.catalogue.groups[number].tags
        for _, block in told.scans(number):
            codes = status_codes(block.status, len(tags)).tolist()
            for tag, slot, code in zip(tags, layout.slots, codes, strict=True):
                _note(ran, tag.name, block, slot, code, started_ns)
    first_ns = min(ran.first_good_ns.values(), default=None)
    if first_ns is not None:
        _, offset_ns = read_pair(SystemClock())
        ran.outages = [
            gap.detail
            for gap in told.outages(device.name, is_open=True)
            if gap.from_ns is not None and gap.from_ns - offset_ns - started_ns > first_ns
        ]
    ran.events = [event for event in told.all(Event) if event.subject == device.name]
    return ran


def _note(ran: Ran, tag: str, block: SampleBlock, slot: tuple[int, int], code: int, started_ns: int) -> None:
    if quality_of(code) is Quality.BAD:
        (ran.bad_after if tag in ran.first_good_ns else ran.bad_before).setdefault(tag, set()).add(code)
        return
    vector, position = slot
    values = block.vectors[vector].tolist()
    where = [*range(len(values))] if block.positions is None else block.positions[vector].tolist()
    if position in where:
        ran.first_good_ns.setdefault(tag, block.answered_at_ns - started_ns)
        ran.values.setdefault(tag, []).append(values[where.index(position)])
