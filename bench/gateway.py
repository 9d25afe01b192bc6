"""The whole gateway under load: readings per CPU second, bytes, latency, and that nothing was lost or altered.

`python -m bench.gateway paced` measures the paced load of P1, P3 and P7; `ceiling` P2, `overload` and `fleet` P8.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.results import Row, store
from bench.rig import Load, Rig, usage
from bench.subscriber import read
from edge.health import Snapshot
from edge.seal import Data, RecordType, Trust, Verdict, Verifier, decode, parse
from edge.seal.packing import unpack

_SETTLE_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measured run."""

    load: Load
    seconds: float
    cpu_s: float
    resident_bytes: int
    readings: int
    record_bytes: int
    records: int
    due: int
    skipped: int
    failed: int
    latency_ms: np.ndarray[tuple[int], np.dtype[np.float64]]
    verdicts: Counter[Verdict]
    missing: int

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
        """Whether every record that arrived is authentic, and none is missing."""
        return set(self.verdicts) <= {Verdict.AUTHENTIC, Verdict.DUPLICATE} and not self.missing

    def latency(self, percent: float) -> float:
        """Milliseconds from a scan's last answer to the record's arrival at a subscriber."""
        return float(np.percentile(self.latency_ms, percent))

    def __str__(self) -> str:
        core = self.cpu_s / self.seconds
        return (
            f"{self.load.asked}, {self.load.in_flight} in flight, window {self.load.commit_window}: "
            f"{self.per_s:,.0f} readings/s on {core:.0%} of a core, {self.per_cpu_s:,.0f} per CPU second, "
            f"{self.record_bytes / max(self.readings, 1):.2f} bytes a reading, "
            f"{self.resident_bytes / 2**20:.0f} MiB, {self.skipped} of {self.due} scans skipped, "
            f"latency p50 {self.latency(50):.1f} ms p99 {self.latency(99):.1f} ms, "
            f"{dict(self.verdicts)} {self.missing} missing"
        )


def run(load: Load, seconds: float) -> Run:
    """Run a load for some seconds and look at everything that came out."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        directory = Path(name)
        with Rig(load, directory) as rig:
            with rig.gateway() as gateway:
                time.sleep(_SETTLE_S)
                first, before = rig.status(), usage(gateway.pid)
                time.sleep(seconds)
                last, after = rig.status(), usage(gateway.pid)
                assert first is not None
                assert last is not None
                assert last.chain is not None
                assert first.chain is not None
            time.sleep(1.0)
        measured_s = after.at_s - before.at_s
        verdicts, missing, latency_ms = _inspect(rig, before.at_s, after.at_s)
        done, skipped, failed = (
            _sum(last, each) - _sum(first, each) for each in ("scans", "skipped_scans", "failed_scans")
        )
        return Run(
            load=load, seconds=measured_s, cpu_s=after.cpu_s - before.cpu_s, resident_bytes=after.resident_bytes,
            readings=last.chain.readings - first.chain.readings,
            record_bytes=last.chain.record_bytes - first.chain.record_bytes,
            records=last.chain.records - first.chain.records, due=done + skipped + failed, skipped=skipped,
            failed=failed, latency_ms=latency_ms, verdicts=verdicts, missing=missing,
        )  # fmt: skip


def _sum(state: Snapshot, field: str) -> int:
    return sum(getattr(group, field) for device in state.devices for group in device.groups)


def _inspect(rig: Rig, from_s: float, to_s: float) -> tuple[Counter[Verdict], int, np.ndarray]:  # type: ignore[type-arg]
    """Verify every record that the subscriber got; latencies of those that were sealed while it was measured."""
    verifier = Verifier(Trust.load([rig.directory / "state" / "identity.pub.pem"]))
    verdicts: Counter[Verdict] = Counter()
    latencies: list[float] = []
    for arrived_ns, data in read(rig.records):
        for judgement in verifier.add(data):
            verdicts[judgement.verdict] += 1
        frame = parse(data)
        if frame.type is RecordType.DATA and from_s <= arrived_ns / 1e9 <= to_s:
            payload = decode(frame.type, unpack(frame.payload, frame.enc))
            assert isinstance(payload, Data)
            latencies += ((arrived_ns - block.answered_at_ns) / 1e6 for block in payload.blocks())
    absent = [span for epoch in verifier.report().epochs for span in epoch.absent]
    missing = sum(last - first + 1 for _, first, last in absent)
    return verdicts, missing, np.array(latencies or [0.0])


def paced(seconds: float) -> list[Row]:
    """P1, P3 and P7 at 500,000 readings/s."""
    command = "python -m bench.gateway paced"
    load = Load()
    to_hand = "to a subscriber's hands"
    plain = run(load, seconds)
    pipelined = run(replace(load, in_flight=8), seconds)
    at_once = run(replace(load, commit_window="0 ms"), seconds)
    calm = run(replace(load, moving=5), seconds)
    for each in (plain, pipelined, at_once, calm):
        print(each)
        _insist_on_clean(each)
    return [
        Row(figure="P1 un-pipelined", goal=">= 1.5 M readings per CPU second",
            measured=f"{plain.per_cpu_s / 1e6:.2f} M", command=command),
        Row(figure="P1 pipelined", goal=">= 4 M readings per CPU second",
            measured=f"{pipelined.per_cpu_s / 1e6:.2f} M", command=command),
        Row(figure="P3 latency, window 20 ms", goal="p99 <= 25 ms to PUBACK",
            measured=f"p50 {plain.latency(50):.1f} ms, p99 {plain.latency(99):.1f} ms {to_hand}", command=command),
        Row(figure="P3 latency, window 0", goal="p99 <= 2 ms to PUBACK",
            measured=f"p50 {at_once.latency(50):.1f} ms, p99 {at_once.latency(99):.1f} ms {to_hand}",
            command=command),
        Row(figure="P6 at the paced load", goal="<= 90 MiB resident",
            measured=f"{plain.resident_bytes / 2**20:.0f} MiB", command=command),
        Row(figure="P7 bytes, all moving", goal="<= 5.0 a reading",
            measured=f"{plain.record_bytes / plain.readings:.2f}", command=command),
        Row(figure="P7 bytes, 5 % moving", goal="<= 1.0 a reading",
            measured=f"{calm.record_bytes / calm.readings:.2f}", command=command),
    ]  # fmt: skip


def ceiling(seconds: float) -> list[Row]:
    """P2: what one core carries when it is asked for more than it can."""
    rows = []
    for in_flight, name, goal in ((1, "un-pipelined", "2 M"), (8, "pipelined", "5 M")):
        best = run(Load(in_flight=in_flight, every="10 ms"), seconds)
        print(best)
        _insist_on_clean(best)
        rows.append(
            Row(figure=f"P2 {name}", goal=f">= {goal} readings/s on one core", measured=f"{best.per_s / 1e6:.2f} M/s, "
                f"{best.skipped} of {best.due} scans skipped and counted, 0 gaps",
                command="python -m bench.gateway ceiling")
        )  # fmt: skip
    return rows


def overload(seconds: float) -> list[Row]:
    """P8: three times too much, and the cost per reading of ten and of a hundred devices."""
    command = "python -m bench.gateway overload"
    few, many = run(Load(devices=10), seconds), run(Load(), seconds)
    full = run(Load(every="20 ms"), seconds)
    threefold = run(Load(every="7 ms"), seconds)
    for each in (few, many, full, threefold):
        print(each)
        _insist_on_clean(each)
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
    _insist_on_clean(wide)
    return [
        Row(figure="P8 1,000 devices x 100 tags at 1 s", goal="<= 30 % of a core",
            command="python -m bench.gateway fleet",
            measured=f"{wide.cpu_s / wide.seconds:.0%}")
    ]  # fmt: skip


def _insist_on_clean(each: Run) -> None:
    if not each.is_clean:
        raise SystemExit(f"not every record arrived authentic: {dict(each.verdicts)}, {each.missing} missing")


_BENCHMARKS = {"paced": paced, "ceiling": ceiling, "overload": overload, "fleet": fleet}


def main(arguments: list[str]) -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*_BENCHMARKS, []], help="by default all of them")
    parser.add_argument("--seconds", type=float, default=15.0)
    wanted = parser.parse_args(arguments)
    for name in wanted.what or _BENCHMARKS:
        store(_BENCHMARKS[name](wanted.seconds))


if __name__ == "__main__":
    main(sys.argv[1:])
