"""R3 and P9: a long outage of the uplink, in scaled time, and how its backlog drains while the gateway reads on.

    python -m bench.outage                             # 72 hours at 5,000 readings/s
    python -m bench.outage --hours 2 --link 2mbit      # drained over a link of that rate (`tc qdisc tbf`)
    python -m bench.outage --hours 2 --in-order

What is scaled: the clock is injected, and the timer left out. Each second of it, simulated devices are read by their
driver, reported by exception, sealed, signed and written and synced to the disk by the gateway's own code, as fast as
it goes; the chain, its keys, checkpoints, catalogues and the buffer are those of an outage of that length. Then
`tidegate run` starts with that buffer at the real time, reads the same devices on, and drains over a cable between two
network namespaces to mosquitto, from where a relay archives. A record has arrived when it is durable in the archive.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from unittest.mock import patch

import numpy as np

from bench.results import Row, store
from edge.buffer import PosixDisk, Reader
from edge.clock import SystemClock
from edge.config.check import load
from edge.gateway.acquire import Acquisition, acquire
from edge.health import StatusSnapshot, read_status
from edge.relay.archive import ENTRY_BYTES, intact_entries
from edge.scan import PolledGroup
from edge.seal import RecordType, cbor, parse
from edge.seal.cbor import Unknown
from edge.seal.codec import unpack
from edge.seal.data import data_from_cbor
from edge.testing.clock import ManualClock
from hil.namespaces import Machine, join
from tests.support.chains import archived_records
from tests.support.dmz import TIDEGATE

READINGS_PER_S = 5_000
TAGS, CHANGING = 5_000, 250
NAME, PORT = "bench", 1883
_GATEWAY, _BROKER = "192.0.2.20", "198.51.100.10"
_S = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """How it went; times in seconds.

    Attributes:
        start_s: from the start of the process to its first record in the archive.
        drain_s: from the first record in the archive to the last one of the outage.
        live_ms: from the end of a scan to its arrival in the archive, of every record sealed while the backlog drained.
        is_in_order: whether records came by their number, but for the checkpoint that opens the connection.
        lost: records of the buffer that are not in the archive; `twice` those that are more than once.
    """

    records: int
    buffer_bytes: int
    fill_s: float
    start_s: float
    drain_s: float
    sent_bytes: int
    live_ms: Sequence[float]
    is_in_order: bool
    lost: int
    twice: int
    is_authentic: bool


def write_site(directory: Path, *, is_in_order: bool) -> Path:
    """The configuration of the gateway: its uplink, and devices of which a part changes with each scan."""
    kinds = ("sine,,1" if at < CHANGING else "constant,21.5," for at in range(TAGS))
    lines = ["name,type,signal,value,noise", *(f"t{at},float32,{kind}" for at, kind in enumerate(kinds))]
    (directory / "tags.csv").write_text("\n".join(lines))
    groups = [{"every": "1 s", "tags_from": "tags.csv"}]
    path = directory / "site.yaml"
    path.write_text(json.dumps({
        "gateway": {"name": NAME, "path": "acme/bench", "state": str(directory / "state")},
        "clock": {"require": "any", "chrony": "off"},
        "buffer": {"directory": str(directory / "buffer"), "limit": "40 GB", "free_space": 0},
        "uplink": {"mqtt": {"host": _BROKER, "port": PORT, "tls": "off",
                            "order": "in_order" if is_in_order else "live_first"}},
        "log": {"format": "json"},
        "devices": [{"name": "plc", "driver": "simulator", "scan_groups": groups}],
    }))  # fmt: skip
    return path


async def fill(path: Path, seconds: int) -> None:
    """Read, seal and store as in an outage of that length that ends now, on a machine that was started again since."""
    now = SystemClock()
    clock = ManualClock(boot_ns=_S, utc_ns=now.utc_ns() - (seconds + 60) * _S)
    with patch("edge.gateway.acquire.boot_id", lambda: bytes(15) + b"\1"):
        async with acquire(load(path), bytes(32), clock) as acquisition:
            for second in range(seconds):
                await _scan(acquisition, clock)
                acquisition.recorder.commit()
                if second % 10 == 0:
                    await acquisition.timekeeper.poll()
                    await acquisition.recorder.tick()


async def _scan(acquisition: Acquisition, clock: ManualClock) -> None:
    clock.advance_ns(_S)
    for device in acquisition.devices:
        async with device.poller.connect() as session:
            for group in device.poller.groups:
                assert isinstance(group, PolledGroup)
                group.begin(clock.boot_ns())
                reading = await session.read(group.plan)
                acquisition.recorder.add_block(group.finish(reading, clock.boot_ns()), urgent=False)


@contextmanager
def machines(directory: Path, link: str) -> Iterator[Machine]:
    """The gateway's, with a cable to that where broker and relay are at work."""
    gateway, broker = Machine(directory / "gateway"), Machine(directory / "broker")
    with gateway, broker:
        join(gateway, _GATEWAY, "dmz", broker, _BROKER, "ot")
        if link:
            gateway.run("tc", "qdisc", "add", "dev", "dmz", "root", "tbf", "rate", link, "burst", "16kb", "latency",
                        "50ms")  # fmt: skip
        (directory / "mosquitto.conf").write_text(
            f"user root\nlistener {PORT} 0.0.0.0\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"
            "max_inflight_messages 512\n"
        )
        broker.start("/usr/sbin/mosquitto", "-c", str(directory / "mosquitto.conf"), stderr=subprocess.DEVNULL)
        knock = [*broker.enter, "bash", "-c", f"exec 2>/dev/null 3</dev/tcp/127.0.0.1/{PORT}"]
        while subprocess.run(knock, check=False).returncode:
            time.sleep(0.05)
        (directory / "relay.yaml").write_text(json.dumps({"relay": {
            "name": "it", "archive": str(directory / "archive"), "trust": [str(directory / "state/identity.pub.pem")],
            "mqtt": {"host": "127.0.0.1", "port": PORT, "tls": "off"},
        }}))  # fmt: skip
        with (directory / "relay.log").open("wb") as log:
            broker.start(*TIDEGATE, "relay", str(directory / "relay.yaml"), "--json", stderr=log)
        while b'"subscribed"' not in (directory / "relay.log").read_bytes():
            time.sleep(0.05)
        yield gateway


class Arrivals:
    """When each record became durable in the archive, as (boot ns, seq) in that order: it is indexed after the sync."""

    def __init__(self, folder: Path) -> None:
        self.seen: list[tuple[int, int]] = []
        self._folder, self._is_over = folder, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        read: Counter[Path] = Counter()
        while not self._is_over.wait(0.01):
            for path in sorted(self._folder.glob("*.idx")):
                if size := (path.stat().st_size - read[path]) // ENTRY_BYTES * ENTRY_BYTES:
                    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                    with path.open("rb") as file:
                        entries = intact_entries(os.pread(file.fileno(), size, read[path]))
                    self.seen += ((now_ns, entry.seq) for entry in entries)
                    read[path] += len(entries) * ENTRY_BYTES


def measure(directory: Path, hours: float, *, link: str = "", is_in_order: bool = False) -> Drained:
    """Fill, drain, and account for every record."""
    path, buffer = write_site(directory, is_in_order=is_in_order), directory / "buffer"
    (directory / "state").mkdir()
    began_s = time.monotonic()
    asyncio.run(fill(path, round(hours * 3600)))
    fill_s = time.monotonic() - began_s
    buffered = dict(_stored(buffer))
    last, buffer_bytes = max(buffered), sum(each.stat().st_blocks * 512 for each in buffer.iterdir())
    print(f"{len(buffered):,} records sealed in {fill_s:.0f} s, {buffer_bytes / 1e6:,.0f} MB on disk", flush=True)
    archive = directory / "archive" / NAME
    with machines(directory, link) as machine, Arrivals(archive) as arrivals:
        began_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        with (directory / "gateway.log").open("wb") as log:
            gateway = machine.start(*TIDEGATE, "run", str(path), stderr=log, stdout=subprocess.DEVNULL)
        _wait(directory, gateway, lambda status: status.uplink and status.uplink.acknowledged)
        _wait(directory, gateway, _is_drained)
        status = read_status(directory / "state/status.sock")
        gateway.terminate()
        if gateway.wait():
            raise SystemExit((directory / "gateway.log").read_text()[-3000:])
        wanted = dict(_stored(buffer))
        patience = 600
        while (missing := len(wanted) - len(arrivals.seen)) > 0 and patience:
            patience -= 1
            if not patience % 10:
                print(f"{missing:,} records to be archived", flush=True)
            time.sleep(1)
    archived = archived_records(archive)
    assert status.uplink is not None
    seen = arrivals.seen
    drained_ns = max(at_ns for at_ns, seq in seen if seq <= last)
    first_ns = seen[0][0]
    seqs = [seq for _, seq in seen[1:]]
    live = _latencies((at_ns, wanted[seq]) for at_ns, seq in seen if seq > last and at_ns <= drained_ns)
    command = [*TIDEGATE, "verify", str(directory / "archive"), "--trust", str(directory / "state/identity.pub.pem")]
    verified = subprocess.run([*command, "--json"], check=False, capture_output=True)
    return Drained(
        records=len(buffered), buffer_bytes=buffer_bytes, fill_s=fill_s, start_s=(first_ns - began_ns) / 1e9,
        drain_s=(drained_ns - first_ns) / 1e9, sent_bytes=status.uplink.published_bytes, live_ms=live,
        is_in_order=seqs == sorted(seqs), lost=len(set(wanted.values()) - set(archived)),
        twice=len(archived) - len(set(archived)), is_authentic=json.loads(verified.stdout)["is_wholly_authentic"],
    )  # fmt: skip


def _stored(buffer: Path) -> Iterator[tuple[int, bytes]]:
    """(seq, record) of everything in the buffer."""
    with closing(Reader(PosixDisk(buffer))) as reader:
        number, end = reader.oldest(), reader.durable_end()
        while number < end and (batch := reader.read(number, 1 << 22)):
            yield from ((parse(data).seq, data) for _, data in batch)
            number = batch[-1][0] + 1


def _wait(
    directory: Path, gateway: subprocess.Popen[str], condition: Callable[[StatusSnapshot], object]
) -> None:  # fmt: skip
    """Until the gateway's status says so."""
    while True:
        if gateway.poll() is not None:
            raise SystemExit((directory / "gateway.log").read_text()[-3000:])
        with suppress(OSError):
            if condition(read_status(directory / "state/status.sock")):
                return
        time.sleep(0.05)


def _is_drained(status: StatusSnapshot) -> bool:
    uplink = status.uplink
    return uplink is not None and uplink.waiting <= max(uplink.in_flight, 2) and not uplink.to_resend


def _latencies(arrived: Iterable[tuple[int, bytes]]) -> list[float]:
    """Milliseconds from the end of each scan to the arrival of its record."""
    return [
        (at_ns - block.answered_at_ns) / 1e6
        for at_ns, frame in ((at_ns, parse(data)) for at_ns, data in arrived)
        if frame.type is RecordType.DATA
        for block in data_from_cbor(cbor.decode(unpack(frame.payload, frame.enc)), Unknown()).blocks()
    ]


def rows(drained: Drained, hours: float, link: str, *, is_in_order: bool, command: str) -> list[Row]:
    """The figures."""
    ratio = hours * 3600 / drained.drain_s
    over = f", {drained.sent_bytes * 8 / drained.drain_s / 1e6:.2f} Mbit/s of records over a link of {link}" * bool(
        link
    )
    live = np.percentile(drained.live_ms, (50, 99)) if drained.live_ms else (float("nan"),) * 2
    how = "in order" if is_in_order else "live first"
    what = f"{hours:g} h outage at {READINGS_PER_S:,} readings/s"
    figures = [
        Row(figure=f"P9 {what}, {how}{', ' * bool(link)}{link}", command=command,
            goal=">= 50 x real time, or the link's limit; live p99 <= 2 s" if not is_in_order else "strict order",
            measured=f"{ratio:,.0f} x real time{over}; live p50 {live[0]:.0f} ms, p99 {live[1]:.0f} ms "
            f"({len(drained.live_ms)} scans); {'in strict order' if drained.is_in_order else 'fresh records first'}"),
    ]  # fmt: skip
    if not link and not is_in_order:
        figures.append(
            Row(figure=f"R3 {what}, scaled in time", goal="0 lost", command=command,
                measured=f"{drained.records:,} records, {drained.buffer_bytes / 1e6:,.0f} MB on disk, sealed in "
                f"{drained.fill_s:.0f} s: {drained.lost} lost, {drained.twice} twice; first record sent "
                f"{drained.start_s:.1f} s after the start, drained in {drained.drain_s:.0f} s")
        )  # fmt: skip
    return figures


def main() -> None:
    """Measure, and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=72)
    parser.add_argument("--link", default="", help="rate of the link, as tc has it: 2mbit")
    parser.add_argument("--in-order", action="store_true", help="uplink.mqtt.order: in_order")
    asked = parser.parse_args()
    command = " ".join(["python -m bench.outage", *sys.argv[1:]])
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-", dir="/var/tmp") as name:
        drained = measure(Path(name), asked.hours, link=asked.link, is_in_order=asked.in_order)
    store(rows(drained, asked.hours, asked.link, is_in_order=asked.in_order, command=command))
    if drained.lost or drained.twice or not drained.is_authentic or (asked.in_order and not drained.is_in_order):
        raise SystemExit("the goal is not met")


if __name__ == "__main__":
    main()
