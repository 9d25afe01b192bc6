"""The guest of `bench.ptp_vm`: its clock follows ptp4l, and what a gateway would stamp is shown to the host.

Both see one page of memory. Once in a while the guest opens a sample: the bound, and UTC minus boot time. Then it
answers each question of the host with its boot time, as fast as it can.
"""

from __future__ import annotations

import asyncio
import mmap
import random
import subprocess
from enum import IntEnum
from pathlib import Path

from edge.clock import PtpSource, SystemClock, Timekeeper, boot_id

QUESTIONS = 40
NO_BOUND = -1
_OPEN_NS = 200_000_000
_SHARED_MEMORY = b"0x1af4\n", b"0x1110\n"  # Vendor and device of ivshmem.
_CONFIGURATION = """
[global]
time_stamping software
network_transport L2
slaveOnly 1
uds_address /run/ptp4l
logMinDelayReqInterval -3
# A servo of software stamps would take 16 s to lock.
pi_proportional_const 0.7
pi_integral_const 0.3
[{interface}]
"""


class Word(IntEnum):
    """What each word of 8 bytes of the page holds; the host writes the first two."""

    QUESTION = 0
    END = 1
    ANSWER = 2
    SAMPLE = 3  # Its number while it is open, otherwise 0.
    BOOT_NS = 4
    OFFSET_NS = 5
    BOUND_NS = 6
    STATE = 7


def words(memory: Path) -> memoryview[int]:
    """The page as words; each is written at once."""
    with memory.open("r+b", buffering=0) as shared:
        return memoryview(mmap.mmap(shared.fileno(), mmap.PAGESIZE)).cast("q")


def main() -> None:
    """Show samples until the host ends."""
    interface = next(each.name for each in Path("/sys/class/net").iterdir() if each.name != "lo")
    subprocess.run(["ip", "link", "set", interface, "up"], check=True)
    Path("/run/ptp4l.conf").write_text(_CONFIGURATION.format(interface=interface))
    with subprocess.Popen(["ptp4l", "-f", "/run/ptp4l.conf", "-m", "-q"]) as ptp4l:
        asyncio.run(_show(words(_memory())))
        ptp4l.kill()


def _memory() -> Path:
    for device in Path("/sys/bus/pci/devices").iterdir():
        if ((device / "vendor").read_bytes(), (device / "device").read_bytes()) == _SHARED_MEMORY:
            (device / "enable").write_text("1")
            return device / "resource2"
    raise SystemExit("there is no memory that the host shares")


async def _show(page: memoryview[int]) -> None:
    clock = SystemClock()
    keeper = Timekeeper(
        clock, [PtpSource(clock, "/run/ptp4l")], boot_id(),
        on_step=lambda step: print("step", step, flush=True), on_event=lambda *event: print(*event, flush=True),
    )  # fmt: skip
    polls = asyncio.create_task(keeper.run())
    number = 0
    while not page[Word.END] and not polls.done():
        await asyncio.sleep(random.uniform(0.8, 1.2))  # So that it falls at any time between two polls.
        keeper.observe()
        boot_ns, number = clock.boot_ns(), number + 1
        bound_ns = keeper.quality.bound_at(boot_ns)
        page[Word.OFFSET_NS], page[Word.STATE] = keeper.quality.offset_ns, keeper.quality.state
        page[Word.BOUND_NS] = NO_BOUND if bound_ns is None else bound_ns
        page[Word.SAMPLE] = number
        _answer(page, clock, boot_ns + _OPEN_NS)
        page[Word.SAMPLE] = 0
    polls.cancel()


def _answer(page: memoryview[int], clock: SystemClock, until_ns: int) -> None:
    last, left = page[Word.QUESTION], QUESTIONS
    while left and clock.boot_ns() < until_ns:
        question = page[Word.QUESTION]
        if question != last:
            page[Word.BOOT_NS] = clock.boot_ns()
            page[Word.ANSWER] = last = question
            left -= 1


if __name__ == "__main__":
    main()
