"""An installed machine as the checks see it: a tree of files with its lists, and a gateway that says it is well."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from edge.config.check import check
from edge.doctor.examine import Patient
from edge.health.problems import StatusAnswer
from edge.health.snapshot import ClockStatus, DeviceStatus, GatewayStatus, StatusSnapshot
from edge.qualify.checks import Check, perform
from edge.qualify.installation import Installation

ROOT = Path(__file__).parents[3]
FILES = ("edge/__init__.py", "edge/seal/chain.py", "edge/seal/cose.py", "drivers/modbus/decode.py")
CONFIGURATION = """\
gateway: {name: line-4, path: acme/basel, state: state}
devices:
  - name: mixer
    driver: simulator
    scan_groups: [{every: 1 s, tags: [{name: count, signal: counter, period: 1 s, type: uint32}]}]
"""
SYNCHRONIZED = ClockStatus(utc_ns=0, source="chrony", state="SYNCHRONIZED", bound_ns=1_000_000)
FREE_RUNNING = replace(SYNCHRONIZED, state="FREE_RUNNING", bound_ns=None)


@dataclass
class InstalledMachine:
    """A tree as the Debian packages leave it, and the gateway on it."""

    root: Path
    clock: ClockStatus = SYNCHRONIZED

    @property
    def site(self) -> Path:
        """Where Tidegate and its libraries lie."""
        return self.root / "opt/tidegate/lib/python3/site-packages"

    @property
    def unit(self) -> Path:
        """The shipped unit."""
        return self.root / "usr/lib/systemd/system/tidegate.service"

    def install(self) -> None:
        """Put everything in its place, with its hashes."""
        lines = []
        for name in FILES:
            place = self.site / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place)
            digest = base64.urlsafe_b64encode(hashlib.sha256(place.read_bytes()).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{place.stat().st_size}\n")
        for name, version, record in ("tidegate", "0.1.0", "".join(lines)), ("numpy", "2.0.1", ""):
            info = self.site / f"{name}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            (info / "RECORD").write_text(record)
        self.unit.parent.mkdir(parents=True)
        shutil.copy(ROOT / "systemd/tidegate.service", self.unit)
        sha256 = hashlib.sha256(self.unit.read_bytes()).hexdigest()
        unit = {"type": "file", "name": "/usr/lib/systemd/system/tidegate.service",
                "hashes": [{"alg": "SHA-256", "content": sha256}]}  # fmt: skip
        components = [{"type": "library", "name": "numpy", "version": "2.0.1"}, unit]
        sbom = self.root / "usr/share/doc/tidegate/sbom.cdx.json"
        sbom.parent.mkdir(parents=True)
        sbom.write_text(json.dumps({"components": components}))
        (self.root / "gateway.yaml").write_text(CONFIGURATION)

    def qualify(self, folder: Path) -> dict[str, Check]:
        """Every check of the installation, by its id."""
        (folder / "raw").mkdir(parents=True, exist_ok=True)
        config = self.root / "gateway.yaml"
        checked = check(config)
        snapshot = StatusSnapshot(
            gateway=GatewayStatus(name="line-4", pid=os.getpid(), configuration=checked.digest.hex()),
            clock=self.clock, devices=(DeviceStatus(name="mixer", driver="simulator", state="up"),),
        )  # fmt: skip
        patient = Patient(config=str(config), checked=checked, status=StatusAnswer.of(snapshot), silence="",
                          may_ask=True, version="0.1.0")  # fmt: skip
        own = Distribution.at(self.site / "tidegate-0.1.0.dist-info")
        return {task.id: perform(task, folder) for task in Installation(patient, own, self.root).tasks()}


@pytest.fixture
def machine(tmp_path: Path) -> InstalledMachine:
    """One on which all is well."""
    made = InstalledMachine(tmp_path / "machine")
    made.install()
    return made


def red(checks: dict[str, Check]) -> set[str]:
    """The ids of those that failed."""
    return {each.id for each in checks.values() if each.verdict == "failed"}


Plant = Callable[[InstalledMachine], None]
