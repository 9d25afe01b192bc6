"""CPU per tag of the EtherNet/IP driver alone, and of pycomm3's client with the same controller and tags.

    python -m bench.ethernetip_driver --seconds 3

The simulated controller and each client run in a process of their own; the figure is the client's CPU time while it
reads. All values are read in every scan; in half of the runs they change in every scan.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.modbus_driver import cpu_s
from bench.results import Row, store
from bench.sites import responder
from drivers.ethernetip.simulator import DINT, REAL, Controller
from edge.config.validate import settings_from

GOAL_US = 0.6
TAGS = 500


def plant() -> Controller:
    """REAL and DINT tags in turn, with constant values."""
    return _plant(is_moving=False)


def moving_plant() -> Controller:
    """REAL and DINT tags in turn, with new values in every scan."""
    return _plant(is_moving=True)


def _plant(*, is_moving: bool) -> Controller:
    plc = Controller("Bench")
    for number in range(TAGS):
        kind = DINT if number % 2 else REAL

        def value(elapsed_s: float, number: int = number) -> int:
            return int(elapsed_s * 1e6) + number

        plc.tag(f"Tank_{number:04d}", kind, value if is_moving else number)
    return plc


async def read_with_driver(port: int, options: argparse.Namespace) -> tuple[int, float]:
    from drivers.ethernetip import EtherNetIpKind
    from drivers.ethernetip.settings import EtherNetIpDevice
    from edge.clock import SystemClock

    tags = [{"name": f"t{i}", "address": f"Tank_{i:04d}", "type": "DINT" if i % 2 else "REAL"} for i in range(TAGS)]
    device = settings_from(EtherNetIpDevice,
        {"name": "plc", "driver": "ethernetip", "host": "127.0.0.1", "port": port,
         "scan_groups": [{"every": "100 ms", "tags": tags}]}
    )  # fmt: skip
    driver = EtherNetIpKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    async with driver.connect() as session:
        await session.read(plan)
        gc.freeze()
        scans, used_s, end_s = 0, cpu_s(), time.monotonic() + options.seconds
        while time.monotonic() < end_s:
            reading = await session.read(plan)
            assert not reading.status
            scans += 1
        return scans, cpu_s() - used_s


def read_with_pycomm3(port: int, options: argparse.Namespace) -> tuple[int, float]:
    from pycomm3 import LogixDriver

    names = [f"Tank_{number:04d}" for number in range(TAGS)]
    with LogixDriver(f"127.0.0.1:{port}") as plc:
        plc.read(*names)
        gc.freeze()
        scans, used_s, end_s = 0, cpu_s(), time.monotonic() + options.seconds
        while time.monotonic() < end_s:
            assert all(plc.read(*names))
            scans += 1
        return scans, cpu_s() - used_s


def run_client(options: argparse.Namespace) -> None:
    if options.client == "pycomm3":
        scans, used_s = read_with_pycomm3(options.port, options)
    elif options.loop == "uvloop":
        import uvloop

        scans, used_s = uvloop.run(read_with_driver(options.port, options))
    else:
        scans, used_s = asyncio.run(read_with_driver(options.port, options))
    print(json.dumps({"scans": scans, "us": used_s / scans / TAGS * 1e6}))


@contextmanager
def controller(name: str) -> Iterator[int]:
    """The port of a simulated controller in a process of its own."""
    command = [sys.executable, "-m", "drivers.ethernetip.simulator", "--plant", f"bench.ethernetip_driver:{name}"]
    with responder(command) as line:
        yield int(line)


def compare(options: argparse.Namespace) -> None:
    measured: dict[tuple[str, str], float] = {}
    for name in ("plant", "moving_plant"):
        with controller(name) as port:
            for client in ("driver asyncio", "driver uvloop", "pycomm3 asyncio"):
                what, loop = client.split()
                command = [sys.executable, "-m", "bench.ethernetip_driver", "--client", what, "--loop", loop,
                           "--port", str(port), "--seconds", str(options.seconds)]  # fmt: skip
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                measured[name, client] = found["us"]
                print(f"{name:14} {client:18} {found['us']:7.3f} us CPU per tag ({found['scans']} scans)", flush=True)
    moving, still, peer = (
        measured[key]
        for key in (("moving_plant", "driver uvloop"), ("plant", "driver uvloop"), ("moving_plant", "pycomm3 asyncio"))
    )
    store([
        Row(figure="P4 Logix client alone, CPU per tag", goal=f"<= {GOAL_US} us",
            measured=f"{moving:.2f} us all moving, {still:.2f} us standing still; pycomm3 {peer:.1f} us",
            command="python -m bench.ethernetip_driver"),
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--client", choices=["driver", "pycomm3"], help=argparse.SUPPRESS)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        run_client(options)
    else:
        compare(options)


if __name__ == "__main__":
    main()
