"""Stops at random moments, while devices answer some questions around their time limit; then the account."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

from edge.seal import Stop
from tests.faults.gateway.site_under_test import Account, Process, Site
from tests.faults.gateway.slow_plant import SlowPlant

STOP_LIMIT_S = 15.0  # A unit that has not ended after 90 s is killed.


@dataclass(kw_only=True)
class Stops:
    """How long each stop took, how many answers came after their time limit, and what should not be."""

    seconds: list[float] = field(default_factory=list)
    late: int = 0
    accounts: dict[str, Account] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


def stop(gateway: Process, outcome: Stops) -> None:
    """Stop it in order."""
    began_s = time.monotonic()
    code = gateway.stop()
    outcome.seconds.append(time.monotonic() - began_s)
    if code or "Traceback" in gateway.log():
        outcome.findings.append(f"it ended with {code}: {gateway.log()[-800:]}")
    if outcome.seconds[-1] > STOP_LIMIT_S:
        outcome.findings.append(f"a stop took {outcome.seconds[-1]:.1f} s")


def stop_at_random(site: Site, stops: int, seed: int) -> Stops:
    """Start and stop, every value accounted for to the unit."""
    outcome, plant, dice = Stops(), SlowPlant(site, seed, every="10 ms"), random.Random(seed)
    site.mosquitto()
    site.relay()
    for _ in range(stops):
        gateway = site.gateway()
        plant.slow(dice.choice((0.0, 0.25)))
        threading.Event().wait(dice.uniform(0.2, 2.0))
        stop(gateway, outcome)
    gateway = site.gateway()
    plant.slow(0.25)
    plant.wait_for_late_values(6)
    plant.slow(0.0)
    plant.wait_for_values(20)
    told = site.stop_and_archive(gateway)
    outcome.late = sum(device.late for device in plant.devices.values())
    outcome.accounts = plant.accounts(told)
    for name, account in outcome.accounts.items():
        outcome.findings += [f"{name}: {finding}" for finding in account.findings()]
        if account.served != account.kept + account.in_gaps:
            outcome.findings.append(f"{name}: {account} does not add up")
    if len(told.all(Stop)) != stops + 1 or len(told.gaps(None)) != stops:
        outcome.findings.append(f"{len(told.all(Stop))} STOPs and {len(told.gaps(None))} gaps of {stops + 1} stops")
    return outcome
