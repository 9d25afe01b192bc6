"""What a lake costs: `python -m bench.lake`, about five minutes.

A gateway reads tags of one device, every value a float32 with noise, and each scan is a record. A process of its own
reads the archive as a relay would have written it, and makes files; counted is its CPU, with reading and decoding. Then
a tag of the day is read, as whoever opens the files does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from bench.export import write_archive
from bench.results import Row, store
from edge.relay.archive import make_index
from edge.relay.sinks.lake import Lake, LakePlan
from edge.relay.sinks.reader import Reader
from edge.verify import Verdict
from tests.support.sinks.lake import write_all

_DAY = "2026-01-31"
_QUERY = f"SELECT time, value FROM '{{}}/readings/gateway=*/day={_DAY}/*.parquet' WHERE tag = '{{}}'"
_SCANS = ((1000, 10_000), (116, 86_400))  # Tags, scans a day: ten million readings.
_COMMAND = "python -m bench.lake"


async def _fill(archive: Path, lake: Path, ends: dict[str, tuple[str, int]]) -> None:
    reader = await asyncio.to_thread(Reader, archive, "")
    async with Lake(LakePlan(name="lake", directory=lake)).session() as session:
        while found := await asyncio.to_thread(reader.read, ends):
            await session.write(await asyncio.to_thread(reader.parcel, found, [Verdict.AUTHENTIC] * len(found)))
        await write_all(session)


def fill(archive: Path, lake: Path) -> None:
    """Make the files of an archive, and print what that took."""
    (day,) = archive.glob("*/*.rec")
    before_s = time.process_time()
    asyncio.run(_fill(archive, lake, {day.parent.name: (day.stem, day.stat().st_size)}))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([time.process_time() - before_s, used.ru_maxrss * 1024]))


def read_ms(lake: Path, tag: str) -> float:
    """How long it takes to read a tag of the day, with files that were read before."""
    best_s = float("inf")
    for _ in range(5):
        with duckdb.connect() as connection:
            began_s = time.perf_counter()
            assert len(connection.execute(_QUERY.format(lake, tag)).fetchnumpy()["value"])
            best_s = min(best_s, time.perf_counter() - began_s)
    return best_s * 1000


def measure(tags: int, scans: int) -> list[Row]:
    """Fill a lake, read it, compact it, and read it again."""
    with tempfile.TemporaryDirectory() as folder:
        archive, lake = Path(folder, "archive"), Path(folder, "lake")
        write_archive(Path(folder), tags, scans)
        (day,) = archive.glob("*/*.rec")
        day.with_suffix(".idx").write_bytes(b"".join(entry.pack() for entry in make_index(day)))
        lake.mkdir()
        ran = subprocess.run([sys.executable, "-m", "bench.lake", "--fill", archive, lake], check=True,
                             stdout=subprocess.PIPE, text=True)  # fmt: skip
        cpu_s, peak_bytes = json.loads(ran.stdout.splitlines()[-1])
        files, size, apart_ms = *_size(lake), read_ms(lake, f"temperature-{tags // 2}")
        subprocess.run([sys.executable, "-m", "edge.cli", "lake", "compact", lake, _DAY], check=True)
        whole, whole_size, whole_ms = *_size(lake), read_ms(lake, f"temperature-{tags // 2}")
    count, of = tags * scans, f"of {tags * scans / 1e6:.0f} M readings, {tags} a record"
    return [
        Row(figure=f"P10: Parquet {of}: readings per CPU second, memory", goal=">= 1 M, <= 300 MB",
            measured=f"{count / cpu_s / 1e6:.2f} M, {peak_bytes / 1e6:.0f} MB", command=_COMMAND),
        Row(figure=f"Parquet {of}: bytes a float32 with noise", goal="<= 4",
            measured=f"{size / count:.2f} in {files} files, {whole_size / count:.2f} in {whole}", command=_COMMAND),
        Row(figure=f"Parquet {of}: one tag of the day", goal="<= 100 ms",
            measured=f"{apart_ms:.0f} ms of {files} files, {whole_ms:.0f} ms compacted", command=_COMMAND),
    ]  # fmt: skip


def _size(lake: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in lake.glob("readings/**/*.parquet")]
    return len(sizes), sum(sizes)


def main() -> None:
    """Measure and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fill", nargs=2, type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.fill:
        fill(*chosen.fill)
    else:
        store([row for tags, scans in _SCANS for row in measure(tags, scans)])


if __name__ == "__main__":
    main()
