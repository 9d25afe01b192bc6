"""Bytes a day of 1,000 tags: what the buffer, the uplink and the archive must be able to hold and to carry.

    python -m bench.sizing                  # six gateways side by side: a little over two minutes
    python -m bench.sizing --seconds 10     # soon, and without the repetition of unchanged values each minute

Each gateway reads 1,000 simulated float32 tags, and nothing else; nothing is sent. What is counted is what it sealed.
Values change with noise in all their digits, which compresses worst; those of a plant need less.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.results import Row, store
from bench.rig import usage
from bench.sites import process
from edge.health import ChainStatus, read_status

TAGS = 1_000
CHANGING = {"no value changes": 0, "5 % change": TAGS // 20, "all change": TAGS}
INTERVALS = ("1 s", "100 ms")
INDEX_BYTES = 64
"""Of the archive's index, for each record."""

_DAY_S = 86_400
_WHOLE_S = 120.0  # Unchanged values are recorded once a minute (`at_least_every`).
_SETTLE_S = 8.0  # The catalogue, and the first value of every tag.


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What one gateway sealed in a second, and what share of a core it took."""

    bytes_per_s: float
    records_per_s: float
    core: float

    @property
    def gb_per_day(self) -> float:
        """Record bytes of a day."""
        return self.bytes_per_s * _DAY_S / 1e9


def site(directory: Path, interval: str, changing: int) -> Path:
    """The configuration of one gateway."""
    tags: list[dict[str, Any]] = [
        {"name": f"t{at}", "type": "float32", **({"signal": "sine", "noise": 1} if at < changing else
                                               {"signal": "constant", "value": 21.5})}
        for at in range(TAGS)
    ]  # fmt: skip
    device = {"name": "plc", "driver": "simulator", "scan_groups": [{"every": interval, "tags": tags}]}
    path = directory / "site.yaml"
    path.write_text(json.dumps({
        "gateway": {"name": "sizing", "path": "acme/bench", "state": "state"},
        "clock": {"require": "any", "chrony": "off"}, "buffer": {"limit": "2 GB"}, "devices": [device],
    }))  # fmt: skip
    return path


def _sealed(directory: Path) -> ChainStatus | None:
    try:
        return read_status(directory / "state/status.sock").chain
    except OSError:
        return None


def measured(seconds: float) -> dict[tuple[str, str], Size]:
    """By interval and by what changes; all gateways run at the same time."""
    with ExitStack() as stack:
        gateways = {}
        for interval in INTERVALS:
            for what, changing in CHANGING.items():
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-bench-")))
                arguments = [sys.executable, "-m", "edge.cli", "run", str(site(directory, interval, changing))]
                gateway = stack.enter_context(process(arguments, log=directory / "gateway.log"))
                gateways[interval, what] = directory, gateway
        for directory, gateway in gateways.values():
            while not _sealed(directory):
                assert gateway.poll() is None, (directory / "gateway.log").read_text()
                time.sleep(0.1)
        time.sleep(_SETTLE_S)
        before = {key: (usage(gateway.pid), _sealed(directory)) for key, (directory, gateway) in gateways.items()}
        time.sleep(seconds)
        sizes = {}
        for key, (directory, gateway) in gateways.items():
            (used, sealed), now, chain = before[key], usage(gateway.pid), _sealed(directory)
            assert sealed is not None
            assert chain is not None
            passed_s = now.at_s - used.at_s
            sizes[key] = Size(
                bytes_per_s=(chain.record_bytes - sealed.record_bytes) / passed_s,
                records_per_s=(chain.records - sealed.records) / passed_s,
                core=(now.cpu_s - used.cpu_s) / passed_s,
            )
    return sizes


def main() -> None:
    """Measure, and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=_WHOLE_S)
    seconds = parser.parse_args().seconds
    rows = [
        Row(
            figure=f"Size of 1,000 tags at {interval}, {what}",
            goal="for sizing",
            measured=f"{size.gb_per_day:.3g} GB a day, {size.records_per_s:.1f} records/s, {size.core:.1%} of a core",
            command="python -m bench.sizing" + ("" if seconds == _WHOLE_S else f" --seconds {seconds:g}"),
        )
        for (interval, what), size in measured(seconds).items()
    ]
    store(rows)


if __name__ == "__main__":
    main()
