"""`python -m bench`: every benchmark that fills bench/RESULTS.md, one after the other; about an hour."""

from __future__ import annotations

import subprocess
import sys

COMMANDS = (
    ("bench.seal",),
    ("bench.startup", "--buffer-gb", "2", "--each-driver"),
    ("bench.loads",),
    ("bench.relay",),
    ("bench.sinks",),
    ("bench.gateway",),
    ("bench.modbus_driver", "--every-ms", "100"),
    ("bench.opcua_driver",),
    ("bench.opcua_subscription",),
    ("bench.ethernetip_driver",),
    ("bench.hostile",),
    ("bench.pacing", "--groups", "10"),
    ("bench.pacing",),
    ("bench.report_cost",),
    ("bench.sizing",),
    ("bench.broker",),
    ("bench.mutations", "--count", "100000"),
    ("bench.crash_matrix", "--states", "100000"),
    ("bench.kills", "--kills", "300"),
    ("bench.time",),
    ("bench.sampling",),
    ("bench.imports",),
    ("bench.first_steps",),
    ("bench.documented",),
    ("bench.watch",),
    ("bench.page",),
    ("bench.export",),
)


def main() -> None:
    """Run all benchmarks; the first that fails ends the run."""
    for command in COMMANDS:
        print(f"== python -m {' '.join(command)}", flush=True)
        subprocess.run([sys.executable, "-m", *command], check=True)


if __name__ == "__main__":
    main()
