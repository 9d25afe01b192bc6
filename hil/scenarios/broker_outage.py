"""The broker is stopped for some seconds and started again."""

from __future__ import annotations

import asyncio
import time

from hil import criteria
from hil.play import is_drained
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial


async def keep_the_broker_away(trial: Trial) -> None:
    """Stop the broker for the given time, and start it again."""
    broker = trial.bench.broker
    with trial.disturbance("broker away"):
        started_s = time.monotonic()
        await broker.stop()
        await trial.wait_until(
            "the gateway noticed that the broker was gone",
            lambda gateway, _: gateway and gateway.uplink and gateway.uplink.state != "up",
        )
        await asyncio.sleep(trial.seconds - (time.monotonic() - started_s))
        gateway, _ = await trial.sides()
        waiting = gateway.buffer.undelivered_records if gateway and gateway.buffer else 0
        trial.observed.figures["records waiting when the broker came back"] = waiting or 0
        await broker.start()


async def wait_for_the_backlog(trial: Trial) -> None:
    """Wait until the backlog is delivered."""
    started_s = time.monotonic()
    await trial.wait_until("the backlog was delivered", lambda gateway, _: gateway and is_drained(gateway))
    trial.observed.figures["seconds until the backlog was delivered"] = round(time.monotonic() - started_s, 3)


SCENARIO = Scenario(
    title="The broker is away and comes back",
    purpose="A broker in the DMZ is restarted, or the network to it is down: nothing that a device said is lost, "
    "repeated or dated wrongly, and whatever could not be read is on record.",
    requirements=("R4", "R5", "T5", "ALCOA+ complete"),
    steps=(
        Step("End the broker, keep it away for the given time while the devices are read on, and start it again.",
             keep_the_broker_away),
        Step("Wait until the gateway's backlog is delivered.", wait_for_the_backlog),
    ),
    criteria=(
        PassCriterion("While the broker was away, records waited on the gateway's disk.",
                      criteria.records_waited_on_disk),
        *criteria.NOTHING_LOST,
    ),
)  # fmt: skip
