"""The gateway's own cables are pulled: devices and broker keep connections whose other end has given them up."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

from hil.evidence import Evidence, Finding
from hil.interruptions import CAME_BACK, NOTHING_LOST, wait_for_all_devices
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial

_KEEP_ALIVE_S = 5


async def ask_for_an_early_notice(trial: Trial) -> None:
    """Let the gateway look after its connection to the broker every few seconds, for a shorter trial."""
    trial.bench.gateway.configuration["uplink"]["mqtt"]["keep_alive"] = f"{_KEEP_ALIVE_S} s"


async def cut_the_gateway_off(trial: Trial) -> None:
    """Pull the cables to the devices and to the broker, and plug them in again."""
    gateway = trial.bench.gateway
    assert gateway.network is not None
    assert gateway.uplink is not None
    names = [name for name, device in trial.bench.devices.items() if "serial" not in device.wired.settings]
    with ExitStack() as marks:
        for name in names:
            marks.enter_context(trial.disturbance(f"{name}: gateway cut off"))
        started_s = time.monotonic()
        await gateway.network.off()
        await gateway.uplink.off()
        await trial.wait_until(
            "the gateway noticed that devices and broker are silent",
            lambda status, _: status and status.uplink and status.uplink.state != "up"
            and not any(device.state == "up" for device in status.devices if device.name in names),
        )  # fmt: skip
        await asyncio.sleep(trial.seconds - (time.monotonic() - started_s))
        await gateway.uplink.on()
        await gateway.network.on()
    await wait_for_all_devices(trial)
    await trial.wait_until("the broker takes records again",
                           lambda status, _: status and status.uplink and status.uplink.state == "up")  # fmt: skip
    status = await gateway.status()
    assert status is not None
    for device in status.devices:
        if device.name in names:
            trial.observed.figures[f"connections to {device.name}"] = device.connects
    trial.observed.figures["connections to the broker"] = status.uplink.connects if status.uplink else 0


def every_connection_was_made_again(evidence: Evidence) -> Finding:
    """Check that the gateway gave every connection up and made a new one; no other end had been stopped."""
    counts = {name: count for name, count in evidence.observed.figures.items() if name.startswith("connections to ")}
    words = "; ".join(
        f"{name.removeprefix('connections to ')}: {count:g} connections" for name, count in counts.items()
    )
    return Finding(bool(counts) and all(count > 1 for count in counts.values()), words or "nothing was counted")


SCENARIO = Scenario(
    title="Half-open connections",
    purpose="The gateway is cut off while devices and broker go on and keep the connections that it has given up: it "
    "gets in again by itself, beside what is left of them.",
    requirements=("R9", "R4", "R10", "ALCOA+ complete"),
    needs=("gateway network", "gateway uplink"),
    prepare=ask_for_an_early_notice,
    steps=(
        Step("Pull the gateway's cables to devices and broker for the given time, at least until it noticed; plug them "
             "in, and wait until every device is read and the broker takes records.", cut_the_gateway_off),
    ),
    criteria=(
        PassCriterion("The gateway made every connection again, to each device and to the broker.",
                      every_connection_was_made_again),
        *CAME_BACK,
        *NOTHING_LOST,
    ),
)  # fmt: skip
