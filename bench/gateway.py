"""The whole gateway under load: readings per CPU second, bytes, latency, and that nothing was lost or altered.

`python -m bench.gateway paced` measures the paced load of P1, P3, P5, P6 and P7; `ceiling` P2, `overload` and `fleet`
P8, `protocols` the throughput of one core with OPC UA and EtherNet/IP, `storage` the part of P7 about the disk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench.results import Row, store
from bench.rig import BlockDevice, Rig, block_device, other_threads_s, usage
from bench.sites import Load
from bench.subscriber import read
from edge.clock import TimeQuality
from edge.config import check
from edge.gateway import settings_map
from edge.health import StatusSnapshot
from edge.seal import Chain, ChainRules, Encoding, IdentityKey, MemoryCounter, RecordType, cbor, parse
from edge.seal.cbor import Unknown
from edge.seal.codec import unpack
from edge.seal.data import data_from_cbor
from edge.seal.keys import SigningKey
from edge.units import parse_duration_ns
from edge.verify import Trust, Verdict, Verifier

_SETTLE_S = 4.0


Column = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measured run."""

    load: Load
    seconds: float
    cpu_s: float
    switches: int
    resident_bytes: int
    readings: int
    record_bytes: int
    records: int
    due: int
    skipped: int
    failed: int
    latency_ms: Column
    lateness_ms: Column
    buffer_thread_s: float
    seal_s: float
    verdicts: Counter[Verdict]
    missing: int

    @property
    def core(self) -> float:
        """Share of one core that the gateway's process took."""
        return self.cpu_s / self.seconds

    @property
    def per_cpu_s(self) -> float:
        """Readings per CPU second of the gateway's process."""
        return self.readings / self.cpu_s

    @property
    def per_s(self) -> float:
        """Readings per second of time."""
        return self.readings / self.seconds

    @property
    def is_clean(self) -> bool:
        """Whether every record that arrived is authentic, and no record is missing."""
        return set(self.verdicts) <= {Verdict.AUTHENTIC, Verdict.DUPLICATE} and not self.missing

    def latency(self, percent: float) -> float:
        """Milliseconds from a scan's last answer to the record's arrival at a subscriber."""
        return float(np.percentile(self.latency_ms, percent)) if self.latency_ms.size else float("nan")

    def lateness(self, percent: float) -> float:
        """Milliseconds from the grid to a scan's first request."""
        return float(np.percentile(self.lateness_ms, percent)) if self.lateness_ms.size else float("nan")

    @property
    def integrity(self) -> float:
        """Share of the CPU that goes into packing, hashing, signing and the thread that writes and syncs."""
        return (self.seal_s + self.buffer_thread_s) / self.cpu_s

    def __str__(self) -> str:
        return (
            f"{self.load.asked}, {self.load.in_flight} in flight, window {self.load.commit_window}: "
            f"{self.per_s:,.0f} readings/s on {self.core:.1%} of a core, {self.per_cpu_s:,.0f} per CPU second, "
            f"{self.record_bytes / max(self.readings, 1):.2f} bytes a reading, "
            f"{self.resident_bytes / 2**20:.0f} MiB, {self.skipped} of {self.due} scans skipped, "
            f"latency p50 {self.latency(50):.1f} ms p99 {self.latency(99):.1f} ms, "
            f"late p50 {self.lateness(50):.2f} ms p99 {self.lateness(99):.2f} ms, integrity {self.integrity:.1%}, "
            f"{dict(self.verdicts)} {self.missing} missing"
        )


def run(
    load: Load,
    seconds: float,
    *,
    state: Path | None = None,
    settle_s: float = _SETTLE_S,
    around: AbstractContextManager[object] | None = None,
) -> Run:
    """Run a load for some seconds and evaluate its records; `state` is the state directory, on another disk."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name, Rig(load, Path(name), state) as rig:
        return measure(rig, seconds, settle_s=settle_s, around=around)


def measure(
    rig: Rig, seconds: float, *, settle_s: float = _SETTLE_S, around: AbstractContextManager[object] | None = None
) -> Run:
    """Run a gateway on a rig that has had none yet."""
    load = rig.load
    with rig.gateway() as gateway:
        time.sleep(settle_s)
        first, before, threads_before = rig.status(), usage(gateway.pid), other_threads_s(gateway.pid)
        with around or nullcontext():
            time.sleep(seconds)
        last, after, threads_after = rig.status(), usage(gateway.pid), other_threads_s(gateway.pid)
    time.sleep(1.0)
    assert first is not None
    assert last is not None
    assert first.chain is not None
    assert last.chain is not None
    seen = _inspect(rig, before.at_s, after.at_s)
    done, skipped, failed = (
        _sum(last, each) - _sum(first, each) for each in ("scans", "skipped_scans", "failed_scans")
    )
    return Run(
        load=load, seconds=after.at_s - before.at_s, cpu_s=after.cpu_s - before.cpu_s,
        switches=after.switches - before.switches,
        resident_bytes=after.resident_bytes, readings=last.chain.readings - first.chain.readings,
        record_bytes=last.chain.record_bytes - first.chain.record_bytes,
        records=last.chain.records - first.chain.records, due=done + skipped + failed, skipped=skipped, failed=failed,
        buffer_thread_s=threads_after - threads_before, seal_s=_sealing_s(seen.payloads, load), verdicts=seen.verdicts,
        missing=seen.missing, latency_ms=np.array(seen.latency_ms), lateness_ms=np.array(seen.lateness_ms),
    )  # fmt: skip


class _Writes:
    """Counts the bytes written to a block device while the context is open."""

    def __init__(self, device: BlockDevice) -> None:
        self._device = device
        self.written_bytes = 0

    def __enter__(self) -> _Writes:
        self._before = self._device.written_bytes()
        return self

    def __exit__(self, *_: object) -> None:
        self.written_bytes = self._device.written_bytes() - self._before


@dataclass(slots=True)
class _Seen:
    """The records that the subscriber received."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    missing: int = 0
    latency_ms: list[float] = field(default_factory=list)
    lateness_ms: list[float] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)


def _inspect(rig: Rig, from_s: float, to_s: float) -> _Seen:
    """Verify every record; time those that were sealed while it was measured."""
    verifier = Verifier(Trust.load([rig.state / "identity.pub.pem"]))
    seen = _Seen()
    interval_ns = parse_duration_ns(rig.load.every)
    phases_ns = settings_map.phases_ns(check.load(rig.directory / "site.yaml"))
    for arrived_ns, data in read(rig.records):
        for judgement in verifier.add(data):
            seen.verdicts[judgement.verdict] += 1
        frame = parse(data)
        if frame.type is not RecordType.DATA or not from_s <= arrived_ns / 1e9 <= to_s:
            continue
        payload = unpack(frame.payload, frame.enc)
        seen.payloads.append(payload)
        for block in data_from_cbor(cbor.decode(payload), Unknown()).blocks():
            seen.latency_ms.append((arrived_ns - block.answered_at_ns) / 1e6)
            seen.lateness_ms.append((block.asked_at_ns - phases_ns[block.group]) % interval_ns / 1e6)
    # A record that waited for its key has two verdicts: the last one counts.
    seen.verdicts = Counter({Verdict(name): count for epoch in verifier.report().epochs
                             for name, count in epoch.verdicts.items() if count})  # fmt: skip
    absent = [span for epoch in verifier.report().epochs for span in epoch.absent]
    seen.missing = sum(last - first + 1 for _, first, last in absent)
    return seen


def _sealing_s(payloads: list[bytes], load: Load) -> float:
    """CPU seconds that it takes to pack, hash and sign these payloads again."""
    encoding = {"zstd": Encoding.ZSTD, "zlib": Encoding.ZLIB, "off": Encoding.PLAIN}[load.compression]
    time_quality = TimeQuality(as_of_ns=0, offset_ns=0, boot_id=bytes(16))
    identity = IdentityKey(SigningKey.generate(), MemoryCounter())
    rules = ChainRules(encoding=encoding)
    chain, _ = Chain.start(identity, issuer="urn:tidegate:bench", time=time_quality, now_boot_ns=0, rules=rules)
    started_s = time.process_time()
    for payload in payloads:
        chain.seal(RecordType.DATA, payload)
    return time.process_time() - started_s


def _sum(state: StatusSnapshot, field: str) -> int:
    return sum(getattr(group, field) for device in state.devices for group in device.scan_groups)


def paced(seconds: float) -> list[Row]:
    """P1, P3, P5, P6 and P7 at 500,000 readings/s; latency and starts with a commit window are in `bench.loads`."""
    command = "python -m bench.gateway paced"
    load = Load()
    plain = run(load, seconds)
    pipelined = run(replace(load, in_flight=9), seconds)
    at_once = run(replace(load, commit_window="0 ms"), seconds)
    calm = run(replace(load, moving=5), seconds)
    for each in (plain, pipelined, at_once, calm):
        print(each)
        insist_on_clean(each)
    return [
        Row(figure="P1 un-pipelined", goal=">= 1.5 M readings per CPU second",
            measured=f"{plain.per_cpu_s / 1e6:.2f} M", command=command),
        Row(figure="P1 pipelined", goal=">= 4 M readings per CPU second",
            measured=f"{pipelined.per_cpu_s / 1e6:.2f} M", command=command),
        Row(figure="P3 latency, window 0", goal="p99 <= 2 ms to PUBACK", command=command,
            measured=f"p50 {at_once.latency(50):.1f} ms, p99 {at_once.latency(99):.1f} ms to a subscriber's hands"),
        Row(figure="P5 integrity", goal="<= 10 % of the CPU", command=command,
            measured=f"{plain.integrity:.1%} (sealing {plain.seal_s / plain.cpu_s:.1%}, "
            f"writing and syncing {plain.buffer_thread_s / plain.cpu_s:.1%})"),
        Row(figure="P6 at the paced load", goal="<= 90 MiB resident",
            measured=f"{plain.resident_bytes / 2**20:.0f} MiB", command=command),
        Row(figure="P7 bytes, all moving", goal="<= 5.0 a reading",
            measured=f"{plain.record_bytes / plain.readings:.2f}", command=command),
        Row(figure="P7 bytes, 5 % moving", goal="<= 1.0 a reading",
            measured=f"{calm.record_bytes / calm.readings:.2f}", command=command),
    ]  # fmt: skip


def ceiling(seconds: float) -> list[Row]:
    """P2: the throughput of one core under more load than it can carry."""
    rows = []
    for in_flight, name, goal in ((1, "un-pipelined", "2 M"), (9, "pipelined", "5 M")):
        best = run(Load(in_flight=in_flight, every="2 ms"), seconds)
        print(best)
        insist_on_clean(best)
        rows.append(
            Row(figure=f"P2 {name}", goal=f">= {goal} readings/s on one core", measured=f"{best.per_s / 1e6:.2f} M/s, "
                f"{best.skipped} of {best.due} scans skipped and counted, 0 gaps",
                command="python -m bench.gateway ceiling")
        )  # fmt: skip
    return rows


def overload(seconds: float) -> list[Row]:
    """P8: three times the load that fits, and the cost per reading of ten and of a hundred devices."""
    command = "python -m bench.gateway overload"
    few, many = run(Load(devices=10), seconds), run(Load(), seconds)
    full = run(Load(every="24 ms"), seconds)
    threefold = run(Load(every="8 ms"), seconds)
    for each in (few, many, full, threefold):
        print(each)
        insist_on_clean(each)
    return [
        Row(figure="P8 cost of 100 devices against 10", goal="<= 1", command=command,
            measured=f"{few.per_cpu_s / many.per_cpu_s:.2f}"),
        Row(figure="P8 overload", goal=">= 90 % of the ceiling, every skipped scan counted", command=command,
            measured=f"{threefold.per_s / max(full.per_s, threefold.per_s):.0%}, {threefold.skipped} of "
            f"{threefold.due} scans skipped and counted, {threefold.resident_bytes / 2**20:.0f} MiB"),
    ]  # fmt: skip


def fleet(seconds: float) -> list[Row]:
    """P8: a thousand small devices."""
    wide = run(Load(devices=1000, tags=100, every="1 s"), seconds)
    print(wide)
    insist_on_clean(wide)
    return [
        Row(figure="P8 1,000 devices x 100 tags at 1 s", goal="<= 30 % of a core",
            command="python -m bench.gateway fleet",
            measured=f"{wide.core:.0%}")
    ]  # fmt: skip


def protocols(seconds: float) -> list[Row]:
    """The throughput of one core with devices of other protocols, without a skipped scan."""
    rows = []
    for load in (
        Load(driver="opcua", devices=100, tags=100, every="1 s"),
        Load(driver="ethernetip", devices=20, tags=500, every="250 ms"),
    ):
        polled = run(load, seconds)
        print(polled)
        insist_on_clean(polled)
        rows.append(
            Row(figure=load.asked, goal="0 skipped scans on one core", command="python -m bench.gateway protocols",
                measured=f"{polled.skipped} of {polled.due} scans skipped, "
                f"{polled.core:.0%} of a core, {polled.resident_bytes / 2**20:.0f} MiB, "
                f"start of scans p50 {polled.lateness(50):.2f} ms, p99 {polled.lateness(99):.2f} ms")
        )  # fmt: skip
    return rows


def storage(seconds: float) -> list[Row]:
    """P7: the bytes written to disk, counted at a block device of its own; needs root.

    First on a new disk, then in the long run, when delivered segments are overwritten in place.
    """
    command = "python -m bench.gateway storage"
    rows = []
    lasting = Load(keep_delivered="0 s", resend_window="0 s")
    for load, settle_s, name in ((Load(), _SETTLE_S, "a new disk"), (lasting, 60.0, "segments written in place")):
        with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as place, block_device(Path(place)) as device:
            measured = _Writes(device)
            sealed = run(load, seconds, state=device.directory / "state", settle_s=settle_s, around=measured)
        print(sealed)
        insist_on_clean(sealed)
        rows.append(
            Row(figure=f"P7 storage writes, {name}", goal="<= 1.5 x record bytes", command=command,
                measured=f"{measured.written_bytes / sealed.record_bytes:.2f} x")
        )  # fmt: skip
    return rows


def insist_on_clean(each: Run) -> None:
    """End the benchmark unless every record arrived as it was sealed."""
    if not each.is_clean:
        raise SystemExit(f"not every record arrived authentic: {dict(each.verdicts)}, {each.missing} missing")


_BENCHMARKS = {
    "paced": paced,
    "ceiling": ceiling,
    "overload": overload,
    "fleet": fleet,
    "protocols": protocols,
    "storage": storage,
}


def main(arguments: list[str]) -> None:
    """Run the chosen benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*_BENCHMARKS, []], help="by default all of them")
    parser.add_argument("--seconds", type=float, default=15.0)
    wanted = parser.parse_args(arguments)
    for name in wanted.what or _BENCHMARKS:
        store(_BENCHMARKS[name](wanted.seconds))


if __name__ == "__main__":
    main(sys.argv[1:])
