"""Where a scan's CPU goes: `python -m bench.profile 10@1s`; loads are those of `bench.loads`.

A gateway runs against the devices of the load. perf says in which library its time is spent, and strace which system
calls it makes; both are counted for each scan. Nothing is stored.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.loads import LOADS
from bench.rig import Rig, usage

_SETTLE_S = 4.0
_LIBRARIES_SHOWN, _CALLS_SHOWN = 12, 16


def _scans(rig: Rig) -> int:
    status = rig.status()
    if status is None:
        raise SystemExit("the gateway does not answer")
    return sum(group.scans for device in status.devices for group in device.scan_groups)


def _by_library(rig: Rig, pid: int, seconds: float) -> None:
    """CPU time of each scan, by library."""
    file = str(rig.directory / "perf.data")
    before, scans_before = usage(pid), _scans(rig)
    record = ["perf", "record", "--quiet", "-F", "4999", "-e", "cpu-clock", "-p", str(pid), "-o", file]
    subprocess.run([*record, "--", "sleep", str(seconds)], check=True)
    after, scans = usage(pid), _scans(rig) - scans_before
    report = ["perf", "report", "-i", file, "--sort", "dso", "--stdio", "--quiet"]
    shares = subprocess.run(report, check=True, capture_output=True, text=True).stdout.split("\n")
    scan_ms = (after.cpu_s - before.cpu_s) / max(scans, 1) * 1e3
    print(
        f"{scans} scans of {scan_ms:.2f} ms CPU and {(after.switches - before.switches) / max(scans, 1):.1f} switches"
    )
    for line in [line for line in shares if "%" in line][:_LIBRARIES_SHOWN]:
        share, library = line.split(maxsplit=1)
        print(f"{float(share.rstrip('%')) / 100 * scan_ms * 1e3:8.0f} us {share:>8} {library.strip()}")


def _by_call(rig: Rig, pid: int, seconds: float) -> None:
    """System calls of each scan; strace makes them slow, so that only their number counts."""
    scans_before = _scans(rig)
    command = ["timeout", "--signal=INT", str(seconds), "strace", "-c", "-f", "-p", str(pid)]
    table = subprocess.run(command, check=False, capture_output=True, text=True).stderr.splitlines()
    scans = max(_scans(rig) - scans_before, 1)
    rows = [fields for line in table if len(fields := line.split()) >= 5 and fields[3].isdigit()]
    calls = [(int(fields[3]), fields[-1]) for fields in rows if fields[-1] != "total"]
    for count, name in sorted(calls, reverse=True)[:_CALLS_SHOWN]:
        print(f"{count / scans:8.2f} {name}")


def main(arguments: list[str]) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("load", nargs="?", choices=LOADS, default="10@1s")
    parser.add_argument("--seconds", type=float, default=20.0)
    asked = parser.parse_args(arguments)
    if missing := [tool for tool in ("perf", "strace") if shutil.which(tool) is None]:
        raise SystemExit(f"{' and '.join(missing)} is needed: apt-get install linux-perf strace")
    load, _ = LOADS[asked.load]
    with (
        tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name,
        Rig(load, Path(name)) as rig,
        rig.gateway() as gateway,
    ):
        time.sleep(_SETTLE_S)
        _by_library(rig, gateway.pid, asked.seconds)
        _by_call(rig, gateway.pid, asked.seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
