"""T5: does a value's true instant of sampling lie between request and answer? `python -m bench.sampling`.

A Modbus server in a process of its own answers each request with the boot time at which it took the value. The driver's
session reads it as a gateway does, and the two stamps of the reading are compared with the value.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import struct
import time
from dataclasses import dataclass

import numpy as np
import uvloop

from bench.results import Row, store
from drivers.modbus import ModbusKind
from drivers.modbus.settings import ModbusDevice
from edge.clock import SystemClock
from edge.config.validate import settings_from

_REQUEST_BYTES = 12
_REGISTERS = 4


@dataclass(frozen=True)
class Sampling:
    """How reads were stamped.

    Attributes:
        outside: readings whose true instant is not within their stamps.
        width_ns: of the interval between the stamps, in the middle.
        jitter_ns: 99th percentile of how far the stamp, the middle of the interval, is from where it usually is.
    """

    reads: int
    outside: int
    width_ns: int
    jitter_ns: int


def _serve(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while len(request := connection.recv(_REQUEST_BYTES, socket.MSG_WAITALL)) == _REQUEST_BYTES:
            head = request[:4] + struct.pack("!HBBB", 3 + 2 * _REGISTERS, request[6], 3, 2 * _REGISTERS)
            connection.sendall(head + struct.pack("!Q", time.clock_gettime_ns(time.CLOCK_BOOTTIME)))


async def _read(port: int, reads: int) -> np.ndarray:
    """(asked, true, answered) of each read, as boot times."""
    tag = {"name": "now", "address": "holding 0", "type": "uint64", "word_order": "big"}
    device = settings_from(ModbusDevice, {"name": "now", "driver": "modbus", "host": "127.0.0.1", "port": port,
                                          "scan_groups": [{"every": "100 ms", "tags": [tag]}]})  # fmt: skip
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    stamps = np.zeros((reads, 3), np.int64)
    async with driver.connect() as session:
        for number in range(reads):
            reading = await session.read(plan)
            assert not reading.status
            stamps[number] = reading.asked_at_ns, reading.vectors[0][0], reading.answered_at_ns
    return stamps


def measure(reads: int) -> Sampling:
    """Read so often, and compare."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = multiprocessing.get_context("fork").Process(target=_serve, args=(listening,))
        server.start()
        try:
            stamps = uvloop.run(_read(listening.getsockname()[1], reads))
        finally:
            server.terminate()
            server.join()
    asked, true, answered = stamps.T
    late_ns = (asked + answered) // 2 - true
    return Sampling(
        reads=reads,
        outside=int(np.count_nonzero((true < asked) | (true > answered))),
        width_ns=int(np.median(answered - asked)),
        jitter_ns=int(np.percentile(np.abs(late_ns - np.median(late_ns)), 99)),
    )


def main() -> None:
    """Measure, print and store the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reads", type=int, default=1_000_000)
    reads = parser.parse_args().reads
    found = measure(reads)
    command = f"python -m bench.sampling --reads {reads}"
    store([
        Row(figure="T5 instant of sampling", goal="between request and answer in 100 % of 10^6 reads", command=command,
            measured=f"{found.outside} of {found.reads:,} outside; the interval is {found.width_ns / 1e3:.0f} us long"),
        Row(figure="T5 jitter of the stamp", goal="p99 <= 100 us", command=command,
            measured=f"p99 {found.jitter_ns / 1e3:.0f} us"),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
