"""Values of every type stand still, in every order of their bytes."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from hil import acquisition
from hil.criteria import the_archive_is_wholly_authentic
from hil.document import Figure
from hil.evidence import Evidence, Finding
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial
from hil.watch import take_turn, watching

_ORDERS, _SCANS = 4, 6


async def read_side_by_side(trial: Trial) -> None:
    """Let the witness read beside the gateway for the given time, and long enough for scans of the slowest group."""
    slowest_s = max(group.every for device in trial.bench.rig.checked for group in device.scan_groups) / 1e9
    async with watching(trial):
        await asyncio.sleep(max(trial.seconds, _SCANS * slowest_s))


def every_order_was_read(evidence: Evidence) -> Finding:
    """Check that the rig has each order of words and bytes; of other protocols than Modbus, the types are counted."""
    orders: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    types: defaultdict[str, set[str]] = defaultdict(set)
    for device in evidence.rig.checked:
        for tag in (tag for group in device.scan_groups for tag in group.tags):
            if not evidence.archived.get(f"{device.name}/{tag.name}"):
                continue
            types[device.driver].add(tag.data_type.label)
            if device.driver == "modbus" and tag.data_type.is_number:
                order = [getattr(tag, each) or getattr(device, each) for each in ("word_order", "byte_order")]
                orders[order[0], order[1]].add(tag.type)
    words = [
        f"words {word}, bytes {byte}: {', '.join(sorted(kinds))}" for (word, byte), kinds in sorted(orders.items())
    ]
    words += [f"{driver}: {', '.join(sorted(kinds))}" for driver, kinds in sorted(types.items()) if driver != "modbus"]
    figures = [Figure(name=f"types read with {driver}", value=len(kinds)) for driver, kinds in sorted(types.items())]
    return Finding("modbus" not in types or len(orders) == _ORDERS, "; ".join(words) or "nothing was read", figures)


SCENARIO = Scenario(
    title="Types and orders of bytes",
    purpose="A value of several registers or bytes is put together in the order that the device has, and recorded as "
    "the type that the device has: a library that is not Tidegate's finds the same, to the bit.",
    requirements=("ALCOA+ accurate", "ALCOA+ original"),
    needs=("witness",),
    seconds=5.0,
    prepare=take_turn,
    steps=(Step("Let gateway and witness read every device side by side for the given time.", read_side_by_side),),
    criteria=(
        PassCriterion("Values were read in all 4 orders of words and bytes that Modbus devices have.",
                      every_order_was_read),
        PassCriterion("Value, type and quality of every archived reading agree with the witness; what stands still, to "
                      "the bit.", acquisition.witness_agrees),
        PassCriterion("Every archived value is one that the device wrote down between request and answer.",
                      acquisition.device_log_agrees),
        PassCriterion("Every archived value of a known signal is the signal's at that moment.",
                      acquisition.values_follow_their_signals),
        PassCriterion("The archive is wholly authentic, its chain is closed, and no record is in it twice.",
                      the_archive_is_wholly_authentic),
    ),
)  # fmt: skip
