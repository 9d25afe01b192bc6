"""A site that runs for long while devices, broker and relay fail at random; then everything is accounted for, exactly.

The gateway is one process from the start to the end, so that its memory and its open files can be looked at.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from drivers.modbus.simulator import SimulatedDevice
from edge.health import StatusSnapshot
from tests.faults.gateway.site_under_test import Account, LoopThread, Process, Site

_DEVICES = ("mixer", "filler", "dryer")
_PAUSE_S, _AWAY_S = 2.0, 1.0
_WARM = 0.2  # Of the time, before memory is compared: caches, and the lists of what was acknowledged lately, fill.


@dataclass(frozen=True, kw_only=True)
class Scans:
    """A device's scans as the gateway counted them, when the device was off in the end."""

    due: int
    done: int
    skipped: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the gateway's process holds."""

    resident_bytes: int
    files: int


@dataclass
class Soak:
    """What came of it: faults by kind, accounts by device, and what should not be."""

    faults: Counter[str] = field(default_factory=Counter)
    scans: dict[str, Scans] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    held: list[Held] = field(default_factory=list)
    losses: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Of the memory, from the quarter after the warm-up to the last quarter."""
        warm = self.held[int(len(self.held) * _WARM) :]
        quarter = max(1, len(warm) // 4)
        first, last = (max(each.resident_bytes for each in part) for part in (warm[:quarter], warm[-quarter:]))
        return last / first - 1

    @property
    def more_files(self) -> int:
        """Open files in the end more than after the warm-up; both while everything works."""
        return self.held[-1].files - self.held[int(len(self.held) * _WARM)].files


def soak(site: Site, seconds: float, seed: int, every: str = "50 ms") -> Soak:
    """Run, fail, recover, stop and account."""
    outcome, dice = Soak(), random.Random(seed)
    for name in _DEVICES:
        # What a device answers to a request that was given up long ago is in no gap: no request is given up by time.
        site.add_counter(name, every=every, limits={"timeout": "10 s"})
    processes = {"broker": site.mosquitto(), "relay": site.relay()}
    gateway = site.gateway()
    faults = _faults(site, processes)
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        threading.Event().wait(dice.uniform(0, _PAUSE_S))
        name = dice.choice(sorted(faults))
        break_, mend = faults[name]
        break_()
        threading.Event().wait(dice.uniform(0, _AWAY_S))
        mend()
        outcome.faults[name] += 1
        if dice.random() < 0.5:
            site.wait_for_status(_is_well, "everything to work again")
            outcome.held.append(_held(gateway))
    site.wait_for_status(_is_well, "everything to work again")
    outcome.held.append(_held(gateway))
    _account(site, gateway, outcome)
    return outcome


def _faults(site: Site, processes: dict[str, Process]) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Each with what mends it."""

    def kill(name: str) -> None:
        processes[name].kill()  # The one that runs at that time.

    def start_relay() -> None:
        processes["relay"] = site.command("relay", str(site.directory / "relay.yaml"), "--json", name="relay")

    def start_broker() -> None:
        processes["broker"] = site.mosquitto()

    found: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "broker killed": (partial(kill, "broker"), start_broker),
        "relay killed": (partial(kill, "relay"), start_relay),
    }
    for name, device in site.devices.items():
        found |= _device_faults(site.plant, name, device)
    return found


def _device_faults(
    plant: LoopThread, name: str, device: SimulatedDevice
) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    def forget() -> None:
        device.cut()  # What it has not answered it never answers.
        device.resume()

    return {
        f"{name} unplugged": (lambda: plant.call(device.cut), lambda: None),
        f"{name} off": (lambda: plant.do(device.stop()), lambda: plant.do(device.start())),
        f"{name} silent": (lambda: plant.call(device.stall), lambda: plant.call(forget)),
    }


def _is_well(status: StatusSnapshot) -> bool:
    uplink = status.uplink
    return uplink is not None and uplink.state == "up" and all(device.state == "up" for device in status.devices)


def _held(gateway: Process) -> Held:
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return Held(resident_bytes=resident * 1024, files=len(list(Path(f"/proc/{gateway.pid}/fd").iterdir())))


def _account(site: Site, gateway: Process, outcome: Soak) -> None:
    """With the devices off nothing is under way: every count is final, but for scans that fail."""
    for device in site.devices.values():
        site.plant.do(device.stop())
    status = site.wait_for_status(lambda status: all(each.state != "up" for each in status.devices), "all to be off")
    for device_status in status.devices:
        [group] = device_status.scan_groups
        outcome.scans[device_status.name] = Scans(
            due=group.due_scans, done=group.scans, skipped=group.skipped_scans, failed=group.failed_scans
        )
    told = site.stop_and_archive(gateway)
    outcome.losses = len(told.losses)
    for name in site.devices:
        account, scans = site.account(told, name), outcome.scans[name]
        outcome.accounts[name] = account
        found = account.findings()
        if scans.due != scans.done + scans.skipped + scans.failed:
            found.append(f"{scans} do not add up")
        if account.kept != scans.done:
            found.append(f"{scans.done} scans done, {account.kept} values archived")
        if account.served != account.kept + account.in_gaps:
            found.append(f"{account.served} values served, {account.kept} archived, {account.in_gaps} in gaps")
        outcome.findings += [f"{name}: {finding}" for finding in found]
    if not site.verify(site.archive)["is_wholly_authentic"]:
        outcome.findings.append("the archive is not wholly authentic")
    if "Traceback" in gateway.log():
        outcome.findings.append(f"the gateway raised: {gateway.log()[-1000:]}")
