"""The gateway starts on a disk that others have filled, until there is room."""

from __future__ import annotations

import asyncio
import time

from edge.health import StatusSnapshot
from hil import criteria
from hil.evidence import Evidence, Finding
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial

_DISK_MB, _BACK_WITHIN_S = 16, 5
_FILL = (
    'dd if=/dev/zero of="$1/filler" bs=1M 2>/dev/null || true; dd if=/dev/zero of="$1/rest" bs=4k 2>/dev/null || true'
)
_SCANS, _WORKED_AGAIN = "scans while the disk was full", "seconds from room on the disk until it was used"


async def begin_on_a_full_disk(trial: Trial) -> None:
    """Give the gateway's buffer a small disk of its own, and fill it."""
    gateway, disk = trial.bench.gateway, _disk(trial)
    room = {"directory": f"{disk}/buffer", "segment": "1 MiB", "limit": "64 MiB", "free_space": 0}
    gateway.configuration["buffer"] = {**gateway.configuration["buffer"], **room}
    await gateway.host.run("mkdir", "-p", disk)
    await gateway.host.run("mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tidegate-hil", disk)
    await gateway.host.run("sh", "-c", _FILL, "fill", disk)


async def read_and_make_room(trial: Trial) -> None:
    """Let the gateway read with its disk full, then make room."""
    gateway, disk = trial.bench.gateway, _disk(trial)
    with trial.disturbance("disk full"):
        await trial.wait_until("the gateway keeps records in memory", lambda status, _: _state(status) == "memory")
        before = _scans(await gateway.status())
        await asyncio.sleep(trial.seconds)
        await trial.wait_until("devices were read on", lambda status, _: _scans(status) > before)
        trial.observed.figures[_SCANS] = _scans(await gateway.status()) - before
        await gateway.host.run("rm", "-f", f"{disk}/filler", f"{disk}/rest")
    started_s = time.monotonic()
    await trial.wait_until("the disk is used again", lambda status, _: _state(status) == "ok")
    trial.observed.figures[_WORKED_AGAIN] = round(time.monotonic() - started_s, 3)


def it_was_full_and_read_on(evidence: Evidence) -> Finding:
    """Check that the disk failed the gateway, and that devices were read all the same."""
    scans = evidence.observed.figures.get(_SCANS, 0)
    states = [event.data.get("is_in_memory") for event in evidence.events if event.kind == "buffer.memory"]
    said = f"buffer.memory on record {len(states)} times; {scans:g} scans meanwhile"
    return Finding(True in states and scans > 0, said)


def it_recovered_soon(evidence: Evidence) -> Finding:
    """Check that the disk was used again without a restart, soon after there was room."""
    took_s = evidence.observed.figures.get(_WORKED_AGAIN)
    states = [event.data.get("is_in_memory") for event in evidence.events if event.kind == "buffer.memory"]
    holds = took_s is not None and took_s <= _BACK_WITHIN_S and states[-1:] == [False]
    return Finding(holds, "not at all" if took_s is None else f"after {took_s:.2f} s")


def _disk(trial: Trial) -> str:
    return str(trial.bench.gateway.folder / "disk")


def _state(gateway: StatusSnapshot | None) -> str:
    return gateway.buffer.state if gateway and gateway.buffer else ""


def _scans(gateway: StatusSnapshot | None) -> int:
    return sum(group.scans for device in gateway.devices for group in device.scan_groups) if gateway else 0


SCENARIO = Scenario(
    title="Disk of the gateway full",
    purpose="The gateway starts on a disk that others have filled: it reads and delivers from memory, says so on "
    "record, and uses the disk again by itself as soon as there is room.",
    requirements=("R6", "R10", "ALCOA+ complete"),
    needs=("simulated rig",),
    prepare=begin_on_a_full_disk,
    steps=(
        Step("With the disk full from the start, let the gateway read for the given time; then make room, and wait "
             "until the disk is used.", read_and_make_room),
    ),
    criteria=(
        PassCriterion("The disk was full: the gateway put on record that it keeps records in memory, and read on.",
                      it_was_full_and_read_on),
        PassCriterion(f"The disk is used within {_BACK_WITHIN_S} s after there is room, without a restart.",
                      it_recovered_soon),
        *criteria.NOTHING_LOST,
    ),
)  # fmt: skip
