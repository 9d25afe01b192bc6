"""The gateway's machine loses its power while it reads, seals and sends."""

from __future__ import annotations

import asyncio

from edge.seal import Data, Gap
from hil.document import Figure
from hil.evidence import Evidence, Finding
from hil.interruptions import NOTHING_LOST, wait_for_all_devices
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial

_FIRST_READING_S = 10


async def cut_the_power(trial: Trial) -> None:
    """Turn the machine's power off for the given time, then on, and start the gateway."""
    gateway = trial.bench.gateway
    assert gateway.power is not None
    with trial.disturbance("gateway without power"):
        await gateway.power.off()
        await asyncio.sleep(trial.seconds)
        await gateway.power.on()
        await gateway.start()
    if trial.bench.rig.is_simulated:
        trial.observed.deviations.append(
            "The power of the simulated gateway was cut by killing what runs on it; its disk keeps what was written "
            "and not yet synced, which a real power cut can lose."
        )
    await wait_for_all_devices(trial)


def it_did_not_stop_cleanly(evidence: Evidence) -> Finding:
    """Check that the chain has a second start without a stop before it."""
    kinds = [event.kind for event in evidence.events if event.kind in ("start", "stop")]
    return Finding(kinds[:2] == ["start", "start"], f"on record: {', '.join(kinds) or 'neither start nor stop'}")


def the_outage_is_declared(evidence: Evidence) -> Finding:
    """Check that a GAP of all scan groups covers the time without power."""
    (span,) = evidence.observed.disturbances
    off_ns = span.to_ns - span.from_ns
    gaps = [each for each in evidence.records if isinstance(each, Gap) and each.group is None and each.to_ns]
    longest_ns = max(((each.to_ns or 0) - each.from_ns for each in gaps), default=0)
    return Finding(2 * longest_ns >= off_ns, f"a GAP of {longest_ns / 1e9:.2f} s; without power {off_ns / 1e9:.2f} s")


def it_reads_again_soon(evidence: Evidence) -> Finding:
    """Check how long after its second start the gateway sealed a reading."""
    starts = [event.at_ns for event in evidence.events if event.kind == "start"]
    sealed = sorted(each.utc_ns for each in evidence.chain if isinstance(each, Data))
    first_ns = next((at_ns for at_ns in sealed if len(starts) > 1 and at_ns > starts[1]), None)
    if first_ns is None:
        return Finding(False, "no reading after the second start")
    took_s = (first_ns - starts[1]) / 1e9
    figures = [Figure(name="first reading sealed after", value=round(took_s, 3), unit="s")]
    return Finding(took_s <= _FIRST_READING_S, f"after {took_s:.2f} s", figures)


SCENARIO = Scenario(
    title="Gateway loses its power",
    purpose="The gateway loses its power at an arbitrary moment and starts again: what was sealed is in the archive "
    "once, the same chain continues, and the time without power is on record.",
    requirements=("R1", "R2", "R10", "ALCOA+ enduring", "ALCOA+ complete", "21 CFR 11.10(c)"),
    needs=("gateway power",),
    is_destructive=True,
    steps=(
        Step("Cut the gateway's power for the given time; turn it on, start the gateway, and wait until every device "
             "is read.", cut_the_power),
    ),
    criteria=(
        PassCriterion("The gateway did not stop cleanly: its chain has a second start without a stop before it.",
                      it_did_not_stop_cleanly),
        PassCriterion("A GAP declares at least half of the time without power.", the_outage_is_declared),
        PassCriterion(f"A reading is sealed within {_FIRST_READING_S} s of the second start.", it_reads_again_soon),
        *NOTHING_LOST,
    ),
)  # fmt: skip
