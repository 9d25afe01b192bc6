"""P6: the time until the first reading of a gateway is acknowledged, and its memory when idle; how soon after its
connection each of 100 devices is read, where none ever answers what it is.

`python -m bench.startup --buffer-gb 10` starts it with so much in its buffer as well; `--each-driver` once with each of
the other drivers alone.
"""

from __future__ import annotations

import argparse
import compileall
import re
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.results import Row, store
from bench.rig import Rig, usage
from bench.sites import ROOT, SITES, Load, process
from edge.buffer import BufferLimits, PosixDisk, Store
from edge.clock import SystemClock, TimeQuality, boot_id
from edge.model import SampleBlock
from edge.seal import (
    Chain,
    FileCounter,
    Record,
    RecordType,
    encode_data,
    issuer_of,
    load_or_create_identity,
)

_RUNS = 5
_IDLE_S = 5.0
_RECORDS_AT_ONCE = 64


def first_acknowledged_s(rig: Rig) -> tuple[float, int]:
    """(seconds from exec to the first acknowledged reading, resident bytes a few seconds later)."""
    started_s = time.monotonic()
    arguments = [sys.executable, "-m", "edge.cli", "run", str(rig.directory / "site.yaml")]
    with process(arguments, log=rig.directory / "gateway.log") as gateway:
        while True:
            state = rig.status()
            if state and state.uplink and state.chain and state.uplink.acknowledged and state.chain.readings:
                break
            time.sleep(0.002)
        took_s = time.monotonic() - started_s
        time.sleep(_IDLE_S)
        return took_s, usage(gateway.pid).resident_bytes


def _medians(load: Load) -> tuple[float, float]:
    """(milliseconds to the first acknowledged reading, MiB resident) of some starts."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name, Rig(load, Path(name)) as rig:
        runs = [first_acknowledged_s(rig) for _ in range(_RUNS)]
    return (
        statistics.median(took for took, _ in runs) * 1e3,
        statistics.median(held for _, held in runs) / 2**20,
    )


def first_scans_ms(load: Load) -> list[float]:
    """Milliseconds from the connection of a device to its first scan, as the devices measured it."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name, Rig(load, Path(name)) as rig:
        with rig.gateway():
            pass
        took_us = re.findall(r"first registers after (\d+) us", rig.log.read_text())
    return [int(us) / 1e3 for us in took_us]


def fill(rig: Rig, size_bytes: int) -> None:
    """A buffer as a long outage leaves it: one chain, signed, of large records."""
    state = rig.directory / "state"
    state.mkdir(parents=True, exist_ok=True)
    counter = FileCounter(state / "identity.counter")
    issuer = issuer_of("bench")
    identity, _ = load_or_create_identity(state / "identity.pem", issuer=issuer, counter=counter)
    clock = SystemClock()
    quality = TimeQuality(as_of_ns=clock.boot_ns(), offset_ns=clock.utc_ns() - clock.boot_ns(), boot_id=boot_id())
    chain, first = Chain.start(identity, issuer=issuer, time=quality, now_boot_ns=clock.boot_ns())
    (state / "buffer").mkdir(exist_ok=True)
    kept = Store(PosixDisk(state / "buffer"), BufferLimits(limit_bytes=4 * size_bytes))
    values = np.random.default_rng(1).random(12_000, np.float32)
    records: list[Record] = [first]
    written = 0
    while written < size_bytes:
        now_ns = clock.boot_ns()
        block = SampleBlock(0, now_ns, now_ns, (values,))
        payload = encode_data(
            utc_ns=clock.utc_ns(), boot_ns=now_ns, time=quality, catalogue=bytes(8), blocks=[block]
        )  # fmt: skip
        records.append(chain.seal(RecordType.DATA, payload))
        if len(records) >= _RECORDS_AT_ONCE:
            kept.append(records)
            kept.commit()
            written += sum(len(record.data) for record in records)
            records = []
    kept.append([*records, chain.checkpoint(quality)])
    kept.commit()
    kept.close()
    counter.save()


def main(arguments: list[str]) -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buffer-gb", type=float, default=0.0)
    parser.add_argument("--each-driver", action="store_true")
    wanted = parser.parse_args(arguments)
    for package in ("edge", "drivers"):  # As pip does: an installed gateway never compiles.
        compileall.compile_dir(ROOT / package, quiet=1)
    small = Load(devices=1, tags=10)
    took_ms, held_mib = _medians(small)
    command = "python -m bench.startup"
    rows = [
        Row(figure="P6 first acknowledged reading", goal="<= 400 ms", command=command, measured=f"{took_ms:.0f} ms"),
        Row(figure="P6 idle", goal="<= 60 MiB resident", command=command, measured=f"{held_mib:.0f} MiB"),
    ]
    ignoring = Load(every="1 s", ignores_identity=True)
    took = [first_scans_ms(ignoring) for _ in range(_RUNS)]
    rows.append(
        Row(figure=f"P6 first scan of {ignoring.devices} devices that ignore identity", goal="each <= 400 ms",
            measured=f"the last {statistics.median(map(max, took)):.0f} ms after it was connected, "
            f"p50 {statistics.median(map(statistics.median, took)):.0f} ms", command=command)
    )  # fmt: skip
    for driver in (driver for driver in SITES if wanted.each_driver and driver != small.driver):
        took_ms, held_mib = _medians(replace(small, driver=driver))
        rows.append(
            Row(figure=f"P6 with the {driver} driver alone", goal="none; those for Modbus are 400 ms and 60 MiB",
                measured=f"first acknowledged reading {took_ms:.0f} ms, {held_mib:.0f} MiB idle",
                command=f"{command} --each-driver")
        )  # fmt: skip
    if wanted.buffer_gb:
        with (
            tempfile.TemporaryDirectory(prefix="tidegate-bench-", dir="/var/tmp") as name,
            Rig(small, Path(name)) as rig,
        ):
            fill(rig, round(wanted.buffer_gb * 1e9))
            took_s, _ = first_acknowledged_s(rig)
            rows.append(
                Row(figure="P6 first acknowledged reading, full buffer", goal="<= 2 s with 10 GB",
                    measured=f"{took_s:.2f} s with {wanted.buffer_gb:g} GB",
                    command=f"python -m bench.startup --buffer-gb {wanted.buffer_gb:g}")
            )  # fmt: skip
    store(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
