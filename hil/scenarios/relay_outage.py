"""The relay is killed, and started again after some seconds."""

from __future__ import annotations

import asyncio

from edge.health import StatusSnapshot
from hil import criteria
from hil.document import Figure, Line, Plot, thinned
from hil.evidence import Evidence, Finding
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial, archived_records

_SEALED, _DELIVERED = "records sealed without a relay", "records delivered without a relay"


async def keep_the_relay_away(trial: Trial) -> None:
    """Kill the relay, and start it again after the given time."""
    relay, gateway = trial.bench.relay, trial.bench.gateway
    with trial.disturbance("relay away"):
        await relay.kill()
        before = await gateway.status()
        await asyncio.sleep(trial.seconds)
        await trial.wait_until("the broker took more records",
                               lambda now, _: _counts(now) > _counts(before))  # fmt: skip
        counts = zip(_counts(await gateway.status()), _counts(before), strict=True)
        delivered, sealed = (now - then for now, then in counts)
        trial.observed.figures |= {_SEALED: sealed, _DELIVERED: delivered}
        await relay.start()


async def wait_for_the_archive(trial: Trial) -> None:
    """Wait until the relay has archived more records than the gateway had sealed when it came back."""
    gateway = await trial.bench.gateway.status()
    sealed = gateway.chain.seq if gateway and gateway.chain else 0
    await trial.wait_until(
        "the archive caught up",
        lambda _, relay: archived_records(relay) > 0 and relay and relay.relay
        and all(issuer.seq >= sealed for issuer in relay.relay.issuers),
    )  # fmt: skip


def the_gateway_was_not_held_up(evidence: Evidence) -> Finding:
    """Check that the gateway sealed and delivered records while the relay was away."""
    sealed, delivered = (evidence.observed.figures.get(name, 0) for name in (_SEALED, _DELIVERED))
    return Finding(sealed > 0 and delivered > 0, f"{sealed:g} records sealed and {delivered:g} delivered meanwhile")


def the_archive_stood_still(evidence: Evidence) -> Finding:
    """Check that the relay was really away, and show how the archive caught up."""
    points = evidence.observed.samples.get("records archived", [])
    spans = evidence.observed.disturbances
    away = [value for at_ns, value in points if any(span.from_ns < at_ns < span.to_ns for span in spans)]
    lag = evidence.observed.samples.get("lag of the archive, ms", [])
    plots = [
        Plot(title="Records in the archive", unit="", lines=(Line(name="archived", points=thinned(points)),),
             spans=tuple(spans), caption="It stands still while the relay is away, and catches up."),
        Plot(title="Latency from the device to the archive", unit="ms", spans=tuple(spans),
             lines=(Line(name="age of the newest archived value", points=thinned(lag)),),
             caption="What waited at the broker is late, and is archived with the time at which it was read."),
    ]  # fmt: skip
    figures = [Figure(name="largest latency", value=round(max((v for _, v in lag if v is not None), default=0), 1),
                      unit="ms")]  # fmt: skip
    silent = sum(value is None for value in away)
    return Finding(silent > 0, f"the relay gave no answer in {silent} of {len(away)} samples", figures, plots)


def _counts(gateway: StatusSnapshot | None) -> tuple[int, int]:
    """How many records were delivered, and how many sealed."""
    if gateway is None or gateway.uplink is None or gateway.chain is None:
        return 0, 0
    return gateway.uplink.acknowledged, gateway.chain.seq


SCENARIO = Scenario(
    title="Relay away",
    purpose="The relay is killed and comes back later: the gateway goes on, the broker keeps what waits, and the "
    "archive is complete afterwards, without a record twice.",
    requirements=("R4", "R10", "ALCOA+ complete", "ALCOA+ available", "21 CFR 11.10(c)"),
    steps=(
        Step("Kill the relay, keep it away for the given time, and start it again.", keep_the_relay_away),
        Step("Wait until the archive has everything that was sealed meanwhile.", wait_for_the_archive),
    ),
    criteria=(
        PassCriterion("The relay was away: it gave no answer meanwhile.", the_archive_stood_still),
        PassCriterion("Meanwhile the gateway sealed records and the broker took them.", the_gateway_was_not_held_up),
        *criteria.NOTHING_LOST,
    ),
)  # fmt: skip
