"""The broker goes away for some seconds and comes back."""

from __future__ import annotations

import asyncio
import time

from edge.demo.processes import is_drained
from edge.health import StatusSnapshot
from hil import claims
from hil.evidence import Evidence, Finding
from hil.scenario import PATIENCE_S, Claim, Scenario, Step, Trial

_FIRST_RECORDS = 20
_LOOK_EVERY_S = 0.01


async def run_until_archived(trial: Trial) -> None:
    """Relay and gateway start, and readings arrive."""
    await trial.stage.start()
    await trial.wait_until("readings were archived", lambda _, relay: _archived(relay) >= _FIRST_RECORDS)


async def cut_the_broker(trial: Trial) -> None:
    """The broker is gone for `seconds`."""
    await trial.broker.stop()
    started = time.monotonic()
    await trial.wait_until("the gateway noticed that the broker was gone", _is_cut)
    await asyncio.sleep(max(0.0, trial.seconds - (time.monotonic() - started)))
    gateway = await trial.stage.status("gateway")
    trial.figures["outage_s"] = round(time.monotonic() - started, 3)
    trial.figures["records_waiting_most"] = (
        (gateway.buffer.undelivered_records or 0) if gateway and gateway.buffer else 0
    )


async def bring_it_back(trial: Trial) -> None:
    """The broker is there again, and the backlog drains."""
    await trial.broker.start()
    started = time.monotonic()
    await trial.wait_until("the backlog was delivered", is_drained)
    trial.figures["drained_after_s"] = round(time.monotonic() - started, 3)


async def stop_cleanly(trial: Trial) -> None:
    """Devices stop answering, so that every answer was used; then the gateway is stopped, then the relay."""
    for device in trial.devices:
        device.server.stall()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not all(device.is_waited_for for device in trial.devices):  # noqa: ASYNC110 - a device tells nobody
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        trial.troubles.append("the gateway no longer asks all devices")
    await trial.stage.stop("gateway")
    stored = await asyncio.to_thread(trial.stage.stored_records)
    trial.figures["records_stored"] = stored
    await trial.wait_until("the last record was archived", lambda _, relay: _archived(relay) >= stored)
    await trial.stage.stop("relay")


def readings_waited_on_disk(evidence: Evidence) -> Finding:
    """There was a backlog: without one the outage proves nothing."""
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
