"""U3: how long `tidegate import` takes for 5,000 and 50,000 tags as CSV, XLSX and L5X, and how much memory.

Every hundredth row has a mistake, which is reported with its row. The time is that of the whole command, from its
start to the table on disk; the CPU time is what counts on a machine with other work.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.results import Row, store
from edge.config.export import csv_table
from edge.importers.workbook import Sheet, workbook

ROOT = Path(__file__).parents[1]
LIMITS_S = {5_000: 2, 50_000: 5}
_MIB_LIMIT = 300
_DAMAGED_EVERY = 100
_SITE = """\
gateway: {{name: line-4, path: acme/basel, state: state}}
devices:
  - name: plc
    driver: {}
    host: plc
"""


def rows(count: int) -> list[dict[str, str]]:
    """A list of bits with names of three levels."""
    return [
        {"name": f"Line{number // 1000}/Cell{number // 50 % 20}/Valve{number}",
         "address": "40001.1x" if number % _DAMAGED_EVERY == 0 else f"coil {number}", "type": "bool",
         "description": "open"}
        for number in range(count)
    ]  # fmt: skip


def project(count: int) -> bytes:
    """An L5X with as many tags."""
    tags = (
        f'<Tag Name="Valve{number}" TagType="Base" DataType="BOOL" ExternalAccess='
        f'"{"None" if number % _DAMAGED_EVERY == 0 else "Read/Write"}">'
        f"<Description><![CDATA[open]]></Description></Tag>\n"
        for number in range(count)
    )
    head = '<RSLogix5000Content TargetType="Controller">\n<Controller Name="Line4">\n<Tags>\n'
    return f"{head}{''.join(tags)}</Tags></Controller></RSLogix5000Content>\n".encode()


def measure(driver: str, data: bytes, count: int) -> tuple[float, float, float]:
    """(seconds, CPU seconds, MiB at most) of one import."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        folder = Path(name)
        (folder / "site.yaml").write_text(_SITE.format(driver))
        (folder / "list").write_bytes(data)
        command = [sys.executable, "-m", "edge.cli", "import", "site.yaml", "list", "--device", "plc"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        started_s = time.monotonic()
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as run:
            assert run.stdout is not None
            assert run.stderr is not None
            problems = run.stderr.read().decode().splitlines()
            _, status, used = os.wait4(run.pid, 0)
            took_s = time.monotonic() - started_s
            run.returncode = os.waitstatus_to_exitcode(status)
        written = (folder / "plc.csv").read_text().count("\n") - 1
        assert len(problems) >= count // _DAMAGED_EVERY, problems[:3]
        assert all(", row " in problem for problem in problems), problems[:3]
        assert written == count - count // _DAMAGED_EVERY, written
    return took_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Measure each format in each size."""
    results = []
    for count, limit_s in LIMITS_S.items():
        for label, driver, data in (
            ("CSV", "modbus", csv_table(rows(count)).encode()),
            ("XLSX", "modbus", workbook([Sheet("Tags", list(rows(1)[0]), rows(count))])),
            ("L5X", "ethernetip", project(count)),
        ):
            took_s, cpu_s, mib = measure(driver, data, count)
            results.append(Row(
                figure=f"U3 import of {count:,} tags, {label}", goal=f"<= {limit_s} s, <= {_MIB_LIMIT} MB",
                measured=f"{took_s:.1f} s, of it CPU {cpu_s:.1f} s; {mib:.0f} MiB; "
                         f"{count // _DAMAGED_EVERY:,} rows with a mistake, each reported with its row",
                command="python -m bench.imports",
            ))  # fmt: skip
    store(results)


if __name__ == "__main__":
    main()
