"""What `tidegate watch` writes to a terminal: 40 tags of a device, nearly all moving, at one update a second.

As many bytes go over a slow line to whoever watches from afar, before ssh compresses or encrypts anything.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.results import Row, store
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, sine
from tests.faults.gateway.site_under_test import Site, sites
from tests.support.terminal import Terminal

TAGS = 40
LIMIT_BYTES = 16_000
UPDATE = b"/ filter"  # The last line, which is written at each update.


def moving(site: Site) -> None:
    """Give a site the device, and begin to read it."""
    signals = [
        Signal(f"holding {2 * tag}", "float32", sine(mean=20 + tag, swing=9, period_s=17 + tag), word_order="big")
        for tag in range(TAGS)
    ]
    tags = [
        {"name": f"temperature-{tag:02}", "address": f"holding {2 * tag}", "type": "float32", "word_order": "big",
         "unit": "Cel", "range": [0, 50]} for tag in range(TAGS)
    ]  # fmt: skip
    site.settings.pop("uplink")
    site.add_device("mixer", site.plant.enter(SimulatedDevice({1: SimulatedUnit(signals)})), every="1 s", tags=tags)
    site.gateway()


def bytes_per_update(site: Site, updates: int, columns: int = 80) -> float:
    """The mean of so many updates; a trend has to be full first, as before that there is less to write."""
    with Terminal("watch", str(site.directory / "gateway.yaml"), columns=columns, rows=TAGS + 3) as terminal:
        counted = terminal.written.count
        terminal.read_until(lambda: counted(UPDATE) > 20, "a full trend")
        begin, at = counted(UPDATE), len(terminal.written)
        terminal.read_until(lambda: counted(UPDATE) >= begin + updates, "updates")
        mean = (len(terminal.written) - at) / updates
        terminal.press(b"q")
        assert terminal.wait() == 0
    return mean


def main() -> None:
    """Measure in a usual and in a wide window."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=30)
    updates = parser.parse_args().updates
    with tempfile.TemporaryDirectory(prefix="watch-") as place:
        for site in sites(Path(place)):
            moving(site)
            figures = {columns: bytes_per_update(site, updates, columns) / 1000 for columns in (80, 200)}
    store([Row(
        figure=f"Watch {TAGS} tags, bytes to the terminal", goal=f"<= {LIMIT_BYTES // 1000} kB/s at 1 Hz",
        measured=", ".join(f"{kilobytes:.1f} kB/s in {columns} columns" for columns, kilobytes in figures.items())
        + f"; mean of {updates} updates with full trends", command="python -m bench.watch",
    )])  # fmt: skip


if __name__ == "__main__":
    main()
