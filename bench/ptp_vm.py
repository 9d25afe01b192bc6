"""T1: does the bound by PTP cover the true error of a clock of its own? `python -m bench.ptp_vm --seconds 120`.

The slave is a virtual machine: its kernel has a clock of its own, which real ptp4l steers there, and the gateway's code
states the bound (`bench/ptp_vm_guest.py`). The grandmaster is a ptp4l on this machine, whose clock is the truth.

PTP has no say in what is true. Through memory that both share, the host asks the guest for its time: when it answered
lies between two readings of the host's own clock, so its error lies between two limits. A bound is too small where no
error between them is within it, and right where all are; otherwise the sample cannot be judged. Of many answers the
quickest counts. At the end a grandmaster that is wrong shows that bounds can be found too small.

It needs root, and `apt-get install qemu-system-x86 mmdebstrap e2fsprogs linuxptp gcc`. `--folder` keeps the guest's
disk. Without `--accel kvm` the processor is emulated.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles

import annotated_types

from bench.ptp_vm_guest import NO_BOUND, QUESTIONS, Word, words
from bench.results import Row, store
from edge.clock import TimeState
from hil.namespaces import Machine
from hil.ptp import PtpClock
from hil.wall_clock import WallClock

_ROOT = Path(__file__).parents[1]
_NEEDED = "qemu-system-x86 mmdebstrap e2fsprogs linuxptp gcc"
_PACKAGES = "linux-image-cloud-amd64,linuxptp,python3,iproute2"
_INIT = """#!/bin/sh
mkdir -p /run/code
tar -xf /dev/vdb -C /run/code
cd /run/code && python3 -B -m bench.ptp_vm_guest
echo o >/proc/sysrq-trigger
sleep 60
"""
_QUIET_LIMIT_S = 180
_LOCK_LIMIT_S = 180
_ANSWER_LIMIT_NS = 300_000_000
_WRONG_NS = 10**9
_WRONG_S = 90  # The offset that ptp4l sees at the change is in the bound for a minute.


@dataclass(slots=True)
class Judgement:
    """Samples as (bound, least error, most error), in nanoseconds."""

    samples: list[tuple[int, int, int]] = field(default_factory=list)
    unbounded: int = 0
    unanswered: int = 0

    def __add__(self, other: Judgement) -> Judgement:
        return Judgement(
            self.samples + other.samples, self.unbounded + other.unbounded, self.unanswered + other.unanswered
        )

    @property
    def too_small(self) -> list[tuple[int, int, int]]:
        """Whose error is beyond the bound, wherever it lies."""
        return [(bound, least, most) for bound, least, most in self.samples if least > bound or most < -bound]

    def counts(self) -> str:
        """How many bounds were too small, or not judged."""
        covered = sum(-bound <= least and most <= bound for bound, least, most in self.samples)
        return (
            f"{len(self.too_small)} of {len(self.samples):,} bounds too small, "
            f"{len(self.samples) - len(self.too_small) - covered} not to be judged, "
            f"{self.unbounded} samples without a bound, {self.unanswered} without an answer"
        )

    def sizes(self) -> str:
        """How large the bounds and the errors were."""
        errors = [abs(least + most) // 2 for _, least, most in self.samples]
        return f"bounds {_typical([bound for bound, *_ in self.samples])}, errors {_typical(errors)}"

    def widths(self) -> str:
        """How exactly the errors are known."""
        return _typical([most - least for _, least, most in self.samples])


def _typical(values_ns: list[int]) -> str:
    if len(values_ns) < 2:
        return "unknown"
    p99_ns = quantiles(values_ns, n=100, method="inclusive")[98]
    return f"{median(values_ns) / 1e6:.3f} ms (p99 {p99_ns / 1e6:.3f})"


class Guest:
    """A virtual machine on the cable `guest` of a machine."""

    def __init__(self, disk: Path, folder: Path, machine: Machine, accel: str) -> None:
        self._console = folder / "console.log"
        page, code = folder / "page", folder / "code.tar"
        page.write_bytes(bytes(1 << 20))
        _pack(code)
        yesterday = datetime.now(UTC) - timedelta(days=1)  # So that nothing but PTP can tell it the time.
        self.process = machine.start(
            "qemu-system-x86_64", "-accel", accel, "-cpu", "max", "-m", "512", "-nodefaults", "-nographic",
            "-no-reboot", "-serial", f"file:{self._console}", "-rtc", f"base={yesterday:%Y-%m-%dT%H:%M:%S}",
            "-kernel", str(disk / "vmlinuz"), "-initrd", str(disk / "initrd"),
            "-append", "root=/dev/vda rw init=/start console=ttyS0 loglevel=4 panic=-1",
            "-drive", f"file={disk / 'disk'},format=raw,if=virtio,snapshot=on",
            "-drive", f"file={code},format=raw,if=virtio,readonly=on",
            "-netdev", "tap,id=cable,ifname=guest,script=no,downscript=no",
            "-device", "virtio-net-pci,netdev=cable,romfile=",
            "-object", f"memory-backend-file,id=page,size=1M,share=on,mem-path={page}",
            "-device", "ivshmem-plain,memdev=page", "-device", "virtio-rng-pci",
        )  # fmt: skip
        self._page = words(page)
        self._sample = self._question = 0

    def sample(self, judgement: Judgement) -> TimeState:
        """Wait for the next sample, and judge it."""
        page, until_s = self._page, time.monotonic() + _QUIET_LIMIT_S
        while page[Word.SAMPLE] in (0, self._sample):
            if self.process.poll() is not None or time.monotonic() > until_s:
                raise SystemExit(f"the virtual machine ended, or shows no sample:\n{self.last_words()}")
            time.sleep(0.001)
        self._sample, bound_ns, offset_ns = page[Word.SAMPLE], page[Word.BOUND_NS], page[Word.OFFSET_NS]
        state = TimeState(page[Word.STATE])
        tries: list[tuple[int, int]] = []
        while len(tries) < QUESTIONS and (limits := self._ask(offset_ns)):
            tries.append(limits)
        if not tries:
            judgement.unanswered += 1
        elif bound_ns == NO_BOUND:
            judgement.unbounded += 1
        else:
            judgement.samples.append((bound_ns, *min(tries, key=lambda limits: limits[1] - limits[0])))
        return state

    def _ask(self, offset_ns: int) -> tuple[int, int] | None:
        """Limits of the guest's error."""
        self._question += 1
        before_ns = after_ns = time.time_ns()
        self._page[Word.QUESTION] = self._question
        while self._page[Word.ANSWER] != self._question:
            after_ns = time.time_ns()
            if after_ns - before_ns > _ANSWER_LIMIT_NS or self._page[Word.SAMPLE] != self._sample:
                return None
        after_ns = time.time_ns()
        guest_ns = self._page[Word.BOOT_NS] + offset_ns
        return guest_ns - after_ns, guest_ns - before_ns

    def last_words(self) -> str:
        """The end of what its console shows."""
        return self._console.read_text(errors="replace")[-2000:] if self._console.exists() else ""

    def end(self) -> None:
        """Let it power off."""
        self._page[Word.END] = 1
        self.process.wait(30)


def _make(disk: Path) -> None:
    """A Debian with ptp4l, as a disk, a kernel and its initrd."""
    root = disk / "root"
    shutil.rmtree(root, ignore_errors=True)  # Of a run that was interrupted.
    root.mkdir(parents=True)
    init = disk / "start"
    init.write_text(_INIT)
    init.chmod(0o755)
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=apt", f"--include={_PACKAGES}", f"--customize-hook=copy-in {init} /",
         "bookworm", str(root)], check=True,
    )  # fmt: skip
    for name, kept in (("vmlinuz-*", "vmlinuz"), ("initrd.img-*", "initrd")):
        shutil.copy(next((root / "boot").glob(name)), disk / kept)
    unfinished = disk / "disk.new"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(unfinished), "700M"], check=True)
    shutil.rmtree(root)
    unfinished.rename(disk / "disk")


def _pack(code: Path) -> None:
    """The gateway's clock, and what it imports."""
    with tarfile.open(code, "w") as archive:
        for path in (*_ROOT.glob("edge/*.py"), *_ROOT.glob("edge/clock/*.py"), *_ROOT.glob("bench/ptp_vm_guest.py")):
            archive.add(path, path.relative_to(_ROOT))
        archive.add(annotated_types.__path__[0], "annotated_types")


def main() -> None:
    """Boot, judge each phase, print and store the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="of each phase")
    parser.add_argument("--folder", type=Path, help="where the guest's disk is kept")
    parser.add_argument("--accel", default="tcg", help="kvm, where it boots a guest")
    asked = parser.parse_args()
    command = f"python -m bench.ptp_vm --seconds {asked.seconds} --accel {asked.accel}"
    if os.geteuid() or not all(shutil.which(each) for each in ("qemu-system-x86_64", "mmdebstrap", "mke2fs", "gcc")):
        raise SystemExit(f"this needs root and the packages {_NEEDED}")
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="ptp-vm-")))
        disk = (asked.folder or folder / "guest").absolute()
        if not (disk / "disk").exists():
            _make(disk)
        machine = running.enter_context(Machine(folder / "host"))
        machine.run("ip", "tuntap", "add", "guest", "mode", "tap")
        machine.run("ip", "link", "set", "guest", "up")
        master = PtpClock(machine, 1, WallClock(folder), "guest")
        master.lead()
        guest = Guest(disk, folder, machine, asked.accel)
        _wait(guest)
        locked = _watch("locked", guest, asked.seconds)
        master.kill()
        lost = _watch("grandmaster killed", guest, asked.seconds)
        master.lead()
        returned = _watch("grandmaster returned", guest, asked.seconds)
        master.kill()
        master.lead(off_ns=_WRONG_NS)
        wrong = _watch("grandmaster wrong", guest, _WRONG_S)
        guest.end()
    if not wrong.too_small:
        raise SystemExit("a grandmaster that was wrong was not noticed, so nothing was judged")
    every = locked + lost + returned
    measured = (
        f"{every.counts()}; locked: {locked.sizes()}; grandmaster killed: {lost.sizes()}; "
        f"returned: {returned.sizes()}; errors known within {every.widths()}; with a grandmaster "
        f"{_WRONG_NS / 1e9:.0f} s wrong {len(wrong.too_small)} of {len(wrong.samples)} found too small"
    )
    goal = "true error within the stated bound in every sample"
    store([Row(figure="T1 PTP, in a virtual machine", goal=goal, command=command, measured=measured)])


def _wait(guest: Guest) -> None:
    until_s = time.monotonic() + _LOCK_LIMIT_S
    while guest.sample(Judgement()) is not TimeState.SYNCHRONIZED:
        if time.monotonic() > until_s:
            raise SystemExit(f"ptp4l did not lock within {_LOCK_LIMIT_S} s:\n{guest.last_words()}")


def _watch(name: str, guest: Guest, seconds: int) -> Judgement:
    judgement, until_s = Judgement(), time.monotonic() + seconds
    while time.monotonic() < until_s:
        guest.sample(judgement)
    print(f"{name}: {judgement.counts()}; {judgement.sizes()}, known within {judgement.widths()}", flush=True)
    for sample in judgement.too_small[:3]:
        print("    bound, least and most error in ns:", *sample)
    return judgement


if __name__ == "__main__":
    main()
