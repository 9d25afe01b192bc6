"""A question that was given up, or that a stop cut short, lies in a gap, whenever it is answered."""

from __future__ import annotations

import sys

from edge.seal import Stop
from tests.faults.gateway.site_under_test import Site
from tests.faults.gateway.slow_plant import SlowPlant
from tests.faults.gateway.stops import Stops, stop, stop_at_random
from tests.support.system_call_filter import under_the_filter

SWALLOWING = """
import asyncio
from drivers.ethernetip.session import EtherNetIpSession
from drivers.modbus.session import ModbusSession
from drivers.opcua.session import OpcuaSession

def swallowing(read):
    async def read_on(self, plan):
        try:
            return await read(self, plan)
        except asyncio.CancelledError:
            return await read(self, plan)
    return read_on

for session in (EtherNetIpSession, ModbusSession, OpcuaSession):
    session.read = swallowing(session.read)
from edge.cli import main
main()
"""
"""A gateway whose drivers lose each cancellation once, as `asyncio.wait_for` of Python 3.11 may."""


def test_a_stop_at_any_moment_and_answers_after_their_time_limit_lose_no_value(site: Site) -> None:
    """`python -m bench.stops` in short."""
    outcome = stop_at_random(site, stops=3, seed=5)

    assert outcome.findings == []
    assert outcome.late


def test_a_driver_that_swallows_its_cancellation_does_not_hold_a_stop_up(site: Site) -> None:
    plant, outcome = SlowPlant(site, seed=7, every="20 ms"), Stops()
    program = [*under_the_filter(), sys.executable, "-c", SWALLOWING]
    gateway = site.start("gateway", [*program, "run", str(site.write("gateway", site.settings))])
    site.wait(lambda: gateway.said("running"), "the gateway to run")
    plant.wait_for_values(5)
    plant.slow(1.0)
    plant.wait_for_values(2)  # From now on each device nearly always has a question.

    stop(gateway, outcome)

    assert outcome.findings == []
    told = site.told(site.buffered())
    assert len(told.all(Stop)) == 1
    assert [account.findings() for account in plant.accounts(told).values()] == [[], [], []]
