"""What an export of a day of ten million readings costs: `python -m bench.export`, about three minutes.

A gateway reads the tags of one device at a fixed interval, every value moves, and each scan is a record: 500 tags, or
116 tags each second. The archive is what a relay would have written. Each export is a process of its own; counted is
its whole CPU, with the verification of every record.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.results import Row, store
from edge.clock import TimeQuality, TimeSource, TimeState
from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, SampleBlock
from edge.seal import (
    Chain,
    ChainRules,
    EncodedCatalogue,
    Encoding,
    IdentityKey,
    MemoryCounter,
    RecordType,
    encode_data,
    issuer_of,
)
from edge.seal.keys import SigningKey

_NAME = "bench"
_BEGIN_NS, _BOOT_NS, _SECOND_NS = 1_769_817_600 * 10**9, 10**12, 10**9
_DAY_S = 86_400
_READINGS = 10_000_000
_GOAL = "<= 20 s of one core"
_CHECKPOINT_S, _KEY_S = 60, 900
_TIME = TimeQuality(
    source=TimeSource.CHRONY, state=TimeState.SYNCHRONIZED, bound_ns=200_000, as_of_ns=_BOOT_NS,
    offset_ns=_BEGIN_NS - _BOOT_NS, boot_id=bytes(16),
)  # fmt: skip


def write_archive(directory: Path, tags: int, scans: int) -> Path:
    """An archive of a day of scans; returns the trust anchor."""
    group = CatalogueGroup(device="plc-1", name="fast", interval_ns=_DAY_S * _SECOND_NS // scans, tags=tuple(
        CatalogueTag(name=f"temperature-{n}", data_type=DataType.FLOAT32, address=f"holding {2 * n}", unit="Cel")
        for n in range(tags)
    ))  # fmt: skip
    encoded = EncodedCatalogue.of(Catalogue(path="acme/basel/bench", groups=(group,)))
    identity = IdentityKey(SigningKey.generate(), MemoryCounter())
    rules = ChainRules(encoding=Encoding.ZSTD)
    chain, epoch = Chain.start(identity, issuer=issuer_of(_NAME), time=_TIME, now_boot_ns=_BOOT_NS, rules=rules)
    folder = directory / "archive" / _NAME
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    values = random.uniform(20, 90, tags)
    with (folder / "2026-01-31.rec").open("wb") as file:
        file.write(epoch.data)
        for number in range(scans):
            if number % (scans // 24) == 0:
                file.writelines(chain.seal(RecordType.CATALOG, each).data for each in encoded.payloads)
            at_ns = _BOOT_NS + number * _DAY_S * _SECOND_NS // scans
            quality = _TIME.at(at_ns)
            values += random.normal(0, 0.01, tags)
            block = SampleBlock(0, at_ns, at_ns + 2_000_000, (values.astype(np.float32),))
            payload = encode_data(utc_ns=at_ns + _TIME.offset_ns, boot_ns=at_ns, time=quality, catalogue=encoded.digest,
                                  blocks=[block])  # fmt: skip
            file.write(chain.seal(RecordType.DATA, payload).data)
            if number % (scans * _CHECKPOINT_S // _DAY_S) == 5:
                file.write(chain.checkpoint(quality).data)
            if number % (scans * _KEY_S // _DAY_S) == 7:
                file.write(chain.roll(quality, at_ns).data)
                chain.roll_is_durable()
        file.writelines(each.data for each in chain.stop(_TIME.at(at_ns)))
    key = directory / f"{_NAME}.pub.pem"
    key.write_bytes(identity.public_pem(issuer_of(_NAME)))
    return key


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one export took."""

    cpu_s: float
    peak_bytes: int
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.cpu_s:.1f} s, {self.peak_bytes / 1e6:.0f} MB at most, a file of {self.size_bytes / 1e6:,.0f} MB"


def measure(folder: Path, key: Path, ending: str) -> Cost:
    """Export the archive; ends the benchmark where that fails."""
    output = folder / f"day.{ending}"
    words = [
        sys.executable,
        "-m",
        "edge.cli",
        "export",
        str(folder / "archive"),
        "--trust",
        str(key),
        "-o",
        str(output),
    ]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the export of {ending} failed")
    cost = Cost(cpu_s=used.ru_utime + used.ru_stime, peak_bytes=used.ru_maxrss * 1024, size_bytes=output.stat().st_size)
    for file in folder.glob("day.*"):
        file.unlink()
    return cost


def main() -> None:
    """Measure and keep the rows."""
    rows = []
    for tags in (500, 116):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            key = write_archive(folder, tags, _READINGS // tags)
            for ending in ("csv", "jsonl", "parquet"):
                cost = measure(folder, key, ending)
                figure = f"Export of 10,000,000 readings as {ending}, {tags} a record"
                rows.append(Row(figure=figure, goal=_GOAL, measured=str(cost), command="python -m bench.export"))
                print(rows[-1].figure, rows[-1].measured, flush=True)
    store(rows)


if __name__ == "__main__":
    main()
