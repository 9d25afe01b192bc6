"""Devices of each protocol behind a network that breaks, and the gateway that reads them: all on one machine, whose
loopback drops what is sent to or from the devices."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event

from edge.health import DeviceStatus, read_status
from hil.namespaces import Machine
from tests.faults.gateway.plant_under_test import RETRY, asked_group, logix, opcua, points, told_group
from tests.support.dmz import ROOT, TIDEGATE

MODBUS, LOGIX, OPCUA = 1502, 44818, 4840
FAULT = """
table inet fault {
  chain arriving {
    type filter hook input priority raw
    tcp dport { 1502, 44818, 4840 } drop
    tcp sport { 1502, 44818, 4840 } drop
  }
}
"""
COUNT = {"name": "count", "address": "holding 0", "type": "uint32", "word_order": "big"}


class Plant:
    """The devices, and the gateway that reads them; `retry` is how it waits between attempts to reach a device."""

    def __init__(self, machine: Machine, retry: Mapping[str, str] = RETRY) -> None:
        self.machine, self.folder = machine, machine.folder
        mixer = {"name": "mixer", "driver": "modbus", "host": "127.0.0.1", "port": MODBUS, **retry,
                 "limits": {"timeout": "1 s"}, "scan_groups": [{"every": "50 ms", "tags": [COUNT]}]}  # fmt: skip
        url = f"opc.tcp://127.0.0.1:{OPCUA}/plant"
        (self.folder / "site.yaml").write_text(json.dumps({
            "gateway": {"name": "line-4", "path": "acme", "state": "state"},
            "clock": {"require": "any", "chrony": "off"},
            "buffer": {"limit": "100 MB", "free_space": 0},
            "devices": [
                mixer, {**logix("filler", LOGIX, limits={"timeout": "1 s"}), **retry},
                {**opcua("reactor", url, told_group(points(range(2))), asked_group(points(range(2, 4)))), **retry},
            ],
        }))  # fmt: skip
        (self.folder / "mixer.yaml").write_text(json.dumps({
            "gateway": {"name": "mixer", "path": "acme", "state": "state"}, "devices": [mixer],
        }))  # fmt: skip
        self.devices: list[subprocess.Popen[str]] = []
        self.switch_on()
        with (self.folder / "log").open("w") as log:
            self.gateway = machine.start(*TIDEGATE, "run", "site.yaml", stderr=log, stdout=subprocess.DEVNULL)

    def switch_on(self, *, in_other_order: bool = False) -> None:
        """Start every device, and wait until each listens; the namespaces of OPC UA may have another order."""
        programs = {
            MODBUS: [*TIDEGATE, "simulate", "mixer.yaml", "--port", str(MODBUS), "--set", "count=counter"],
            LOGIX: [sys.executable, "-m", "drivers.ethernetip.simulator", "--port", str(LOGIX), "--plant",
                    "tests.faults.gateway.plant_under_test:controller"],
            OPCUA: [sys.executable, str(ROOT / "tests/peers/opcua/asyncua_server.py"), str(self.folder / "asyncua"),
                    "--port", str(OPCUA), *(["--other-order"] if in_other_order else [])],
        }  # fmt: skip
        for program in programs.values():
            command = ["env", f"PYTHONPATH={ROOT}", *program]
            pipe = subprocess.PIPE
            self.devices.append(self.machine.start(*command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL))
        self.wait(lambda: all(f"127.0.0.1:{port} " in self.listening() for port in programs))

    def switch_off(self) -> None:
        """Cut the power of every device."""
        for device in self.devices:
            device.kill()
            device.wait()
        self.devices.clear()

    def listening(self) -> str:
        return self.machine.run("ss", "-Hltn")

    def states(self) -> dict[str, DeviceStatus]:
        with suppress(OSError):
            return {device.name: device for device in read_status(self.folder / "state/status.sock").devices}
        return {}

    def wait(self, condition: Callable[[], object]) -> None:
        pause = Event()
        while not condition():
            assert all(device.poll() is None for device in self.devices)
            pause.wait(0.02)

    def wait_until_read(self) -> None:
        """Until each scan group of each device has been read some more times."""
        self.wait(lambda: {"up"} == {each.state for each in self.states().values()})
        before = self.scans()
        self.wait(lambda: all(count > before.get(group, 0) + 2 for group, count in self.scans().items()))

    def scans(self) -> dict[tuple[str, str], int]:
        return {(name, group.name): group.scans for name, each in self.states().items() for group in each.scan_groups}


@contextmanager
def cut_off(plant: Plant) -> Iterator[None]:
    """No packet of a device arrives; left once the gateway has noticed."""
    plant.machine.run("nft", FAULT)
    try:
        yield
        plant.wait(lambda: {each.state for each in plant.states().values()} <= {"down", "resting"})
    finally:
        plant.machine.run("nft", "delete", "table", "inet", "fault")
