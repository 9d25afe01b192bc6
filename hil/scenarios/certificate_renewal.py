"""The certificates of gateway and broker are renewed while records are on their way."""

from __future__ import annotations

from edge.health import StatusSnapshot
from hil import criteria
from hil.evidence import Evidence, Finding
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial

_WHOSE = ("ours", "the broker's")
_RENEWED = "certificates that end later than before"


async def renew(trial: Trial) -> None:
    """Put a new certificate in place at the gateway and at the broker, whose service is restarted."""
    bench = trial.bench
    before = await bench.gateway.status()
    connects = before.uplink.connects if before and before.uplink else 0
    with trial.disturbance("certificates renewed"):
        await bench.gateway.install_certificate(bench.broker.authority)
        bench.broker.renew()
        await bench.broker.stop()
        await bench.broker.start()
        await trial.wait_until(
            "the gateway is connected again",
            lambda now, _: now and now.uplink and now.uplink.state == "up" and now.uplink.connects > connects,
        )  # fmt: skip
    then, now = _ends(before), _ends(await bench.gateway.status())
    trial.observed.figures[_RENEWED] = sum(now[whose] > end for whose, end in then.items() if whose in now)


def new_certificates_are_used(evidence: Evidence) -> Finding:
    """Check that the certificates of both sides of the connection end later than those before."""
    count = evidence.observed.figures.get(_RENEWED, 0)
    return Finding(count == len(_WHOSE), f"{count:g} of {len(_WHOSE)} certificates end later than before")


def _ends(status: StatusSnapshot | None) -> dict[str, int]:
    """When the certificates of the connection to the broker end, by whose they are."""
    found = status.certificates if status else ()
    return {each.whose: each.expires_at_ns for each in found if not each.device and each.whose in _WHOSE}


SCENARIO = Scenario(
    title="Certificates renewed",
    purpose="The certificates of gateway and broker are replaced while records are on their way: the new ones are used "
    "without a restart of the gateway, and nothing is lost.",
    requirements=("R4", "R10", "21 CFR 11.30", "IEC 62443-4-2"),
    steps=(
        Step("Give gateway and broker new certificates; restart the broker, and wait until the gateway is connected.",
             renew),
    ),
    criteria=(
        PassCriterion("The certificates of both sides of the connection are the new ones.", new_certificates_are_used),
        PassCriterion("The gateway was not restarted.", criteria.it_was_not_restarted),
        *criteria.NOTHING_LOST,
    ),
)  # fmt: skip
