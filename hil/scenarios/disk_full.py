"""The disk of a running gateway is filled by others, and freed again."""

from __future__ import annotations

import asyncio
import time

from edge.health import StatusSnapshot
from edge.health.snapshot import BufferStatus
from edge.seal import Loss
from hil import criteria
from hil.document import Figure, Line, Plot, thinned
from hil.evidence import Evidence, Finding
from hil.load import REGISTERS, load_devices, load_settings
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial

_DISK_MB, _BACK_WITHIN_S, _RESEND_S = 8, 5, 1
_TEXTS, _EVERY_MS = 20, 20.0
"""Of the load device: texts that no compressor makes smaller, so that the little that is left soon runs out."""
_FILL = 'dd if=/dev/zero of="$1/filler" bs=4k 2>/dev/null || true; df --output=avail -B1 "$1" | tail -n 1'
_FREE, _SCANS, _DROPPED = "bytes free on the full disk", "scans while the disk was full", "records dropped"
_WORKED_AGAIN = "seconds from room on the disk until it was used"


async def give_it_a_small_disk(trial: Trial) -> None:
    """Give the gateway's buffer a small disk of its own, and a device that says much."""
    gateway, disk = trial.bench.gateway, _disk(trial)
    room = {"directory": f"{disk}/buffer", "segment": "1 MiB", "limit": "64 MiB", "free_space": 0}
    gateway.configuration["buffer"] = {**gateway.configuration["buffer"], **room}
    gateway.configuration["uplink"]["mqtt"]["resend_window"] = f"{_RESEND_S} s"  # What it keeps counts as waiting.
    [place] = await trial.bench.stack.enter_async_context(load_devices(trial.bench, 1))
    rows = [{"name": f"t{at}", "address": f"holding {REGISTERS * at}", "type": "text", "length": 2 * REGISTERS,
             "encoding": "latin-1", "padding": "keep"} for at in range(_TEXTS)]  # fmt: skip
    gateway.configuration["devices"] = [*gateway.configuration["devices"],
                                        load_settings("load", place, rows, _EVERY_MS)]  # fmt: skip
    await gateway.host.run("mkdir", "-p", disk)
    await gateway.host.run("mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tidegate-hil", disk)


async def fill_the_disk(trial: Trial) -> None:
    """Fill the disk of the running gateway, and let it read."""
    gateway = trial.bench.gateway
    trial.observed.figures[_FREE] = int(await gateway.host.run("sh", "-c", _FILL, "fill", _disk(trial)))
    before = _scans(await gateway.status())
    with trial.disturbance("disk full"):
        await asyncio.sleep(trial.seconds)
        await trial.wait_until("devices were read on", lambda status, _: _scans(status) > before)
    trial.observed.figures[_SCANS] = _scans(await gateway.status()) - before


async def cut_off_and_make_room(trial: Trial) -> None:
    """Pull the cable to the broker until records are dropped; then make room, and plug it in."""
    gateway = trial.bench.gateway
    assert gateway.uplink is not None
    with trial.disturbance("disk full, broker out of reach"):
        await gateway.uplink.off()
        # The oldest that wait may be on their way: more is dropped than that.
        waiting = _buffer(await gateway.status()).undelivered_records or 0
        await trial.wait_until("records were dropped", lambda status, _: _buffer(status).dropped_records > waiting)
        full = _buffer(await gateway.status())
        await gateway.host.run("rm", f"{_disk(trial)}/filler")
    started_s = time.monotonic()
    await trial.wait_until(
        "the disk is used again",
        lambda status, _: _buffer(status).state == "ok" and _buffer(status).stored_bytes > full.stored_bytes,
    )
    trial.observed.figures[_WORKED_AGAIN] = round(time.monotonic() - started_s, 3)
    trial.observed.figures[_DROPPED] = _buffer(await gateway.status()).dropped_records
    await gateway.uplink.on()


def it_was_full_and_read_on(evidence: Evidence) -> Finding:
    """Check that the disk had no room for a segment, and that devices were read all the same."""
    free, scans = (evidence.observed.figures.get(name, -1) for name in (_FREE, _SCANS))
    plot = Plot(title="What the buffer holds on disk", unit="MB", spans=tuple(evidence.observed.disturbances),
                lines=(Line(name="stored", points=thinned((at_ns, value and value / 1e6) for at_ns, value
                                                          in evidence.observed.samples.get("bytes stored", []))),),
                caption="It stops growing where the disk is full, and grows again as soon as there is room.",
                )  # fmt: skip
    return Finding(free == 0 and scans > 0, f"{free:g} bytes were free; {scans:g} scans meanwhile", plots=[plot])


def the_loss_is_on_record(evidence: Evidence) -> Finding:
    """Check that as many records are declared lost as the gateway has dropped, whether or not they had arrived."""
    dropped = evidence.observed.figures.get(_DROPPED, 0)
    # A LOSS that may not have arrived is sealed again, and so may say the same.
    lost = {seq for each in evidence.records if isinstance(each, Loss) for seq in range(each.first, each.last + 1)}
    absent = sum(last - first + 1 for epoch in evidence.verdict["epochs"] for _, first, last in epoch["absent"])
    words = f"{dropped:g} records dropped, {len(lost)} declared lost, of which {absent} never arrived"
    return Finding(0 < dropped <= len(lost), words, [Figure(name="records lost", value=absent)])


def it_recovered_soon(evidence: Evidence) -> Finding:
    """Check that the disk was used again soon after there was room."""
    took_s = evidence.observed.figures.get(_WORKED_AGAIN)
    holds = took_s is not None and took_s <= _BACK_WITHIN_S
    return Finding(holds, "not at all" if took_s is None else f"after {took_s:.2f} s")


def _disk(trial: Trial) -> str:
    return str(trial.bench.gateway.folder / "disk")


def _buffer(gateway: StatusSnapshot | None) -> BufferStatus:
    return gateway.buffer if gateway and gateway.buffer else BufferStatus()


def _scans(gateway: StatusSnapshot | None) -> int:
    return sum(group.scans for device in gateway.devices for group in device.scan_groups) if gateway else 0


SCENARIO = Scenario(
    title="Disk of the gateway full",
    purpose="Others fill the disk of a running gateway: it reads on, and delivers with the space that it has. When the "
    "broker cannot be reached either, it drops the oldest records and says so on record, and it uses the disk again by "
    "itself as soon as there is room.",
    requirements=("R6", "R10", "ALCOA+ complete"),
    needs=("simulated rig",),
    prepare=give_it_a_small_disk,
    steps=(
        Step("Fill the disk of the running gateway, and let it read for the given time.", fill_the_disk),
        Step("Pull the cable to the broker until the gateway drops records; then make room, wait until the disk is "
             "used, and plug the cable in.", cut_off_and_make_room),
    ),
    criteria=(
        PassCriterion("The disk was full, with 0 bytes free, and devices were read on.", it_was_full_and_read_on),
        PassCriterion("Records were dropped, and a LOSS is on record for each.",
                      the_loss_is_on_record),
        PassCriterion(f"The disk is used within {_BACK_WITHIN_S} s after there is room.", it_recovered_soon),
        PassCriterion("The gateway was not restarted.", criteria.it_was_not_restarted),
        *criteria.NOTHING_LOST[:-1],
        PassCriterion("But for what is declared lost the archive is authentic, its chain is closed, and no record is "
                      "in it twice.", criteria.the_archive_is_authentic_but_for_losses),
    ),
)  # fmt: skip
