"""Whatever is killed, and whenever: each value is archived once, or lies in a declared gap."""

from __future__ import annotations

import pytest

from edge.seal import Data
from tests.faults.gateway.kill_loop import DEVICES, KillLoop
from tests.faults.gateway.site_under_test import Site, Told

KILLS, SEED = 30, 9


@pytest.mark.timeout(600)
def test_gateway_roles_relay_and_broker_killed_again_and_again_cost_no_value(site: Site) -> None:
    """`python -m bench.kills --kills 300` is the long run, and takes another seed."""
    outcome = KillLoop(site, SEED).run(KILLS)

    assert outcome.findings == [], outcome.text()
    assert outcome.kills.total() == KILLS
    assert {victim for victim, _ in outcome.kills} == {"acquire", "forward", "relay", "broker"}
    assert {phase for _, phase in outcome.kills} == {"at work", "starting"}
    assert all(account.in_gaps < account.kept for account in outcome.accounts.values())
    the_account_finds_what_is_planted(site, outcome.told)


def the_account_finds_what_is_planted(site: Site, told: Told) -> None:
    """Of each kind one: otherwise a loop that finds nothing says nothing."""
    name = DEVICES[0]
    groups = {group.device: number for number, group in enumerate(told.catalogue.groups)}
    held = [each for each in told.judgements if isinstance(each.content, Data)
            and any(block.group == groups[name] for block in each.content.blocks())]  # fmt: skip
    one, kept = held[-2], told.values(name)[10]

    without = site.account(Told([each for each in told.judgements if each is not one]), name)
    twice = site.account(Told([*told.judgements, one]), name)
    [signal] = site.devices[name].units[1].signals
    signal.served = [(at_ns, count) for at_ns, count in signal.served if count != kept]
    invented = site.account(told, name)

    assert without.lost
    assert twice.twice == without.lost
    assert not twice.is_in_order
    assert invented.invented == (kept,)
