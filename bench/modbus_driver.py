"""The Modbus driver alone: readings per CPU second, compared with pymodbus's client and a C client that reads the same.

    python -m bench.modbus_driver --devices 100 --tags 500 --seconds 3

The responder and the C client are compiled into a temporary folder. Every client runs in a process of its own; what is
counted is that process's CPU time while it reads.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from bench.results import Row, store
from bench.sites import compiled, responder
from edge.config.validate import settings_from

Poll = Callable[[], Awaitable[None]]


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def poll_all(polls: list[Poll], every_s: float, seconds: float) -> tuple[int, float]:
    """Scans done and CPU seconds used by polling everything for a while."""
    loop = asyncio.get_running_loop()
    scans = 0
    is_over = False

    async def keep_polling(number: int, poll: Poll) -> None:
        nonlocal scans
        due_s = loop.time() + every_s * number / len(polls)
        while not is_over:
            if every_s:
                await asyncio.sleep(due_s - loop.time())
                due_s += every_s
            await poll()
            scans += 1

    for poll in polls:
        await poll()
    gc.freeze()
    used_s = cpu_s()
    tasks = [asyncio.create_task(keep_polling(number, poll)) for number, poll in enumerate(polls)]
    await asyncio.sleep(seconds)
    used_s, scans_done = cpu_s() - used_s, scans
    is_over = True  # Not by cancelling: pymodbus does not end by it.
    await asyncio.gather(*tasks)
    return scans_done, used_s


async def read_with_driver(ports: list[int], options: argparse.Namespace) -> tuple[int, float]:
    from contextlib import AsyncExitStack

    from drivers.modbus import ModbusKind
    from drivers.modbus.settings import ModbusDevice
    from edge.clock import SystemClock

    kind, clock = ModbusKind(), SystemClock()
    tags = [{"name": f"t{i}", "address": f"holding {2 * i}", "type": "float32"} for i in range(options.tags)]
    polls: list[Poll] = []
    async with AsyncExitStack() as stack:
        for port in ports:
            device = settings_from(ModbusDevice,
                {"name": f"d{port}", "driver": "modbus", "host": "127.0.0.1", "port": port,
                 "limits": {"in_flight": options.in_flight}, "scan_groups": [{"every": "100 ms", "tags": tags}]}
            )  # fmt: skip
            driver = kind.driver(device, clock)
            plan = driver.plan(device.scan_groups[0].tags)
            session = await stack.enter_async_context(driver.connect())

            async def poll(session: object = session, plan: object = plan) -> None:
                reading = await session.read(plan)  # type: ignore[attr-defined]
                assert not reading.status

            polls.append(poll)
        return await poll_all(polls, options.every_ms / 1e3, options.seconds)


async def read_with_pymodbus(ports: list[int], options: argparse.Namespace) -> tuple[int, float]:
    from pymodbus.client import AsyncModbusTcpClient

    polls: list[Poll] = []
    clients = [AsyncModbusTcpClient("127.0.0.1", port=port, reconnect_delay=0) for port in ports]
    for client in clients:
        await client.connect()

        async def poll(client: AsyncModbusTcpClient = client) -> None:
            values: list[float] = []
            for first in range(0, 2 * options.tags, 124):
                count = min(124, 2 * options.tags - first)
                answer = await client.read_holding_registers(first, count=count, device_id=1)
                floats = client.convert_from_registers(answer.registers, client.DATATYPE.FLOAT32)
                values += cast("list[float]", floats)
            assert len(values) == options.tags

        polls.append(poll)
    try:
        return await poll_all(polls, options.every_ms / 1e3, options.seconds)
    finally:
        for client in clients:
            client.close()


def run_client(ports: list[int], options: argparse.Namespace) -> None:
    read = read_with_driver if options.client == "driver" else read_with_pymodbus
    if options.loop == "uvloop":
        import uvloop

        scans, used_s = uvloop.run(read(ports, options))
    else:
        scans, used_s = asyncio.run(read(ports, options))
    readings = scans * options.tags
    print(json.dumps({"readings": readings, "cpu_s": round(used_s, 3), "per_cpu_s": round(readings / used_s)}))


def compare(options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        program = compiled("modbus_responder", folder)
        text = ",".join(stack.enter_context(responder([str(program), "--ports", str(options.devices)])).split())
        common = ["--tags", str(options.tags), "--seconds", str(options.seconds), "--every-ms", str(options.every_ms)]
        c_client = [str(compiled("modbus_client", folder)), "--ports-list", text, *common]
        rows = [("C, one in flight", c_client)]
        for loop in ("asyncio", "uvloop"):
            for client, in_flight in (("driver", 1), ("driver", 16), ("pymodbus", 1)):
                command = [
                    sys.executable,
                    "-m",
                    "bench.modbus_driver",
                    *common,
                    "--client",
                    client,
                    "--in-flight",
                    str(in_flight),
                ]
                rows.append(
                    (f"{client}, {in_flight} in flight, {loop}", [*command, "--loop", loop, "--ports-list", text])
                )
        measured: dict[str, int] = {}
        for label, command in rows:
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            measured[label] = found["per_cpu_s"]
            print(f"{label:36} {measured[label]:>12,} readings per CPU second", flush=True)
    command_line = f"python -m bench.modbus_driver --every-ms {options.every_ms}"
    pace = f"every {options.every_ms} ms" if options.every_ms else "without a pause"
    ours, c, peer = (
        measured[label]
        for label in ("driver, 1 in flight, uvloop", "C, one in flight", "pymodbus, 1 in flight, uvloop")
    )
    store([
        Row(figure=f"P4 Modbus client alone against C, {pace}", goal="<= 2 x the CPU of a C epoll client",
            measured=f"{c / ours:.1f} x ({ours / 1e6:.1f} M against {c / 1e6:.1f} M readings per CPU second)",
            command=command_line),
        Row(figure=f"P1 Modbus client alone against pymodbus, {pace}", goal="for comparison",
            measured=f"{ours / peer:.1f} x as many readings per CPU second ({peer / 1e6:.2f} M)", command=command_line),
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--tags", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--every-ms", type=int, default=0, help="scan interval; 0 scans without a pause")
    parser.add_argument("--client", choices=["driver", "pymodbus"], help=argparse.SUPPRESS)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help=argparse.SUPPRESS)
    parser.add_argument("--in-flight", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--ports-list", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        run_client([int(port) for port in options.ports_list.split(",")], options)
    else:
        compare(options)


if __name__ == "__main__":
    main()
