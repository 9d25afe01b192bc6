"""The broker is stopped for some seconds and started again."""

from __future__ import annotations

import asyncio
import time

from edge.demo.processes import is_drained
from edge.health import StatusSnapshot
from hil import claims
from hil.evidence import Evidence, Finding
from hil.scenario import STEP_TIMEOUT_S, Claim, Scenario, Step, Trial

_FIRST_RECORDS = 20
_POLL_S = 0.01


async def run_until_archived(trial: Trial) -> None:
    """Start relay and gateway, and wait for readings in the archive."""
    await trial.processes.start()
    await trial.wait_until("readings were archived", lambda _, relay: _archived(relay) >= _FIRST_RECORDS)


async def cut_the_broker(trial: Trial) -> None:
    """Stop the broker for `seconds`."""
    await trial.broker.stop()
    started = time.monotonic()
    await trial.wait_until("the gateway noticed that the broker was gone", _is_cut)
    await asyncio.sleep(max(0.0, trial.seconds - (time.monotonic() - started)))
    gateway = await trial.processes.status("gateway")
    trial.figures["outage_s"] = round(time.monotonic() - started, 3)
    trial.figures["records_waiting_most"] = (
        (gateway.buffer.undelivered_records or 0) if gateway and gateway.buffer else 0
    )


async def bring_it_back(trial: Trial) -> None:
    """Start the broker again, and wait until the backlog is delivered."""
    await trial.broker.start()
    started = time.monotonic()
    await trial.wait_until("the backlog was delivered", is_drained)
    trial.figures["drained_after_s"] = round(time.monotonic() - started, 3)


async def stop_cleanly(trial: Trial) -> None:
    """Stop the devices' answers, so that every answer given is used; then stop the gateway, then the relay."""
    for device in trial.devices:
        device.server.stall()
    try:
        async with asyncio.timeout(STEP_TIMEOUT_S):
            while not all(device.is_waited_for for device in trial.devices):  # noqa: ASYNC110 - a device has no event for it
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        trial.troubles.append("the gateway no longer asks all devices")
    await trial.processes.stop("gateway")
    stored = await asyncio.to_thread(trial.processes.stored_records)
    trial.figures["records_stored"] = stored
    await trial.wait_until("the last record was archived", lambda _, relay: _archived(relay) >= stored)
    await trial.processes.stop("relay")


def readings_waited_on_disk(evidence: Evidence) -> Finding:
    """Check that there was a backlog: without one the outage proves nothing."""
    figures = evidence.witness.figures
    waiting, outage_s = figures.get("records_waiting_most", 0), figures.get("outage_s", 0)
    return Finding(waiting > 0, f"{waiting:g} records waited after {outage_s:g} s without a broker")


def _archived(relay: StatusSnapshot | None) -> int:
    return relay.relay.archived_records if relay and relay.relay else 0


def _is_cut(gateway: StatusSnapshot | None, relay: StatusSnapshot | None) -> bool:  # noqa: ARG001
    return gateway is not None and gateway.uplink is not None and gateway.uplink.state != "up"


SCENARIO = Scenario(
    purpose="A broker in the DMZ is restarted, or the network to it is down: nothing that a device said is lost, "
    "repeated or dated wrongly, and whatever could not be read is on record.",
    steps=(
        Step("Start relay and gateway; wait until readings are archived.", run_until_archived),
        Step("End the broker; keep it away for the given time while the devices are read on.", cut_the_broker),
        Step("Start the broker again; wait until the gateway's backlog is delivered.", bring_it_back),
        Step("Let the devices stop answering; once each has a request waiting, stop the gateway, then the relay.",
             stop_cleanly),
    ),
    claims=(
        Claim("Every step came to its end in time.", claims.everything_happened_in_time),
        Claim("While the broker was away, records waited on the gateway's disk.", readings_waited_on_disk),
        Claim("Every counter value that a device served is archived, or a GAP or LOSS declares it.",
              claims.every_value_is_accounted_for),
        Claim("Every archived value was served, and is archived once.", claims.every_value_is_archived_once),
        Claim("Each value was served between the request and the answer that the archive names for it.",
              claims.every_time_holds_the_answer),
        Claim("The archive is wholly authentic, its chain is closed, and no record is in it twice.",
              claims.the_archive_is_wholly_authentic),
    ),
)  # fmt: skip
